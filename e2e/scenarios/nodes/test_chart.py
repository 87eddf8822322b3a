"""The whole chain on one node: the chart installed from our images, and everything that it promises, in the order of a
day: installed, labelled, applied, attacked, killed, upgraded, uninstalled. What runs stays where it is all the while.

The node's containerd is the one that lets pods with an intent wait while the enforcer is away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from e2e.assertions import assert_subset
from e2e.lab import armistice
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE, RELEASE, TOPOLOGIES, Enforcer
from e2e.lab.helm import CHART, Release
from e2e.lab.images import BUSYBOX
from e2e.lab.inject import LABEL, LATE, Injector
from e2e.lab.installed import SWITCH_OFF
from e2e.lab.kubelet import Containerd
from e2e.lab.namespace import Namespace
from e2e.lab.shapes import named
from e2e.lab.webhook import ENFORCE, WARN, SigningKey
from e2e.lab.workload import HOLD, container, pod
from e2e.observe import container_ids
from e2e.scenarios.enforcer.armed import SINGLE, Armed, alone, bubble, until
from e2e.scenarios.enforcer.bound import assert_bubble_bound, exclusive_cpus
from e2e.scenarios.nodes.conftest import Cluster, ready_node
from shared.seal import ANNOTATION

pytestmark = pytest.mark.slow

PATIENCE = "8m"
"""Until helm gives up; measured below 2 minutes."""

VALUES: dict[str, Any] = {
    "image": {"registry": "localhost", "pullPolicy": "Never"},
    "webhook": {"image": {"tag": "dev"}, "verbose": True},
    "enforcer": {"image": {"tag": "dev"}},
}
"""Images as ``lab/armistice`` names them, which the node has."""

EXAMPLES = CHART / "examples"
EXAMPLE = "armistice-example"
"""Their namespace."""


@dataclass(slots=True)
class Day:
    """The node with everything on it, and the pod that has to outlast all of it."""

    armed: Armed
    release: Release
    kept: frozenset[int] = frozenset()
    """CPUs of the pod ``fits`` of the examples, from its start on."""
    identity: str = ""
    """Its app's container."""

    @property
    def plane(self) -> ControlPlane:
        """The control plane."""
        return self.armed.plane

    @property
    def example(self) -> Namespace:
        """The namespace of the examples."""
        return Namespace(self.plane, EXAMPLE)

    def assert_kept(self) -> None:
        """The pod ``fits`` runs in the same container on the same CPUs, which are nobody else's."""
        assert container_ids(self.plane, "fits", EXAMPLE)["app"] == self.identity, "its app was started anew"
        assert exclusive_cpus(self.armed, self.example, "fits", 2) == self.kept

    def asked(self) -> str:
        """What the webhook's pods have logged."""
        words = ("logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=webhook", "--tail=-1")
        return self.plane.kubectl(*words)

    def takes(self, name: str) -> bool:
        """Whether a shipped file comes in."""
        return self.apply_example(name).returncode == 0

    def apply_example(self, name: str) -> CompletedProcess[str]:
        """``kubectl apply`` of a shipped file, with an image that the node has."""
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        loop = f'image: {BUSYBOX}\n\\1imagePullPolicy: Never\n\\1command: [sh, -c, "while :; do sleep 3600; done"]'
        text = re.sub(r"( +)image: registry\S+", rf"\1{loop}", text)
        return self.plane.kubectl_raw("apply", "-f", "-", input=text)


