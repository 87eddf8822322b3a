"""Hours of the soak in minutes: what the webhook's process holds after so many reviews, asked as fast as it answers.

The questions are those of the soak (``e2e/lab/churn``): replicas, pods as nobody has seen them, Deployments and too
large ones, in namespaces that enforce or do not, each in a review for mutation and one for validation.
Connections come and go beside those that stay; nodes change now and then, at which all that was found is forgotten. The
soak itself says what certificates, watches and a real API server add.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import jsonpatch
import pytest

from e2e.lab.churn import Kind, Manifest, ask
from tests.bench.admission import Server
from tests.bench.cluster import apiserver, following, memory_of, say, wait_ready
from tests.bench.report import Figure
from webhook.certs import SelfMade, utc_now

ASKED = 120_000
"""Questions; the soak asks a replica five a second."""

SPANS, LOOKS = 6, 10
"""Parts of the whole, and looks at the process's memory in each; a part's figure is their median."""

CONNECTIONS = 6
FRESH_EVERY = 40
"""Questions to one that comes on a connection of its own, which ends with it."""

CHANGED_EVERY = 3_000
"""Questions to one change of nodes: ten minutes of the soak."""

NAMESPACES = {Kind.ENFORCES: "team-00000", Kind.WARNS: "team-00010", Kind.PLAIN: "team-00001"}
"""Of the stand-in API server, where the one that should warn enforces, too."""

JSON = {"Content-Type": "application/json"}


def measure(quick: bool) -> Iterator[Figure]:
    """The memory of each part; a round is a look."""
    if len(cores := sorted(os.sched_getaffinity(0))) < 2:
        pytest.skip("it takes two cores, one for the webhook and one for who asks")
    asked = ASKED // 20 if quick else ASKED
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        api = stack.enter_context(apiserver(3, 20, folder))
        own = SelfMade(folder, ["localhost", "127.0.0.1"], utc_now())
        trust = ssl.create_default_context(cafile=str(own.ca))
        process = stack.enter_context(following(own, folder, cores[0]))
        wait_ready(process, trust)
        found = asyncio.run(Lapse(process, trust, api, asked).memory())
    for number, span in enumerate(found, start=1):
        reviews = f"{2 * number * asked // SPANS:,} reviews"
        yield Figure("lapse", f"resident memory until {reviews}", "MiB", span)
    grown = median(found[-1]) - median(found[SPANS // 2])
    yield Figure("lapse", f"grown over the last {2 * asked * (SPANS // 2 - 1) // SPANS:,} of them", "MiB", (grown,))


@dataclass(slots=True)
class Lapse:
    """One run."""

    process: Server
    trust: ssl.SSLContext
    api: subprocess.Popen[str]
    asked: int
    next: int = 0

    async def memory(self) -> list[tuple[float, ...]]:
        """Looks at the process's memory in MiB, by parts."""
        found: list[tuple[float, ...]] = []
        connector = aiohttp.TCPConnector(ssl=self.trust, limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as session:
            for span in range(SPANS):
                looks = []
                for look in range(1, LOOKS + 1):
                    until = self.asked * (span * LOOKS + look) // (SPANS * LOOKS)
                    await asyncio.gather(*(self._ask(session, until) for _ in range(CONNECTIONS)))
                    looks.append(memory_of(self.process.pid)[0])
                found.append(tuple(looks))
        return found

    async def _ask(self, session: aiohttp.ClientSession, until: int) -> None:
        while (number := self.next) < until:
            self.next += 1
            if number % CHANGED_EVERY == 0:
                await self._change()
            if number % FRESH_EVERY:
                await self._send(session, number)
                continue
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.trust)) as fresh:
                await self._send(fresh, number)

    async def _send(self, session: aiohttp.ClientSession, number: int) -> None:
        """Both reviews of a question, the second with what the first wrote."""
        asked = ask(number)
        refused = asked.too_large and asked.kind is not Kind.PLAIN
        space = NAMESPACES[asked.kind]
        obj = {**asked.body, "metadata": {**asked.body["metadata"], "namespace": space}}
        for path in ("mutate", "validate"):
            url = f"https://localhost:{self.process.port}/{path}"
            async with session.post(url, data=review(obj, number), headers=JSON) as reply:
                told = json.loads(await reply.read())["response"]
            assert told["allowed"] != refused, f"question {number} was answered with {told}"
            if "patch" in told:
                obj = jsonpatch.apply_patch(obj, base64.b64decode(told["patch"]))

    async def _change(self) -> None:
        """A few changes of nodes."""
        say(self.api, "changes 50")
        await asyncio.sleep(0.05)
        say(self.api, "quiet")


def review(obj: Manifest, number: int) -> bytes:
    """What an API server sends of an object that shall be made."""
    kind = {"group": "" if obj["kind"] == "Pod" else "apps", "version": "v1", "kind": obj["kind"]}
    names = {key: obj["metadata"][key] for key in ("name", "namespace")}
    uid = f"705ab4f5-6393-11e8-b7cc-{number:012x}"
    request = {"uid": uid, "kind": kind, **names, "operation": "CREATE", "object": obj, "dryRun": True}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
