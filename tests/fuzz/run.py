"""Runs a target: makes inputs, looks at each, counts, and keeps what is wrong.

1. Each input has a generator of its own, made from target, seed and number: any one can be made again.
2. A look that takes too long is broken off, by processor time, and is a finding.
3. A finding is kept in the corpus, with how to repeat it; of one kind no more than a few are.
4. Memory is read after a fifth of the run, when every store is full, and at its end: growth is a finding, too.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType

from tests.fuzz.target import Session, Target, WrongError

GROWTH = 32 * 2**20
"""Bytes that may come on top after the first fifth."""

MOST_OF_A_KIND = 3
"""Findings of one kind that are kept."""
MOST = 100
"""Wrong inputs after which a run ends: it has told enough."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One input, and what is wrong with what it led to."""

    target: str
    text: str
    data: bytes
    seed: int
    number: int
    """Of the input within the run of that seed."""

    @property
    def kind(self) -> str:
        """What findings are told apart by."""
        return self.text.partition(":")[0]


@dataclass
class Tally:
    """What came of a run."""

    target: str
    seed: int
    inputs: int = 0
    """Cases looked at."""
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    """Inputs that led to what must not be."""
    findings: list[Finding] = field(default_factory=list)
    """Of them those that are kept."""
    growth: int | None = None
    """Bytes of memory since the first fifth; None for a run that was too short."""

    @property
    def line(self) -> str:
        """The run in one line."""
        grown = "" if self.growth is None else f", memory {self.growth / 2**20:+.1f} MiB"
        return (
            f"{self.target}: {self.inputs:,} inputs, {self.seconds:,.0f} s, {len(self.outcomes)} distinct outcomes, "
            f"{self.wrong} findings{grown}"
        )


def fuzz(target: Target, runs: int, seed: int, seconds: float | None = None) -> Tally:
    """Look at so many cases, or for so many seconds of the clock, whichever ends first."""
    tally = Tally(target.name, seed)
    began = time.monotonic()
    with target.open() as session:
        settled: int | None = None
        for number, data in enumerate(_inputs(session, target.name, seed)):
            if tally.inputs >= runs or tally.wrong >= MOST or _over(began, seconds):
                break
            _count(tally, target, session, data, number)
            if settled is None and tally.inputs >= runs / 5:
                settled = session.memory()
        if settled is not None and tally.inputs > runs / 2:
            _weigh(tally, session.memory() - settled)
    tally.seconds = time.monotonic() - began
    return tally


def _over(began: float, seconds: float | None) -> bool:
    return seconds is not None and time.monotonic() - began >= seconds


def _inputs(session: Session, name: str, seed: int) -> Iterator[bytes]:
    number = 0
    while True:
        yield session.make(Random(f"{name} {seed} {number}"))
        number += 1


def _count(tally: Tally, target: Target, session: Session, data: bytes, number: int) -> None:
    try:
        found = looked(target, session, data)
    except WrongError as error:
        tally.inputs += 1
        tally.wrong += 1
        finding = Finding(target.name, str(error), data if error.data is None else error.data, tally.seed, number)
        if sum(other.kind == finding.kind for other in tally.findings) < MOST_OF_A_KIND:
            tally.findings.append(finding)
        return
    tally.inputs += len(found)
    tally.outcomes.update(found)


def _weigh(tally: Tally, growth: int) -> None:
    tally.growth = growth
    if growth > GROWTH:
        tally.wrong += 1
        tally.findings.append(Finding(tally.target, f"memory grew: by {growth} bytes", b"", tally.seed, 0))


def looked(target: Target, session: Session, data: bytes) -> Sequence[str]:
    """One look, with an end to it. Raises WrongError for whatever is wrong."""
    began = time.process_time()
    try:
        with _broken_off_after(2 * target.seconds):
            found = session.look(data)
    except WrongError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} at {place.name}"  # the kind; its message may have a colon
        raise WrongError(f"{text}: {error}") from error
    if (taken := time.process_time() - began) > target.seconds:
        raise WrongError(f"took too long: {taken:.2f} s of processor time")
    return found


@contextmanager
def _broken_off_after(seconds: float) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise WrongError(f"hung: it was broken off after {seconds:g} s of processor time")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
