"""The nodes that are known, arranged so that one question does not cost one look per node.

Nodes of one *family* have the same CPUs, caches, NUMA nodes and distances, and differ only in how much memory, huge
pages and devices each NUMA node has. More never hurts a pod. So it is enough to ask the family's *ideal* (the most that
any member has, per NUMA node): if that does not hold a pod, nobody in the family does; and to ask only members that are
not worse than another in everything. A cluster of thousands of nodes has a handful of families.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

from shared.allocator import fits, offer
from shared.cpuset import EMPTY, CpuSet
from shared.intent import Intent
from shared.ledger import Book, Ledger, Site, for_pods
from shared.misfit import hugepages_name
from shared.placement import Misfit
from shared.quantity import spoken
from shared.topology import Machine


class Structure:
    """What nodes of one family share. Compared often, so that its hash is worked out once and equal ones are one."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, parts: tuple[object, ...]) -> None:
        self._parts = parts
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Structure) and self._parts == other._parts)


Structures = dict[Structure, Structure]
"""Those that were met, each by itself."""


@dataclass(frozen=True, slots=True)
class Known:
    """One node or machine that is known, empty."""

    name: str
    ledger: Ledger
    allocatable: Mapping[str, int] | None
    """What the scheduler gives to all pods of the node together: millicores, bytes, pieces. None where nobody says."""
    structure: Structure
    amounts: tuple[int, ...]
    """What members of a family differ in, in one order for all of them."""
    rank: tuple[int, str]
    """Sorts a family: the most memory first, then by name."""

    @classmethod
    def of(
        cls,
        machine: Machine,
        reserved: CpuSet = EMPTY,
        reserved_memory: int = 0,
        allocatable: Mapping[str, int] | None = None,
        met: Structures | None = None,
    ) -> Known:
        """A machine less what is reserved. Raises InputError where a reservation cannot be."""
        ledger = Ledger.of(machine, reserved, reserved_memory)
        structure = Structure(_structure(ledger, allocatable))
        structure = structure if met is None else met.setdefault(structure, structure)
        memory = sum(book.memory or 0 for book in ledger.books)
        return cls(machine.name, ledger, allocatable, structure, _amounts(ledger, allocatable), (-memory, machine.name))

    def holds(self, intent: Intent) -> bool:
        """Whether the empty machine has a place for a pod."""
        return _covers(self.allocatable, intent) and fits(self.ledger, intent)


@dataclass(frozen=True)
class Family:
    """Nodes that differ only in amounts."""

    members: tuple[Known, ...]
    """The one with the most memory first."""

    @cached_property
    def leaders(self) -> tuple[Known, ...]:
        """The members that no other member beats in everything. Worked out when it is asked for: most pods are held by
        the first member, or by none."""
        distinct = {member.amounts: member for member in reversed(self.members)}  # of equals the first
        found: list[Known] = []
        for member in self.members:
            if distinct[member.amounts] is member and not any(_beats(leader, member) for leader in found):
                found.append(member)
        return tuple(found)

    def holder(self, intent: Intent) -> Known | None:
        """A member that holds a pod; None when none does."""
        first = self.members[0]
        if first.holds(intent):
            return first
        if not self._may_hold(intent):
            return None
        return next((leader for leader in self.leaders if leader is not first and leader.holds(intent)), None)

    def _may_hold(self, intent: Intent) -> bool:
        ideal = self._ideal
        return ideal is not None and _covers(ideal[1], intent) and fits(ideal[0], intent)

    @cached_property
    def _ideal(self) -> tuple[Ledger, Mapping[str, int] | None] | None:
        """The most that any member has, of each amount; None where the first member has it all."""
        first = self.members[0]
        most = tuple(max(column) for column in zip(*(member.amounts for member in self.members), strict=True))
        if most == first.amounts:
            return None
        amounts = iter(most)
        books = tuple(_book(book, amounts) for book in first.ledger.books)
        allocatable = None if first.allocatable is None else dict(zip(sorted(first.allocatable), amounts, strict=True))
        return replace(first.ledger, layout=replace(first.ledger.layout, books=books), books=books), allocatable


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


@dataclass(frozen=True)
class Inventory:
    """Every node that counts for a verdict."""

    known: tuple[Known, ...]
    """All of them, in the order given."""
    families: tuple[Family, ...]

    @classmethod
    def of(cls, machines: Iterable[Machine], reserved: CpuSet = EMPTY, reserved_memory: int = 0) -> Inventory:
        """From machines, less what is reserved on each. Raises InputError where a reservation cannot be."""
        met: Structures = {}
        return cls.holding(Known.of(machine, reserved, reserved_memory, met=met) for machine in machines)

    @classmethod
    def holding(cls, known: Iterable[Known]) -> Inventory:
        """From machines that are known."""
        known = tuple(known)
        groups: dict[Structure, list[Known]] = {}
        for each in known:
            groups.setdefault(each.structure, []).append(each)
        families = (Family(tuple(sorted(members, key=attrgetter("rank")))) for members in groups.values())
        return cls(known, tuple(families))

    @cached_property
    def largest(self) -> Zone | None:
        """The NUMA node with the most CPUs, of those the one with the most memory."""
        zones = (zone for family in self.families for zone in _largest_of(family))
        return max(zones, key=lambda z: (z.cpu, z.memory or 0), default=None)

    def holder(self, intent: Intent) -> Known | None:
        """A machine that holds the pod, or None when no machine does."""
        return next((holder for family in self.families if (holder := family.holder(intent)) is not None), None)

    def holders(self, intent: Intent) -> Iterator[str]:
        """The names of all machines that hold the pod."""
        return (each.name for each in self.known if each.holds(intent))

    def closest(self, intent: Intent) -> Closest | None:
        """Of machines that do not hold the pod, the one that lacks the least; None when there is none."""
        best: Closest | None = None
        for family in self.families:
            misfit = _misfit(family.members[0], intent)
            if misfit is not None and (best is None or lack(misfit) < lack(best.misfit)):
                best = Closest(family.members[0], misfit)
        return best


