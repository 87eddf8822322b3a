"""A container runtime's side of NRI, on a real Unix socket, byte for byte as containerd's sends it.

It shares no framing with the enforcer: what both get wrong would otherwise look right. Use::

    async with FakeRuntime(folder / "nri.sock", Dialect.NRI_0_12) as runtime:
        plugin = await runtime.plugin()
        await plugin.run_sandbox(sandbox)
        reply = await plugin.create(sandbox, container)
"""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import Future, Queue, Server, StreamReader, StreamWriter, Task
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from enforcer.nri import api_pb2 as api
from enforcer.runtime import Adjustment, Container, Reply, Sandbox, Update

EVENTS = {
    "RunPodSandbox": 1,
    "StopPodSandbox": 2,
    "RemovePodSandbox": 3,
    "CreateContainer": 4,
    "StartContainer": 6,
    "UpdateContainer": 8,
    "StopContainer": 10,
    "RemoveContainer": 11,
    "ValidateContainerAdjustment": 14,
}
"""NRI's numbers."""
_ALWAYS_DEDICATED = ("CreateContainer", "UpdateContainer", "StopContainer", "ValidateContainerAdjustment")
"""Never sent as StateChange, in no version."""
_UNIMPLEMENTED = 12
_BUFFER = 4096
"""Of Go's bufio, in both directions."""


T = TypeVar("T")


class Dialect(Enum):
    """What a version of NRI does its own way: its version as told in Configure, and the highest event it knows."""

    NRI_0_8 = ("", 11)
    """containerd 1.7.27 to 2.1: StateChange, no version told."""
    NRI_0_12 = ("v0.12.0", 14)
    """containerd 2.3: a call per event, and a validator."""

    @property
    def version(self) -> str:
        return self.value[0]

    @property
    def last_event(self) -> int:
        return self.value[1]


class CallError(Exception):
    """The plugin answered with an error; the runtime refuses what was asked."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        """gRPC's number."""
        self.text = text


class DroppedError(Exception):
    """The plugin was too slow, or its connection is gone. The runtime does without it."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused
        """Whether the container is not created even so: its plugin is a validator too."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of ttRPC."""

    stream: int
    kind: int
    data: bytes


class FakeRuntime:
    """Listens on a socket until it is stopped, and can be started again as a runtime that restarts."""

    def __init__(self, path: Path, dialect: Dialect = Dialect.NRI_0_8, *, timeout: float = 2.0) -> None:
        self.path = path
        self.dialect = dialect
        self.timeout = timeout
        """Seconds that a plugin has for each call."""
        self._server: Server | None = None
        self._arrived: Queue[FakePlugin] = Queue()
        self._plugins: list[FakePlugin] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the socket, in place of an old one."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def stop(self) -> None:
        """End all connections. The socket's file stays, and refuses, as after the end of a real runtime."""
        if self._server:
            self._server.close()
        for plugin in self._plugins:
            await plugin.drop()
        self._plugins.clear()
        self._leave_socket()

    async def restart(self) -> None:
        """Stop and start; plugins have to come back by themselves."""
        await self.stop()
        await self.start()

    def _leave_socket(self) -> None:
        """Python from 3.13 on removes the file of a server that it closes."""
        self.path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(self.path))

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        plugin = FakePlugin(reader, writer, self.dialect, self.timeout)
        self._plugins.append(plugin)
        self._arrived.put_nowait(plugin)

    async def connection(self) -> FakePlugin:
        """The next plugin to connect; nothing was said yet."""
        async with asyncio.timeout(5):
            return await self._arrived.get()

    async def plugin(
        self, sandboxes: Sequence[Sandbox] = (), containers: Sequence[Container] = (), *, pieces: int = 1
    ) -> FakePlugin:
        """The next plugin, registered, configured and synchronised; what it wanted changed is in ``.synchronized``."""
        plugin = await self.connection()
        await plugin.registration()
        plugin.accept_registration()
        await plugin.configure()
        plugin.synchronized = await plugin.synchronize(sandboxes, containers, pieces=pieces)
        return plugin