@pytest.fixture(scope="module")
def day(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The chart installed on a Ready node, and all of it ready."""
    folder: Path = tmp_path_factory.mktemp("chart")
    images = [armistice.image(component, plane.run.progress) for component in armistice.COMPONENTS]
    with ready_node(plane, named("2x8"), containerd=Containerd.NEW, images=images) as node:
        release = Release(plane, RELEASE, NAMESPACE)
        with plane.run.progress.phase("chart installed and ready"):
            release.install(VALUES, "--wait", "--timeout", PATIENCE)
        armed = Armed(Cluster(plane, node), Enforcer(plane, node), SigningKey.make(folder), folder)
        try:
            yield Day(armed, release)
        finally:
            print(plane.kubectl_raw("get", "pods", "-A", "-o", "wide").stdout)
            release.helm_raw("uninstall", RELEASE, "--no-hooks", "--ignore-not-found")
            for name in (EXAMPLE, NAMESPACE):
                plane.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")
            plane.kubectl_raw("delete", "pods", "-A", "--all", "--force", "--grace-period=0")


@pytest.fixture
def fresh(day: Day) -> Iterator[Namespace]:
    """A namespace without labels; its pods are gone afterwards."""
    made = Namespace.make(day.plane)
    yield made
    day.plane.kubectl("delete", "pods", "--all", "-n", made.name, "--grace-period=0", "--timeout=120s")
    made.drop()


def label(namespace: Namespace, *labels: str) -> str:
    """``kubectl label``; what is said on standard error."""
    return namespace.plane.kubectl_raw("label", "namespace", namespace.name, *labels).stderr


def test_installed_it_is_ready_and_finds_itself_well(day: Day) -> None:
    pods = json.loads(day.plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    assert len(pods) == 3, "two of the webhook and the node's enforcer"
    assert all(day.armed.cluster.node.pods.split(".")[2] == one["status"]["podIP"].split(".")[2] for one in pods)
    print(day.release.helm("test", RELEASE, "--timeout", PATIENCE))


def test_the_examples_are_taken_bound_refused_and_judged_as_their_words_say(day: Day) -> None:
    for name in ("1-namespace.yaml", "2-fits.yaml"):
        until(partial(day.takes, name), 60, f"{name} is not taken")
    day.example.wait("--for=condition=Ready", "pod/fits", seconds=120)
    day.kept = exclusive_cpus(day.armed, day.example, "fits", 2)
    day.identity = container_ids(day.plane, "fits", EXAMPLE)["app"]

    heavy = day.apply_example("3-heavy.yaml")
    assert heavy.returncode == 1
    assert 'admission webhook "enforce.armistice.dev" denied the request: Pod "heavy":' in heavy.stderr
    assert "proxy" in heavy.stderr
    assert day.apply_example("4-deployment.yaml").returncode == 0
    day.example.wait("--for=condition=Available", "deployment/workers", seconds=120)
    assert f'namespace="{EXAMPLE}"' in day.asked(), "it was the pods that were asked"


def test_nothing_changes_until_a_namespace_is_labelled(day: Day, fresh: Namespace) -> None:
    assert fresh.apply(alone("wide", 9)).stderr == ""
    assert ANNOTATION not in fresh.get("pod", "wide")["metadata"].get("annotations", {})
    said = label(fresh, f"{ENFORCE}={SINGLE}")
    assert "wide" in said, f"whoever labels hears of the pods that are there: {said}"
    assert "asks 9 CPUs" in fresh.apply(alone("wider", 9)).stderr
    label(fresh, f"{ENFORCE}-", f"{WARN}={SINGLE}")
    until(lambda: fresh.apply(alone("told", 9)).returncode == 0, 30, "a warning does not let pods in")
    assert "Warning:" in fresh.apply(alone("told-too", 9)).stderr


def test_app_and_sidecar_of_a_labelled_namespace_are_bound(day: Day, fresh: Namespace) -> None:
    label(fresh, f"{ENFORCE}={SINGLE}")
    until(lambda: has_intent(fresh, bubble("probe", 1)), 30, "the label has no effect")
    assert_bubble_bound(day.armed, fresh, day.armed.cluster.runs(fresh, bubble("one", 2)), 2)
    day.assert_kept()


def has_intent(namespace: Namespace, asked: dict[str, Any]) -> bool:
    """Whether admission would write one."""
    done = namespace.plane.kubectl_raw(
        "create", "--dry-run=server", "-n", namespace.name, "-o", "json", "-f", "-", input=json.dumps(asked)
    )
    return ANNOTATION in done.stdout


def test_a_sidecar_that_is_injected_afterwards_is_weighed_too(day: Day, fresh: Namespace) -> None:
    label(fresh, f"{ENFORCE}={SINGLE}", f"{LABEL}=yes")
    light = Injector(day.plane, "500m")
    light.start()
    try:
        until(lambda: LATE in intent_of(fresh, alone("probe", 1)), 30, "nothing is injected")
        fresh.apply(alone("meshed", 1))
        fresh.wait("--for=condition=Ready", "pod/meshed", seconds=120)
        own = exclusive_cpus(day.armed, fresh, "meshed", 1)
        _, seen = day.armed.cluster.see(fresh, "meshed")
        assert not own & seen[LATE].cpus
    finally:
        light.stop()
    heavy = Injector(day.plane, "8")
    heavy.start()
    try:
        until(lambda: "asks 9 CPUs" in fresh.create_dry(alone("probe", 1)).stderr, 30, "nothing is refused")
        done = fresh.apply(alone("crushed", 1))
        assert done.returncode == 1
        assert LATE in done.stderr, f"the one that is too heavy is named: {done.stderr}"
    finally:
        heavy.stop()


def intent_of(namespace: Namespace, asked: dict[str, Any]) -> str:
    """What admission would write; empty for nothing."""
    done = namespace.plane.kubectl_raw(
        "create", "--dry-run=server", "-n", namespace.name, "-o", "json", "-f", "-", input=json.dumps(asked)
    )
    found = json.loads(done.stdout)["metadata"].get("annotations", {}) if done.returncode == 0 else {}
    return str(found.get(ANNOTATION, ""))


def test_cores_are_not_had_by_typing_an_annotation(day: Day, fresh: Namespace) -> None:
    label(fresh, f"{ENFORCE}={SINGLE}")
    until(lambda: has_intent(fresh, alone("probe", 1)), 30, "the label has no effect")
    forged = alone("forged", 1)
    taken = day.example.get("pod", "fits")["metadata"]["annotations"][ANNOTATION]
    forged["metadata"]["annotations"] = {ANNOTATION: taken}  # a real one, of another pod, for two CPUs
    done = fresh.apply(forged)
    assert done.returncode == 0
    assert "Warning:" in done.stderr
    assert fresh.get("pod", "forged")["metadata"]["annotations"][ANNOTATION] != taken
    fresh.wait("--for=condition=Ready", "pod/forged", seconds=120)
    exclusive_cpus(day.armed, fresh, "forged", 1)
    day.assert_kept()


def test_the_enforcer_is_killed_and_comes_back_and_nothing_moves(day: Day, fresh: Namespace) -> None:
    label(fresh, f"{ENFORCE}={SINGLE}")
    until(lambda: has_intent(fresh, alone("probe", 1)), 30, "the label has no effect")
    before = day.armed.enforcer.pid()
    day.armed.enforcer.kill()
    day.assert_kept()
    until(lambda: day.armed.enforcer.pid() not in (None, before), 60, "the kubelet does not start it again")
    day.armed.enforcer.wait_ready()
    day.armed.cluster.runs(fresh, alone("after", 1))
    exclusive_cpus(day.armed, fresh, "after", 1)
    day.assert_kept()


def test_an_upgrade_replaces_all_of_our_pods_and_none_of_anybody_elses(day: Day) -> None:
    before = ours(day)
    changed = {**VALUES, "commonLabels": {"lab.armistice.dev/day": "second"}}
    day.release.upgrade(changed, "--wait", "--timeout", PATIENCE)
    until(lambda: not ours(day) & before, 120, "not all of our pods were replaced")
    day.armed.enforcer.wait_ready()
    day.assert_kept()
    day.release.helm("rollback", RELEASE, "1", "--wait", "--timeout", PATIENCE)
    day.armed.enforcer.wait_ready()
    day.assert_kept()


def ours(day: Day) -> set[str]:
    """Uids of the chart's pods."""
    items = json.loads(day.plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    return {str(one["metadata"]["uid"]) for one in items}


def test_uninstalled_it_leaves_nothing_and_what_runs_keeps_its_cores(day: Day, fresh: Namespace) -> None:
    assert day.plane.kubectl("get", TOPOLOGIES, "-o", "name").split() != []
    day.release.uninstall("--timeout", PATIENCE)
    for kinds in (SWITCH_OFF[1], "clusterroles,clusterrolebindings", TOPOLOGIES):
        left = [one for one in day.plane.kubectl("get", kinds, "-o", "name").split() if RELEASE in one]
        assert left == []
    until(lambda: day.armed.enforcer.pid() is None, 60, "the enforcer does not end")
    day.assert_kept()

    label(fresh, f"{ENFORCE}={SINGLE}")  # nobody is there to care
    day.armed.cluster.runs(fresh, pod("plain", container("app", HOLD)))
    _, seen = day.armed.cluster.see(fresh, "plain")
    assert_subset(seen["app"].cpus, range(day.armed.cluster.node.shape.cpus), "a plain pod")
    assert not seen["app"].cpus & day.kept, "cores that are somebody's own stay so"
