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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from shared import cores
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.intent import Intent
from shared.ledger import Layout, Ledger, Site, for_pods
from shared.misfit import refuse
from shared.placement import Account, Misfit, Placement
from shared.policy import Isolation, Placing, Scope, TopologyPolicy
from shared.rooms import Room, best, holds, room_of
from shared.settling import Stay, settle, stand
from shared.spanning import needless, span
from shared.units import Unit, units


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
            for site in ledger.layout.with_cpus:
                room = room_of(ledger, site, unit, free)
                if room is not None and holds(room, unit):
                    return True
        if intent.placing.policy is TopologyPolicy.SINGLE_NUMA_NODE:
            return False
    return isinstance(offer(ledger, "", intent), Placement)


def keep(ledger: Ledger, pod: str, intent: Intent, bubble: CpuSet, slices: Mapping[str, CpuSet]) -> Placement | None:
    """The placement of a pod that has its CPUs already: exactly this bubble and the slices that are known, the others
    cut out of the rest, and what is not CPU spread as for any pod. None where these CPUs are not for pods. Whether they
    are free, and whether they are as many as the intent asks, is for the caller to see."""
    (unit,) = units(replace(intent, placing=replace(intent.placing, scope=Scope.POD)))
    stay = stand(ledger, unit, bubble.mask)
    return _placement(ledger.layout, pod, intent, [(unit, stay)], slices) if stay else None


def _anywhere(ledger: Ledger, pod: str, intent: Intent) -> Placement:
    """Class none: the whole node shared pool, and memory wherever pods may have any."""
    numa_nodes = tuple(site.id for site in ledger.layout.with_cpus)
    holding = (n.id for n in ledger.layout.machine.numa_nodes if n.memory != 0 and for_pods(n))
    return Placement(pod, intent, numa_nodes, tuple(holding), EMPTY, {}, ())


def _seat(ledger: Ledger, unit: Unit, intent: Intent) -> Stay | Misfit:
    rooms: list[Room] = []
    for free in _sources(ledger, unit, intent.placing.isolation):
        rooms = [room for site in ledger.layout.with_cpus if (room := room_of(ledger, site, unit, free))]
        single = best(ledger.layout, rooms, unit)
        if single is not None:
            return settle(ledger, unit, (single,), free)
    policy = intent.placing.policy
    if policy is TopologyPolicy.SINGLE_NUMA_NODE:
        return refuse(ledger, unit, rooms)
    chosen = span(ledger, unit, rooms)
    if chosen is None:
        return refuse(ledger, unit, rooms, together=True)
    if policy is TopologyPolicy.RESTRICTED and needless(ledger.layout, unit, len(chosen)):
        return refuse(ledger, unit, rooms)
    return settle(ledger, unit, chosen, ledger.free)


def _sources(ledger: Ledger, unit: Unit, isolation: Isolation) -> Iterator[int]:
    """Where CPUs may come from. Isolated CPUs serve only those who asked for them: without load balancing, threads that
    do not pin themselves would all stay on one CPU (Documentation/admin-guide/cgroup-v2.rst, cpuset partitions)."""
    if unit.cpus and isolation is Isolation.ISOLATED and ledger.isolated:
        yield ledger.isolated
    yield ledger.free


def _with(ledger: Ledger, stay: Stay) -> Ledger:
    """The ledger after one unit of a pod, for the units after it."""
    booked = Placement("", _NOBODY, (), (), CpuSet(stay.cpus), {}, stay.accounts)
    return replace(ledger.commit(booked), placements={})


_NOBODY = Intent(PlacementClass.EXCLUSIVE, Placing(), ())

_NO_SLICES: Mapping[str, CpuSet] = {}


def _placement(
    layout: Layout,
    pod: str,
    intent: Intent,
    stays: Sequence[tuple[Unit, Stay]],
    known: Mapping[str, CpuSet] = _NO_SLICES,
) -> Placement:
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
        slices=_carve(layout, intent, stays, known),
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


def _carve(
    layout: Layout, intent: Intent, stays: Sequence[tuple[Unit, Stay]], known: Mapping[str, CpuSet]
) -> Mapping[str, CpuSet]:
    """Cut the slices out of their unit's CPUs; those that fill whole cores first, so that they get them."""
    slices: dict[str, CpuSet] = dict(known)
    cut = 0
    for cpus in known.values():
        cut |= cpus.mask
    width = layout.machine.threads_per_core
    for unit, stay in stays:
        left = stay.cpus & ~cut
        owners = [p for p in intent.parts if p.slice and p.name not in known and unit.name in ("", p.name)]
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
