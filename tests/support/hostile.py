"""AdmissionReviews that went wrong in every way that a random generator finds, and a client that keeps count."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.support.reviews import container, generated, pod, review, sharing, workload

SLOWEST = 10.0
"""Seconds after which a caller was left hanging: the API server's default timeout. That an answer takes less than one
on idle cores is the benchmark's business, which prints the slowest; beside a virtual machine the clock says little."""

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**63), 10**30, 1.5, 1e308, "", "x", "\u0000", "é" * 300, [], {}, [[]],
    "1e999", "9" * 300, "-1", "100m", {"a": {"b": {}}}, ["x"] * 50, "\x1b[2J",
    "{}", "null", "CREATE", "UPDATE", "DELETE", "Pod",
)  # fmt: skip


def seeds() -> list[dict[str, Any]]:
    """Reviews that are well."""
    plain = pod(container(), sharing("istio-proxy"), annotations={"a/b": "c"}, labels={"app": "web"})
    full = pod(container("a", cpu="60", memory="2Ti"), container("istio-proxy", cpu="10"))
    full["spec"]["initContainers"] = [container("init", cpu="1"), container("side", restartPolicy="Always")]
    full["spec"]["resources"] = {"requests": {"cpu": "80", "memory": "3Ti"}, "limits": {"cpu": "80"}}
    full["spec"]["overhead"] = {"cpu": "250m", "memory": "120Mi"}
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}
    full["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    full["spec"]["nodeSelector"] = {"disk": "fast"}
    full["spec"]["tolerations"] = [{"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo", "labels": {"a": "b"}}}
    return [
        review(plain),
        review(full),
        review(generated()),
        review(workload("Deployment", "apps/v1", plain)),
        review(workload("CronJob", "batch/v1", full), "UPDATE", oldObject=workload("CronJob", "batch/v1", plain)),
        review(full, "UPDATE", subResource="resize", oldObject=plain),
        review(plain, "UPDATE", oldObject=plain),
        review(namespace),
        review(None, "DELETE", oldObject=plain),
    ]


def mutated(rng: random.Random, reviews: list[dict[str, Any]]) -> bytes:
    """One review with one to four things wrong."""
    content = deepcopy(rng.choice(reviews))
    for _ in range(rng.randint(0, 3)):
        rng.choice(VALUES)(rng, content)
    body = json.dumps(content, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")
    return rng.choice(BYTES)(rng, body) if rng.random() < 0.6 else body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document with every key or index of it."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here))
        for key in keys:
            yield here, key
            if isinstance(here[key], dict | list):
                waiting.append(here[key])


def _swap(rng: random.Random, content: Any) -> None:
    here, key = rng.choice(list(_places(content)))
    here[key] = deepcopy(rng.choice(ODD_VALUES))


def _remove(rng: random.Random, content: Any) -> None:
    here, key = rng.choice(list(_places(content)))
    del here[key]


def _repeat(rng: random.Random, content: Any) -> None:
    lists = [(here[key]) for here, key in _places(content) if isinstance(here[key], list) and here[key]]
    if lists:
        found = rng.choice(lists)
        found.extend(deepcopy(found[0]) for _ in range(rng.choice((1, 20, 600))))


def _nest(rng: random.Random, content: Any) -> None:
    here, key = rng.choice(list(_places(content)))
    for _ in range(rng.choice((3, 60, 200))):
        here[key] = rng.choice(({"a": here[key]}, [here[key]]))


def _move(rng: random.Random, content: Any) -> None:
    places = list(_places(content))
    (here, key), (there, other) = rng.choice(places), rng.choice(places)
    here[key] = deepcopy(there[other])


def _careful(change: Callable[[random.Random, Any], None]) -> Callable[[random.Random, Any], None]:
    def changed(rng: random.Random, content: Any) -> None:
        if any(_places(content)):
            change(rng, content)

    return changed


VALUES = tuple(_careful(change) for change in (_swap, _swap, _remove, _repeat, _nest, _move))


def _cut(rng: random.Random, body: bytes) -> bytes:
    return body[: rng.randrange(len(body))]


def _flip(rng: random.Random, body: bytes) -> bytes:
    place = rng.randrange(len(body))
    return body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]


def _bad_utf8(rng: random.Random, body: bytes) -> bytes:
    place = rng.randrange(len(body))
    return body[:place] + rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80")) + body[place:]


def _huge_number(rng: random.Random, body: bytes) -> bytes:
    number = rng.choice((b"1e999", b"-1e999", b"9" * 5000, b"0." + b"0" * 900 + b"1", b"1e-999999"))
    place = rng.choice([i for i, byte in enumerate(body) if byte in b":,["]) + 1
    return body[:place] + number + rng.choice((b"", b",")) + body[place:]


def _brackets(rng: random.Random, body: bytes) -> bytes:
    return body.replace(b"{", rng.choice((b"[", b"{")) * rng.choice((2, 2000, 20_000)), rng.choice((1, 3)))


def _nothing(rng: random.Random, body: bytes) -> bytes:
    return rng.choice((b"", b"null", b"0", b'"', b"{}", b"[]", b"\x00", b"\xef\xbb\xbf" + body, body + body))


BYTES = (_cut, _flip, _flip, _bad_utf8, _huge_number, _brackets, _nothing)


@dataclass
class Count:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add(self, body: bytes, status: int, answer: bytes, seconds: float) -> None:
        """One answer, and whatever is wrong with it."""
        self.statuses[status] += 1
        self.slowest = max(self.slowest, seconds)
        fault = _fault(body, status, answer)
        if seconds > SLOWEST:
            fault = f"took {seconds:.2f} s"
        if fault and len(self.wrong) < 10:
            self.wrong.append(f"{fault}: {body[:300]!r} -> {status} {answer[:300]!r}")


def _fault(body: bytes, status: int, answer: bytes) -> str:
    if status == 400:
        text = answer.decode()
        return "" if text.endswith("\n") and text.count("\n") == 1 and 10 < len(text) < 500 else "no sentence"
    if status != 200:
        return "neither a review nor a 400"
    content = json.loads(answer)
    response = content["response"]
    if (content["apiVersion"], content["kind"]) != ("admission.k8s.io/v1", "AdmissionReview"):
        return "no review"
    try:
        uid = json.loads(body)["request"]["uid"]
    except ValueError:
        uid = response["uid"]  # what only we can read: a number beyond a float, odd bytes in a part that is skipped
    if response["uid"] != uid or not isinstance(response["allowed"], bool):
        return "another uid, or no answer"
    if not response["allowed"] and not response["status"]["message"]:
        return "a denial without a reason"
    return "" if ("patch" in response) == ("patchType" in response) else "half a patch"


async def bombard(port: int, trust: ssl.SSLContext, seed: int, times: int, connections: int = 4) -> Count:
    """Send so many mutated reviews over some connections, and count what comes back."""
    count = Count()
    reviews = seeds()
    await asyncio.gather(
        *(
            _stream(port, trust, random.Random(seed * 1000 + number), times // connections, reviews, count)
            for number in range(connections)
        )
    )
    return count


async def _stream(
    port: int, trust: ssl.SSLContext, rng: random.Random, times: int, reviews: list[dict[str, Any]], count: Count
) -> None:
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    for _ in range(times):
        if reader is None or writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
        body = mutated(rng, reviews)
        path = rng.choice(("/mutate", "/validate", "/mutate?timeout=10s", "/validate?timeout=x"))
        began = time.monotonic()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status, answer, close = await _answer(reader)
        count.add(body, status, answer, time.monotonic() - began)
        if close:
            await _closed(writer)
            reader = writer = None
    if writer is not None:
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().lower()
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    answer = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), answer, headers.get("connection") == "close"
