"""Reviews, from body bytes to response bytes, against a webhook that follows a small cluster; no socket between.

An input is a line and a body. The line says the path, and whether the body is sound by its making: then it has to be
answered as a review.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from zlib import crc32

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enforcer.runtime import Sandbox
from enforcer.trust import believe
from shared import catalogue
from shared.seal import KeyRing, SigningKey
from tests.fuzz.grammar import NAMESPACES, sound
from tests.fuzz.mutation import mutated
from tests.fuzz.replies import Json, Placing, Reader
from tests.fuzz.target import Target, WrongError, resident
from webhook.admission import Court
from webhook.app import Webhook
from webhook.certs import placeholder, utc_now
from webhook.following import View
from webhook.nodes import Fleet
from webhook.policy import Rules
from webhook.settings import Settings
from webhook.verdict import Bench

KEY = Ed25519PrivateKey.from_private_bytes(b"fuzz" * 8)
KEYS = KeyRing.of([KEY.public_key().public_bytes_raw()])

LABELS: dict[str, dict[str, str]] = {
    "strict": {"enforce": "single-numa-node"},
    "loose": {"enforce": "best-effort", "audit": "single-numa-node"},
    "spread": {"enforce": "restricted", "scope": "container"},
    "warned": {"warn": "single-numa-node"},
    "audited": {"audit": "restricted"},
    "shares": {"enforce": "single-numa-node", "max-sidecar-share": "20", "smt": "share", "isolation": "partition"},
    "ranged": {"warn": "restricted"},
    "typo": {"enforce": "Strict", "smt": "half"},
    "plain": {},
}
"""The namespaces' labels of ours, without their prefix."""

PLACINGS = {
    "strict": Placing("single-numa-node"),
    "loose": Placing("best-effort"),
    "spread": Placing("restricted", scope="container"),
    "warned": Placing("best-effort", enforced=False),
    "shares": Placing("single-numa-node", smt="share", isolation="partition"),
    "ranged": Placing("best-effort", enforced=False),
    "typo": Placing("single-numa-node"),
    "?": Placing("none"),
}
"""What pods of each are to be told."""

NODES: dict[str, tuple[str, Json, list[Json]]] = {
    "node-a": ("azure-nd96isr-h100-v5", {"zone": "a", "cores": "96"}, []),
    "node-b": ("gcp-c3-highcpu-176", {"zone": "b", "disk": "fast"}, []),
    "node-c": ("epyc9654-2s-nps4", {"zone": "b"}, [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]),
}
"""Machine, labels and taints."""

PATHS = ("/mutate", "/mutate", "/mutate?timeout=10s", "/validate", "/validate/switch-off-by/x?timeout=30s")
TOO_LATE = "/mutate?timeout=0s"
SHARE_OF_SOUND = 0.75
PATIENCE = Settings(longest_decision=60.0, longest_introduction=0.0)
"""Nothing is cut short, so that the same bytes have the same reply however busy the machine is; and nothing waits."""


