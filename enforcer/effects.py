"""What a decision wants done, and what it answers: values. :mod:`enforcer.plugin` does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from enforcer.kernel import Level
from enforcer.runtime import NOTHING, Reply
from shared.cpuset import CpuSet

if TYPE_CHECKING:
    from enforcer.state import State


class Reason(Enum):
    """Why a pod gets an event; the value is the event's ``reason``, and a metric's label."""

    NO_ROOM = "TopologyNoRoom"
    """The pod does not fit this node now."""
    NOT_TRUSTED = "TopologyIntentRefused"
    """Its intent cannot be believed."""
    WEAKER = "TopologyWeakerIsolation"
    """Its cores are kept by less than was asked for."""
    DRIFT = "TopologyDriftRepaired"
    """Somebody changed its cgroups; they are right again."""
    UNREPAIRED = "TopologyDriftRemains"
    """Somebody changed its cgroups, and the kernel did not take the repair."""
    CONFLICT = "TopologyConflict"
    """Another program of the node pins containers too."""


@dataclass(frozen=True, slots=True)
class Enclose:
    """Make the pod's cgroup a partition of these CPUs, or change the one it is; the answer goes to ``enclosed``."""

    uid: str
    cgroup_parent: str
    cpus: CpuSet
    level: Level
    """PARTITION or ISOLATED."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Say when the pod's cgroup is gone (``gone``) or its partition changes (``looked``)."""

    uid: str
    cgroup_parent: str


@dataclass(frozen=True, slots=True)
class Confine:
    """Keep the sandbox's own task, the pause process, on these CPUs. The runtime takes no wish for it, and in a pod's
    partition it might run on every slice."""

    cgroup_parent: str
    sandbox: str
    """Its id, which the name of its cgroup holds."""
    cpus: CpuSet


@dataclass(frozen=True, slots=True)
class Forget:
    """The pod has nothing any more: watch it no longer, and take its CPUs off the ancestors' exclusive sets."""

    uid: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Find out whether the namespace enforces; the answer goes to ``namespace_known``."""

    namespace: str


@dataclass(frozen=True, slots=True)
class Tell:
    """An event on the pod. The same text on the same pod is told again only after a while (:mod:`enforcer.events`)."""

    uid: str
    namespace: str
    name: str
    reason: Reason
    text: str


Effect: TypeAlias = Enclose | Watch | Confine | Forget | Ask | Tell


@dataclass(frozen=True, slots=True)
class Step:
    """A decision: the state after it, what is to be done, and the answer to the runtime."""

    state: State
    effects: tuple[Effect, ...] = ()
    reply: Reply = NOTHING
    refusal: str = ""
    """Not empty: the runtime is to refuse, and the person reads this in the pod's event."""
