"""NRI: bytes of a runtime, whole and cut into pieces, against the decoder and against a live connection.

1. An exchange as a runtime has it: registration, Configure, Synchronize in pieces, a pod's events; then damaged.
2. The decoder reads it at once, in pieces, and cut at each byte where it is short: the same messages come out, the same
   as a plain reading of the whole finds, and memory follows the bytes that came, not those that were announced.
3. A connection with the enforcer's own handlers behind it gets the same pieces. It ends with an error of ours exactly
   where the plain reading says that the bytes are none; each call before that has one answer, which is a message; and
   the ledger passes its audit.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import cast
from zlib import crc32

from google.protobuf.message import DecodeError

from enforcer.cgroup import Cgroups
from enforcer.errors import ProtocolError, SetupError
from enforcer.events import Events
from enforcer.keys import Keys
from enforcer.metrics import Metrics
from enforcer.nri import api_pb2 as api
from enforcer.nri.connection import Connection
from enforcer.nri.mux import Splitter
from enforcer.nri.ttrpc import Decoder
from enforcer.plugin import Plugin, Surroundings
from enforcer.runtime import Container, Sandbox
from enforcer.watch import Watcher
from shared.cpuset import CpuSet
from tests.enforcer.scenes import APP, KEYS, LARGE, NODE, PROXIED, SMALL, container, fresh, sandbox, wish
from tests.fuzz.target import Target, WrongError, resident
from tests.support.audit import audit
from tests.support.fake_runtime import EVENTS, container_message, pod_message

LONGEST = 4 << 20
"""Bytes of the longest message; a frame may have ten more."""
SHORT = 600
"""Bytes of an exchange that is cut at each of them."""
PATIENCE = 60.0
"""Seconds of the clock that answers are waited for."""
ROOM = 512 << 10
"""Bytes of memory that the decoder may take beside a few copies of what came."""

Sent = tuple[int, int, int, bytes]
"""Connection, stream, kind and payload of a message."""


# What a runtime sends.


def make(rng: Random) -> bytes:
    """An exchange, damaged more often than not."""
    frames = list(_framed(rng, _exchange(rng)))
    if rng.random() < 0.4:
        return b"".join(frames)
    for _ in range(rng.randint(1, 3)):
        frames = rng.choice(DAMAGE)(rng, frames)
    return b"".join(frames)


def _exchange(rng: Random) -> Iterator[Sent]:
    """The messages of a connection, in their order."""
    yield 2, 1, 2, api.Response().SerializeToString()
    calls = [("Configure", _configure(rng)), *_synchronize(rng), *_life(rng)]
    for number, (method, payload) in enumerate(calls):
        asked = api.Request(service="nri.pkg.api.v1alpha1.Plugin", method=method, payload=payload)
        asked.timeout_nano = rng.choice((0, 2_000_000_000))
        yield 1, 2 * number + 1, 1, asked.SerializeToString()


def _configure(rng: Random) -> bytes:
    version = rng.choice(("", "v0.12.0", "v0.10.0", "x", "v9" * 50))
    return api.ConfigureRequest(runtime_name="containerd", NRI_version=version).SerializeToString()


def _synchronize(rng: Random) -> Iterator[tuple[str, bytes]]:
    pieces = rng.randint(1, 3)
    for piece in range(pieces):
        boxes = [_box(rng) for _ in range(rng.randint(0, 3))]
        made = [_made(rng, box) for box in boxes]
        request = api.SynchronizeRequest(
            pods=map(pod_message, boxes), containers=map(container_message, made), more=piece < pieces - 1
        )
        yield "Synchronize", request.SerializeToString()


def _life(rng: Random) -> Iterator[tuple[str, bytes]]:
    """Events of some pods, in the order of a life, or in none."""
    for _ in range(rng.randint(1, 3)):
        box = _box(rng)
        told = [
            ("RunPodSandbox", None),
            *((method, _made(rng, box)) for method in ("CreateContainer", "StartContainer", "StopContainer")),
            ("RemovePodSandbox", None),
        ]
        if rng.random() < 0.3:
            rng.shuffle(told)
        for method, about in told:
            yield _event(rng, method, box, about)


def _event(rng: Random, method: str, box: Sandbox, about: Container | None) -> tuple[str, bytes]:
    """By a call of its own, or as StateChange."""
    pod, of = pod_message(box), container_message(about) if about else None
    if rng.random() < 0.5:
        return method, api.EventRequest(pod=pod, container=of).SerializeToString()
    change = api.StateChangeEvent(pod=pod, container=of)
    change.event = EVENTS[method] if rng.random() < 0.9 else rng.randrange(99)  # type: ignore[assignment]
    return "StateChange", change.SerializeToString()


def _box(rng: Random) -> Sandbox:
    """A pod of the same few, with an intent of its own, of another pod's, or something else in its place."""
    uid = rng.choice(("one", "two", "three", "four"))
    made = sandbox(uid, wish(rng.choice((APP, PROXIED, SMALL, LARGE)))) if rng.random() < 0.8 else sandbox(uid)
    if rng.random() < 0.1:
        made = replace(made, uid=rng.choice(("", "x/../y", "é", "x" * 300)), name=rng.choice(("", "a b", "x" * 5000)))
    if rng.random() < 0.05:
        made = replace(made, cgroup_parent=rng.choice(("", "/", "../..", "a\nb", "x.slice", "/kubepods/" + "y" * 300)))
    return made


