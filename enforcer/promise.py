"""What the ledger promises to pods and containers: the values that the kernel's files are held against.

:mod:`enforcer.targets` makes them from the state, :mod:`enforcer.verify` compares, :mod:`enforcer.report` writes them
down for ``armistice proof``.
"""

from __future__ import annotations

from dataclasses import dataclass

from enforcer.kernel import Level
from shared.cpuset import EMPTY, CpuSet


@dataclass(frozen=True, slots=True)
class ContainerPromise:
    """One container of a promised pod."""

    id: str
    name: str
    cgroups_path: str
    """As the runtime names it; see :class:`enforcer.runtime.Container`."""
    cpus: CpuSet
    """It may run on these and no others; ``cpuset.cpus.effective`` is never wider. Empty: nothing was promised."""
    mems: CpuSet
    """NUMA nodes its memory may come from, as a set of their ids; empty: any."""
    owns: bool = False
    """Whether the CPUs are an exclusive slice: then no other container may run on them, and there is no CFS quota."""


@dataclass(frozen=True, slots=True)
class PodPromise:
    """One pod."""

    uid: str
    namespace: str
    name: str
    cgroup_parent: str
    """As the runtime names it; see :class:`enforcer.runtime.Sandbox`."""
    placement: str
    """The class's word: ``exclusive``, ``bound``, ``none``."""
    bubble: CpuSet = EMPTY
    """CPUs of the pod alone; empty unless exclusive."""
    level: Level = Level.CPUSET
    """What is to keep the bubble its own."""
    why_not: str = ""
    """Where that is less than was asked: the reason."""
    numa_nodes: tuple[int, ...] = ()
    containers: tuple[ContainerPromise, ...] = ()
