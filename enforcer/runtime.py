"""What the container runtime says of pods and containers, and what it can be told: values, whatever the wire.

:mod:`enforcer.nri` makes these from NRI messages; nothing else of the enforcer knows the messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class ContainerState(Enum):
    """The life of a container, as NRI numbers it (``ContainerState`` of NRI's ``api.proto``)."""

    UNKNOWN = 0
    CREATED = 1
    PAUSED = 2
    RUNNING = 3
    STOPPED = 4


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One pod sandbox. A pod whose sandbox is made anew has another id and the same uid."""

    id: str
    uid: str
    """The pod's uid in Kubernetes."""
    namespace: str
    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    """The pod's own; missing in RemovePodSandbox."""
    cgroup_parent: str = ""
    """The pod's cgroup as the runtime names it: a path (``/kubepods/burstable/podUID``), or with the systemd driver a
    slice, as a path or by its base name."""
    pid: int = 0
    """Of the pause process; 0 when the sandbox has stopped."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container."""

    id: str
    sandbox: str
    """Id of its sandbox."""
    name: str
    state: ContainerState = ContainerState.UNKNOWN
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Its specification's: the kubelet's and those that we added when it was created."""
    cpus: str = ""
    """``cpuset.cpus`` of its specification, in the kernel's list form; empty when nobody set it."""
    mems: str = ""
    cgroups_path: str = ""
    """``PARENT/ID`` with the cgroupfs driver, ``SLICE:PREFIX:ID`` with systemd's."""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a container is to be created with. Empty and False mean "leave it"; NRI cannot clear a cpuset."""

    cpus: str = ""
    mems: str = ""
    no_quota: bool = False
    """Take the CFS quota away."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Added to the specification: the runtime keeps them, and shows them again in Synchronize."""


@dataclass(frozen=True, slots=True)
class Update:
    """A new cpuset for a container that exists already."""

    container: str
    """Its id."""
    cpus: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one event of the runtime. ``adjustment`` counts for CreateContainer only."""

    adjustment: Adjustment | None = None
    updates: tuple[Update, ...] = ()


NOTHING = Reply()
"""Go on as if nobody had asked."""
