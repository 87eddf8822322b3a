"""The one port: its three pages, and callers who want something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from enforcer.errors import SetupError
from enforcer.health import LONGEST_HEAD, MOST_OPEN, Pages, Server, answer
from enforcer.settings import Listen

WELL = Pages(metrics=lambda: b"a_metric 1\n", fault=lambda: "", not_ready=lambda: "")
ILL = Pages(metrics=lambda: b"", fault=lambda: "a task has ended", not_ready=lambda: "the runtime's NRI is gone")

REQUESTS = [
    ("metrics", "GET /metrics HTTP/1.1", WELL, 200, "a_metric 1\n"),
    ("metrics with a query", "GET /metrics?name=x HTTP/1.0", WELL, 200, "a_metric 1\n"),
    ("alive", "GET /healthz HTTP/1.1", WELL, 200, "ok\n"),
    ("not alive", "GET /healthz HTTP/1.1", ILL, 503, "a task has ended\n"),
    ("ready", "GET /readyz HTTP/1.1", WELL, 200, "ok\n"),
    ("not ready", "GET /readyz HTTP/1.1", ILL, 503, "the runtime's NRI is gone\n"),
    ("only the head", "HEAD /healthz HTTP/1.1", WELL, 200, ""),
    ("another path", "GET / HTTP/1.1", WELL, 404, "there are /metrics, /healthz and /readyz\n"),
    ("something is sent", "POST /metrics HTTP/1.1", WELL, 405, "read it with GET\n"),
    ("no version", "GET /metrics", WELL, 400, "this is no HTTP/1.1 request\n"),
    ("another protocol", "PRI * HTTP/2.0", WELL, 400, "this is no HTTP/1.1 request\n"),
    ("nothing", "", WELL, 400, "this is no HTTP/1.1 request\n"),
]


@pytest.mark.parametrize(("case", "line", "pages", "status", "body"), REQUESTS, ids=[case for case, *_ in REQUESTS])
def test_a_request_has_its_answer(case: str, line: str, pages: Pages, status: int, body: str) -> None:
    head, _, content = answer(f"{line}\r\nHost: x\r\n\r\n".encode(), pages).decode().partition("\r\n\r\n")
    assert head.split(" ")[:2] == ["HTTP/1.1", str(status)]
    assert content == body
    assert "\r\nConnection: close" in head


def test_metrics_say_which_format_they_have() -> None:
    assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in answer(
        b"GET /metrics HTTP/1.1\r\n", WELL
    )


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    server = Server(WELL, longest_wait=1.5)
    yield await server.start(Listen("127.0.0.1", 0))
    await server.close()


async def asked(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:  # closed before it was read
        return b""
    finally:
        writer.close()


async def test_it_serves_over_the_network(port: int) -> None:
    assert (await asked(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\nok\n")


async def test_an_endless_head_is_turned_away(port: int) -> None:
    got = await asked(port, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * LONGEST_HEAD + b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 431 ")


async def test_a_caller_who_says_nothing_is_let_go(port: int) -> None:
    assert await asked(port, b"GET /heal") == b""


async def test_too_many_callers_are_closed_unread_and_the_others_served(port: int) -> None:
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_OPEN)]
    assert await asked(port, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
    reader, writer = waiting[0]
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert (await reader.read()).endswith(b"ok\n")
    for _, each in waiting:
        each.close()


async def test_a_port_that_is_taken_is_one_sentence(port: int) -> None:
    with pytest.raises(SetupError) as caught:
        await Server(WELL).start(Listen("127.0.0.1", port))
    assert str(caught.value).startswith(f"--listen 127.0.0.1:{port} cannot be listened on: ")
    assert str(caught.value).endswith("; give another port, or '' for no metrics and no health")
