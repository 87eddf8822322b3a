"""Reads a :class:`~shared.topology.Machine` from a kernel's own files, under any root.

``/`` is this machine; any other root is a dump that holds ``sys/`` and ``proc/``. The files are those of
Documentation/ABI/stable/sysfs-devices-node and Documentation/admin-guide/cputopology.rst, in their old and new forms
(before Linux 2.6.29 there are bitmaps only). What is missing or unreadable is left out; only a root that shows no CPU
at all is refused. Every read is bounded, and nothing but regular files is opened.

Two habits of the kernel matter here. CPUs come and go: a node's list may still hold CPUs that are offline, so every
list is cut to the online CPUs. Nodes come and go: a row of ``distance`` has a column per *online* node, not per id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.cpuset import EMPTY, MAX_CPU, CpuSet
from shared.errors import InputError
from shared.topology import LOCAL_DISTANCE, REMOTE_DISTANCE, Device, Machine, MemoryKind, NumaNode, Package

MAX_BYTES = 1 << 18
"""Most bytes read of one file. The longest honest one, a list of every second of 8,192 CPUs, has 40 KiB."""

UNCORE_LEVEL = "3"
"""Cache level whose sharing counts. What lies behind it (level 4 of s390, Crystal Well) sits at the memory's side."""

MAX_NODE = 1023
"""Highest NUMA node id read: no architecture of the kernel has more (NODES_SHIFT is at most 10)."""

_MAX_CACHE = 15
_CPUINFO_BYTES = 4096
_KIB = 1024
_CPU = "sys/devices/system/cpu"
_NODE = "sys/devices/system/node"


def read_machine(root: Path, name: str = "") -> Machine:
    """The machine under a root. Raises InputError when no CPU can be found there.

    Without a name it is the host name under the root, or else the root folder's own.
    """
    present, online = _cpus(root)
    cores = _cores(root, online)
    packages = _packages(root, cores)
    node_ids = _node_ids(root)
    nodes = _nodes(root, node_ids, online) if node_ids else (_only_node(root, online),)
    return Machine(
        name=name or _text(root / "proc/sys/kernel/hostname") or root.resolve().name or "machine",
        cpus=present,
        online=online,
        isolated=(_cpu_list(root / _CPU / "isolated") or EMPTY) & present,
        packages=packages,
        cores=cores,
        uncore_caches=_uncore_caches(root, online),
        numa_nodes=nodes,
        distances=_distances(root, [node.id for node in nodes]),
        devices=_devices(root, nodes),
        title=_title(root, len(packages)),
    )


# --- files ------------------------------------------------------------------------------------------------------------


def _start(path: Path, limit: int) -> str | None:
    """The first bytes of a regular file as text; None when it is missing or unreadable."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(limit).decode("ascii", "replace")
    except OSError:
        return None


def _text(path: Path) -> str | None:
    """The whole text of a regular file; None when it is missing, unreadable or over the limit."""
    text = _start(path, MAX_BYTES + 1)
    return None if text is None or len(text) > MAX_BYTES else text.strip()


def _number(path: Path) -> int | None:
    """A file's one decimal number; None for anything else."""
    text = _text(path) or ""
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def _cpu_list(path: Path) -> CpuSet | None:
    """A file in the kernel's list format; None when it is missing or is not one."""
    text = _text(path)
    try:
        return None if text is None else CpuSet.parse(text)
    except InputError:
        return None


def _cpu_map(path: Path) -> CpuSet | None:
    """A file in the kernel's bitmap format (hexadecimal words of 32 bits, highest first); None when it is not one."""
    digits = [word.strip() for word in (_text(path) or "").split(",")]
    if not all(re.fullmatch(r"[0-9a-fA-F]{1,8}", word) for word in digits):
        return None
    mask = int("".join(word.zfill(8) for word in digits), 16)
    return CpuSet(mask) if mask.bit_length() <= MAX_CPU + 1 else None


def _first(*found: CpuSet | None) -> CpuSet | None:
    return next((cpus for cpus in found if cpus is not None), None)


def _numbered(folder: Path, stem: str, highest: int) -> list[int]:
    """The numbers N, up to the highest, of a folder's entries called ``stem`` + N; ascending."""
    pattern = re.compile(rf"{stem}([0-9]{{1,5}})")
    try:
        matches = [pattern.fullmatch(entry.name) for entry in folder.iterdir()]
    except OSError:
        return []
    return sorted(number for match in matches if match and (number := int(match[1])) <= highest)


# --- CPUs -------------------------------------------------------------------------------------------------------------


