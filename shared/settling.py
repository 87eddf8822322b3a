"""From NUMA nodes to CPUs and accounts: what a unit takes of each node that was chosen for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shared import cores
from shared.ledger import Ledger, Site
from shared.misfit import refuse
from shared.placement import Account, Misfit
from shared.rooms import Room, room_of
from shared.units import Unit
from shared.value import value


@value
class Stay:
    """Where one unit goes."""

    sites: tuple[Site, ...]
    cpus: int
    """The unit's own CPUs as a bit mask."""
    accounts: tuple[Account, ...]


def settle(ledger: Ledger, unit: Unit, rooms: Sequence[Room], free: int) -> Stay | Misfit:
    """Choose the unit's CPUs on the NUMA nodes, the roomiest used up first, and spread what is not CPU over them."""
    taken: dict[int, int] = {}
    need = unit.cpus
    order = sorted(rooms, key=lambda room: (-room.cpu, room.site.place)) if len(rooms) > 1 else rooms
    for room in order:
        part = min(need, room.cpu)
        mask = cores.take(room.site.groups, free & room.site.cpus, part, unit.full_cores) if part else 0
        if mask.bit_count() > room.cpu:  # cores differ here, and the last one is wider than what may be taken
            return refuse(ledger, unit, rooms, together=len(rooms) > 1)
        taken[room.site.place] = mask
        need -= mask.bit_count()
    cpus = sum(taken.values())
    if need > 0 or (unit.cpus and not ledger.free & ~cpus):
        return refuse(ledger, unit, rooms, together=len(rooms) > 1)
    return Stay(tuple(room.site for room in rooms), cpus, _accounts(ledger, unit, order, taken))


def stand(ledger: Ledger, unit: Unit, cpus: int) -> Stay | None:
    """Where a unit is that has its CPUs (a bit mask) already; None where some of them are not for pods."""
    rooms = [room for site in ledger.layout.with_cpus if (room := room_of(ledger, site, unit, cpus))]
    taken = {room.site.place: room.free for room in rooms}
    if not rooms or sum(taken.values()) != cpus:
        return None
    return Stay(tuple(room.site for room in rooms), cpus, _accounts(ledger, unit, rooms, taken))


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
