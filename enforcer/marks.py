"""A pod's place, written on each of its containers, so that it can be read back exactly.

The runtime keeps a container's annotations with it and shows them at every Synchronize. Nobody signs a mark: the
kubelet lets users write the pod's annotations only, but a runtime may be configured to copy those. So a mark never
*gives* anything. It only says which of the equal ways to satisfy a believed intent was taken, and has to fit that
intent in every figure; whether the place is still free is the ledger's word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.errors import InputError
from shared.intent import Intent
from shared.ledger import Layout
from shared.placement import Account, Placement
from shared.policy import Isolation, Scope, Smt, TopologyPolicy
from shared.units import units

KEY = "armistice.dev/placement"

VERSION = 1


def write(placement: Placement) -> str:
    """The mark: compact JSON, everything of the placement but the intent, which the pod carries itself."""
    content: dict[str, Any] = {
        "v": VERSION,
        "pod": placement.pod,
        "bubble": str(placement.bubble),
        "slices": {name: str(cpus) for name, cpus in placement.slices.items()},
        "numa": list(placement.numa_nodes),
        "mems": list(placement.memory_nodes),
        "accounts": [_written(account) for account in placement.accounts],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _written(account: Account) -> Mapping[str, Any]:
    """One account; amounts of zero are left out."""
    fields: dict[str, Any] = {
        "cpu": account.bound_cpu,
        "memory": account.memory,
        "pages": {str(size): count for size, count in account.pages.items()},
        "devices": dict(account.devices),
    }
    return {"node": account.node, **{name: value for name, value in fields.items() if value}}


def read(text: str, uid: str, intent: Intent, layout: Layout) -> Placement | None:
    """The placement that a mark tells of; None for one that is not of this pod, does not satisfy its intent exactly, or
    names what this machine has not."""
    try:
        content = json.loads(text)
        found = _placement(content, uid, intent)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError):
        return None
    return found if content["v"] == VERSION and content["pod"] == uid and satisfies(found, layout) else None


def _placement(content: Mapping[str, Any], uid: str, intent: Intent) -> Placement:
    return Placement(
        pod=uid,
        intent=intent,
        numa_nodes=_numbers(content["numa"]),
        memory_nodes=_numbers(content["mems"]),
        bubble=CpuSet.parse(content["bubble"]),
        slices={str(name): CpuSet.parse(cpus) for name, cpus in content["slices"].items()},
        accounts=tuple(_account(fields) for fields in content["accounts"]),
    )


def _account(fields: Mapping[str, Any]) -> Account:
    pages = {int(size): _number(count) for size, count in fields.get("pages", {}).items()}
    devices = {str(name): _number(count) for name, count in fields.get("devices", {}).items()}
    cpu, memory = _number(fields.get("cpu", 0)), _number(fields.get("memory", 0))
    return Account(_number(fields["node"]), cpu, memory, pages, devices)


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a count")
    return value


def _numbers(values: Iterable[object]) -> tuple[int, ...]:
    return tuple(_number(value) for value in values)


# Does a place satisfy its intent?


def satisfies(placement: Placement, layout: Layout) -> bool:
    """Whether the allocator could have answered this to the placement's intent, on some day of this machine."""
    return (
        _on_machine(placement, layout)
        and _has_slices(placement)
        and _has_size(placement, layout)
        and _has_shape(placement, layout)
        and _has_amounts(placement, layout)
    )


def _on_machine(placement: Placement, layout: Layout) -> bool:
    """Its NUMA nodes exist, are told once, and the bubble is on them."""
    nodes = {node.id: node for node in layout.machine.numa_nodes}
    told = (placement.numa_nodes, placement.memory_nodes, tuple(account.node for account in placement.accounts))
    if any(len(set(ids)) != len(ids) or not nodes.keys() >= set(ids) for ids in told):
        return False
    here = EMPTY
    for number in placement.numa_nodes:
        here |= nodes[number].cpus
    return bool(placement.numa_nodes) and placement.bubble <= here


def _has_slices(placement: Placement) -> bool:
    """Every owner its own CPUs inside the bubble, as many as the intent says, and nobody else."""
    wanted = {part.name: part.slice for part in placement.intent.parts if part.slice}
    if {name: len(cpus) for name, cpus in placement.slices.items()} != wanted:
        return False
    owned = EMPTY
    for cpus in placement.slices.values():
        owned |= cpus
    return owned <= placement.bubble and len(owned) == sum(wanted.values())


def _has_size(placement: Placement, layout: Layout) -> bool:
    """As many CPUs as the intent says, and at most to the end of each unit's last core."""
    intent = placement.intent
    if intent.placement is not PlacementClass.EXCLUSIVE:
        return not placement.bubble
    spare = len(units(intent)) * (layout.machine.threads_per_core - 1)
    return intent.bubble <= len(placement.bubble) <= intent.bubble + spare


def _has_shape(placement: Placement, layout: Layout) -> bool:
    """Whole cores and one NUMA node where the policy says so, and isolated CPUs only for who asked for them."""
    placing, bubble, machine = placement.intent.placing, placement.bubble, layout.machine
    if placing.smt is Smt.FULL_CORES and any(
        not core.isdisjoint(bubble) and not core <= bubble for core in machine.cores
    ):
        return False
    if placing.isolation is not Isolation.ISOLATED and bubble.mask & layout.isolated:
        return False
    if placing.policy is not TopologyPolicy.SINGLE_NUMA_NODE:
        return True
    if placing.scope is Scope.POD or not placement.slices:
        return len(placement.numa_nodes) == 1
    return all(any(cpus <= node.cpus for node in machine.numa_nodes) for cpus in placement.slices.values())


def _has_amounts(placement: Placement, layout: Layout) -> bool:
    """The accounts add up to what the intent asks; devices only where the machine knows them."""
    intent, accounts = placement.intent, placement.accounts
    cpu = intent.cpu if intent.placement is PlacementClass.BOUND else 0
    if sum(a.bound_cpu for a in accounts) != cpu or sum(a.memory for a in accounts) != intent.memory:
        return False
    pages: dict[int, int] = {}
    devices: dict[str, int] = {}
    for unit in units(intent):
        for size, count in unit.pages.items():
            pages[size] = pages.get(size, 0) + count
        for name, count in unit.devices.items():
            devices[name] = devices.get(name, 0) + count
    known = layout.machine.known_devices
    return _summed([a.pages for a in accounts]) == {k: v for k, v in pages.items() if v} and _summed(
        [a.devices for a in accounts]
    ) == {name: count for name, count in devices.items() if count and name in known}


def _summed(amounts: Iterable[Mapping[Any, int]]) -> Mapping[Any, int]:
    total: dict[Any, int] = {}
    for one in amounts:
        for key, count in one.items():
            total[key] = total.get(key, 0) + count
    return {key: count for key, count in total.items() if count}
