"""A stand-in API server with a large cluster in it, for measurements.

``python -m tests.bench.apiserver NODES NAMESPACES FOLDER`` writes FOLDER/kubeconfig, prints ``ready``, and serves until
it is ended. Lines on its standard input say what happens in the cluster from then on, in events a second: ``beats 500``
(nodes say that they are alive), ``changes 50`` (nodes get another label), ``quiet``.

Its objects are as large as real ones: a node of 50 images, 30 labels and its managedFields has about 15 KiB. They are
put into JSON beforehand, so that what it takes to serve them is hardly in the figures.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from shared import catalogue
from shared.noderesourcetopology import to_object
from tests.bench.admission import MACHINE_TYPES, as_node
from tests.support.cluster import NAMESPACES, NODES, TOPOLOGIES, Asked, Cluster, Happened, Manifest, namespace

TICK = 0.02
"""Seconds between two handfuls of events."""


@dataclass
class Large(Cluster):
    """One whose lists are JSON already."""

    items: dict[str, list[bytes]] = field(default_factory=dict)

    def page(self, asked: Asked) -> bytes:
        """One page of a list."""
        items = self.items.get(asked.path, [])
        place, limit = int(asked.query.get("continue", "0")), int(asked.query["limit"])
        more = {"continue": str(place + limit)} if place + limit < len(items) else {}
        head = json.dumps({"resourceVersion": str(self.version), **more}).encode()
        return b'{"kind":"List","metadata":%b,"items":[%b]}' % (head, b",".join(items[place : place + limit]))


def fill(large: Large, nodes: int, namespaces: int) -> None:
    """Make the cluster."""
    types = [catalogue.machine(name) for name in MACHINE_TYPES]
    topologies = (to_object(as_node(types[index % len(types)], index)) for index in range(nodes))
    large.items[TOPOLOGIES] = [encoded({**found, **_head(found["metadata"]["name"])}) for found in topologies]
    large.items[NODES] = [encoded(node(index)) for index in range(nodes)]
    large.items[NAMESPACES] = [encoded(_namespace(index)) for index in range(namespaces)]


def _namespace(index: int) -> Manifest:
    """Every tenth has a policy."""
    ours = {"enforce": "single-numa-node"} if index % 10 == 0 else {}
    found = namespace(f"team-{index:05}", **ours)
    return {**found, **_head(found["metadata"]["name"], found["metadata"]["labels"])}


def node(index: int, beat: int = 0, change: int = 0) -> Manifest:
    """A node as a cloud has it."""
    name = f"node-{index:05}"
    labels = {f"example.com/label-{place:02}": f"value-{(index + place) % 7}" for place in range(28)}
    labels |= {"kubernetes.io/hostname": name, "example.com/change": str(change)}
    images = [
        {"names": [f"registry.example/team/image-{place:03}@sha256:{'ab' * 32}"], "sizeBytes": 123456789}
        for place in range(50)
    ]
    conditions = [
        {"type": each, "status": "False", "lastHeartbeatTime": f"2026-01-01T00:00:{beat % 60:02}Z", "message": "m" * 60}
        for each in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    ]
    allocatable = {"cpu": "190", "memory": "760Gi", "pods": "110", "ephemeral-storage": "1Ti"}
    status = {"allocatable": allocatable, "capacity": allocatable, "conditions": conditions, "images": images}
    spec = {"podCIDR": "10.0.0.0/24", "taints": []}
    return {**_head(name, labels), "spec": spec, "status": status}


def _head(name: str, labels: dict[str, str] | None = None) -> Manifest:
    """Metadata with the fields that nobody reads, which are most of it."""
    fields: dict[str, Any] = {f"f:part-{place}": {"f:some": {}, "f:other": {".": {}}} for place in range(40)}
    managed = [{"manager": "kubelet", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields}]
    metadata = {"name": name, "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "resourceVersion": "1"}
    return {"metadata": {**metadata, "labels": labels or {}, "managedFields": managed}}


def encoded(obj: Manifest) -> bytes:
    """As an API server writes it."""
    return json.dumps(obj, separators=(",", ":")).encode()


async def happen(large: Large, rate: Callable[[], tuple[str, int]], nodes: int) -> None:
    """Events at the rate of the moment."""
    number = count()
    while True:
        await asyncio.sleep(TICK)
        what, per_second = rate()
        for _ in range(int(per_second * TICK)):
            index = next(number)
            seen = {"beat": index} if what == "beats" else {"change": index}
            large.version += 1
            obj = node(index * 7919 % nodes, **seen)
            obj["metadata"]["resourceVersion"] = str(large.version)
            large.shelves[NODES].log.append(
                Happened(large.version, b'{"type":"MODIFIED","object":%b}\n' % encoded(obj))
            )
        large.tell()


async def serve(nodes: int, namespaces: int, folder: Path) -> None:
    """Serve until standard input ends."""
    large = Large()
    fill(large, nodes, namespaces)
    await large.start()
    large.write_kubeconfig(folder / "kubeconfig")
    now: list[Any] = ["quiet", 0]
    task = asyncio.create_task(happen(large, lambda: (now[0], now[1]), nodes))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, _, rate = line.partition(" ")
        now[:] = what.strip(), int(rate or 0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await large.stop()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
