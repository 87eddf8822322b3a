"""Kubernetes' own reading of quantities and pods: a program of its code (``peers/kubernetes``), asked over a pipe."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest

from e2e.lab.errors import LabError
from e2e.lab.tools import Tool, made, tied
from tests.fuzz.target import resident

PEERS = Path(__file__).parent / "peers"
READING = Tool("reading", "kubernetes", "./", root=PEERS)


Compare = Callable[[bytes, dict[str, Any]], str]
"""What a line and the program's answer to it come to. Raises WrongError."""


class Peer:
    """The program at work."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._write, self._read = process.stdin, process.stdout

    def ask(self, questions: Sequence[bytes]) -> list[dict[str, Any]]:
        """The answer to each question, a JSON object on a line; what it may hold is told in ``main.go``."""
        self._write.write(b"".join(question + b"\n" for question in questions) + b"\n")
        self._write.flush()
        return [json.loads(self._read.readline()) for _ in questions]


def exact(told: Sequence[Any]) -> Fraction:
    """An amount as the program tells it."""
    unscaled, scale = told
    return Fraction(int(unscaled) * 10 ** max(0, -scale), 10 ** max(0, scale))


class Compared:
    """A session whose inputs are lines, a case each, which are held against the program's answers."""

    memory = staticmethod(resident)

    def __init__(self, peer: Peer, make: Callable[[Random], bytes], compare: Compare, question: str) -> None:
        self._peer = peer
        self.make = make
        self._compare = compare
        self._question = question.encode()

    def look(self, data: bytes) -> list[str]:
        """Every case, read here and there."""
        lines = data.split(b"\n")
        answers = self._peer.ask([self._question % line for line in lines])
        return [self._compare(line, answer) for line, answer in zip(lines, answers, strict=True)]


@contextmanager
def compared(make: Callable[[Random], bytes], compare: Compare, question: str = "%s") -> Iterator[Compared]:
    """Such a session; ``question`` is what the program is asked, with the line in it. Skips as ``kubernetes`` does."""
    with kubernetes() as peer:
        yield Compared(peer, make, compare, question)


@contextmanager
def kubernetes() -> Iterator[Peer]:
    """The program, built now if it has to be. Skips where it cannot be."""
    try:
        program = made(READING)
    except LabError as error:
        pytest.skip(str(error))
    with subprocess.Popen(tied([str(program)]), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Peer(process)
        finally:
            process.kill()
