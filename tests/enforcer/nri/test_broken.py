"""Connections that come to nothing: no socket, no registration, bytes that are no NRI."""

from __future__ import annotations

import asyncio
import socket as sockets
import struct
from pathlib import Path

import pytest

from enforcer.errors import ProtocolError, SetupError
from enforcer.nri.connection import serve
from tests.enforcer.nri.links import frame, outcome
from tests.enforcer.nri.recorder import Recorder
from tests.support.fake_runtime import FakeRuntime


async def test_no_socket(path: Path, handlers: Recorder) -> None:
    assert str(await outcome(path, handlers)) == (
        f"There is no NRI socket at {path}: the runtime is not running, its NRI is disabled, or the socket's folder "
        "is not mounted here. containerd before 2.0 has NRI off: set disable = false under "
        '[plugins."io.containerd.nri.v1.nri"] in its config.toml and restart it.'
    )


async def test_a_socket_that_nobody_listens_on(path: Path, handlers: Recorder) -> None:
    with sockets.socket(sockets.AF_UNIX) as stale:
        stale.bind(str(path))
    assert str(await outcome(path, handlers)) == (
        f"Nobody listens at {path}: the runtime is stopped or starting, or its NRI was disabled. Start it, or "
        "enable NRI."
    )


async def test_a_socket_of_another_kind(path: Path, handlers: Recorder) -> None:
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert str(await outcome(path, handlers)) == (
            f"{path} cannot be connected to: Protocol wrong type for socket. It is to be the runtime's NRI socket, and "
            "the enforcer is to run as root."
        )


async def test_a_registration_that_is_refused(path: Path, handlers: Recorder) -> None:
    async with FakeRuntime(path) as runtime:
        ending = asyncio.create_task(outcome(path, handlers))
        plugin = await runtime.connection()
        await plugin.registration()
        await plugin.refuse_registration('invalid plugin index: "1"')
        assert str(await ending) == (
            'The runtime refused to register this plugin: invalid plugin index: "1". The index has to be two digits, '
            "and the name letters, digits and -_.+ only."
        )


async def test_a_registration_that_is_not_answered(path: Path, handlers: Recorder) -> None:
    async with FakeRuntime(path):
        with pytest.raises(SetupError) as caught:
            await serve(path, "armistice", "10", handlers, registration=0.1)
        assert str(caught.value) == (
            f"{path} took the connection but did not answer the registration within 0.1 s. Another NRI plugin may hold "
            "the runtime up, or this is not its NRI socket; the runtime's log says which."
        )


async def test_a_connection_that_ends_before_we_know_the_pods(path: Path, handlers: Recorder) -> None:
    async with FakeRuntime(path) as runtime:
        ending = asyncio.create_task(outcome(path, handlers))
        plugin = await runtime.connection()
        await plugin.registration()
        plugin.accept_registration()
        await plugin.drop()
        assert str(await ending) == (
            f"The runtime at {path} ended the connection before it had told us of its pods: it is restarting, or it "
            "does not take this plugin, by its name and index or by its answers; the runtime's log says which."
        )


BAD_BYTES = [
    (
        "another protocol",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "The runtime announced a frame of 791752241 bytes on connection 1213486160; NRI allows 4194314. What listens "
        "on this socket is no NRI, or bytes were lost.",
    ),
    (
        "a message that is too long",
        frame(1, struct.pack(">IIBB", 4194305, 1, 1, 0)),
        "The runtime announced a message of 4194305 bytes; ttRPC allows 4194304.",
    ),
    (
        "a stream of data",
        frame(1, struct.pack(">IIBB", 0, 1, 3, 0)),
        "The runtime sent a message of kind 3; NRI has only requests (1) and responses (2).",
    ),
    (
        "an even stream",
        frame(1, struct.pack(">IIBB", 0, 2, 1, 0)),
        "The runtime sent a message on stream 2; who asks chooses odd numbers only.",
    ),
    (
        "a stream that goes backwards",
        frame(1, struct.pack(">IIBB", 0, 3, 1, 0)) + frame(1, struct.pack(">IIBB", 0, 1, 1, 0)),
        "The runtime called on stream 1 after stream 3; each call has a higher one.",
    ),
    (
        "an answer where it is to ask",
        frame(1, struct.pack(">IIBB", 0, 1, 2, 0)),
        "The runtime sent a response on connection 1; it asks on 1 and answers on 2.",
    ),
    (
        "a registration's answer that is none",
        frame(2, struct.pack(">IIBB", 1, 1, 2, 0) + b"\xff"),
        "The runtime's answer to the registration cannot be read.",
    ),
    (
        "an answer to nothing",
        frame(2, struct.pack(">IIBB", 0, 3, 2, 0)),
        "The runtime answered a call that nobody made, on stream 3.",
    ),
    (
        "a call that is no request",
        frame(1, struct.pack(">IIBB", 1, 1, 1, 0) + b"\xff"),
        "The runtime's call on stream 1 is no request of ttRPC.",
    ),
]


@pytest.mark.parametrize(("what", "data", "text"), BAD_BYTES, ids=[row[0] for row in BAD_BYTES])
async def test_bytes_that_are_no_nri_end_the_connection_with_a_sentence(
    path: Path, handlers: Recorder, what: str, data: bytes, text: str
) -> None:
    async with FakeRuntime(path) as runtime:
        ending = asyncio.create_task(outcome(path, handlers))
        plugin = await runtime.connection()
        plugin.send_bytes(data)
        error = await asyncio.wait_for(ending, 5)
        assert isinstance(error, ProtocolError)
        assert str(error) == text
        await plugin.closed()
