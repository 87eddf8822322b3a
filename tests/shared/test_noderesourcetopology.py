"""NodeResourceTopology objects: ours come back exactly, those of others as far as they tell, garbage as a sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import catalogue
from shared.cpuset import CpuSet
from shared.errors import InputError
from shared.noderesourcetopology import PREFIX, Room, from_object, read_file, to_object
from shared.sysfs import read_machine
from shared.topology import Machine, MemoryKind
from tests.support.data import MACHINES_WITH_ORACLE, unpack_dump


def nfd(**changes: Any) -> dict[str, Any]:
    """A node as NFD's topology updater publishes it, with a tweak."""
    return {
        "apiVersion": "topology.node.k8s.io/v1alpha2",
        "kind": "NodeResourceTopology",
        "metadata": {"name": "worker-1"},
        "topologyPolicies": ["SingleNUMANodePodLevel"],
        "attributes": [
            {"name": "topologyManagerPolicy", "value": "single-numa-node"},
            {"name": "topologyManagerScope", "value": "pod"},
        ],
        "zones": [zone(0, [10, 21]), zone(1, [21, 10])],
        **changes,
    }


def zone(number: int, distances: list[int], **changes: Any) -> dict[str, Any]:
    amounts = {"cpu": "10", "memory": "64Gi", "hugepages-2Mi": "1Gi", "hugepages-1Gi": "0", "nvidia.com/gpu": "4"}
    return {
        "name": f"node-{number}",
        "type": "Node",
        "costs": [{"name": f"node-{other}", "value": value} for other, value in enumerate(distances)],
        "resources": [
            {"name": name, "capacity": amount, "allocatable": amount, "available": "0"}
            for name, amount in amounts.items()
        ],
        **changes,
    }


def resource(name: str, **amounts: Any) -> dict[str, Any]:
    return {"name": name, **amounts}


# --- there and back ---------------------------------------------------------------------------------------------------


def again(machine: Machine) -> Machine:
    """Through what the API server would store."""
    return from_object(json.loads(json.dumps(to_object(machine))))


@pytest.mark.parametrize("name", catalogue.names())
def test_catalogue_machine_comes_back_as_it_was(name: str) -> None:
    machine = catalogue.machine(name)
    assert again(machine) == machine


@pytest.mark.parametrize("name", MACHINES_WITH_ORACLE)
def test_real_machine_comes_back_as_it_was(name: str, dumps: Path) -> None:
    machine = read_machine(unpack_dump(name, dumps), name)
    assert again(machine) == machine


def test_reserved_cpus_come_back_and_are_not_allocatable() -> None:
    machine = replace(catalogue.machine("dgx-h100"), reserved=CpuSet.parse("0-1,112-113"))
    assert again(machine) == machine
    cpu = to_object(machine)["zones"][0]["resources"][0]
    assert cpu == {"name": "cpu", "capacity": "112", "allocatable": "108", "available": "108"}


def test_gpu_memory_is_not_allocatable() -> None:
    gpu = to_object(catalogue.machine("gh200-480gb"))["zones"][1]
    memory = next(each for each in gpu["resources"] if each["name"] == "memory")
    assert memory == {"name": "memory", "capacity": "102005473280", "allocatable": "0", "available": "0"}


def test_an_object_reads_as_the_field_does() -> None:
    machine = catalogue.machine("xeon8480-2s-snc4-dpdk")
    obj = to_object(machine, {"topologyManagerPolicy": "single-numa-node"})
    first = obj["zones"][0]
    assert obj["metadata"] == {"name": "xeon8480-2s-snc4-dpdk"}
    assert obj["attributes"][0] == {"name": "topologyManagerPolicy", "value": "single-numa-node"}
    assert (first["name"], first["type"]) == ("node-0", "Node")
    assert first["costs"][:2] == [{"name": "node-0", "value": 10}, {"name": "node-1", "value": machine.distance(0, 1)}]
    allocatable = {each["name"]: each["allocatable"] for each in first["resources"]}
    assert allocatable == {
        "cpu": "28", "memory": str((64 - 18) << 30), "hugepages-2Mi": str(2 << 30), "hugepages-1Gi": str(16 << 30),
        "amd.com/gpu": "0", "nvidia.com/gpu": "0",
    }  # fmt: skip


def test_what_is_left_is_published_and_the_machine_comes_back_all_the_same() -> None:
    machine = catalogue.machine("dgx-h100")
    rooms = {1: {"cpu": Room(112_000, 7_500), "memory": Room(1 << 30, 0), "nvidia.com/gpu": Room(4, 1)}}
    obj = to_object(machine, rooms=rooms)
    idle, busy = ({each["name"]: each for each in zone["resources"]} for zone in obj["zones"])
    assert busy["cpu"] == {"name": "cpu", "capacity": "112", "allocatable": "112", "available": "7500m"}
    assert (busy["memory"]["allocatable"], busy["memory"]["available"]) == (str(1 << 30), "0")
    assert (busy["nvidia.com/gpu"]["allocatable"], busy["nvidia.com/gpu"]["available"]) == ("4", "1")
    assert idle["cpu"]["available"] == "112"
    assert from_object(json.loads(json.dumps(obj))) == machine


