"""The whole chain on one node: the chart installed from our images, and everything that it promises, in the order of a
day: installed, labelled, applied, attacked, killed, upgraded, uninstalled. What runs stays where it is all the while.

The node's containerd is the one that lets pods with an intent wait while the enforcer is away.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from e2e.assertions import assert_subset
from e2e.faults import by_hand
from e2e.lab import armistice, netns
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE, RELEASE, TOPOLOGIES, Enforcer
from e2e.lab.helm import CHART, Release
from e2e.lab.images import BUSYBOX
from e2e.lab.inject import LABEL, LATE, Injector
from e2e.lab.installed import CONFIGURATION, SERVICE, SWITCH_OFF
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

MUTATE, VALIDATE = 10, 20
"""Seconds that the API server waits for either: an emulated webhook answers late where others use the cores, too."""

PATIENCE = "12m"
"""Until helm gives up; measured 42 s on idle cores, 290 where eight busy loops had their share of them."""

VALUES: dict[str, Any] = {
    "image": {"registry": "localhost", "pullPolicy": "Never"},
    "webhook": {"image": {"tag": "dev"}, "verbose": True, "timeouts": {"mutate": MUTATE, "validate": VALIDATE}},
    "enforcer": {"image": {"tag": "dev"}},
}
"""Images as ``lab/armistice`` names them, which the node has."""

HEALED_WITHIN = 60.0
"""Seconds from the first packet that passes again until pods come in; a call that was lost ends with its timeout."""

COUNTS_WITHIN = 120.0
"""Seconds until something counts that was changed a moment ago."""

SPENT = 5.0
"""Seconds that kubectl takes by itself, at most, beside a node that keeps the cores busy: less than any timeout."""

DAY = 24 * 3600.0
AHEAD = 31 * DAY
"""Seconds: a day more than the webhook's certificates live."""

BEHIND = DAY / 2
"""Seconds: before the webhook's authorities began, which is an hour before the chart was installed. The lab's own
certificates, by which the node's clients know the API server, begin a day before."""

NOTICED = 6.0
"""Seconds in which replicas look at the clock and at the API server's, at least once, and the kubelet asks them whether
they are ready, as often as makes them not so."""

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
    with ready_node(plane, named("2x4"), containerd=Containerd.NEW, images=images) as node:
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


def enforce(namespace: Namespace) -> None:
    """Label it, and wait until that counts."""
    label(namespace, f"{ENFORCE}={SINGLE}")
    until(lambda: intent_of(namespace, alone("probe", 1)), COUNTS_WITHIN, "the label has no effect")


def intent_of(namespace: Namespace, asked: dict[str, Any]) -> str:
    """What admission would write; empty for nothing."""
    done = namespace.plane.kubectl_raw(
        "create", "--dry-run=server", "-n", namespace.name, "-o", "json", "-f", "-", input=json.dumps(asked)
    )
    found = json.loads(done.stdout)["metadata"].get("annotations", {}) if done.returncode == 0 else {}
    return str(found.get(ANNOTATION, ""))


