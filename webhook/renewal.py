"""The fleet, made anew when the cluster's nodes or topologies changed.

It is made beside the event loop, from a snapshot, and put into place in one assignment: no review ever waits for it. A
storm of changes is taken together: between two fleets lies a pause that grows with what making one takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import monotonic

from shared.topology import Machine
from webhook.following import View
from webhook.nodes import ClusterNode, Fleet

LOG = logging.getLogger("armistice.cluster")

PAUSE = 0.5
"""Seconds between two fleets, at least: so late a change of nodes may come to count."""

SHARE = 20
"""The pause is so many times what making the last one took: at most a twentieth of a core goes into it."""


Make = Callable[[Iterable[ClusterNode], Iterable[Machine], Fleet | None], Fleet]
"""A fleet from nodes, topologies and the fleet before."""


class Renewal:
    """Keeps a fleet that fits the view."""

    def __init__(
        self, view: View, publish: Callable[[Fleet], None], make: Make = Fleet.of, pause: float = PAUSE
    ) -> None:
        """``publish`` is told each fleet; ``pause`` is in seconds."""
        self._view = view
        self._make = make
        self._pause = pause
        self._publish = publish
        self._fleet: Fleet | None = None
        self._version = -1
        self._said: set[str] = set()
        self._news = asyncio.Event()

    def unready(self) -> str:
        """Why nothing can be judged yet; empty when it can."""
        return self._view.unready() or ("" if self._fleet else "the cluster's nodes are being put in order")

    async def run(self) -> None:
        """Until it is cancelled."""
        self._view.wake = self._news.set
        while True:
            if not self._view.synced or self._version == self._view.fleet_version:
                await self._wait()
                continue
            began = monotonic()
            await self._renew()
            await asyncio.sleep(max(self._pause, SHARE * (monotonic() - began)))

    async def _wait(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(self._pause if self._fleet is None else None):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _renew(self) -> None:
        version = self._view.fleet_version
        nodes, machines = self._view.nodes_and_machines()
        try:
            self._fleet = await asyncio.to_thread(self._make, nodes, machines, self._fleet)
        except Exception:  # the one before stays in use, rather than none
            LOG.exception("no fleet could be made of %d nodes and %d topologies", len(nodes), len(machines))
        else:
            self._version = version
            self._publish(self._fleet)
            self._say(self._fleet.unusable)

    def _say(self, unusable: tuple[str, ...]) -> None:
        """What is wrong with topologies that nothing can be placed on, once."""
        for complaint in set(unusable) - self._said:
            LOG.warning("a topology is of no use: %s", complaint)
        self._said = set(unusable)
