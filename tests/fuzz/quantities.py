"""Quantities: ours against Kubernetes' own reading (``ParseQuantity``, ``UnmarshalJSON``), value by value and in every
word of its errors. Known to differ, and on purpose, is the cap at 2^63-1.

An input has a case on each line: ``{"text": ...}`` or ``{"json": ...}``.
"""

from __future__ import annotations

import json
from fractions import Fraction
from random import Random
from typing import Any

from shared.errors import InputError
from shared.quantity import MAX_AMOUNT, NANO, from_json, parse
from tests.fuzz.peer import compared, exact
from tests.fuzz.target import Target, WrongError

BATCH = 200
"""Cases of an input: each trip over the pipe costs as much as some ten of them."""

SUFFIXES = ("", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
WORDS = ("", "K", "ki", "mi", "i", "ee", "Em", "e", "E+", "e-", "nn", "Kii", "iK", "EiB", "b", "B", " ", "Ｋ", "µ")
DIGITS = (
    "0",
    "1",
    "9",
    "5",
    "00",
    "10",
    "999",
    "1000",
    "1024",
    "123456789",
    "9223372036854775807",
    "9223372036854775808",
)
ODD = (
    "",
    "+",
    "-",
    ".",
    "..",
    "+-1",
    "1_0",
    "0x10",
    "１",
    "٣",
    "∞",
    "NaN",
    "inf",
    "1,5",
    "\x00",
    "1\n",
    "\t1",
    "1 2",
    "é",
)
EDGES = (0, 1, -1, 9, -9, 10, -10, 18, 19, 400, -400, 2**31, -(2**31), 2**32, -(2**32), 2**63 - 1, -(2**63), 2**63)
"""Exponents at which Kubernetes' reading changes; those between a few thousand and 2^31 would keep its arithmetic busy
for minutes."""


def text(rng: Random) -> str:
    """A quantity, or what looks like one."""
    draw = rng.random()
    if draw < 0.03:
        return rng.choice(ODD) + rng.choice(("", "", "1", "Ki"))
    if draw < 0.06:
        return "".join(rng.choice("0123456789.+-eEinumkKMGTP é") for _ in range(rng.randint(0, 12)))
    sign = rng.choice(("", "", "", "", "-", "+"))
    number = sign + _digits(rng) + (f".{_digits(rng)}" if rng.random() < 0.4 else rng.choice(("", "", "", ".")))
    return number + _suffix(rng)


def _digits(rng: Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(DIGITS)
    return "".join(rng.choice("0123456789") for _ in range(min(int(rng.expovariate(0.25)), 60)))


def _suffix(rng: Random) -> str:
    draw = rng.random()
    if draw < 0.7:
        return rng.choice(SUFFIXES)
    if draw < 0.75:
        return rng.choice(WORDS)
    near = rng.choice(EDGES) + rng.randint(-2, 2) if rng.random() < 0.3 else rng.randint(-25, 25)
    if 4000 < abs(near) < 2**32 - 4000 or 2**32 + 4000 < abs(near) < 2**63 - 4000:
        near %= 20
    return rng.choice("eE") + rng.choice(("", "", "+" if near >= 0 else "")) + str(near)


def literal(rng: Random) -> str:
    """The same as JSON carries it. What JSON writes as an escape stays out: Kubernetes reads escapes as they stand."""
    draw = rng.random()
    if draw < 0.5:
        plain = "".join(char for char in text(rng) if char >= " " and char not in '"\\')
        return f'"{rng.choice(("", "", " ", chr(0xA0)))}{plain}{rng.choice(("", "", " ", chr(0x3000)))}"'
    if draw < 0.7:
        return str(rng.choice((rng.randint(-10, 10), rng.randint(-(10**20), 10**20))))
    if draw < 0.95:
        number = f"{rng.randint(0, 10 ** rng.randint(0, 7))}.{rng.randint(0, 10**7)}"
        return rng.choice(("", "-")) + number + rng.choice(("", "", f"e{rng.randint(-9, 9)}"))
    return rng.choice(("null", "true", "false", "[]", '["1"]', "{}", '{"a":1}', '""', '" "'))


def make(rng: Random) -> bytes:
    """A batch."""
    return b"\n".join(_case(rng) for _ in range(BATCH))


def _case(rng: Random) -> bytes:
    if rng.random() < 0.7:
        return json.dumps({"text": text(rng)}).encode()
    return f'{{"json":{literal(rng)}}}'.encode()


def ours(case: dict[str, Any]) -> int | str:
    """Nano-units, or the words of the error."""
    try:
        return parse(case["text"]) if "text" in case else from_json(case["json"])
    except InputError as error:
        return str(error)


def theirs(answer: dict[str, Any]) -> tuple[int | str, bool]:
    """The same of Kubernetes' answer, capped as ours, and whether that changed anything."""
    if "error" in answer:
        return answer["error"], False
    nanos = exact(answer["amount"]) * NANO
    capped = max(Fraction(-MAX_AMOUNT), min(Fraction(MAX_AMOUNT), nanos))
    if capped.denominator != 1:
        raise WrongError(f"a part of a nano-unit: {nanos}")
    return int(capped), capped != nanos


def _compared(line: bytes, answer: dict[str, Any]) -> str:
    case = json.loads(line)
    here, (there, capped) = ours(case), theirs(answer)
    if here != there:
        raise WrongError(f"read differently: {line!r} is {here!r} here and {there!r} there", line)
    way = "text" if "text" in case else "JSON"
    return f"{way}: {here}" if isinstance(here, str) else f"{way}: {'capped' if capped else 'equal'}"


TARGET = Target("quantities", lambda: compared(make, _compared), runs=100_000, full=1_000_000, seconds=5.0, builds=True)
