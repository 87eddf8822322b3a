"""What each NUMA node could give a unit now, and which of them takes it when one is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared import cores
from shared.ledger import Book, Layout, Ledger, Site
from shared.units import Unit
from shared.value import value


@value
class Room:
    """What one NUMA node could give a unit now."""

    site: Site
    cpu: int
    """CPUs of an exclusive unit, millicores of a bound one."""
    left: int
    """The same measure, of everything that is free here, before the unit takes its part."""
    free: int
    """The CPUs that are free here, as a bit mask."""
    memory: int | None
    pages: Mapping[int, int]
    devices: Mapping[str, int]


def room_of(ledger: Ledger, site: Site, unit: Unit, free: int) -> Room | None:
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
        return Room(site, cpu, left, here, held.memory, held.pages, book.devices)
    memory, pages = held_together([ledger.books[place] for place in site.domain])
    return Room(site, cpu, left, here, memory, pages, book.devices)


def _exclusive_room(site: Site, here: int, spare: int, full_cores: bool) -> int:
    if not full_cores:
        return max(0, spare)
    whole = cores.whole_cores(site.groups, here).bit_count()
    room = max(0, min(whole, spare))
    return room - room % site.width if site.width else room


def held_together(books: Sequence[Book]) -> tuple[int | None, Mapping[int, int]]:
    """Memory and huge pages of several NUMA nodes together."""
    memory: int | None = 0
    pages: dict[int, int] = {}
    for book in books:
        memory = None if memory is None or book.memory is None else memory + book.memory
        for size, count in book.pages.items():
            pages[size] = pages.get(size, 0) + count
    return memory, pages


def best(layout: Layout, rooms: Sequence[Room], unit: Unit) -> Room | None:
    """Of the NUMA nodes that hold the unit: no device wasted, then one whose last CPUs it takes, then the lowest.

    Filling one NUMA node after the other keeps the rest whole. Taking last CPUs elsewhere leaves one splinter less, and
    the memory beside them to nobody: it is done only while memory is short nowhere else.
    """
    holding = [room for room in rooms if holds(room, unit)]
    if len(holding) < 2:
        return holding[0] if holding else None
    short = {room.site.place for room in rooms if _is_short(layout, room, unit)}

    def key(room: Room) -> tuple[int, bool, int]:
        wasted = sum(count for name, count in room.devices.items() if name not in unit.devices)
        last = room.cpu == cost(room, unit) and short <= {room.site.place}
        return wasted, not last, room.site.place

    return min(holding, key=key)


def _is_short(layout: Layout, room: Room, unit: Unit) -> bool:
    """Whether a NUMA node has given more of its memory than of its CPUs."""
    memory, _ = held_together([layout.books[place] for place in room.site.domain])
    if memory is None or room.memory is None:
        return False
    cpus = room.site.cpus.bit_count() * (1 if unit.cpus else 1000)
    return room.memory * cpus < room.left * memory


def holds(room: Room, unit: Unit) -> bool:
    """Whether one NUMA node has room for the whole unit: CPU, memory, huge pages and devices together."""
    if room.cpu < cost(room, unit):
        return False
    if room.memory is not None and room.memory < unit.memory:
        return False
    if any(room.pages.get(size, 0) < count for size, count in unit.pages.items()):
        return False
    return all(room.devices.get(name, count) >= count for name, count in unit.devices.items())


def cost(room: Room, unit: Unit) -> int:
    """What a unit takes on a NUMA node: millicores, or CPUs, with full cores up to the last core's end.

    Where cores differ in width only taking them tells how many CPUs the last one adds.
    """
    if not unit.cpus:
        return unit.bound_cpu
    if not unit.full_cores:
        return unit.cpus
    width = room.site.width
    if width:
        return -(-unit.cpus // width) * width
    taken = cores.take(room.site.groups, room.free, unit.cpus, full_cores=True)
    return taken.bit_count() or unit.cpus
