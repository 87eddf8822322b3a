"""Our webhook beside those that a cluster would run in its place: the same reviews over the same TLS, one core each.

Servers, client and turns are those of ``admission``. Before anything is measured each server is asked once, and has to
answer that very review, allow it, and show that it did its work: an error path is never what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import pytest

from e2e.lab.errors import LabError
from shared.seal import ANNOTATION
from tests.bench import peer_webhooks
from tests.bench.admission import (
    BY_PROCESSOR,
    CLIENTS,
    NODES,
    PODS,
    REPLICAS,
    Round,
    Server,
    echo_command,
    nodes_file,
    ratios,
    server,
    turns,
    webhook_command,
)
from tests.bench.report import Figure
from tests.bench.reviews import TEAMS, replicas, reviews
from tests.support.cluster import NAMESPACES, Asked, Cluster, Manifest, namespace
from webhook.certs import SelfMade, utc_now

OURS, PEERS = "armistice", ("pod-security-admission", "resource-annotator")

PROVED_WITHIN = 30.0
"""Seconds until a server that listens answers as it should; measured below 1."""


def measure(quick: bool) -> Iterator[Figure]:
    """Answers a second of each, and the ratios of ours to the peers'."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("it takes two cores, one for the server and one for the client")
    new = reviews(PODS)
    streams = {"replicas": replicas(new[: PODS // REPLICAS], REPLICAS), "new pods": new}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        own = SelfMade(Path(folder), ["localhost", "127.0.0.1"], utc_now())
        trust = ssl.create_default_context(cafile=str(own.ca))
        try:
            contenders = _contenders(Path(folder), own, stack.enter_context(_api_server(Path(folder))))
        except LabError as error:
            pytest.skip(str(error))
        os.sched_setaffinity(0, cores[1:2])
        stack.callback(os.sched_setaffinity, 0, cores)
        servers = [stack.enter_context(server(each.command, cores[0], each.env, each.port)) for each in contenders]
        for each, process in zip(contenders, servers, strict=True):
            _prove(each, process, trust, new[0])
        for stream, bodies in streams.items():
            for clients in CLIENTS:
                who = f"{stream}, {clients} client{'s' if clients > 1 else ''}"
                taken = asyncio.run(turns(servers, trust, bodies, clients, 2 if quick else 6))
                yield from _figures(who, {each.name: found for each, found in zip(contenders, taken, strict=True)})


def _figures(who: str, found: Mapping[str, Sequence[Round]]) -> Iterator[Figure]:
    for name, rounds in found.items():
        busy = median(each.by_clock / each.by_processor for each in rounds)
        rates = tuple(each.by_clock for each in rounds)
        yield Figure("webhooks", f"{who}: {name}", "per s", rates, note=f"its core {busy:.0%} busy")
        yield Figure(
            "webhooks", f"{who}: {name}", "per s", tuple(each.by_processor for each in rounds), note=BY_PROCESSOR
        )
    for peer in PEERS:
        yield from ratios("webhooks", f"{who}: {OURS} to {peer}", found[peer], found[OURS])


# Who is measured.


Proof = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
"""Whether the second AdmissionReview is the first one's answer, of a server that did its work."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One server."""

    name: str
    command: Sequence[str]
    did: Proof
    env: Mapping[str, str] | None = None
    port: int | None = None
    """Where it is told to listen; None for one that says it."""


def _contenders(folder: Path, own: SelfMade, kubeconfig: Path) -> list[Contender]:
    doors = [_free_port() for _ in PEERS]
    pod_security = peer_webhooks.pod_security(folder, own.cert, own.key, doors[0], kubeconfig)
    annotator = peer_webhooks.annotator(own.cert, own.key, doors[1])
    env = peer_webhooks.POD_SECURITY_ENVIRONMENT
    return [
        Contender("echo", echo_command(own), echoes),
        Contender(OURS, webhook_command(own, nodes_file(folder, NODES[0])), writes(ANNOTATION)),
        Contender(PEERS[0], pod_security, warns, env, doors[0]),
        Contender(PEERS[1], annotator, writes(peer_webhooks.ANNOTATION), None, doors[1]),
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


@contextmanager
def _api_server(folder: Path) -> Iterator[Path]:
    """A stand-in API server that has the namespaces of the reviews, in a thread; its kubeconfig.

    It is idle while reviews are measured: its one client lists once and then waits for what never happens.
    """
    stand_in, loop = _Namespaces(), asyncio.new_event_loop()
    stand_in.put(NAMESPACES, *(namespace(f"team-{number}") for number in range(TEAMS)))
    thread = Thread(target=loop.run_forever, name="api-server")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(stand_in.start(), loop).result()
        yield stand_in.write_kubeconfig(folder / "kubeconfig")
        asyncio.run_coroutine_threadsafe(stand_in.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Namespaces(Cluster):
    def page(self, asked: Asked) -> Manifest:
        """All of a list at once, of the kind that a client in Go asks for."""
        head = {"kind": "NamespaceList", "apiVersion": "v1", "metadata": {"resourceVersion": str(self.version)}}
        return {**head, "items": list(self.shelves[asked.path].objects.values())}


# The proof.


def echoes(asked: Mapping[str, Any], answered: Mapping[str, Any]) -> bool:
    """The same back."""
    return answered == asked


def allows(asked: Mapping[str, Any], answered: Mapping[str, Any]) -> bool:
    """An answer to this very review that allows."""
    response = answered.get("response") or {}
    ours = answered.get("kind") == asked["kind"] and answered.get("apiVersion") == asked["apiVersion"]
    return ours and response.get("uid") == asked["request"]["uid"] and response.get("allowed") is True


def warns(asked: Mapping[str, Any], answered: Mapping[str, Any]) -> bool:
    """Allowed, with a warning of Pod Security Admission."""
    warnings = (answered.get("response") or {}).get("warnings") or ()
    return allows(asked, answered) and any(each.startswith(peer_webhooks.WARNING) for each in warnings)


def writes(annotation: str) -> Proof:
    """Allowed, with a patch that writes the annotation."""
    path = f"/metadata/annotations/{annotation.replace('/', '~1')}"

    def proof(asked: Mapping[str, Any], answered: Mapping[str, Any]) -> bool:
        patch = (answered.get("response") or {}).get("patch") or ""
        steps = json.loads(base64.b64decode(patch) or "[]")
        return allows(asked, answered) and any(step["path"] == path for step in steps)

    return proof


def _prove(contender: Contender, process: Server, trust: ssl.SSLContext, body: bytes) -> None:
    """Ask until the answer is what it should be: who follows namespaces has to know them first."""
    end = time.monotonic() + PROVED_WITHIN
    while not contender.did(json.loads(body), json.loads((answer := _answer(process, trust, body)) or b"{}")):
        if time.monotonic() > end:
            raise RuntimeError(f"{contender.name} does not do its work, but answers {answer.decode()[-600:]}")
        time.sleep(0.1)


def _answer(process: Server, trust: ssl.SSLContext, body: bytes) -> bytes:
    connection = HTTPSConnection("localhost", process.port, context=trust)
    try:
        connection.request("POST", "/mutate?timeout=10s", body, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()
