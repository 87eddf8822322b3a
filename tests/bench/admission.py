"""The whole admission decision over TLS, against an aiohttp server that only sends the same bytes back.

Every server is a process of its own on one core, the client is this process on another. Rounds take turns: each server
is asked for half a second, then the next, and again, so that what else happens on the machine hits all alike. A ratio
is of two neighbouring rounds.

Two streams of pods are sent, because the webhook remembers what it found of late. *Replicas* are what a cluster sends
most: some hundred workloads, one after the other, eight pods of each. Of *new pods* none was seen before: hardly two
weigh the same, and each comes back only after all the others, when it is long forgotten. The ratios of many nodes to
few are of these.

Two ratios are given: of answers a second by the clock, which is what a person gets, and of answers for each second of
processor time that the server used, which says the same on an idle machine and can still be told on a busy one.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import pytest

from shared import catalogue
from shared.noderesourcetopology import to_object
from shared.topology import Machine
from tests.bench.report import Figure, Target
from tests.bench.reviews import replicas, reviews
from webhook.certs import SelfMade, utc_now

CLIENTS = (1, 8, 32)
"""Connections that are kept alive and used one request after the other."""

NODES = (10, 500, 5000)
PODS = 4096
REPLICAS = 8
ROUND_SECONDS = 0.5
LONGEST_SECONDS = 60
"""After so long no further round is begun: on a busy machine rounds take longer."""
BY_PROCESSOR = "by processor time"
"""Note of the figures that are not by the clock."""

MACHINE_TYPES = ("aws-m7i.metal-48xl", "aws-r8g.metal-48xl", "epyc9654-2s-nps4", "dgx-h100", "gcp-c3-highcpu-176")


def measure(quick: bool) -> Iterator[Figure]:
    """Decisions a second and their ratio to the echo's; the ratios of many known nodes to few."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("it takes two cores, one for the server and one for the client")
    rounds = 2 if quick else 12
    os.sched_setaffinity(0, cores[1:2])
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            path = Path(folder)
            own = SelfMade(path, ["localhost", "127.0.0.1"], utc_now())
            trust = ssl.create_default_context(cafile=str(own.ca))
            echo = stack.enter_context(server(echo_command(own), cores[0]))
            ours = [
                stack.enter_context(server(webhook_command(own, nodes_file(path, nodes)), cores[0])) for nodes in NODES
            ]
            new = reviews(PODS)
            again = replicas(new[: PODS // REPLICAS], REPLICAS)
            for stream, bodies, clients in (("replicas", again, CLIENTS), ("new pods", new, CLIENTS[1:])):
                for number in clients:
                    who = f"{stream}, 1 client" if number == 1 else f"{stream}, {number} clients"
                    taken = turns([echo, ours[0]], trust, bodies, number, rounds)
                    yield from _against_echo(who, *asyncio.run(taken))
            yield from _by_nodes(asyncio.run(turns(ours, trust, new, 8, rounds)))
    finally:
        os.sched_setaffinity(0, cores)


def _against_echo(who: str, echo: Sequence[Round], ours: Sequence[Round]) -> Iterator[Figure]:
    yield Figure("admission", f"{who}: decisions", "per s", tuple(a.by_clock for a in ours))
    yield Figure("admission", f"{who}: echoes", "per s", tuple(a.by_clock for a in echo))
    yield from ratios("admission", f"{who}: decisions to echoes", echo, ours, Target(0.7, at_least=True))


def _by_nodes(rates: Sequence[Sequence[Round]]) -> Iterator[Figure]:
    for nodes, many in zip(NODES[1:], rates[1:], strict=True):
        target = Target(0.8, at_least=True) if nodes == NODES[-1] else None
        what = f"new pods, 8 clients: decisions with {nodes:,} nodes to {NODES[0]}"
        yield from ratios("admission", what, rates[0], many, target)


def ratios(
    section: str, what: str, base: Sequence[Round], other: Sequence[Round], target: Target | None = None
) -> Iterator[Figure]:
    """Of ``other`` to ``base``, each of two neighbouring rounds: by the clock, and by processor time."""
    pairs = list(zip(base, other, strict=True))
    yield Figure(section, what, "x", tuple(b.by_clock / a.by_clock for a, b in pairs), target)
    by_processor = tuple(b.by_processor / a.by_processor for a, b in pairs)
    yield Figure(section, what, "x", by_processor, target, BY_PROCESSOR)


# Servers.


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves."""

    pid: int
    port: int
    sent: Iterator[int] = field(default_factory=count)
    """Numbers its requests. Each round goes on where the one before ended: however few a busy machine answers in it, no
    new pod comes twice in a row."""

    def processor_seconds(self) -> float:
        """Processor time of all its threads so far (Documentation/scheduler/sched-stats.rst)."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@dataclass(frozen=True, slots=True)
class Round:
    """What a server did in one turn."""

    by_clock: float
    """Answers a second."""
    by_processor: float
    """Answers for each second of the server's processor time."""


def echo_command(own: SelfMade) -> list[str]:
    """What sends the same bytes back."""
    return [sys.executable, "-m", "tests.bench.echo", str(own.cert), str(own.key)]


def webhook_command(own: SelfMade, nodes: Path) -> list[str]:
    """Our webhook with the nodes of a file."""
    armistice = [sys.executable, "-m", "webhook.command", "webhook", "--port", "0"]
    return [*armistice, "--cert", str(own.cert), "--key", str(own.key), "--nodes", str(nodes)]


@contextmanager
def server(
    command: Sequence[str], core: int, env: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Server]:
    """A process on one core, once it says that it is ready; ``env`` is added to the environment.

    One that says nothing is told the ``port``, and is there once it listens.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE if port is None else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=pin(core),
        env={**os.environ, **(env or {})},
    )
    try:
        served = _said(process) if port is None else _listening(process, port)
        if served is None:
            raise RuntimeError(f"{' '.join(command)} ended with {process.wait()} before it served")
        yield Server(process.pid, served)
    finally:
        process.kill()
        process.wait()


def _said(process: subprocess.Popen[str]) -> int | None:
    """The port that it says; None when it ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready"):
            return urlsplit(line.split()[1]).port
    return None


def _listening(process: subprocess.Popen[str], port: int) -> int | None:
    """The port, once somebody listens there; None when the process ends before."""
    while process.poll() is None:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return port
        time.sleep(0.02)
    return None


def pin(core: int) -> Callable[[], None]:
    """To be done in a process before it begins: stay on one core."""
    return lambda: os.sched_setaffinity(0, [core])


def nodes_file(folder: Path, number: int) -> Path:
    """Nodes as a cluster has them: a few machine types; of one type the memory differs by some KiB from node to node,
    because firmware and kernel keep a little more or less."""
    types = [catalogue.machine(name) for name in MACHINE_TYPES]
    machines = [as_node(types[index % len(types)], index) for index in range(number)]
    path = folder / f"{number}.json"
    path.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": [to_object(m) for m in machines]}))
    return path


def as_node(machine: Machine, index: int) -> Machine:
    """One node of a type."""
    zones = tuple(
        replace(zone, memory=zone.memory - 4096 * (index * 7919 % 1009 + place) if zone.memory else zone.memory)
        for place, zone in enumerate(machine.numa_nodes)
    )
    return replace(machine, name=f"node-{index:05}", numa_nodes=zones)


# The client.


def whole(answer: bytes) -> bool:
    """Whether all of an HTTP answer with a body of JSON is there, by its length or by the last of its chunks."""
    head = answer.find(b"\r\n\r\n")
    at = answer.find(b"Content-Length: ", 0, max(head, 0))
    if at < 0:
        return head >= 0 and answer.endswith(b"\r\n0\r\n\r\n")  # which no JSON holds: in there a line ends without \r
    return len(answer) >= head + 4 + int(answer[at + 16 : answer.find(b"\r", at)])


class _Connection(asyncio.Protocol):
    """Sends requests one after the other and reads no more of the answers than where they end."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._going = False
        self.answered = 0
        self.failure: str = ""
        self.idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def start(self) -> None:
        """Send the first request."""
        self._going = True
        self._send()

    def stop(self) -> None:
        """Send no more; ``idle`` is done when the last answer is there."""
        self._going = False

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not whole(self._buffer):
            return
        if not self._buffer.startswith(b"HTTP/1.1 200 "):
            self.failure = self._buffer[:400].decode(errors="replace")
        self._buffer = b""
        self.answered += 1
        if self._going and not self.failure:
            self._send()
        elif not self.idle.done():
            self.idle.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.idle.done():
            self.failure = self.failure or f"the connection was lost: {exc}"
            self.idle.set_result(None)


async def turns(
    servers: Sequence[Server], trust: ssl.SSLContext, bodies: Sequence[bytes], clients: int, rounds: int
) -> list[list[Round]]:
    """Each server's rounds, which take turns; the first ones warm up and are not counted."""
    found: list[list[Round]] = [[] for _ in servers]
    requests = _requests(bodies)
    end = perf_counter() + LONGEST_SECONDS
    for number in range(rounds + 1):
        for server, counted in zip(servers, found, strict=True):
            stream = (requests[sent % len(requests)] for sent in server.sent)
            turn = await _ask(server, trust, stream, clients)
            if number:
                counted.append(turn)
        if number >= 2 and perf_counter() > end:
            break
    return found


def _requests(bodies: Sequence[bytes]) -> Sequence[bytes]:
    return [
        b"POST /mutate?timeout=10s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies
    ]


async def _ask(server: Server, trust: ssl.SSLContext, requests: Iterator[bytes], clients: int) -> Round:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Connection(requests), "127.0.0.1", server.port, ssl=trust)
        for _ in range(clients)
    ]
    connections = [connection for _, connection in made]
    used, began = server.processor_seconds(), perf_counter()
    for connection in connections:
        connection.start()
    await asyncio.sleep(ROUND_SECONDS)
    for connection in connections:
        connection.stop()
    await asyncio.gather(*(connection.idle for connection in connections))
    spent, used = perf_counter() - began, server.processor_seconds() - used
    for connection in connections:
        connection.close()
        if connection.failure:
            raise RuntimeError(f"the server did not answer as it should: {connection.failure}")
    answers = sum(connection.answered for connection in connections)
    return Round(answers / spent, answers / used)
