"""Staying connected: how often it is tried, what is told, and a runtime that goes and comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from enforcer.errors import ProtocolError, SetupError
from enforcer.nri.reconnect import pause_after, stay_connected
from tests.enforcer.nri.links import POD
from tests.enforcer.nri.recorder import Recorder
from tests.support.fake_runtime import DroppedError, FakeRuntime


@asynccontextmanager
async def staying(path: Path, handlers: Recorder, told: Callable[[bool, str], None]) -> AsyncIterator[None]:
    """A plugin that keeps trying."""
    task = asyncio.create_task(stay_connected(path, "armistice", "10", handlers, told=told))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


PAUSES = [
    ("a connection that worked is tried again soon", None, 1.0, 0.1),
    ("a socket that refuses is tried often", caused(SetupError(""), ConnectionRefusedError()), 1.0, 0.1),
    ("a socket that is missing is tried ever more seldom", caused(SetupError(""), FileNotFoundError()), 0.1, 0.2),
    ("but once a second", caused(SetupError(""), FileNotFoundError()), 0.8, 1.0),
    ("bytes that are no NRI likewise", ProtocolError(""), 0.4, 0.8),
    ("a registration that is refused likewise", SetupError(""), 0.2, 0.4),
]


@pytest.mark.parametrize(("what", "failure", "last", "pause"), PAUSES, ids=[row[0] for row in PAUSES])
def test_how_long_to_wait(what: str, failure: Exception | None, last: float, pause: float) -> None:
    assert pause_after(failure, last) == pause


async def test_a_runtime_that_restarts_finds_us_again(path: Path) -> None:
    handlers, told = Recorder(), list[tuple[bool, str]]()
    async with FakeRuntime(path) as runtime, staying(path, handlers, lambda *news: told.append(news)):
        await runtime.plugin([POD])
        await runtime.stop()
        await asyncio.sleep(0.3)
        await runtime.start()
        again = await asyncio.wait_for(runtime.plugin([POD]), 0.5)
        await again.run_sandbox(POD)
    assert [name for name, *_ in handlers.asked].count("synchronize") == 2
    assert told == [
        (True, "Connected to containerd v9.9.9."),
        (False, f"The runtime at {path} ended the connection; it is tried again."),
        (
            False,
            f"Nobody listens at {path}: the runtime is stopped or starting, or its NRI was disabled. Start it, or "
            "enable NRI.",
        ),
        (True, "Connected to containerd v9.9.9."),
    ]


async def test_a_runtime_that_comes_late_is_waited_for_and_reported_once(path: Path) -> None:
    told: list[bool] = []
    async with staying(path, Recorder(), lambda connected, text: told.append(connected)):
        await asyncio.sleep(0.5)
        assert told == [False]
        async with FakeRuntime(path) as runtime:
            await runtime.plugin()
            assert told == [False, True]


async def test_a_plugin_that_was_dropped_comes_back(path: Path) -> None:
    handlers = Recorder()
    handlers.waits["run_sandbox"] = asyncio.Event()
    async with FakeRuntime(path, timeout=0.2) as runtime, staying(path, handlers, lambda *_: None):
        plugin = await runtime.plugin()
        plugin.told_timeout = 60
        with pytest.raises(DroppedError, match="StateChange: context deadline exceeded"):
            await plugin.run_sandbox(POD)
        handlers.waits["run_sandbox"].set()
        again = await runtime.plugin([POD])
        await again.run_sandbox(POD)


async def test_a_runtime_that_sends_garbage_is_left_and_tried_again(path: Path) -> None:
    told: list[str] = []
    async with FakeRuntime(path) as runtime, staying(path, Recorder(), lambda _, text: told.append(text)):
        plugin = await runtime.connection()
        plugin.send_bytes(b"\xff" * 100)
        await plugin.closed()
        await runtime.plugin()
    assert told[0].startswith("The runtime announced a frame of 4294967295 bytes on connection 4294967295;")
    assert told[1] == "Connected to containerd v9.9.9."


async def test_nothing_is_asked_while_the_connection_lives(path: Path) -> None:
    async with FakeRuntime(path) as runtime, staying(path, Recorder(), lambda *_: None):
        await runtime.plugin()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runtime.connection(), 0.5)
