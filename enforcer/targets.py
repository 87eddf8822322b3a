"""Which CPUs each container is to have, what the runtime still has to be told of that, and what is promised by it.

Words: a bubble is *fenced* where nothing but the cpusets of all other containers keeps it its own. The kernel takes a
partition's CPUs out of everybody's effective set by itself, so that partitions change nobody's cpuset here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from enforcer.kernel import Level
from enforcer.promise import ContainerPromise, PodPromise
from enforcer.runtime import Update
from enforcer.state import Pod, Resident, Settled, State
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.placement import Placement


@dataclass(frozen=True, slots=True)
class Target:
    """What one container is to have. Empty sets: hands off."""

    cpus: CpuSet = EMPTY
    mems: CpuSet = EMPTY
    owns: bool = False
    """Whether the CPUs are a slice of its own."""


HANDS_OFF = Target()


@dataclass(frozen=True, slots=True)
class Pools:
    """The static sets of containers that own nothing, worked out once for an event."""

    state: State
    open: CpuSet
    """Every CPU for pods, less the fenced ones; never empty, because the node shared pool is in it."""
    by_nodes: dict[tuple[int, ...], CpuSet] = field(default_factory=dict)
    """Found so far."""

    @classmethod
    def of(cls, state: State) -> Pools:
        """The sets as the bubbles are now."""
        return cls(state, CpuSet(state.ledger.layout.pool) - fenced(state))

    @property
    def decisive(self) -> tuple[CpuSet, CpuSet, bool]:
        """All that :func:`target` goes by, besides the pod and its place."""
        return self.open, self.state.ledger.node_shared_pool, self.state.static_kubelet

    def near(self, numa_nodes: tuple[int, ...]) -> CpuSet:
        """The part on some NUMA nodes; everything where bubbles took all of these: the kernel gives a container whose
        CPUs are all gone its parent's instead, and an empty text means "leave it" to the runtime."""
        if numa_nodes not in self.by_nodes:
            machine = self.state.ledger.layout.machine
            here = EMPTY
            for node in numa_nodes:
                here |= machine.numa_nodes[machine.index[node]].cpus
            shared = not here.isdisjoint(self.state.ledger.node_shared_pool)
            self.by_nodes[numa_nodes] = self.open & here if shared else self.open
        return self.by_nodes[numa_nodes]


def fenced(state: State) -> CpuSet:
    """The CPUs of bubbles that nothing but cpusets keeps, those included of which the kernel was not heard yet."""
    found = EMPTY
    for uid, placement in state.ledger.placements.items():
        if placement.bubble and state.pods[uid].level is Level.CPUSET:
            found |= placement.bubble
    return found


def target(pools: Pools, pod: Pod, name: str) -> Target:
    """What a container of the pod is to have."""
    placement = pools.state.placement(pod.uid)
    if placement is not None and placement.intent.placement is PlacementClass.EXCLUSIVE:
        return _inside(pools, pod, placement, name)
    if pools.state.static_kubelet:
        return HANDS_OFF
    if placement is not None:
        return Target(pools.near(placement.numa_nodes), _memory(placement))
    return Target(pools.open)


def _inside(pools: Pools, pod: Pod, placement: Placement, name: str) -> Target:
    """A container of an exclusive pod.

    One that the intent does not name (an ephemeral container, or somebody's) belongs to the node shared pool. The
    kernel confines everything below a partition to it, so that there the pod shared pool takes it in, or the bubble
    where the pod has no pool: then it shares with those who own, and only whoever may add containers to the pod can
    do that.
    """
    if name in placement.slices:
        return Target(placement.slices[name], _memory(placement), owns=True)
    if any(part.name == name for part in placement.intent.parts):
        return Target(placement.cpus_of(name, EMPTY), _memory(placement))
    if pod.level is Level.CPUSET:
        return HANDS_OFF if pools.state.static_kubelet else Target(pools.open)
    return Target(placement.pool or placement.bubble)


def _memory(placement: Placement) -> CpuSet:
    return CpuSet.of(placement.memory_nodes)


# What the runtime has to be told.


def owed(state: State, but: str = "") -> tuple[State, tuple[Update, ...]]:
    """Updates for the containers that have other CPUs than they are to have, and the state once they are told.

    ``but`` is the container that the event is about: NRI refuses an update of one that is being created.
    """
    pools = Pools.of(state)
    late = [(pod.uid, each) for pod in _unsettled(state, pools) for each in _late(pools, pod)]
    told = [(uid, resident) for uid, resident in late if resident.id != but]
    pods = dict(state.pods)
    for uid, resident in told:
        pods[uid] = pods[uid].holding(resident)
    waiting = {uid for uid, resident in late if resident.id == but}
    settled = {uid: pod for uid, pod in pods.items() if uid not in waiting} if waiting else pods
    state = replace(state, pods=pods, settled=Settled(settled, state.ledger.placements, pools.decisive))
    return state, tuple(Update(resident.id, str(resident.cpus)) for _, resident in told)


def _unsettled(state: State, pools: Pools) -> Iterator[Pod]:
    """The pods of which it is not known that nothing is owed to them."""
    before = state.settled
    same = before.pools == pools.decisive
    return (pod for uid, pod in state.pods.items() if not (same and before.holds(pod, state.placement(uid))))


def _late(pools: Pools, pod: Pod) -> Iterator[Resident]:
    for resident in pod.residents.values():
        cpus = target(pools, pod, resident.name).cpus
        if cpus and cpus != resident.cpus:
            yield replace(resident, cpus=cpus)


# What is promised.


def promises(state: State) -> tuple[PodPromise, ...]:
    """Of every pod what its started containers were given. What is still owed to them is wider, or the reply that tells
    them comes before the container for whose sake they give way."""
    return tuple(_promise(state, pod) for pod in state.pods.values())


def _promise(state: State, pod: Pod) -> PodPromise:
    placement = state.placement(pod.uid)
    return PodPromise(
        uid=pod.uid,
        namespace=pod.sandbox.namespace,
        name=pod.sandbox.name,
        cgroup_parent=pod.sandbox.cgroup_parent,
        placement=(placement.intent.placement if placement else PlacementClass.NONE).value,
        bubble=placement.bubble if placement else EMPTY,
        level=pod.level,
        why_not=pod.why_not,
        numa_nodes=placement.numa_nodes if placement else (),
        containers=tuple(_promised(state, pod, each) for each in pod.residents.values() if each.started),
    )


def _promised(state: State, pod: Pod, resident: Resident) -> ContainerPromise:
    placement = state.placement(pod.uid)
    ours = not state.static_kubelet or (placement is not None and bool(placement.bubble))
    owns = placement is not None and placement.slices.get(resident.name) == resident.cpus
    cpus, mems = (resident.cpus, resident.mems) if ours else (EMPTY, EMPTY)
    return ContainerPromise(resident.id, resident.name, resident.cgroups_path, cpus, mems, owns)
