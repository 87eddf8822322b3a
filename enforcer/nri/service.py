"""The Plugin service: which method of NRI is which handler, and which events we ask the runtime for."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import DecodeError, Message

from enforcer.errors import ProtocolError, RefusedError
from enforcer.nri import api_pb2 as api
from enforcer.nri.handlers import Handlers
from enforcer.nri.messages import container_of, created, sandbox_of, update_messages
from enforcer.runtime import Container, Sandbox

NAME = "nri.pkg.api.v1alpha1.Plugin"

LARGEST_STATE = 64 << 20
"""Bytes of all pieces of one Synchronize. A thousand containers with 20 KB of environment each are a third of it."""

VALIDATES_FROM = (0, 10)
"""The NRI that knows ValidateContainerAdjustment. An older one ends the connection over a bit that it does not know."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the runtime, read and not yet answered."""

    what: str
    """For messages: the method, and the container and pod that it is about."""
    ask: Callable[[], Awaitable[Message]]
    refusable: bool = True
    """False: whatever happens, the answer is no error."""
    hurried: bool = True
    """Whether our own deadline counts, beside the runtime's."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a pod's or container's life."""

    number: api.Event
    ask: Callable[[Handlers, Sandbox, Container], Awaitable[Message]]
    refusable: bool = True


async def _run_sandbox(handlers: Handlers, sandbox: Sandbox, _: Container) -> Message:
    await handlers.run_sandbox(sandbox)
    return api.Empty()


async def _stop_sandbox(handlers: Handlers, sandbox: Sandbox, _: Container) -> Message:
    await handlers.stop_sandbox(sandbox)
    return api.Empty()


async def _remove_sandbox(handlers: Handlers, sandbox: Sandbox, _: Container) -> Message:
    await handlers.remove_sandbox(sandbox)
    return api.Empty()


async def _create(handlers: Handlers, sandbox: Sandbox, container: Container) -> Message:
    return created(await handlers.create(sandbox, container))


async def _start(handlers: Handlers, sandbox: Sandbox, container: Container) -> Message:
    await handlers.start(sandbox, container)
    return api.Empty()


async def _update(handlers: Handlers, sandbox: Sandbox, container: Container) -> Message:
    reply = await handlers.update(sandbox, container)
    return api.UpdateContainerResponse(update=update_messages(reply.updates))


async def _stop(handlers: Handlers, sandbox: Sandbox, container: Container) -> Message:
    reply = await handlers.stop(sandbox, container)
    return api.StopContainerResponse(update=update_messages(reply.updates))


async def _remove(handlers: Handlers, sandbox: Sandbox, container: Container) -> Message:
    await handlers.remove(sandbox, container)
    return api.Empty()


async def _validate(_: Handlers, __: Sandbox, ___: Container) -> Message:
    """Accept. Being asked is the point: where CreateContainer's own call timed out, the runtime has closed the
    connection, this call cannot be made, and the container is not created unmanaged."""
    return api.ValidateContainerAdjustmentResponse(reject=False)


EVENTS = {
    # An error here leaks the sandbox in containerd before 2.2.6 and 2.3.3, and then keeps containerd from starting.
    "RunPodSandbox": Event(api.RUN_POD_SANDBOX, _run_sandbox, refusable=False),
    "StopPodSandbox": Event(api.STOP_POD_SANDBOX, _stop_sandbox),
    "RemovePodSandbox": Event(api.REMOVE_POD_SANDBOX, _remove_sandbox),
    "CreateContainer": Event(api.CREATE_CONTAINER, _create),
    "StartContainer": Event(api.START_CONTAINER, _start),
    "UpdateContainer": Event(api.UPDATE_CONTAINER, _update),
    "StopContainer": Event(api.STOP_CONTAINER, _stop),
    "RemoveContainer": Event(api.REMOVE_CONTAINER, _remove),
    "ValidateContainerAdjustment": Event(api.VALIDATE_CONTAINER_ADJUSTMENT, _validate),
}
"""By the name of the event's own call. NRI before 0.12 sends most of them as StateChange, by number."""

_METHODS = {event.number: method for method, event in EVENTS.items()}


def subscription(nri_version: str) -> int:
    """The events we answer and this NRI knows, one bit each, the first for number 1."""
    known = [event.number for event in EVENTS.values() if event.number <= _last_event(nri_version)]
    return sum(1 << (number - 1) for number in known)


