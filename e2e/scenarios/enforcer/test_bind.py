"""The intent made true: cores of one's own and local memory, read from the kernel."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from e2e.assertions import (
    assert_disjoint,
    assert_memory_on,
    assert_one_numa_node,
    assert_subset,
    assert_threads_inside,
)
from e2e.lab.namespace import Namespace
from e2e.lab.workload import HOLD, OWN_MEMORY, container, deployment, holding, pod, sidecar
from e2e.observe import Task
from e2e.scenarios.enforcer.armed import STRAY, Armed, alone, bubble, events, until
from e2e.scenarios.enforcer.bound import assert_bubble_bound, assert_partition, exclusive_cpus

pytestmark = pytest.mark.slow

STORM_SECONDS = 60
"""As long as the peer's Deployment is watched (`nodes/test_peer.py`), which makes hundreds of Failed pods in it."""

TRIED_AGAIN_WITHIN = 120
"""Seconds until the kubelet tries to create a refused container again."""

LIGHT = 48 * 2**20
"""Bytes that the enforcer may hold."""

MEBIBYTE = 2**20


def stray(armed: Armed) -> tuple[Task, ...]:
    """The host's daemon that was told to run everywhere."""
    return tuple(task for task in armed.see().tasks if f"{STRAY}.service" in task.group)


def test_app_sidecar_and_init_container_share_a_bubble_that_no_task_of_the_node_may_enter(
    armed: Armed, enforced: Namespace
) -> None:
    every = frozenset(range(armed.cluster.node.shape.cpus))
    assert {task.cpus for task in stray(armed)} == {every}, "before, the host's daemon may run everywhere"
    own = assert_bubble_bound(armed, enforced, armed.cluster.runs(enforced, bubble("one", 2)), 2)
    assert len(own) == 3
    assert stray(armed), "the host's daemon has ended, and shows nothing"
    for task in stray(armed):
        assert_disjoint({str(task): task.cpus, "the pod": own})


def test_two_pods_never_overlap_and_a_third_makes_no_storm_and_starts_by_itself_once_there_is_room(
    armed: Armed, enforced: Namespace, record_property: Callable[[str, object], None]
) -> None:
    bubbles = {
        name: assert_bubble_bound(armed, enforced, armed.cluster.runs(enforced, bubble(name, 2)), 2)
        for name in ("first", "second")
    }
    assert_disjoint(bubbles)

    assert enforced.apply(deployment("third", bubble("third", 2))).returncode == 0
    time.sleep(STORM_SECONDS)
    made = [one for one in enforced.list("pods") if one["metadata"]["name"].startswith("third-")]
    print(f"{len(made)} pods of a Deployment without room in {STORM_SECONDS} s")
    record_property("pods_in_60_s", len(made))
    assert len(made) == 1, "a pod that waits is not replaced"
    assert made[0]["status"]["phase"] == "Pending"
    told = " ".join(text for _, text in events(enforced, made[0]["metadata"]["name"]))
    assert "asks 3 CPUs" in told, f"no event says what was asked: {told}"
    assert "has 0 CPUs free" in told, f"no event says what was found: {told}"

    armed.plane.kubectl("delete", "pod", "first", "-n", enforced.name)
    enforced.wait("--for=condition=Available", "deployment/third", seconds=TRIED_AGAIN_WITHIN)
    for name in ("side", "app"):
        armed.cluster.holds(enforced, made[0]["metadata"]["name"], name)
    third = assert_bubble_bound(armed, enforced, made[0]["metadata"]["name"], 2)
    assert_disjoint({"second": bubbles["second"], "third": third})


def test_a_deployment_that_fits_no_numa_node_is_refused_at_apply_and_makes_no_pod(enforced: Namespace) -> None:
    done = enforced.apply(deployment("wide", alone("wide", 5)))
    assert done.returncode != 0
    assert "asks 5 CPUs" in done.stderr
    assert enforced.list("pods") == []


def test_the_pages_of_an_app_that_allocates_200_mib_are_on_its_numa_node(armed: Armed, enforced: Namespace) -> None:
    big = alone("big", 2, holding(200), memory="256Mi")
    sight, seen = armed.cluster.see(enforced, armed.cluster.runs(enforced, big))
    app = seen["app"]
    home = assert_one_numa_node(sight, app.cpus, "the app")
    assert_memory_on(app, {home}, at_least=200 * MEBIBYTE)
    assert app.pages.get(home, 0) >= 200 * MEBIBYTE, f"numa_maps says {dict(app.pages)}, the app is on node {home}"