def _cpus(root: Path) -> tuple[CpuSet, CpuSet]:
    """CPUs present and CPUs online. A kernel without the summary files still has a folder per CPU."""
    folder = root / _CPU
    folders = CpuSet.of(_numbered(folder, "cpu", MAX_CPU))
    present = _cpu_list(folder / "present") or folders
    online = _cpu_list(folder / "online") or CpuSet.of(
        cpu for cpu in folders if _number(folder / f"cpu{cpu}" / "online") != 0
    )
    if not online:
        raise InputError(
            f"{root} shows no CPU: neither {_CPU}/online nor any folder {_CPU}/cpu0 can be read there; "
            "give the folder that holds sys/ and proc/ (/ is this machine)"
        )
    return present | online, online


def _topology(root: Path, cpu: int, *names: str) -> CpuSet | None:
    """The first of a CPU's topology sets that is there, each as a list or as a bitmap."""
    folder = root / _CPU / f"cpu{cpu}" / "topology"
    return next(
        (
            cpus
            for name in names
            if (cpus := _first(_cpu_list(folder / f"{name}_list"), _cpu_map(folder / name))) is not None
        ),
        None,
    )


def _cores(root: Path, online: CpuSet) -> tuple[CpuSet, ...]:
    """SMT siblings, by the kernel's sets: ``core_id`` repeats inside a package on some machines.

    Every online CPU ends up in exactly one core, whatever the files say.
    """
    cores: list[CpuSet] = []
    left = online
    for cpu in online:
        if cpu in left:
            siblings = _topology(root, cpu, "core_cpus", "thread_siblings") or EMPTY
            cores.append((siblings & left) | CpuSet.of((cpu,)))
            left -= cores[-1]
    return tuple(cores)


def _packages(root: Path, cores: Sequence[CpuSet]) -> tuple[Package, ...]:
    """Sockets, by ``physical_package_id``; a machine that has none (-1 on some ARM) is one socket 0."""
    packages: dict[int, CpuSet] = {}
    for core in cores:
        cpu = next(iter(core))
        found = _number(root / _CPU / f"cpu{cpu}" / "topology/physical_package_id")
        number = max(0, found or 0)
        packages[number] = packages.get(number, EMPTY) | core
    return tuple(Package(number, cpus) for number, cpus in sorted(packages.items()))


def _uncore_caches(root: Path, online: CpuSet) -> tuple[CpuSet, ...]:
    """The groups of CPUs behind each L3 cache; a CPU whose group is known already is not asked again."""
    groups: list[CpuSet] = []
    asked = EMPTY
    for cpu in online:
        if cpu in asked:
            continue
        shared = _uncore_cache(root / _CPU / f"cpu{cpu}" / "cache") & (online - asked)
        asked |= shared | CpuSet.of((cpu,))
        if shared:
            groups.append(shared)
    return tuple(groups)


def _uncore_cache(folder: Path) -> CpuSet:
    """The CPUs that share this CPU's data or unified L3 cache; none when it has none."""
    for number in _numbered(folder, "index", _MAX_CACHE):
        cache = folder / f"index{number}"
        if _text(cache / "level") == UNCORE_LEVEL and _text(cache / "type") != "Instruction":
            return _first(_cpu_list(cache / "shared_cpu_list"), _cpu_map(cache / "shared_cpu_map")) or EMPTY
    return EMPTY


def _title(root: Path, packages: int) -> str:
    """The processor's name, as /proc/cpuinfo has it on x86."""
    found = re.search(r"^model name\s*:\s*(\S.*)$", _start(root / "proc/cpuinfo", _CPUINFO_BYTES) or "", re.M)
    return f"{packages}x {' '.join(found[1].split())}" if found else ""


# --- NUMA nodes -------------------------------------------------------------------------------------------------------


def _node_ids(root: Path) -> list[int]:
    """Ids of the online NUMA nodes: a folder each. None on a kernel without NUMA."""
    return _numbered(root / _NODE, "node", MAX_NODE)


def _only_node(root: Path, online: CpuSet) -> NumaNode:
    """The node 0 of a kernel that has no NUMA."""
    return NumaNode(0, online, _memory(root / "proc/meminfo"), _hugepages(root / "sys/kernel/mm/hugepages"))


def _nodes(root: Path, ids: Sequence[int], online: CpuSet) -> tuple[NumaNode, ...]:
    kinds = _memory_kinds(root)
    nodes: list[NumaNode] = []
    taken = EMPTY
    for number in ids:
        folder = root / _NODE / f"node{number}"
        listed = _first(_cpu_list(folder / "cpulist"), _cpu_map(folder / "cpumap")) or EMPTY
        cpus = listed & online - taken
        taken |= cpus
        memory = _memory(folder / "meminfo")
        if memory is None and len(ids) == 1:
            memory = _memory(root / "proc/meminfo")
        nodes.append(
            NumaNode(number, cpus, memory, _hugepages(folder / "hugepages"), _kind(cpus, memory, kinds, number))
        )
    return tuple(nodes)


