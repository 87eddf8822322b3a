"""The allocator's two answers: where a pod goes, or why it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.intent import Intent
from shared.sidecars import Role
from shared.value import value


@value
class Account:
    """What one placement takes of one NUMA node."""

    node: int
    """Kernel id."""
    bound_cpu: int = 0
    """Millicores of the node shared pool on this node; 0 for exclusive pods, which own CPUs instead."""
    memory: int = 0
    """Bytes of ordinary pages."""
    pages: Mapping[int, int] = field(default_factory=dict)
    """Huge page size in bytes to pages."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """Extended resource to pieces."""


@value
class Placement:
    """One pod's place."""

    pod: str
    """The key it is known by in the ledger."""
    intent: Intent
    numa_nodes: tuple[int, ...]
    """Kernel ids, ascending; all with CPUs for class none."""
    memory_nodes: tuple[int, ...]
    """Kernel ids for ``cpuset.mems``, ascending."""
    bubble: CpuSet
    """CPUs that only this pod may use; empty unless exclusive."""
    slices: Mapping[str, CpuSet]
    """Container name to the CPUs that it owns alone."""
    accounts: tuple[Account, ...]

    @property
    def pool(self) -> CpuSet:
        """The pod shared pool: the bubble less its slices."""
        owned = EMPTY
        for cpus in self.slices.values():
            owned |= cpus
        return self.bubble - owned

    def cpus_of(self, container: str, common: CpuSet) -> CpuSet:
        """The CPUs that a container may run on.

        ``common`` is the part of the node shared pool that the pod may use: all of it for class none, that of its NUMA
        nodes for a bound pod; exclusive pods do not use it. A standard init container gets the bubble less the slices
        of the sidecars that were started before it.
        """
        if self.intent.placement is not PlacementClass.EXCLUSIVE:
            return common
        if container in self.slices:
            return self.slices[container]
        cpus = self.bubble
        for part in self.intent.parts:
            if part.name == container:
                return cpus if part.role is Role.INIT else self.pool
            if part.role is Role.SIDECAR and part.name in self.slices:
                cpus -= self.slices[part.name]
        raise KeyError(container)


@value
class Misfit:
    """A refusal, with numbers."""

    pod: str
    message: str
    asked: Mapping[str, int]
    """Resource to millicores, bytes or pieces, of what did not find room."""
    found: Mapping[str, int]
    """The same resources on the roomiest NUMA node."""
    node: int | None = None
    """That NUMA node's kernel id."""
    hint: str = ""
    """Why free CPUs there do not count, where some do not."""
