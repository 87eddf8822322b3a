"""Machines that one can rent or buy, so that a pod can be judged before anybody owns the node.

The facts are public ones, kept in ``catalogue.json``: CPU lists in the kernel's form, memory in bytes, distances as the
rows of ``numactl -H``. The siblings of a core are ``sibling_step`` CPU numbers apart. What could not be confirmed from
a second source is named in ``unsure``; prices are on-demand list prices of one region and go stale.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from shared.cpuset import CpuSet
from shared.errors import InputError
from shared.quantity import parse, to_whole
from shared.topology import Device, Machine, MemoryKind, NumaNode, Package

GPU_RESOURCES = ("amd.com/gpu", "nvidia.com/gpu")
"""Named on every NUMA node, be it with zero pieces: the catalogue knows when a machine has no GPU."""

_FILE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True, slots=True)
class About:
    """What a person may want to know of a catalogue machine beyond its topology."""

    architecture: str
    """As ``uname -m`` prints it."""
    price_per_hour: float | None
    """US dollars, on demand; None where it is not for rent or the price is not known."""
    price_region: str
    gpu_model: str
    note: str
    unsure: tuple[str, ...]
    """Facts that rest on one source, or on a plausible choice."""


@lru_cache(maxsize=1)
def _entries() -> Mapping[str, Mapping[str, Any]]:
    entries: Mapping[str, Mapping[str, Any]] = json.loads(_FILE.read_bytes())
    return entries


def _entry(name: str) -> Mapping[str, Any]:
    try:
        return _entries()[name]
    except KeyError:
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]}?" if near else ";"
        raise InputError(f"no machine {name!r} in the catalogue{guess} `armistice machines` lists them") from None


def names() -> tuple[str, ...]:
    """Every machine's name, in the catalogue's order."""
    return tuple(_entries())


def price_per_hour(name: str) -> float | None:
    """US dollars an hour, on demand; None where unknown. Raises InputError for an unknown machine."""
    return about(name).price_per_hour


def about(name: str) -> About:
    """What is known beside the topology. Raises InputError for an unknown machine."""
    entry = _entry(name)
    return About(
        architecture=entry["arch"],
        price_per_hour=entry["usd_per_hour"],
        price_region=entry["price_region"],
        gpu_model=(entry["gpus"] or {"model": ""})["model"],
        note=entry["note"],
        unsure=tuple(entry["unsure"]),
    )


@lru_cache(maxsize=64)
def machine(name: str) -> Machine:
    """One machine of the catalogue. Raises InputError, with the nearest name, for one that it does not hold."""
    entry = _entry(name)
    online = CpuSet.parse(entry["online"])
    gpus = entry["gpus"] or {"resource": "", "pci_class": "", "at": {}}
    return Machine(
        name=name,
        title=entry["title"],
        cpus=CpuSet.parse(entry["cpus"]),
        online=online,
        isolated=CpuSet.parse(entry["isolated"]),
        packages=tuple(Package(number, CpuSet.parse(cpus)) for number, cpus in enumerate(entry["packages"])),
        cores=_cores(online, entry["threads_per_core"], entry["sibling_step"]),
        uncore_caches=tuple(CpuSet.parse(cpus) for cpus in entry["uncore_caches"]),
        numa_nodes=tuple(_node(node, gpus) for node in entry["numa_nodes"]),
        distances=tuple(tuple(int(value) for value in row.split()) for row in entry["distances"]),
        devices=tuple(Device(at, gpus["pci_class"], node) for at, node in sorted(gpus["at"].items())),
    )


def _cores(online: CpuSet, threads: int, step: int) -> tuple[CpuSet, ...]:
    cores: list[CpuSet] = []
    left = online
    for cpu in online:
        if cpu in left:
            cores.append(CpuSet.of(range(cpu, cpu + threads * step, step)))
            left -= cores[-1]
    return tuple(cores)


def _node(node: Mapping[str, Any], gpus: Mapping[str, Any]) -> NumaNode:
    here = sum(1 for at in gpus["at"].values() if at == node["id"])
    return NumaNode(
        id=node["id"],
        cpus=CpuSet.parse(node["cpus"]),
        memory=node["memory"],
        hugepages={to_whole("memory", parse(size)): count for size, count in node["hugepages"].items()},
        kind=MemoryKind(node["kind"]),
        devices={resource: here if resource == gpus["resource"] else 0 for resource in GPU_RESOURCES},
    )
