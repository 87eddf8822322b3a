"""What goes on in a cluster all day, at a modest rate: asked with ``dryRun=All``, so that every webhook is called and
nothing is stored; and beside it labels that change, namespaces that come and go, pages of metrics that are read.

1. ``ask`` makes the request of a number: replicas of a few templates, pods as nobody has seen them, Deployments, and
   every tenth of them too large for any machine; one namespace after the other enforces, warns, or does neither.
2. ``wrong`` holds what the API server said against what must be said there.
3. One more namespace enforces and does not, turn by turn; another is made, labelled and deleted; a label of a node
   changes, at which the webhook forgets what it found.
4. Of each component that serves metrics, its number of asyncio tasks is written down, and its certificates are counted.

Run by the lab as a process of its own, inside of a run's namespace, until it is told to end. It prints JSON, a line for
each reading and one at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import Any

import aiohttp

from e2e.lab.webhook import ENFORCE, WARN
from shared.seal import ANNOTATION

SINGLE = "single-numa-node"

TOO_LARGE = 400
"""CPUs that no NUMA node has; a part of one more is its sidecar's."""

TEMPLATES = 4
"""Different pods that come again and again."""

LABELS_EVERY, SPACES_EVERY, METRICS_EVERY = 20.0, 60.0, 30.0
"""Seconds."""

NODE_EVERY = 600.0
"""Seconds: long enough for the webhook to fill its memory of findings in between."""

MOST_COMPLAINTS = 20
"""That are kept with their text."""

PATIENCE = 30.0
"""Seconds for one answer."""

TASKS = re.compile(r"^armistice(?:_enforcer)?_tasks (\S+)$", re.MULTILINE)
NOT_AFTER = re.compile(r"^armistice_certificate_not_after_seconds (\S+)$", re.MULTILINE)

Manifest = dict[str, Any]


class Kind(Enum):
    """What a namespace wants."""

    ENFORCES = "enforces"
    WARNS = "warns"
    PLAIN = "plain"

    @property
    def labels(self) -> Mapping[str, str]:
        """That make it so."""
        return {Kind.ENFORCES: {ENFORCE: SINGLE}, Kind.WARNS: {WARN: SINGLE}, Kind.PLAIN: {}}[self]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    kind: Kind
    """Of the namespace that it goes to."""
    body: Manifest
    too_large: bool

    def path(self, namespace: str) -> str:
        """Where it is posted."""
        group = "api/v1" if self.body["kind"] == "Pod" else "apis/apps/v1"
        return f"/{group}/namespaces/{namespace}/{self.body['kind'].lower()}s?dryRun=All"


def ask(number: int) -> Ask:
    """The request of that number, the same in every run: of ten, five replicas, three new pods, a Deployment, and one
    that is too large."""
    turn, too_large = number % 10, number % 10 == 9
    kind = tuple(Kind)[number // 10 % len(Kind)]
    size = number // 10 % TEMPLATES
    if turn < 5:
        spec = _spec(1 + size % 3, f"{64 + 16 * size}Mi", "250m")
    else:
        spec = _spec(TOO_LARGE if too_large else 1 + number % 3, f"{65536 + number}Ki", f"{100 + number % 400}m")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"ask-{number}"}, "spec": spec}
    return Ask(kind, _deployment(pod) if turn == 8 else pod, too_large)


def _spec(cpus: int, memory: str, more: str) -> Manifest:
    """An app with CPUs of its own and a native sidecar."""
    app, side = {"cpu": str(cpus), "memory": memory}, {"cpu": more, "memory": "32Mi"}
    image = {"image": "localhost/tool:1"}
    return {
        "containers": [{"name": "app", **image, "resources": {"requests": app, "limits": app}}],
        "initContainers": [
            {"name": "side", **image, "restartPolicy": "Always", "resources": {"requests": side, "limits": side}}
        ],
    }


