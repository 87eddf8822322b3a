"""The webhook that follows its cluster, at a real API server: what changes there counts in the next verdict but one.

It has the rights that the chart gives it and no others, and a control plane of its own, for that is killed here.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.namespace import Namespace
from e2e.lab.state import Run
from e2e.lab.webhook import CASE, ENFORCE, WARN, Registration, SigningKey, Webhook
from e2e.scenarios.plane.test_webhook import DENIED, SINGLE, container, deployment, pod, published, refused, warned
from shared.seal import ANNOTATION

CASE_NAME = "following"
USER = "armistice-webhook"

SOON = 60.0
"""Seconds until a change counts; measured below 1."""

OUTAGE = 5.0
"""Seconds without an API server."""

CRD = Path(__file__).parents[3] / "charts" / "armistice" / "crds" / "noderesourcetopologies.yaml"

RIGHTS: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["namespaces", "nodes", "limitranges"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["topology.node.k8s.io"],
        "resources": ["noderesourcetopologies"],
        "verbs": ["get", "list", "watch"],
    },
]

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """The control plane, and the one webhook."""

    plane: ControlPlane
    webhook: Webhook

    def apply(self, *objects: Manifest) -> None:
        """Create or change cluster-scoped objects."""
        self.plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def label(self, namespace: Namespace, *labels: str) -> None:
        """Change a namespace's labels; ``KEY-`` takes one away."""
        self.plane.kubectl("label", "--overwrite", "namespace", namespace.name, *labels)

    def says(self, path: str) -> str:
        """What the webhook answers to a GET, with its status before it."""
        done = subprocess.run(
            self.plane.inside([sys.executable, "-c", _GET, f"{self.webhook.url}{path}", str(self.plane.ca_pem)]),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def metric(self, series: str) -> float:
        """One of its metrics."""
        line = next(line for line in self.says("/metrics").splitlines() if line.startswith(f"{series} "))
        return float(line.split()[-1])


_GET = """
import ssl, sys, urllib.request, urllib.error
try:
    got = urllib.request.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2]))
except urllib.error.HTTPError as error:
    got = error
print(got.status, got.read().decode())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Without the CRD at first."""
    run = Run.create(f"following-{os.getpid()}-{secrets.token_hex(2)}")
    try:
        plane = ControlPlane.start(run)
        folder = tmp_path_factory.mktemp("following")
        kubeconfig = plane.write_kubeconfig(folder / "kubeconfig", USER)
        give_rights(plane, RIGHTS)
        webhook = Webhook.follow(plane, "following", kubeconfig, SigningKey.make(folder), "--policy", "none")
        registration = Registration(plane, CASE_NAME, webhook.url, webhook.url)
        registration.apply()
        yield Site(plane, webhook)
    finally:
        run.down()


def give_rights(plane: ControlPlane, rules: list[dict[str, Any]]) -> None:
    """To the user that the webhook is."""
    api = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": USER}, "rules": rules}
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": USER},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": USER},
        "subjects": [{"apiGroup": api, "kind": "User", "name": USER}],
    }
    content = {"apiVersion": "v1", "kind": "List", "items": [role, binding]}
    plane.kubectl("apply", "-f", "-", input=json.dumps(content))


@pytest.fixture
def namespace(site: Site) -> Iterator[Namespace]:
    """A fresh one, that asks for nothing; the API server is told to ask about it all the same."""
    made = Namespace.make(site.plane, {CASE: CASE_NAME})
    yield made
    made.drop()


def soon(true: Callable[[], bool], seconds: float = SOON) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.1)


HEAVY = pod("heavy", "3", "2")
"""5 CPUs, of which the sidecar asks 2."""


def turned_away(namespace: Namespace, obj: Manifest = HEAVY) -> bool:
    """Whether the object would be refused by us."""
    return DENIED.rpartition('"enforce')[0] in namespace.create_dry(obj).stderr


def unknown(namespace: Namespace) -> bool:
    """Whether nobody can say of a pod if it fits."""
    return "so whether it fits one NUMA node is unknown" in namespace.create_dry(pod("light", "1", "500m")).stderr