def lack(misfit: Misfit) -> tuple[float, float]:
    """How far off a machine is: the worst resource's missing part first, then the sum of them."""
    short = [1 - misfit.found[r] / asked for r, asked in misfit.asked.items() if asked > misfit.found[r]]
    return max(short, default=0.0), sum(short)


def zones_of(known: Known) -> Iterator[Zone]:
    """The NUMA nodes of a machine that have CPUs."""
    return (_zone(known, site) for site in known.ledger.layout.with_cpus)


def _zone(known: Known, site: Site) -> Zone:
    held = [known.ledger.layout.books[place].memory for place in site.domain]
    memory = None if any(m is None for m in held) else sum(m or 0 for m in held)
    return Zone(known.name, site.id, 1000 * site.cpus.bit_count(), memory)


def _largest_of(family: Family) -> Iterator[Zone]:
    """For each NUMA node that has as many CPUs as any, the member with the most memory there."""
    sites = list(family.members[0].ledger.layout.with_cpus)
    most = max((site.cpus.bit_count() for site in sites), default=0)
    columns = _memory_columns(family.members[0].ledger)
    for site in sites:
        if site.cpus.bit_count() == most:
            held = [columns[place] for place in site.domain]
            yield _zone(max(family.members, key=lambda known: sum([known.amounts[column] for column in held])), site)


def _memory_columns(ledger: Ledger) -> list[int]:
    """Where among its amounts each NUMA node's memory stands."""
    columns, column = [], 0
    for book in ledger.books:
        columns.append(column)
        column += 1 + len(book.pages) + len(book.devices)
    return columns


def asked(intent: Intent) -> dict[str, int]:
    """What the scheduler counts of a pod: millicores, bytes, pieces."""
    pages = {hugepages_name(size): amount for size, amount in intent.hugepages.items()}
    return {"cpu": intent.cpu, "memory": intent.memory, **pages, **intent.devices}


def _covers(allocatable: Mapping[str, int] | None, intent: Intent) -> bool:
    if allocatable is None:
        return True
    return all(allocatable.get(name, 0) >= amount for name, amount in asked(intent).items() if amount)


def _misfit(known: Known, intent: Intent) -> Misfit | None:
    """Why a machine does not hold a pod: its NUMA nodes, or what the scheduler gives of it, whichever is less."""
    answer = offer(known.ledger, "", intent)
    wanted = asked(intent)
    misfit = answer if isinstance(answer, Misfit) else Misfit("", "", wanted, wanted)
    if _covers(known.allocatable, intent):
        return misfit if misfit is answer else None
    allocatable = known.allocatable or {}
    short = {name: allocatable.get(name, 0) for name, amount in wanted.items() if amount > allocatable.get(name, 0)}
    found = {name: min(amount, short.get(name, amount)) for name, amount in misfit.found.items()}
    told = " and ".join(spoken(name, amount, wanted[name]) for name, amount in short.items())
    hint = f"all pods of {known.name} together may have {told}"
    return replace(misfit, found=found, hint="; ".join(filter(None, (misfit.hint, hint))))


def _structure(ledger: Ledger, allocatable: Mapping[str, int] | None) -> tuple[object, ...]:
    machine = ledger.layout.machine
    return (
        ledger.free,
        ledger.isolated,
        machine.cores,
        machine.uncore_caches,
        tuple((n.id, n.cpus, n.memory is None, bool(n.memory), for_pods(n)) for n in machine.numa_nodes),
        machine.distances,
        tuple((tuple(sorted(book.pages)), tuple(sorted(book.devices))) for book in ledger.books),
        None if allocatable is None else tuple(sorted(allocatable)),
    )


def _amounts(ledger: Ledger, allocatable: Mapping[str, int] | None) -> tuple[int, ...]:
    """In the order in which :func:`_book` reads them again."""
    found: list[int] = []
    for book in ledger.books:
        found.append(book.memory or 0)
        found += (book.pages[size] for size in sorted(book.pages))
        found += (book.devices[name] for name in sorted(book.devices))
    found += (amount for _, amount in sorted((allocatable or {}).items()))
    return tuple(found)


def _book(like: Book, amounts: Iterator[int]) -> Book:
    memory = next(amounts)
    pages = {size: next(amounts) for size in sorted(like.pages)}
    devices = {name: next(amounts) for name in sorted(like.devices)}
    return Book(None if like.memory is None else memory, pages, devices)


def _beats(a: Known, b: Known) -> bool:
    """Whether a has at least as much of everything, everywhere."""
    return all(map(int.__ge__, a.amounts, b.amounts))
