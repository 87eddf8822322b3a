"""The webhook at a real API server: what people read at ``kubectl apply``, and what is stored.

Every scenario is a function of a namespace, so that it can be run twice: as it should be, and with a proxy before the
webhook that spoils its replies, where it has to fail.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import kill
from pathlib import Path
from signal import SIGKILL
from subprocess import CompletedProcess
from typing import Any

import pytest

import e2e.lab.mangle
from e2e.conftest import Planes
from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.mangle import WAYS
from e2e.lab.namespace import Namespace
from e2e.lab.tools import KUBERNETES, NEWEST
from e2e.lab.webhook import CASE, ENFORCE, WARN, Mode, Registration, SigningKey, Webhook, told
from shared.errors import IntentError
from shared.seal import ANNOTATION, open_

SINGLE = "single-numa-node"

TOO_HEAVY = "sidecars too heavy, asks 5 CPUs, the roomiest NUMA node has 4 CPUs; proxy asks 2 CPUs"
SMALLEST_CHANGE = "smallest change: proxy cpu from 2 to 1"
DENIED = 'admission webhook "enforce.armistice.dev" denied the request: '

REQUIRED_PLUGINS = "required-plugins.noderesource.dev"

ASKED_WITHIN = 90.0
"""Seconds until the API server acts on a changed registration; measured below 1."""

Manifest = dict[str, Any]
Done = CompletedProcess[str]


# A node with two NUMA nodes of 4 CPUs and 2 GiB, published as NFD's topology updater would.


def published() -> Manifest:
    """The NodeResourceTopology object of the shape 2x4."""
    amounts = {"cpu": "4", "memory": "2Gi"}
    resources = [{"name": name, **dict.fromkeys(_KINDS_OF_AMOUNT, amount)} for name, amount in amounts.items()]
    costs = {0: (10, 21), 1: (21, 10)}
    zones = [
        {
            "name": f"node-{node}",
            "type": "Node",
            "costs": [{"name": f"node-{other}", "value": cost} for other, cost in enumerate(row)],
            "resources": resources,
        }
        for node, row in costs.items()
    ]
    head = {"apiVersion": "topology.node.k8s.io/v1alpha2", "kind": "NodeResourceTopology"}
    return {**head, "metadata": {"name": "lab-2x4"}, "zones": zones}


_KINDS_OF_AMOUNT = ("capacity", "allocatable", "available")


# Pods.


def container(name: str, cpu: str, memory: str = "64Mi", **more: Any) -> Manifest:
    """A container whose requests equal its limits."""
    amounts = {"cpu": cpu, "memory": memory}
    return {
        "name": name,
        "image": "localhost/tool:1",
        "resources": {"requests": amounts, "limits": amounts},
        **more,
    }


def template(app: str, sidecar: str) -> Manifest:
    """A pod with an app container and a native sidecar, by their CPUs."""
    proxy = container("proxy", sidecar, restartPolicy="Always")
    return {"containers": [container("app", app)], "initContainers": [proxy]}


def pod(name: str, app: str, sidecar: str, annotations: Mapping[str, str] | None = None) -> Manifest:
    """A pod of that template."""
    metadata = {"name": name, "annotations": dict(annotations or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template(app, sidecar)}


def deployment(name: str, app: str, sidecar: str) -> Manifest:
    """A Deployment of one replica of that template."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template(app, sidecar)},
        },
    }


# What is registered.


@dataclass(frozen=True, slots=True)
class Site:
    """The control plane, and what the webhooks on it know."""

    plane: ControlPlane
    nodes: Path
    key: SigningKey
    used: list[Namespace] = field(default_factory=list)
    """Namespaces whose pods wait for a node, and would be the first on one of a later scenario's."""

    def open(self, case: str, level: str = "") -> Namespace:
        """A fresh namespace of a case with one of our labels, ``enforce`` or ``warn``; with none by default."""
        self.used.append(Namespace.make(self.plane, {CASE: case, **({level: SINGLE} if level else {})}))
        return self.used[-1]

    def clear(self) -> None:
        """Leave the control plane without pods."""
        names = [namespace.name for namespace in self.used]
        self.plane.kubectl("delete", "namespaces", *names, "--wait=false", "--ignore-not-found")
        self.plane.wait_settled()

    def webhooks(self, name: str) -> tuple[Webhook, Webhook]:
        """Two new processes: one that enforces and one that warns."""
        enforcing, warning = (
            Webhook.start(self.plane, f"{name}-{mode.value}", self.nodes, self.key, mode, "--drain", "0")
            for mode in (Mode.ENFORCE, Mode.WARN)
        )
        return enforcing, warning

    def register(self, case: str, enforcing: str, warning: str) -> Registration:
        """Tell the API server whom to ask about a case."""
        registration = Registration(self.plane, case, enforcing, warning)
        registration.apply()
        return registration


