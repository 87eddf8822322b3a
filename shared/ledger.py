"""Who owns what on one machine.

A ledger is a value. :meth:`Ledger.commit` and :meth:`Ledger.release` return the next one, or refuse with InvariantError
and leave this one as it was. What always holds:

1. No CPU is in two bubbles, nor in a bubble and the node shared pool.
2. The node shared pool is never empty.
3. A bubble is its slices and its pod shared pool, and the pool is not empty while a container lives in it.
4. On no NUMA node do bound pods ask for more CPU than the node shared pool has there.
5. On no NUMA node is more memory, or are more huge pages or devices, given than it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from functools import lru_cache
from typing import TypeVar

from shared.cores import Group
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.errors import InputError, InvariantError
from shared.placement import Account, Placement
from shared.quantity import spoken
from shared.topology import Machine, MemoryKind, NumaNode
from shared.value import value

K = TypeVar("K")


@value
class Book:
    """What is left on one NUMA node."""

    memory: int | None
    """Free bytes of ordinary pages; None where the machine does not say: then memory is not weighed."""
    pages: Mapping[int, int]
    """Huge page size in bytes to free pages."""
    devices: Mapping[str, int]
    bound_cpu: int = 0
    """Millicores that bound pods ask of the node shared pool here."""


@value
class Site:
    """The unchanging side of one NUMA node."""

    id: int
    place: int
    """Position among the machine's NUMA nodes."""
    cpus: int
    """Allocatable CPUs, isolated ones included, as a bit mask."""
    groups: tuple[Group, ...]
    """The cores, by uncore cache."""
    width: int
    """SMT threads of every core here; 0 when cores differ."""
    domain: tuple[int, ...]
    """Places of the NUMA nodes that hold this one's memory: itself, or the nearest with any when it has none."""
    nearest: tuple[int, ...]
    """Places of all NUMA nodes with CPUs, nearest first, itself included."""


@value
class Layout:
    """A machine less what is reserved: everything that no placement changes."""

    machine: Machine
    reserved: CpuSet
    pool: int
    """CPUs of the node shared pool while no bubble exists, as a bit mask."""
    isolated: int
    """Allocatable CPUs that the kernel keeps out of load balancing; only intents that ask for ``isolated`` get them."""
    sites: tuple[Site, ...]
    """One for each NUMA node of the machine, in its order."""
    books: tuple[Book, ...]

    @property
    def with_cpus(self) -> Iterator[Site]:
        """NUMA nodes that have CPUs to give."""
        return (site for site in self.sites if site.cpus)


@value
class Ledger:
    """The state of one machine."""

    layout: Layout
    free: int
    """The node shared pool, as a bit mask."""
    isolated: int
    """Isolated CPUs that nobody owns, as a bit mask."""
    books: tuple[Book, ...]
    placements: Mapping[str, Placement] = field(default_factory=dict)

    @classmethod
    def of(cls, machine: Machine, reserved: CpuSet = EMPTY, reserved_memory: int = 0) -> Ledger:
        """An empty machine. Raises InputError when the reservation leaves nothing, or names CPUs that are not there."""
        layout = lay_out(machine, machine.reserved | reserved, reserved_memory)
        return cls(layout, layout.pool, layout.isolated, layout.books)

    @property
    def node_shared_pool(self) -> CpuSet:
        """Allocatable CPUs that no bubble owns."""
        return CpuSet(self.free)

    def common(self, placement: Placement) -> CpuSet:
        """The part of the node shared pool that a placed pod may use."""
        if placement.intent.placement is PlacementClass.NONE:
            return self.node_shared_pool
        machine = self.layout.machine
        cpus = 0
        for node in placement.numa_nodes:
            cpus |= machine.numa_nodes[machine.index[node]].cpus.mask
        return CpuSet(self.free & cpus)

    def commit(self, placement: Placement) -> Ledger:
        """The ledger with the placement in it."""
        if placement.pod in self.placements:
            raise InvariantError(f"pod {placement.pod} is placed already")
        _check_bubble(placement)
        mask = placement.bubble.mask
        if mask & ~(self.free | self.isolated):
            taken = CpuSet(mask & ~(self.free | self.isolated))
            raise InvariantError(f"pod {placement.pod} wants CPUs {taken} that are not free")
        books = self._booked(placement.accounts, 1)
        after = replace(
            self,
            free=self.free & ~mask,
            isolated=self.isolated & ~mask,
            books=books,
            placements={**self.placements, placement.pod: placement},
        )
        after._check_pool(placement.pod)
        return after

    def release(self, pod: str) -> Ledger:
        """The ledger without the pod's placement."""
        if pod not in self.placements:
            raise InvariantError(f"pod {pod} is not placed")
        placement = self.placements[pod]
        mask = placement.bubble.mask
        return replace(
            self,
            free=self.free | mask & self.layout.pool,
            isolated=self.isolated | mask & self.layout.isolated,
            books=self._booked(placement.accounts, -1),
            placements={key: value for key, value in self.placements.items() if key != pod},
        )

    def _booked(self, accounts: tuple[Account, ...], sign: int) -> tuple[Book, ...]:
        books = list(self.books)
        for account in accounts:
            place = self.layout.machine.index[account.node]
            books[place] = _book(books[place], account, sign)
        return tuple(books)

    def _check_pool(self, pod: str) -> None:
        if not self.free:
            raise InvariantError(f"pod {pod} would empty the node shared pool")
        for site, book in zip(self.layout.sites, self.books, strict=True):
            if book.bound_cpu and book.bound_cpu > 1000 * (self.free & site.cpus).bit_count():
                raise InvariantError(f"pod {pod} would starve the bound pods of NUMA node {site.id}")


