"""Where pods go on small machines. Rows are sentences; CPU numbers are given where a rule leaves only one choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.allocator import keep, offer
from shared.cpuset import EMPTY, CpuSet
from shared.intent import Intent, make
from shared.ledger import Ledger
from shared.placement import Misfit, Placement
from shared.pod import Pod
from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy
from shared.topology import Machine, MemoryKind
from tests.support.audit import audit
from tests.support.machines import GIB, MIB, machine, memory_only
from tests.support.pods import asking, container, even, pod, weighed

TWO = machine(2, 4)
"""CPUs 0-3 on NUMA node 0, 4-7 on node 1; no SMT."""

SMT = machine(2, 4, 2)
"""CPUs 0-7 and 8-15, two to a core."""

SINGLE, RESTRICTED = TopologyPolicy.SINGLE_NUMA_NODE, TopologyPolicy.RESTRICTED
BEST_EFFORT, NONE = TopologyPolicy.BEST_EFFORT, TopologyPolicy.NONE


def intent(given: Pod, **placing: Any) -> Intent:
    return make(weighed(given), Placing(**placing))


def seat(ledger: Ledger, given: Pod, **placing: Any) -> Placement | Misfit:
    return offer(ledger, "web", intent(given, **placing))


def place(ledger: Ledger, given: Pod, **placing: Any) -> Placement:
    found = seat(ledger, given, **placing)
    assert isinstance(found, Placement), found
    kept = sum(node.pages or 0 for node in ledger.layout.machine.numa_nodes)
    kept -= sum(book.memory or 0 for book in ledger.layout.books)
    assert audit(ledger.layout.machine, ledger.commit(found), ledger.layout.reserved, kept) == []
    return found


def busy(machine: Machine, *pods: Pod, reserved: str = "", reserved_memory: int = 0, **placing: Any) -> Ledger:
    """A machine with pods on it."""
    ledger = Ledger.of(machine, CpuSet.parse(reserved), reserved_memory)
    for number, given in enumerate(pods):
        found = offer(ledger, f"old-{number}", intent(given, **placing))
        assert isinstance(found, Placement), found
        ledger = ledger.commit(found)
    return ledger


def app(cpu: int, memory: str = "1Gi", **pages: str) -> Pod:
    return pod(even("app", str(cpu), memory, restartable=False, **pages))


# One NUMA node.

GPU = {"nvidia.com/gpu": "1"}
WITH_GPU = pod(container("app", {"cpu": "2", "memory": "1Gi", **GPU}, {"cpu": "2", "memory": "1Gi", **GPU}))

SINGLES: list[tuple[str, Ledger, Pod, tuple[int, ...], str]] = [
    ("the first pod begins at the lowest CPU", busy(TWO), app(2), (0,), "0-1"),
    ("a rest is used up by who fits it", busy(TWO, app(2)), app(2), (0,), "2-3"),
    ("who does not fit the rest goes to the next node", busy(TWO, app(2)), app(3), (1,), "4-6"),
    ("a whole node for who needs one", busy(TWO, app(1)), app(4), (1,), "4-7"),
    ("memory decides where CPUs would not", busy(machine(2, 4, memory=[2 * GIB, 8 * GIB])), app(2, "4Gi"), (1,), "4-5"),
    ("huge pages decide", busy(machine(2, 4, hugepages=[{2 * MIB: 1}, {2 * MIB: 4}])), app(2, hugepages_2Mi="4Mi"),
     (1,), "4-5"),
    ("of their size", busy(machine(2, 4, hugepages=[{GIB: 4}, {GIB: 4, 2 * MIB: 2}])), app(2, hugepages_2Mi="4Mi"),
     (1,), "4-5"),
    ("devices decide", busy(machine(2, 4, devices=[{}, {"nvidia.com/gpu": 2}])), WITH_GPU, (1,), "4-5"),
    ("who needs no device does not sit before one", busy(machine(2, 4, devices=[{"nvidia.com/gpu": 2}])), app(2),
     (1,), "4-5"),
    ("unless there is no other room", busy(machine(2, 4, devices=[{"nvidia.com/gpu": 2}]), app(4)), app(2),
     (0,), "0-1"),
    ("a device that no NUMA node names is not weighed", busy(TWO), WITH_GPU, (0,), "0-1"),
    ("nor is memory that nobody knows", busy(machine(2, 4, memory=None)), app(2, "4Ti"), (0,), "0-1"),
    ("reserved CPUs are for nobody", busy(TWO, reserved="0-2"), app(2), (1,), "4-5"),
    ("reserved memory is for nobody", busy(machine(2, 4, memory=4 * GIB), reserved_memory=GIB), app(2, "4Gi"),
     (1,), "4-5"),
    ("what a bound pod asks for is kept", busy(TWO, pod(asking("b", "2500m"))), app(2), (1,), "4-5"),
    ("and no more", busy(TWO, pod(asking("b", "2500m"))), app(1), (0,), "0"),
]  # fmt: skip


@pytest.mark.parametrize(("about", "ledger", "given", "nodes", "bubble"), SINGLES, ids=[row[0] for row in SINGLES])
def test_the_one_numa_node_of_a_pod(
    about: str, ledger: Ledger, given: Pod, nodes: tuple[int, ...], bubble: str
) -> None:
    found = place(ledger, given)
    assert (found.numa_nodes, found.memory_nodes, str(found.bubble)) == (nodes, nodes, bubble)


def test_cpus_memory_huge_pages_and_devices_have_to_be_on_one_node_together() -> None:
    scattered = machine(
        4, 4, memory=[64 * GIB, 2 * GIB, 64 * GIB, 64 * GIB],
        hugepages=[{GIB: 1}, {GIB: 1}, {}, {GIB: 1}], devices=[{"nic": 1}, {"nic": 1}, {"nic": 1}],
    )  # fmt: skip
    wish = pod(container("app", dict.fromkeys(("cpu", "nic"), "1") | {"memory": "4Gi", "hugepages-1Gi": "1Gi"}))
    both = replace(wish, containers=(replace(wish.containers[0], limits=wish.containers[0].requests),))
    taken = busy(scattered, both)  # node 0 had all four
    assert taken.placements["old-0"].numa_nodes == (0,)
    assert isinstance(seat(taken, both), Misfit)
    assert isinstance(seat(Ledger.of(scattered, CpuSet.parse("0-3")), both), Misfit)


# Several NUMA nodes, and the four policies.

FIVE = busy(machine(2, 5), app(3), app(3))
"""Two CPUs are left on either NUMA node of five."""

POLICIES: list[tuple[str, Ledger, Pod, dict[TopologyPolicy, tuple[int, ...] | None]]] = [
    ("what one node holds", busy(TWO), app(3),
     {SINGLE: (0,), RESTRICTED: (0,), BEST_EFFORT: (0,)}),
    ("what one node never holds", busy(TWO), app(6),
     {SINGLE: None, RESTRICTED: (0, 1), BEST_EFFORT: (0, 1)}),
    ("what one node would hold if it were empty", FIVE, app(3),
     {SINGLE: None, RESTRICTED: None, BEST_EFFORT: (0, 1)}),
    ("a bound pod that one node never holds", busy(TWO), pod(asking("a", "5")),
     {SINGLE: None, RESTRICTED: (0, 1), BEST_EFFORT: (0, 1)}),
    ("memory that one node never has", busy(machine(2, 4, memory=4 * GIB)), app(2, "6Gi"),
     {SINGLE: None, RESTRICTED: (0, 1), BEST_EFFORT: (0, 1)}),
    ("more than there is", busy(TWO), app(9),
     {SINGLE: None, RESTRICTED: None, BEST_EFFORT: None}),
    ("all there is but for the pool", busy(TWO), app(8),
     {SINGLE: None, RESTRICTED: None, BEST_EFFORT: None}),
]  # fmt: skip


@pytest.mark.parametrize(("about", "ledger", "given", "expected"), POLICIES, ids=[row[0] for row in POLICIES])
def test_a_policy_is_the_topology_managers(
    about: str, ledger: Ledger, given: Pod, expected: dict[TopologyPolicy, tuple[int, ...] | None]
) -> None:
    for policy, nodes in expected.items():
        found = seat(ledger, given, policy=policy)
        assert (found.numa_nodes if isinstance(found, Placement) else None) == nodes, policy


def test_policy_none_takes_the_node_shared_pool_and_all_memory() -> None:
    given = machine(2, 4, extra=[memory_only(2), memory_only(3, GIB, MemoryKind.GPU)])
    found = place(busy(given, app(3)), app(6), policy=NONE)
    assert (found.numa_nodes, found.memory_nodes, found.bubble, found.accounts) == ((0, 1), (0, 1, 2), EMPTY, ())


RING = [[10, 21, 12, 31], [21, 10, 31, 12], [12, 31, 10, 21], [31, 12, 21, 10]]

DISTANCES: list[tuple[str, Ledger, int, tuple[int, ...]]] = [
    ("two nodes are the closest two", busy(machine(4, 2, distances=RING)), 4, (0, 2)),
    ("of those with room", busy(machine(4, 3, distances=RING), app(3)), 5, (1, 3)),
    ("three when two do not do", busy(machine(4, 2, distances=RING)), 6, (0, 1, 2)),
    ("no more than needed, however close", busy(machine(3, 4, distances=[[10, 11, 90], [11, 10, 11], [90, 11, 10]])),
     7, (0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("about", "ledger", "cpus", "nodes"), DISTANCES, ids=[row[0] for row in DISTANCES])
def test_several_numa_nodes_are_the_fewest_and_the_closest(
    about: str, ledger: Ledger, cpus: int, nodes: tuple[int, ...]
) -> None:
    assert place(ledger, app(cpus), policy=BEST_EFFORT).numa_nodes == nodes


def test_a_spanning_pods_memory_follows_its_cpus() -> None:
    found = place(busy(machine(2, 4, memory=8 * GIB)), app(6, "6Gi"), policy=BEST_EFFORT)
    taken = {node: len(found.bubble & TWO.numa_nodes[node].cpus) for node in found.numa_nodes}
    assert {account.node: account.memory for account in found.accounts} == {n: c * GIB for n, c in taken.items()}


# Memory that is elsewhere.

ELSEWHERE: list[tuple[str, Machine, tuple[int, ...]]] = [
    ("the only other node", machine(1, 4, memory=0, extra=[memory_only(1)]), (1,)),
    ("never a GPU's", machine(1, 4, memory=0, extra=[memory_only(1, kind=MemoryKind.GPU), memory_only(2)]), (2,)),
    ("the nearest", machine(1, 4, memory=0, extra=[memory_only(1), memory_only(2)],
                            distances=[[10, 40, 20], [40, 10, 40], [20, 40, 10]]), (2,)),
    ("its own, however much is elsewhere", machine(1, 4, extra=[memory_only(1, 2**50)]), (0,)),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "memory_nodes"), ELSEWHERE, ids=[row[0] for row in ELSEWHERE])
def test_the_memory_of_a_pod(about: str, given: Machine, memory_nodes: tuple[int, ...]) -> None:
    found = place(Ledger.of(given), app(2, "2Gi"))
    assert (found.numa_nodes, found.memory_nodes) == ((0,), memory_nodes)
    assert sum(account.memory for account in found.accounts) == 2 * GIB


# SMT.

CORES: list[tuple[str, Ledger, Pod, Smt, str, dict[str, str]]] = [
    ("full cores: one CPU takes its sibling along", busy(SMT), app(1), Smt.FULL_CORES, "0-1", {"app": "0"}),
    ("an even number takes whole cores", busy(SMT), app(4), Smt.FULL_CORES, "0-3", {"app": "0-3"}),
    ("an odd one another half", busy(SMT), app(3), Smt.FULL_CORES, "0-3", {"app": "0-2"}),
    ("no core of another pod", busy(SMT, app(1)), app(1), Smt.FULL_CORES, "2-3", {"app": "2"}),
    ("a slice that fills cores has them to itself, whatever the order",
     busy(SMT), pod(even("a", "1"), even("b", "2")), Smt.FULL_CORES, "0-3", {"a": "2", "b": "0-1"}),
    ("the half that is left over is the pod's pool",
     busy(SMT), pod(even("a", "1"), container("s")), Smt.FULL_CORES, "0-1", {"a": "0"}),
    ("share: exactly what was asked", busy(SMT), app(1), Smt.SHARE, "0", {"app": "0"}),
    ("and the sibling for the next", busy(SMT, app(1), smt=Smt.SHARE), app(1), Smt.SHARE, "1", {"app": "1"}),
    ("whole cores all the same where the number allows", busy(SMT, app(1), smt=Smt.SHARE), app(2), Smt.SHARE, "2-3",
     {"app": "2-3"}),
    ("a half core does not count as full", busy(machine(1, 2, 2), app(1), smt=Smt.SHARE), app(1), Smt.FULL_CORES,
     "2-3", {"app": "2"}),
    ("eight threads", busy(machine(1, 2, 8)), app(8), Smt.FULL_CORES, "0-7", {"app": "0-7"}),
]  # fmt: skip


@pytest.mark.parametrize(("about", "ledger", "given", "smt", "bubble", "slices"), CORES, ids=[row[0] for row in CORES])
def test_cores(about: str, ledger: Ledger, given: Pod, smt: Smt, bubble: str, slices: dict[str, str]) -> None:
    found = place(ledger, given, smt=smt)
    assert str(found.bubble) == bubble
    assert {name: str(cpus) for name, cpus in found.slices.items()} == slices


# Uncore caches.

CACHES = machine(1, 12, caches=3)
"""CPUs 0-3, 4-7 and 8-11, each behind an L3 cache."""

UNCORE: list[tuple[str, Ledger, int, str]] = [
    ("a whole cache for who fills one", busy(CACHES), 4, "0-3"),
    ("an untouched one, where the first is broken into", busy(CACHES, app(1)), 4, "4-7"),
    ("who needs less goes where there is the least room", busy(CACHES, app(1)), 2, "1-2"),
    ("a cache and a part of one that is broken into", busy(CACHES, app(2)), 6, "2-7"),
    ("two caches", busy(CACHES), 8, "0-7"),
    ("no cache is broken into where a rest will do", busy(CACHES, app(2), app(3)), 2, "2-3"),
]


@pytest.mark.parametrize(("about", "ledger", "cpus", "bubble"), UNCORE, ids=[row[0] for row in UNCORE])
def test_uncore_caches_are_kept_whole_where_that_costs_nothing(
    about: str, ledger: Ledger, cpus: int, bubble: str
) -> None:
    assert str(place(ledger, app(cpus)).bubble) == bubble


# Isolated CPUs.

ISOLATED = machine(2, 4, isolated="6-7")

ISOLATIONS: list[tuple[str, Isolation, Pod, str]] = [
    ("they are not for everybody", Isolation.AUTO, app(3), "0-2"),
    ("nor for partitions", Isolation.PARTITION, app(3), "0-2"),
    ("but for those that ask", Isolation.ISOLATED, app(2), "6-7"),
    ("if they are enough; else ordinary ones", Isolation.ISOLATED, app(3), "0-2"),
]


@pytest.mark.parametrize(("about", "isolation", "given", "bubble"), ISOLATIONS, ids=[row[0] for row in ISOLATIONS])
def test_isolated_cpus(about: str, isolation: Isolation, given: Pod, bubble: str) -> None:
    ledger = Ledger.of(ISOLATED)
    found = place(ledger, given, isolation=isolation)
    assert str(found.bubble) == bubble
    assert ledger.commit(found).release("web") == ledger


def test_a_bound_pod_never_counts_on_isolated_cpus() -> None:
    found = place(Ledger.of(ISOLATED), pod(asking("b", "3")), isolation=Isolation.ISOLATED)
    assert found.numa_nodes == (0,)


# Scope container.


def test_scope_container_aligns_each_owner_by_itself() -> None:
    wish = pod(even("a", "3"), even("b", "3"), container("rest"))
    assert isinstance(seat(busy(TWO), wish), Misfit)
    found = place(busy(TWO), wish, scope=Scope.CONTAINER)
    assert found.numa_nodes == (0, 1)
    assert {str(found.slices["a"]), str(found.slices["b"])} == {"0-2", "4-6"}
    assert len(found.pool) == 1


def test_scope_container_does_not_part_what_one_node_holds() -> None:
    assert place(busy(TWO), pod(even("a", "2"), even("b", "1")), scope=Scope.CONTAINER).numa_nodes == (0,)


def test_scope_container_still_wants_one_node_for_each() -> None:
    found = seat(busy(TWO), pod(even("a", "5"), even("b", "1")), scope=Scope.CONTAINER)
    assert isinstance(found, Misfit)
    assert found.asked["cpu"] == 5000


def test_scope_container_accounts_each_containers_memory_where_it_is() -> None:
    wish = pod(even("a", "3", "3Gi"), even("b", "3", "1Gi"), overhead={"memory": "1Gi"})
    found = place(busy(TWO), wish, scope=Scope.CONTAINER)
    assert {account.node: account.memory for account in found.accounts} == {0: 4 * GIB, 1: GIB}


# Bound pods.


def test_a_bound_pod_uses_the_node_shared_pool_of_one_numa_node() -> None:
    ledger = busy(TWO, app(2))
    found = place(ledger, pod(asking("b", "1500m", "2Gi")))
    assert (found.numa_nodes, found.bubble, found.slices) == ((0,), EMPTY, {})
    after = ledger.commit(found)
    assert str(found.cpus_of("b", after.common(found))) == "2-3"
    assert (after.books[0].bound_cpu, after.books[0].memory) == (1500, 64 * GIB - 3 * GIB)


def test_bound_pods_fill_no_more_than_there_is() -> None:
    ledger = busy(TWO, pod(asking("b", "3500m")))
    assert place(ledger, pod(asking("b", "500m"))).numa_nodes == (0,)
    assert place(ledger, pod(asking("b", "600m"))).numa_nodes == (1,)


def test_later_bubbles_never_starve_bound_pods() -> None:
    ledger = busy(TWO, pod(asking("b", "3500m")), pod(asking("b", "1100m")))
    assert str(place(ledger, app(2)).bubble) == "4-5"
    assert isinstance(seat(ledger, app(3)), Misfit)


def test_a_bound_pod_that_asks_for_memory_only_is_placed_by_it() -> None:
    found = place(busy(machine(2, 4, memory=[GIB, 4 * GIB])), pod(container("b", {"memory": "2Gi"})))
    assert (found.numa_nodes, found.memory_nodes) == ((1,), (1,))


# What a container may run on.


def test_init_containers_use_the_bubble_less_the_slices_of_sidecars_before_them() -> None:
    wish = pod(
        even("app", "4"),
        container("helper"),
        init=(asking("setup", "1"), even("mesh", "1", restartable=True), asking("warm", "1")),
    )
    found = place(busy(machine(1, 8)), wish)
    cpus = {part.name: found.cpus_of(part.name, EMPTY) for part in found.intent.parts}
    assert {name: len(mask) for name, mask in cpus.items()} == {
        "setup": 6, "mesh": 1, "warm": 5, "app": 4, "helper": 1
    }  # fmt: skip
    assert cpus["setup"] == found.bubble
    assert cpus["warm"] == found.bubble - cpus["mesh"]
    assert cpus["app"].isdisjoint(cpus["mesh"])
    assert cpus["helper"] == found.pool == found.bubble - cpus["app"] - cpus["mesh"]


def test_a_container_that_is_not_the_pods_has_no_cpus() -> None:
    with pytest.raises(KeyError):
        place(busy(TWO), app(1)).cpus_of("nobody", EMPTY)


def test_an_offer_changes_nothing_and_is_the_same_twice() -> None:
    ledger = busy(TWO, app(1))
    assert seat(ledger, app(2)) == seat(ledger, app(2))
    assert ledger == busy(TWO, app(1))


# Refusals.

MISFITS: list[tuple[str, Ledger, Pod, dict[str, Any], str]] = [
    ("too many CPUs", busy(TWO), app(6), {}, "asks 6 CPUs; NUMA node 0, the roomiest, has 4 CPUs free"),
    ("the roomiest of several", busy(TWO, app(2)), app(5), {},
     "asks 5 CPUs; NUMA node 1, the roomiest, has 4 CPUs free"),
    ("one CPU is said in the singular", busy(machine(2, 2), app(1), app(2)), app(2), {},
     "asks 2 CPUs; NUMA node 0, the roomiest, has 0 CPUs free; 1 CPU is free, but only whole cores count, and the node "
     "shared pool keeps its share"),
    ("too much memory", busy(machine(2, 4, memory=8 * GIB)), app(2, "10Gi"), {},
     "asks 10 GiB; NUMA node 0, the roomiest, has 8 GiB free"),
    ("a byte too much", busy(machine(1, 4, memory=8 * GIB)), app(2, str(8 * GIB + 1)), {},
     "asks 8589934593 B; NUMA node 0, the roomiest, has 8589934592 B free"),
    ("CPUs and memory", busy(machine(2, 4, memory=8 * GIB)), app(6, "10Gi"), {},
     "asks 6 CPUs and 10 GiB; NUMA node 0, the roomiest, has 4 CPUs and 8 GiB free"),
    ("huge pages", busy(machine(2, 4, hugepages={2 * MIB: 4})), app(2, hugepages_2Mi="10Mi"), {},
     "asks 10 MiB of hugepages-2Mi; NUMA node 0, the roomiest, has 8 MiB of hugepages-2Mi free"),
    ("devices", busy(machine(2, 4, devices=[{}, {"nvidia.com/gpu": 0}])), WITH_GPU, {},
     "asks 1 nvidia.com/gpu; NUMA node 0, the roomiest, has 0 nvidia.com/gpu free"),
    ("all NUMA nodes together", busy(TWO), app(9), {"policy": BEST_EFFORT},
     "asks 9 CPUs; all NUMA nodes together have 7 CPUs free"),
    ("half cores do not count", busy(machine(1, 4, 2), app(1), smt=Smt.SHARE), app(7), {},
     "asks 7 CPUs; NUMA node 0, the roomiest, has 6 CPUs free; 7 CPUs are free, but only whole cores count, and the "
     "node shared pool keeps its share"),
    ("the node shared pool keeps one", busy(machine(1, 4)), app(4), {"smt": Smt.SHARE},
     "asks 4 CPUs; NUMA node 0, the roomiest, has 3 CPUs free; 4 CPUs are free, but the node shared pool keeps its "
     "share"),
    ("bound pods", busy(machine(1, 2)), pod(asking("b", "2500m")), {},
     "asks 2.5 CPUs; NUMA node 0, the roomiest, has 2 CPUs free"),
]  # fmt: skip


@pytest.mark.parametrize(("about", "ledger", "given", "placing", "message"), MISFITS, ids=[row[0] for row in MISFITS])
def test_a_refusal_says_what_was_asked_and_what_was_found(
    about: str, ledger: Ledger, given: Pod, placing: dict[str, Any], message: str
) -> None:
    found = seat(ledger, given, **placing)
    assert isinstance(found, Misfit)
    assert found.message == message
    assert found.asked.keys() == found.found.keys()


# Cores of different width.


def test_the_last_core_is_never_wider_than_what_may_be_taken() -> None:
    """Cores 0-1, 2-3 and 4; the narrow one is taken, and a bound pod needs a CPU of the rest."""
    ledger = busy(machine(1, 3, 2, offline="5"), app(1), pod(asking("b", "100m")))
    assert str(ledger.placements["old-0"].bubble) == "4"
    found = seat(ledger, app(3))
    assert isinstance(found, Misfit)
    assert found.message != "asks 3 CPUs; NUMA node 0, the roomiest, has 3 CPUs free"


# A pod that has its CPUs already.


def test_a_kept_place_is_the_one_that_was_offered() -> None:
    ledger = Ledger.of(SMT)
    for given in (app(4), app(5), pod(even("a", "2"), even("b", "1"), asking("proxy", "500m"))):
        offered = place(ledger, given)
        assert keep(ledger, "web", offered.intent, offered.bubble, offered.slices) == offered


def test_a_kept_place_cuts_the_slices_that_nobody_knows_out_of_the_rest() -> None:
    wanted = intent(pod(even("a", "2"), even("b", "1"), asking("proxy", "500m")))
    kept = keep(Ledger.of(TWO), "web", wanted, CpuSet.parse("4-7"), {"b": CpuSet.parse("4")})
    assert kept is not None
    assert {name: str(cpus) for name, cpus in kept.slices.items()} == {"a": "5-6", "b": "4"}
    assert (str(kept.pool), kept.numa_nodes, kept.memory_nodes) == ("7", (1,), (1,))
    assert sum(account.memory for account in kept.accounts) == wanted.memory


@pytest.mark.parametrize("cpus", ["", "0-1", "6-9"])
def test_cpus_that_are_not_for_pods_are_no_place(cpus: str) -> None:
    ledger = Ledger.of(TWO, CpuSet.parse("0"))
    assert keep(ledger, "web", intent(app(2)), CpuSet.parse(cpus), {}) is None
