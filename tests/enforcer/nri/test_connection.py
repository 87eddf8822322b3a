"""One connection, against a runtime on a real socket: the handshake, the events, the replies."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from enforcer.nri.connection import serve
from enforcer.nri.ttrpc import Code
from enforcer.runtime import Adjustment, Container, ContainerState, Reply, Sandbox, Update
from tests.enforcer.nri.links import APP, BOTH, POD, frame, linked
from tests.enforcer.nri.recorder import Recorder
from tests.support.fake_runtime import CallError, Dialect, FakeRuntime


@BOTH
async def test_the_handshake(path: Path, handlers: Recorder, dialect: Dialect) -> None:
    told: list[str] = []
    async with FakeRuntime(path, dialect) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers, ready=told.append))
        plugin = await runtime.plugin([POD], [APP])
        assert plugin.name == "10-armistice"
        assert handlers.asked == [
            ("configured", "containerd", "v9.9.9", dialect.version),
            ("synchronize", [POD], [APP]),
        ]
        await runtime.stop()
        await serving
    assert told == ["containerd v9.9.9" + (", NRI v0.12.0" if dialect.version else "")]


async def test_configure_may_come_before_the_answer_to_the_registration(path: Path, handlers: Recorder) -> None:
    async with FakeRuntime(path) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers))
        plugin = await runtime.connection()
        await plugin.configure()
        await plugin.synchronize([POD])
        await plugin.registration()
        plugin.accept_registration()
        await plugin.run_sandbox(POD)
        await runtime.stop()
        await serving
    assert [name for name, *_ in handlers.asked] == ["configured", "synchronize", "run_sandbox"]


async def test_an_old_nri_is_never_asked_for_events_that_it_does_not_know(path: Path, handlers: Recorder) -> None:
    async with linked(path, handlers, Dialect.NRI_0_8) as plugin:
        assert plugin.events == 0x6AF


async def test_a_recent_nri_is_asked_to_validate_too(path: Path, handlers: Recorder) -> None:
    async with linked(path, handlers, Dialect.NRI_0_12) as plugin:
        assert plugin.events == 0x26AF


@BOTH
async def test_every_event_reaches_its_handler(path: Path, handlers: Recorder, dialect: Dialect) -> None:
    async with linked(path, handlers, dialect) as plugin:
        await plugin.run_sandbox(POD)
        await plugin.create(POD, APP)
        await plugin.start(POD, APP)
        await plugin.update(POD, APP)
        await plugin.stop(POD, APP)
        await plugin.remove(POD, APP)
        await plugin.stop_sandbox(POD)
        await plugin.remove_sandbox(POD)
    assert handlers.asked[2:] == [
        ("run_sandbox", POD),
        ("create", POD, APP),
        ("start", POD, APP),
        ("update", POD, APP),
        ("stop", POD, APP),
        ("remove", POD, APP),
        ("stop_sandbox", POD),
        ("remove_sandbox", POD),
    ]


async def test_what_handlers_reply_reaches_the_runtime(path: Path, handlers: Recorder) -> None:
    others = (Update("c2", "0-1"), Update("c3", "5"))
    handlers.replies = {
        "synchronize": Reply(updates=others),
        "create": Reply(Adjustment("2-3", "1", True, {"armistice.dev/mark": "1"}), others),
        "update": Reply(updates=(Update("c1", "2-3"),)),
        "stop": Reply(updates=others),
    }
    async with linked(path, handlers) as plugin:
        assert plugin.synchronized == others
        assert await plugin.create(POD, APP) == handlers.replies["create"]
        assert await plugin.update(POD, APP) == handlers.replies["update"]
        assert await plugin.stop(POD, APP) == handlers.replies["stop"]


async def test_an_answer_of_many_frames_arrives(path: Path, handlers: Recorder) -> None:
    handlers.replies["stop"] = Reply(updates=tuple(Update(f"{number:064x}", "0-3,8-11") for number in range(500)))
    async with linked(path, handlers) as plugin:
        assert await plugin.stop(POD, APP) == handlers.replies["stop"]


async def test_an_answer_that_nri_cannot_take_becomes_an_error(path: Path, handlers: Recorder) -> None:
    handlers.replies["stop"] = Reply(updates=(Update("c2", "1," * 600_000),))
    async with linked(path, handlers) as plugin:
        with pytest.raises(CallError) as caught:
            await plugin.stop(POD, APP)
        assert caught.value.code == Code.INTERNAL
        assert caught.value.text == ("Armistice's enforcer has an answer of 1200028 bytes; NRI can take 1042430.")


async def test_all_that_there_is_comes_in_pieces(path: Path, handlers: Recorder) -> None:
    pods = [Sandbox(f"s{number}", f"u{number}", "shop", f"web-{number}") for number in range(7)]
    apps = [Container(f"c{number}", f"s{number}", "app", ContainerState.RUNNING) for number in range(7)]
    handlers.replies["synchronize"] = Reply(updates=(Update("c1", "0"),))
    async with FakeRuntime(path) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers))
        plugin = await runtime.plugin(pods, apps, pieces=3)
        assert plugin.synchronized == (Update("c1", "0"),)
        await runtime.stop()
        await serving
    assert handlers.asked[1:] == [("synchronize", pods, apps)]


async def test_connections_that_we_do_not_know_are_dropped(path: Path, handlers: Recorder) -> None:
    async with linked(path, handlers) as plugin:
        plugin.send_bytes(frame(7, b"whatever this may be") + frame(0, b"") + frame(3, b"x" * 10000))
        await plugin.create(POD, APP)
    assert handlers.asked[-1] == ("create", POD, APP)


async def test_a_hundred_calls_at_once_are_each_answered(path: Path, handlers: Recorder) -> None:
    async with linked(path, handlers) as plugin, asyncio.TaskGroup() as calls:
        for _ in range(100):
            calls.create_task(plugin.create(POD, APP))
    assert handlers.done.count("create") == 100


async def test_an_event_costs_well_under_two_milliseconds(path: Path, handlers: Recorder) -> None:
    """Processor time of both ends together, for containers with 16 KB of annotations, which is much."""
    container = replace(APP, annotations={f"key-{number}": "v" * 1000 for number in range(16)})
    async with linked(path, handlers) as plugin:
        before = time.process_time()
        for _ in range(300):
            await plugin.create(POD, container)
        assert (time.process_time() - before) / 300 < 0.002
