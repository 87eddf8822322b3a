"""The nodes that are known, arranged so that one question does not cost one look per node.

Nodes of one *family* have the same CPUs, caches, NUMA nodes and distances, and differ only in how much memory, huge
pages and devices each NUMA node has. More never hurts a pod. So it is enough to ask the family's *ideal* (the most that
any member has, per NUMA node): if that does not hold a pod, nobody in the family does; and to ask only members that are
not worse than another in everything. A cluster of thousands of nodes has a handful of families.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from shared.allocator import fits, offer
from shared.cpuset import EMPTY, CpuSet
from shared.intent import Intent
from shared.ledger import Book, Ledger, for_pods
from shared.placement import Misfit
from shared.topology import Machine

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Known:
    """One node or machine that is known, empty."""

    name: str
    ledger: Ledger

    def holds(self, intent: Intent) -> bool:
        """Whether the empty machine has a place for a pod."""
        return fits(self.ledger, intent)


@dataclass(frozen=True, slots=True)
class Family:
    """Nodes that differ only in amounts."""

    ideal: Ledger
    leaders: tuple[Known, ...]
    """The members that no other member beats in everything; the one with the most memory first."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One NUMA node of a known machine."""

    machine: str
    node: int
    cpu: int
    """Allocatable millicores."""
    memory: int | None
    """Allocatable bytes of ordinary pages; None when unknown."""


@dataclass(frozen=True, slots=True)
class Closest:
    """The machine that comes closest to holding a pod that none holds."""

    known: Known
    misfit: Misfit


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every node that counts for a verdict."""

    known: tuple[Known, ...]
    """All of them, in the order given."""
    families: tuple[Family, ...]
    largest: Zone | None
    """The NUMA node with the most CPUs, of those the one with the most memory."""

    @classmethod
    def of(cls, machines: Iterable[Machine], reserved: CpuSet = EMPTY, reserved_memory: int = 0) -> Inventory:
        """From machines, less what is reserved on each. Raises InputError where a reservation cannot be."""
        known = tuple(Known(m.name, Ledger.of(m, reserved, reserved_memory)) for m in machines)
        groups: dict[tuple[object, ...], list[Known]] = {}
        for each in known:
            groups.setdefault(_structure(each.ledger), []).append(each)
        families = tuple(_family(members) for members in groups.values())
        zones = [zone for family in families for leader in family.leaders for zone in zones_of(leader)]
        return cls(known, families, max(zones, key=lambda z: (z.cpu, z.memory or 0), default=None))

    def holder(self, intent: Intent) -> Known | None:
        """A machine that holds the pod, or None when no machine does."""
        for family in self.families:
            first, *others = family.leaders
            if first.holds(intent):
                return first
            if others and fits(family.ideal, intent):
                for leader in others:
                    if leader.holds(intent):
                        return leader
        return None

    def holders(self, intent: Intent) -> Iterator[str]:
        """The names of all machines that hold the pod."""
        return (each.name for each in self.known if each.holds(intent))

    def closest(self, intent: Intent) -> Closest | None:
        """Of machines that do not hold the pod, the one that lacks the least; None when there is none."""
        best: Closest | None = None
        for family in self.families:
            for leader in family.leaders[:1]:
                misfit = offer(leader.ledger, "", intent)
                if isinstance(misfit, Misfit) and (best is None or lack(misfit) < lack(best.misfit)):
                    best = Closest(leader, misfit)
        return best


def lack(misfit: Misfit) -> tuple[float, float]:
    """How far off a machine is: the worst resource's missing part first, then the sum of them."""
    short = [1 - misfit.found[r] / asked for r, asked in misfit.asked.items() if asked > misfit.found[r]]
    return max(short, default=0.0), sum(short)


def zones_of(known: Known) -> Iterator[Zone]:
    """The NUMA nodes of a machine that have CPUs."""
    layout = known.ledger.layout
    for site in layout.with_cpus:
        held = [layout.books[place].memory for place in site.domain]
        memory = None if any(m is None for m in held) else sum(m or 0 for m in held)
        yield Zone(known.name, site.id, 1000 * site.cpus.bit_count(), memory)


def _structure(ledger: Ledger) -> tuple[object, ...]:
    machine = ledger.layout.machine
    return (
        ledger.free,
        ledger.isolated,
        machine.cores,
        machine.uncore_caches,
        tuple((n.id, n.cpus, n.memory is None, bool(n.memory), for_pods(n)) for n in machine.numa_nodes),
        machine.distances,
        machine.known_devices,
    )


def _family(members: list[Known]) -> Family:
    members = sorted(members, key=lambda known: (-_memory(known), known.name))
    seen: set[tuple[object, ...]] = set()
    leaders: list[Known] = []
    for member in members:
        if _key(member) not in seen:
            seen.add(_key(member))
            if not any(_beats(leader, member) for leader in leaders):
                leaders.append(member)
    first = members[0].ledger
    books = tuple(_most([member.ledger.books[place] for member in members]) for place in range(len(first.books)))
    ideal = replace(first, layout=replace(first.layout, books=books), books=books)
    return Family(ideal, tuple(leaders))


def _key(known: Known) -> tuple[object, ...]:
    return tuple(
        (book.memory, tuple(sorted(book.pages.items())), tuple(sorted(book.devices.items())))
        for book in known.ledger.books
    )


def _memory(known: Known) -> int:
    return sum(book.memory or 0 for book in known.ledger.books)


def _beats(a: Known, b: Known) -> bool:
    """Whether a has at least as much of everything, everywhere."""
    return all(
        (ours.memory or 0) >= (theirs.memory or 0)
        and _covers(ours.pages, theirs.pages)
        and _covers(ours.devices, theirs.devices)
        for ours, theirs in zip(a.ledger.books, b.ledger.books, strict=True)
    )


def _covers(ours: Mapping[K, int], theirs: Mapping[K, int]) -> bool:
    return all(ours.get(key, 0) >= amount for key, amount in theirs.items())


def _most(books: list[Book]) -> Book:
    memory = [book.memory for book in books]
    return Book(
        memory=None if memory[0] is None else max(m or 0 for m in memory),
        pages=_most_of_each([book.pages for book in books]),
        devices=_most_of_each([book.devices for book in books]),
    )


def _most_of_each(amounts: list[Mapping[K, int]]) -> dict[K, int]:
    """By key the largest amount. One pass: a family can have thousands of members."""
    most: dict[K, int] = {}
    for each in amounts:
        for key, amount in each.items():
            most[key] = max(amount, most.get(key, 0))
    return most
