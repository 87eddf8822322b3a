"""What the enforcer knows of its node: one value, replaced as a whole at each event.

It is rebuilt from what the node shows (:mod:`enforcer.recovery`) and never read from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from enforcer.kernel import Level
from enforcer.runtime import Container, ContainerState, Sandbox
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.errors import InputError
from shared.intent import Intent
from shared.ledger import Ledger
from shared.placement import Placement


@dataclass(frozen=True, slots=True)
class Resident:
    """A container that was created and has not stopped."""

    id: str
    sandbox: str
    name: str
    cgroups_path: str
    cpus: CpuSet = EMPTY
    """What its specification holds since our last answer about it; empty where nobody set any."""
    mems: CpuSet = EMPTY
    """Its memory nodes; set at creation and never again: the kernel would move its pages inside the write."""
    started: bool = False
    """Whether its cgroup is as the runtime makes it; while it is being made nothing can be held against it."""

    @classmethod
    def of(cls, container: Container) -> Resident:
        """As the runtime shows it."""
        cpus, mems = _listed(container.cpus), _listed(container.mems)
        started = container.state is ContainerState.RUNNING
        return cls(container.id, container.sandbox, container.name, container.cgroups_path, cpus, mems, started)


def _listed(text: str) -> CpuSet:
    """A list of the specification; one that nobody can read counts as none, and is then written anew."""
    try:
        return CpuSet.parse(text)
    except InputError:
        return EMPTY


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod, from its sandbox until its cgroup is gone."""

    sandbox: Sandbox
    """The newest, without its annotations: an intent may have 16 KiB, and is kept as a value."""
    intent: Intent | None = None
    doubt: str = ""
    """Why its intent is not believed."""
    misfit: str = ""
    """Why it has no place although it wants one; what a person reads."""
    level: Level = Level.CPUSET
    """What keeps its bubble its own now."""
    why_not: str = ""
    """Where that is less than was wanted: the reason. Empty beside a lower level: the kernel was not heard yet."""
    residents: Mapping[str, Resident] = field(default_factory=dict)
    """By container id."""

    @property
    def uid(self) -> str:
        """In Kubernetes."""
        return self.sandbox.uid

    @property
    def spoken(self) -> str:
        """As a person knows it."""
        return f"{self.sandbox.namespace}/{self.sandbox.name}"

    @property
    def placement_class(self) -> PlacementClass:
        """What it is treated as; a doubted one asks for nothing."""
        return self.intent.placement if self.intent else PlacementClass.NONE

    def resident(self, container: Container) -> Resident:
        """As we know the container, or as the runtime shows it."""
        return self.residents.get(container.id) or Resident.of(container)

    def holding(self, resident: Resident) -> Pod:
        """The pod with the container in it."""
        return replace(self, residents={**self.residents, resident.id: resident})

    def without(self, container: str) -> Pod:
        """The pod without the container."""
        return replace(self, residents={key: value for key, value in self.residents.items() if key != container})


@dataclass(frozen=True, slots=True)
class Settled:
    """What was so when the runtime was last told everything. A pod that is still the same value, in the same place and
    beside the same pools, is owed nothing, and is not looked at again."""

    pods: Mapping[str, Pod] = field(default_factory=dict)
    placements: Mapping[str, Placement] = field(default_factory=dict)
    pools: object = None
    """Everything else that decides over a container's CPUs."""

    def holds(self, pod: Pod, placement: Placement | None) -> bool:
        """Whether pod and place are the very values of then."""
        return self.pods.get(pod.uid) is pod and self.placements.get(pod.uid) is placement


@dataclass(frozen=True, slots=True)
class State:
    """Everything. Who owns which CPUs is the ledger's alone; its placements are known by the pods' uids."""

    ledger: Ledger
    best: Level
    """The strongest isolation of this node; CPUSET where its kernel has no partitions for us."""
    why_not: str = ""
    """Why it has none."""
    pods: Mapping[str, Pod] = field(default_factory=dict)
    """By uid."""
    static_kubelet: bool = False
    """Whether the kubelet pins containers itself."""
    namespaces: Mapping[str, bool] = field(default_factory=dict)
    """Whether a namespace enforces, as far as that was found out."""
    settled: Settled = field(default_factory=Settled, compare=False, repr=False)
    """Saves work and decides nothing: with a thousand containers each answer would go through all of them."""

    @classmethod
    def fresh(cls, ledger: Ledger, best: Level, why_not: str = "") -> State:
        """Of a node of which nothing is known yet."""
        return cls(ledger, best, why_not)

    def placement(self, uid: str) -> Placement | None:
        """The pod's place, if it has one."""
        return self.ledger.placements.get(uid)

    def having(self, pod: Pod) -> State:
        """The state with the pod in it, or changed."""
        return replace(self, pods={**self.pods, pod.uid: pod})

    def placing(self, pod: Pod, placement: Placement) -> State:
        """The state with the pod in its place. Raises InvariantError where the place is another's."""
        return replace(self.having(pod), ledger=self.ledger.commit(placement))

    def losing(self, uid: str) -> State:
        """The state without the pod and what it had."""
        ledger = self.ledger.release(uid) if uid in self.ledger.placements else self.ledger
        return replace(self, ledger=ledger, pods={key: pod for key, pod in self.pods.items() if key != uid})
