"""The sysfs reader against sixteen real machines, and against trees that no kernel would write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.cpuset import CpuSet
from shared.errors import InputError
from shared.sysfs import MAX_BYTES, read_machine
from shared.topology import Device, Machine, MemoryKind
from tests.support.data import MACHINES_WITH_ORACLE, reference, unpack_dump


def oracle(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(reference(f"machines/oracle/{name}.json").read_text())
    return found


def facts(machine: Machine) -> dict[str, Any]:
    """What the reader found, in the oracle's terms."""
    return {
        "online": str(machine.online),
        "offline": str(machine.cpus - machine.online),
        "isolated": str(machine.isolated),
        "packages": {(package.id, str(package.cpus)) for package in machine.packages},
        "cores": sorted(str(core) for core in machine.cores),
        "l3": sorted(str(cache) for cache in machine.uncore_caches),
        "nodes": [(node.id, str(node.cpus), node.memory, dict(node.hugepages)) for node in machine.numa_nodes],
        "distances": [list(row) for row in machine.distances],
        "gpu": {node.id for node in machine.numa_nodes if node.kind is MemoryKind.GPU},
        "pci": [(device.address, device.pci_class, device.numa_node) for device in machine.devices],
    }


def expected(view: dict[str, Any]) -> dict[str, Any]:
    nodes = view["numa_nodes"]
    return {
        "online": view["machine"]["online_cpus"],
        "offline": view["machine"]["offline_or_unplugged_cpus"],
        "isolated": view["isolated_cpus"] or "",
        "packages": {(package["id"], package["cpus"]) for package in view["packages"]},
        "cores": sorted(view["cores"].values()),
        "l3": sorted(group["cpus"] for group in view["l3_groups"]),
        "nodes": [
            (node["id"], node["cpus"], node["memory_bytes"], {int(k): v for k, v in node["hugepages"].items()})
            for node in nodes
        ],
        "distances": expected_distances(view),
        "gpu": {node["id"] for node in nodes if node.get("hwloc_subtype") == "GPUMemory"},
        "pci": [(pci["busid"], pci["class"], expected_node(pci, nodes)) for pci in view["pci_sysfs"]],
    }


def expected_distances(view: dict[str, Any]) -> list[list[int]]:
    """hwloc has no matrix for one node, nor where the dump has none: there the kernel's own 10 and 20 hold."""
    if view["distances"]:
        assert view["distances"]["nodes"] == [node["id"] for node in view["numa_nodes"]]
        matrix: list[list[int]] = view["distances"]["matrix"]
        return matrix
    count = len(view["numa_nodes"])
    return [[10 if a == b else 20 for a in range(count)] for b in range(count)]


def expected_node(pci: dict[str, Any], nodes: list[dict[str, Any]]) -> int:
    if pci["numa_node"] is not None:
        number: int = pci["numa_node"]
        return number
    return next((node["id"] for node in nodes if node["cpus"] == pci["local_cpus"]), -1)


def test_every_dump_has_its_test() -> None:
    found = {path.name.removesuffix(".tar.xz") for path in reference("machines/dumps").iterdir()}
    assert found == set(MACHINES_WITH_ORACLE)


@pytest.mark.parametrize("name", MACHINES_WITH_ORACLE)
def test_machine_equals_its_oracle(name: str, dumps: Path) -> None:
    assert facts(read_machine(unpack_dump(name, dumps), name)) == expected(oracle(name))


@pytest.mark.parametrize("name", MACHINES_WITH_ORACLE)
def test_machine_is_the_same_without_the_files_that_old_kernels_lack(name: str, tmp_path: Path) -> None:
    root = unpack_dump(name, tmp_path)
    removed = [
        path
        for pattern in ("cpu*/topology/*_list", "cpu*/cache/*/shared_cpu_list", "../node/node*/cpulist")
        for path in (root / "sys/devices/system/cpu").glob(pattern)
    ]
    summaries = [root / "sys/devices/system" / path for path in ("cpu/online", "cpu/present", "node/online")]
    before = facts(read_machine(root, name))
    for path in [*removed, *(path for path in summaries if path.exists())]:
        path.unlink()
    after = facts(read_machine(root, name))
    assert after == before


def test_memory_kinds_of_real_machines(dumps: Path) -> None:
    initiators = read_machine(unpack_dump("qemu-initiators-11n", dumps))
    kinds = {node.id: node.kind for node in initiators.numa_nodes}
    assert kinds.pop(4) is MemoryKind.EMPTY  # neither CPUs nor memory: a generic initiator
    assert set(kinds.values()) == {MemoryKind.DRAM}


# --- hand-made trees --------------------------------------------------------------------------------------------------


