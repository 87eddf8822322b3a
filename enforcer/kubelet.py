"""What the kubelet of this node does and keeps: read from its own files, never asked.

Its state file says whether it pins containers by itself; its configuration says which CPUs and how much memory are not
for pods. Settings that were given on its command line, or in drop-in files, are not seen: name the reservation then.
Its PodResources API would tell which devices a pod was given, but speaks gRPC, whose library takes more memory than
most of the enforcer: devices are left to the kubelet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from enforcer.errors import SetupError
from shared.cpuset import EMPTY, CpuSet
from shared.documents import read_documents
from shared.errors import InputError
from shared.quantity import from_json, to_whole
from shared.topology import Machine

CPU_STATE = "cpu_manager_state"
MEMORY_STATE = "memory_manager_state"
CONFIG = "config.yaml"

LARGEST = 8 << 20
"""Bytes of a state file that are read: it names every pinned container."""

EVICTION = "100Mi"
"""``memory.available`` that the kubelet keeps free where its configuration does not say (evictionHard's default)."""

E = TypeVar("E", bound=Enum)


class CpuManager(Enum):
    """The kubelet's CPU manager policy."""

    NONE = "none"
    STATIC = "static"
    """It sets the cpuset of every container; two owners of one CPU would follow."""
    UNKNOWN = "unknown"
    """No file, or one that nobody can read."""


class MemoryManager(Enum):
    """The kubelet's memory manager policy."""

    NONE = "None"
    STATIC = "Static"
    """It sets the memory nodes of Guaranteed pods' containers."""
    UNKNOWN = "unknown"


class Kubelet:
    """The policies in force, and whether they changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cpu_manager = read_policy(folder / CPU_STATE, CpuManager, CpuManager.UNKNOWN)
        self.memory_manager = read_policy(folder / MEMORY_STATE, MemoryManager, MemoryManager.UNKNOWN)

    def check(self) -> bool:
        """Read them again; whether one of them is another now.

        A file that is gone for a moment (an admin removes it to change the policy, and the kubelet then writes it anew)
        changes nothing: what was known holds until something else is.
        """
        before = self.cpu_manager, self.memory_manager
        self.cpu_manager = read_policy(self._folder / CPU_STATE, CpuManager, self.cpu_manager)
        self.memory_manager = read_policy(self._folder / MEMORY_STATE, MemoryManager, self.memory_manager)
        return (self.cpu_manager, self.memory_manager) != before


def read_policy(path: Path, policies: type[E], otherwise: E) -> E:
    """The policy that a state file names; ``otherwise`` where there is none that can be read."""
    try:
        with path.open("rb") as file:
            word = _policy_name(json.loads(file.read(LARGEST)))
    except (OSError, ValueError, RecursionError):
        return otherwise
    return next((policy for policy in policies if policy.value == word), otherwise)


def _policy_name(content: object) -> object:
    """``policyName``; from the fourth form on (Kubernetes 1.37) that of ``data``, a JSON text, is the true one."""
    if not isinstance(content, dict):
        return None
    data = content.get("data")
    if isinstance(data, str) and data:
        inner = json.loads(data)
        if isinstance(inner, dict) and "policyName" in inner:
            return inner["policyName"]
    return content.get("policyName")


@dataclass(frozen=True, slots=True)
class Config:
    """What the kubelet's configuration keeps from pods."""

    cpus: CpuSet = EMPTY
    """``reservedSystemCPUs``: these and no others, whatever the amounts say."""
    millicores: int = 0
    """``kubeReserved`` and ``systemReserved`` together."""
    memory: int = 0
    """Bytes, of both and of ``evictionHard``'s ``memory.available``; or of ``reservedMemory``, if that is more."""
    eviction_per_cent: float = 0.0
    """Where ``memory.available`` is a part of the machine's memory."""


def read_config(path: Path) -> Config | None:
    """The configuration; None where there is no such file. Raises SetupError that names the file and the field."""
    try:
        if not path.exists():
            return None
        documents = read_documents(path)
        content = documents[0] if documents else None
        if not isinstance(content, dict) or content.get("kind") != "KubeletConfiguration":
            raise InputError("it is no KubeletConfiguration")
        return _config(content)
    except (OSError, InputError) as error:
        raise SetupError(
            f"the kubelet's configuration {path} cannot be used: {error}; "
            "name another with --kubelet-config, or give --reserved-cpus and --reserved-memory"
        ) from error


def _config(content: Mapping[str, Any]) -> Config:
    amounts = [_object(content, field) for field in ("kubeReserved", "systemReserved")]
    eviction, per_cent = _eviction(_object(content, "evictionHard"))
    kept = sum(_amount(each, "memory") for each in amounts) + eviction
    return Config(
        cpus=_named_cpus(content),
        millicores=sum(_amount(each, "cpu") for each in amounts),
        memory=max(kept, _by_numa_node(content)),
        eviction_per_cent=per_cent,
    )


def _named_cpus(content: Mapping[str, Any]) -> CpuSet:
    try:
        return CpuSet.parse(str(content.get("reservedSystemCPUs") or ""))
    except InputError as error:
        raise InputError(f"reservedSystemCPUs: {error}") from error


def _eviction(signals: Mapping[str, Any]) -> tuple[int, float]:
    """Bytes, and per cent of the machine's memory: the kubelet takes either."""
    told = str(signals.get("memory.available", EVICTION))
    if not told.endswith("%"):
        return _amount({"evictionHard memory.available": told}, "evictionHard memory.available"), 0.0
    try:
        per_cent = float(told[:-1])
    except ValueError as error:
        raise InputError(f"evictionHard memory.available: {told!r} is no part of the memory") from error
    if not 0 <= per_cent <= 100:
        raise InputError(f"evictionHard memory.available: {told!r} is no part of the memory")
    return 0, per_cent


def _by_numa_node(content: Mapping[str, Any]) -> int:
    """``reservedMemory``: one entry for each NUMA node."""
    entries = content.get("reservedMemory") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("reservedMemory is no list of objects")
    return sum(_amount(_object(entry, "limits"), "memory") for entry in entries)


def _object(holder: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = holder.get(field)
    if found is not None and not isinstance(found, dict):
        raise InputError(f"{field} is no object")
    return found or {}


def _amount(holder: Mapping[str, Any], resource: str) -> int:
    """Millicores of CPU, bytes of anything else."""
    try:
        return max(0, to_whole(resource, from_json(holder.get(resource))))
    except InputError as error:
        raise InputError(f"{resource} {holder.get(resource)!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Reservation:
    """What no pod gets."""

    cpus: CpuSet
    memory: int
    """Bytes."""
    source: str
    """Who said so; for the log."""


_NO_CONFIG = "a default, as no kubelet's configuration is there"


def reserve(machine: Machine, config: Config | None, cpus: CpuSet | None, memory: int | None) -> Reservation:
    """What is kept from pods: what the settings name, else what the kubelet keeps, else one core and no memory."""
    kept = config if config is not None else Config()
    origin = "the kubelet's configuration" if config is not None else _NO_CONFIG
    told = ["the settings" if given is not None else origin for given in (cpus, memory)]
    return Reservation(
        cpus=_kept_cpus(machine, kept) if cpus is None else cpus,
        memory=_kept_memory(machine, kept) if memory is None else memory,
        source=told[0] if told[0] == told[1] else f"CPUs: {told[0]}; memory: {told[1]}",
    )


def _kept_cpus(machine: Machine, config: Config) -> CpuSet:
    """Named CPUs; or whole cores from the lowest on, until there are as many CPUs as are reserved.

    The kubelet's static policy counts the same way, rounded up to whole CPUs; whole cores, so that no SMT sibling of
    the system's work belongs to a pod. Where nothing is reserved the system still gets one core: the kernel's own work,
    the kubelet and the runtime have to run somewhere when pods own all others.
    """
    if config.cpus:
        return config.cpus & machine.online
    wanted = max(1, -(-config.millicores // 1000))
    found = EMPTY
    for core in _cores(machine):
        if len(found) >= wanted:
            break
        found |= core
    return found if found != machine.online else EMPTY  # a machine of one core has none to spare


def _cores(machine: Machine) -> list[CpuSet]:
    """Cores as the kubelet takes them: NUMA node by NUMA node, in the order of their lowest CPU."""
    return [core for node in machine.numa_nodes for core in machine.cores if core and core <= node.cpus]


def _kept_memory(machine: Machine, config: Config) -> int:
    total = sum(node.memory or 0 for node in machine.numa_nodes if node.cpus)
    return config.memory + int(total * config.eviction_per_cent / 100)
