"""This node's NodeResourceTopology: what its NUMA nodes have, and have left.

The webhook judges by it, and so does the scheduler-plugins' NodeResourceTopologyMatch. It is written by server-side
apply when something in it changed, at most every ten seconds, and else every ten minutes: somebody may have deleted it.
Where another publisher (NFD's topology updater) owns the object, the API server says so, and we do not fight it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from enforcer.apiserver import ApiServer
from enforcer.errors import ClusterError
from shared.ledger import Book, Ledger, Site, for_pods
from shared.noderesourcetopology import API_VERSION, Room, Rooms, hugepages, to_object

log = logging.getLogger("armistice.publish")

OWNER = "armistice-enforcer"
"""Field manager of server-side apply."""

ATTRIBUTES = {
    "topologyManagerPolicy": "single-numa-node",
    "topologyManagerScope": "pod",
    "armistice.dev/publisher": "enforcer",
}
"""The first two are NodeResourceTopologyMatch's: it then holds pods to one NUMA node, as we do."""

DEPRECATED_POLICY = "SingleNUMANodePodLevel"
"""The same in one word, for readers of ``topologyPolicies``."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the API server is asked, in seconds."""

    least: float = 10.0
    """Between two writes: pods come in bursts, and only what they leave is of use."""
    refresh: float = 600.0
    """Between two writes of the same."""
    outage: float = 300.0
    """At most between tries while the API server is away; at first it is ``least``."""
    refused: float = 300.0
    """Between tries where it says no: somebody has to install or grant something first."""


class Publisher:
    """Keeps the object true."""

    def __init__(self, api: ApiServer, node: str, pace: Pace = Pace()) -> None:
        self._api = api
        self._node = node
        self._pace = pace
        self._newest: Ledger | None = None
        self._wake = asyncio.Event()
        self._trouble = ""

    def offer(self, ledger: Ledger) -> None:
        """The newest ledger. Never waits, and costs nothing where it is the one before."""
        if ledger is not self._newest:
            self._newest = ledger
            self._wake.set()

    async def run(self) -> None:
        """Write what changed, for ever. To be cancelled."""
        written: Mapping[str, Any] | None = None
        pause = self._pace.least
        while True:
            refresh = not await self._changed()
            wanted = None if self._newest is None else topology(self._newest, self._node)
            if wanted is None or (wanted == written and not refresh):
                continue
            try:
                await self._write(wanted)
            except ClusterError as error:
                written = None
                self._wake.set()
                pause = self._told(error, pause)
                await asyncio.sleep(pause)
            else:
                written, pause, self._trouble = wanted, self._pace.least, ""
                await asyncio.sleep(pause)

    async def _changed(self) -> bool:
        """Wait for another ledger; False where it was time to write the same again."""
        try:
            async with asyncio.timeout(self._pace.refresh):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _write(self, wanted: Mapping[str, Any]) -> None:
        path = f"/apis/{API_VERSION}/noderesourcetopologies/{self._node}"
        await self._api.apply(path, await self._owned(wanted), OWNER)

    async def _owned(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """The object as the Node's own, so that it goes with it; without, where the node cannot be read.

        Read at each write: a node that is deleted and joins again has another uid, and what is owned by the old one is
        collected as garbage.
        """
        try:
            node = await self._api.get(f"/api/v1/nodes/{self._node}")
            uid = node["metadata"]["uid"]
        except (ClusterError, KeyError, TypeError) as error:
            log.debug("published without an owner: error=%s", error)
            return wanted
        reference = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": uid}
        return {**wanted, "metadata": {**wanted["metadata"], "ownerReferences": [reference]}}

    def _told(self, error: ClusterError, pause: float) -> float:
        """Log it once, and how long to wait then."""
        text = explained(error)
        if text != self._trouble:
            log.warning("topology not published: error=%s", text)
        self._trouble = text
        if 400 <= error.status < 500 and error.status not in (401, 429):
            return self._pace.refused
        return min(2 * pause, self._pace.outage)


def explained(error: ClusterError) -> str:
    """The API server's words, with the way out where there is one."""
    ways_out = {
        403: "; grant the enforcer's service account create and patch on noderesourcetopologies",
        404: "; install the CRD of charts/armistice/crds, or the webhook does not know this node",
        409: "; stop the other publisher, or keep the enforcer off this node",
    }
    return f"{error}{ways_out.get(error.status, '')}"


def topology(ledger: Ledger, node: str) -> dict[str, Any]:
    """The object of a node with a ledger."""
    machine = replace(ledger.layout.machine, name=node, reserved=ledger.layout.reserved)
    return {**to_object(machine, ATTRIBUTES, rooms(ledger)), "topologyPolicies": [DEPRECATED_POLICY]}


def rooms(ledger: Ledger) -> Rooms:
    """What pods may have of each NUMA node, in all and now."""
    layout = ledger.layout
    each = zip(layout.machine.numa_nodes, layout.sites, layout.books, ledger.books, strict=True)
    return {node.id: _room(ledger, site, idle, now) for node, site, idle, now in each if for_pods(node)}


def _room(ledger: Ledger, site: Site, idle: Book, now: Book) -> Mapping[str, Room]:
    """One NUMA node's.

    CPU is what of the node shared pool no bound pod asked for: it is there for bubbles and for bound pods alike.
    """
    cpu = max(0, 1000 * (ledger.free & site.cpus).bit_count() - now.bound_cpu)
    found = {"cpu": Room(1000 * site.cpus.bit_count(), cpu)}
    if idle.memory is not None and now.memory is not None:
        found["memory"] = Room(idle.memory, now.memory)
    for size, pages in idle.pages.items():
        found[hugepages(size)] = Room(size * pages, size * now.pages.get(size, 0))
    for name, pieces in idle.devices.items():
        found[name] = Room(pieces, now.devices.get(name, 0))
    return found
