"""The model of the kubelet that we compare with, on cases worked out by hand from the proposals it names."""

from __future__ import annotations

import pytest

from shared.cpuset import CpuSet
from shared.defaulting import with_defaults
from shared.pod import Container, Pod
from shared.topology import Machine
from tests.support.kubelet import Asked, Kubelet, Refusal, ask, take_by_topology
from tests.support.machines import GIB, machine
from tests.support.pods import asking, container, even, pod


def two_nodes(threads: int = 2) -> Machine:
    """Two NUMA nodes of four cores: with two threads, CPUs 0-7 and 8-15, core by core."""
    return machine(2, 4, threads, memory=16 * GIB)


SMALL = {"cpu": "3", "memory": "3Gi"}


def node(machine: Machine, reserved: str = "0-1", **options: bool) -> Kubelet:
    memory = {n.id: n.pages or 0 for n in machine.numa_nodes}
    return Kubelet.of(machine, CpuSet.parse(reserved), memory, **options)


def level(cpu: str, *containers: Container, memory: str = "3Gi") -> Pod:
    """A pod with ``spec.resources``, requests equal to limits."""
    return pod(*containers, requests={"cpu": cpu, "memory": memory}, limits={"cpu": cpu, "memory": memory})


def asked(given: Pod) -> Asked:
    return ask(with_defaults(given))


def run(kubelet: Kubelet, *pods: Pod) -> list[str]:
    """For each pod ``NODE:CPUS``, ``shared`` or the reason of the refusal."""
    said = []
    for number, one in enumerate(pods):
        after = kubelet.admit(f"p{number}", asked(one))
        if isinstance(after, Refusal):
            said.append(after.reason)
            continue
        kubelet = after
        given = kubelet.pods[f"p{number}"]
        said.append("shared" if given.node is None else f"{given.node}:{given.cpus}")
    return said


@pytest.mark.parametrize(
    ("given", "cpus", "slices", "starved"),
    [
        # The rows of KEP-5526's table "Pod Scope".
        (pod(even("a", "3"), even("b", "1"), even("c", "1")), 5, {"a": 3, "b": 1, "c": 1}, False),
        (level("5", even("a", "3"), even("b", "1"), even("c", "1")), 5, {"a": 3, "b": 1, "c": 1}, False),
        (level("5", even("a", "3"), container("b"), container("c")), 5, {"a": 3}, False),
        (level("5", container("a"), container("b"), container("c")), 5, {}, False),
        (level("5", even("a", "3"), even("b", "2"), container("c")), 5, {"a": 3, "b": 2}, True),
        # A fractional container of a Guaranteed pod owns nothing and is not counted.
        (pod(even("a", "2"), even("b", "500m")), 2, {"a": 2}, False),
        # A standard init container passes; a sidecar stays (KEP-753): max(4, 1 + 2).
        (pod(even("a", "2"), init=(even("s", "1", restartable=True),)), 3, {"s": 1, "a": 2}, False),
        (pod(even("a", "2"), init=(even("i", "4"),)), 4, {"a": 2}, False),
        # spec.resources that is no whole number pins no CPU.
        (level("2500m", even("a", "2"), container("b")), 0, {}, False),
    ],
)
def test_what_is_pinned(given: Pod, cpus: int, slices: dict[str, int], starved: bool) -> None:
    found = asked(given)
    assert (found.pinned, found.cpus, found.slices, found.starved) == (True, cpus, slices, starved)


def test_a_burstable_pod_is_not_pinned() -> None:
    assert asked(pod(even("app", "2"), asking("sidecar", "100m"))) == Asked(2100, GIB, {}, pinned=False)


def test_pods_go_to_the_lowest_numa_node_that_holds_them() -> None:
    pods = [pod(even("a", "4")), pod(even("a", "4")), pod(even("a", "2")), pod(even("a", "4")), pod(even("a", "1"))]
    # CPUs 0-1 are reserved: node 0 has 6 to give. The second pod does not fit there any more, the third does.
    assert run(node(two_nodes()), *pods) == ["0:2-5", "1:8-11", "0:6-7", "1:12-15", "OutOfcpu"]


def test_the_tighter_numa_node_is_not_preferred() -> None:
    pods = [pod(even("a", "7")), pod(even("a", "6")), pod(even("a", "1")), pod(even("a", "2"))]
    # Node 1 is left with one CPU by the first pod; node 0 is full with the second.
    assert run(node(two_nodes()), *pods) == ["1:8-14", "0:2-7", "1:15", "OutOfcpu"]
    # With node 0 half empty the single CPU is taken there, and not the last one of node 1.
    assert run(node(two_nodes()), *[pods[0], pods[2], pod(even("a", "6"))]) == [
        "1:8-14",
        "0:2",
        "TopologyAffinityError",
    ]


def test_memory_and_cpu_have_to_be_on_the_same_numa_node() -> None:
    pods = [pod(even("a", "1", "15Gi")), pod(even("a", "7", "1Gi")), pod(even("a", "2", "2Gi"))]
    assert run(node(two_nodes()), *pods) == ["0:2", "1:8-14", "TopologyAffinityError"]