def _check_bubble(placement: Placement) -> None:
    owned = 0
    for name, cpus in placement.slices.items():
        if owned & cpus.mask or not cpus <= placement.bubble:
            raise InvariantError(f"pod {placement.pod}: the slice of {name} is not its own part of the bubble")
        owned |= cpus.mask
    if placement.bubble and placement.intent.sharers and owned == placement.bubble.mask:
        raise InvariantError(f"pod {placement.pod} has an empty pod shared pool")


def _book(book: Book, account: Account, sign: int) -> Book:
    after = Book(
        memory=None if book.memory is None else book.memory - sign * account.memory,
        pages=_less(book.pages, account.pages, sign) if account.pages else book.pages,
        devices=_less(book.devices, account.devices, sign) if account.devices else book.devices,
        bound_cpu=book.bound_cpu + sign * account.bound_cpu,
    )
    if min(after.memory or 0, after.bound_cpu, *after.pages.values(), *after.devices.values(), 0) < 0:
        raise InvariantError(f"NUMA node {account.node} would give more than it has: {account}")
    return after


def _less(have: Mapping[K, int], taken: Mapping[K, int], sign: int) -> Mapping[K, int]:
    return {**have, **{key: have.get(key, 0) - sign * count for key, count in taken.items() if count}}


def lay_out(machine: Machine, reserved: CpuSet, reserved_memory: int) -> Layout:
    """Take the reservation off a machine."""
    if not reserved <= machine.online:
        raise InputError(
            f"machine {machine.name}: cannot reserve CPUs {reserved - machine.online}; online are {machine.online}"
        )
    usable = (machine.online - reserved).mask
    if not usable & ~machine.isolated.mask:
        isolated = f"; {machine.isolated} are isolated" if machine.isolated else ""
        raise InputError(
            f"machine {machine.name}: reserving CPUs {reserved or 'none'} leaves the node shared pool empty{isolated}"
        )
    with_cpus = [place for place, node in enumerate(machine.numa_nodes) if node.cpus.mask & usable]
    return Layout(
        machine=machine,
        reserved=reserved,
        pool=usable & ~machine.isolated.mask,
        isolated=usable & machine.isolated.mask,
        sites=tuple(_sites(machine, usable, with_cpus)),
        books=_books(machine, reserved, reserved_memory),
    )


def _sites(machine: Machine, usable: int, with_cpus: list[int]) -> Iterator[Site]:
    cpus = tuple(node.cpus for node in machine.numa_nodes)
    for place, groups in enumerate(_core_groups(machine.cores, machine.uncore_caches, cpus)):
        row = machine.distances[place]
        widths = {core.bit_count() for group in groups for core in group.cores}
        yield Site(
            id=machine.numa_nodes[place].id,
            place=place,
            cpus=cpus[place].mask & usable,
            groups=groups,
            width=widths.pop() if len(widths) == 1 else 0,
            domain=_domain(machine, place),
            nearest=tuple(sorted(with_cpus, key=lambda other: (row[other], other))),
        )


@lru_cache(maxsize=256)
def _core_groups(
    cores: tuple[CpuSet, ...], caches: tuple[CpuSet, ...], nodes: tuple[CpuSet, ...]
) -> tuple[tuple[Group, ...], ...]:
    """For each NUMA node its cores by last-level cache. A cluster has thousands of machines of a few types."""
    masks = [cache.mask for cache in caches]
    return tuple(_by_cache([core.mask for core in cores if core.mask & node.mask], masks) for node in nodes)


def _by_cache(cores: list[int], caches: list[int]) -> tuple[Group, ...]:
    groups: dict[int, list[int]] = {}
    for core in cores:
        cache = next((index for index, mask in enumerate(caches) if mask & core), -1)
        groups.setdefault(cache, []).append(core)
    return tuple(Group(sum(group), tuple(group)) for group in groups.values())


def _domain(machine: Machine, place: int) -> tuple[int, ...]:
    node = machine.numa_nodes[place]
    if not node.cpus or node.memory is None or node.memory > 0:
        return (place,)
    row = machine.distances[place]
    holders = [p for p, other in enumerate(machine.numa_nodes) if other.memory and for_pods(other)]
    nearest = min((row[p] for p in holders), default=0)
    return tuple(p for p in holders if row[p] == nearest)


def for_pods(node: NumaNode) -> bool:
    """Whether a NUMA node's memory may ever serve a pod: never a GPU's."""
    return node.kind not in (MemoryKind.GPU, MemoryKind.EMPTY)


def _books(machine: Machine, reserved: CpuSet, reserved_memory: int) -> tuple[Book, ...]:
    """Reserved memory comes off the NUMA nodes that hold the reserved CPUs first (what runs there touches its memory
    there), then off the others in order; machine-wide, as a person gives it."""
    owed = reserved_memory
    memory = {node.id: node.pages for node in machine.numa_nodes}
    order = sorted(machine.numa_nodes, key=lambda n: (n.cpus.isdisjoint(reserved), not n.cpus, n.id))
    for node in order:
        have = memory[node.id]
        if have is not None and for_pods(node):
            memory[node.id] = have - min(have, owed)
            owed -= min(have, owed)
    if owed and any(have is not None for have in memory.values()):
        asked, has = reserved_memory, reserved_memory - owed
        raise InputError(
            f"machine {machine.name}: cannot reserve {spoken('memory', asked, has)} of memory; it has "
            f"{spoken('memory', has, asked)}"
        )
    none = dict.fromkeys(sorted(machine.known_devices), 0)  # what one NUMA node names, the others have none of
    return tuple(Book(memory[node.id], dict(node.hugepages), {**none, **node.devices}) for node in machine.numa_nodes)
