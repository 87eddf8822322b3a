"""One connection to the runtime, from connecting to its end: the socket's bytes, the deadlines, the answers.

1. Connect, and serve the Plugin service at once: Configure may come before the answer to our registration.
2. Register. 3. Be configured, and say which events we want. 4. Be told all that there is. 5. Answer event by event.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import StreamReader, StreamWriter, Task, TimerHandle
from collections.abc import Callable
from pathlib import Path

from google.protobuf.message import DecodeError

from enforcer.errors import ProtocolError, RefusedError, SetupError
from enforcer.nri import api_pb2 as api
from enforcer.nri import service
from enforcer.nri.handlers import Handlers
from enforcer.nri.mux import LARGEST_SENT, MOST_FRAMES, PLUGIN_SERVICE, RUNTIME_SERVICE, Splitter, frames
from enforcer.nri.service import Call, Service
from enforcer.nri.ttrpc import Code, Decoder, Kind, Message, encode

LOG = logging.getLogger("armistice.nri")

DEADLINE = 1.5
"""Seconds for one event. NRI allows 2 by default, and goes on without us when they are over; an error refuses."""
SHARE = 0.75
"""Of the time that the runtime gives for a call: what we use of it at most, where its limit is set lower than usual."""
REGISTRATION = 120.0
"""Seconds to wait for the registration's answer. The runtime takes plugins one by one, and each waits until no
container is in its grace period; trying again meanwhile would only make that queue longer."""
_READ = 1 << 16
"""Bytes read at once."""
_REGISTERING = 1
"""The stream of our only call."""


def _nobody(_: str) -> None:
    """Nobody wants to know."""


async def serve(
    socket: Path,
    name: str,
    index: str,
    handlers: Handlers,
    *,
    deadline: float = DEADLINE,
    registration: float = REGISTRATION,
    ready: Callable[[str], None] = _nobody,
) -> None:
    """Live through one connection; return when the runtime has ended it.

    ``ready`` is told when Synchronize is done, with the runtime's name. Raises SetupError where there is no
    connection, or none that got this far, and ProtocolError where the bytes are no NRI.
    """
    reader, writer = await _connect(socket)
    connection = Connection(writer, handlers, deadline, ready)
    try:
        connection.register(name, index)
        await connection.read(reader, socket, registration)
    finally:
        await connection.end()
        writer.close()


async def _connect(socket: Path) -> tuple[StreamReader, StreamWriter]:
    try:
        return await asyncio.open_unix_connection(socket)
    except FileNotFoundError as error:
        raise SetupError(
            f"There is no NRI socket at {socket}: the runtime is not running, its NRI is disabled, or the socket's "
            "folder is not mounted here. containerd before 2.0 has NRI off: set disable = false under "
            '[plugins."io.containerd.nri.v1.nri"] in its config.toml and restart it.'
        ) from error
    except ConnectionRefusedError as error:
        raise SetupError(
            f"Nobody listens at {socket}: the runtime is stopped or starting, or its NRI was disabled. Start it, or "
            "enable NRI."
        ) from error
    except OSError as error:
        raise SetupError(
            f"{socket} cannot be connected to: {error.strerror or error}. It is to be the runtime's NRI socket, and "
            "the enforcer is to run as root."
        ) from error


class Connection:
    """One connection: what was asked, what is not answered yet, and when it is too late for an answer."""

    def __init__(self, writer: StreamWriter, handlers: Handlers, deadline: float, ready: Callable[[str], None]) -> None:
        self._writer = writer
        self._deadline = deadline
        self._service = Service(handlers, self._is_ready)
        self._tell_ready = ready
        self._ready = False
        self._registered = False
        self._splitter = Splitter()
        self._decoders = {PLUGIN_SERVICE: Decoder(), RUNTIME_SERVICE: Decoder()}
        self._last_stream = 0
        self._unanswered: dict[int, TimerHandle | None] = {}
        """The runtime's calls by their stream, each with what rings when its deadline is over."""
        self._working: set[Task[None]] = set()
        """The handlers at work; late ones too."""

    def register(self, name: str, index: str) -> None:
        """Say who we are. Sent at once: the runtime waits 5 seconds for it, and for nobody else meanwhile."""
        payload = api.RegisterPluginRequest(plugin_name=name, plugin_idx=index).SerializeToString()
        request = api.Request(service="nri.pkg.api.v1alpha1.Runtime", method="RegisterPlugin", payload=payload)
        self._write(RUNTIME_SERVICE, Message(_REGISTERING, Kind.REQUEST, request.SerializeToString()))

    async def read(self, reader: StreamReader, socket: Path, registration: float) -> None:
        """Take what comes until the runtime ends the connection."""
        try:
            async with asyncio.timeout(registration) as limit:
                while data := await reader.read(_READ):
                    self._receive(data)
                    if self._registered:
                        limit.reschedule(None)
        except TimeoutError as error:
            raise SetupError(
                f"{socket} took the connection but did not answer the registration within {registration:g} s. Another "
                "NRI plugin may hold the runtime up, or this is not its NRI socket; the runtime's log says which."
            ) from error
        except ConnectionError as error:
            LOG.info("the runtime reset the connection", extra={"error": str(error)})
        self._check_ended_well(socket)

    def _check_ended_well(self, socket: Path) -> None:
        if not self._ready:
            raise SetupError(
                f"The runtime at {socket} ended the connection before it had told us of its pods: it is restarting, or "
                "it does not take this plugin, by its name and index or by its answers; the runtime's log says which."
            )

    async def end(self) -> None:
        """What is at work may finish, and is answered: when it is us who end the connection, a call without an answer
        would be done without us. After another deadline it is cancelled."""
        if self._working:
            _, late = await asyncio.wait(self._working, timeout=self._deadline)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for timer in filter(None, self._unanswered.values()):
            timer.cancel()

    def _is_ready(self, runtime: str) -> None:
        self._ready = True
        self._tell_ready(runtime)

    def _receive(self, data: bytes) -> None:
        for piece in self._splitter.feed(data):
            # The runtime drops what it does not know; so do we.
            if decoder := self._decoders.get(piece.connection):
                for message in decoder.feed(piece.data):
                    self._take(piece.connection, message)

    def _take(self, connection: int, message: Message) -> None:
        if connection == PLUGIN_SERVICE and message.kind is Kind.REQUEST:
            self._take_call(message)
        elif connection == RUNTIME_SERVICE and message.kind is Kind.RESPONSE:
            self._take_registration(message)
        else:
            raise ProtocolError(
                f"The runtime sent a {message.kind.name.lower()} on connection {connection}; it asks on "
                f"{PLUGIN_SERVICE} and answers on {RUNTIME_SERVICE}."
            )

    def _take_registration(self, message: Message) -> None:
        status = _response_of(message).status
        if status.code:
            raise SetupError(
                f"The runtime refused to register this plugin: {status.message}. The index has to be two digits, and "
                "the name letters, digits and -_.+ only."
            )
        self._registered = True

    def _take_call(self, message: Message) -> None:
        if message.stream <= self._last_stream:
            raise ProtocolError(
                f"The runtime called on stream {message.stream} after stream {self._last_stream}; each call has a "
                "higher one."
            )
        self._last_stream = message.stream
        request = _request_of(message)
        call = self._service.read(request.method, request.payload) if request.service == service.NAME else None
        if call:
            self._start(message.stream, call, request.timeout_nano / 1e9)
        else:
            self._say_unknown(message.stream, request)

    def _say_unknown(self, stream: int, request: api.Request) -> None:
        """NRI from 0.12 on then tries StateChange."""
        text = f"Armistice's enforcer has no method {request.method} of {request.service}."
        self._send(stream, _refusal(Code.UNIMPLEMENTED, text))

    def _start(self, stream: int, call: Call, allowed: float) -> None:
        seconds = _seconds_for(call, self._deadline, allowed)
        loop = asyncio.get_running_loop()
        self._unanswered[stream] = loop.call_later(seconds, self._too_late, stream, call, seconds) if seconds else None
        task = loop.create_task(self._work(stream, call), name=f"NRI: {call.what}")
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _work(self, stream: int, call: Call) -> None:
        response = await _outcome(call)
        if stream in self._unanswered:
            self._send(stream, response)
        else:
            LOG.warning("done, but too late for the runtime", extra={"call": call.what})

    def _too_late(self, stream: int, call: Call, seconds: float) -> None:
        """Answer for a handler that is still at work: the runtime would go on without us if nobody did."""
        LOG.error("not done within its deadline", extra={"call": call.what, "seconds": seconds})
        text = (
            f"Armistice's enforcer did not finish {call.what} within {seconds:.2g} s, so it is refused rather than "
            "done without its CPUs. The kubelet tries again; if this stays, see the enforcer's log on this node."
        )
        self._send(stream, _refusal(Code.DEADLINE_EXCEEDED, text) if call.refusable else api.Response())

    def _send(self, stream: int, response: api.Response) -> None:
        if timer := self._unanswered.pop(stream, None):
            timer.cancel()
        self._write(PLUGIN_SERVICE, Message(stream, Kind.RESPONSE, _sendable(response)))

    def _write(self, connection: int, message: Message) -> None:
        self._writer.write(frames(connection, encode(message)))


