"""What a target is: inputs as bytes, made by chance, and a look at what one of them does.

Everything that a look depends on is in the bytes, so that a finding is a file, and a test reads it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol


class WrongError(Exception):
    """What must not be. The text up to its first colon is its kind."""

    def __init__(self, text: str, data: bytes | None = None) -> None:
        super().__init__(text)
        self.data = data
        """The part of the input that shows it by itself; None for all of it."""


class Session(Protocol):
    """One target, set up."""

    def make(self, rng: Random) -> bytes:
        """An input, by chance."""
        ...

    def look(self, data: bytes) -> Sequence[str]:
        """What each case in an input led to, in words of a closed set. Raises WrongError; any other exception is as
        wrong."""
        ...

    def memory(self) -> int:
        """Resident bytes of the process under test."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to be fuzzed."""

    name: str
    open: Callable[[], AbstractContextManager[Session]]
    runs: int
    """Cases by default: some ten seconds."""
    full: int
    """Cases of ``--full``."""
    seconds: float
    """Processor time that one input may take on a slow core; the clock would count what other processes take."""
    builds: bool = False
    """Whether it has to build a program first, where the cache has none."""


def resident() -> int:
    """Resident bytes of this process."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
