"""From a weighed pod and a policy to what the allocator and the node are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.demand import PlacementClass, whole
from shared.errors import InputError
from shared.intent import Part, bubble_cpus, make, page_size, starved
from shared.pod import Pod
from shared.policy import Placing, TopologyPolicy
from shared.sidecars import Role
from tests.support.pods import asking, container, even, pod, weighed

GIB = 2**30
MIB = 2**20

FOUR = {"cpu": "4", "memory": "4Gi"}

BUBBLES: list[tuple[str, Pod, int, int]] = [
    # what, pod, CPUs of the bubble, of which pod shared pool
    ("a slice and nothing else", pod(even("app", "4")), 4, 0),
    ("two slices", pod(even("a", "4"), even("b", "2")), 6, 0),
    ("a fraction beside a slice takes a CPU", pod(even("app", "4"), asking("s", "100m")), 4 + 1, 1),
    ("fractions are added before rounding up",
     pod(even("app", "4"), asking("s", "600m"), asking("t", "400m")), 4 + 1, 1),
    ("a little more is another CPU", pod(even("app", "4"), asking("s", "600m"), asking("t", "401m")), 4 + 2, 2),
    ("a container that asks for nothing still needs a CPU to run on", pod(even("app", "4"), container("s")), 4 + 1, 1),
    ("two of them share one", pod(even("app", "4"), container("s"), container("t")), 4 + 1, 1),
    ("a native sidecar shares as well",
     pod(even("app", "4"), init=(asking("s", "1500m", restartable=True),)), 4 + 2, 2),
    ("a native sidecar may own", pod(even("app", "4"), init=(even("s", "1", restartable=True),)), 5, 0),
    ("a standard init container needs no CPU of its own", pod(even("app", "4"), init=(asking("i", "4"),)), 4, 0),
    ("unless it is the larger", pod(even("app", "4"), init=(asking("i", "5500m"),)), 6, 2),
    ("the larger beside a sidecar before it",
     pod(even("app", "4"), init=(asking("s", "500m", restartable=True), asking("i", "5"))), 6, 2),  # ceil(0.5 + 5)
    ("not beside one after it",
     pod(even("app", "4"), init=(asking("i", "5"), asking("s", "500m", restartable=True))), 5, 1),  # max(5, 4 + 1)
    ("a sidecar that owns keeps its slice from the init container after it",
     pod(even("app", "2"), init=(even("s", "2", restartable=True), asking("i", "2500m"))), 5, 1),  # 2 + ceil(2.5)
    ("overhead is part of the shared pool", pod(even("app", "4"), overhead={"cpu": "250m"}), 4 + 1, 1),
    ("and shares a CPU with it", pod(even("app", "4"), asking("s", "500m"), overhead={"cpu": "250m"}), 4 + 1, 1),
    ("overhead in an init container's moment",
     pod(even("app", "4"), init=(asking("i", "5"),), overhead={"cpu": "100m"}), 6, 2),
    ("spec.resources say it", pod(even("app", "2"), container("s"), requests=FOUR, limits=FOUR), 4, 2),
    ("rounded up", pod(limits={"cpu": "3500m", "memory": "4Gi"}), 4, 4),
    ("with the overhead before rounding",
     pod(limits={"cpu": "3500m", "memory": "4Gi"}, overhead={"cpu": "500m"}), 4, 4),
    ("however much init containers ask for",
     pod(even("app", "2"), init=(asking("i", "3"),), requests=FOUR, limits=FOUR), 4, 2),
    ("a pod shared pool is never empty, whatever spec.resources say",
     pod(even("app", "4"), container("s"), requests=FOUR, limits=FOUR), 5, 1),
    ("spec.resources of memory only leave CPUs to the containers",
     pod(even("app", "2"), asking("s", "100m"), requests={"memory": "8Gi"}), 3, 1),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "bubble", "pool"), BUBBLES, ids=[row[0] for row in BUBBLES])
def test_the_bubble(about: str, given: Pod, bubble: int, pool: int) -> None:
    intent = make(weighed(given), Placing())
    assert intent.placement is PlacementClass.EXCLUSIVE
    assert (intent.bubble, intent.pool) == (bubble, pool)


CPU = st.sampled_from(["0", "100m", "500m", "1", "1500m", "2", "3"])
CONTAINERS = st.lists(st.tuples(CPU, st.booleans()), min_size=1, max_size=4)
INITS = st.lists(st.tuples(CPU, st.booleans(), st.booleans()), max_size=4)


@given(CONTAINERS, INITS, st.sampled_from(["0", "250m", "1"]))
def test_a_bubble_holds_the_demand_and_no_pool_in_use_is_empty(
    containers: list[tuple[str, bool]], inits: list[tuple[str, bool, bool]], overhead: str
) -> None:
    given = pod(
        *(even(f"c{n}", cpu) if same else asking(f"c{n}", cpu) for n, (cpu, same) in enumerate(containers)),
        init=tuple(
            even(f"i{n}", cpu, restartable=stays) if same else asking(f"i{n}", cpu, restartable=stays)
            for n, (cpu, same, stays) in enumerate(inits)
        ),
        overhead={"cpu": overhead},
    )
    demand = weighed(given)
    if demand.placement is not PlacementClass.EXCLUSIVE:
        return
    intent = make(demand, Placing())
    assert 1000 * intent.bubble >= whole(demand.total)["cpu"]
    assert intent.pool > 0 or not intent.sharers
    assert intent.bubble == bubble_cpus(demand)


STARVED: list[tuple[str, Pod, tuple[str, ...]]] = [
    ("slices below spec.resources leave some", pod(even("app", "2"), container("s"), requests=FOUR, limits=FOUR), ()),
    ("slices that are all of it leave none", pod(even("app", "4"), container("s"), requests=FOUR, limits=FOUR), ("s",)),
    ("for every container that shares",
     pod(even("app", "4"), container("s"), requests=FOUR, limits=FOUR, init=(container("m", restartable=True),)),
     ("m", "s")),
    ("an init container is not starved: it uses the slices before they are cut",
     pod(even("app", "4"), requests=FOUR, limits=FOUR, init=(container("i"),)), ()),
    ("nobody shares, nobody starves", pod(even("app", "4"), requests=FOUR, limits=FOUR), ()),
    ("a part of a CPU is enough",
     pod(even("app", "4"), container("s"), requests={"cpu": "4100m", "memory": "4Gi"}), ()),
    ("without spec.resources there is always a pool", pod(even("app", "4"), container("s")), ()),
    ("a bound pod owns nothing", pod(asking("app", "4"), container("s"), requests={"cpu": "4"}), ()),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "names"), STARVED, ids=[row[0] for row in STARVED])
def test_who_would_be_left_without_a_cpu(about: str, given: Pod, names: tuple[str, ...]) -> None:
    assert starved(weighed(given)) == names


def test_the_intent_of_an_exclusive_pod_is_complete() -> None:
    given = pod(
        even("app", "3", "2Gi", hugepages_1Gi="2Gi"),
        container("metrics", {"cpu": "100m", "memory": "64Mi", "nvidia.com/gpu": "0", "rdma/hca": "1"}),
        init=(asking("setup", "1", "1Gi"), asking("mesh", "200m", "128Mi", restartable=True)),
        overhead={"memory": "32Mi"},
    )
    intent = make(weighed(given), Placing())
    assert intent.parts == (
        Part("setup", Role.INIT, 0, GIB),
        Part("mesh", Role.SIDECAR, 0, 128 * MIB),
        Part("app", Role.APP, 3, 2 * GIB, {GIB: 2 * GIB}),
        Part("metrics", Role.APP, 0, 64 * MIB),
    )
    assert (intent.cpu, intent.memory) == (3300, (2048 + 64 + 128 + 32) * MIB)
    assert (intent.hugepages, intent.devices) == ({GIB: 2 * GIB}, {"rdma/hca": 1})
    assert (intent.bubble, intent.slices, intent.pool) == (4, 3, 1)
    assert intent.sharers == ("mesh", "metrics")


def test_a_bound_pod_owns_nothing() -> None:
    intent = make(weighed(pod(asking("app", "2500m", "1Gi"))), Placing())
    assert (intent.placement, intent.bubble, intent.slices) == (PlacementClass.BOUND, 0, 0)
    assert (intent.cpu, intent.memory) == (2500, GIB)


def test_policy_none_places_nobody() -> None:
    intent = make(weighed(pod(even("app", "4"))), Placing(policy=TopologyPolicy.NONE))
    assert (intent.placement, intent.bubble, intent.slices) == (PlacementClass.NONE, 0, 0)


NO_DEVICES = ["cpu", "memory", "ephemeral-storage", "hugepages-2Mi"]


@pytest.mark.parametrize("resource", NO_DEVICES)
def test_what_is_no_device(resource: str) -> None:
    assert make(weighed(pod(container("a", {resource: "2Mi"}))), Placing()).devices == {}


SIZES = [("hugepages-2Mi", 2 * MIB), ("hugepages-1Gi", GIB), ("hugepages-64Ki", 65_536), ("hugepages-2097152", 2 * MIB)]


@pytest.mark.parametrize(("resource", "size"), SIZES)
def test_a_huge_pages_name_tells_its_size(resource: str, size: int) -> None:
    assert page_size(resource) == size


@pytest.mark.parametrize("resource", ["hugepages-0", "hugepages--2Mi", "hugepages-+"])
def test_a_page_has_some_size(resource: str) -> None:
    with pytest.raises(InputError) as refusal:
        page_size(resource)
    assert str(refusal.value) == f"{resource}: the page size must be a positive quantity, as in hugepages-2Mi"


def test_two_names_of_one_page_size_are_added() -> None:
    given = pod(even("app", "1", hugepages_1Gi="2Gi", hugepages_1024Mi="1Gi"))
    assert make(weighed(given), Placing()).hugepages == {GIB: 3 * GIB}
