"""What the runtime hears when a handler refuses or fails, and when a call cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from enforcer.errors import RefusedError
from tests.enforcer.nri.links import APP, BOTH, POD, linked
from tests.enforcer.nri.recorder import Recorder
from tests.support.fake_runtime import CallError, Dialect


@BOTH
@pytest.mark.parametrize("event", ["create", "start", "update"])
async def test_a_refusal_is_the_handlers_own_words(
    path: Path, handlers: Recorder, dialect: Dialect, event: str
) -> None:
    handlers.errors[event] = RefusedError("No room for 4 CPUs on one NUMA node: 3 are free.")
    async with linked(path, handlers, dialect) as plugin:
        with pytest.raises(CallError) as caught:
            await getattr(plugin, event)(POD, APP)
        assert (caught.value.code, caught.value.text) == (9, "No room for 4 CPUs on one NUMA node: 3 are free.")
        await plugin.run_sandbox(POD)


async def test_a_failure_of_ours_refuses_and_says_where(
    path: Path, handlers: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    handlers.errors["create"] = ZeroDivisionError("inside")
    async with linked(path, handlers) as plugin:
        with pytest.raises(CallError) as caught:
            await plugin.create(POD, APP)
        assert (caught.value.code, caught.value.text) == (
            13,
            "Armistice's enforcer failed at CreateContainer of container app of pod shop/web-1, so it is refused "
            "rather than done without its CPUs; the enforcer's log on this node says why.",
        )
    assert "ZeroDivisionError: inside" in caplog.text


NEVER_AN_ERROR = [
    ("a refusal", RefusedError("no room")),
    ("a failure of ours", ZeroDivisionError("inside")),
]


@BOTH
@pytest.mark.parametrize(("what", "error"), NEVER_AN_ERROR, ids=[row[0] for row in NEVER_AN_ERROR])
async def test_running_a_sandbox_is_never_answered_with_an_error(
    path: Path, handlers: Recorder, dialect: Dialect, what: str, error: Exception
) -> None:
    handlers.errors["run_sandbox"] = error
    async with linked(path, handlers, dialect) as plugin:
        await plugin.run_sandbox(POD)


async def test_an_unreadable_call_is_refused_and_the_connection_stays(path: Path, handlers: Recorder) -> None:
    async with linked(path, handlers) as plugin:
        with pytest.raises(CallError) as caught:
            await plugin.call("CreateContainer", b"\xff\xff\xff")
        assert (caught.value.code, caught.value.text) == (
            9,
            "Armistice's enforcer cannot read this CreateContainer: its bytes are no message of NRI.",
        )
        await plugin.create(POD, APP)


@pytest.mark.parametrize("method", ["RunPodSandbox", "StateChange"])
async def test_an_unreadable_call_that_may_run_a_sandbox_is_not_refused(
    path: Path, handlers: Recorder, method: str
) -> None:
    async with linked(path, handlers) as plugin:
        assert await plugin.call(method, b"\xff\xff\xff") == b""


async def test_a_method_that_we_do_not_have_is_said_to_be_unknown(path: Path, handlers: Recorder) -> None:
    async with linked(path, handlers) as plugin:
        for service, method in (("nri.pkg.api.v1alpha1.Plugin", "PostCreateContainer"), ("other", "CreateContainer")):
            with pytest.raises(CallError) as caught:
                await plugin.call(method, b"", service=service)
            assert caught.value.code == 12
            assert caught.value.text == f"Armistice's enforcer has no method {method} of {service}."


async def test_a_state_change_that_we_did_not_ask_for_is_said_to_be_unknown(path: Path, handlers: Recorder) -> None:
    async with linked(path, handlers) as plugin:
        with pytest.raises(CallError) as caught:
            await plugin.state_change(99, POD)
        assert caught.value.code == 12
