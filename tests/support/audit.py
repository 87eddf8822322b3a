"""An audit of a ledger from scratch, sharing no rule with the code that keeps it.

Only the values are read: the machine, the placements and what the ledger says is left. CPUs are Python sets here, sums
are sums over all placements. Each finding is a sentence; an empty list means that all is well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.intent import Intent
from shared.ledger import Ledger
from shared.placement import Placement
from shared.policy import Isolation, Scope, Smt, TopologyPolicy
from shared.sidecars import Role
from shared.topology import Machine, MemoryKind, NumaNode


def audit(machine: Machine, ledger: Ledger, reserved: CpuSet = EMPTY, reserved_memory: int = 0) -> list[str]:
    """Every law of the ledger that is broken."""
    found = list(_cpus(machine, ledger, reserved))
    found += _amounts(machine, ledger, reserved_memory)
    for placement in ledger.placements.values():
        found += [f"{placement.pod}: {finding}" for finding in _placement(machine, placement)]
    return found


# CPUs of the whole machine.


def _cpus(machine: Machine, ledger: Ledger, reserved: CpuSet) -> Iterator[str]:
    allocatable = set(machine.online) - set(reserved) - set(machine.reserved)
    isolated = allocatable & set(machine.isolated)
    owned: set[int] = set()
    for placement in ledger.placements.values():
        bubble = set(placement.bubble)
        if bubble & owned:
            yield f"CPUs {sorted(bubble & owned)} are in two bubbles"
        if bubble - allocatable:
            yield f"CPUs {sorted(bubble - allocatable)} of {placement.pod} are not for pods"
        owned |= bubble
    if set(ledger.node_shared_pool) != allocatable - isolated - owned:
        yield f"the node shared pool is {ledger.node_shared_pool}, which is not what bubbles leave"
    if set(CpuSet(ledger.isolated)) != isolated - owned:
        yield "the free isolated CPUs are not those that bubbles leave"
    if not ledger.node_shared_pool:
        yield "the node shared pool is empty"
    for node in machine.numa_nodes:
        bound = sum(a.bound_cpu for p in ledger.placements.values() for a in p.accounts if a.node == node.id)
        room = 1000 * len(set(ledger.node_shared_pool) & set(node.cpus))
        if bound > room:
            yield f"bound pods ask {bound}m of NUMA node {node.id}, whose pool has {room}m"


# Memory, huge pages, devices of the whole machine.


def _amounts(machine: Machine, ledger: Ledger, reserved_memory: int) -> Iterator[str]:
    slack = 0
    for node, book in zip(machine.numa_nodes, ledger.books, strict=True):
        accounts = [a for p in ledger.placements.values() for a in p.accounts if a.node == node.id]
        if node.memory is not None:
            assert book.memory is not None
            size = max(0, node.memory - sum(page * count for page, count in node.hugepages.items()))
            slack += size - sum(a.memory for a in accounts) - book.memory
            if book.memory < 0:
                yield f"NUMA node {node.id} gave more memory than it has"
        for page in {*node.hugepages, *book.pages, *(page for a in accounts for page in a.pages)}:
            given = sum(a.pages.get(page, 0) for a in accounts)
            if book.pages.get(page, 0) != node.hugepages.get(page, 0) - given or book.pages.get(page, 0) < 0:
                yield f"NUMA node {node.id}: the {page}-byte pages do not add up"
        for name in {*node.devices, *book.devices, *(name for a in accounts for name in a.devices)}:
            given = sum(a.devices.get(name, 0) for a in accounts)
            if book.devices.get(name, 0) != node.devices.get(name, 0) - given or book.devices.get(name, 0) < 0:
                yield f"NUMA node {node.id}: the {name} do not add up"
        if book.bound_cpu != sum(a.bound_cpu for a in accounts):
            yield f"NUMA node {node.id}: the CPU of bound pods does not add up"
    if any(node.memory is not None for node in machine.numa_nodes) and slack != reserved_memory:
        yield f"{slack} bytes are in no account, {reserved_memory} are reserved"


# One placement.


def _placement(machine: Machine, placement: Placement) -> Iterator[str]:
    intent = placement.intent
    kinds = {node.id: node for node in machine.numa_nodes}
    for number in placement.memory_nodes:
        if kinds[number].kind in (MemoryKind.GPU, MemoryKind.EMPTY) or kinds[number].memory == 0:
            yield f"NUMA node {number} has no memory for pods"
    if list(placement.numa_nodes) != sorted(set(placement.numa_nodes)):
        yield "the NUMA nodes are not in order"
    if list(placement.memory_nodes) != sorted(set(placement.memory_nodes)):
        yield "the memory nodes are not in order"
    if intent.placement is PlacementClass.NONE:
        if placement.bubble or placement.slices or placement.accounts:
            yield "class none was given something"
        return
    yield from _given(machine, placement)
    if intent.placement is PlacementClass.BOUND:
        if placement.bubble or placement.slices:
            yield "a bound pod owns CPUs"
        if sum(a.bound_cpu for a in placement.accounts) != intent.cpu:
            yield "a bound pod's CPU is not accounted"
        if intent.placing.policy is TopologyPolicy.SINGLE_NUMA_NODE and len(placement.numa_nodes) != 1:
            yield "a bound pod is not on one NUMA node"
        return
    yield from _bubble(machine, placement)


def _given(machine: Machine, placement: Placement) -> Iterator[str]:
    """Everything asked is accounted, where the pod may use it."""
    intent, accounts = placement.intent, placement.accounts
    nodes = {node.id: node for node in machine.numa_nodes}
    if sum(a.memory for a in accounts) != intent.memory:
        yield f"{sum(a.memory for a in accounts)} bytes are accounted, {intent.memory} were asked"
    for size, amount in intent.hugepages.items():
        if sum(a.pages.get(size, 0) for a in accounts) != -(-amount // size):
            yield f"the {size}-byte pages accounted are not those asked"
    known = {name for node in machine.numa_nodes for name in node.devices}
    for name, count in intent.devices.items():
        if name in known and sum(a.devices.get(name, 0) for a in accounts) != count:
            yield f"the {name} accounted are not those asked"
    for account in accounts:
        if (account.memory or any(account.pages.values())) and account.node not in placement.memory_nodes:
            yield f"memory of NUMA node {account.node} is accounted, but may not be used"
        if (account.bound_cpu or any(account.devices.values())) and account.node not in placement.numa_nodes:
            yield f"CPUs or devices of NUMA node {account.node} are accounted, but it is not the pod's"
        if nodes[account.node].memory is None and not nodes[account.node].cpus:
            yield f"NUMA node {account.node} has nothing"


def _bubble(machine: Machine, placement: Placement) -> Iterator[str]:
    intent, bubble = placement.intent, set(placement.bubble)
    nodes = {node.id: set(node.cpus) for node in machine.numa_nodes}
    lending = {a.node for a in placement.accounts if a.memory or any(a.pages.values()) or any(a.devices.values())}
    reached = {number for number, cpus in nodes.items() if cpus & bubble}
    if not reached <= set(placement.numa_nodes) <= reached | lending:
        yield f"the bubble {placement.bubble} is not on NUMA nodes {placement.numa_nodes}"
    if bubble & set(machine.isolated) and intent.placing.isolation is not Isolation.ISOLATED:
        yield "isolated CPUs were given to a pod that did not ask for them"
    yield from _slices(placement)
    yield from _size(machine, placement)
    yield from _alignment(machine, placement)


def _slices(placement: Placement) -> Iterator[str]:
    intent, bubble = placement.intent, set(placement.bubble)
    owned: set[int] = set()
    for part in intent.parts:
        cpus = set(placement.slices.get(part.name, EMPTY))
        if len(cpus) != part.slice:
            yield f"{part.name} owns {len(cpus)} CPUs, asked for {part.slice}"
        if cpus & owned or cpus - bubble:
            yield f"the slice of {part.name} is not its own"
        owned |= cpus
    if set(placement.slices) - {part.name for part in intent.parts}:
        yield "a slice belongs to nobody"
    if bubble - owned != set(placement.pool):
        yield "the pod shared pool is not what slices leave"
    for part in intent.parts:
        if not placement.cpus_of(part.name, EMPTY):
            yield f"{part.name} has no CPU to run on"
        if part.role is not Role.INIT and not part.slice and set(placement.cpus_of(part.name, EMPTY)) & owned:
            yield f"{part.name} shares CPUs that others own"


def _size(machine: Machine, placement: Placement) -> Iterator[str]:
    """As many CPUs as were asked for; with full cores up to the end of the last one of each unit."""
    intent, size = placement.intent, len(placement.bubble)
    if intent.placing.smt is not Smt.FULL_CORES:
        if size != intent.bubble:
            yield f"the bubble has {size} CPUs, asked were {intent.bubble}"
        return
    width = max(len(core) for core in machine.cores)
    units = 1
    if intent.placing.scope is Scope.CONTAINER:
        units = sum(1 for part in intent.parts if part.slice) + 1
    if not intent.bubble <= size <= intent.bubble + units * (width - 1):
        yield f"the bubble has {size} CPUs, asked were {intent.bubble}"
    for core in machine.cores:
        if not core.isdisjoint(placement.bubble) and not core <= placement.bubble:
            yield f"core {core} is only partly in the bubble"


def _alignment(machine: Machine, placement: Placement) -> Iterator[str]:
    intent = placement.intent
    if intent.placing.policy is not TopologyPolicy.SINGLE_NUMA_NODE:
        return
    if intent.placing.scope is Scope.POD and len(placement.numa_nodes) != 1:
        yield f"the pod is on NUMA nodes {placement.numa_nodes}, not on one"
    for name, cpus in placement.slices.items():
        if sum(1 for node in machine.numa_nodes if not node.cpus.isdisjoint(cpus)) != 1:
            yield f"{name} is not on one NUMA node"


# Is a refusal right? By trying everything, for machines of a few NUMA nodes with equal cores, and scope pod.


@dataclass(frozen=True, slots=True)
class Left:
    """What one NUMA node with CPUs has left, and may give."""

    node: NumaNode
    cpus: int
    """CPUs of an exclusive pod (whole cores with full cores), or millicores of a bound one."""


def least_nodes(machine: Machine, ledger: Ledger, intent: Intent) -> int:
    """The fewest NUMA nodes that hold a pod together, by trying every set of them; 0 when none does."""
    lefts = [_left(machine, ledger, node, intent) for node in machine.numa_nodes if node.cpus]
    for size in range(1, len(lefts) + 1):
        if any(_hold(machine, ledger, chosen, intent) for chosen in combinations(lefts, size)):
            return size
    return 0


def _left(machine: Machine, ledger: Ledger, node: NumaNode, intent: Intent) -> Left:
    free = set(ledger.node_shared_pool) & set(node.cpus)
    bound = sum(a.bound_cpu for p in ledger.placements.values() for a in p.accounts if a.node == node.id)
    if intent.placement is PlacementClass.BOUND:
        return Left(node, 1000 * len(free) - bound if free else -1)
    width = max(len(core) for core in machine.cores)
    usable = len(free)
    if intent.placing.smt is Smt.FULL_CORES:
        usable = sum(len(core) for core in machine.cores if set(core) <= free)
    most = min(usable, len(free) - -(-bound // 1000), len(ledger.node_shared_pool) - 1)
    if intent.placing.smt is Smt.FULL_CORES:
        most -= most % width
    return Left(node, max(0, most) if free else -1)


def _hold(machine: Machine, ledger: Ledger, chosen: Sequence[Left], intent: Intent) -> bool:
    if any(left.cpus < 0 for left in chosen):
        return False
    cpu = sum(left.cpus for left in chosen)
    if intent.placement is PlacementClass.BOUND:
        if cpu < intent.cpu:
            return False
    else:
        cost = intent.bubble
        if intent.placing.smt is Smt.FULL_CORES:
            width = max(len(core) for core in machine.cores)
            cost = -(-cost // width) * width
        if cpu < cost or len(ledger.node_shared_pool) <= cost:
            return False
    return _stock(machine, ledger, chosen, intent)


def _stock(machine: Machine, ledger: Ledger, chosen: Sequence[Left], intent: Intent) -> bool:
    """Memory, huge pages and devices of NUMA nodes that have memory of their own."""
    books = [ledger.books[machine.index[left.node.id]] for left in chosen]
    if all(book.memory is not None for book in books) and sum(b.memory or 0 for b in books) < intent.memory:
        return False
    for size, amount in intent.hugepages.items():
        if sum(book.pages.get(size, 0) for book in books) < -(-amount // size):
            return False
    known = {name for node in machine.numa_nodes for name in node.devices}
    return all(
        sum(book.devices.get(name, 0) for book in books) >= count
        for name, count in intent.devices.items()
        if name in known
    )
