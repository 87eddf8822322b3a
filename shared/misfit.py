"""A refusal of the allocator, put into numbers and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.ledger import Ledger
from shared.placement import Misfit
from shared.quantity import spoken
from shared.rooms import Room, held_together
from shared.units import Unit


def refuse(ledger: Ledger, unit: Unit, rooms: Sequence[Room], together: bool = False) -> Misfit:
    """What a unit asked for and what was found: on the NUMA node that comes closest, or on all of them together."""
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
    memory, pages = held_together([ledger.books[place] for place in places])
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