def test_a_fractional_sidecar_costs_a_guaranteed_app_none_of_its_cores(armed: Armed, enforced: Namespace) -> None:
    """The whole pod is Burstable by it, for which the kubelet's static policy gives nobody a core of its own."""
    resources = {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    injected = sidecar("side", HOLD, resources=resources)
    app = container("app", HOLD, {"cpu": "2", "memory": "64Mi"})
    armed.cluster.runs(enforced, pod("mixed", app, initContainers=[injected]))
    assert enforced.get("pod", "mixed")["status"]["qosClass"] == "Burstable"
    exclusive_cpus(armed, enforced, "mixed", 2)


def test_pods_without_cores_of_their_own_stay_off_those_of_others_and_bound_ones_on_their_numa_node(
    armed: Armed, enforced: Namespace
) -> None:
    requests = {"requests": {"cpu": "500m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
    armed.cluster.runs(enforced, alone("own", 3))
    armed.cluster.runs(enforced, pod("bound", container("app", HOLD, resources=requests)))
    armed.cluster.runs(enforced, pod("loose", container("app", HOLD)))
    own = exclusive_cpus(armed, enforced, "own", 3)
    sight, bound = armed.cluster.see(enforced, "bound")
    home = assert_one_numa_node(sight, bound["app"].cpus, "the bound pod")
    assert_memory_on(bound["app"], {home}, at_least=OWN_MEMORY)
    _, loose = armed.cluster.see(enforced, "loose")
    assert_disjoint({"the pod of its own": own, "the bound pod": bound["app"].cpus})
    assert_disjoint({"the pod of its own": own, "the loose pod": loose["app"].cpus})
    for one in (bound["app"], loose["app"]):
        assert_threads_inside(one, one.cpus)


def test_isolation_cpuset_keeps_other_pods_off_and_makes_no_partition(armed: Armed) -> None:
    """Tasks of the host may run there: that is what a partition is for."""
    with armed.judged("cpuset", "--isolation", "cpuset"):
        fenced = armed.enforced("cpuset")
        armed.cluster.runs(fenced, pod("before", container("app", HOLD)))
        armed.cluster.runs(fenced, alone("own", 3))
        armed.cluster.runs(fenced, pod("after", container("app", HOLD)))
        sight, own = armed.cluster.see(fenced, "own")
        assert len(own["app"].cpus) == 3
        assert sight.pod_group(fenced.get("pod", "own")["metadata"]["uid"]).partition == "member"
        for name in ("before", "after"):
            _, other = armed.cluster.see(fenced, name)
            assert_disjoint({"the pod of its own": own["app"].cpus, f"pod {name}": other["app"].cpus})
        armed.plane.kubectl("delete", "pod", "own", "-n", fenced.name)
        for name in ("later", "last"):  # whoever runs is told with the next answer to the runtime, not before
            armed.cluster.runs(fenced, pod(name, container("app", HOLD)))
        for name in ("before", "later", "last"):
            _, other = armed.cluster.see(fenced, name)
            assert_subset(own["app"].cpus, other["app"].cpus, f"CPUs that are free again are not pod {name}'s too")


def test_isolation_isolated_makes_a_partition_without_load_balancing(armed: Armed) -> None:
    with armed.judged("isolated", "--isolation", "isolated"):
        space = armed.enforced("isolated")
        armed.cluster.runs(space, alone("own", 2))
        own = exclusive_cpus(armed, space, "own", 2)
        assert_partition(armed.see(), space, "own", own, "isolated")


def test_what_the_node_publishes_goes_down_by_what_a_pod_takes_and_up_again(armed: Armed, enforced: Namespace) -> None:
    before = available(armed)
    armed.cluster.runs(enforced, alone("own", 3))
    until(lambda: before - available(armed) == 3, 60, "the published CPUs did not go down by 3")
    armed.plane.kubectl("delete", "pod", "own", "-n", enforced.name)
    until(lambda: available(armed) == before, 60, "the published CPUs did not come back")


def available(armed: Armed) -> int:
    """CPUs that the node publishes as available, on all NUMA nodes together."""
    zones = (armed.enforcer.topology() or {}).get("zones", [])
    return sum(int(one["available"]) for zone in zones for one in zone["resources"] if one["name"] == "cpu")


def test_the_enforcer_is_light(armed: Armed, record_property: Callable[[str, object], None]) -> None:
    held = armed.enforcer.memory()
    record_property("resident_mib", held // MEBIBYTE)
    assert held <= LIGHT, f"the enforcer holds {held / MEBIBYTE:.1f} MiB"