def test_installed_it_is_ready_and_finds_itself_well(day: Day) -> None:
    pods = json.loads(day.plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    assert len(pods) == 3, "two of the webhook and the node's enforcer"
    assert all(day.armed.cluster.node.pods.split(".")[2] == one["status"]["podIP"].split(".")[2] for one in pods)
    print(day.release.helm("test", RELEASE, "--timeout", PATIENCE))


def test_the_examples_are_taken_bound_refused_and_judged_as_their_words_say(day: Day) -> None:
    for name in ("1-namespace.yaml", "2-fits.yaml"):
        until(partial(day.takes, name), COUNTS_WITHIN, f"{name} is not taken")
    day.example.wait("--for=condition=Ready", "pod/fits")
    day.kept = exclusive_cpus(day.armed, day.example, "fits", 2)
    day.identity = container_ids(day.plane, "fits", EXAMPLE)["app"]

    heavy = day.apply_example("3-heavy.yaml")
    assert heavy.returncode == 1
    assert '.armistice.dev" denied the request: Pod "heavy": ' in heavy.stderr
    assert "proxy" in heavy.stderr
    assert day.apply_example("4-deployment.yaml").returncode == 0
    day.example.wait("--for=condition=Available", "deployment/workers")
    day.plane.kubectl("delete", "deployment", "workers", "-n", EXAMPLE)  # its CPUs are for the pods that follow
    assert f'namespace="{EXAMPLE}"' in day.asked(), "it was the pods that were asked"


def test_nothing_changes_until_a_namespace_is_labelled(day: Day, fresh: Namespace) -> None:
    assert fresh.apply(alone("wide", 5)).stderr == ""
    assert ANNOTATION not in fresh.get("pod", "wide")["metadata"].get("annotations", {})
    said = label(fresh, f"{ENFORCE}={SINGLE}")
    assert "wide" in said, f"whoever labels hears of the pods that are there: {said}"
    assert "asks 5 CPUs" in fresh.apply(alone("wider", 5)).stderr
    label(fresh, f"{ENFORCE}-", f"{WARN}={SINGLE}")
    until(lambda: fresh.apply(alone("told", 5)).returncode == 0, COUNTS_WITHIN, "a warning does not let pods in")
    until(lambda: "Warning:" in fresh.create_dry(alone("told-too", 5)).stderr, COUNTS_WITHIN, "nobody is warned")


def test_app_and_sidecar_of_a_labelled_namespace_are_bound(day: Day, fresh: Namespace) -> None:
    label(fresh, f"{ENFORCE}={SINGLE}")
    until(lambda: intent_of(fresh, bubble("probe", 1)), COUNTS_WITHIN, "the label has no effect")
    assert_bubble_bound(day.armed, fresh, day.armed.cluster.runs(fresh, bubble("one", 2)), 2)
    day.assert_kept()


def test_a_sidecar_that_is_injected_afterwards_is_weighed_too(day: Day, fresh: Namespace) -> None:
    label(fresh, f"{ENFORCE}={SINGLE}", f"{LABEL}=yes")
    light = Injector(day.plane, "500m")
    light.start()
    try:
        until(lambda: LATE in intent_of(fresh, alone("probe", 1)), COUNTS_WITHIN, "nothing is injected")
        fresh.apply(alone("meshed", 1))
        fresh.wait("--for=condition=Ready", "pod/meshed")
        own = exclusive_cpus(day.armed, fresh, "meshed", 1)
        _, seen = day.armed.cluster.see(fresh, "meshed")
        assert not own & seen[LATE].cpus
    finally:
        light.stop()
    heavy = Injector(day.plane, "4")
    heavy.start()
    try:
        until(lambda: "asks 5 CPUs" in fresh.create_dry(alone("probe", 1)).stderr, COUNTS_WITHIN, "nothing is refused")
        done = fresh.apply(alone("crushed", 1))
        assert done.returncode == 1
        assert LATE in done.stderr, f"the one that is too heavy is named: {done.stderr}"
    finally:
        heavy.stop()


def test_cores_are_not_had_by_typing_an_annotation(day: Day, fresh: Namespace) -> None:
    enforce(fresh)
    forged = alone("forged", 1)
    taken = day.example.get("pod", "fits")["metadata"]["annotations"][ANNOTATION]
    forged["metadata"]["annotations"] = {ANNOTATION: taken}  # a real one, of another pod, for two CPUs
    done = fresh.apply(forged)
    assert done.returncode == 0
    assert "Warning:" in done.stderr
    assert fresh.get("pod", "forged")["metadata"]["annotations"][ANNOTATION] != taken
    fresh.wait("--for=condition=Ready", "pod/forged")
    exclusive_cpus(day.armed, fresh, "forged", 1)
    day.assert_kept()


def test_the_enforcer_is_killed_and_comes_back_and_nothing_moves(day: Day, fresh: Namespace) -> None:
    enforce(fresh)
    before = day.armed.enforcer.pid()
    day.armed.enforcer.kill()
    day.assert_kept()
    until(lambda: day.armed.enforcer.pid() not in (None, before), COUNTS_WITHIN, "the kubelet does not start it again")
    day.armed.enforcer.wait_ready()
    day.armed.cluster.runs(fresh, alone("after", 1))
    exclusive_cpus(day.armed, fresh, "after", 1)
    day.assert_kept()


@pytest.mark.fault("webhook-black-holed")
def test_the_network_to_the_webhook_swallows_everything_and_only_pods_that_are_to_be_judged_wait_for_it(
    day: Day, fresh: Namespace
) -> None:
    enforce(fresh)
    day.armed.cluster.runs(fresh, alone("bound", 2))
    own, plain = exclusive_cpus(day.armed, fresh, "bound", 2), Namespace.make(day.plane)
    with swallowed(day):
        began = time.monotonic()
        refused = fresh.create_dry(alone("probe", 1))
        took = time.monotonic() - began
        assert refused.returncode == 1
        assert "context deadline exceeded" in refused.stderr
        assert took <= MUTATE + VALIDATE + SPENT, f"it was refused after {took:.1f} s"
        began = time.monotonic()
        assert plain.create_dry(alone("probe", 1)).stderr == ""
        assert time.monotonic() - began <= SPENT
        assert exclusive_cpus(day.armed, fresh, "bound", 2) == own
    until(lambda: intent_of(fresh, alone("probe", 1)), HEALED_WITHIN, "the webhook is not asked again")
    plain.drop()


@contextmanager
def swallowed(day: Day) -> Iterator[None]:
    """Whatever the API server sends to a pod of the webhook is lost meanwhile."""
    addresses = [one["status"]["podIP"] for one in replicas(day)]
    for address in addresses:
        netns.add_hole(day.plane.netns, address)
    try:
        yield
    finally:
        for address in addresses:
            netns.close_hole(day.plane.netns, address)


def replicas(day: Day) -> list[dict[str, Any]]:
    """The pods of the webhook that are not being deleted."""
    words = ("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=webhook", "-o", "json")
    found = json.loads(day.plane.kubectl(*words))["items"]
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


@by_hand
@pytest.mark.fault("clock-stepped")
def test_the_nodes_clock_is_set_far_ahead_and_back_and_behind_and_no_pod_is_refused(day: Day, fresh: Namespace) -> None:
    """Every certificate of the webhook has ended, or has yet to begin, by the clock of the machine that it is on."""
    enforce(fresh)
    day.armed.cluster.runs(fresh, alone("before", 2))
    own = exclusive_cpus(day.armed, fresh, "before", 2)
    with asked_all_the_while(fresh) as refused:
        try:
            assert all(ends < time.time() + AHEAD for ends in certificates_end(day)), "none would have ended"
            set_clock(day, AHEAD)
            time.sleep(NOTICED)
            replace_a_replica(day)
            day.armed.cluster.runs(fresh, alone("ahead", 1))
            exclusive_cpus(day.armed, fresh, "ahead", 1)
            assert all(ends < time.time() + AHEAD for ends in certificates_end(day)), "made by the node's clock"
            set_clock(day, -BEHIND)
            time.sleep(NOTICED)
            assert len(certificates_end(day)) == len(replicas(day))
        finally:
            set_clock(day, 0)
        time.sleep(NOTICED)
        assert len(certificates_end(day)) == len(replicas(day))
    assert refused == []
    assert exclusive_cpus(day.armed, fresh, "before", 2) == own


@contextmanager
def asked_all_the_while(namespace: Namespace) -> Iterator[list[str]]:
    """A pod is asked for again and again meanwhile; what was said of those that were refused, complete at the end."""
    over, refused, asked = threading.Event(), list[str](), list[float]()

    def ask() -> None:
        while not over.wait(0.1):
            done = namespace.create_dry(alone("probe", 1))
            asked.append(time.time())
            if done.returncode:
                refused.append(f"at {asked[-1]:.1f}: {done.stderr}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield refused
    finally:
        over.set()
        asking.join()
    print(f"{len(asked)} pods asked for, {len(refused)} refused")
    assert asked, "nothing was asked"


def set_clock(day: Day, ahead: float) -> None:
    """Set the node's clock so many seconds ahead of ours."""
    day.armed.cluster.node.sh(f"date -s @{time.time() + ahead:.0f}")


def replace_a_replica(day: Day) -> None:
    """Another pod in the place of one of the webhook's; returns when it is ready."""
    gone, *_ = replicas(day)
    day.plane.kubectl("delete", "pod", gone["metadata"]["name"], "-n", NAMESPACE, "--wait=false")
    day.plane.kubectl("rollout", "status", f"deployment/{SERVICE}", "-n", NAMESPACE, "--timeout=120s")


_HANDSHAKE = """
import socket, ssl, sys
trust = ssl.create_default_context(cadata=sys.stdin.read())
for address in sys.argv[2:]:
    with socket.create_connection((address, 8443), timeout=10) as raw:
        with trust.wrap_socket(raw, server_hostname=sys.argv[1]) as spoken:
            print(ssl.cert_time_to_seconds(spoken.getpeercert()["notAfter"]))
"""


def certificates_end(day: Day) -> list[float]:
    """When the certificate of each replica ends, in seconds of 1970. The API server's network and clock, and the bundle
    that it trusts, have to accept all of them: a handshake that fails raises."""
    configuration = json.loads(day.plane.kubectl("get", "validatingwebhookconfiguration", CONFIGURATION, "-o", "json"))
    bundle = base64.b64decode(configuration["webhooks"][0]["clientConfig"]["caBundle"]).decode()
    addresses = [one["status"]["podIP"] for one in replicas(day)]
    argv = [sys.executable, "-c", _HANDSHAKE, f"{SERVICE}.{NAMESPACE}.svc", *addresses]
    done = subprocess.run(day.plane.inside(argv), input=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


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
