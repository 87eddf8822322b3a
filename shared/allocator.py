"""Where a pod goes on a machine: the one allocator, at admission and on the node.

:func:`offer` looks at a ledger and an intent and answers with a Placement or a Misfit; it changes nothing. Committing
the placement to the ledger is the caller's step, so that "would it fit" is the real code without its last step.

A pod is one *unit* (scope ``pod``), or one unit for each eligible container and one for the rest (scope ``container``).
Each unit goes where the largest holes stay large:

1. A NUMA node that holds the whole unit by itself: one whose last CPUs it takes, else the lowest that holds it, so that
   the others stay whole.
2. Else, and if the policy allows, the fewest NUMA nodes that hold it together, of those the closest to each other.
   ``restricted`` accepts that only when the empty machine would need as many.
3. Within the NUMA nodes whole cores, and whole uncore caches where that costs nothing (:mod:`shared.cores`).

Every step is a total order over integers: the same ledger and intent give the same CPUs on every machine. The work is
polynomial in NUMA nodes (beyond ten of them pairs are tried exactly and larger sets grown from each node), where the
Topology Manager enumerates subsets and stops at eight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, combinations
from operator import itemgetter

from shared import cores
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.intent import Intent, Part
from shared.ledger import Book, Layout, Ledger, Site, for_pods
from shared.placement import Account, Misfit, Placement
from shared.policy import Isolation, Scope, Smt, TopologyPolicy
from shared.quantity import spoken


@dataclass(frozen=True, slots=True)
class Unit:
    """What has to stay together."""

    cpus: int
    """Whole CPUs to own; 0 for a bound pod."""
    bound_cpu: int
    """Millicores of the node shared pool; 0 for an exclusive pod."""
    memory: int
    pages: Mapping[int, int] = field(default_factory=dict)
    """Huge page size in bytes to pages."""
    devices: Mapping[str, int] = field(default_factory=dict)
    full_cores: bool = True
    name: str = ""
    """The container that owns the CPUs, in scope ``container``; empty for a pod or its shared rest."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one NUMA node could give a unit now."""

    site: Site
    cpu: int
    """CPUs of an exclusive unit, millicores of a bound one."""
    left: int
    """The same measure, of everything that is free here, before the unit takes its part."""
    memory: int | None
    pages: Mapping[int, int]
    devices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stay:
    """Where one unit goes."""

    sites: tuple[Site, ...]
    cpus: int
    """The unit's own CPUs as a bit mask."""
    accounts: tuple[Account, ...]


def offer(ledger: Ledger, pod: str, intent: Intent) -> Placement | Misfit:
    """The place for a pod, or the reason why there is none. Nothing changes."""
    if intent.placement is PlacementClass.NONE:
        return _anywhere(ledger, pod, intent)
    stays: list[tuple[Unit, Stay]] = []
    view = ledger
    for unit in units(intent):
        if stays:
            view = _with(view, stays[-1][1])
        stay = _seat(view, unit, intent)
        if isinstance(stay, Misfit):
            return replace(stay, pod=pod)
        stays.append((unit, stay))
    return _placement(view.layout, pod, intent, stays)


def fits(ledger: Ledger, intent: Intent) -> bool:
    """Whether :func:`offer` has a place for a pod: the same steps up to the choice of the NUMA node, where that settles
    it. Choosing the CPUs in it is the larger half of an offer's time."""
    if intent.placement is not PlacementClass.NONE and len(wanted := units(intent)) == 1:
        (unit,) = wanted
        for free in _sources(ledger, unit, intent.placing.isolation):
            rooms = (_room(ledger, site, unit, free) for site in ledger.layout.with_cpus)
            # Where cores differ in width, only taking them tells how many CPUs the last one adds.
            if any(room and room.site.width and _holds(room, unit) for room in rooms):
                return True
        if intent.placing.policy is TopologyPolicy.SINGLE_NUMA_NODE and all(s.width for s in ledger.layout.with_cpus):
            return False
    return isinstance(offer(ledger, "", intent), Placement)