class FakePlugin:
    """A plugin as its runtime sees it."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, dialect: Dialect, timeout: float) -> None:
        self.dialect = dialect
        self.name = ""
        """As registered: index, dash, name."""
        self.events = 0
        """What it subscribed to, one bit each."""
        self.synchronized: tuple[Update, ...] = ()
        self._reader = reader
        self._writer = writer
        self._timeout = timeout
        self.told_timeout = timeout
        """Seconds that each call says the plugin has. Where they are more than it has, the plugin is late."""
        self._stream = -1
        self._answers: dict[int, Future[api.Response]] = {}
        self._registration: Future[Heard] = asyncio.get_running_loop().create_future()
        self._reading: Task[None] = asyncio.create_task(self._read(), name="a fake runtime reads")

    # -- the handshake --

    async def registration(self) -> api.RegisterPluginRequest:
        """What the plugin says it is; the real runtime waits 5 seconds for it."""
        async with asyncio.timeout(5):
            heard = await self._registration
        request = api.Request.FromString(heard.data)
        assert (request.service, request.method) == ("nri.pkg.api.v1alpha1.Runtime", "RegisterPlugin")
        return api.RegisterPluginRequest.FromString(request.payload)

    def accept_registration(self) -> None:
        """Answer it, as the real runtime does before or after it sends Configure."""
        heard = self._registration.result()
        request = api.RegisterPluginRequest.FromString(api.Request.FromString(heard.data).payload)
        self.name = f"{request.plugin_idx}-{request.plugin_name}"
        self._send(2, Heard(heard.stream, 2, api.Response().SerializeToString()))

    async def refuse_registration(self, text: str) -> None:
        """Answer with an error and close, as for an index that is not two digits."""
        refused = api.Response(status=api.Status(code=2, message=text))
        self._send(2, Heard(self._registration.result().stream, 2, refused.SerializeToString()))
        await self._writer.drain()
        await self.drop()

    async def configure(self) -> None:
        """Ask for the subscription. A bit that this NRI does not know ends the connection without a word."""
        request = api.ConfigureRequest(
            runtime_name="containerd", runtime_version="v9.9.9", NRI_version=self.dialect.version
        )
        response = api.ConfigureResponse.FromString(await self.call("Configure", request.SerializeToString()))
        known = (1 << self.dialect.last_event) - 1
        if unknown := response.events & ~known:
            await self.drop()
            raise DroppedError(f"invalid plugin events: {unknown:#x}")
        self.events = response.events or known

    async def synchronize(
        self, sandboxes: Sequence[Sandbox] = (), containers: Sequence[Container] = (), *, pieces: int = 1
    ) -> tuple[Update, ...]:
        """Tell all that there is, in so many pieces; the updates that the plugin wants."""
        parts = zip(_split(sandboxes, pieces), _split(containers, pieces), strict=True)
        for number, (some_sandboxes, some_containers) in enumerate(parts, start=1):
            request = api.SynchronizeRequest(
                pods=map(pod_message, some_sandboxes),
                containers=map(container_message, some_containers),
                more=number < pieces,
            )
            response = api.SynchronizeResponse.FromString(await self.call("Synchronize", request.SerializeToString()))
            if response.more != request.more or (request.more and response.update):
                await self.drop()
                raise DroppedError("plugin does not handle split sync requests")
        return updates_of(response.update)

    # -- the events --

    async def run_sandbox(self, sandbox: Sandbox) -> None:
        await self._event("RunPodSandbox", sandbox)

    async def stop_sandbox(self, sandbox: Sandbox) -> None:
        await self._event("StopPodSandbox", sandbox)

    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        await self._event("RemovePodSandbox", sandbox)

    async def create(self, sandbox: Sandbox, container: Container) -> Reply:
        """A validator is asked once more afterwards: if the first call lost it, the container is not created."""
        try:
            payload = await self._event("CreateContainer", sandbox, container)
            await self._event("ValidateContainerAdjustment", sandbox, container)
        except DroppedError as error:
            raise DroppedError(str(error), refused=self.subscribes("ValidateContainerAdjustment")) from error
        response = api.CreateContainerResponse.FromString(payload)
        adjustment = adjustment_of(response.adjust) if response.HasField("adjust") else None
        return Reply(adjustment, updates_of(response.update))

    async def start(self, sandbox: Sandbox, container: Container) -> None:
        await self._event("StartContainer", sandbox, container)

    async def update(self, sandbox: Sandbox, container: Container) -> Reply:
        payload = await self._event("UpdateContainer", sandbox, container)
        return Reply(updates=updates_of(api.UpdateContainerResponse.FromString(payload).update))

    async def stop(self, sandbox: Sandbox, container: Container) -> Reply:
        payload = await self._event("StopContainer", sandbox, container)
        return Reply(updates=updates_of(api.StopContainerResponse.FromString(payload).update))

    async def remove(self, sandbox: Sandbox, container: Container) -> None:
        await self._event("RemoveContainer", sandbox, container)

    def subscribes(self, method: str) -> bool:
        return bool(self.events & 1 << (EVENTS[method] - 1))

    async def _event(self, method: str, sandbox: Sandbox, container: Container | None = None) -> bytes:
        """As this dialect sends it: by a call of its own, or as StateChange; not at all without a subscription."""
        if not self.subscribes(method):
            return b""
        if self.dialect is Dialect.NRI_0_8 and method not in _ALWAYS_DEDICATED:
            return await self.state_change(EVENTS[method], sandbox, container)
        request = api.EventRequest(pod=pod_message(sandbox), container=_optional(container))
        try:
            return await self.call(method, request.SerializeToString())
        except CallError as error:
            if error.code != _UNIMPLEMENTED:
                raise
            return await self.state_change(EVENTS[method], sandbox, container)

    async def state_change(self, event: int, sandbox: Sandbox, container: Container | None = None) -> bytes:
        """An event by its number."""
        change = api.StateChangeEvent(pod=pod_message(sandbox), container=_optional(container))
        change.event = event  # type: ignore[assignment]  # numbers that the enforcer does not know can be sent too
        return await self.call("StateChange", change.SerializeToString())

    # -- calls and bytes --

    async def call(
        self,
        method: str,
        payload: bytes,
        *,
        service: str = "nri.pkg.api.v1alpha1.Plugin",
    ) -> bytes:
        """Any call. A plugin that does not answer in time is dropped."""
        self._stream += 2
        told = int(self.told_timeout * 1e9)
        request = api.Request(service=service, method=method, payload=payload, timeout_nano=told)
        answer = self._answers[self._stream] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            raise DroppedError(f"{method}: ttrpc: closed")
        self._send(1, Heard(self._stream, 1, request.SerializeToString()))
        try:
            async with asyncio.timeout(self._timeout):
                response = await answer
        except TimeoutError:
            await self.drop()
            raise DroppedError(f"{method}: context deadline exceeded") from None
        if response.status.code:
            raise CallError(response.status.code, response.status.message)
        return bytes(response.payload)

    async def closed(self) -> None:
        """Wait until the plugin has ended the connection."""
        async with asyncio.timeout(5):
            await asyncio.wait({self._reading})

    async def drop(self) -> None:
        """End the connection."""
        self._writer.close()
        self._reading.cancel()
        await asyncio.wait({self._reading})
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def send_bytes(self, data: bytes) -> None:
        """Anything at all."""
        self._writer.write(data)

    def _send(self, connection: int, message: Heard) -> None:
        data = struct.pack(">IIBB", len(message.data), message.stream, message.kind, 0) + message.data
        for payload in _flushes(data):
            self._writer.write(struct.pack(">II", connection, len(payload)) + payload)

    async def _read(self) -> None:
        """The plugin's frames, until there are no more."""
        pending = {1: b"", 2: b""}
        try:
            while True:
                connection, length = struct.unpack(">II", await self._reader.readexactly(8))
                assert length <= _BUFFER, f"Go's reader cannot take a frame of {length} bytes: ENOMEM"
                pending[connection] += await self._reader.readexactly(length)
                pending[connection] = self._take_all(pending[connection])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writer.close()
            self._fail_calls()

    def _take_all(self, data: bytes) -> bytes:
        """Every message that is complete; what is left."""
        while len(data) >= 10:
            length, stream, kind, _ = struct.unpack(">IIBB", data[:10])
            if len(data) < 10 + length:
                break
            self._take(Heard(stream, kind, data[10 : 10 + length]))
            data = data[10 + length :]
        return data

    def _take(self, heard: Heard) -> None:
        if heard.kind == 1:
            self._registration.set_result(heard)
        elif (answer := self._answers.pop(heard.stream, None)) and not answer.done():
            answer.set_result(api.Response.FromString(heard.data))

    def _fail_calls(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(DroppedError("ttrpc: closed"))
                answer.exception()  # nobody may be waiting any more
        self._answers.clear()
        if not self._registration.done():
            self._registration.cancel()


def _flushes(data: bytes) -> Iterator[bytes]:
    """The writes that Go's bufio makes of a message: header and body together, and of a long body the rest at once."""
    yield data[:_BUFFER]
    if len(data) > _BUFFER:
        yield data[_BUFFER:]


def _split(values: Sequence[T], pieces: int) -> list[Sequence[T]]:
    """In so many pieces; the last ones may be short or empty."""
    each = -(-len(values) // pieces)
    return [values[number * each : (number + 1) * each] for number in range(pieces)]


def pod_message(sandbox: Sandbox) -> api.PodSandbox:
    """A pod as the runtime sends it."""
    return api.PodSandbox(
        id=sandbox.id,
        name=sandbox.name,
        uid=sandbox.uid,
        namespace=sandbox.namespace,
        annotations=dict(sandbox.annotations),
        linux=api.LinuxPodSandbox(cgroup_parent=sandbox.cgroup_parent),
        pid=sandbox.pid,
    )


def container_message(container: Container) -> api.Container:
    """A container as the runtime sends it."""
    cpu = api.LinuxCPU(cpus=container.cpus, mems=container.mems)
    return api.Container(
        id=container.id,
        pod_sandbox_id=container.sandbox,
        name=container.name,
        state=api.ContainerState.Name(container.state.value),
        annotations=dict(container.annotations),
        linux=api.LinuxContainer(resources=api.LinuxResources(cpu=cpu), cgroups_path=container.cgroups_path),
        pid=container.pid,
    )


def _optional(container: Container | None) -> api.Container | None:
    return container_message(container) if container else None


def adjustment_of(message: api.ContainerAdjustment) -> Adjustment:
    """What the runtime does with an adjustment."""
    cpu = message.linux.resources.cpu
    return Adjustment(cpu.cpus, cpu.mems, cpu.HasField("quota") and cpu.quota.value == -1, dict(message.annotations))


def updates_of(messages: Sequence[api.ContainerUpdate]) -> tuple[Update, ...]:
    """What the runtime does with updates; two for one container fail the whole request."""
    updates = tuple(Update(message.container_id, message.linux.resources.cpu.cpus) for message in messages)
    assert len({update.container for update in updates}) == len(updates), f"a container is updated twice: {updates}"
    return updates
