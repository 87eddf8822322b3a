"""Choosing CPUs within given cores: whole cores first, few uncore caches, small leftovers used up first.

CPUs are bit masks here: this is the allocator's innermost loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Groups = Iterable[Sequence[int]]
"""The cores' masks, by uncore cache."""


def whole_cores(groups: Groups, free: int) -> int:
    """The CPUs of the cores that are free with all their SMT siblings."""
    found = 0
    for group in groups:
        for core in group:
            if core & free == core:
                found |= core
    return found


def take(groups: Groups, free: int, need: int, full_cores: bool) -> int:
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
        mask = sum(room[2]) if room[0] <= need else _within(room[2], need, full_cores)
        taken |= mask
        need -= mask.bit_count()
    return taken if need <= 0 else 0


Room = tuple[int, bool, list[int]]
"""Of one uncore cache: free CPUs, whether all of it is free, the cores' free parts."""


def _rooms(groups: Groups, free: int, full_cores: bool) -> list[Room]:
    rooms: list[Room] = []
    for group in groups:
        parts, count, untouched = [], 0, True
        for core in group:
            part = core & free
            untouched = untouched and part == core
            if part and (part == core or not full_cores):
                parts.append(part)
                count += part.bit_count()
        if parts:
            rooms.append((count, untouched, parts))
    return rooms


def _next(rooms: list[Room], need: int) -> int:
    for index, (count, untouched, _) in enumerate(rooms):
        if untouched and count <= need:
            return index
    holding = [(count, index) for index, (count, _, _) in enumerate(rooms) if count >= need]
    if holding:
        return min(holding)[1]
    return max((count, -index) for index, (count, _, _) in enumerate(rooms))[1] * -1


def _within(parts: list[int], need: int, full_cores: bool) -> int:
    """``need`` CPUs of one cache that has more: the widest cores first, then the narrowest that holds the rest."""
    taken, left = 0, []
    for part in sorted(parts, key=_widest_first):
        width = part.bit_count()
        if width <= need:
            taken |= part
            need -= width
        else:
            left.append(part)
    if need:
        last = min(left, key=_narrowest_first)
        taken |= last if full_cores else lowest(last, need)
    return taken


def _widest_first(part: int) -> tuple[int, int]:
    return -part.bit_count(), part & -part


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
