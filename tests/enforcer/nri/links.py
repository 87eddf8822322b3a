"""A plugin and a runtime, linked, and the pod that they talk about."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from enforcer.errors import ProtocolError, SetupError
from enforcer.nri.connection import serve
from enforcer.runtime import Container, ContainerState, Sandbox
from tests.enforcer.nri.recorder import Recorder
from tests.support.fake_runtime import Dialect, FakePlugin, FakeRuntime

POD = Sandbox("s1", "uid-1", "shop", "web-1", {"a": "b"}, "/kubepods/poduid-1", 77)
APP = Container("c1", "s1", "app", ContainerState.CREATED, {"x": "y"}, "0-7", "0-1", "/kubepods/poduid-1/c1", 78)
BOTH = pytest.mark.parametrize("dialect", list(Dialect), ids=[dialect.name for dialect in Dialect])


@asynccontextmanager
async def linked(
    path: Path, handlers: Recorder, dialect: Dialect = Dialect.NRI_0_8, deadline: float = 1.5
) -> AsyncIterator[FakePlugin]:
    """A plugin as the runtime sees it, after the handshake."""
    async with FakeRuntime(path, dialect) as runtime:
        serving = asyncio.create_task(serve(path, "armistice", "10", handlers, deadline=deadline))
        try:
            yield await runtime.plugin()
        finally:
            await runtime.stop()
            await serving


async def outcome(path: Path, handlers: Recorder) -> Exception | None:
    """How a connection ends."""
    try:
        await serve(path, "armistice", "10", handlers, deadline=0.2)
    except (SetupError, ProtocolError) as error:
        return error
    return None


def frame(connection: int, data: bytes) -> bytes:
    """One frame of the multiplexing, of any length."""
    return struct.pack(">II", connection, len(data)) + data