# --- published by others ----------------------------------------------------------------------------------------------


def test_nfds_object_becomes_a_machine_of_counts() -> None:
    machine = from_object(nfd())
    assert (machine.name, str(machine.online), len(machine.cores), machine.uncore_caches) == (
        "worker-1",
        "0-19",
        20,
        (),
    )
    assert machine.distances == ((10, 21), (21, 10))
    second = machine.numa_nodes[1]
    assert (second.id, str(second.cpus), second.memory) == (1, "10-19", 65 << 30)
    assert second.pages == 64 << 30
    assert (second.hugepages, second.devices) == ({2 << 20: 512, 1 << 30: 0}, {"nvidia.com/gpu": 4})


def one_zone(**changes: Any) -> Machine:
    return from_object(nfd(zones=[zone(0, [10], **changes)]))


def test_what_nobody_tells_is_unknown() -> None:
    machine = one_zone(resources=[resource("cpu", allocatable="4")])
    node = machine.numa_nodes[0]
    assert (node.memory, node.hugepages, machine.known_devices) == (None, {}, frozenset())


AMOUNTS = [
    ("a part of a CPU is no CPU", [resource("cpu", allocatable="3900m")], 3),
    ("numbers are quantities too", [resource("cpu", allocatable=4, capacity=8)], 4),
    ("only the capacity is told", [resource("cpu", capacity="8")], 8),
    ("less than nothing is nothing", [resource("cpu", allocatable="-2")], 0),
    ("no CPUs told", [resource("memory", allocatable="1Gi")], 0),
    ("no resources", None, 0),
]


@pytest.mark.parametrize(("case", "resources", "cpus"), AMOUNTS, ids=[case for case, *_ in AMOUNTS])
def test_cpus_of_a_zone(case: str, resources: Any, cpus: int) -> None:
    assert len(one_zone(resources=resources).online) == cpus


def test_a_node_with_neither_cpus_nor_memory_is_empty() -> None:
    assert one_zone(resources=[resource("cpu", allocatable="0")]).numa_nodes[0].kind is MemoryKind.EMPTY


def test_zones_that_are_not_numa_nodes_are_passed_over() -> None:
    others = [{"name": "socket-0", "type": "Socket"}, {"name": "gpu", "type": "Node"}, {"name": "node-7", "type": "L3"}]
    assert from_object(nfd(zones=[*others, zone(4, [])])).index == {4: 0}


def test_missing_costs_are_the_kernels_defaults() -> None:
    machine = from_object(nfd(zones=[zone(0, []), zone(2, [])]))
    assert machine.distances == ((10, 20), (20, 10))


def test_attributes_of_a_version_to_come_are_not_read() -> None:
    obj = to_object(catalogue.machine("dgx-h100"))
    obj["attributes"][0]["value"] = "v2"
    machine = from_object(obj)
    assert (len(machine.cores), machine.title) == (224, "")


# --- garbage ----------------------------------------------------------------------------------------------------------

