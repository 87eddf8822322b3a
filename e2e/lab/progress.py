"""Lines of progress with times, on standard error: a person must see that a build of five minutes is alive."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(slots=True)
class Progress:
    """Says what is being done, each line led by the seconds since it was made."""

    out: TextIO | None = None
    """Where to; None is the standard error of the moment (which tests capture)."""
    began: float = field(default_factory=time.monotonic)
    phases: list[tuple[str, float]] = field(default_factory=list)
    """Finished phases with their seconds."""

    def say(self, text: str) -> None:
        """One line."""
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", file=self.out or sys.stderr, flush=True)

    @contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Times what is done inside, and says so at its end."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        self.phases.append((what, seconds))
        self.say(f"{what}: {seconds:.1f} s")