@pytest.fixture(
    scope="module",
    params=[pytest.param(minor, marks=() if minor == NEWEST else pytest.mark.slow) for minor in KUBERNETES],
)
def site(request: pytest.FixtureRequest, planes: Planes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two processes, registered as they are (case ``live``) and behind the proxy (a case for each of its ways).

    On each Kubernetes: the oldest is what many clusters still run, the newest is where behaviour changes first.
    """
    plane = planes(request.param)
    folder = tmp_path_factory.mktemp("webhook")
    nodes = folder / "nodes.json"
    nodes.write_text(json.dumps(published()))
    site = Site(plane, nodes, SigningKey.make(folder))
    live = site.webhooks("webhook")
    spoilers = [spoiler(plane, webhook) for webhook in live]
    registrations = [site.register("live", *(webhook.url for webhook in live))]
    registrations += [site.register(way, *(f"{url}/{way}" for url in spoilers)) for way in WAYS]
    wait_until_asked(site, ["live", *WAYS], plane.run.logs / f"{live[0].name}.log")
    yield site
    for registration in registrations:
        registration.delete()
    for webhook in live:
        webhook.stop()
        plane.run.end(f"spoiler-of-{webhook.name}")
    site.clear()


def spoiler(plane: ControlPlane, webhook: Webhook) -> str:
    """The proxy before a webhook; its URL."""
    name = f"spoiler-of-{webhook.name}"
    certificate, key = plane.issue(name, dns=("localhost",), ips=("127.0.0.1",))
    argv = [sys.executable, "-m", e2e.lab.mangle.__name__, "--to", webhook.url]
    argv += ["--cert", str(certificate), "--key", str(key), "--ca", str(plane.ca_pem)]
    plane.run.spawn(name, argv)
    return told(plane, name, "ready ")


def wait_until_asked(site: Site, cases: Sequence[str], log: Path) -> None:
    """A new registration counts from the API server's next watch event on: until then nobody is asked."""
    end = time.monotonic() + ASKED_WITHIN
    for case in cases:
        probe = site.open(case, ENFORCE)
        while probe.name not in log.read_text():
            assert time.monotonic() < end, f"the API server does not ask about case {case}"
            probe.create_dry(pod("probe", "1", "1"))
        probe.drop()


# What kubectl did.


def created(done: Done, *what: str) -> list[str]:
    """The lines on standard error beside the news that the objects were created."""
    assert done.returncode == 0, f"kubectl failed: {done.stderr}"
    assert done.stdout.splitlines() == [f"{name} created" for name in what]
    return done.stderr.splitlines()


def warned(done: Done, *what: str) -> str:
    """The one warning beside that."""
    lines = created(done, *what)
    assert len(lines) == 1, f"one warning was expected, and these were read: {lines}"
    return lines[0]


def refused(done: Done) -> str:
    """The one line on standard error where nothing was created."""
    assert (done.returncode, done.stdout) == (1, ""), f"it was not refused: {done.stdout}"
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"one line was expected, and these were read: {lines}"
    return lines[0]


# The scenarios.


def the_person_applying_reads_the_warning(site: Site, case: str) -> None:
    """A pod that breaks the policy of a namespace with ``warn`` is created, and its author told why."""
    namespace = site.open(case, WARN)
    line = warned(namespace.apply(pod("heavy", "3", "2")), "pod/heavy")
    assert line.startswith(f'Warning: Pod "heavy": {TOO_HEAVY}')
    assert SMALLEST_CHANGE in line


def a_rejected_pod_prints_the_denial(site: Site, case: str) -> None:
    """A pod that breaks the policy of a namespace with ``enforce`` is not created, and its author told why."""
    namespace = site.open(case, ENFORCE)
    line = refused(namespace.apply(pod("heavy", "3", "2")))
    assert line.startswith("Error from server (Forbidden): ")
    assert f'{DENIED}Pod "heavy": {TOO_HEAVY}' in line
    assert SMALLEST_CHANGE in line
    assert line.endswith(f"namespace {namespace.name} enforces {SINGLE}")
    assert namespace.list("pods") == []


def an_accepted_pod_carries_a_valid_intent(site: Site, case: str) -> None:
    """A pod that keeps the policy is stored with what the node is to do, signed, and good for nobody else."""
    namespace = site.open(case, ENFORCE)
    assert created(namespace.apply(pod("fits", "2", "500m")), "pod/fits") == []
    annotations = namespace.get("pod", "fits")["metadata"]["annotations"]
    assert ANNOTATION in annotations
    verify(site, namespace, "fits", annotations[ANNOTATION])
    assert "armistice" in annotations[REQUIRED_PLUGINS]
    with pytest.raises(IntentError, match="is for a pod in namespace"):
        open_(annotations[ANNOTATION], "default", "fits", ["app", "proxy"], site.key.ring)


def verify(site: Site, namespace: Namespace, pod_name: str, text: str) -> None:
    """The intent of a pod of 2 and 0.5 CPUs, as a node would read it."""
    try:
        intent = open_(text, namespace.name, pod_name, ["app", "proxy"], site.key.ring)
    except IntentError as error:
        raise AssertionError(str(error)) from error
    assert (intent.placement.value, intent.cpu, intent.bubble) == ("exclusive", 2500, 3)
    assert {part.name: part.slice for part in intent.parts} == {"app": 2, "proxy": 0}


def an_intent_typed_by_hand_is_overruled(site: Site, case: str) -> None:
    """Nobody gets cores by writing an annotation; whoever tries is told."""
    namespace = site.open(case, ENFORCE)
    line = warned(namespace.apply(pod("fits", "2", "500m", {ANNOTATION: "all the cores, please"})), "pod/fits")
    assert line.startswith('Warning: Pod "fits": ')
    assert ANNOTATION in line
    verify(site, namespace, "fits", namespace.get("pod", "fits")["metadata"]["annotations"][ANNOTATION])


def a_deployment_gets_a_warning_from_its_template(site: Site, case: str) -> None:
    """Whoever applies a workload is the one who can be told; its pods' authors are controllers."""
    namespace = site.open(case, WARN)
    line = warned(namespace.apply(deployment("web", "3", "2")), "deployment.apps/web")
    assert line.startswith(f'Warning: Deployment "web": {TOO_HEAVY}')
    assert SMALLEST_CHANGE in line


def a_deployment_that_cannot_fit_is_denied_at_apply(site: Site, case: str) -> None:
    """The storm of Failed pods is over before its first one."""
    namespace = site.open(case, ENFORCE)
    line = refused(namespace.apply(deployment("web", "3", "2")))
    assert f'denied the request: Deployment "web": {TOO_HEAVY}' in line
    assert (namespace.list("deployments"), namespace.list("pods")) == ([], [])


def the_pods_of_a_deployment_carry_intents(site: Site, case: str) -> None:
    """Their names are not known at admission, and the template itself is left as it was."""
    namespace = site.open(case, ENFORCE)
    assert created(namespace.apply(deployment("web", "2", "500m")), "deployment.apps/web") == []
    namespace.wait("--for=create", "pod", "-l", "app=web")
    (made,) = namespace.list("pods")
    verify(site, namespace, made["metadata"]["name"], made["metadata"].get("annotations", {}).get(ANNOTATION, ""))
    metadata = namespace.get("deployment", "web")["spec"]["template"]["metadata"]
    assert metadata == {"labels": {"app": "web"}}


def a_namespace_without_labels_is_left_alone(site: Site, case: str) -> None:
    """Installing changes nothing until a namespace is labelled."""
    namespace = site.open(case)
    assert created(namespace.apply(pod("heavy", "3", "2")), "pod/heavy") == []
    assert ANNOTATION not in namespace.get("pod", "heavy")["metadata"].get("annotations", {})


Scenario = Callable[[Site, str], None]

SCENARIOS: tuple[Scenario, ...] = (
    the_person_applying_reads_the_warning,
    a_rejected_pod_prints_the_denial,
    an_accepted_pod_carries_a_valid_intent,
    an_intent_typed_by_hand_is_overruled,
    a_deployment_gets_a_warning_from_its_template,
    a_deployment_that_cannot_fit_is_denied_at_apply,
    the_pods_of_a_deployment_carry_intents,
    a_namespace_without_labels_is_left_alone,
)


def spoken(value: object) -> str:
    """A scenario's name as a sentence of the test's."""
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=spoken)
def test_webhook(site: Site, scenario: Scenario) -> None:
    """As it should be."""
    scenario(site, "live")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=spoken)
