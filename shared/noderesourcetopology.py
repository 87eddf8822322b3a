"""NodeResourceTopology objects (``topology.node.k8s.io/v1alpha2``) to machines and back.

An object has one zone of type ``Node`` per NUMA node, called ``node-0``, with costs (SLIT distances) and resources as
quantities. It has no CPU lists. Ours carries them as attributes (``armistice.dev/...``), so that a machine comes back
exactly as it was. Objects of others (NFD's topology updater, the resource topology exporter) give counts only:
CPUs are then numbered through node by node, each a core of its own, and what nobody tells stays unknown. As in
scheduler-plugins, zones of other types or names are passed over.

Memory: ``memory`` is what ordinary pages can use, beside ``hugepages-SIZE`` in bytes, as the kubelet's memory manager
counts; a machine's memory is the sum of both. Memory on a GPU is published with nothing allocatable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from shared.cpuset import EMPTY, MAX_CPU, CpuSet
from shared.documents import objects, read_documents
from shared.errors import InputError
from shared.quantity import from_json, parse, text, to_whole
from shared.topology import LOCAL_DISTANCE, REMOTE_DISTANCE, Device, Machine, MemoryKind, NumaNode, Package

API_VERSION = "topology.node.k8s.io/v1alpha2"
KIND = "NodeResourceTopology"
ZONE_TYPE = "Node"

PREFIX = "armistice.dev/"
VERSION = "v1"
"""Of our attributes. Another version is read as if somebody else had published the object."""

MAX_DISTANCE = 2**31 - 1
_ZONE = re.compile(r"node-(0|[1-9][0-9]{0,4})")
_HUGEPAGES = "hugepages-"
_UNKNOWN = "unknown"


# --- a machine to an object -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Room:
    """What of one resource of a NUMA node pods may have; millicores of ``cpu``, whole units of anything else."""

    allocatable: int
    """In all."""
    available: int
    """Now."""


Rooms: TypeAlias = Mapping[int, Mapping[str, Room]]
"""By NUMA node and resource."""


def to_object(
    machine: Machine, attributes: Mapping[str, str] | None = None, rooms: Rooms | None = None
) -> dict[str, Any]:
    """The object that publishes a machine. Further attributes (``topologyManagerPolicy``) are added as given.

    What ``rooms`` does not name is published as on an idle machine.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": machine.name},
        "topologyPolicies": [],
        "attributes": _pairs({**(attributes or {}), **_machine_attributes(machine)}),
        "zones": [_zone(machine, node, (rooms or {}).get(node.id, {})) for node in machine.numa_nodes],
    }


def _pairs(attributes: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in attributes.items()]


def _machine_attributes(machine: Machine) -> dict[str, str]:
    attributes = {
        "version": VERSION,
        "title": machine.title,
        "cpus": str(machine.cpus),
        "online": str(machine.online),
        "isolated": str(machine.isolated),
        "reserved": str(machine.reserved),
        "packages": ";".join(f"{package.id}={package.cpus}" for package in machine.packages),
        "cores": ";".join(map(str, machine.cores)),
        "uncore-caches": ";".join(map(str, machine.uncore_caches)),
        "devices": ";".join(f"{device.address} {device.pci_class} {device.numa_node}" for device in machine.devices),
    }
    return {PREFIX + name: value for name, value in attributes.items()}


def _zone(machine: Machine, node: NumaNode, rooms: Mapping[str, Room]) -> dict[str, Any]:
    attributes = {
        "cpus": str(node.cpus),
        "memory": _UNKNOWN if node.memory is None else str(node.memory),
        "memory-kind": node.kind.value,
    }
    return {
        "name": f"node-{node.id}",
        "type": ZONE_TYPE,
        "attributes": _pairs({PREFIX + name: value for name, value in attributes.items()}),
        "costs": [
            {"name": f"node-{other.id}", "value": machine.distance(node.id, other.id)} for other in machine.numa_nodes
        ],
        "resources": [
            _resource(name, capacity, allocatable, rooms.get(name))
            for name, capacity, allocatable in _resources(machine, node)
        ],
    }