W = "NodeResourceTopology worker-1: "
GARBAGE: list[tuple[str, Any, str]] = [
    ("not an object", [], "a NodeResourceTopology must be an object, not a list"),
    ("another kind", {"apiVersion": "v1", "kind": "Node"},
     "a topology.node.k8s.io/v1alpha2 NodeResourceTopology was expected, not a v1 Node"),
    ("an old version", nfd(apiVersion="topology.node.k8s.io/v1alpha1"),
     "a topology.node.k8s.io/v1alpha2 NodeResourceTopology was expected, not a topology.node.k8s.io/v1alpha1 "
     "NodeResourceTopology"),
    ("no name", nfd(metadata={}), "a NodeResourceTopology must have a metadata.name, the name of its node"),
    ("no zones", nfd(zones=None),
     f"{W}no zone of type Node called node-0 or the like, so it tells nothing of NUMA nodes"),
    ("zones of a wrong type", nfd(zones="many"), f"{W}zones must be a list, not 'many'"),
    ("a zone of a wrong type", nfd(zones=[7]), f"{W}zones[0] must be an object with a name, not 7"),
    ("a zone without a name", nfd(zones=[{"type": "Node"}]),
     f"{W}zones[0] must be an object with a name, not an object"),
    ("a zone twice", nfd(zones=[zone(0, []), zone(0, [])]), f"{W}zone node-0 is there twice"),
    ("resources of a wrong type", nfd(zones=[zone(0, [], resources={})]),
     f"{W}zone node-0: resources must be a list, not an object"),
    ("a quantity that is none", nfd(zones=[zone(0, [], resources=[resource("cpu", allocatable="ten")])]),
     f"{W}zone node-0: cpu: 'ten': quantities must match the regular expression "
     "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
    ("a resource without amounts", nfd(zones=[zone(0, [], resources=[resource("cpu", available="1")])]),
     f"{W}zone node-0: cpu has neither allocatable nor capacity"),
    ("more CPUs than there can be", nfd(zones=[zone(0, [], resources=[resource("cpu", allocatable="1E")])]),
     f"{W}more than 65536 CPUs"),
    ("a cost that is none", nfd(zones=[zone(0, [], costs=[{"name": "node-0", "value": "far"}])]),
     f"{W}zone node-0: the cost to node-0 must be a whole number, not 'far'"),
    ("huge pages of no size", nfd(zones=[zone(0, [], resources=[resource("hugepages-0", allocatable="1")])]),
     f"{W}hugepages-0 names no page size"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "obj", "message"), GARBAGE, ids=[case for case, *_ in GARBAGE])
def test_garbage_is_refused_with_a_sentence(case: str, obj: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_object(obj)
    assert str(caught.value) == message


T = "NodeResourceTopology aws-t3.medium: "
FORGED = [
    ("a CPU in two cores", "cores", "0-1;1", f"{T}CPUs 1 are in two cores"),
    ("a CPU in no core", "cores", "0", f"{T}CPUs 1 are online, but in no core"),
    ("a core of CPUs that are not there", "cores", "0-5", f"{T}CPUs 2-5 are in cores, but not online"),
    ("reserved CPUs that are not there", "reserved", "7", f"{T}the machine has CPUs 0-1 only, but names others"),
    ("a list that is none", "online", "x",
     f"{T}the attribute armistice.dev/online: 'x' is not a CPU list; write it as 0-3,8"),
    ("a package without a number", "packages", "0-1",
     f"{T}the attribute armistice.dev/packages: '0-1' is not of the form 0=0-3"),
    ("a device of one word", "devices", "gpu",
     f"{T}the attribute armistice.dev/devices: 'gpu' is not of the form 0000:3b:00.0 0x030200 0"),
    ("an attribute taken away", "title", None, f"{T}the attribute armistice.dev/title is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "key", "value", "message"), FORGED, ids=[case for case, *_ in FORGED])
def test_attributes_that_do_not_agree_are_refused(case: str, key: str, value: str | None, message: str) -> None:
    obj = to_object(catalogue.machine("aws-t3.medium"))
    kept = [each for each in obj["attributes"] if each["name"] != PREFIX + key]
    obj["attributes"] = kept if value is None else [*kept, {"name": PREFIX + key, "value": value}]
    with pytest.raises(InputError) as caught:
        from_object(obj)
    assert str(caught.value) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_field_may_hold_anything(data: st.DataObject) -> None:
    """Whatever stands in place of a field, the answer is a machine or a sentence."""
    obj = json.loads(json.dumps(to_object(catalogue.machine("aws-t3.medium"))))
    holder: Any = obj
    while isinstance(holder, dict | list) and holder:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))))
        if data.draw(st.booleans()) or not isinstance(holder[key], dict | list):
            holder[key] = data.draw(JSON)
            break
        holder = holder[key]
    with suppress(InputError):
        assert isinstance(from_object(obj), Machine)


# --- files ------------------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_documents_and_lists(tmp_path: Path) -> None:
    objects = [to_object(catalogue.machine(name)) for name in ("dgx-h100", "aws-t3.medium", "mi300a-4s")]
    listed = {"apiVersion": "v1", "kind": "List", "items": [{"kind": "Node"}, *objects[1:]]}
    file = write(tmp_path / "nodes.yaml", yaml.safe_dump_all([objects[0], None, listed]))
    assert [machine.name for machine in read_file(file)] == ["dgx-h100", "aws-t3.medium", "mi300a-4s"]


def test_a_file_as_kubectl_writes_it(tmp_path: Path) -> None:
    listed = {"kind": "NodeResourceTopologyList", "items": [nfd()]}
    assert [machine.name for machine in read_file(write(tmp_path / "n.json", json.dumps(listed)))] == ["worker-1"]


FILES = [
    ("no machine", "kind: Pod\n",
     "{path} holds no NodeResourceTopology; `kubectl get noderesourcetopologies -o yaml` writes such a file"),
    ("nothing", "",
     "{path} holds no NodeResourceTopology; `kubectl get noderesourcetopologies -o yaml` writes such a file"),
    ("one machine twice", json.dumps({"kind": "List", "items": [nfd(), nfd()]}),
     "{path}#2: NodeResourceTopology worker-1 is there twice"),
    ("a broken machine", json.dumps(nfd(zones=[])),
     "{path}#1: NodeResourceTopology worker-1: no zone of type Node called node-0 or the like, "
     "so it tells nothing of NUMA nodes"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "text", "message"), FILES, ids=[case for case, *_ in FILES])
def test_file_that_cannot_be_used(case: str, text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "nodes.yaml", text)
    with pytest.raises(InputError) as caught:
        read_file(path)
    assert str(caught.value) == message.format(path=path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_file(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'} cannot be read: No such file or directory"
