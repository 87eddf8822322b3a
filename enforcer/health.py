"""The enforcer's only port: ``/metrics``, ``/healthz`` and ``/readyz`` over plain HTTP/1.1.

It reads nothing but a request's head, answers, and closes. Three fixed answers need no framework: one would cost more
memory than all the rest of the enforcer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from enforcer.errors import SetupError
from enforcer.metrics import CONTENT_TYPE
from enforcer.settings import Listen

LONGEST_HEAD = 8 * 1024
"""Bytes of a request's head. Prometheus and the kubelet send some hundred."""

LONGEST_WAIT = 5.0
"""Seconds for one connection, from its first byte to the last of the answer."""

MOST_OPEN = 16
"""Connections at once; more are closed unread. There are one Prometheus and one kubelet."""


@dataclass(frozen=True, slots=True)
class Pages:
    """What is answered; asked anew for each request."""

    metrics: Callable[[], bytes]
    fault: Callable[[], str]
    """Why the process should be restarted; empty while it should not."""
    not_ready: Callable[[], str]
    """Why it does not bind pods now; empty while it does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    allow: str = ""

    def sent(self, *, with_body: bool = True) -> bytes:
        """As bytes of HTTP/1.1."""
        allow = f"Allow: {self.allow}\r\n" if self.allow else ""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n{allow}Connection: close\r\n\r\n"
        )
        return head.encode("ascii") + (self.body if with_body else b"")


def answer(head: bytes, pages: Pages) -> bytes:
    """The response to a request's head, the empty line included."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].startswith(b"/"):
        return _text(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request").sent()
    method, path = words[0], words[1].split(b"?", 1)[0]
    found = _page(path, pages)
    if found is None:
        return _text(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz").sent()
    if method not in (b"GET", b"HEAD"):
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"read it with GET\n", allow="GET, HEAD").sent()
    return found.sent(with_body=method == b"GET")


def _page(path: bytes, pages: Pages) -> Answer | None:
    if path == b"/metrics":
        return Answer(HTTPStatus.OK, pages.metrics(), CONTENT_TYPE)
    if path == b"/healthz":
        return _state(pages.fault())
    if path == b"/readyz":
        return _state(pages.not_ready())
    return None


def _state(trouble: str) -> Answer:
    return _text(HTTPStatus.SERVICE_UNAVAILABLE, trouble) if trouble else _text(HTTPStatus.OK, "ok")


def _text(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode())


class Server:
    """Serves the pages on one address."""

    def __init__(self, pages: Pages, longest_wait: float = LONGEST_WAIT) -> None:
        self._pages = pages
        self._longest_wait = longest_wait
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, where: Listen) -> int:
        """Listen; the port, for where 0 asked for a free one. Raises SetupError."""
        try:
            self._server = await asyncio.start_server(self._serve, where.host, where.port, limit=LONGEST_HEAD)
        except OSError as error:
            raise SetupError(
                f"--listen {where.host}:{where.port} cannot be listened on: {error.strerror}; give another port, "
                "or '' for no metrics and no health"
            ) from error
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Take no more connections, and end those that are open."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) <= MOST_OPEN:
                async with asyncio.timeout(self._longest_wait):
                    writer.write(await self._answered(reader))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # a caller that is slow, or gone: nobody is left to be told
        except asyncio.CancelledError:
            pass  # by close(), and nobody else holds this task; asyncio would log one that ends as cancelled
        finally:
            self._open.discard(task)
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            text = f"a request's head may have {LONGEST_HEAD} bytes"
            return _text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text).sent()
        return answer(head, self._pages)
