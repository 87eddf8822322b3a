"""Which NUMA nodes take a unit together when no single one does: the fewest, and of those the closest.

Polynomial in NUMA nodes: up to ten of them every set is tried; beyond, every pair, and larger sets are grown from each
node. The Topology Manager enumerates subsets and stops at eight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, combinations
from operator import itemgetter

from shared.ledger import Layout, Ledger, Site
from shared.rooms import Room, best, room_of
from shared.units import Unit
from shared.value import value

Places = tuple[int, ...]
"""Positions of NUMA nodes among the machine's."""


ALL_SETS = 10
"""Up to so many NUMA nodes every set of them is tried; beyond, every pair, and larger sets are grown."""


COMPARED = 4
"""Of the grown sets, those around the nodes with the nearest neighbours that are compared distance by distance."""


@value
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


def needless(layout: Layout, unit: Unit, count: int) -> bool:
    """Whether the empty machine would hold a unit in fewer NUMA nodes than ``count``."""
    empty = Ledger(layout, layout.pool, layout.isolated, layout.books)
    rooms = [room for site in layout.with_cpus if (room := room_of(empty, site, unit, empty.free))]
    if _least(_wants(empty, unit, rooms), tuple(room.site.place for room in rooms)) >= count:
        return False
    return best(layout, rooms, unit) is not None or any(
        len(chosen) < count for chosen in _sets(empty, unit, rooms, count)
    )


def span(ledger: Ledger, unit: Unit, rooms: Sequence[Room]) -> tuple[Room, ...] | None:
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


def _sets(ledger: Ledger, unit: Unit, rooms: Sequence[Room], fewer: int = 0) -> list[Places]:
    """Sets of the fewest NUMA nodes that hold a unit together; empty when all of them do not. The first of less than
    ``fewer`` will do."""
    wants = _wants(ledger, unit, rooms)
    places = tuple(room.site.place for room in rooms)
    if len(places) < 2 or any(want.held(places) < want.need for want in wants):
        return []
    if unit.cpus and wants[0].need >= ledger.free.bit_count():
        return []  # the node shared pool would be empty
    least = max(2, _least(wants, places))
    if least == len(places):
        return [places]
    for size in range(least, len(places) + 1 if len(places) <= ALL_SETS else 3):
        sets = list(combinations(places, size))
        for want in wants:
            sets = want.enough(sets)
        if sets:
            return sets
    return _grown(ledger.layout, wants, places, least, fewer)


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
    return max(core.bit_count() for group in site.groups for core in group.cores)


def _grown(layout: Layout, wants: Sequence[Want], places: Places, least: int, fewer: int) -> list[Places]:
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
            if len(chosen) < fewer:
                break
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
