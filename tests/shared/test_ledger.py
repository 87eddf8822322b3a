"""Who owns what: every change keeps the laws, or is refused and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.errors import InputError, InvariantError
from shared.intent import Intent, Part
from shared.ledger import Ledger, for_pods
from shared.placement import Account, Placement
from shared.policy import Placing
from shared.sidecars import Role
from shared.topology import Machine, MemoryKind
from tests.support.machines import GIB, MIB, machine, memory_only

TWO = machine(2, 4, devices=[{"nvidia.com/gpu": 2}], hugepages={2 * MIB: 8})
"""CPUs 0-3 on NUMA node 0, 4-7 on node 1; the GPUs are on node 0."""


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


def exclusive(pod: str, bubble: str, *accounts: Account, **slices: str) -> Placement:
    """A placement as the allocator would make it, with a container for each slice and one that shares, if any."""
    owned = {name: cpus(text) for name, text in slices.items()}
    parts = [Part(name, Role.APP, len(mask)) for name, mask in owned.items()]
    size = len(cpus(bubble))
    if size > sum(part.slice for part in parts):
        parts.append(Part("rest", Role.APP))
    intent = Intent(PlacementClass.EXCLUSIVE, Placing(), tuple(parts), 1000 * size, bubble=size)
    nodes = tuple(node.id for node in TWO.numa_nodes if not node.cpus.isdisjoint(cpus(bubble)))
    return Placement(pod, intent, nodes, nodes, cpus(bubble), owned, accounts)


def bound(pod: str, millicores: int, node: int = 0) -> Placement:
    intent = Intent(PlacementClass.BOUND, Placing(), (Part("app", Role.APP),), millicores)
    return Placement(pod, intent, (node,), (node,), EMPTY, {}, (Account(node, bound_cpu=millicores),))


def test_an_empty_machine_is_all_shared() -> None:
    ledger = Ledger.of(TWO)
    assert str(ledger.node_shared_pool) == "0-7"
    assert [book.memory for book in ledger.books] == [64 * GIB - 16 * MIB] * 2  # less what the huge pages hold
    assert [dict(book.devices) for book in ledger.books] == [{"nvidia.com/gpu": 2}, {"nvidia.com/gpu": 0}]


def test_a_bubble_leaves_the_node_shared_pool() -> None:
    ledger = Ledger.of(TWO).commit(exclusive("a", "0-2", Account(0, memory=GIB), app="0-1"))
    assert str(ledger.node_shared_pool) == "3-7"
    assert ledger.books[0].memory == 63 * GIB - 16 * MIB


def test_release_gives_back_exactly_what_was_taken() -> None:
    empty = Ledger.of(TWO)
    first = exclusive("a", "0-1", Account(0, memory=GIB, pages={2 * MIB: 3}, devices={"nvidia.com/gpu": 1}), app="0-1")
    second = exclusive("b", "2,4", Account(0, memory=1), Account(1, memory=2, pages={2 * MIB: 1}), app="2,4")
    third = bound("c", 1500, node=1)
    full = empty.commit(first).commit(second).commit(third)
    assert full.release("b") == empty.commit(first).commit(third)
    assert full.release("a").release("c").release("b") == empty


def test_the_ledger_before_a_change_stands() -> None:
    before = Ledger.of(TWO)
    before.commit(exclusive("a", "0-1", Account(0, memory=GIB), app="0-1"))
    assert before == Ledger.of(TWO)


BUSY = Ledger.of(TWO).commit(exclusive("old", "0-1", app="0-1")).commit(bound("shy", 1500))

REFUSED: list[tuple[str, Placement, str]] = [
    ("a pod twice", exclusive("old", "4", app="4"), "pod old is placed already"),
    ("a CPU twice", exclusive("new", "1-2", app="1-2"), "pod new wants CPUs 1 that are not free"),
    ("a CPU that is not there", exclusive("new", "7-8", app="7-8"), "pod new wants CPUs 8 that are not free"),
    ("the last CPU", exclusive("new", "2-7", app="2-7"), "pod new would empty the node shared pool"),
    ("CPUs that bound pods need", exclusive("new", "3", app="3"),
     "pod new would starve the bound pods of NUMA node 0"),
    ("more bound pods than the pool can carry", bound("new", 501),
     "pod new would starve the bound pods of NUMA node 0"),
    ("memory that is not there", exclusive("new", "4", Account(1, memory=65 * GIB), app="4"),
     "NUMA node 1 would give more than it has: Account(node=1, bound_cpu=0, memory=69793218560, pages={}, devices={})"),
    ("huge pages that are not there", exclusive("new", "4", Account(1, pages={2 * MIB: 9}), app="4"),
     "NUMA node 1 would give more than it has: Account(node=1, bound_cpu=0, memory=0, pages={2097152: 9}, devices={})"),
    ("a page size that is not there", exclusive("new", "4", Account(1, pages={GIB: 1}), app="4"),
     "NUMA node 1 would give more than it has: "
     "Account(node=1, bound_cpu=0, memory=0, pages={1073741824: 1}, devices={})"),
    ("devices that are elsewhere", exclusive("new", "4", Account(1, devices={"nvidia.com/gpu": 1}), app="4"),
     "NUMA node 1 would give more than it has: "
     "Account(node=1, bound_cpu=0, memory=0, pages={}, devices={'nvidia.com/gpu': 1})"),
    ("a slice outside the bubble", exclusive("new", "4-5", app="5-6"),
     "pod new: the slice of app is not its own part of the bubble"),
    ("two slices of one CPU", exclusive("new", "4-6", a="4-5", b="5-6"),
     "pod new: the slice of b is not its own part of the bubble"),
    ("slices that leave nothing to share",
     replace(exclusive("new", "4-5", app="4-5"), intent=exclusive("new", "4-6", app="4-5").intent),
     "pod new has an empty pod shared pool"),
]  # fmt: skip


@pytest.mark.parametrize(("about", "placement", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_change_that_breaks_a_law_is_refused(about: str, placement: Placement, message: str) -> None:
    with pytest.raises(InvariantError) as refusal:
        BUSY.commit(placement)
    assert str(refusal.value) == message


def test_releasing_nobody_is_refused() -> None:
    with pytest.raises(InvariantError) as refusal:
        BUSY.release("nobody")
    assert str(refusal.value) == "pod nobody is not placed"


def test_what_is_exactly_enough_is_taken() -> None:
    assert str(BUSY.commit(exclusive("new", "4-7", app="4-7")).node_shared_pool) == "2-3"
    assert BUSY.commit(bound("new", 500)).books[0].bound_cpu == 2000


def test_the_part_of_the_node_shared_pool_that_a_pod_may_use() -> None:
    ledger = BUSY
    assert str(ledger.common(bound("x", 1))) == "2-3"
    assert str(ledger.common(bound("x", 1, node=1))) == "4-7"
    anywhere = replace(bound("x", 0), intent=Intent(PlacementClass.NONE, Placing(), ()), numa_nodes=(0, 1))
    assert str(ledger.common(anywhere)) == "2-7"


# What is reserved, isolated, offline or not for pods.

RESERVED: list[tuple[str, Machine, str, str, str]] = [
    ("nothing", TWO, "", "0-7", ""),
    ("some", TWO, "0,4", "1-3,5-7", ""),
    ("a whole NUMA node", TWO, "0-3", "4-7", ""),
    ("the machine's own reservation is added", replace(TWO, reserved=cpus("7")), "0", "1-6", ""),
    ("isolated CPUs are not in the node shared pool", machine(2, 4, isolated="6-7"), "", "0-5", "6-7"),
    ("an isolated CPU may be reserved", machine(2, 4, isolated="6-7"), "7", "0-5", "6"),
    ("offline CPUs are nobody's", machine(2, 4, offline="2"), "0", "1,3-7", ""),
]


@pytest.mark.parametrize(("about", "given", "reserved", "pool", "isolated"), RESERVED, ids=[row[0] for row in RESERVED])
def test_what_is_left_for_pods(about: str, given: Machine, reserved: str, pool: str, isolated: str) -> None:
    ledger = Ledger.of(given, cpus(reserved))
    assert (str(ledger.node_shared_pool), str(CpuSet(ledger.isolated))) == (pool, isolated)


IMPOSSIBLE: list[tuple[str, Machine, str, int, str]] = [
    ("CPUs that are not there", TWO, "7-9", 0, "machine small: cannot reserve CPUs 8-9; online are 0-7"),
    ("offline CPUs", machine(1, 4, offline="3"), "3", 0, "machine small: cannot reserve CPUs 3; online are 0-2"),
    ("all CPUs", TWO, "0-7", 0, "machine small: reserving CPUs 0-7 leaves the node shared pool empty"),
    ("all but isolated ones", machine(1, 4, isolated="2-3"), "0-1", 0,
     "machine small: reserving CPUs 0-1 leaves the node shared pool empty; 2-3 are isolated"),
    ("none, but all are isolated", machine(1, 2, isolated="0-1"), "", 0,
     "machine small: reserving CPUs none leaves the node shared pool empty; 0-1 are isolated"),
    ("more memory than there is", machine(1, 4, memory=GIB), "", GIB + 5,
     "machine small: cannot reserve 1073741829 B of memory; it has 1073741824 B"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("about", "given", "reserved", "memory", "message"), IMPOSSIBLE, ids=[row[0] for row in IMPOSSIBLE]
)
def test_a_reservation_that_cannot_be(about: str, given: Machine, reserved: str, memory: int, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        Ledger.of(given, cpus(reserved), memory)
    assert str(refusal.value) == message


MEMORY: list[tuple[str, Machine, str, int, list[int | None]]] = [
    ("off the lowest NUMA node", machine(2, 4, memory=4 * GIB), "", GIB, [3 * GIB, 4 * GIB]),
    ("off the one with the reserved CPUs", machine(2, 4, memory=4 * GIB), "4", GIB, [4 * GIB, 3 * GIB]),
    ("the rest off the others", machine(2, 4, memory=4 * GIB), "4", 5 * GIB, [3 * GIB, 0]),
    ("never off a GPU's", machine(1, 4, memory=4 * GIB, extra=[memory_only(1, 9 * GIB, MemoryKind.GPU)]), "", GIB,
     [3 * GIB, 9 * GIB]),
    ("huge pages are not touched", machine(1, 4, memory=4 * GIB, hugepages={GIB: 3}), "", GIB, [0]),
    ("where no memory is known nothing is weighed", machine(2, 4, memory=None), "", GIB, [None, None]),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "reserved", "memory", "left"), MEMORY, ids=[row[0] for row in MEMORY])
def test_reserved_memory(about: str, given: Machine, reserved: str, memory: int, left: list[int | None]) -> None:
    assert [book.memory for book in Ledger.of(given, cpus(reserved), memory).books] == left


DOMAINS: list[tuple[str, Machine, list[tuple[int, ...]]]] = [
    ("each NUMA node uses its own", TWO, [(0,), (1,)]),
    ("one without memory uses the nearest with",
     machine(3, 2, memory=[0, GIB, GIB], distances=[[10, 30, 20], [30, 10, 20], [20, 20, 10]]), [(2,), (1,), (2,)]),
    ("or several that are as near", machine(3, 2, memory=[0, GIB, GIB]), [(1, 2), (1,), (2,)]),
    ("be it without CPUs", machine(1, 2, memory=0, extra=[memory_only(1)]), [(1,), (1,)]),
    ("never a GPU's",
     machine(2, 2, memory=[0, GIB], extra=[memory_only(2, GIB, MemoryKind.GPU)],
             distances=[[10, 40, 12], [40, 10, 40], [12, 40, 10]]), [(1,), (1,), (2,)]),
    ("memory that nobody told of is taken to be there", machine(2, 2, memory=[None, GIB]), [(0,), (1,)]),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "domains"), DOMAINS, ids=[row[0] for row in DOMAINS])
def test_where_a_numa_node_has_its_memory(about: str, given: Machine, domains: list[tuple[int, ...]]) -> None:
    assert [site.domain for site in Ledger.of(given).layout.sites] == domains


@pytest.mark.parametrize("kind", MemoryKind)
def test_whose_memory_is_for_pods(kind: MemoryKind) -> None:
    assert for_pods(memory_only(1, GIB, kind)) is (kind not in (MemoryKind.GPU, MemoryKind.EMPTY))


WIDTHS = [("no SMT", 1, "", 1), ("two threads", 2, "", 2), ("eight", 8, "", 8), ("one sibling is offline", 2, "1", 0)]


@pytest.mark.parametrize(("about", "threads", "offline", "width"), WIDTHS, ids=[row[0] for row in WIDTHS])
def test_how_wide_cores_are(about: str, threads: int, offline: str, width: int) -> None:
    (site,) = Ledger.of(machine(1, 4, threads, offline=offline)).layout.sites
    assert site.width == width