def _kind(cpus: CpuSet, memory: int | None, kinds: Mapping[int, MemoryKind], number: int) -> MemoryKind:
    """What a node's memory is. Beside CPUs it is theirs, whatever a driver says of it."""
    if cpus:
        return MemoryKind.DRAM
    return MemoryKind.EMPTY if memory == 0 else kinds.get(number, MemoryKind.DRAM)


def _memory(meminfo: Path) -> int | None:
    """MemTotal in bytes, of ``/proc/meminfo`` or of a node's (whose lines begin with "Node 0"); None when not told."""
    found = re.search(r"^(?:Node \d+ )?MemTotal:\s+([0-9]{1,15}) kB", _text(meminfo) or "", re.M)
    return int(found[1]) * _KIB if found else None


def _hugepages(folder: Path) -> dict[int, int]:
    """Page size in bytes to pages allocated, for every size the folder has."""
    pages: dict[int, int] = {}
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return pages
    for name in names:
        size = re.fullmatch(r"hugepages-([0-9]{1,12})kB", name)
        count = _number(folder / name / "nr_hugepages")
        if size and count is not None:
            pages[int(size[1]) * _KIB] = max(0, count)
    return dict(sorted(pages.items()))


def _memory_kinds(root: Path) -> Mapping[int, MemoryKind]:
    """NUMA nodes whose memory is known not to be DRAM: on a GPU, on persistent modules, behind CXL."""
    return {**_dax_nodes(root), **_gpu_nodes(root)}


def _gpu_nodes(root: Path) -> dict[int, MemoryKind]:
    """What NVIDIA's driver says of each GPU: ``Node:`` in numa_status is the node that its memory became."""
    kinds: dict[int, MemoryKind] = {}
    for status in sorted((root / "proc/driver/nvidia/gpus").glob("*/numa_status")):
        found = re.search(r"^Node:\s*([0-9]{1,5})\s*$", _text(status) or "", re.M)
        if found:
            kinds[int(found[1])] = MemoryKind.GPU
    return kinds


def _dax_nodes(root: Path) -> dict[int, MemoryKind]:
    """Direct-access memory that was handed to the kernel as ordinary memory (the kmem driver), by its target node.

    Where the device hangs tells what it is: under an nvdimm bus or under a CXL region. Elsewhere it stays unknown.
    """
    kinds: dict[int, MemoryKind] = {}
    for device in sorted((root / "sys/bus/dax/devices").glob("dax*")):
        node = _number(device / "target_node")
        parts = device.resolve().parts
        if node is None or node < 0:
            continue
        if any(part.startswith("ndbus") for part in parts):
            kinds[node] = MemoryKind.PMEM
        elif any(re.fullmatch(r"dax_region[0-9]+|ACPI0017.*", part) for part in parts):
            kinds[node] = MemoryKind.CXL
    return kinds


def _distances(root: Path, ids: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """SLIT distances in the order of the ids.

    A row has one column per online node (drivers/base/node.c); dumps taken while a node was away still have one per
    possible node. A row that is neither, or missing, is filled as the kernel itself does without a SLIT.
    """
    online = list(_cpu_list(root / _NODE / "online") or ())
    possible = list(_cpu_list(root / _NODE / "possible") or ())
    rows = []
    for number in ids:
        values = (_text(root / _NODE / f"node{number}" / "distance") or "").split()
        row = [int(value) for value in values] if all(re.fullmatch("[0-9]{1,9}", value) for value in values) else []
        columns = next((order for order in (ids, online, possible) if len(order) == len(row)), ())
        known = dict(zip(columns, row, strict=True)) if columns else {}
        rows.append(tuple(known.get(other, LOCAL_DISTANCE if other == number else REMOTE_DISTANCE) for other in ids))
    return tuple(rows)


# --- PCI --------------------------------------------------------------------------------------------------------------


def _devices(root: Path, nodes: Sequence[NumaNode]) -> tuple[Device, ...]:
    """Every PCI device that tells its class."""
    folder = root / "sys/bus/pci/devices"
    try:
        addresses = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return ()
    devices = []
    for address in addresses:
        pci_class = _text(folder / address / "class") or ""
        if re.fullmatch(r"0x[0-9a-fA-F]{6}", pci_class):
            devices.append(Device(address, pci_class, _device_node(folder / address, nodes)))
    return tuple(devices)


def _device_node(device: Path, nodes: Sequence[NumaNode]) -> int:
    """The NUMA node of a device; where an old kernel has no numa_node file, the only node with all its local CPUs."""
    number = _number(device / "numa_node")
    if number is not None:
        return max(-1, number)
    local = _first(_cpu_list(device / "local_cpulist"), _cpu_map(device / "local_cpus")) or EMPTY
    near = [node.id for node in nodes if not local.isdisjoint(node.cpus)]
    return near[0] if len(near) == 1 else -1
