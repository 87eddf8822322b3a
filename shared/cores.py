"""Choosing CPUs within given cores: whole cores first, few uncore caches, small leftovers used up first.

CPUs are bit masks here: this is the allocator's innermost loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
            found |= _whole(group, here)
    return found


def take(groups: Iterable[Group], free: int, need: int, full_cores: bool) -> int:
    """``need`` CPUs out of ``free``; 0 when there are not as many.

    1. Whole uncore caches that are needed whole, lowest first: nobody else is then in the cache.
    2. Where no other cache holds what is left, the roomiest is used up, and the next one.
    3. The rest goes into one cache: of those that hold it, the one with the least room.

    With ``full_cores`` only whole cores are taken, so that the last one may add more CPUs than were needed.
    """
    taken = 0
    rest: list[tuple[int, int, Group]] = []
    for group in groups:
        here = group.cpus & free
        if here == group.cpus:
            count = here.bit_count()
            if count <= need:
                taken |= here
                need -= count
                continue
        elif here and full_cores:
            here = _whole(group, here)
        if here:
            rest.append((here.bit_count(), here, group))
    rest.sort(key=_count, reverse=True)  # the roomiest first, of equal ones the lowest
    for index, (count, here, _) in enumerate(rest):
        if need <= 0:
            break
        if count >= need:
            _, here, group = min([room for room in rest[index:] if room[0] >= need], key=_count)
            return taken | _within(_parts(group, here), need, full_cores)
        taken |= here
        need -= count
    return taken if need <= 0 else 0


def _count(room: tuple[int, int, Group]) -> int:
    return room[0]


def _whole(group: Group, free: int) -> int:
    """The CPUs of the cores that are free with all their SMT siblings."""
    if len(group.cores) == group.cpus.bit_count():
        return free & group.cpus  # no SMT
    return sum([core for core in group.cores if core & free == core])


def _parts(group: Group, here: int) -> Sequence[int]:
    """What of each core is here, the one with the lowest CPU first; a cache that is all here has them in that order."""
    if here == group.cpus:
        return group.cores
    parts = [part for core in group.cores if (part := core & here)]
    return sorted(parts) if here.bit_count() == len(parts) else sorted(parts, key=_lowest)


def _within(parts: Sequence[int], need: int, full_cores: bool) -> int:
    """``need`` CPUs of one cache that has more, its cores' parts in order: the widest cores first, then the narrowest
    that holds the rest."""
    taken, left = 0, list[int]()
    for width, alike in _by_width(parts):
        whole = min(need // width, len(alike))
        taken |= sum(alike[:whole])
        need -= whole * width
        left += alike[whole:]
    if need:
        last = min(left, key=_narrowest_first)
        taken |= last if full_cores else lowest(last, need)
    return taken


def _by_width(parts: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
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
