"""Small machines to place pods on, in one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.cpuset import EMPTY, CpuSet
from shared.topology import LOCAL_DISTANCE, REMOTE_DISTANCE, Machine, MemoryKind, NumaNode, Package

GIB = 2**30
MIB = 2**20


def machine(
    nodes: int = 1,
    cores: int = 4,
    threads: int = 1,
    *,
    memory: int | Sequence[int | None] | None = 64 * GIB,
    hugepages: Mapping[int, int] | Sequence[Mapping[int, int]] = {},
    devices: Sequence[Mapping[str, int]] = (),
    caches: int = 1,
    distances: Sequence[Sequence[int]] | None = None,
    isolated: str = "",
    offline: str = "",
    extra: Sequence[NumaNode] = (),
) -> Machine:
    """A machine of equal NUMA nodes.

    CPUs are numbered core by core: with two threads, core 0 is ``0-1`` and node 0 comes first. ``memory`` (bytes),
    ``hugepages`` (page size to pages) and ``devices`` are each node's, or a list with one entry for each. ``caches`` is
    the number of L3 caches in a node. ``extra`` are nodes without CPUs, ``distances`` includes them.
    """
    total = nodes * cores * threads
    online = CpuSet.of(range(total)) - CpuSet.parse(offline)
    all_cores = [CpuSet.of(range(first, first + threads)) & online for first in range(0, total, threads)]
    zones = [CpuSet.of(range(n * cores * threads, (n + 1) * cores * threads)) & online for n in range(nodes)]
    per_cache = cores // caches
    groups = [all_cores[first : first + per_cache] for first in range(0, nodes * cores, per_cache)]
    memories = memory if isinstance(memory, Sequence) else [memory] * nodes
    pages = hugepages if isinstance(hugepages, Sequence) else [hugepages] * nodes
    gear = [*devices, *({} for _ in range(nodes - len(devices)))]
    numa = [
        NumaNode(n, zones[n], memories[n], dict(pages[n]), MemoryKind.DRAM, dict(gear[n])) for n in range(nodes)
    ] + list(extra)
    return Machine(
        name="small",
        cpus=CpuSet.of(range(total)),
        online=online,
        isolated=CpuSet.parse(isolated),
        packages=(Package(0, online),),
        cores=tuple(core for core in all_cores if core),
        uncore_caches=tuple(_union(group) for group in groups if _union(group)),
        numa_nodes=tuple(numa),
        distances=_matrix(len(numa), distances),
    )


def memory_only(number: int, memory: int = 64 * GIB, kind: MemoryKind = MemoryKind.DRAM) -> NumaNode:
    """A NUMA node without CPUs."""
    return NumaNode(number, EMPTY, memory, {}, kind)


def _union(sets: Sequence[CpuSet]) -> CpuSet:
    found = EMPTY
    for one in sets:
        found |= one
    return found


def _matrix(size: int, given: Sequence[Sequence[int]] | None) -> tuple[tuple[int, ...], ...]:
    if given is not None:
        return tuple(tuple(row) for row in given)
    return tuple(tuple(LOCAL_DISTANCE if a == b else REMOTE_DISTANCE for b in range(size)) for a in range(size))
