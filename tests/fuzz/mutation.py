"""Makes hostile bytes of sound ones: values swapped, moved, repeated and nested; bytes cut, flipped and blown up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**63), 10**30, 1.5, 1e308, "", "x", "\u0000", "é" * 300, [], {}, [[]],
    "1e999", "9" * 300, "-1", "100m", {"a": {"b": {}}}, ["x"] * 50, "\x1b[2J",
    "{}", "null", "CREATE", "UPDATE", "DELETE", "Pod",
)  # fmt: skip


def mutated(rng: random.Random, content: Any) -> bytes:
    """A JSON document with one to four things wrong. It is changed in place."""
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
        found.extend([found[0]] * (600 if rng.random() < 0.02 else rng.choice((1, 20))))


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
