"""A stand-in API server on loopback that keeps named objects, with versions, conflicts, JSON patches and watches.

It holds whatever it is given, by path; it knows no kinds.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import jsonpatch
from aiohttp import web
from kubernetes.aio import client

Json = dict[str, Any]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Stored:
    """What the test sees and turns."""

    objects: dict[str, Json] = field(default_factory=dict)
    """By path, such as /api/v1/namespaces/x/secrets/y."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Verb and path of each call but watches."""
    written: list[tuple[str, str]] = field(default_factory=list)
    """Of those, the writes that went through."""
    refuse: Callable[[str, str], int] = lambda verb, path: 0
    """A status with which a call is refused; 0 for none."""
    before: Callable[[str, str], None] = lambda verb, path: None
    """What happens just before a call is answered: somebody else's doing."""
    port: int = 0
    _version: int = 100
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    # What a test does as somebody else.

    def put(self, path: str, obj: Json) -> Json:
        """Write, whatever is there."""
        self._version += 1
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self._version)
        self.objects[path] = obj
        self._tell()
        return obj

    def drop(self, path: str) -> None:
        """Take away."""
        self._version += 1
        del self.objects[path]
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # The server.

    def client(self) -> client.ApiClient:
        """One that speaks to it."""
        return client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{self.port}"))

    async def start(self) -> None:
        """Serve; again on the port of before."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away, in the middle of everything."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        path, verb = http.path, http.method
        try:
            if http.query.get("watch") == "true":
                self._check("watch", path)
                with suppress(ConnectionError):
                    return await self._watch(http)
                return web.Response()
            self.asked.append((verb, path))
            self.before(verb, path)
            self._check(verb, path)
            body = json.loads(await http.read() or b"null")
            found = self._answer(verb, path, body)
        except Refused as error:
            content = {"kind": "Status", "code": error.status, "message": str(error)}
            return web.json_response(content, status=error.status)
        if verb != "GET":
            self.written.append((verb, path))
        return web.json_response(found, status=201 if verb == "POST" else 200)

    def _check(self, verb: str, path: str) -> None:
        status = self.refuse(verb, path)
        if status:
            raise Refused(status, "refused by the test")

    def _answer(self, verb: str, path: str, body: Any) -> Json:
        if verb == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise Refused(409, f"{path} already exists")
            return self.put(path, body)
        if path not in self.objects:
            raise Refused(404, f"{path} not found")
        if verb == "PUT":
            version = body["metadata"].get("resourceVersion")
            if version and version != self.objects[path]["metadata"]["resourceVersion"]:
                raise Refused(409, f"{path} has been modified")
            return self.put(path, body)
        if verb == "PATCH":
            try:
                return self.put(path, jsonpatch.apply_patch(self.objects[path], body))
            except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
                raise Refused(422, str(error)) from error
        return self.objects[path]

    async def _watch(self, http: web.Request) -> web.StreamResponse:
        path = f"{http.path}/{http.query['fieldSelector'].removeprefix('metadata.name=')}"
        response = web.StreamResponse()
        await response.prepare(http)
        seen: Json | None = None
        while True:
            news = self._news
            found = self.objects.get(path)
            if found is not seen:
                what = "ADDED" if seen is None else "MODIFIED" if found else "DELETED"
                await response.write(json.dumps({"type": what, "object": found or seen}).encode() + b"\n")
                seen = found
            await news.wait()


@asynccontextmanager
async def stored() -> AsyncIterator[Stored]:
    """One that serves until the block ends."""
    server = Stored()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
