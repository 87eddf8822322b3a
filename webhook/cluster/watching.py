"""Following a resource of the API server: list it in pages, watch it from there, and begin anew where that breaks.

1. List, in pages. What was not in the list any more is gone.
2. Watch from the list's version on, with bookmarks, so that the version stays fresh where nothing happens.
3. A watch that ends goes on from its last version: after its time at once, after a failure with a pause that grows. A
   review of a namespace that is not known ends the pause: an API server that asks is there.
4. 410 (the API server no longer knows what came after our version) and a line that is no event: back to 1.
5. Now and then back to 1 without a reason, which puts right whatever was lost.

Nothing of this forgets what is known: while the API server is away the process goes on with that. Of an object only
what is declared here is made into Python values; the rest (a node's images, ``managedFields``) is skipped over unread.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypedDict

import aiohttp
import msgspec
from kubernetes.aio import client

from webhook.following import Followed, Object, Pulse, Relist, Table, Trouble, View, key_of

LOG = logging.getLogger("armistice.cluster")

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How following behaves in time. Seconds, where nothing else is said."""

    first_pause: float = 0.5
    """After a failure; doubled with each one more in a row."""
    longest_pause: float = 30.0
    """An API server that comes back is found again within this, and not overrun by everybody at once."""
    resync: float = 3600.0
    """Between readings as a whole; each is up to a tenth earlier, so that replicas do not ask together."""
    watch: float = 480.0
    """How long one watch is asked for; each is up to half shorter. API servers spread their load by that."""
    silence: float = 150.0
    """A watch without a word for so long is taken for dead. Bookmarks come every minute."""
    patience: float = 30.0
    """For a page of a list, and for a watch to begin: a connection that nobody is behind any more costs no longer."""
    absent: float = 10.0
    """Between looks for a resource that the API server does not know."""
    looks: int = 3
    """So often in a row it has to say so before what is known is forgotten: one that starts may say it too early."""
    short: float = 1.0
    """A watch that ended earlier, and brought nothing, counts as a failure."""
    page: int = 250
    """Objects in a page. With nodes of 20 KiB it takes some ms to read, in which no review is answered."""
    batch: int = 25
    """Objects handled in a row, before reviews have their turn again."""
    longest_line: int = 8 * MEBIBYTE
    """Bytes of an event. etcd holds objects of up to 1.5 MiB."""


# What is read of an object.


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    resourceVersion: str


class _Labelled(_Metadata, total=False):
    labels: Any


class _Namespace(TypedDict, total=False):
    metadata: _Labelled


class _Spec(TypedDict, total=False):
    taints: Any


class _Status(TypedDict, total=False):
    allocatable: Any


class _Node(TypedDict, total=False):
    metadata: _Labelled
    spec: _Spec
    status: _Status


class _LimitRange(TypedDict, total=False):
    metadata: _Metadata
    spec: Any


class _Amount(TypedDict, total=False):
    """Without ``available``, which moves with each pod that comes or goes."""

    name: Any
    capacity: Any
    allocatable: Any


class _Zone(TypedDict, total=False):
    name: Any
    type: Any
    attributes: Any
    costs: Any
    resources: list[_Amount] | None


class _Topology(TypedDict, total=False):
    apiVersion: Any
    kind: Any
    metadata: _Metadata
    attributes: Any
    zones: list[_Zone] | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a resource is, and what is read of its objects."""

    path: str
    shape: Any
    optional: bool = False
    """Whether the API server need not know it: a CRD that somebody has yet to install."""


SOURCES: Mapping[Followed, Source] = {
    Followed.NAMESPACES: Source("/api/v1/namespaces", _Namespace),
    Followed.LIMIT_RANGES: Source("/api/v1/limitranges", _LimitRange),
    Followed.NODES: Source("/api/v1/nodes", _Node),
    Followed.TOPOLOGIES: Source("/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies", _Topology, optional=True),
}


# What the API server says.


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _StatusObject(msgspec.Struct):
    code: int = 0
    message: str = ""


_pages = msgspec.json.Decoder(_Page)
_events = msgspec.json.Decoder(_Event)
_statuses = msgspec.json.Decoder(_StatusObject)
_anything = msgspec.json.Decoder(dict[str, Any])
_encoded = msgspec.json.Encoder().encode


class Refused(Exception):
    """An HTTP status that is none of success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Gone(Exception):
    """410: what we have is too old to go on from."""


class Broken(Exception):
    """What came is not what an API server says."""