def _made(rng: Random, box: Sandbox) -> Container:
    cpus = rng.choice(("", "", "0-3", "7", "junk", "0-4294967295", "-1"))
    mark = rng.choice(("", "", "x", "1", "cpus=0-3"))
    return container(
        box, rng.choice(("app", "proxy", "setup", "web", "", "x" * 100)), cpus, rng.choice(("", "0")), mark
    )


def _framed(rng: Random, messages: Iterator[Sent]) -> Iterator[bytes]:
    """Frames as a runtime writes them: 4096 bytes of a message, then the rest of it; or of any length."""
    for connection, stream, kind, payload in messages:
        data = struct.pack(">IIBB", len(payload), stream, kind, 0) + payload
        cut = 4096 if rng.random() < 0.7 else rng.randint(1, len(data))
        for part in filter(None, (data[:cut], data[cut:])):
            yield _frame(connection, part)
        if rng.random() < 0.1:
            yield _frame(rng.choice((0, 3, 2**32 - 1)), rng.randbytes(rng.randint(0, 50)))  # a stranger in between


def _frame(connection: int, payload: bytes) -> bytes:
    return struct.pack(">II", connection, len(payload)) + payload


def _flipped(rng: Random, frames: list[bytes]) -> list[bytes]:
    data = bytearray(b"".join(frames))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return [bytes(data)]


def _cut(rng: Random, frames: list[bytes]) -> list[bytes]:
    data = b"".join(frames)
    return [data[: rng.randrange(len(data)) + 1]]


def _out_of_order(rng: Random, frames: list[bytes]) -> list[bytes]:
    return rng.sample(frames, len(frames))


def _again(rng: Random, frames: list[bytes]) -> list[bytes]:
    return [*frames, rng.choice(frames)]


def _lost(rng: Random, frames: list[bytes]) -> list[bytes]:
    kept = [frame for frame in frames if rng.random() < 0.9]
    return kept or frames


def _garbage(rng: Random, frames: list[bytes]) -> list[bytes]:
    return [*frames[: rng.randint(0, len(frames))], rng.randbytes(rng.randint(1, 200))]


def _announced(rng: Random, frames: list[bytes]) -> list[bytes]:
    """A length about the limit, or far beyond it, and little behind it."""
    length = rng.choice((LONGEST - 1, LONGEST, LONGEST + 1, LONGEST + 10, LONGEST + 11, 2**31, 2**32 - 1))
    header = struct.pack(">IIBB", length, 2 * rng.randrange(2**31) + rng.randrange(2), rng.randrange(5), 0)
    lie = _frame(1, header) if rng.random() < 0.5 else struct.pack(">II", 1, length)
    return [*frames[: rng.randint(0, len(frames))], lie + rng.randbytes(50)]