def test_proxy_alone_changes_nothing(site: Site, scenario: Scenario) -> None:
    """What fails behind the proxy fails for what it spoils."""
    scenario(site, "untouched")


SPOILED: tuple[tuple[str, Scenario, str], ...] = (
    ("silent", the_person_applying_reads_the_warning, r"one warning was expected, and these were read: \[\]"),
    ("silent", a_deployment_gets_a_warning_from_its_template, r"one warning was expected, and these were read: \[\]"),
    ("silent", an_intent_typed_by_hand_is_overruled, r"one warning was expected, and these were read: \[\]"),
    ("lenient", a_rejected_pod_prints_the_denial, "it was not refused: pod/heavy created"),
    ("lenient", a_deployment_that_cannot_fit_is_denied_at_apply, "it was not refused: deployment.apps/web created"),
    ("speechless", a_rejected_pod_prints_the_denial, "denied the request"),
    ("patchless", an_accepted_pod_carries_a_valid_intent, "topology-intent"),
    ("patchless", an_intent_typed_by_hand_is_overruled, "topology-intent"),
    ("typeless", an_accepted_pod_carries_a_valid_intent, "patchType"),
    ("foreign", an_accepted_pod_carries_a_valid_intent, "expected response.uid"),
    ("foreign", the_person_applying_reads_the_warning, r"one warning was expected, and these were read: \[\]"),
    ("forged", an_accepted_pod_carries_a_valid_intent, "it was altered afterwards"),
    ("conniving", an_accepted_pod_carries_a_valid_intent, "it was altered afterwards"),
)
"""How the reply is spoiled, the scenario that has to notice, and what its failure has to speak of."""