def node(name: str = "lab-2x4") -> Manifest:
    """A node that no kubelet stands behind."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def topology() -> Manifest:
    """What the node publishes: two NUMA nodes of 4 CPUs."""
    return {**published(), "topologyPolicies": []}


def install_crd(site: Site) -> None:
    """What topologies are, as the chart brings it."""
    site.plane.kubectl("apply", "-f", str(CRD))
    site.plane.kubectl("wait", "--for=condition=Established", "crd/noderesourcetopologies.topology.node.k8s.io")


def published_by_a_node(site: Site) -> None:
    """The node and its topology are there."""
    site.apply(node())
    site.apply(topology())


def test_it_is_ready_where_nobody_has_installed_the_crd(site: Site, namespace: Namespace) -> None:
    soon(lambda: site.says("/readyz") == "200 ready")
    assert site.metric('armistice_cluster_absent{resource="noderesourcetopologies"}') == 1
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    soon(lambda: unknown(namespace))


def test_a_crd_that_is_installed_later_and_a_topology_that_is_published_come_to_count(
    site: Site, namespace: Namespace
) -> None:
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    install_crd(site)
    published_by_a_node(site)
    soon(lambda: turned_away(namespace))
    assert site.metric('armistice_cluster_absent{resource="noderesourcetopologies"}') == 0


def test_a_topology_that_is_taken_away_makes_verdicts_unknown_again(site: Site, namespace: Namespace) -> None:
    published_by_a_node(site)
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    soon(lambda: turned_away(namespace))
    site.plane.kubectl("delete", "noderesourcetopology", "lab-2x4")
    soon(lambda: unknown(namespace))
    site.apply(topology())
    soon(lambda: turned_away(namespace))


def test_labels_of_a_namespace_are_followed_within_seconds(site: Site, namespace: Namespace) -> None:
    published_by_a_node(site)
    assert namespace.create_dry(HEAVY).returncode == 0
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    soon(lambda: turned_away(namespace))
    line = refused(namespace.apply(HEAVY))
    assert line.endswith(f"namespace {namespace.name} enforces {SINGLE}")
    site.label(namespace, f"{ENFORCE}-", f"{WARN}={SINGLE}")
    soon(lambda: not turned_away(namespace))
    soon(lambda: "Warning: " in namespace.create_dry(HEAVY).stderr)
    assert warned(namespace.apply(HEAVY), "pod/heavy").startswith('Warning: Pod "heavy": sidecars too heavy')
    assert ANNOTATION in namespace.get("pod", "heavy")["metadata"]["annotations"]


def test_a_mistyped_label_counts_as_the_strictest_and_is_said(site: Site, namespace: Namespace) -> None:
    published_by_a_node(site)
    site.label(namespace, f"{ENFORCE}=singel")
    soon(lambda: turned_away(namespace))
    done = namespace.create_dry(HEAVY)
    assert f'Warning: namespace label {ENFORCE}: "singel" is not one of none, best-effort' in done.stderr
    assert f"namespace {namespace.name} enforces {SINGLE}" in done.stderr


def test_a_limit_range_counts_for_templates_too(site: Site, namespace: Namespace) -> None:
    published_by_a_node(site)
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    soon(lambda: turned_away(namespace))
    silent = deployment("web", "1", "1")
    silent["spec"]["template"]["spec"] = {"containers": [{**container("app", "1"), "resources": {}}]}
    assert not turned_away(namespace, silent)
    limits = [{"type": "Container", "default": {"cpu": "6"}, "defaultRequest": {"cpu": "6"}}]
    made = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "six"}, "spec": {"limits": limits}}
    assert namespace.apply(made).returncode == 0
    soon(lambda: "denied the request: Deployment" in namespace.create_dry(silent).stderr)


def test_a_node_that_a_pod_does_not_select_does_not_count_for_it(site: Site, namespace: Namespace) -> None:
    published_by_a_node(site)
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    soon(lambda: turned_away(namespace))
    choosy = pod("choosy", "3", "2")
    choosy["spec"]["nodeSelector"] = {"pool": "large"}
    assert not turned_away(namespace, choosy)
    site.plane.kubectl("label", "node", "lab-2x4", "pool=large")
    soon(lambda: turned_away(namespace, choosy))
    site.plane.kubectl("label", "node", "lab-2x4", "pool-")


@pytest.mark.fault("api-server-killed")
def test_an_api_server_that_dies_and_comes_back_is_gone_on_with(site: Site, namespace: Namespace) -> None:
    install_crd(site)
    published_by_a_node(site)
    site.label(namespace, f"{ENFORCE}={SINGLE}")
    soon(lambda: turned_away(namespace))
    lists = 'armistice_cluster_relists_total{reason="first",resource="namespaces"}'
    outage = threading.Thread(target=site.plane.outage, args=(OUTAGE,))
    outage.start()
    time.sleep(OUTAGE / 2)
    assert site.says("/readyz") == "200 ready"
    outage.join()
    assert turned_away(namespace)
    site.label(namespace, f"{ENFORCE}=none")
    soon(lambda: not turned_away(namespace))
    assert site.metric(lists) == 1
    assert site.metric('armistice_cluster_errors_total{reason="unreachable",resource="namespaces"}') > 0


def test_without_one_of_its_rights_it_says_so(site: Site, tmp_path: Path) -> None:
    give_rights(site.plane, [RIGHTS[0]])
    try:
        kubeconfig = site.plane.write_kubeconfig(tmp_path / "kubeconfig", USER)
        webhook = Webhook.follow(site.plane, "powerless", kubeconfig, SigningKey.make(tmp_path), "--policy", "none")
        told = "503 not ready: the cluster's noderesourcetopologies are not read yet: "
        soon(lambda: Site(site.plane, webhook).says("/readyz").startswith(told))
        assert Site(site.plane, webhook).says("/readyz").endswith("refuses: 403 Forbidden")
        webhook.stop()
    finally:
        give_rights(site.plane, RIGHTS)
