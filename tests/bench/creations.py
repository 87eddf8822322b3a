"""Pods created at a real API server, one namespace after the other, over and over: how long each creation took.

A process of its own inside of a run's network namespace, started by ``create``. So many clients each send the next pod
as soon as their last one is answered; between two turns every pod is deleted again. What webhooks had to do with it is
read from the API server's own metrics. A line of JSON for each turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import quantiles

import aiohttp

from e2e.lab.load import BATCH, Load, Report

WARM_UP = 40
"""Pods of each turn before the first one that counts."""

SETTLE = 0.3
"""Seconds after a deletion: what the controllers make of it is not to be in the next turn."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of the pods of one namespace with so many clients."""

    clients: int
    namespace: str
    p50: float
    """Milliseconds; half of the creations took no longer."""
    p99: float
    """The same of 99 in 100."""
    sealed: int
    """Pods with an intent."""
    calls: Mapping[str, float]
    """Mean milliseconds of the calls to a webhook, by the API server's word for their type: ``admit`` where it may
    change the pod, ``validating`` where not."""


Observed = Mapping[str, tuple[float, float]]
"""By type: how often webhooks were called so far, and the seconds that it took in all."""

_OBSERVED = re.compile(
    r'^apiserver_admission_webhook_admission_duration_seconds_(count|sum){[^}]*\btype="(\w+)"[^}]*} (\S+)$',
    re.MULTILINE,
)


def observed(metrics: str) -> Observed:
    """Of all webhooks, from what the API server serves at ``/metrics``."""
    found: dict[str, dict[str, float]] = {}
    for what, kind, value in _OBSERVED.findall(metrics):
        so_far = found.setdefault(kind, {"count": 0.0, "sum": 0.0})
        so_far[what] += float(value)
    return {kind: (each["count"], each["sum"]) for kind, each in found.items()}


def turn(clients: int, namespace: str, report: Report, before: Observed, after: Observed) -> Turn:
    """A load's figures. Raises RuntimeError where that is not what is to be measured: a pod was refused or had to be
    asked for again, or a webhook was not called once for each."""
    if bad := (*report.refused, *report.tried_again):
        raise RuntimeError(f"{len(bad)} of the pods in {namespace} were not simply stored; the first: {bad[0].text}")
    calls = {}
    for kind, (count, seconds) in after.items():
        earlier, spent = before.get(kind, (0.0, 0.0))
        if count == earlier:
            continue
        if count - earlier != len(report.made):
            raise RuntimeError(f"{count - earlier:.0f} calls ({kind}) for {len(report.made)} pods in {namespace}")
        calls[kind] = 1000 * (seconds - spent) / (count - earlier)
    hundredths = quantiles((1000 * made.seconds for made in report.made), n=100, method="inclusive")
    sealed = sum(bool(made.intent) for made in report.made)
    return Turn(clients, namespace, hundredths[49], hundredths[98], sealed, calls)


def by_round(lines: Sequence[str], cases: int) -> Iterator[tuple[Turn, ...]]:
    """The turns in the order in which they were taken, those of one round and one number of clients together."""
    turns = [Turn(**json.loads(line)) for line in lines]
    for _, group in groupby(enumerate(turns), lambda each: each[0] // cases):
        yield tuple(each for _, each in group)


async def take_turns(session: aiohttp.ClientSession, given: argparse.Namespace) -> None:
    """Every namespace with every number of clients; first for warming up, then the rounds."""
    end = time.monotonic() + given.seconds
    for number in range(given.rounds + 1):
        if number >= 2 and time.monotonic() > end:
            return
        for clients in map(int, given.clients.split(",")):
            for namespace in given.namespaces.split(","):
                pods = given.pods if number else WARM_UP
                before = await _observed(session)
                report = await Load(session, [namespace], pods, Path("/"), math.inf, clients).run()
                taken = turn(clients, namespace, report, before, await _observed(session))
                await clear(session, namespace)
                if number:
                    print(json.dumps(asdict(taken)), flush=True)


async def _observed(session: aiohttp.ClientSession) -> Observed:
    async with session.get("/metrics") as response:
        response.raise_for_status()
        return observed(await response.text())


async def clear(session: aiohttp.ClientSession, namespace: str) -> None:
    """Delete every pod of a namespace, and wait until they have gone: their names are used again."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    async with session.delete(path) as response:
        response.raise_for_status()
    left = True
    while left:
        await asyncio.sleep(SETTLE)
        async with session.get(f"{path}?limit=1") as response:
            left = bool((await response.json())["items"])


async def run(given: argparse.Namespace) -> None:
    """With connections that are kept."""
    trust = ssl.create_default_context(cafile=given.ca)
    trust.load_cert_chain(given.cert, given.key)
    connector = aiohttp.TCPConnector(limit=0, ssl=trust)
    async with aiohttp.ClientSession(given.server, connector=connector) as session:
        await take_turns(session, given)


def main() -> None:
    """Take the turns that the command line asks for."""
    parser = argparse.ArgumentParser()
    for name in ("server", "ca", "cert", "key", "namespaces", "clients"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("pods", "rounds", "seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    if given.pods >= BATCH:
        sys.exit(f"{given.pods} pods a turn: from {BATCH} on the load deletes pods while it measures")
    asyncio.run(run(given))


if __name__ == "__main__":
    main()