def tree(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def system(**files: str) -> dict[str, str]:
    """Files below sys/devices/system; ``__`` stands for the slash."""
    return {f"sys/devices/system/{path.replace('__', '/')}": text for path, text in files.items()}


TWO_CPUS = system(cpu__online="0-1\n", cpu__present="0-1\n")
TWO_NODES = {
    **system(cpu__online="0-3", node__node0__cpulist="0-1", node__node1__cpulist="2-3"),
    **system(node__online="0-1", node__node0__distance="10 21", node__node1__distance="21 10"),
}


def test_a_root_without_any_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_machine(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} shows no CPU: neither sys/devices/system/cpu/online nor any folder sys/devices/system/cpu/cpu0 "
        "can be read there; give the folder that holds sys/ and proc/ (/ is this machine)"
    )


def test_two_cpus_and_nothing_else_are_one_node_of_two_cores(tmp_path: Path) -> None:
    machine = read_machine(tree(tmp_path / "tiny", TWO_CPUS))
    assert machine.name == "tiny"
    assert [(str(core)) for core in machine.cores] == ["0", "1"]
    assert [(node.id, str(node.cpus), node.memory) for node in machine.numa_nodes] == [(0, "0-1", None)]
    assert machine.distances == ((10,),)
    assert [(package.id, str(package.cpus)) for package in machine.packages] == [(0, "0-1")]


def test_name_is_the_host_name_and_title_the_processor(tmp_path: Path) -> None:
    files = {
        **TWO_CPUS,
        "proc/sys/kernel/hostname": "n1\n",
        "proc/cpuinfo": "processor : 0\nmodel name : A  CPU\n" * 999,
    }
    machine = read_machine(tree(tmp_path, files))
    assert (machine.name, machine.title) == ("n1", "1x A CPU")


GARBLED = [
    ("a garbled online list falls back on the folders",
     system(cpu__online="zero", cpu__cpu0__online="1", cpu__cpu1__online="1")),
    ("a garbled present list falls back on what is online", {**TWO_CPUS, **system(cpu__present="0-99999999999")}),
    ("a list longer than any kernel writes is not read", {**TWO_CPUS, **system(cpu__isolated="0," * MAX_BYTES)}),
    ("garbled siblings leave each CPU its own core", {**TWO_CPUS, **system(cpu__cpu0__topology__core_cpus_list="x")}),
    ("a sibling that is not there is left out", {**TWO_CPUS, **system(cpu__cpu0__topology__core_cpus="f0")}),
    ("a package number of -1 is socket 0", {**TWO_CPUS, **system(cpu__cpu0__topology__physical_package_id="-1")}),
    ("a node list of words leaves the node without CPUs", {**TWO_CPUS, **system(node__node0__cpulist="all")}),
    ("a row of distances that is too short is not used",
     {**TWO_CPUS, **system(node__node0__distance="", node__node0__cpulist="0-1")}),
    ("a folder where a file should be", {**TWO_CPUS, **system(cpu__isolated__x="1", node__node0__meminfo__x="")}),
    ("a node with a number beyond the kernel's is not a node", {**TWO_CPUS, **system(node__node99999__cpulist="0")}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "files"), GARBLED, ids=[case for case, _ in GARBLED])
def test_garbled_files_are_left_out(case: str, files: dict[str, str], tmp_path: Path) -> None:
    machine = read_machine(tree(tmp_path, files))
    assert str(machine.online) == str(machine.cpus) == "0-1"
    assert [str(core) for core in machine.cores] == ["0", "1"]
    assert [package.id for package in machine.packages] == [0]
    assert not machine.isolated
    assert [node.id for node in machine.numa_nodes] == [0]
    assert machine.distances == ((10,),)


def test_bytes_that_are_not_text_do_no_harm(tmp_path: Path) -> None:
    tree(tmp_path, TWO_CPUS)
    for path in ("cpu/isolated", "node/node0/cpulist", "node/node0/meminfo", "cpu/cpu0/topology/core_cpus"):
        file = tmp_path / "sys/devices/system" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\xff\x00" * 50)
    assert len(read_machine(tmp_path).online) == 2


def test_a_node_whose_row_is_missing_gets_the_kernels_defaults(tmp_path: Path) -> None:
    root = tree(tmp_path, TWO_NODES)
    (root / "sys/devices/system/node/node1/distance").unlink()
    assert read_machine(root).distances == ((10, 21), (20, 10))


def test_a_cpu_claimed_by_two_nodes_belongs_to_the_first(tmp_path: Path) -> None:
    root = tree(tmp_path, {**TWO_NODES, **system(node__node1__cpulist="1-3")})
    assert [str(node.cpus) for node in read_machine(root).numa_nodes] == ["0-1", "2-3"]


