"""The process that follows a large cluster: how long until it is ready, what it holds, and what a storm of changes does
to admissions.

The stand-in API server and the client share one core, the webhook has another. Latencies are of one client that sends a
review, waits for the answer, and rests; by turns while the cluster is quiet, while its nodes send signs of life, and
while their labels change so fast that a new fleet is always due.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from urllib.error import HTTPError

import pytest

from tests.bench.admission import Server, server
from tests.bench.report import Figure, Target
from tests.bench.reviews import replicas, reviews
from webhook.certs import SelfMade, utc_now

NODES, NAMESPACES = 5_000, 20_000

LIMIT_MEMORY, LIMIT_READY = 192.0, 60.0
"""Targets: MiB resident; seconds from the start until it is ready."""

WEATHER = (
    ("while all is quiet", "quiet"),
    ("at 500 signs of life a second", "beats 500"),
    ("at 50 changes of nodes a second", "changes 50"),
)
RESTS = 0.004
"""Seconds between an answer and the next request."""


def measure(quick: bool) -> Iterator[Figure]:
    """One process that follows, and one that follows a cluster of nothing."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("it takes two cores, one for the webhook and one for the API server and the client")
    os.sched_setaffinity(0, cores[1:2])
    try:
        empty = [_begin(0, 0, cores[0]) for _ in range(1)]
        lives = [_begin(NODES, NAMESPACES, cores[0], 2.0 if quick else 10.0) for _ in range(1 if quick else 3)]
    finally:
        os.sched_setaffinity(0, cores)
    who = f"{NODES:,} nodes and {NAMESPACES:,} namespaces"

    def figure(what: str, unit: str, values: Sequence[float], limit: float | None = None, note: str = "") -> Figure:
        return Figure("cluster", what, unit, tuple(values), None if limit is None else Target(limit), note)

    yield figure("start until ready with nothing", "s", [each.ready for each in empty])
    yield figure(f"start until ready with {who}", "s", [each.ready for each in lives], LIMIT_READY)
    yield figure("processor time for that", "s", [each.processor for each in lives])
    yield figure("resident memory with nothing", "MiB", [each.memory for each in empty])
    yield figure(f"resident memory with {who}", "MiB", [each.memory for each in lives], LIMIT_MEMORY)
    yield figure("most resident memory on the way there", "MiB", [each.most for each in lives])
    for what, _ in WEATHER:
        waits = [each.waits[what] for each in lives]
        yield figure(f"a review {what}, median", "ms", [1000 * each[49] for each in waits])
        yield figure(f"a review {what}, 99th percentile", "ms", [1000 * each[98] for each in waits])
        yield figure(f"processor time {what}", "ms per s", [1000 * each.shares[what] for each in lives])


@dataclass(frozen=True, slots=True)
class Life:
    """One process's figures, in seconds and MiB."""

    ready: float
    processor: float
    memory: float
    most: float
    waits: dict[str, list[float]]
    """Percentiles of a review's time, by weather."""
    shares: dict[str, float]
    """Processor seconds a second, the reviews' own included."""


def _begin(nodes: int, namespaces: int, core: int, seconds: float = 0.0) -> Life:
    with tempfile.TemporaryDirectory() as scratch, apiserver(nodes, namespaces, Path(scratch)) as api:
        folder = Path(scratch)
        own = SelfMade(folder, ["localhost", "127.0.0.1"], utc_now())
        trust = ssl.create_default_context(cafile=str(own.ca))
        began = perf_counter()
        with following(own, folder, core) as process:
            wait_ready(process, trust)
            ready, processor = perf_counter() - began, process.processor_seconds()
            time.sleep(2)
            memory, most = memory_of(process.pid)
            waits, shares = {}, {}
            for what, command_line in WEATHER if seconds else ():
                say(api, command_line)
                time.sleep(1)
                used = process.processor_seconds()
                waits[what], spent = _waits(process, trust, seconds)
                shares[what] = (process.processor_seconds() - used) / spent
            return Life(ready, processor, memory, most, waits, shares)


@contextmanager
def apiserver(nodes: int, namespaces: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The stand-in with so much in it; its kubeconfig is in the folder."""
    command = [sys.executable, "-m", "tests.bench.apiserver", str(nodes), str(namespaces), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def following(own: SelfMade, folder: Path, core: int) -> AbstractContextManager[Server]:
    """The webhook that follows the cluster of the kubeconfig in the folder; it may not be ready yet."""
    command = [sys.executable, "-m", "webhook.command", "webhook", "--port", "0", "--cluster", "--policy", "none"]
    command += ["--cert", str(own.cert), "--key", str(own.key)]
    return server(command, core, {"KUBECONFIG": str(folder / "kubeconfig")})


def say(api: subprocess.Popen[str], line: str) -> None:
    """Tell it what happens from now on."""
    assert api.stdin is not None
    api.stdin.write(f"{line}\n")
    api.stdin.flush()


def wait_ready(process: Server, trust: ssl.SSLContext) -> None:
    """Until the webhook says that it may be asked."""
    while True:
        with suppress(HTTPError):
            urllib.request.urlopen(f"https://localhost:{process.port}/readyz", context=trust)
            return
        time.sleep(0.02)


def memory_of(pid: int) -> tuple[float, float]:
    """Resident now, and the most so far, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024


def _waits(process: Server, trust: ssl.SSLContext, seconds: float) -> tuple[list[float], float]:
    """Percentiles of a review's time, and how long that was measured."""
    bodies = [_in_namespace(body, number) for number, body in enumerate(replicas(reviews(256), 8))]
    connection = HTTPSConnection("localhost", process.port, context=trust)
    found: list[float] = []
    began = perf_counter()
    while perf_counter() - began < seconds:
        sent = perf_counter()
        connection.request("POST", "/mutate", bodies[len(found) % len(bodies)], {"Content-Type": "application/json"})
        connection.getresponse().read()
        found.append(perf_counter() - sent)
        time.sleep(RESTS)
    connection.close()
    return quantiles(found, n=100), perf_counter() - began


def _in_namespace(body: bytes, number: int) -> bytes:
    """The review, of a namespace that enforces."""
    content = json.loads(body)
    content["request"]["namespace"] = f"team-{number % (NAMESPACES // 10) * 10:05}"
    return json.dumps(content).encode()
