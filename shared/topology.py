"""What a machine is made of, as far as placement cares: one model for every source.

Three readers fill it: :mod:`shared.sysfs` (a kernel's own files under any root), :mod:`shared.noderesourcetopology`
(objects that a cluster's nodes publish) and :mod:`shared.catalogue` (machines one can rent or buy). Nothing below says
which of the three it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from shared.cpuset import EMPTY, CpuSet

LOCAL_DISTANCE = 10
"""Distance of a NUMA node to itself (ACPI SLIT)."""

REMOTE_DISTANCE = 20
"""Distance between two NUMA nodes where the firmware gives none (REMOTE_DISTANCE of include/linux/topology.h)."""


class MemoryKind(Enum):
    """What the memory of a NUMA node is. Only DRAM and HBM of a node with CPUs is ever a pod's first choice."""

    DRAM = "dram"
    HBM = "hbm"
    CXL = "cxl"
    PMEM = "pmem"
    GPU = "gpu"
    """Memory on a GPU that the kernel shows as a NUMA node (POWER9 with V100, GH200, GB200). Never for pods."""
    EMPTY = "empty"
    """A node with neither CPUs nor memory (MIG placeholders of GH200, generic initiators)."""


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One NUMA node as the kernel shows it."""

    id: int
    """The kernel's number; numbers may be sparse."""
    cpus: CpuSet
    """Its online CPUs; empty for a memory-only node."""
    memory: int | None
    """MemTotal in bytes, huge pages included; None when the source does not say."""
    hugepages: Mapping[int, int] = field(default_factory=dict)
    """Page size in bytes to the number of pre-allocated pages."""
    kind: MemoryKind = MemoryKind.DRAM
    devices: Mapping[str, int] = field(default_factory=dict)
    """Extended resource (``nvidia.com/gpu``) to the pieces attached here. A resource that no node of the machine names
    is unknown, not absent: it is then not weighed."""

    @property
    def pages(self) -> int | None:
        """Bytes that ordinary pages can use: the memory less what the huge pages hold; None when unknown."""
        if self.memory is None:
            return None
        return max(0, self.memory - sum(size * count for size, count in self.hugepages.items()))


@dataclass(frozen=True, slots=True)
class Package:
    """One socket."""

    id: int
    cpus: CpuSet


@dataclass(frozen=True, slots=True)
class Device:
    """One PCI device."""

    address: str
    """Domain, bus, device and function: ``0000:3b:00.0``."""
    pci_class: str
    """The class as sysfs has it: ``0x030200``."""
    numa_node: int
    """NUMA node it is attached to; -1 when the kernel does not know."""


@dataclass(frozen=True)
class Machine:
    """One machine. Tuples are in ascending order of their ids (cores and caches: of their lowest CPU)."""

    name: str
    cpus: CpuSet
    """CPUs that are there, online or not."""
    online: CpuSet
    isolated: CpuSet
    """CPUs that the kernel command line took out of load balancing (``isolcpus=``)."""
    packages: tuple[Package, ...]
    cores: tuple[CpuSet, ...]
    """The online SMT siblings of every core."""
    uncore_caches: tuple[CpuSet, ...]
    """The online CPUs behind every last-level (L3) cache; empty where the kernel shows none."""
    numa_nodes: tuple[NumaNode, ...]
    distances: tuple[tuple[int, ...], ...]
    """Row and column order is that of :attr:`numa_nodes`."""
    devices: tuple[Device, ...] = ()
    title: str = ""
    """What a person would call it."""
    reserved: CpuSet = EMPTY
    """Online CPUs kept from every pod, for the system and the kubelet."""

    @cached_property
    def index(self) -> Mapping[int, int]:
        """NUMA node id to its place in :attr:`numa_nodes`."""
        return {node.id: place for place, node in enumerate(self.numa_nodes)}

    @cached_property
    def threads_per_core(self) -> int:
        """The widest core's SMT threads."""
        return max((len(core) for core in self.cores), default=1)

    @cached_property
    def known_devices(self) -> frozenset[str]:
        """Extended resources that some NUMA node names, be it with zero pieces."""
        return frozenset(name for node in self.numa_nodes for name in node.devices)

    def distance(self, a: int, b: int) -> int:
        """SLIT distance between two NUMA node ids."""
        return self.distances[self.index[a]][self.index[b]]