def test_offline_cpus_are_present_but_in_no_node_core_or_cache(tmp_path: Path) -> None:
    cache = system(
        cpu__cpu0__cache__index0__level="3", cpu__cpu0__cache__index0__type="Unified",
        cpu__cpu0__cache__index0__shared_cpu_map="f",
    )  # fmt: skip
    siblings = system(cpu__cpu0__topology__thread_siblings="5", cpu__online="0-1,3", cpu__present="0-3")
    machine = read_machine(tree(tmp_path, {**TWO_NODES, **siblings, **cache}))
    assert str(machine.cpus - machine.online) == "2"
    assert [str(core) for core in machine.cores] == ["0", "1", "3"]
    assert [str(node.cpus) for node in machine.numa_nodes] == ["0-1", "3"]
    assert [str(group) for group in machine.uncore_caches] == ["0-1,3"]


def test_the_level_three_data_cache_counts_and_no_other(tmp_path: Path) -> None:
    files = {
        f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{key}": value
        for cpu in range(2)
        for index, (level, kind) in enumerate([("2", "Unified"), ("3", "Instruction"), ("4", "Unified")])
        for key, value in {"level": level, "type": kind, "shared_cpu_list": "0-1"}.items()
    }
    assert read_machine(tree(tmp_path, {**TWO_CPUS, **files})).uncore_caches == ()


KMEM = [
    ("persistent memory hangs under an nvdimm bus", "LNXSYSTM:00/ndbus0/region0/dax0.0", MemoryKind.PMEM),
    ("CXL memory hangs under a region", "platform/ACPI0017:00/root0/decoder0.0/region0/dax0.0", MemoryKind.CXL),
    ("memory that only the firmware set aside stays unknown", "platform/hmem.0/dax0.0", MemoryKind.DRAM),
]


@pytest.mark.parametrize(("case", "path", "kind"), KMEM, ids=[case for case, *_ in KMEM])
def test_memory_handed_over_by_the_kmem_driver(case: str, path: str, kind: MemoryKind, tmp_path: Path) -> None:
    nodes = system(node__node2__cpulist="", node__node2__meminfo="Node 2 MemTotal: 1024 kB\n")
    root = tree(tmp_path, {**TWO_NODES, **nodes, f"sys/devices/{path}/target_node": "2\n"})
    link = root / "sys/bus/dax/devices/dax0.0"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"../../../devices/{path}")
    assert read_machine(root).numa_nodes[2].kind is kind


def test_memory_beside_cpus_is_never_a_gpus(tmp_path: Path) -> None:
    status = {"proc/driver/nvidia/gpus/0000:01:00.0/numa_status": "Node:      0\nStatus:    online\n"}
    assert read_machine(tree(tmp_path, {**TWO_NODES, **status})).numa_nodes[0].kind is MemoryKind.DRAM


def test_the_memory_of_an_only_node_comes_from_proc_when_sysfs_is_silent(tmp_path: Path) -> None:
    node = {**TWO_CPUS, **system(node__node0__cpulist="0-1"), "proc/meminfo": "MemTotal:  1024 kB\n"}
    assert read_machine(tree(tmp_path, node)).numa_nodes[0].memory == 1 << 20


def test_hugepages_of_a_machine_without_numa(tmp_path: Path) -> None:
    pages = {f"sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages": "3\n" for kib in (1048576, 2048)}
    machine = read_machine(tree(tmp_path, {**TWO_CPUS, **pages}))
    assert machine.numa_nodes[0].hugepages == {2 << 20: 3, 1 << 30: 3}


PCI = [
    ("the node that the kernel names", {"numa_node": "1", "local_cpus": "3"}, 1),
    ("unknown to the kernel stays unknown", {"numa_node": "-1", "local_cpus": "3"}, -1),
    ("no node file, CPUs of one node", {"local_cpus": "0000,0000000c"}, 1),
    ("no node file, CPUs of both nodes", {"local_cpulist": "0-3"}, -1),
    ("no node file, no CPUs", {}, -1),
]


@pytest.mark.parametrize(("case", "files", "node"), PCI, ids=[case for case, *_ in PCI])
def test_pci_device_is_attached_to(case: str, files: dict[str, str], node: int, tmp_path: Path) -> None:
    device = {f"sys/bus/pci/devices/0000:3b:00.0/{name}": text for name, text in files.items()}
    device["sys/bus/pci/devices/0000:3b:00.0/class"] = "0x030200\n"
    device["sys/bus/pci/devices/0000:3c:00.0/class"] = "garbled\n"
    machine = read_machine(tree(tmp_path, {**TWO_NODES, **device}))
    assert machine.devices == (Device("0000:3b:00.0", "0x030200", node),)


def test_the_longest_honest_list_is_read(tmp_path: Path) -> None:
    every_second = CpuSet.of(range(0, 8192, 2))
    machine = read_machine(tree(tmp_path, system(cpu__online=str(every_second))))
    assert machine.online == every_second
    assert len(machine.cores) == 4096
