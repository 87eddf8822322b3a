"""Choosing CPUs within given cores: whole cores first, few uncore caches, small leftovers used up first.

CPUs are bit masks here: this is the allocator's innermost loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.value import value


@value
class Group:
    """The cores behind one uncore cache."""

    cpus: int
    """Those of all its cores."""
    cores: tuple[int, ...]
    """Each core's, the one with the lowest CPU first."""


def whole_cores(groups: Iterable[Group], free: int) -> int:
    """The CPUs of the cores that are free with all their SMT siblings."""
    found = 0
    for group in groups:
        here = group.cpus & free
        if here == group.cpus:
            found |= here
        elif here:
            found |= sum([core for core in group.cores if core & here == core])
    return found


def take(groups: Iterable[Group], free: int, need: int, full_cores: bool) -> int:
    """``need`` CPUs out of ``free``; 0 when there are not as many.

    1. Whole uncore caches that are needed whole, lowest first: nobody else is then in the cache.
    2. What is left goes into one cache: of those that hold it, the one with the least room.
    3. Where no cache holds it, the roomiest is used up, and again from 1.

    With ``full_cores`` only whole cores are taken, so that the last one may add more CPUs than were needed.
    """
    rooms = _rooms(groups, free, full_cores)
    taken = 0
    while need > 0 and rooms:
        room = rooms.pop(_next(rooms, need))
        mask = sum(room[2]) if room[0] <= need else _within(_in_order(room, full_cores), need, full_cores)
        taken |= mask
        need -= mask.bit_count()
    return taken if need <= 0 else 0


Room = tuple[int, bool, list[int]]
"""Of one uncore cache: free CPUs, whether all of it is free, the cores' free parts."""


def _rooms(groups: Iterable[Group], free: int, full_cores: bool) -> list[Room]:
    rooms: list[Room] = []
    for group in groups:
        here = group.cpus & free
        if here == group.cpus:
            rooms.append((here.bit_count(), True, list(group.cores)))
        elif here and (parts := _parts(group, here, full_cores)):
            rooms.append((sum(parts).bit_count(), False, parts))
    return rooms


def _parts(group: Group, free: int, full_cores: bool) -> list[int]:
    """The cores' free parts; with ``full_cores`` those that are whole."""
    if full_cores:
        return [core for core in group.cores if core & free == core]
    return [part for core in group.cores if (part := core & free)]


def _next(rooms: list[Room], need: int) -> int:
    for index, (count, untouched, _) in enumerate(rooms):
        if untouched and count <= need:
            return index
    holding = [(count, index) for index, (count, _, _) in enumerate(rooms) if count >= need]
    if holding:
        return min(holding)[1]
    return max((count, -index) for index, (count, _, _) in enumerate(rooms))[1] * -1


def _in_order(room: Room, full_cores: bool) -> list[int]:
    """The cores' free parts, the one with the lowest CPU first; out of order is only who lost its core's lowest CPU."""
    count, untouched, parts = room
    if untouched or full_cores:
        return parts
    return sorted(parts) if count == len(parts) else sorted(parts, key=_lowest)


def _within(parts: list[int], need: int, full_cores: bool) -> int:
    """``need`` CPUs of one cache that has more, its cores' parts in order: the widest cores first, then the narrowest
    that holds the rest."""
    taken, left = 0, []
    for width, alike in _by_width(parts):
        whole = min(need // width, len(alike))
        taken |= sum(alike[:whole])
        need -= whole * width
        left += alike[whole:]
    if need:
        last = min(left, key=_narrowest_first)
        taken |= last if full_cores else lowest(last, need)
    return taken


def _by_width(parts: list[int]) -> list[tuple[int, list[int]]]:
    """Parts of equal width together, the widest first."""
    widths = set(map(int.bit_count, parts))
    if len(widths) == 1:  # nearly always
        return [(widths.pop(), parts)]
    return [(width, [part for part in parts if part.bit_count() == width]) for width in sorted(widths, reverse=True)]


def _lowest(part: int) -> int:
    return part & -part


def _narrowest_first(part: int) -> tuple[int, int]:
    return part.bit_count(), part & -part


def lowest(mask: int, count: int) -> int:
    """The lowest ``count`` CPUs of a mask that has as many."""
    taken = 0
    for _ in range(count):
        bit = mask & -mask
        taken |= bit
        mask ^= bit
    return taken