@pytest.mark.parametrize(
    ("way", "scenario", "noticed"), SPOILED, ids=[f"{way}-{scenario.__name__}" for way, scenario, _ in SPOILED]
)
def test_scenario_fails_where_the_reply_is_spoiled(site: Site, way: str, scenario: Scenario, noticed: str) -> None:
    """A scenario that cannot fail shows nothing."""
    with pytest.raises((AssertionError, LabError), match=noticed):
        scenario(site, way)


def test_every_way_to_spoil_is_noticed() -> None:
    assert {way for way, _, _ in SPOILED} == WAYS.keys() - {"untouched"}


def test_dead_webhook_blocks_pods_of_namespaces_that_enforce_and_nothing_else(site: Site) -> None:
    """Killed, not drained: nobody is at the port any more."""
    mortal = site.webhooks("mortal")
    registration = site.register("dead", *(webhook.url for webhook in mortal))
    wait_until_asked(site, ["dead"], site.plane.run.logs / f"{mortal[0].name}.log")
    for webhook in mortal:
        kill(site.plane.run.pid(webhook.name) or 0, SIGKILL)
        site.plane.run.end(webhook.name)

    enforcing = site.open("dead", ENFORCE)
    line = refused(enforcing.apply(pod("fits", "2", "500m")))
    assert 'failed calling webhook "enforce.armistice.dev"' in line
    assert "connection refused" in line
    # What makes pods comes in, and its pods wait; what has nothing to do with pods is not even asked about.
    assert created(enforcing.apply(deployment("web", "2", "500m")), "deployment.apps/web") == []
    assert created(enforcing.apply(config_map("settings")), "configmap/settings") == []
    assert enforcing.list("pods") == []

    for namespace in (site.open("dead", WARN), site.open("dead")):
        assert created(namespace.apply(pod("heavy", "3", "2")), "pod/heavy") == []

    registration.delete()  # the way out that an admin has
    wait_until(lambda: enforcing.create_dry(pod("fits", "2", "500m")).returncode == 0)


def test_kube_system_is_never_asked_about_whatever_its_labels(site: Site) -> None:
    """The cluster has to be able to mend itself."""
    system = Namespace(site.plane, "kube-system")
    site.plane.kubectl("label", "namespace", "kube-system", f"{CASE}=live", f"{ENFORCE}={SINGLE}")
    try:
        done = system.create_dry(pod("heavy", "3", "2"))
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        site.plane.kubectl("label", "namespace", "kube-system", f"{CASE}-", f"{ENFORCE}-")


def wait_until(happened: Callable[[], bool]) -> None:
    """Until it is so, or the test fails."""
    end = time.monotonic() + ASKED_WITHIN
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def config_map(name: str) -> Manifest:
    """An object that is none of our business."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}}
