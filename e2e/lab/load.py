"""Pods created at a steady rate at a real API server, and what became of each of them.

1. Pods are due at moments of a clock, whether the ones before have been answered or not; so many connections at most.
   It goes on until so many are made and a file says that everything has happened that was to happen meanwhile.
2. Where nobody answers, the API server is away: the clock stands still, and goes on when ``/readyz`` says so. Whatever
   was under way is tried again; a pod that is there already was stored by the try whose answer was lost.
3. A refusal is final. Every failure is written down with its moment and its text.
4. Pods have a scheduling gate, never run, and are deleted by the hundred some seconds later: etcd stays small.

Run by the lab as a process of its own, inside of a run's namespace; ``Report`` is what it leaves behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from shared.seal import ANNOTATION

BATCH = 250
"""Pods that are deleted with one request, once all of them are made."""

PATIENCE = 45.0
"""Seconds for one answer: what the API server allows itself, and some more."""

LOOK_EVERY = 0.2
"""Seconds between two looks whether the API server is there again."""

MARK = "lab.armistice.dev/load"
"""Label of the pods: the number of their batch."""

AWAY = (429, 502, 503, 504)
"""Statuses of an API server that is going away or not there yet."""


@dataclass(frozen=True, slots=True)
class Made:
    """A pod that was stored."""

    namespace: str
    name: str
    at: float
    """Seconds since the start."""
    seconds: float
    """From the question to the answer."""
    late: float
    """Seconds that it was asked after it was due."""
    intent: str
    """As stored; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that was not answered with a stored pod."""

    namespace: str
    name: str
    at: float
    status: int
    """HTTP status; 0 where nobody answered."""
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of every pod."""

    seconds: float
    """Of the whole run, times without an API server included."""
    away: tuple[tuple[float, float], ...]
    """When the API server was not there, from and until."""
    made: tuple[Made, ...]
    refused: tuple[Failure, ...]
    """Pods that are not there."""
    tried_again: tuple[Failure, ...]
    """Questions that the API server, being away, did not answer; each was asked again."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """What a process has written."""
        found = json.loads(path.read_text())
        return cls(
            seconds=found["seconds"],
            away=tuple((begin, end) for begin, end in found["away"]),
            made=tuple(Made(**one) for one in found["made"]),
            refused=tuple(Failure(**one) for one in found["refused"]),
            tried_again=tuple(Failure(**one) for one in found["tried_again"]),
        )

    @property
    def rate(self) -> float:
        """Pods a second while there was an API server."""
        return len(self.made) / (self.seconds - sum(end - begin for begin, end in self.away))

    def percentile(self, share: float) -> float:
        """Milliseconds in which so large a share of the pods was stored."""
        every = sorted(one.seconds for one in self.made)
        return round(1000 * every[min(len(every) - 1, int(share * len(every)))], 1)

    def figures(self) -> str:
        """As a person reads it."""
        late = sorted(one.late for one in self.made)[int(0.99 * len(self.made))]
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        percentiles = ", ".join(f"{name} {self.percentile(share)} ms" for name, share in shares.items())
        return (
            f"{len(self.made)} pods at {self.rate:.0f}/s, {percentiles}, 99 of 100 asked at most {1000 * late:.0f} ms "
            f"late; {len(self.refused)} refused, {len(self.tried_again)} asked again"
        )


def gated(name: str, batch: int, number: int) -> dict[str, Any]:
    """A pod with CPUs of its own and a native sidecar, of one of some sizes; it waits at a gate that nobody opens."""
    app = {"cpu": str(1 + number % 3), "memory": f"{64 + 16 * (number % 5)}Mi"}
    side = {"cpu": "250m", "memory": "32Mi"}
    image = {"image": "localhost/tool:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {MARK: str(batch)}},
        "spec": {
            "schedulingGates": [{"name": "lab.armistice.dev/never"}],
            "automountServiceAccountToken": False,
            "containers": [{"name": "app", **image, "resources": {"requests": app, "limits": app}}],
            "initContainers": [
                {"name": "side", **image, "restartPolicy": "Always", "resources": {"requests": side, "limits": side}}
            ],
        },
    }


@dataclass(slots=True)
class Load:
    """One run."""

    session: aiohttp.ClientSession
    namespaces: Sequence[str]
    pods: int
    """At least."""
    until: Path
    """Go on at least until this file is there."""
    rate: float
    """Pods a second."""
    connections: int
    began: float = field(default_factory=time.monotonic)
    up: asyncio.Event = field(default_factory=asyncio.Event)
    made: list[Made] = field(default_factory=list)
    refused: list[Failure] = field(default_factory=list)
    tried_again: list[Failure] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    settled: Counter[int] = field(default_factory=Counter)
    """Pods of each batch that have been answered."""

    async def run(self) -> Report:
        """Create all of them, and delete what is whole batches of them again."""
        self.up.set()
        async with asyncio.TaskGroup() as group:
            await self._pace(group)
        return Report(self.now, tuple(self.away), tuple(self.made), tuple(self.refused), tuple(self.tried_again))

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    async def _pace(self, group: asyncio.TaskGroup) -> None:
        free, due, number = asyncio.Semaphore(self.connections), self.now, 0
        while number < self.pods or not self.until.exists():
            if not self.up.is_set():
                await self.up.wait()
                due = self.now
            await asyncio.sleep(max(0.0, due - self.now))
            await free.acquire()
            group.create_task(self._one(number, due, free))
            due += 1 / self.rate
            number += 1

    async def _one(self, number: int, due: float, free: asyncio.Semaphore) -> None:
        namespace, name, batch = self.namespaces[number % len(self.namespaces)], f"load-{number}", number // BATCH
        pod = gated(name, batch, number)
        try:
            while not await self._asked(namespace, name, pod, due):
                await self.up.wait()
                due = self.now
        finally:
            free.release()
        self.settled[batch] += 1
        if self.settled[batch] == BATCH:
            await self._sweep(batch)

    async def _asked(self, namespace: str, name: str, pod: Mapping[str, Any], due: float) -> bool:
        """Ask once; whether that is the end of it."""
        began = self.now
        path = f"/api/v1/namespaces/{namespace}/pods"
        try:
            async with self.session.post(path, json=pod) as response:
                status, text = response.status, await response.text()
            if status == 409 and "already exists" in text:
                async with self.session.get(f"{path}/{name}") as response:
                    status, text = 201, await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            status, text = 0, f"{type(error).__name__}: {error}"
        if status == 201:
            intent = (json.loads(text)["metadata"].get("annotations") or {}).get(ANNOTATION, "")
            self.made.append(Made(namespace, name, self.now, self.now - began, began - due, intent))
            return True
        failure = Failure(namespace, name, self.now, status, said(text))
        if status == 0 or (status in AWAY and "webhook" not in text):
            self.tried_again.append(failure)
            self._gone()
            return False
        self.refused.append(failure)
        return True

    def _gone(self) -> None:
        if self.up.is_set():
            self.up.clear()
            asyncio.get_running_loop().create_task(self._look(self.now), name="look")

    async def _look(self, since: float) -> None:
        """Until the API server says that it is ready, as what stands before it in a cluster would."""
        ready = False
        while not ready:
            await asyncio.sleep(LOOK_EVERY)
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with self.session.get("/readyz") as response:
                    ready = response.status == 200
        self.away.append((since, self.now))
        self.up.set()

    async def _sweep(self, batch: int) -> None:
        """Delete a batch; what is left of it goes with its namespace."""
        print(f"{self.now:6.1f} s: {len(self.made)} stored, {len(self.refused)} refused", flush=True)
        for namespace in self.namespaces:
            path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={MARK}%3D{batch}"
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with self.session.delete(path) as response:
                    await response.read()


def said(text: str) -> str:
    """The sentence in a Status, or the text as it is."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(text)["message"])[:1000]
    return text[:1000]


def main() -> None:
    """Run, and write the report."""
    parser = argparse.ArgumentParser()
    for name in ("server", "ca", "cert", "key", "namespaces", "report"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("pods", "rate", "connections"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--until", type=Path, required=True)
    given = parser.parse_args()
    report = asyncio.run(_run(given))
    unfinished = Path(f"{given.report}.unfinished")
    unfinished.write_text(json.dumps(asdict(report)), encoding="utf-8")
    unfinished.rename(given.report)


async def _run(given: argparse.Namespace) -> Report:
    trust = ssl.create_default_context(cafile=given.ca)
    trust.load_cert_chain(given.cert, given.key)
    # A deletion of a batch has a connection of its own.
    connector = aiohttp.TCPConnector(limit=given.connections + 1, ssl=trust)
    patience = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(given.server, connector=connector, timeout=patience) as session:
        spaces = given.namespaces.split(",")
        return await Load(session, spaces, given.pods, given.until, given.rate, given.connections).run()


if __name__ == "__main__":
    main()