def _anywhere(ledger: Ledger, pod: str, intent: Intent) -> Placement:
    """Class none: the whole node shared pool, and memory wherever pods may have any."""
    numa_nodes = tuple(site.id for site in ledger.layout.with_cpus)
    holding = (n.id for n in ledger.layout.machine.numa_nodes if n.memory != 0 and for_pods(n))
    return Placement(pod, intent, numa_nodes, tuple(holding), EMPTY, {}, ())


def units(intent: Intent) -> tuple[Unit, ...]:
    """What of a pod has to stay together, the largest first."""
    full_cores = intent.placing.smt is Smt.FULL_CORES
    pages = _pages(intent.hugepages)
    if intent.placement is PlacementClass.BOUND:
        return (Unit(0, intent.cpu, intent.memory, pages, intent.devices),)
    owners = [part for part in intent.parts if part.slice]
    if intent.placing.scope is Scope.POD or not owners:
        return (Unit(intent.bubble, 0, intent.memory, pages, intent.devices, full_cores),)
    return _container_units(intent, owners, full_cores)


def _container_units(intent: Intent, owners: Sequence[Part], full_cores: bool) -> tuple[Unit, ...]:
    """One unit for each owner; the shared rest is one more, or rides with the largest when it needs no CPU."""
    singles = [
        Unit(part.slice, 0, part.memory, _pages(part.hugepages), {}, full_cores, part.name)
        for part in sorted(owners, key=lambda part: -part.slice)
    ]
    memory = max(0, intent.memory - sum(part.memory for part in owners))
    pages = dict(_pages(intent.hugepages))
    for unit in singles:
        for size, count in unit.pages.items():
            pages[size] = max(0, pages.get(size, 0) - count)
    first = singles[0]
    if intent.pool:
        rest = Unit(intent.pool, 0, memory, {s: n for s, n in pages.items() if n}, {}, full_cores)
        return (replace(first, devices=intent.devices), *singles[1:], rest)
    pages = {size: pages.get(size, 0) + first.pages.get(size, 0) for size in {*pages, *first.pages}}
    return (replace(first, memory=first.memory + memory, pages=pages, devices=intent.devices), *singles[1:])