def _last_event(nri_version: str) -> int:
    """The highest event number that is safe to ask for. A version that is not told, or not readable, is an old one."""
    found = re.match(r"v?(\d+)\.(\d+)", nri_version)
    recent = found is not None and (int(found[1]), int(found[2])) >= VALIDATES_FROM
    return api.VALIDATE_CONTAINER_ADJUSTMENT if recent else api.REMOVE_CONTAINER


class Service:
    """The calls of one connection."""

    def __init__(self, handlers: Handlers, ready: Callable[[str], None], largest: int = LARGEST_STATE) -> None:
        self._handlers = handlers
        self._ready = ready
        """Told once everything is known that there is, with the runtime's name and versions."""
        self._largest = largest
        """Bytes of all pieces of one Synchronize."""
        self._runtime = ""
        self._sandboxes: list[Sandbox] = []
        self._containers: list[Container] = []
        self._bytes = 0
        """What the pieces of Synchronize had so far."""

    def read(self, method: str, payload: bytes) -> Call | None:
        """The call, ready to be asked; None for a method that we do not have."""
        try:
            return self._read(method, payload)
        except DecodeError:
            return _unreadable(method)

    def _read(self, method: str, payload: bytes) -> Call | None:
        if method == "Configure":
            return self._configure(api.ConfigureRequest.FromString(payload))
        if method == "Synchronize":
            return self._synchronize(payload)
        if method == "StateChange":
            return self._state_change(api.StateChangeEvent.FromString(payload))
        if method in EVENTS:
            request = api.EventRequest.FromString(payload)
            return self._event(method, request.pod, request.container)
        return None

    def _state_change(self, change: api.StateChangeEvent) -> Call | None:
        method = _METHODS.get(change.event)
        return self._event(method, change.pod, change.container) if method else None

    def _event(self, method: str, pod: api.PodSandbox, of: api.Container) -> Call:
        event, sandbox, container = EVENTS[method], sandbox_of(pod), container_of(of)
        return Call(
            what=_described(method, sandbox, container),
            ask=partial(event.ask, self._handlers, sandbox, container),
            refusable=event.refusable,
        )

    def _configure(self, request: api.ConfigureRequest) -> Call:
        self._runtime = _runtime_words(request)
        return Call("Configure", partial(self._configured, request), hurried=False)

    async def _configured(self, request: api.ConfigureRequest) -> Message:
        await self._handlers.configured(request.runtime_name, request.runtime_version, request.NRI_version)
        return api.ConfigureResponse(events=subscription(request.NRI_version))

    def _synchronize(self, payload: bytes) -> Call:
        """Keep a piece; with the last one, ask. Our own deadline does not count: an error would only end the
        connection, which the runtime does by itself when its own time is up."""
        self._keep(payload, piece := api.SynchronizeRequest.FromString(payload))
        return Call("Synchronize", self._go_on if piece.more else self._synchronized, hurried=False)

    def _keep(self, payload: bytes, piece: api.SynchronizeRequest) -> None:
        self._bytes += len(payload)
        if self._bytes > self._largest:
            raise ProtocolError(
                f"The runtime described its pods and containers in {self._bytes} bytes and has not finished; "
                f"{self._largest} are the most that is read."
            )
        self._sandboxes += map(sandbox_of, piece.pods)
        self._containers += map(container_of, piece.containers)

    async def _go_on(self) -> Message:
        """To a piece that is not the last: the runtime wants its ``more`` back, and no updates."""
        return api.SynchronizeResponse(more=True)

    async def _synchronized(self) -> Message:
        sandboxes, containers = self._sandboxes, self._containers
        self._sandboxes, self._containers, self._bytes = [], [], 0
        reply = await self._handlers.synchronize(sandboxes, containers)
        self._ready(self._runtime)
        return api.SynchronizeResponse(update=update_messages(reply.updates))


def _unreadable(method: str) -> Call:
    """A call whose bytes say nothing. An error refuses what it asks; to end the connection would let it pass.
    StateChange may be about a sandbox that is to run, which is never refused."""

    async def refuse() -> Message:
        raise RefusedError(f"Armistice's enforcer cannot read this {method}: its bytes are no message of NRI.")

    return Call(method, refuse, refusable=method not in ("RunPodSandbox", "StateChange"))


def _described(method: str, sandbox: Sandbox, container: Container) -> str:
    pod = f"pod {sandbox.namespace}/{sandbox.name}"
    return f"{method} of container {container.name} of {pod}" if container.id else f"{method} of {pod}"


def _runtime_words(request: api.ConfigureRequest) -> str:
    words = f"{request.runtime_name} {request.runtime_version}".strip() or "a runtime without a name"
    return f"{words}, NRI {request.NRI_version}" if request.NRI_version else words