def _request_of(message: Message) -> api.Request:
    try:
        return api.Request.FromString(message.data)
    except DecodeError as error:
        raise ProtocolError(f"The runtime's call on stream {message.stream} is no request of ttRPC.") from error


def _response_of(message: Message) -> api.Response:
    """The answer to our only call."""
    if message.stream != _REGISTERING:
        raise ProtocolError(f"The runtime answered a call that nobody made, on stream {message.stream}.")
    try:
        return api.Response.FromString(message.data)
    except DecodeError as error:
        raise ProtocolError("The runtime's answer to the registration cannot be read.") from error


def _seconds_for(call: Call, deadline: float, allowed: float) -> float:
    """The call's deadline: ours, and within the runtime's; 0 for none. ``allowed`` is 0 where the runtime has none."""
    ours = deadline if call.hurried else 0.0
    theirs = allowed * SHARE
    return min(ours, theirs) if ours and theirs else ours or theirs


async def _outcome(call: Call) -> api.Response:
    """What the handler says, as the answer to the call. Nothing but being cancelled gets past here."""
    try:
        return api.Response(payload=(await call.ask()).SerializeToString())
    except RefusedError as error:
        LOG.info("refused", extra={"call": call.what, "reason": str(error)})
        refusal = _refusal(Code.FAILED_PRECONDITION, str(error))
    except Exception:
        LOG.exception("failed", extra={"call": call.what})
        refusal = _refusal(
            Code.INTERNAL,
            f"Armistice's enforcer failed at {call.what}, so it is refused rather than done without its CPUs; the "
            "enforcer's log on this node says why.",
        )
    return refusal if call.refusable else api.Response()


def _refusal(code: Code, text: str) -> api.Response:
    return api.Response(status=api.Status(code=code, message=text))


def _sendable(response: api.Response) -> bytes:
    """The answer's bytes, or an error in its place where the runtime could not take that many."""
    data, most = response.SerializeToString(), LARGEST_SENT * MOST_FRAMES - 10
    if len(data) <= most:
        return data
    LOG.error("an answer is too long to be sent", extra={"bytes": len(data), "most": most})
    text = f"Armistice's enforcer has an answer of {len(data)} bytes; NRI can take {most}."
    return _refusal(Code.INTERNAL, text).SerializeToString()