def _pages(hugepages: Mapping[int, int]) -> Mapping[int, int]:
    return {size: -(-amount // size) for size, amount in hugepages.items()}


# One unit.


def _seat(ledger: Ledger, unit: Unit, intent: Intent) -> Stay | Misfit:
    rooms: list[Room] = []
    for free in _sources(ledger, unit, intent.placing.isolation):
        rooms = [room for site in ledger.layout.with_cpus if (room := _room(ledger, site, unit, free))]
        single = _best(ledger.layout, rooms, unit)
        if single is not None:
            return _settle(ledger, unit, (single,), free)
    policy = intent.placing.policy
    if policy is TopologyPolicy.SINGLE_NUMA_NODE:
        return _misfit(ledger, unit, rooms)
    chosen = _span(ledger, unit, rooms)
    if chosen is None:
        return _misfit(ledger, unit, rooms, together=True)
    if policy is TopologyPolicy.RESTRICTED and _needless(ledger.layout, unit, len(chosen)):
        return _misfit(ledger, unit, rooms)
    return _settle(ledger, unit, chosen, ledger.free)


def _sources(ledger: Ledger, unit: Unit, isolation: Isolation) -> Iterator[int]:
    """Where CPUs may come from. Isolated CPUs serve only those who asked for them: without load balancing, threads that
    do not pin themselves would all stay on one CPU (Documentation/admin-guide/cgroup-v2.rst, cpuset partitions)."""
    if unit.cpus and isolation is Isolation.ISOLATED and ledger.isolated:
        yield ledger.isolated
    yield ledger.free


def _room(ledger: Ledger, site: Site, unit: Unit, free: int) -> Room | None:
    """What a NUMA node could give; None for one that has no CPU for the unit at all."""
    book = ledger.books[site.place]
    here = free & site.cpus
    count = here.bit_count()
    if unit.cpus:
        # The node shared pool keeps what the bound pods here ask for, and one CPU of the machine.
        spare = count
        if free is ledger.free:
            spare = min(count - -(-book.bound_cpu // 1000), ledger.free.bit_count() - 1)
        cpu = _exclusive_room(site, here, spare, unit.full_cores)
        left = count
    else:
        cpu = left = count * 1000 - book.bound_cpu
    if count == 0:
        return None
    if len(site.domain) == 1:
        held = ledger.books[site.domain[0]]
        return Room(site, cpu, left, held.memory, held.pages, book.devices)
    memory, pages = _held([ledger.books[place] for place in site.domain])
    return Room(site, cpu, left, memory, pages, book.devices)


def _exclusive_room(site: Site, here: int, spare: int, full_cores: bool) -> int:
    if not full_cores:
        return max(0, spare)
    whole = cores.whole_cores(site.groups, here).bit_count()
    room = max(0, min(whole, spare))
    return room - room % site.width if site.width else room


def _held(books: Sequence[Book]) -> tuple[int | None, Mapping[int, int]]:
    """Memory and huge pages of several NUMA nodes together."""
    memory: int | None = 0
    pages: dict[int, int] = {}
    for book in books:
        memory = None if memory is None or book.memory is None else memory + book.memory
        for size, count in book.pages.items():
            pages[size] = pages.get(size, 0) + count
    return memory, pages


def _best(layout: Layout, rooms: Sequence[Room], unit: Unit) -> Room | None:
    """Of the NUMA nodes that hold the unit: no device wasted, then one whose last CPUs it takes, then the lowest.

    Filling one NUMA node after the other keeps the rest whole. Taking last CPUs elsewhere leaves one splinter less, and
    the memory beside them to nobody: it is done only while memory is short nowhere else.
    """
    holding = [room for room in rooms if _holds(room, unit)]
    if len(holding) < 2:
        return holding[0] if holding else None
    short = {room.site.place for room in rooms if _is_short(layout, room, unit)}

    def key(room: Room) -> tuple[int, bool, int]:
        wasted = sum(count for name, count in room.devices.items() if name not in unit.devices)
        last = room.cpu == _cost(room.site, unit) and short <= {room.site.place}
        return wasted, not last, room.site.place

    return min(holding, key=key)


def _is_short(layout: Layout, room: Room, unit: Unit) -> bool:
    """Whether a NUMA node has given more of its memory than of its CPUs."""
    memory, _ = _held([layout.books[place] for place in room.site.domain])
    if memory is None or room.memory is None:
        return False
    cpus = room.site.cpus.bit_count() * (1 if unit.cpus else 1000)
    return room.memory * cpus < room.left * memory


def _holds(room: Room, unit: Unit) -> bool:
    if room.cpu < _cost(room.site, unit):
        return False
    if room.memory is not None and room.memory < unit.memory:
        return False
    if any(room.pages.get(size, 0) < count for size, count in unit.pages.items()):
        return False
    return all(room.devices.get(name, count) >= count for name, count in unit.devices.items())


def _cost(site: Site, unit: Unit) -> int:
    """What a unit takes on a NUMA node: millicores, or CPUs, with full cores up to the last core's end."""
    if not unit.cpus:
        return unit.bound_cpu
    if not unit.full_cores or not site.width:
        return unit.cpus
    return -(-unit.cpus // site.width) * site.width


# Several NUMA nodes.

Places = tuple[int, ...]
"""Positions of NUMA nodes among the machine's."""

ALL_SETS = 10
"""Up to so many NUMA nodes every set of them is tried; beyond, every pair, and larger sets are grown."""

COMPARED = 4
"""Of the grown sets, those around the nodes with the nearest neighbours that are compared distance by distance."""


@dataclass(frozen=True, slots=True)
class Want:
    """One resource that NUMA nodes have to give together."""

    need: int
    have: Mapping[int, int]
    """What there is, by place."""
    domains: Mapping[int, tuple[int, ...]] | None = None
    """By the place of a NUMA node with CPUs, the places of those that hold the resource for it; None where each holds
    its own. Two NUMA nodes may share a holder, whose amount then counts once."""

    def held(self, places: Iterable[int]) -> int:
        """What NUMA nodes have together."""
        if self.domains is not None:
            places = {holder for place in places for holder in self.domains[place]}
        return sum(map(self.have.__getitem__, places))

    def enough(self, sets: list[Places]) -> list[Places]:
        """The sets that have what is needed."""
        have, need = self.have, self.need
        if self.domains is None and sets and len(sets[0]) == 2:
            return [(a, b) for a, b in sets if have[a] + have[b] >= need]
        return [chosen for chosen in sets if self.held(chosen) >= need]

    def count(self, order: Places) -> int:
        """How many NUMA nodes, taken in the order given, it takes; more than there are when all are too few."""
        if self.domains is None:
            return bisect_left(list(accumulate(map(self.have.__getitem__, order))), self.need) + 1
        return next((n for n in range(1, len(order) + 1) if self.held(order[:n]) >= self.need), len(order) + 1)

    def roomiest(self, places: Places) -> Places:
        """The NUMA nodes, those with the most first."""
        if self.domains is None:
            return tuple(sorted(places, key=self.have.__getitem__, reverse=True))
        return tuple(sorted(places, key=lambda place: -self.held((place,))))


def _needless(layout: Layout, unit: Unit, count: int) -> bool:
    """Whether the empty machine would hold a unit in fewer NUMA nodes than ``count``."""
    empty = Ledger(layout, layout.pool, layout.isolated, layout.books)
    rooms = [room for site in layout.with_cpus if (room := _room(empty, site, unit, empty.free))]
    if _least(_wants(empty, unit, rooms), tuple(room.site.place for room in rooms)) >= count:
        return False
    return _best(layout, rooms, unit) is not None or any(len(chosen) < count for chosen in _sets(empty, unit, rooms))


def _span(ledger: Ledger, unit: Unit, rooms: Sequence[Room]) -> tuple[Room, ...] | None:
    """The fewest NUMA nodes that hold a unit together; of those the closest, then the tightest, then the lowest."""
    sets = _sets(ledger, unit, rooms)
    if not sets:
        return None
    distances = ledger.layout.machine.distances
    by_place = {room.site.place: room for room in rooms}
    apart = [_apart(distances, chosen) for chosen in sets]
    nearest = min(apart)
    closest = (chosen for chosen, far in zip(sets, apart, strict=True) if far == nearest)
    best = min(closest, key=lambda chosen: (sum(by_place[place].left for place in chosen), chosen))
    return tuple(by_place[place] for place in best)


def _apart(distances: Sequence[Sequence[int]], chosen: Places) -> int:
    """The distances of every NUMA node to every other, added up."""
    if len(chosen) == 2:
        return distances[chosen[0]][chosen[1]] + distances[chosen[1]][chosen[0]]
    pick = itemgetter(*chosen)
    return sum(sum(pick(distances[place])) for place in chosen)


def _sets(ledger: Ledger, unit: Unit, rooms: Sequence[Room]) -> list[Places]:
    """Sets of the fewest NUMA nodes that hold a unit together; empty when all of them do not."""
    wants = _wants(ledger, unit, rooms)
    places = tuple(room.site.place for room in rooms)
    if len(places) < 2 or any(want.held(places) < want.need for want in wants):
        return []
    if unit.cpus and wants[0].need >= ledger.free.bit_count():
        return []  # the node shared pool would be empty
    least = max(2, _least(wants, places))
    for size in range(least, len(places) + 1 if len(places) <= ALL_SETS else 3):
        sets = list(combinations(places, size))
        for want in wants:
            sets = want.enough(sets)
        if sets:
            return sets
    return _grown(ledger.layout, wants, places, least)


def _least(wants: Sequence[Want], places: Places) -> int:
    """NUMA nodes that it takes at least: each resource by itself, from where there is most of it."""
    return max((want.count(want.roomiest(places)) for want in wants if want.domains is None), default=1)


def _wants(ledger: Ledger, unit: Unit, rooms: Sequence[Room]) -> list[Want]:
    """The CPUs first, then memory, huge pages and the devices that the machine knows of."""
    books = ledger.books
    domains = {room.site.place: room.site.domain for room in rooms}
    own = all(domain == (place,) for place, domain in domains.items())
    holders = {holder for domain in domains.values() for holder in domain}
    wants = [Want(_whole_need(rooms, unit), {room.site.place: room.cpu for room in rooms})]
    if unit.memory:
        memory = {place: _known(books[place].memory, unit.memory) for place in holders}
        wants.append(Want(unit.memory, memory, None if own else domains))
    for size, count in unit.pages.items():
        pages = {place: books[place].pages.get(size, 0) for place in holders}
        wants.append(Want(count, pages, None if own else domains))
    for name in sorted(unit.devices.keys() & ledger.layout.machine.known_devices):
        wants.append(Want(unit.devices[name], {room.site.place: room.devices.get(name, 0) for room in rooms}))
    return wants


def _known(amount: int | None, need: int) -> int:
    """An amount, or enough of it where the machine does not say."""
    return need if amount is None else amount


def _whole_need(rooms: Sequence[Room], unit: Unit) -> int:
    """CPUs or millicores; with full cores also what the last core adds: every other core is used to its end."""
    if not unit.cpus or not unit.full_cores:
        return unit.cpus or unit.bound_cpu
    width = max((room.site.width or _widest(room.site) for room in rooms), default=1)
    return unit.cpus + -unit.cpus % width


def _widest(site: Site) -> int:
    return max(core.bit_count() for group in site.groups for core in group)


def _grown(layout: Layout, wants: Sequence[Want], places: Places, least: int) -> list[Places]:
    """Sets of more than two among many NUMA nodes, each grown in one order until it holds the unit. The smallest are
    returned, of those the ones whose first node has the others nearest.
    """
    found: dict[Places, int] = {}
    size = len(places)
    wants = [want for want in wants if want.domains or min(want.have.values()) < want.need]
    for order in _orders(layout, wants, places, least):
        count = max([want.count(order[:size]) for want in wants])
        if count <= min(size, len(order)):
            size = count
            chosen = _trimmed(wants, order[:count])
            row = layout.machine.distances[order[0]]
            found[tuple(sorted(chosen))] = sum(map(row.__getitem__, chosen))
    size = min(map(len, found))
    return sorted((c for c in found if len(c) == size), key=lambda c: (found[c], c))[:COMPARED]


def _orders(layout: Layout, wants: Sequence[Want], places: Places, least: int) -> Iterator[Places]:
    """In which orders NUMA nodes are added: the roomiest down, from every node to its nearest ones, and to the nearest
    with a fair share of room."""
    for want in wants:
        yield want.roomiest(places)
    here = frozenset(places)
    fair = frozenset(p for p in places if all(want.held((p,)) * least >= want.need for want in wants))
    for seed in places:
        nearest = layout.sites[seed].nearest
        yield tuple(filter(here.__contains__, nearest))
        if seed in fair and len(fair) < len(here):
            yield tuple(filter(fair.__contains__, nearest))


def _trimmed(wants: Sequence[Want], chosen: Places) -> Places:
    """Without the NUMA nodes that turned out to be needless, the last taken first."""
    for want in wants:
        if want.domains is None and want.held(chosen) - want.need < min(map(want.have.__getitem__, chosen)):
            return chosen
    for extra in reversed(chosen):
        # What it has itself is looked at first: that is cheap, and rules out nearly all.
        if all(want.domains or want.have[extra] <= want.held(chosen) - want.need for want in wants):
            rest = tuple(place for place in chosen if place != extra)
            if all(want.held(rest) >= want.need for want in wants):
                chosen = rest
    return chosen


# Settling: from NUMA nodes to CPUs and accounts.


def _settle(ledger: Ledger, unit: Unit, rooms: Sequence[Room], free: int) -> Stay | Misfit:
    taken: dict[int, int] = {}
    need = unit.cpus
    order = sorted(rooms, key=lambda room: (-room.cpu, room.site.place)) if len(rooms) > 1 else rooms
    for room in order:
        part = min(need, room.cpu)
        mask = cores.take(room.site.groups, free & room.site.cpus, part, unit.full_cores) if part else 0
        if mask.bit_count() > room.cpu:  # cores differ here, and the last one is wider than what may be taken
            return _misfit(ledger, unit, rooms, together=len(rooms) > 1)
        taken[room.site.place] = mask
        need -= mask.bit_count()
    cpus = sum(taken.values())
    if need > 0 or (unit.cpus and not ledger.free & ~cpus):
        return _misfit(ledger, unit, rooms, together=len(rooms) > 1)
    return Stay(tuple(room.site for room in rooms), cpus, _accounts(ledger, unit, order, taken))


def _accounts(ledger: Ledger, unit: Unit, rooms: Sequence[Room], taken: Mapping[int, int]) -> tuple[Account, ...]:
    """Spread what is not CPU over the NUMA nodes: memory by the CPUs taken, then wherever it fits."""
    machine = ledger.layout.machine
    if len(rooms) == 1 and rooms[0].site.domain == (rooms[0].site.place,):
        known = {name: count for name, count in unit.devices.items() if name in machine.known_devices}
        return (Account(rooms[0].site.id, unit.bound_cpu, unit.memory, unit.pages, known),)
    holders = sorted({place for room in rooms for place in room.site.domain})
    memory = _spread(unit.memory, [ledger.books[place].memory for place in holders], _weights(rooms, taken, holders))
    pages = {
        size: _spread(count, [ledger.books[place].pages.get(size, 0) for place in holders])
        for size, count in unit.pages.items()
    }
    bound = _spread(unit.bound_cpu, [room.cpu for room in rooms])
    devices = {
        name: _spread(count, [room.devices.get(name, 0) for room in rooms])
        for name, count in unit.devices.items()
        if name in machine.known_devices
    }
    found: dict[int, Account] = {}
    for index, room in enumerate(rooms):
        given = {name: spread[index] for name, spread in devices.items() if spread[index]}
        found[room.site.place] = Account(room.site.id, bound[index], 0, {}, given)
    for index, place in enumerate(holders):
        account = found.get(place, Account(machine.numa_nodes[place].id))
        kept = {size: spread[index] for size, spread in pages.items() if spread[index]}
        found[place] = replace(account, memory=memory[index], pages=kept)
    return tuple(found[place] for place in sorted(found))


def _weights(rooms: Sequence[Room], taken: Mapping[int, int], holders: Sequence[int]) -> list[int]:
    """How many of the unit's CPUs are nearest to each memory node."""
    weights = dict.fromkeys(holders, 0)
    for room in rooms:
        for place in room.site.domain:
            weights[place] += taken[room.site.place].bit_count()
    return list(weights.values())


def _spread(amount: int, rooms: Sequence[int | None], weights: Sequence[int] = ()) -> list[int]:
    """Split an amount by weight, no part beyond its room (None: boundless), the rest in order."""
    total = sum(weights)
    parts = [0] * len(rooms)
    if total:
        parts = [_capped(amount * weight // total, room) for weight, room in zip(weights, rooms, strict=True)]
    owed = amount - sum(parts)
    for index, room in enumerate(rooms):
        more = owed if room is None else min(owed, room - parts[index])
        parts[index] += more
        owed -= more
    return parts


def _capped(amount: int, room: int | None) -> int:
    return amount if room is None else min(amount, room)


def _with(ledger: Ledger, stay: Stay) -> Ledger:
    """The ledger after one unit of a pod, for the units after it."""
    booked = Placement("", _NOBODY, (), (), CpuSet(stay.cpus), {}, stay.accounts)
    return replace(ledger.commit(booked), placements={})


_NOBODY = Intent(PlacementClass.EXCLUSIVE, placing=None, parts=())  # type: ignore[arg-type]


def _placement(layout: Layout, pod: str, intent: Intent, stays: Sequence[tuple[Unit, Stay]]) -> Placement:
    accounts = _merged([account for _, stay in stays for account in stay.accounts])
    bubble = 0
    for _, stay in stays:
        bubble |= stay.cpus
    machine = layout.machine
    sites = {site.place: site for _, stay in stays for site in stay.sites}
    memory = {place for site in sites.values() for place in site.domain if machine.numa_nodes[place].memory != 0}
    return Placement(
        pod=pod,
        intent=intent,
        numa_nodes=tuple(sites[place].id for place in sorted(sites)),
        memory_nodes=tuple(machine.numa_nodes[place].id for place in sorted(memory)),
        bubble=CpuSet(bubble),
        slices=_carve(layout, intent, stays),
        accounts=accounts,
    )


def _merged(accounts: Sequence[Account]) -> tuple[Account, ...]:
    """One account for each NUMA node."""
    merged: dict[int, Account] = {}
    for account in accounts:
        if account.node in merged:
            before = merged[account.node]
            account = Account(
                account.node,
                before.bound_cpu + account.bound_cpu,
                before.memory + account.memory,
                {s: before.pages.get(s, 0) + account.pages.get(s, 0) for s in {*before.pages, *account.pages}},
                {d: before.devices.get(d, 0) + account.devices.get(d, 0) for d in {*before.devices, *account.devices}},
            )
        merged[account.node] = account
    return tuple(merged[node] for node in sorted(merged))


def _carve(layout: Layout, intent: Intent, stays: Sequence[tuple[Unit, Stay]]) -> Mapping[str, CpuSet]:
    """Cut the slices out of their unit's CPUs; those that fill whole cores first, so that they get them."""
    slices: dict[str, CpuSet] = {}
    width = layout.machine.threads_per_core
    for unit, stay in stays:
        left = stay.cpus
        owners = [part for part in intent.parts if part.slice and unit.name in ("", part.name)]
        if not unit.name and len(stays) > 1:
            continue  # the shared rest of scope container
        for part in sorted(owners, key=lambda part: (part.slice % width != 0, -part.slice)):
            mask = _cut(stay.sites, left, part.slice)
            slices[part.name] = CpuSet(mask)
            left &= ~mask
    return {part.name: slices[part.name] for part in intent.parts if part.name in slices}


def _cut(sites: Sequence[Site], free: int, need: int) -> int:
    """A slice: on the NUMA node that holds it with the least room, else across them."""
    holding = [site for site in sites if (free & site.cpus).bit_count() >= need]
    if holding:
        site = min(holding, key=lambda site: ((free & site.cpus).bit_count(), site.place))
        return cores.take(site.groups, free & site.cpus, need, full_cores=False)
    return cores.take([group for site in sites for group in site.groups], free, need, full_cores=False)


# Misfits.


def _misfit(ledger: Ledger, unit: Unit, rooms: Sequence[Room], together: bool = False) -> Misfit:
    asked = _asked(unit)
    if not rooms:
        message = f"asks {_list(list(asked), asked)}, but no NUMA node has a free CPU"
        return Misfit("", message, asked, dict.fromkeys(asked, 0))
    if together:
        found = _summed(ledger, rooms, unit)
        short = [name for name in asked if found[name] < asked[name]] or ["cpu"]
        where = "all NUMA nodes together have"
        node = None
    else:
        best = min(rooms, key=lambda room: _shortage(room, unit))
        found = _found(best, unit)
        short = [name for name in asked if found[name] < asked[name]] or ["cpu"]
        where = f"NUMA node {best.site.id}, the roomiest, has"
        node = best.site.id
    message = f"asks {_list(short, asked, found)}; {where} {_list(short, found, asked)} free"
    hint = _kept_back(rooms, unit, node) if "cpu" in short else ""
    return Misfit("", f"{message}; {hint}" if hint else message, asked, found, node, hint)


def _kept_back(rooms: Sequence[Room], unit: Unit, node: int | None) -> str:
    """Why the free CPUs of NUMA nodes are more than they can give."""
    counted = [room for room in rooms if node is None or room.site.id == node]
    free, given = sum(room.left for room in counted), sum(room.cpu for room in counted)
    if not unit.cpus or free == given:
        return ""
    reason = "the node shared pool keeps its share"
    if unit.full_cores:
        reason = f"only whole cores count, and {reason}"
    return f"{spoken('cpu', 1000 * free)} {'is' if free == 1 else 'are'} free, but {reason}"


def _shortage(room: Room, unit: Unit) -> tuple[float, float, int]:
    """How far a NUMA node is from holding a unit: the worst resource first, then the sum."""
    asked, found = _asked(unit), _found(room, unit)
    short = [1 - found[name] / amount for name, amount in asked.items() if amount > found[name]]
    return max(short, default=0.0), sum(short), room.site.place


def _asked(unit: Unit) -> dict[str, int]:
    asked = {"cpu": unit.cpus * 1000 or unit.bound_cpu, "memory": unit.memory}
    for size, count in unit.pages.items():
        asked[hugepages_name(size)] = size * count
    return {**asked, **unit.devices}


def _found(room: Room, unit: Unit) -> dict[str, int]:
    cpu = room.cpu * 1000 if unit.cpus else room.cpu
    found = {"cpu": cpu, "memory": unit.memory if room.memory is None else room.memory}
    for size in unit.pages:
        found[hugepages_name(size)] = size * room.pages.get(size, 0)
    return {**found, **{name: room.devices.get(name, count) for name, count in unit.devices.items()}}


def _summed(ledger: Ledger, rooms: Sequence[Room], unit: Unit) -> dict[str, int]:
    places = sorted({place for room in rooms for place in room.site.domain})
    memory, pages = _held([ledger.books[place] for place in places])
    cpu = sum(room.cpu for room in rooms)
    if unit.cpus:
        cpu = 1000 * min(cpu, ledger.free.bit_count() - 1)
    found = {"cpu": cpu, "memory": unit.memory if memory is None else memory}
    for size in unit.pages:
        found[hugepages_name(size)] = size * pages.get(size, 0)
    known = ledger.layout.machine.known_devices
    for name, count in unit.devices.items():
        found[name] = sum(room.devices.get(name, 0) for room in rooms) if name in known else count
    return found


def hugepages_name(size: int) -> str:
    """``hugepages-2Mi`` for a page size in bytes."""
    for unit, suffix in ((2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki")):
        if size % unit == 0:
            return f"hugepages-{size // unit}{suffix}"
    return f"hugepages-{size}"


def _list(names: Sequence[str], amounts: Mapping[str, int], beside: Mapping[str, int] | None = None) -> str:
    words = [spoken(name, amounts[name], beside[name] if beside else None) for name in names]
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