def test_memory_that_no_numa_nodes_have_together_is_no_preference_and_then_an_error() -> None:
    pods = [pod(even("a", "1", "9Gi")), pod(even("a", "1", "9Gi")), pod(even("a", "1", "9Gi"))]
    assert run(node(two_nodes()), *pods) == ["0:2", "1:8", "UnexpectedAdmissionError"]
    # The second NUMA node has the memory, and not the CPU.
    pods = [pod(even("a", "8", "1Gi")), pod(even("a", "1", "9Gi")), pod(even("a", "1", "9Gi"))]
    assert run(node(two_nodes()), *pods) == ["1:8-15", "0:2", "TopologyAffinityError"]


def test_huge_pages_have_to_be_there_too() -> None:
    with_pages = machine(2, 4, memory=16 * GIB, hugepages=[{2**21: 1}, {2**21: 4}])
    pods = [pod(even("a", "1", hugepages_2Mi=f"{size}Mi")) for size in (8, 4, 2, 2)]
    said = ["1:4", "OutOfhugepages-2Mi", "0:1", "OutOfhugepages-2Mi"]
    assert run(node(with_pages, "0"), *pods) == said


def test_burstable_pods_count_for_the_node_and_on_no_numa_node() -> None:
    pods = [pod(asking("a", "7", "20Gi")), pod(even("a", "6", "1Gi")), pod(even("a", "2", "1Gi"))]
    assert run(node(two_nodes()), *pods) == ["shared", "0:2-7", "OutOfcpu"]
    assert run(node(two_nodes()), pods[0], pod(even("a", "1", "13Gi"))) == ["shared", "OutOfmemory"]


def test_an_empty_pod_shared_pool_is_refused() -> None:
    said = run(node(two_nodes()), level("5", even("a", "3"), even("b", "2"), container("c")))
    assert said == ["TopologyAffinityError"]


@pytest.mark.parametrize(
    ("given", "starved"),
    [
        # Memory has to be left for who shares, too.
        (level("5", even("a", "3", "3Gi"), container("b")), True),
        (level("5", even("a", "3", "2Gi"), container("b")), False),
        (level("5", even("a", "3", "2Gi"), even("s", "500m", "1Gi"), container("b")), True),
        (level("5", even("a", "4", "1Gi"), even("s", "1", "2Gi")), False),
        # A standard init container shares with the sidecars that were started before it.
        (
            pod(
                even("a", "1"),
                init=(even("s", "2", "3Gi", restartable=True), container("i")),
                requests=SMALL,
                limits=SMALL,
            ),
            True,
        ),
        (
            pod(
                even("a", "1"),
                init=(container("i"), even("s", "2", "3Gi", restartable=True)),
                requests=SMALL,
                limits=SMALL,
            ),
            False,
        ),
    ],
)
def test_who_would_starve(given: Pod, starved: bool) -> None:
    assert asked(given).starved is starved


def test_containers_take_their_cpus_one_after_the_other_where_no_pod_level_binds_them() -> None:
    after = node(two_nodes()).admit("p", asked(pod(even("a", "1"), even("b", "2"))))
    assert isinstance(after, Kubelet)
    # One thread, then the first whole core; a pod of three CPUs would have had 2-4.
    assert str(after.pods["p"].cpus) == "2,4-5"
    assert run(node(two_nodes(), full_pcpus_only=True), pod(even("a", "1"), even("b", "1"))) == ["SMTAlignmentError"]


def test_cpus_of_a_standard_init_container_are_taken_again() -> None:
    after = node(two_nodes()).admit("p", asked(pod(even("a", "2"), init=(even("i", "4"),))))
    assert isinstance(after, Kubelet)
    given = after.pods["p"]
    assert (str(given.cpus), {k: str(v) for k, v in given.slices.items()}) == ("2-5", {"a": "2-3"})


def test_whole_cores_or_nothing() -> None:
    pods = [pod(even("a", "3")), pod(even("a", "4"))]
    assert run(node(two_nodes(), full_pcpus_only=True), *pods) == ["SMTAlignmentError", "0:2-5"]


def test_the_shared_pool_may_shrink_to_the_reserved_cpus_unless_they_are_kept() -> None:
    pods = [pod(even("a", "8")), pod(even("a", "6"))]
    assert run(node(two_nodes()), *pods) == ["1:8-15", "0:2-7"]
    assert run(node(two_nodes(), never_empty=True), *pods) == ["1:8-15", "empty shared pool"]


@pytest.mark.parametrize(
    ("free", "count", "taken"),
    [
        ("0-7", 8, "0-7"),
        ("0-7", 3, "0-2"),
        ("1,4-7", 1, "1"),  # a broken core before a whole one
        ("1,4-7", 3, "1,4-5"),  # a whole core first, then the broken one
        ("1,3,6-7", 4, "1,3,6-7"),
    ],
)
def test_cpus_are_taken_core_by_core(free: str, count: int, taken: str) -> None:
    one = machine(1, 4, 2)
    assert str(take_by_topology(one, one.online, CpuSet.parse(free), count)) == taken


def test_slices_are_cut_from_the_pods_cpus() -> None:
    after = node(two_nodes()).admit("p", asked(level("5", even("a", "2"), container("b"))))
    assert isinstance(after, Kubelet)
    given = after.pods["p"]
    assert (given.node, str(given.cpus), {k: str(v) for k, v in given.slices.items()}) == (0, "2-6", {"a": "2-3"})


def test_where_it_does_not_start() -> None:
    with pytest.raises(ValueError, match="stops at 8 NUMA nodes"):
        node(machine(9, 1), "0")
    with pytest.raises(ValueError, match="does not start without a CPU reservation"):
        node(two_nodes(), "")