def cluster() -> View:
    """A cluster as its watches have told of it."""
    view = View(Rules(usernames=frozenset({"exempt"}), runtime_classes=frozenset({"exempt"})))
    for pulse in view.pulses.values():
        pulse.synced = True
    for name in NAMESPACES[:-1]:
        labels = {f"armistice.dev/{key}": text for key, text in LABELS.get(name, {}).items()}
        view.namespaces.put({"metadata": {"name": name, "labels": labels}}, 1)
    limits = [{"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}}]
    view.limit_ranges.put({"metadata": {"name": "all", "namespace": "ranged"}, "spec": {"limits": limits}}, 1)
    for name, (_, labels, taints) in NODES.items():
        view.nodes.put({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}, 1)
    return view


def court(view: View) -> Court:
    """What its reviews are held against."""
    machines = [replace(catalogue.machine(machine), name=name) for name, (machine, _, _) in NODES.items()]
    nodes, _ = view.nodes_and_machines()
    key = SigningKey(KEY)
    rules = Rules(usernames=frozenset({"exempt"}), runtime_classes=frozenset({"exempt"}))
    return Court(view, Bench(Fleet.of(nodes, machines)), key, KEYS, rules=rules)


def room(*machines: str) -> dict[str, int]:
    """The most that a NUMA node of any of them has."""
    nodes = [node for name in machines for node in catalogue.machine(name).numa_nodes]
    return {"cpu": max(1000 * len(node.cpus) for node in nodes), "memory": max(node.memory or 0 for node in nodes)}


class Called:
    """A webhook that is called, not sent to."""

    def __init__(self) -> None:
        sitting = court(cluster())
        self._webhook = Webhook(PATIENCE, lambda: sitting, placeholder(["x"], utc_now()))

    def __call__(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the reply."""
        response = _run(self._webhook.serve(cast(web.BaseRequest, _posted(path, body))))
        return response.status, cast(bytes, response.body)


def _posted(path: str, body: bytes) -> SimpleNamespace:
    """What the webhook asks of aiohttp about a request whose body came along with its head."""
    path, _, query = path.partition("?")
    return SimpleNamespace(
        method="POST",
        path=path,
        headers={"Content-Type": "application/json"},
        content_length=len(body),
        content=SimpleNamespace(is_eof=lambda: True, read_nowait=lambda: body),
        rel_url=SimpleNamespace(raw_query_string=query),
    )


def _run(story: Coroutine[Any, Any, web.Response]) -> web.Response:
    """Such a request is answered without a pause; one that waits after all is a fault of its own."""
    try:
        story.send(None)
    except StopIteration as end:
        return cast(web.Response, end.value)
    story.close()
    raise WrongError("a review that waits")


def make(rng: Random) -> bytes:
    """An input: sound, or with something wrong."""
    path, content = rng.choice(PATHS) if rng.random() < 0.995 else TOO_LATE, sound(rng)
    if rng.random() < SHARE_OF_SOUND:
        return f"{path} sound\n".encode() + json.dumps(content, ensure_ascii=rng.random() < 0.5).encode()
    return f"{path} mutated\n".encode() + mutated(rng, content)


def taken_apart(data: bytes) -> tuple[str, bool, bytes]:
    """Path, soundness and body of an input."""
    head, _, body = data.partition(b"\n")
    path, _, word = head.decode().partition(" ")
    return path, word == "sound", body


class Session:
    """Two webhooks that know the same: one gets everything, the other now and then a review, cold."""

    def __init__(self) -> None:
        self._warm, self._cold = Called(), Called()
        machines = (machine for machine, _, _ in NODES.values())
        self._reader = Reader(KEY.public_key(), room(*machines), PLACINGS, exempt="exempt")

    make = staticmethod(make)
    memory = staticmethod(resident)

    def look(self, data: bytes) -> tuple[str]:
        """Answered, answered again, and where it was patched, asked about once more with the patch in it."""
        path, is_sound, body = taken_apart(data)
        status, answer = self._warm(path, body)
        outcome, patched = self._reader.read(path, is_sound, body, status, answer)
        if self._warm(path, body) != (status, answer):
            raise WrongError("another reply to the same bytes")
        draw = crc32(body)
        if draw % 16 == 0 and self._cold(path, body) != (status, answer):
            raise WrongError("another reply from a webhook that was asked less before")
        if patched is not None and json.loads(body)["request"]["operation"] == "CREATE":
            _taken_by_the_node(body, patched)
            if draw % 4 == 1:
                self._asked_again(body, patched, is_sound)
        return (outcome,)

    def _asked_again(self, body: bytes, patched: Json, is_sound: bool) -> None:
        """A new pod as the API server goes on with it: mutated once more, then validated."""
        review = json.loads(body)
        review["request"]["object"] = patched
        for path in ("/mutate", "/validate"):
            if path == "/validate" and not patched["metadata"].get("name"):
                patched["metadata"]["name"] = f"{patched['metadata']['generateName'][:58]}abcde"
            again = json.dumps(review).encode()
            status, answer = self._warm(path, again)
            outcome, more = self._reader.read(path, is_sound, again, status, answer)
            if "denied" in outcome or more is not None:
                raise WrongError(f"its own patch is not taken: {path} says {answer[:400]!r}")


def _taken_by_the_node(body: bytes, pod: Json) -> None:
    """What admission seals the node believes, once the pod has its name."""
    meta = pod["metadata"]
    name = meta.get("name") or f"{meta['generateName'][:58]}abcde"
    namespace = json.loads(body)["request"].get("namespace") or "default"
    belief = believe(Sandbox("box", "uid", namespace, name, meta["annotations"]), KEYS)
    if belief.doubt:
        raise WrongError(f"the node does not believe it: {belief.doubt}")


@contextmanager
def _open() -> Iterator[Session]:
    log = logging.getLogger("armistice")
    level = log.level
    log.setLevel(logging.CRITICAL)  # a fault is in the reply, too
    try:
        yield Session()
    finally:
        log.setLevel(level)


TARGET = Target("reviews", _open, runs=5_000, full=1_000_000, seconds=5.0)