def _resources(machine: Machine, node: NumaNode) -> Iterator[tuple[str, int, int]]:
    """Name, capacity and what pods may have of it, in millicores or whole units."""
    yield "cpu", 1000 * len(node.cpus), 1000 * len(node.cpus - machine.reserved)
    if node.memory is not None and node.pages is not None:
        yield "memory", node.memory, 0 if node.kind is MemoryKind.GPU else node.pages
    for size, count in node.hugepages.items():
        yield hugepages(size), size * count, size * count
    for name, pieces in node.devices.items():
        yield name, pieces, pieces


def hugepages(size: int) -> str:
    """The resource of huge pages of so many bytes each: ``hugepages-2Mi``."""
    return _HUGEPAGES + text("memory", size)


def _resource(name: str, capacity: int, allocatable: int, room: Room | None) -> dict[str, str]:
    room = room or Room(allocatable, allocatable)
    amounts = {"capacity": capacity, "allocatable": room.allocatable, "available": room.available}
    return {"name": name, **{field: _written(name, amount) for field, amount in amounts.items()}}


def _written(name: str, amount: int) -> str:
    """CPUs as a quantity; all others as plain numbers, in which a reader compares bytes without arithmetic."""
    return text("cpu", amount) if name == "cpu" else str(amount)


# --- an object to a machine -------------------------------------------------------------------------------------------


