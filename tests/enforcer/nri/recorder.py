"""Handlers that write down what they were asked, and answer as a test wants."""

from __future__ import annotations

import asyncio

from enforcer.runtime import NOTHING, Container, Reply, Sandbox


class Recorder:
    """Every handler at once. What it answers, raises and waits for goes by the handler's name."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        """Each call: the handler's name and its arguments."""
        self.replies: dict[str, Reply] = {}
        self.errors: dict[str, Exception] = {}
        self.waits: dict[str, asyncio.Event] = {}
        """What a handler waits for before it answers."""
        self.done: list[str] = []
        """The handlers that came to their end."""

    async def _answer(self, name: str, *arguments: object) -> Reply:
        self.asked.append((name, *arguments))
        if name in self.waits:
            await self.waits[name].wait()
        if name in self.errors:
            raise self.errors[name]
        self.done.append(name)
        return self.replies.get(name, NOTHING)

    async def configured(self, runtime: str, version: str, nri_version: str) -> None:
        await self._answer("configured", runtime, version, nri_version)

    async def synchronize(self, sandboxes: list[Sandbox], containers: list[Container]) -> Reply:
        return await self._answer("synchronize", sandboxes, containers)

    async def run_sandbox(self, sandbox: Sandbox) -> Reply:
        return await self._answer("run_sandbox", sandbox)

    async def stop_sandbox(self, sandbox: Sandbox) -> None:
        await self._answer("stop_sandbox", sandbox)

    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        await self._answer("remove_sandbox", sandbox)

    async def create(self, sandbox: Sandbox, container: Container) -> Reply:
        return await self._answer("create", sandbox, container)

    async def start(self, sandbox: Sandbox, container: Container) -> None:
        await self._answer("start", sandbox, container)

    async def update(self, sandbox: Sandbox, container: Container) -> Reply:
        return await self._answer("update", sandbox, container)

    async def stop(self, sandbox: Sandbox, container: Container) -> Reply:
        return await self._answer("stop", sandbox, container)

    async def remove(self, sandbox: Sandbox, container: Container) -> None:
        await self._answer("remove", sandbox, container)