def _long(rng: Random, frames: list[bytes]) -> list[bytes]:
    """One message as long as they may be, in frames of some size, after those that are read alone."""
    if rng.random() < 0.95:
        return frames
    data = struct.pack(">IIBB", LONGEST, 9999, 1, 0) + bytes(LONGEST)
    return [*frames[:2], *(_frame(1, data[at : at + 65_000]) for at in range(0, len(data), 65_000))]


DAMAGE = (_flipped, _cut, _out_of_order, _again, _lost, _garbage, _announced, _long)


# A plain reading.


@dataclass
class Reading:
    """What bytes say."""

    messages: list[Sent] = field(default_factory=list)
    """Those of the two connections, each where it ends."""
    broken: bool = False
    """Whether what comes after them is no NRI."""


def plainly(data: bytes) -> Reading:
    """By the formats of NRI's multiplexing and of ttRPC, from the whole."""
    found, streams, at = Reading(), {1: b"", 2: b""}, 0
    while len(data) >= at + 8 and not found.broken:
        connection, length = struct.unpack_from(">II", data, at)
        if length > LONGEST + 10:
            found.broken = True
        elif connection in streams:
            streams[connection] = _taken(found, connection, streams[connection] + data[at + 8 : at + 8 + length])
        at += 8 + length
    return found


def _taken(found: Reading, connection: int, stream: bytes) -> bytes:
    """Every message that is complete, into the reading; what is left."""
    while len(stream) >= 10:
        length, number, kind, _ = struct.unpack_from(">IIBB", stream)
        if length > LONGEST or kind not in (1, 2) or number % 2 == 0:
            found.broken = True
            break
        if len(stream) < 10 + length:
            break
        found.messages.append((connection, number, kind, stream[10 : 10 + length]))
        stream = stream[10 + length :]
    return stream


# The decoder.


def decoded(parts: Sequence[bytes]) -> Reading:
    """What the enforcer's decoder makes of the same."""
    found, splitter, decoders = Reading(), Splitter(), {1: Decoder(), 2: Decoder()}
    try:
        for part in parts:
            for piece in splitter.feed(part):
                if decoder := decoders.get(piece.connection):
                    for message in decoder.feed(piece.data):
                        found.messages.append((piece.connection, message.stream, int(message.kind), message.data))
    except ProtocolError:
        found.broken = True
    return found


def pieces(data: bytes, rng: Random) -> list[bytes]:
    """As a socket may hand them over."""
    most = rng.choice((1, 7, 100, 4096, 65_536)) if len(data) < 20_000 else 65_536
    parts, at = [], 0
    while at < len(data):
        step = rng.randint(1, most)
        parts.append(data[at : at + step])
        at += step
    return parts


def _check_decoder(data: bytes, expected: Reading, rng: Random) -> None:
    cuts = [[data], pieces(data, rng)]
    if len(data) <= SHORT:
        cuts += [[data[:at], data[at:]] for at in range(len(data))]
    for parts in cuts:
        if decoded(parts) != expected:
            raise WrongError(f"decoded differently: in pieces of {[len(part) for part in parts[:5]]}")
    if rng.random() < 0.05:
        _check_memory(data)


def _check_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        decoded([data])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > 5 * len(data) + ROOM:
        raise WrongError(f"memory for what was only announced: {peak} bytes for {len(data)} that came")


# A live connection.


@dataclass
class Ending:
    """What has to come of the messages of a connection."""

    calls: list[int] = field(default_factory=list)
    """Streams of the calls that want an answer."""
    broken: bool = False
    refused: bool = False
    """Whether the runtime refused the registration."""


def ending(reading: Reading) -> Ending:
    """By NRI's rules: the runtime asks on connection 1, each time on a higher stream, and answers on 2, once asked."""
    found, last = Ending(), 0
    for connection, stream, kind, payload in reading.messages:
        told = api.Request() if kind == 1 else api.Response()
        if (connection, kind) not in ((1, 1), (2, 2)) or (kind == 1 and stream <= last) or (kind == 2 and stream != 1):
            return replace(found, broken=True)
        try:
            told.ParseFromString(payload)
        except DecodeError:
            return replace(found, broken=True)
        if isinstance(told, api.Response):
            if told.status.code:
                return replace(found, refused=True)
        else:
            last = stream
            found.calls.append(stream)
    return replace(found, broken=reading.broken)


