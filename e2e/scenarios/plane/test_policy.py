"""A namespace's policy at a real API server: who is told what when its labels change, and what is in force afterwards.

The webhook follows the cluster as it will in a pod; it is asked about namespaces only, so that pods can be there
already that break what comes.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Planes
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import CRD
from e2e.lab.namespace import Namespace
from e2e.lab.tools import NEWEST
from e2e.lab.webhook import CASE, ENFORCE, WARN, SigningKey, told
from e2e.scenarios.plane.test_webhook import deployment, pod, published

SINGLE = "single-numa-node"
NODE = "lab-2x4"
NAME = "zz-lab-policy"
OURS = "app.kubernetes.io/name"

TOO_HEAVY = "sidecars too heavy, asks 5 CPUs, the roomiest NUMA node has 4 CPUs"

TOLD_WITHIN = 90.0
"""Seconds until a change reaches the API server's caches, or the webhook's; measured below 2."""

VARIABLE = "ARMISTICE_LAB_PODS"
"""Environment variable: how many pods one namespace gets; the webhook reads 3,000 at most."""

MANY = int(os.environ.get(VARIABLE, "0"))

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """A control plane whose namespaces the webhook is asked about."""

    plane: ControlPlane

    def open(self, **labels: str) -> Namespace:
        """A fresh namespace of ours, with labels (``enforce``, ``warn``)."""
        ours = {f"armistice.dev/{key}": text for key, text in labels.items()}
        return Namespace.make(self.plane, {CASE: "policy", **ours})

    def label(self, namespace: Namespace, *labels: str) -> list[str]:
        """Change its labels as an admin would; the warnings."""
        done = self.plane.kubectl_raw("label", "--overwrite", "namespace", namespace.name, *labels)
        assert done.returncode == 0, done.stderr
        return [line.removeprefix("Warning: ") for line in done.stderr.splitlines()]

    def policy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``armistice policy`` with the admin's kubeconfig."""
        argv = self.plane.inside([sys.executable, "-m", "webhook.command", "policy", *arguments])
        surroundings = {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig), "COLUMNS": "200"}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=surroundings)

    def in_force(self, namespace: Namespace) -> Manifest:
        """The same about one namespace, as data."""
        done = self.policy(namespace.name, "-o", "json")
        assert done.stderr == ""
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def site(planes: Planes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node of two NUMA nodes, a webhook that follows the cluster, and its registration for namespaces."""
    plane = planes(NEWEST)
    plane.kubectl("apply", "-f", str(CRD))
    plane.kubectl("wait", "--for=condition=Established", "-f", str(CRD), "--timeout=30s")
    apply(plane, node(), {**published(), "topologyPolicies": ["None"]})
    amounts = json.dumps({"status": {"allocatable": {"cpu": "8", "memory": "4Gi", "pods": "110"}}})
    plane.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", amounts)
    url = start(plane, tmp_path_factory.mktemp("policy"))
    registration = registered(plane, url)
    apply(plane, registration)
    site = Site(plane)
    wait_until(lambda: is_asked(site))
    yield site
    plane.kubectl("delete", "validatingwebhookconfiguration", NAME)
    plane.run.end("policy")
    plane.kubectl("delete", "node", NODE)
    plane.kubectl("delete", "-f", str(CRD))


def node() -> Manifest:
    """A node without a kubelet. Its taints pass, as those of a node that is not ready do."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"pool": "hpc"}}}


def start(plane: ControlPlane, folder: Path) -> str:
    """The process, told to follow the cluster; its URL."""
    certificate, key = plane.issue("policy", dns=("localhost",), ips=("127.0.0.1",))
    argv = [sys.executable, "-m", "webhook.command", "webhook", "--cluster", "--port", "0", "--drain", "0"]
    argv += ["--policy", "none", "--cert", str(certificate), "--key", str(key), "--verbose"]
    argv += ["--signing-key", str(SigningKey.make(folder).private)]
    plane.run.spawn("policy", argv, {"KUBECONFIG": str(plane.kubeconfig)})
    return told(plane, "policy", "ready ")


def registered(plane: ControlPlane, url: str) -> Manifest:
    """Who is asked about changes of namespaces of ours; as the chart has it, but for where it is."""
    rule = {"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"]}
    hook = {
        "name": "namespaces.armistice.dev",
        "clientConfig": {
            "url": f"{url}/validate",
            "caBundle": base64.b64encode(plane.ca_pem.read_bytes()).decode(),
        },
        "rules": [{**rule, "scope": "*"}],
        "failurePolicy": "Ignore",
        "namespaceSelector": {"matchLabels": {CASE: "policy"}},
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "admissionReviewVersions": ["v1"],
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    return {**head, "metadata": {"name": NAME, "labels": {OURS: "armistice"}}, "webhooks": [hook]}


def apply(plane: ControlPlane, *objects: Manifest) -> None:
    """Create or change objects without a namespace."""
    plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def wait_until(happened: Callable[[], bool]) -> None:
    """Until it is so, or the test fails."""
    end = time.monotonic() + TOLD_WITHIN
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)


def is_asked(site: Site) -> bool:
    """Whether the API server asks, and the webhook knows its node."""
    probe = site.open()
    probe.apply(pod("probe", "3", "2"))
    warnings = site.label(probe, f"{ENFORCE}={SINGLE}")
    probe.drop()
    return any(TOO_HEAVY in text for text in warnings)


# What whoever changes labels reads.