def from_object(obj: object) -> Machine:
    """The machine that an object describes, whoever made it. Raises InputError that names the object and the field."""
    if not isinstance(obj, dict):
        raise InputError(f"a {KIND} must be an object, not {_shown(obj)}")
    name = _name(obj)
    try:
        zones = _zones(obj)
        attributes = _attributes(obj, "")
        if attributes.get(PREFIX + "version") == VERSION:
            return _checked(_ours(name, attributes, zones))
        return _anybodys(name, zones)
    except InputError as error:
        raise InputError(f"{KIND} {name}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Zone:
    """One zone of type Node, its fields checked."""

    id: int
    attributes: Mapping[str, str]
    costs: Mapping[int, int]
    resources: Mapping[str, int]
    """What pods may be given in all, in nano-units."""

    def amount(self, resource: str) -> int | None:
        """Whole units (CPUs, bytes, pieces), rounded down: nobody can be given a part. None when not published."""
        nanos = self.resources.get(resource)
        return None if nanos is None else max(0, nanos // 10**9)

    def hugepages(self) -> dict[int, int]:
        """Page size in bytes to pages."""
        pages = {}
        for resource in self.resources:
            if resource.startswith(_HUGEPAGES):
                size = _page_size(resource)
                pages[size] = (self.amount(resource) or 0) // size
        return pages

    def devices(self) -> dict[str, int]:
        """Extended resources: every name with a domain, as the API server has it."""
        return {resource: self.amount(resource) or 0 for resource in self.resources if "/" in resource}


def _page_size(resource: str) -> int:
    try:
        size = to_whole("memory", parse(resource.removeprefix(_HUGEPAGES)))
    except InputError as error:
        raise InputError(f"{resource} names no page size: {error}") from error
    if size <= 0:
        raise InputError(f"{resource} names no page size")
    return size


def _name(obj: Mapping[str, Any]) -> str:
    found = f"{obj.get('apiVersion')} {obj.get('kind')}"
    if found != f"{API_VERSION} {KIND}":
        raise InputError(f"a {API_VERSION} {KIND} was expected, not a {found[:80]}")
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError(f"a {KIND} must have a metadata.name, the name of its node")
    return name


def _shown(value: object) -> str:
    words = {dict: "an object", list: "a list", type(None): "nothing", bool: "a truth value"}
    return words.get(type(value)) or repr(value)[:40]


def _list(holder: Mapping[str, Any], key: str, where: str) -> Sequence[Mapping[str, Any]]:
    """A list of objects that have a name; absent and null are the empty list, as the API has it."""
    found = holder.get(key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InputError(f"{where}{key} must be a list, not {_shown(found)}")
    for place, item in enumerate(found):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise InputError(f"{where}{key}[{place}] must be an object with a name, not {_shown(item)}")
    return found


def _attributes(holder: Mapping[str, Any], where: str) -> dict[str, str]:
    return {item["name"]: str(item.get("value", "")) for item in _list(holder, "attributes", where)}


def _zones(obj: Mapping[str, Any]) -> list[_Zone]:
    """The zones that stand for NUMA nodes, by id."""
    zones: dict[int, _Zone] = {}
    for zone in _list(obj, "zones", ""):
        number = _zone_id(zone["name"])
        if zone.get("type") != ZONE_TYPE or number is None:
            continue
        if number in zones:
            raise InputError(f"zone {zone['name']} is there twice")
        zones[number] = _read_zone(number, zone)
    if not zones:
        raise InputError(f"no zone of type {ZONE_TYPE} called node-0 or the like, so it tells nothing of NUMA nodes")
    return [zones[number] for number in sorted(zones)]


def _zone_id(name: str) -> int | None:
    match = _ZONE.fullmatch(name)
    return int(match[1]) if match else None


def _read_zone(number: int, zone: Mapping[str, Any]) -> _Zone:
    where = f"zone {zone['name']}: "
    costs = {
        other: _cost(cost, where)
        for cost in _list(zone, "costs", where)
        if (other := _zone_id(cost["name"])) is not None
    }
    resources = {resource["name"]: _allocatable(resource, where) for resource in _list(zone, "resources", where)}
    return _Zone(number, _attributes(zone, where), costs, resources)


def _cost(cost: Mapping[str, Any], where: str) -> int:
    value = cost.get("value")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_DISTANCE:
        raise InputError(f"{where}the cost to {cost['name']} must be a whole number, not {_shown(value)}")
    return value


def _allocatable(resource: Mapping[str, Any], where: str) -> int:
    """What pods may have in all; an old publisher that tells only the capacity means the same."""
    given = next((resource[key] for key in ("allocatable", "capacity") if resource.get(key) is not None), None)
    if given is None:
        raise InputError(f"{where}{resource['name']} has neither allocatable nor capacity")
    try:
        return from_json(given)
    except InputError as error:
        raise InputError(f"{where}{resource['name']}: {_shown(given)}: {error}") from error


def _distances(zones: Sequence[_Zone]) -> tuple[tuple[int, ...], ...]:
    """Costs as a matrix; where none is given, what the kernel takes without a SLIT."""
    return tuple(
        tuple(zone.costs.get(other.id, LOCAL_DISTANCE if other.id == zone.id else REMOTE_DISTANCE) for other in zones)
        for zone in zones
    )


def _anybodys(name: str, zones: Sequence[_Zone]) -> Machine:
    """A machine of counts: CPUs numbered through, every CPU a core, one package."""
    nodes: list[NumaNode] = []
    next_cpu = 0
    for zone in zones:
        count = zone.amount("cpu") or 0
        if next_cpu + count > MAX_CPU + 1:
            raise InputError(f"more than {MAX_CPU + 1} CPUs")
        cpus = CpuSet(((1 << count) - 1) << next_cpu)
        next_cpu += count
        nodes.append(_counted_node(zone, cpus))
    online = CpuSet((1 << next_cpu) - 1)
    return Machine(
        name=name,
        cpus=online,
        online=online,
        isolated=EMPTY,
        packages=(Package(0, online),),
        cores=tuple(CpuSet(1 << cpu) for cpu in range(next_cpu)),
        uncore_caches=(),
        numa_nodes=tuple(nodes),
        distances=_distances(zones),
    )


def _counted_node(zone: _Zone, cpus: CpuSet) -> NumaNode:
    hugepages = zone.hugepages()
    pages = zone.amount("memory")
    memory = None if pages is None else pages + sum(size * count for size, count in hugepages.items())
    kind = MemoryKind.EMPTY if not cpus and not memory else MemoryKind.DRAM
    return NumaNode(zone.id, cpus, memory, hugepages, kind, zone.devices())


# --- our attributes ---------------------------------------------------------------------------------------------------


def _ours(name: str, attributes: Mapping[str, str], zones: Sequence[_Zone]) -> Machine:
    def cpus(key: str) -> CpuSet:
        return _cpus(_attribute(attributes, key), key)

    return Machine(
        name=name,
        title=_attribute(attributes, "title"),
        cpus=cpus("cpus"),
        online=cpus("online"),
        isolated=cpus("isolated"),
        reserved=cpus("reserved"),
        packages=tuple(_package(part) for part in _parts(attributes, "packages")),
        cores=_groups(_attribute(attributes, "cores"), "cores"),
        uncore_caches=_groups(_attribute(attributes, "uncore-caches"), "uncore-caches"),
        numa_nodes=tuple(_our_node(zone) for zone in zones),
        distances=_distances(zones),
        devices=tuple(_device(part) for part in _parts(attributes, "devices")),
    )


def _attribute(attributes: Mapping[str, str], key: str) -> str:
    try:
        return attributes[PREFIX + key]
    except KeyError:
        raise InputError(f"the attribute {PREFIX}{key} is missing") from None


def _parts(attributes: Mapping[str, str], key: str) -> list[str]:
    value = _attribute(attributes, key)
    return value.split(";") if value else []


def _cpus(value: str, key: str) -> CpuSet:
    try:
        return CpuSet.parse(value)
    except InputError as error:
        raise InputError(f"the attribute {PREFIX}{key}: {error}") from error


@lru_cache(maxsize=256)
def _groups(value: str, key: str) -> tuple[CpuSet, ...]:
    """Sets of CPUs. Thousands of nodes are of a few types, and say the same here word for word."""
    return tuple(_cpus(part, key) for part in value.split(";")) if value else ()


def _package(part: str) -> Package:
    number, equals, cpus = part.partition("=")
    if not equals or not re.fullmatch("[0-9]{1,18}", number):
        raise InputError(f"the attribute {PREFIX}packages: {part[:40]!r} is not of the form 0=0-3")
    return Package(int(number), _cpus(cpus, "packages"))


def _device(part: str) -> Device:
    fields = part.split(" ")
    if len(fields) != 3 or not re.fullmatch("-?[0-9]{1,9}", fields[2]):
        raise InputError(f"the attribute {PREFIX}devices: {part[:40]!r} is not of the form 0000:3b:00.0 0x030200 0")
    return Device(fields[0], fields[1], int(fields[2]))


def _our_node(zone: _Zone) -> NumaNode:
    memory = _attribute(zone.attributes, "memory")
    kind = _attribute(zone.attributes, "memory-kind")
    if memory != _UNKNOWN and not re.fullmatch("[0-9]{1,19}", memory):
        raise InputError(f"zone node-{zone.id}: the attribute {PREFIX}memory: {memory[:40]!r} is no number of bytes")
    if kind not in {each.value for each in MemoryKind}:
        raise InputError(f"zone node-{zone.id}: the attribute {PREFIX}memory-kind: {kind[:40]!r} is no kind of memory")
    return NumaNode(
        id=zone.id,
        cpus=_cpus(_attribute(zone.attributes, "cpus"), "cpus"),
        memory=None if memory == _UNKNOWN else int(memory),
        hugepages=zone.hugepages(),
        kind=MemoryKind(kind),
        devices=zone.devices(),
    )


def _checked(machine: Machine) -> Machine:
    """A machine whose parts agree: other code relies on it, and the object may come from a node that is not ours."""
    groups = {
        "packages": [package.cpus for package in machine.packages],
        "cores": list(machine.cores),
        "uncore-caches": list(machine.uncore_caches),
        "NUMA nodes": [node.cpus for node in machine.numa_nodes],
    }
    for what, sets in groups.items():
        union = EMPTY
        for cpus in sets:
            if not cpus.isdisjoint(union):
                raise InputError(f"CPUs {cpus & union} are in two {what}")
            union |= cpus
        if not union <= machine.online:
            raise InputError(f"CPUs {union - machine.online} are in {what}, but not online")
        if what == "cores" and union != machine.online:
            raise InputError(f"CPUs {machine.online - union} are online, but in no core")
    if not (machine.online | machine.isolated | machine.reserved) <= machine.cpus:
        raise InputError(f"the machine has CPUs {machine.cpus} only, but names others")
    return machine


# --- files ------------------------------------------------------------------------------------------------------------


def read_file(path: Path) -> list[Machine]:
    """Every machine of a YAML or JSON file: many documents, lists of objects. Objects of other kinds are passed over.

    Raises InputError that names the file and the object, also when the file holds no machine at all.
    """
    machines: dict[str, Machine] = {}
    for number, obj in enumerate(objects(read_documents(path)), start=1):
        if not isinstance(obj, dict) or obj.get("kind") != KIND:
            continue
        try:
            machine = from_object(obj)
        except InputError as error:
            raise InputError(f"{path}#{number}: {error}") from error
        if machine.name in machines:
            raise InputError(f"{path}#{number}: {KIND} {machine.name} is there twice")
        machines[machine.name] = machine
    if not machines:
        raise InputError(f"{path} holds no {KIND}; `kubectl get noderesourcetopologies -o yaml` writes such a file")
    return list(machines.values())
