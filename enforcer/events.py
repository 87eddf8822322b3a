"""Events on pods: what a person sees in ``kubectl describe pod``.

Telling never waits and never fails: it puts the event into a short queue, which a task of its own empties. While a pod
cannot start much the same is to be told again and again; what was told lately is held back here, before it costs the
API server anything. While that is away the newest events wait for it, and the oldest are dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from enforcer.apiserver import ApiServer
from enforcer.effects import Tell
from enforcer.errors import ClusterError

log = logging.getLogger("armistice.events")

COMPONENT = "armistice-enforcer"

SAME_AGAIN = 300.0
"""Seconds before the same words about the same pod are told again."""

PER_POD = 10
"""Events about one pod within :data:`SAME_AGAIN`, however their words differ: numbers in them may change each time."""

PER_MINUTE = 60
"""Events of this node in a minute."""

MOST_WAITING = 256
"""Events that wait for the API server. A pod's last events say most, so that the oldest go first."""

MOST_REMEMBERED = 4096
"""Texts that are known to be told already."""

BACK_OFF = (1.0, 60.0)
"""Seconds between tries while the API server is away: at first, and at most."""

LONGEST_TEXT = 1024
"""Characters of a message, as ``events.k8s.io/v1`` has it."""

LONGEST_NAME = 253 - 17
"""Of the pod's part in an event's name; a dot and 16 digits follow."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event, waiting."""

    tell: Tell
    number: int
    """Tells events of one pod apart, and an event from itself when it is sent twice."""
    at: datetime


class Events:
    """What is still to be told, and what was."""

    def __init__(
        self,
        api: ApiServer | None,
        node: str,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Without an API server events are logged only."""
        self._api = api
        self._node = node
        self._clock = clock
        self._now = now
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._told = _Told()
        self._away = False
        self._number = 0
        self.dropped = 0
        """Events that were never told: too many, or refused by the API server."""

    def tell(self, tell: Tell) -> bool:
        """Have it told, unless much the same was told lately; whether it will be. Never waits."""
        if not self._told.again(tell, self._clock()):
            return False
        log.warning("event: reason=%s pod=%s/%s text=%s", tell.reason.value, tell.namespace, tell.name, tell.text)
        if self._api is not None:
            self._waiting.append(self._numbered(tell))
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._wake.set()
        return True

    def _numbered(self, tell: Tell) -> Event:
        """Numbers are microseconds, moved on where two events share one; two runs of the enforcer never meet in one."""
        now = self._now()
        self._number = max(self._number + 1, int(now.timestamp() * 1e6))
        return Event(tell, self._number, now)

    async def run(self) -> None:
        """Send what waits, for ever. To be cancelled, then :meth:`drain`."""
        pause = BACK_OFF[0]
        while True:
            await self._wake.wait()
            if await self._send_next():
                pause = BACK_OFF[0]
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, BACK_OFF[1])

    async def drain(self, seconds: float) -> None:
        """Send what waits, as far as that is possible in the time. After :meth:`run` was cancelled."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting and await self._send_next():
                    pass
        except TimeoutError:
            pass  # what is left is in the log

    async def _send_next(self) -> bool:
        """Send the oldest; False where the API server is away and it has to wait."""
        if not self._waiting:
            self._wake.clear()
            return True
        event = self._waiting[0]
        try:
            await self._post(event)
        except ClusterError as error:
            if _may_pass(error):
                self._mark_away(error)
                return False
            self.dropped += 1
            log.warning("event not taken: pod=%s/%s error=%s", event.tell.namespace, event.tell.name, error)
        else:
            self._away = False
        if self._waiting and self._waiting[0] is event:  # the queue may have dropped it meanwhile
            self._waiting.popleft()
        return True

    def _mark_away(self, error: ClusterError) -> None:
        """Said once for each outage."""
        if not self._away:
            log.warning("events wait: waiting=%d error=%s", len(self._waiting), error)
        self._away = True

    async def _post(self, event: Event) -> None:
        assert self._api is not None
        try:
            await self._api.post(f"/api/v1/namespaces/{event.tell.namespace}/events", event_object(event, self._node))
        except ClusterError as error:
            if error.status != 409:  # it was taken at the try before, whose answer was lost
                raise


def _may_pass(error: ClusterError) -> bool:
    """Whether it is the API server that is not well; what it says of the event itself stays true."""
    return error.status in (0, 401, 429) or error.status >= 500  # 401: a token that the kubelet is about to renew


def event_object(event: Event, node: str) -> dict[str, Any]:
    """A core/v1 Event, in the form that the kubelet's own have."""
    tell, at = event.tell, event.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    pod = {"apiVersion": "v1", "kind": "Pod", "namespace": tell.namespace, "name": tell.name, "uid": tell.uid}
    name = tell.name[:LONGEST_NAME].rstrip(".-")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": tell.namespace, "name": f"{name}.{event.number:016x}"},
        "involvedObject": pod,
        "type": "Warning",
        "reason": tell.reason.value,
        "message": tell.text if len(tell.text) <= LONGEST_TEXT else tell.text[: LONGEST_TEXT - 3] + "...",
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


class _Told:
    """What was told lately. Times are the clock's."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._pods: OrderedDict[str, deque[float]] = OrderedDict()
        self._minute: deque[float] = deque()

    def again(self, tell: Tell, now: float) -> bool:
        """Whether it may be told now; then it counts as told."""
        self._forget(now)
        key = (tell.uid, tell.reason.value, tell.text)
        times = deque(time for time in self._pods.get(tell.uid, ()) if time > now - SAME_AGAIN)
        if key in self._texts or len(times) >= PER_POD or len(self._minute) >= PER_MINUTE:
            return False
        self._texts[key] = now
        times.append(now)
        self._pods[tell.uid] = times
        self._pods.move_to_end(tell.uid)
        self._minute.append(now)
        return True

    def _forget(self, now: float) -> None:
        """What is too long ago, and the oldest where it is too much."""
        while self._minute and self._minute[0] <= now - 60:
            self._minute.popleft()
        texts = self._texts
        while texts and (next(iter(texts.values())) <= now - SAME_AGAIN or len(texts) > MOST_REMEMBERED):
            texts.popitem(last=False)
        while self._pods and next(iter(self._pods.values()))[-1] <= now - SAME_AGAIN:
            self._pods.popitem(last=False)