def test_pods_that_would_break_a_stricter_policy_are_told_and_go_on(site: Site) -> None:
    """Three pods and a Deployment's two: grouped by reason, one of each controller first, and nothing else happens."""
    namespace = site.open()
    several = deployment("web", "3", "2")
    several["spec"]["replicas"] = 2
    namespace.apply(pod("light", "1", "1"), pod("heavy-1", "3", "2"), pod("heavy-2", "3", "2"), several)
    wait_until(lambda: len(namespace.list("pods")) == 5)
    head, reason = site.label(namespace, f"{ENFORCE}={SINGLE}")
    assert head == (
        f"namespace {namespace.name}: 4 existing pods break its new policy enforce={SINGLE}; what runs keeps running"
    )
    assert reason == f"heavy-1 (and 3 other pods): {TOO_HEAVY}"
    assert len(namespace.list("pods")) == 5
    namespace.drop()


def test_the_nodes_that_count_are_those_that_a_pod_asks_for(site: Site) -> None:
    """A pod that no node is meant for is not said to break anything; one that means ours is."""
    namespace = site.open()
    elsewhere, here = pod("elsewhere", "3", "2"), pod("here", "3", "2")
    elsewhere["spec"]["nodeSelector"] = {"pool": "none"}
    here["spec"]["nodeSelector"] = {"pool": "hpc"}
    namespace.apply(elsewhere, here)
    _, reason = site.label(namespace, f"{ENFORCE}={SINGLE}")
    assert reason == f"here: {TOO_HEAVY}"
    namespace.drop()


def test_what_makes_nothing_stricter_is_not_worth_a_word(site: Site) -> None:
    namespace = site.open(enforce=SINGLE)
    namespace.apply(pod("heavy", "3", "2"))
    assert site.label(namespace, "team=a") == []
    assert site.label(namespace, f"{ENFORCE}=best-effort") == []
    assert site.label(namespace, f"{ENFORCE}-") == []
    namespace.drop()


def test_a_mistyped_level_counts_as_the_strictest_and_says_so(site: Site) -> None:
    namespace = site.open()
    namespace.apply(pod("heavy", "3", "2"))
    mistyped, head, _ = site.label(namespace, f"{WARN}=strict")
    assert mistyped.startswith(f'namespace label {WARN}: "strict" is not one of none, best-effort, ')
    assert head.endswith(f"1 existing pod breaks its new policy warn={SINGLE}; what runs keeps running")
    namespace.drop()


@pytest.mark.skipif(not MANY, reason=f"by hand: {VARIABLE}=3100 creates so many pods, some minutes")
def test_of_thousands_of_pods_as_many_are_looked_at_as_a_second_takes(site: Site) -> None:
    """More than are ever read. The change waits for no more than that second, and what was left out is said."""
    namespace = site.open()
    for first in range(0, MANY, 400):
        pods = [pod(f"pod-{first + n:04}", "1", "1") for n in range(min(400, MANY - first))]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
        site.plane.kubectl("create", "--validate=false", "-n", namespace.name, "-f", "-", input=listed)
    began = time.monotonic()
    (told,) = site.label(namespace, f"{ENFORCE}={SINGLE}")
    assert time.monotonic() - began < 3.0  # kubectl's own start among them
    part = rf"only the first ([0-9,]+) of {MANY:,} existing pods"
    found = re.fullmatch(rf"namespace {namespace.name}: {part} were held against its new policy", told)
    assert found
    assert 0 < int(found[1].replace(",", "")) <= 3000
    namespace.drop()


# What is in force.


def test_policy_says_what_is_in_force_and_since_when(site: Site) -> None:
    """A default of the cluster's, a label since it was set, and the level that follows from it."""
    home, namespace = Namespace.make(site.plane), site.open()
    config = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "lab-config", "labels": {OURS: "armistice"}},
    }
    home.apply({**config, "data": {"config.yaml": "defaults: {audit: restricted}\n"}})
    made = namespace.plane.kubectl("get", "namespace", namespace.name, "-o", "jsonpath={.metadata.creationTimestamp}")
    time.sleep(1.1)  # times of the API server have no fractions
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    found = site.in_force(namespace)
    (item,) = found["items"]
    settings = item["settings"]
    assert found["defaults"] == {"from": f"ConfigMap {home.name}/lab-config", "mode": "enforce"}
    assert found["webhooks"] == {"mutating": [], "validating": [NAME]}
    assert (settings["enforce"]["value"], settings["enforce"]["from"]) == (SINGLE, "label")
    assert settings["enforce"]["since_what"] == "change"
    assert settings["enforce"]["since"] > made
    assert (settings["warn"]["value"], settings["warn"]["from"]) == (SINGLE, "enforce")
    assert (settings["audit"]["value"], settings["audit"]["from"]) == ("restricted", "default")
    assert site.in_force(home)["items"][0]["exempt"]
    site.plane.kubectl("delete", "configmap", "lab-config", "-n", home.name)  # else the next test may still see it
    home.drop()
    namespace.drop()


def test_policy_of_all_namespaces_is_a_table(site: Site) -> None:
    namespace = site.open(warn="restricted")
    done = site.policy()
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert rows[namespace.name][:4] == [namespace.name, "none", "restricted", "none"]
    assert rows["kube-system"][4] == "exempt"
    assert f"webhooks  validating: {NAME}" in done.stdout
    assert "webhooks  mutating: not installed, so no pod is aligned" in done.stdout
    namespace.drop()


def test_policy_of_a_mistyped_namespace_fails_and_one_that_is_not_there_is_named(site: Site) -> None:
    namespace = site.open(enforce="strict")
    done = site.policy(namespace.name)
    assert (done.returncode, done.stderr) == (1, "")
    assert f'{namespace.name}: namespace label {ENFORCE}: "strict" is not one of ' in done.stdout
    gone = site.policy("nobody")
    assert gone.returncode == 2
    assert gone.stderr.startswith("armistice: --cluster: https://127.0.0.1:")
    assert gone.stderr.endswith("knows no namespace of that name\n")
    namespace.drop()
