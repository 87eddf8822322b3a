"""The API client against a small TLS server: how it presents itself, and each way of going wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from enforcer.access import Access
from enforcer.apiserver import LONGEST_ANSWER, ApiServer
from enforcer.errors import ClusterError
from tests.support.api_server import FakeApiServer, api_server, status, write_certificates


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeApiServer]:
    with api_server(tmp_path) as found:
        yield found


async def got(access: Access, timeout: float = 5.0) -> Any:
    """What one read gives."""
    server = ApiServer(access, timeout)
    try:
        return await server.get("/api/v1/namespaces/a")
    finally:
        server.close()


async def refused(access: Access, timeout: float = 5.0) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        await got(access, timeout)
    return caught.value


async def test_an_object_is_read_with_a_token(fake: FakeApiServer) -> None:
    fake.answer = lambda asked: (200, {"kind": "Namespace"})
    assert await got(fake.access()) == {"kind": "Namespace"}
    assert [(a.method, a.path, a.token, a.body) for a in fake.asked] == [
        ("GET", "/api/v1/namespaces/a", "secret", None)
    ]


async def test_a_token_that_the_kubelet_renewed_is_read_again(fake: FakeApiServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    server = ApiServer(fake.access(token))
    for content in ("first", "second\n"):
        token.write_text(content)
        await server.get("/version")
    server.close()
    assert [asked.token for asked in fake.asked] == ["first", "second"]


@pytest.mark.parametrize("inline", [False, True], ids=["from a file", "from memory"])
async def test_a_client_certificate_is_shown(fake: FakeApiServer, tmp_path: Path, inline: bool) -> None:
    file = tmp_path / "client.pem"
    pem = file.read_bytes() if inline else file
    await got(replace(fake.access(), token="", certificate=pem, key=pem))
    assert [(asked.client, asked.token) for asked in fake.asked] == [("client", "")]


async def test_the_authority_may_be_in_memory(fake: FakeApiServer, tmp_path: Path) -> None:
    assert await got(replace(fake.access(), authority=(tmp_path / "ca.pem").read_bytes())) == {}


async def test_what_is_created_and_applied_says_what_it_is(fake: FakeApiServer) -> None:
    server = ApiServer(replace(fake.access(), prefix="/k8s"))
    await server.post("/api/v1/namespaces/a/events", {"kind": "Event"})
    await server.apply("/apis/x/y", {"a": 1}, "us")
    server.close()
    assert [(a.method, a.path, a.content_type, a.body) for a in fake.asked] == [
        ("POST", "/k8s/api/v1/namespaces/a/events", "application/json", {"kind": "Event"}),
        ("PATCH", "/k8s/apis/x/y?fieldManager=us", "application/apply-patch+yaml", {"a": 1}),
    ]


REFUSALS = [
    ("forbidden", status(403, "namespaces is\nforbidden"), "403 Forbidden: namespaces is forbidden"),
    ("not there", status(404, 'namespaces "a" not found'), '404 Not Found: namespaces "a" not found'),
    ("owned by another", status(409, "conflict"), "409 Conflict: conflict"),
    ("broken", (500, b"<html>"), "500 Internal Server Error"),
    ("without a word", (503, {}), "503 Service Unavailable"),
]


@pytest.mark.parametrize(("case", "answer", "told"), REFUSALS, ids=[case for case, *_ in REFUSALS])
async def test_a_refusal_is_one_sentence_with_its_status(
    case: str, answer: tuple[int, Any], told: str, fake: FakeApiServer
) -> None:
    fake.answer = lambda asked: answer
    error = await refused(fake.access())
    server = f"the API server 127.0.0.1:{fake.port}"
    assert (str(error), error.status) == (f"{server} refuses GET /api/v1/namespaces/a: {told}", answer[0])


async def test_an_answer_that_is_no_json(fake: FakeApiServer) -> None:
    fake.answer = lambda asked: (200, b"hello")
    server = f"the API server 127.0.0.1:{fake.port}"
    assert str(await refused(fake.access())) == (
        f"{server} answered GET /api/v1/namespaces/a with something that is no JSON"
    )


async def test_an_endless_answer_is_not_read_to_its_end(fake: FakeApiServer) -> None:
    fake.answer = lambda asked: (200, b'"' + b"x" * LONGEST_ANSWER + b'"')
    assert str(await refused(fake.access())).endswith("cannot be asked: its answer is longer than 4194304 bytes")


async def test_a_slow_server_is_given_up(fake: FakeApiServer) -> None:
    fake.wait = 3.0
    began = time.monotonic()
    error = await refused(fake.access(), timeout=0.2)
    assert time.monotonic() - began < 2.5
    assert (str(error), error.status) == (
        f"the API server 127.0.0.1:{fake.port} cannot be asked: The read operation timed out",
        0,
    )


async def test_nobody_listens(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = await refused(Access("127.0.0.1", port, authority=tmp_path / "ca.pem"))
    assert str(error) == f"the API server 127.0.0.1:{port} cannot be asked: Connection refused"


async def test_a_server_of_another_authority_is_not_believed(fake: FakeApiServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_certificates(tmp_path / "other")
    error = await refused(replace(fake.access(), authority=tmp_path / "other" / "ca.pem"))
    assert "certificate verify failed" in str(error).lower() or "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert fake.asked == []


async def test_a_token_that_no_header_can_hold_is_told(fake: FakeApiServer) -> None:
    assert "cannot be asked: Invalid header value" in str(await refused(fake.access("a\nb")))


async def test_a_token_that_is_gone_is_told(fake: FakeApiServer, tmp_path: Path) -> None:
    error = await refused(fake.access(tmp_path / "none"))
    assert str(error) == f"the API server 127.0.0.1:{fake.port} cannot be asked: No such file or directory"
