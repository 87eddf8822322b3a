"""What the kernel's cgroup files say, and what they are to say: values, whatever the driver and the mount.

:mod:`enforcer.cgroup` reads and writes the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from shared.cpuset import EMPTY, CpuSet


class Level(Enum):
    """What keeps a bubble's CPUs its own, weakest first."""

    CPUSET = "cpuset"
    """The cpusets of all containers on the node; host daemons are not kept off."""
    PARTITION = "partition"
    """The pod's cgroup is a cpuset partition of type ``root``: the kernel keeps every other task off."""
    ISOLATED = "isolated"
    """A partition without load balancing: only for threads that pin themselves."""


@dataclass(frozen=True, slots=True)
class Support:
    """What the node's kernel can do for us."""

    partitions: bool
    """Whether a pod's cgroup can become a cpuset partition: the kernel has ``cpuset.cpus.exclusive`` (Linux 6.7)."""
    why_not: str = ""
    """One sentence where it cannot."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """How a pod's cgroup came out after it was to become a partition."""

    level: Level
    """What is in force."""
    why_not: str = ""
    """Where that is less than was asked: the kernel's reason, in one sentence; empty otherwise."""
    gone: bool = False
    """Whether there is no such cgroup."""


@dataclass(frozen=True, slots=True)
class PodReading:
    """A pod's cgroup, as read. Empty sets and texts where a file is not there."""

    exclusive: CpuSet = EMPTY
    """``cpuset.cpus.exclusive``."""
    partition: str = ""
    """``cpuset.cpus.partition``: ``member``, ``root``, ``isolated``, or ``root invalid (REASON)``."""
    effective: CpuSet = EMPTY
    """``cpuset.cpus.effective``."""

    @property
    def level(self) -> Level:
        """What the kernel enforces for the pod's cgroup by itself."""
        return {"root": Level.PARTITION, "isolated": Level.ISOLATED}.get(self.partition, Level.CPUSET)


@dataclass(frozen=True, slots=True)
class ContainerReading:
    """A container's cgroup, as read."""

    cpus: CpuSet
    """``cpuset.cpus``: what was asked for; empty when nothing was."""
    effective: CpuSet
    """``cpuset.cpus.effective``: what holds."""
    mems: CpuSet
    """``cpuset.mems.effective``, as a set of NUMA node ids."""
    quota: int | None
    """Of ``cpu.max``, in microseconds per period; None for ``max``."""
