"""The same story on other machines and other runtimes: each shape once, each containerd once, each OCI runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.assertions import assert_disjoint, assert_shape
from e2e.lab.controlplane import ControlPlane
from e2e.lab.kubelet import Containerd, Runtime
from e2e.lab.namespace import Namespace
from e2e.lab.shapes import named
from e2e.lab.workload import HOLD, container, pod
from e2e.observe import numbers
from e2e.scenarios.enforcer.armed import Armed, alone, armed_node, bubble, told, until
from e2e.scenarios.enforcer.bound import assert_bubble_bound, exclusive_cpus

pytestmark = pytest.mark.slow

WAITS_WITHIN = 180.0
"""Seconds until the kubelet says what a container waits for."""


@dataclass(frozen=True, slots=True)
class Place:
    """One machine with one runtime."""

    shape: str
    containerd: Containerd
    runtime: Runtime
    pods: int
    """How many pods of 2 CPUs and a sidecar it holds: three CPUs each, of one NUMA node, and whole cores."""


PLACES = (
    Place("4x4", Containerd.DEBIAN, Runtime.CRUN, 4),
    Place("2x4-smt2", Containerd.OLD, Runtime.CRUN, 1),
    Place("2x4-memory-only", Containerd.NEW, Runtime.RUNC, 2),
)


@pytest.fixture(
    scope="module",
    params=PLACES,
    ids=[f"{place.shape}, containerd {place.containerd.value}, {place.runtime.value}" for place in PLACES],
)
def place(
    request: pytest.FixtureRequest, plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, Armed]]:
    """The machine, armed."""
    wanted: Place = request.param
    folder, shape = tmp_path_factory.mktemp("armed"), named(wanted.shape)
    with armed_node(plane, folder, shape, wanted.containerd, runtime=wanted.runtime) as armed:
        yield wanted, armed


@pytest.fixture
def enforced(place: tuple[Place, Armed]) -> Iterator[Namespace]:
    """A namespace whose pods get intents; afterwards nothing of them may be left on the node."""
    armed = place[1]
    yield armed.enforced()
    armed.clear()


def test_its_kernel_shows_the_shape(place: tuple[Place, Armed]) -> None:
    assert_shape(place[1].cluster.node)


def test_app_and_sidecar_are_bound_to_local_memory_and_never_overlap(
    place: tuple[Place, Armed], enforced: Namespace
) -> None:
    wanted, armed = place
    names = [f"pod-{number}" for number in range(1, wanted.pods + 1)]
    bubbles = {
        name: assert_bubble_bound(armed, enforced, armed.cluster.runs(enforced, bubble(name, 2)), 2) for name in names
    }
    assert_disjoint(bubbles)
    if armed.cluster.node.shape.threads > 1:
        assert_whole_cores(armed, enforced, names[0])


def assert_whole_cores(armed: Armed, space: Namespace, name: str) -> None:
    """No hardware thread of a core that the app runs on is left to anybody else."""
    _, seen = armed.cluster.see(space, name)
    for cpu in seen["app"].cpus:
        siblings = armed.cluster.node.sh(f"cat /sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        assert numbers(siblings) <= seen["app"].cpus, f"CPU {cpu} shares its core with others"


def test_while_the_enforcer_is_away_pods_with_an_intent_wait_where_the_runtime_can_tell_and_others_run(
    place: tuple[Place, Armed], enforced: Namespace
) -> None:
    """Only containerd from 2.2 on can; what holds on older ones is shown in ``enforcer/test_absent.py``."""
    wanted, armed = place
    if wanted.containerd is not Containerd.NEW:
        pytest.skip(f"containerd {wanted.containerd.value} knows no required plugins")
    armed.enforcer.absent()
    try:
        assert enforced.apply(alone("waits", 2)).returncode == 0
        space = armed.namespace()
        armed.cluster.runs(space, pod("runs", container("app", HOLD)))
        until(lambda: 'required plugin "armistice" not present' in told(enforced, "waits"), WAITS_WITHIN, "it does not")
        assert enforced.get("pod", "waits")["status"]["phase"] == "Pending"
    finally:
        armed.enforcer.present()
    enforced.wait("--for=condition=Ready", "pod/waits")
    exclusive_cpus(armed, enforced, "waits", 2)
