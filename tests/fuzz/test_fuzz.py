"""A little of every target with a fixed seed, and whether a target finds what is wrong: each check can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from time import process_time

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.target import Target, WrongError, resident
from tests.fuzz.targets import TARGETS

RUNS = {
    "reviews": 1_500,
    "live": 500,
    "demands": 2_000,
    "frames": 100,
    "sysfs": 20,
    "quantities": 20_000,
    "intents": 2_000,
}
"""Cases of each: a few seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_little_hostile_input_does_no_harm(name: str) -> None:
    tally = fuzz(TARGETS[name], RUNS[name], seed=20)
    assert [finding.text for finding in tally.findings] == []
    assert tally.inputs >= RUNS[name]
    assert len(tally.outcomes) > 1


# The runner itself.


class Made:
    """A session whose look is a function of a test."""

    def __init__(self, look: Callable[[bytes], Sequence[str]]) -> None:
        self.look = look
        self.asked = 0

    def make(self, rng: Random) -> bytes:
        return rng.randbytes(4)

    def memory(self) -> int:
        self.asked += 1
        return resident()


def target(look: Callable[[bytes], Sequence[str]], seconds: float = 5.0) -> Target:
    @contextmanager
    def opened() -> Iterator[Made]:
        yield Made(look)

    return Target("made", opened, runs=1, full=1, seconds=seconds)


def wrong(data: bytes) -> Sequence[str]:
    raise WrongError(f"always: {data!r}", data[:1])


def broken(data: bytes) -> Sequence[str]:
    return [str(1 // (len(data) - 4))]


def endless(data: bytes) -> Sequence[str]:
    while True:
        data += b""


def slow(data: bytes) -> Sequence[str]:
    until = process_time() + 0.07
    while process_time() < until:
        data += b""
    return ["slow"]


WRONG = [
    ("what a look says is wrong", wrong, 5.0, "always", 3),
    ("an exception that nobody defined", broken, 5.0, "ZeroDivisionError at broken", 3),
    ("a look without an end", endless, 0.05, "hung", 3),
    ("a look that takes too long", slow, 0.05, "took too long", 3),
]


@pytest.mark.parametrize(("what", "look", "seconds", "kind", "kept"), WRONG, ids=[row[0] for row in WRONG])
def test_what_is_found(what: str, look: Callable[[bytes], Sequence[str]], seconds: float, kind: str, kept: int) -> None:
    tally = fuzz(target(look, seconds), 5, seed=1)
    assert (tally.inputs, tally.wrong) == (5, 5)
    assert [finding.kind for finding in tally.findings] == [kind] * kept
