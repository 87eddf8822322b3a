"""The topology intent: what admission tells the node about one pod, and the allocator's only input.

An intent is made from a weighed pod and the policy of its namespace. It is complete: the node needs nothing else to
reserve, carve and bind. How it travels, signed, is :mod:`shared.seal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from shared.demand import CORE, Demand, PlacementClass, Weight, whole
from shared.errors import InputError
from shared.pod import Amounts, is_hugepages
from shared.policy import Placing, TopologyPolicy
from shared.quantity import parse, to_whole
from shared.sidecars import Role
from shared.value import value

NOT_NUMA = frozenset({"cpu", "memory", "ephemeral-storage"})
"""Resources that are no devices: the first two are weighed by themselves, storage has no NUMA node."""


@value
class Part:
    """One container's part."""

    name: str
    role: Role
    slice: int = 0
    """CPUs it owns alone; 0 for one that shares."""
    memory: int = 0
    """Requested bytes."""
    hugepages: Mapping[int, int] = field(default_factory=dict)
    """Page size in bytes to bytes requested."""


@value
class Intent:
    """All the node has to know."""

    placement: PlacementClass
    placing: Placing
    parts: tuple[Part, ...]
    """In the order the kubelet starts the containers."""
    cpu: int = 0
    """Demand in millicores, as the scheduler counts it."""
    memory: int = 0
    """Demand in bytes."""
    hugepages: Mapping[int, int] = field(default_factory=dict)
    """Page size in bytes to bytes demanded."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """Extended resource to pieces demanded."""
    bubble: int = 0
    """Whole CPUs of the bubble; 0 unless the class is exclusive."""

    @property
    def slices(self) -> int:
        """CPUs that are owned alone."""
        return sum(part.slice for part in self.parts)

    @property
    def pool(self) -> int:
        """CPUs of the pod shared pool."""
        return self.bubble - self.slices

    @property
    def sharers(self) -> tuple[str, ...]:
        """Containers that live in the pod shared pool."""
        return tuple(part.name for part in self.parts if part.slice == 0 and part.role is not Role.INIT)


def make(demand: Demand, placing: Placing) -> Intent:
    """The intent of a weighed pod under a policy."""
    placement = demand.placement if placing.policy is not TopologyPolicy.NONE else PlacementClass.NONE
    exclusive = placement is PlacementClass.EXCLUSIVE
    total = whole(demand.total)
    return Intent(
        placement=placement,
        placing=placing,
        parts=tuple(_part(weight, exclusive) for weight in demand.containers),
        cpu=total.get("cpu", 0),
        memory=total.get("memory", 0),
        hugepages=hugepages(demand.total),
        devices={n: count for n, count in total.items() if count and not (n in NOT_NUMA or is_hugepages(n))},
        bubble=bubble_cpus(demand) if exclusive else 0,
    )


def _part(weight: Weight, exclusive: bool) -> Part:
    return Part(
        name=weight.name,
        role=weight.role,
        slice=weight.exclusive_cpus if exclusive else 0,
        memory=weight.memory,
        hugepages=hugepages(weight.requests),
    )


def hugepages(amounts: Amounts) -> Mapping[int, int]:
    """``hugepages-2Mi`` and the like in bytes, by page size in bytes; zero amounts left out."""
    found: dict[int, int] = {}
    for name, amount in amounts.items():
        if is_hugepages(name) and amount:  # two names may mean one size: hugepages-1Gi, hugepages-1024Mi
            found[page_size(name)] = found.get(page_size(name), 0) + to_whole(name, amount)
    return found


def page_size(resource: str) -> int:
    """The page size in bytes of ``hugepages-2Mi``. Raises InputError where the size is no positive quantity."""
    size = to_whole(resource, parse(resource.removeprefix("hugepages-")))
    if size <= 0:
        raise InputError(f"{resource}: the page size must be a positive quantity, as in hugepages-2Mi")
    return size


def bubble_cpus(demand: Demand) -> int:
    """The whole CPUs of an exclusive pod: its slices and its pod shared pool, at the worst moment.

    1. ``spec.resources`` says it, rounded up, where the pod has it.
    2. Else, app containers and sidecars together: the slices, and the other requests (with the overhead) rounded up.
    3. Else, a standard init container that needs more: beside the sidecars started before it.
    The pod shared pool never is empty while a container lives in it, whatever the figures say.
    """
    slices = sum(weight.exclusive_cpus for weight in demand.containers)
    sharing = [w for w in demand.containers if w.role is not Role.INIT and not w.eligible]
    least = slices + (1 if sharing else 0)
    if demand.pod_cpu is not None:
        return max(least, _ceil(demand.pod_cpu + demand.overhead_cpu))
    settled = slices + _ceil(demand.overhead_cpu + sum(w.requests.get("cpu", 0) for w in sharing))
    return max(least, settled, _init_peak(demand.containers, demand.overhead_cpu))


def _init_peak(weights: Iterable[Weight], overhead: int) -> int:
    owned = shared = worst = 0
    for weight in weights:
        cpu = weight.requests.get("cpu", 0)
        if weight.role is Role.INIT:
            worst = max(worst, owned + _ceil(shared + cpu + overhead))
        elif weight.why == "restartPolicy Always":
            owned += weight.exclusive_cpus
            shared += 0 if weight.eligible else cpu
    return worst


def _ceil(nanos: int) -> int:
    return -(-nanos // CORE)


def starved(demand: Demand) -> tuple[str, ...]:
    """The containers that would be left without a CPU: ``spec.resources`` equals the slices while they share the rest
    (KEP-5526's empty shared pool). Empty where all is well."""
    if demand.placement is not PlacementClass.EXCLUSIVE or demand.pod_cpu is None:
        return ()
    slices = sum(weight.exclusive_cpus for weight in demand.containers)
    if _ceil(demand.pod_cpu) > slices:
        return ()
    return tuple(w.name for w in demand.containers if w.role is not Role.INIT and not w.eligible)