class Written:
    """Stands where the socket's writer does."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.data += data


class Session:
    """A node in a folder, and connections to it, one after the other."""

    make = staticmethod(make)
    memory = staticmethod(resident)

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        (folder / "cgroup").mkdir()
        (folder / "keys.pem").write_bytes(_pem())
        self._runner = runner
        self._worker = ThreadPoolExecutor(1)
        self._cgroups = Cgroups(folder / "cgroup", lambda path, text: None)
        self._keys = Keys(folder / "keys.pem")
        self._metrics = Metrics()

    def look(self, data: bytes) -> tuple[str]:
        """The decoder first, then the connection."""
        rng = Random(crc32(data))
        expected = plainly(data)
        _check_decoder(data, expected, rng)
        if len(data) > LONGEST:
            return ("long",)
        return (self._runner.run(self._connected(pieces(data, rng), ending(expected))),)

    async def _connected(self, parts: list[bytes], expected: Ending) -> str:
        watcher = Watcher(self._cgroups)
        around = Surroundings(self._cgroups, self._keys, watcher, Events(None, "n"), self._metrics, self._worker)
        plugin = Plugin(fresh(), around)
        try:
            error, written = await _lived(plugin, parts, len(expected.calls))
        finally:
            watcher.close()
        _check_ending(error, expected)
        _check_answers(written, expected)
        if found := audit(NODE, plugin.state.ledger, CpuSet.parse("0")):
            raise WrongError(f"the ledger: {found}")
        return type(error).__name__ if error else "ended"

    def close(self) -> None:
        """Let the worker go."""
        self._worker.shutdown()


async def _lived(plugin: Plugin, parts: list[bytes], calls: int) -> tuple[Exception | None, bytes]:
    """A connection from its start to its end, which comes once so many calls are answered."""
    writer, reader = Written(), asyncio.StreamReader()
    connection = Connection(cast(asyncio.StreamWriter, writer), plugin, 30.0, lambda runtime: None)
    connection.register("armistice", "10")
    reading = asyncio.create_task(connection.read(reader, Path("nri.sock"), 30.0))
    for part in parts:
        reader.feed_data(part)
        await asyncio.sleep(0)
    until = time.monotonic() + PATIENCE
    while not reading.done() and len(plainly(writer.data).messages) <= calls and time.monotonic() < until:
        await asyncio.sleep(0.0005)
    reader.feed_eof()
    error: Exception | None = None
    try:
        await reading
    except (ProtocolError, SetupError) as raised:
        error = raised
    await connection.end()
    return error, writer.data


def _check_ending(error: Exception | None, expected: Ending) -> None:
    if expected.broken != isinstance(error, ProtocolError):
        raise WrongError(f"another ending: {error!r}, and the bytes {'break off' if expected.broken else 'are fine'}")
    if expected.refused and not isinstance(error, SetupError):
        raise WrongError(f"another ending: {error!r}, and the registration was refused")


def _check_answers(data: bytes, expected: Ending) -> None:
    """One answer to each call, and our one call."""
    reading = plainly(data)
    asked = [message for message in reading.messages if message[2] == 1]
    answered = Counter(stream for connection, stream, kind, _ in reading.messages if (connection, kind) == (1, 2))
    if reading.broken or len(asked) != 1 or asked[0][0] != 2:
        raise WrongError("bytes that no runtime could read")
    if answered != Counter(expected.calls):
        raise WrongError(f"other answers: {dict(answered)} to {expected.calls}")
    for _, _, kind, payload in reading.messages:
        if kind == 2:
            api.Response.FromString(payload)


def _pem() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    (public,) = KEYS.keys.values()
    return Ed25519PublicKey.from_public_bytes(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@contextmanager
def _open() -> Iterator[Session]:
    log = logging.getLogger("armistice")
    level = log.level
    log.setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        session = Session(Path(folder), runner)
        try:
            yield session
        finally:
            session.close()
            log.setLevel(level)


TARGET = Target("frames", _open, runs=300, full=20_000, seconds=10.0)
