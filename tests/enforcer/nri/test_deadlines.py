"""Handlers that are late, connections that end meanwhile, and waiting that is right."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from enforcer.nri import api_pb2 as api
from enforcer.nri.connection import serve
from enforcer.runtime import Adjustment, Reply
from tests.enforcer.nri.links import APP, BOTH, POD, linked
from tests.enforcer.nri.recorder import Recorder
from tests.support.fake_runtime import CallError, Dialect, DroppedError, FakeRuntime


@BOTH
async def test_a_handler_that_is_late_refuses_in_time_and_finishes_its_work(
    path: Path, handlers: Recorder, dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    handlers.waits["start"] = asyncio.Event()
    async with linked(path, handlers, dialect, deadline=0.1) as plugin:
        with pytest.raises(CallError) as caught:
            await plugin.start(POD, APP)
        assert (caught.value.code, caught.value.text) == (
            4,
            "Armistice's enforcer did not finish StartContainer of container app of pod shop/web-1 within 0.1 s, so it "
            "is refused rather than done without its CPUs. The kubelet tries again; if this stays, see the enforcer's "
            "log on this node.",
        )
        handlers.waits["start"].set()
        await plugin.remove(POD, APP)
    assert handlers.done[-2:] == ["start", "remove"]
    assert "done, but too late for the runtime" in caplog.text


@BOTH
async def test_a_sandbox_whose_handler_is_late_runs(path: Path, handlers: Recorder, dialect: Dialect) -> None:
    handlers.waits["run_sandbox"] = asyncio.Event()
    async with linked(path, handlers, dialect, deadline=0.1) as plugin:
        await plugin.run_sandbox(POD)
        handlers.waits["run_sandbox"].set()


async def test_a_runtime_with_less_patience_is_answered_within_it(path: Path, handlers: Recorder) -> None:
    handlers.waits["create"] = asyncio.Event()
    async with linked(path, handlers, deadline=60) as plugin:
        plugin.told_timeout = 0.2
        request = api.EventRequest(pod=api.PodSandbox(namespace="shop", name="web-1"))
        with pytest.raises(CallError, match=r"^Armistice's enforcer did not finish .* within 0\.15 s"):
            await plugin.call("CreateContainer", request.SerializeToString())
        handlers.waits["create"].set()


async def test_reading_the_whole_node_may_take_as_long_as_the_runtime_allows(path: Path, handlers: Recorder) -> None:
    handlers.waits["synchronize"] = asyncio.Event()
    async with FakeRuntime(path) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers, deadline=0.05))
        asyncio.get_running_loop().call_later(0.3, handlers.waits["synchronize"].set)
        await runtime.plugin([POD])
        await runtime.stop()
        await serving
    assert handlers.done == ["configured", "synchronize"]


async def test_a_handler_at_work_may_finish_after_the_connection_and_then_is_cancelled(
    path: Path, handlers: Recorder
) -> None:
    handlers.waits = {"create": asyncio.Event(), "start": asyncio.Event()}
    async with FakeRuntime(path, timeout=0.1) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers, deadline=0.5))
        plugin = await runtime.plugin()
        calls = [asyncio.create_task(plugin.create(POD, APP)), asyncio.create_task(plugin.start(POD, APP))]
        await asyncio.sleep(0.05)
        await runtime.stop()
        handlers.waits["create"].set()
        await serving
        for call in calls:
            with suppress(DroppedError):
                await call
    assert handlers.done[-1] == "create"


@BOTH
async def test_where_the_enforcer_hangs_a_validator_keeps_the_container_from_being_created(
    path: Path, handlers: Recorder, dialect: Dialect
) -> None:
    handlers.waits["create"] = asyncio.Event()
    async with FakeRuntime(path, dialect, timeout=0.2) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers, deadline=60))
        plugin = await runtime.plugin()
        plugin.told_timeout = 60
        with pytest.raises(DroppedError) as caught:
            await plugin.create(POD, APP)
        assert caught.value.refused is (dialect is Dialect.NRI_0_12)
        handlers.waits["create"].set()
        await serving


async def test_being_stopped_a_call_at_work_is_still_answered(path: Path, handlers: Recorder) -> None:
    handlers.waits["create"] = asyncio.Event()
    handlers.replies["create"] = Reply(Adjustment(cpus="2-3"))
    async with FakeRuntime(path) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers))
        plugin = await runtime.plugin()
        creating = asyncio.create_task(plugin.create(POD, APP))
        await asyncio.sleep(0.05)
        serving.cancel()
        await asyncio.sleep(0.05)
        handlers.waits["create"].set()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert await creating == handlers.replies["create"]


async def test_a_connection_may_be_silent_for_longer_than_the_registration_takes(
    path: Path, handlers: Recorder
) -> None:
    async with FakeRuntime(path) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers, registration=0.2))
        plugin = await runtime.plugin()
        await asyncio.sleep(0.4)
        await plugin.run_sandbox(POD)
        await runtime.stop()
        await serving