def _deployment(pod: Mapping[str, Any]) -> Manifest:
    labels = {"app": str(pod["metadata"]["name"])}
    template = {"metadata": {"labels": labels}, "spec": pod["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": pod["metadata"], "spec": spec}


@dataclass(frozen=True, slots=True)
class Said:
    """What the API server answered."""

    status: int
    """0 where nobody answered."""
    text: str
    warned: bool


def wrong(asked: Ask, said: Said) -> str:
    """Why that is not the answer; empty where it is."""
    refused = asked.too_large and asked.kind is Kind.ENFORCES
    if said.status != (403 if refused else 201):
        return f"{'refusal' if refused else 'success'} was due, and {said.status} came: {said.text[:500]}"
    if refused:
        return (
            ""
            if f"asks {TOO_LARGE + 1} CPUs" in said.text
            else f"the refusal does not say what was asked: {said.text[:500]}"
        )
    if said.warned != (asked.too_large and asked.kind is Kind.WARNS):
        return "a warning came" if said.warned else "no warning came"
    sealed = ANNOTATION in said.text
    if asked.body["kind"] == "Pod" and asked.kind is not Kind.WARNS and sealed != (asked.kind is Kind.ENFORCES):
        return "an intent was written" if sealed else "no intent was written"
    return ""


@dataclass(slots=True)
class Churn:
    """One run."""

    session: aiohttp.ClientSession
    namespaces: Mapping[Kind, str]
    shifting: str
    """The namespace that enforces and does not."""
    node: str
    pages: Mapping[str, str]
    """Component to the address of its metrics."""
    rate: float
    """Requests a second."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    complaints: list[str] = field(default_factory=list)
    wrongs: int = 0
    done: Counter[str] = field(default_factory=Counter)
    """What was done how often."""
    took: list[float] = field(default_factory=list)
    """Seconds of each request that was asked."""
    certificates: set[tuple[str, str]] = field(default_factory=set)
    """Component and the end of a certificate that it showed."""

    async def run(self) -> None:
        """Until it is over."""
        async with asyncio.TaskGroup() as group:
            for name, every, what in (
                ("requests", 1 / self.rate, self._ask),
                ("labels", LABELS_EVERY, self._shift),
                ("namespaces", SPACES_EVERY, self._renew_space),
                ("node", NODE_EVERY, self._label_node),
                ("metrics", METRICS_EVERY, self._read_pages),
            ):
                group.create_task(self._repeat(every, what), name=name)
        await self._must("DELETE", f"/api/v1/namespaces/{self._space(self.done['namespaces made'] - 1)}", {})

    async def _repeat(self, every: float, what: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """At moments of a clock; those that are missed are left out."""
        number, due = 0, time.monotonic()
        while not self.over.is_set():
            await what(number)
            number += 1
            due = max(due + every, time.monotonic())
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), due - time.monotonic())

    async def _ask(self, number: int) -> None:
        asked, began = ask(number), time.monotonic()
        said = await self._said("POST", asked.path(self.namespaces[asked.kind]), asked.body)
        self.took.append(time.monotonic() - began)
        self.done[f"{asked.body['kind']}s asked"] += 1
        if why := wrong(asked, said):
            self._complain(f"request {number} to the namespace that {asked.kind.value}: {why}")

    async def _shift(self, number: int) -> None:
        label = None if number % 2 else SINGLE
        await self._must("PATCH", f"/api/v1/namespaces/{self.shifting}", {"metadata": {"labels": {ENFORCE: label}}})
        self.done["labels changed"] += 1

    async def _renew_space(self, number: int) -> None:
        labels = tuple(Kind)[number % len(Kind)].labels
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._space(number), "labels": labels}}
        await self._must("POST", "/api/v1/namespaces", body)
        if number:
            await self._must("DELETE", f"/api/v1/namespaces/{self._space(number - 1)}", {})
        self.done["namespaces made"] += 1

    def _space(self, number: int) -> str:
        return f"{self.shifting}-{number}"

    async def _label_node(self, number: int) -> None:
        labels = {"lab.armistice.dev/turn": str(number)}
        await self._must("PATCH", f"/api/v1/nodes/{self.node}", {"metadata": {"labels": labels}})
        self.done["node changed"] += 1

    async def _read_pages(self, _: int) -> None:
        found: dict[str, float] = {}
        for who, url in self.pages.items():
            try:
                async with self.session.get(url, ssl=False) as response:
                    text = await response.text()
                if tasks := TASKS.search(text):
                    found[who] = float(tasks[1])
                self.certificates |= {(who, until) for until in NOT_AFTER.findall(text)}
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._complain(f"the metrics of {who} cannot be read: {type(error).__name__}: {error}")
        print(json.dumps({"at": time.time(), "tasks": found}), flush=True)

    async def _must(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        said = await self._said(method, path, body)
        if said.status not in (200, 201):
            self._complain(f"{method} {path}: {said.status} {said.text[:500]}")

    async def _said(self, method: str, path: str, body: Mapping[str, Any]) -> Said:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = json.dumps(body).encode()
        try:
            async with self.session.request(method, path, data=data, headers={"Content-Type": kind}) as response:
                return Said(response.status, await response.text(), "Warning" in response.headers)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Said(0, f"{type(error).__name__}: {error}", False)

    def _complain(self, text: str) -> None:
        self.wrongs += 1
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(text)

    def report(self) -> Mapping[str, object]:
        """What became of everything."""
        third = max(1, len(self.took) // 3)
        parts = (self.took[:third], self.took[third : 2 * third], self.took[2 * third :])
        medians = [round(1000 * median(part), 1) for part in parts if part]
        return {
            "done": self.done,
            "certificates": Counter(who for who, _ in self.certificates),
            "wrong": self.wrongs,
            "complaints": self.complaints,
            "milliseconds": medians,
        }


def main() -> None:
    """Until SIGTERM."""
    parser = argparse.ArgumentParser()
    for name in ("server", "ca", "cert", "key", "shifting", "node"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--namespace", action="append", required=True, metavar="KIND=NAME")
    parser.add_argument("--page", action="append", required=True, metavar="COMPONENT=URL")
    parser.add_argument("--rate", type=float, required=True)
    asyncio.run(_run(parser.parse_args()))


async def _run(given: argparse.Namespace) -> None:
    trust = ssl.create_default_context(cafile=given.ca)
    trust.load_cert_chain(given.cert, given.key)
    spaces = {Kind(kind): name for kind, name in _pairs(given.namespace)}
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(
        given.server, connector=aiohttp.TCPConnector(ssl=trust), timeout=timeout
    ) as session:
        churn = Churn(session, spaces, given.shifting, given.node, dict(_pairs(given.page)), given.rate)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, churn.over.set)
        await churn.run()
    print(json.dumps(churn.report()), flush=True)


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (word.partition("=") for word in words)]


if __name__ == "__main__":
    main()
