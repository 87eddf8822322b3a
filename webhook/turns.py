"""Whose turn it is to write: the leader's at once, anybody's when the leader has had its time.

An order, not a lock: every write carries the version that was read. So a leader that died costs some seconds, one that
hangs costs no more, and where nobody may have a Lease everybody's turn is now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

from webhook.bundles import Configuration
from webhook.cluster.writing import ClusterError, Conflict, Writer, lease
from webhook.figures import Figures, Work
from webhook.installation import Installation
from webhook.leadership import GRACE, PERIOD, Tenure, released, taken

LOG = logging.getLogger("armistice.keeper")

Json = dict[str, Any]


class Turns:
    """One replica's."""

    def __init__(
        self, installation: Installation, figures: Figures, patience: float, tell: Callable[[str, str], None]
    ) -> None:
        """``patience`` are the seconds that the leader is given; ``tell`` hears of trouble, by what and why."""
        self._installation = installation
        self._figures = figures
        self._patience = patience
        self._tell = tell
        self._place = lease(installation.lease, installation.namespace)
        self._tenure: Tenure | None = None
        self._lease: Json | None = None
        self._until = float("-inf")
        """When we stop to count as the leader."""
        self._undone: dict[Work | Configuration, float] = {}
        """Since when each piece of work waits for somebody."""

    def mine(self, work: Work | Configuration) -> bool:
        """Whether to do what is to be done; asked once for each time that it is done."""
        at = monotonic()
        waited = at - self._undone.setdefault(work, at)
        if at < self._until or waited >= self._patience:
            del self._undone[work]
            return True
        return False

    def nothing_to_do(self, work: Work | Configuration) -> None:
        """Somebody did it, or it went away."""
        self._undone.pop(work, None)

    def waits(self) -> Iterator[float]:
        """Seconds until each piece of work that waits is anybody's."""
        at = monotonic()
        for since in self._undone.values():
            yield max(since + self._patience - at, 0.0)

    async def run(self, writer: Writer, leading: Callable[[], None]) -> None:
        """Until it is cancelled. ``leading`` hears of it when the turn becomes ours."""
        while True:
            await asyncio.sleep(PERIOD)
            before = self._figures.leading
            await self.campaign(writer)
            if self._figures.leading and not before:
                leading()

    async def campaign(self, writer: Writer) -> None:
        """One try to take or renew the Lease."""
        try:
            await self._stand(writer)
        except ClusterError as error:
            self._tell("lease", str(error))
            if error.forbidden:  # then there is no order
                self._until = monotonic() + GRACE
        else:
            self._tell("lease", "")
        leads = monotonic() < self._until
        if leads and not self._figures.leading:
            LOG.info("leading identity=%s", self._installation.identity)
        self._figures.leading = leads

    async def _stand(self, writer: Writer) -> None:
        at = monotonic()
        found = self._lease or await writer.get(self._place)
        self._lease = None
        self._tenure = Tenure.seen(found, self._tenure, at)
        if not self._tenure.open_to(self._installation.identity, at):
            self._until = float("-inf")
            return
        bare = self._installation.labelled(self._place.bare)
        wanted = taken(found, bare, self._installation.identity, writer.now())
        try:
            self._lease = await (writer.replace if found else writer.create)(self._place, wanted)
        except Conflict:
            self._figures.conflicts[Work.LEASE] += 1
            return
        self._until = at + GRACE

    async def hand_on(self, writer: Writer) -> None:
        """Leave the Lease to the next one, if it is ours; within two seconds, or not at all."""
        if self._lease:
            with suppress(ClusterError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await writer.replace(self._place, released(self._lease))
