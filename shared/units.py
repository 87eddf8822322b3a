"""What of a pod has to stay together on a NUMA node: the pod, or each container that owns CPUs and the shared rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from shared.demand import PlacementClass
from shared.intent import Intent, Part
from shared.policy import Scope, Smt
from shared.value import value


@value
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