class Lines:
    """A stream cut into lines. What follows the last line's end is no line: a stream can break off anywhere."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete by now. Raises Broken for one that is too long."""
        *whole, rest = data.split(b"\n")
        if whole:
            self._rest += whole[0]
            yield bytes(self._rest)
            self._rest.clear()
            yield from whole[1:]
        self._rest += rest
        if len(self._rest) > self._longest:
            raise Broken(f"an event is longer than {self._longest} bytes")


class Follower:
    """Follows one resource, for ever."""

    def __init__(
        self, api: client.ApiClient, followed: Followed, view: View, pace: Pace, chance: Callable[[], float]
    ) -> None:
        """``chance`` gives numbers from 0 to below 1."""
        self._api = api
        self._word = followed.value
        self._source = SOURCES[followed]
        self._table: Table[Any] = view.tables[followed]
        self._pulse: Pulse = view.pulses[followed]
        self._pace = pace
        self._chance = chance
        self._shapes = msgspec.json.Decoder(self._source.shape)
        self._version = ""
        self._relist = Relist.FIRST
        self._resync = 0.0
        self._failures = 0
        self._looks = 0

    async def run(self) -> None:
        """Until it is cancelled. Nothing that the API server says or does ends it."""
        while True:
            try:
                await self._once()
            except Gone:
                self._begin_anew(Relist.GONE)
                await self._pause(first=0.0)
            except Refused as error:
                if error.status == 404 and self._source.optional:
                    await self._absent()
                else:
                    await self._failed(Trouble.REFUSED, error)
            except (Broken, msgspec.MsgspecError) as error:
                self._begin_anew(Relist.LOST)
                await self._failed(Trouble.BROKEN, error)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                await self._failed(Trouble.UNREACHABLE, error)
            except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
                await self._failed(Trouble.BROKEN, error)
            except Exception as error:  # a fault of ours ends the following of nothing
                LOG.exception("fault while following %s", self._word)
                self._begin_anew(Relist.LOST)
                await self._failed(Trouble.FAULT, error)

    async def _once(self) -> None:
        """List where that is due; then one watch."""
        if self._version and monotonic() >= self._resync:
            self._begin_anew(Relist.RESYNC)
        if not self._version:
            self._version = await self._list()
            self._pulse.relists[self._relist] += 1
            self._resync = monotonic() + self._pace.resync * (1 - 0.1 * self._chance())
            self._heard()
            self._looks = 0
            if not self._pulse.synced:
                LOG.info("following %s known=%d", self._word, len(self._table.known))
            self._pulse.synced = True
        await self._watch()

    def _begin_anew(self, why: Relist) -> None:
        self._version = ""
        self._relist = why if self._pulse.synced else Relist.FIRST

    def _heard(self) -> None:
        if self._pulse.complaint:
            LOG.info("following %s again", self._word)
        self._pulse.heard = monotonic()
        self._pulse.complaint = ""
        self._pulse.absent = False

    # Listing.

    async def _list(self) -> str:
        """Read every page; the version of the list."""
        seen: set[str] = set()
        token = ""
        while True:
            page = await self._page(token)
            for place, item in enumerate(page.items or ()):
                obj = self._object(item)
                seen.add(key_of(obj))
                self._put(obj)
                if place % self._pace.batch == self._pace.batch - 1:
                    await asyncio.sleep(0)
            token = page.metadata.continue_
            if not token:
                break
        self._table.keep(seen)
        if not page.metadata.resource_version:
            raise Broken("a list has no resourceVersion")
        return page.metadata.resource_version

    async def _page(self, token: str) -> _Page:
        query = {"limit": str(self._pace.page), **({"continue": token} if token else {})}
        timeout = aiohttp.ClientTimeout(total=self._pace.patience)
        async with self._asked(query, timeout) as response:
            return _pages.decode(await response.read())

    # Watching.

    async def _watch(self) -> None:
        """One watch, to its end."""
        began = monotonic()
        wanted = min(self._pace.watch * (1 - 0.5 * self._chance()), max(1.0, self._resync - began))
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, int(wanted))),
        }
        pace = self._pace
        timeout = aiohttp.ClientTimeout(
            total=wanted + pace.patience, sock_connect=pace.patience, sock_read=pace.silence
        )
        events = 0
        async with self._asked(query, timeout) as response:
            self._heard()
            lines = Lines(pace.longest_line)
            async for data in response.content.iter_any():
                for line in lines.feed(data):
                    self._take(line)
                    events += 1
                    if events % pace.batch == 0:
                        await asyncio.sleep(0)
        if not events and monotonic() - began < pace.short:
            raise aiohttp.ClientPayloadError("the watch ended as soon as it began")
        self._failures = 0

    def _take(self, line: bytes) -> None:
        """One event."""
        event = _events.decode(line)
        if event.type == "ERROR":
            told = _statuses.decode(event.object)
            if told.code == 410:
                raise Gone(told.message)
            raise Refused(told.code, f"{told.code} {told.message}")
        obj = self._object(event.object)
        version = (obj.get("metadata") or {}).get("resourceVersion")
        if event.type in ("ADDED", "MODIFIED"):
            self._put(obj)
        elif event.type == "DELETED":
            self._table.drop(key_of(obj))
        elif event.type != "BOOKMARK":
            raise Broken(f"an event of the type {event.type[:40]!r}")
        if not version:
            raise Broken("an event has no resourceVersion")
        self._version = version
        self._failures = 0
        self._heard()

    # Objects.

    def _object(self, raw: msgspec.Raw) -> Object:
        """What is needed of an object; all of it where something in it is not of its kind, for a sentence about it."""
        try:
            found: Object = self._shapes.decode(raw)
        except msgspec.ValidationError:
            found = _anything.decode(raw)
        if not key_of(found) and "resourceVersion" not in (found.get("metadata") or {}):
            raise Broken("an object has no name")
        return found

    def _put(self, obj: Object) -> None:
        told = {key: value for key, value in obj.items() if key != "metadata"}
        metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
        complaint = self._table.put(obj, hash(_encoded((metadata, told))))
        if complaint:
            LOG.warning("passed over, one of %s: %s", self._word, complaint)

    # Asking.

    @asynccontextmanager
    async def _asked(
        self, query: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of status 200, its body still to be read. Raises Gone, or Refused."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}  # unpacking takes longer than the wire
        method, url, headers, _, _ = await self._api.param_serialize(
            "GET", self._source.path, query_params=list(query.items()), header_params=headers,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        async with asyncio.timeout(self._pace.patience):
            answer = await self._api.call_api(method, url, headers, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        try:
            if response.status == 410:
                raise Gone
            if response.status != 200:
                raise Refused(response.status, f"{response.status} {response.reason}")
            yield response
        finally:
            response.close()

    # Failures.

    async def _absent(self) -> None:
        """The API server does not know the resource: nothing is known of it, which is no failure."""
        pulse, pace = self._pulse, self._pace
        self._begin_anew(Relist.FIRST)
        self._looks += 1
        if not pulse.absent:
            LOG.info("the API server knows no %s; looking again every %g s", self._word, pace.absent)
        if self._looks >= pace.looks:
            self._table.keep(set())
        self._heard()
        pulse.synced = pulse.absent = True
        await asyncio.sleep(pace.absent)

    async def _failed(self, trouble: Trouble, error: Exception) -> None:
        self._pulse.troubles[trouble] += 1
        text = " ".join(str(error).split()) or type(error).__name__
        self._pulse.complaint = f"{self._api.configuration.host} {_HOW[trouble]}: {text}"[:300]
        if self._failures == 0:
            LOG.warning("cannot follow %s, what is known goes on being used: %s", self._word, self._pulse.complaint)
        await self._pause(self._pace.first_pause)

    async def _pause(self, first: float) -> None:
        """Longer with each failure in a row, and never the same for everybody; who misses something ends it, but no
        earlier than the first pause: whoever reaches the webhook's port could claim to."""
        pace = self._pace
        pause = min(pace.longest_pause, pace.first_pause * 2 ** min(self._failures, 20)) if self._failures else first
        self._failures += 1
        pause *= 1 - 0.5 * self._chance()
        self._pulse.wanted.clear()
        await asyncio.sleep(min(pause, pace.first_pause))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause - pace.first_pause):
                await self._pulse.wanted.wait()


_HOW = {
    Trouble.UNREACHABLE: "cannot be reached",
    Trouble.REFUSED: "refuses",
    Trouble.BROKEN: "broke off",
    Trouble.FAULT: "was not understood",
}


async def follow(
    api: client.ApiClient, view: View, pace: Pace | None = None, chance: Callable[[], float] = random.random
) -> None:
    """Keep a view true, until cancelled: one task for each resource."""
    async with asyncio.TaskGroup() as group:
        for followed in Followed:
            follower = Follower(api, followed, view, pace or Pace(), chance)
            group.create_task(follower.run(), name=f"follow {followed.value}")
