"""A stand-in API server on loopback that lists in pages and streams watches, and that breaks where a test says."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes.aio import client

Manifest = dict[str, Any]

NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
LIMIT_RANGES = "/api/v1/limitranges"
TOPOLOGIES = "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    path: str
    query: dict[str, str]

    @property
    def watch(self) -> bool:
        """Whether it asks for a stream."""
        return "watch" in self.query


@dataclass(frozen=True, slots=True)
class Happened:
    """One change of one object."""

    version: int
    line: bytes
    """As it stands in a watch."""

    @classmethod
    def of(cls, version: int, what: str, obj: Manifest) -> Happened:
        """One to an object."""
        return cls(version, json.dumps({"type": what, "object": obj}).encode() + b"\n")


@dataclass
class Shelf:
    """One resource."""

    objects: dict[str, Manifest] = field(default_factory=dict)
    log: list[Happened] = field(default_factory=list)
    oldest: int = 0
    """What happened before this version is forgotten."""


@dataclass
class Cluster:
    """What the test sees and turns."""

    version: int = 100
    shelves: dict[str, Shelf] = field(
        default_factory=lambda: {path: Shelf() for path in (NAMESPACES, NODES, LIMIT_RANGES, TOPOLOGIES)}
    )
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], bytes | None] = lambda asked: None
    """A whole answer, head and body, after which the connection is closed; None for what an API server would say."""
    cut: Callable[[Asked], int | None] = lambda asked: None
    """After how many bytes of a watch's body the connection breaks."""
    port: int = 0
    _door: socket.socket | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _talks: dict[asyncio.Task[None], socket.socket] = field(default_factory=dict)
    _lists: list[tuple[int, list[Manifest]]] = field(default_factory=list)

    # The objects.

    def put(self, path: str, *objects: Manifest, silently: bool = False) -> None:
        """Create or change objects; ``silently`` without telling who watches."""
        for obj in objects:
            self.version += 1
            shelf = self.shelves[path]
            key = json.dumps([obj["metadata"].get("namespace"), obj["metadata"]["name"]])
            what = "MODIFIED" if key in shelf.objects else "ADDED"
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
            shelf.objects[key] = obj
            if not silently:
                shelf.log.append(Happened.of(self.version, what, obj))
        self.tell()

    def delete(self, path: str, name: str, namespace: str | None = None, silently: bool = False) -> None:
        """Delete an object."""
        self.version += 1
        obj = self.shelves[path].objects.pop(json.dumps([namespace, name]))
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        if not silently:
            self.shelves[path].log.append(Happened.of(self.version, "DELETED", obj))
        self.tell()

    def bookmark(self, path: str) -> None:
        """Tell who watches how far it is."""
        self.version += 1
        obj = {"metadata": {"resourceVersion": str(self.version)}}
        self.shelves[path].log.append(Happened.of(self.version, "BOOKMARK", obj))
        self.tell()

    def forget(self, path: str) -> None:
        """From now on older versions are gone."""
        self.version += 1
        self.shelves[path].oldest = self.version

    def tell(self) -> None:
        """Wake those who watch."""
        self._news.set()
        self._news = asyncio.Event()

    # The server.

    async def start(self) -> None:
        """Serve; again on the port of before.

        Not by ``asyncio.start_server``: what that has just taken when it is closed is never heard of again.
        """
        self._door = socket.create_server(("127.0.0.1", self.port))
        self._door.setblocking(False)
        self.port = self._door.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._door, self._meet)

    def _meet(self) -> None:
        assert self._door is not None
        with suppress(BlockingIOError):
            plug, _ = self._door.accept()
            plug.setblocking(False)
            self._talks[asyncio.create_task(self._talk(plug))] = plug

    async def stop(self) -> None:
        """Go away, in the middle of everything; once gone there is nothing to do."""
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door)
            self._door.close()
            self._door = None
        await self.hang_up()

    async def hang_up(self) -> None:
        """Break every connection."""
        talks = dict(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0)
        for task, plug in talks.items():
            plug.close()
            self._talks.pop(task, None)

    def client(self) -> client.ApiClient:
        """One that speaks to it."""
        return client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{self.port}"))

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads to it."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "users": [{"name": "a", "user": {"token": "secret"}}],
        }
        path.write_text(json.dumps(config))
        return path

    async def _talk(self, plug: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=plug)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, _Cut):
                while await self._answered(reader, writer):
                    pass
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        url = urlsplit(head.split(b" ", 2)[1].decode())
        asked = Asked(url.path, dict(parse_qsl(url.query)))
        self.asked.append(asked)
        answer = self.answer(asked)
        if answer is not None:
            writer.write(answer)
        elif asked.path not in self.shelves:
            writer.write(plain(404, {"kind": "Status", "code": 404}))
        elif asked.watch:
            await self._stream(asked, writer)
        else:
            writer.write(plain(200, self.page(asked)))
        await writer.drain()
        return answer is None

    def page(self, asked: Asked) -> Manifest | bytes:
        """One page of a list. All of a list's pages are of the moment when the first one was asked for."""
        token, _, start = asked.query.get("continue", "").partition("-")
        if not token:
            token, start = str(len(self._lists)), "0"
            objects = self.shelves[asked.path].objects
            self._lists.append((self.version, [objects[key] for key in sorted(objects)]))
        version, items = self._lists[int(token)]
        place, limit = int(start), int(asked.query["limit"])
        more = {"continue": f"{token}-{place + limit}"} if place + limit < len(items) else {}
        return {"metadata": {"resourceVersion": str(version), **more}, "items": items[place : place + limit]}

    async def _stream(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        shelf = self.shelves[asked.path]
        version = int(asked.query["resourceVersion"])
        room = self.cut(asked)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        if version < shelf.oldest:
            told = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
            _chunk(writer, json.dumps(told).encode() + b"\n")
            writer.write(b"0\r\n\r\n")
            return
        place = next((i for i, each in enumerate(shelf.log) if each.version > version), len(shelf.log))
        loop = asyncio.get_running_loop()
        end = loop.time() + float(asked.query["timeoutSeconds"])
        while True:
            news = self._news
            for happened in shelf.log[place:]:
                line = happened.line
                if room is not None and len(line) > room:
                    _chunk(writer, line[:room])
                    await writer.drain()
                    raise _Cut
                room = None if room is None else room - len(line)
                _chunk(writer, line)
            place = len(shelf.log)
            await writer.drain()
            if room == 0:
                raise _Cut
            try:
                async with asyncio.timeout_at(end):
                    await news.wait()
            except TimeoutError:
                writer.write(b"0\r\n\r\n")
                return


class _Cut(Exception):
    pass


def plain(status: int, body: Manifest | bytes) -> bytes:
    """A whole answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(content),
        content,
    )


def _chunk(writer: asyncio.StreamWriter, content: bytes) -> None:
    if content:
        writer.write(b"%x\r\n%b\r\n" % (len(content), content))


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """One that serves until the block ends."""
    made = Cluster()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


# Objects.


def namespace(name: str, **labels: str) -> Manifest:
    """A namespace; ``enforce="none"`` is ``armistice.dev/enforce: none``."""
    ours = {f"armistice.dev/{key.replace('_', '-')}": text for key, text in labels.items()}
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **ours}}, "spec": {}}


def node(name: str, cpus: int = 8, labels: dict[str, str] | None = None, heartbeat: int = 0) -> Manifest:
    """A node."""
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "allocatable": {"cpu": str(cpus), "memory": "16Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}],
        },
    }


def topology(name: str, cpus: int = 4, free: int | None = None, memory: str = "8Gi") -> Manifest:
    """Two NUMA nodes of so many CPUs each, as NFD publishes them."""
    room = {"cpu": (str(cpus), str(cpus if free is None else free)), "memory": (memory, memory)}
    resources = [
        {"name": what, "capacity": whole, "allocatable": whole, "available": left}
        for what, (whole, left) in room.items()
    ]
    return {
        "apiVersion": "topology.node.k8s.io/v1alpha2",
        "kind": "NodeResourceTopology",
        "metadata": {"name": name},
        "zones": [
            {
                "name": f"node-{place}",
                "type": "Node",
                "costs": [{"name": f"node-{other}", "value": 10 if other == place else 21} for other in range(2)],
                "resources": resources,
            }
            for place in range(2)
        ],
    }


def limit_range(namespace: str, name: str, **default: str) -> Manifest:
    """What containers get that say nothing."""
    item = {"type": "Container", "default": default, "defaultRequest": default}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"limits": [item]}}
