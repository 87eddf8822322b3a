"""The lab's two ways into a virtual machine: a root shell in the guest, and the emulator's own monitor (QMP).

Both are Unix sockets, so any process may use them while the machine runs, one at a time each.
"""

from __future__ import annotations

import base64
import fcntl
import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.errors import LabError

GRACE = 20.0
"""Seconds that the guest's reply may come later than its own time limit: an emulated CPU is slow."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script in the guest said."""

    code: int
    stdout: str
    stderr: str


class GuestEndedError(LabError):
    """The machine is gone; nothing will answer."""


def request(identity: str, script: str, seconds: float) -> bytes:
    """One line for the guest's agent; the empty line before ends whatever a killed process left half-written."""
    body = base64.b64encode(script.encode()).decode()
    return f"\n{identity} {seconds:g} {len(body)} {body}\n".encode()


def reply(line: bytes, identity: str) -> Reply | None:
    """The agent's answer to that request; None for an answer to another one, or half a line."""
    match line.decode(errors="replace").split():
        case [found, code, out, error] if found == identity:
            return Reply(int(code), _text(out), _text(error))
    return None


def _text(word: str) -> str:
    return base64.b64decode(word.removeprefix(".")).decode(errors="replace")


def run_in_guest(path: Path, script: str, seconds: float, grace: float = GRACE) -> Reply:
    """Run a shell script as root in the guest and wait for its end; 124 is the code of one that took too long."""
    identity = secrets.token_hex(4)
    with _connected(path) as stream:
        _send(stream, request(identity, script, seconds), path)
        for line in _lines(stream, seconds + grace, path):
            if (found := reply(line, identity)) is not None:
                return found
    raise GuestEndedError(f"the guest behind {path} closed its console; it has stopped")


def monitor(path: Path, command: str, seconds: float = 60, **arguments: object) -> Any:
    """One command to QEMU's monitor; returns its `return`."""
    answer: dict[str, Any] = {}
    with _connected(path) as stream:
        lines = _lines(stream, seconds, path)
        next(lines, None)  # the greeting
        for asked, given in (("qmp_capabilities", {}), (command, arguments)):
            _send(stream, json.dumps({"execute": asked, "arguments": given}).encode() + b"\n", path)
            replies = (reply for line in lines if "event" not in (reply := json.loads(line)))
            answer = next(replies, {})
            if not answer:
                raise GuestEndedError(f"the machine behind {path} ended at {command}")
            if "error" in answer:
                raise LabError(f"QEMU refused {command}: {answer['error']['desc']}")
    return answer["return"]


def human(path: Path, line: str, seconds: float = 60) -> str:
    """One line of QEMU's human monitor, for what QMP lacks; raises LabError with what it complains about."""
    said = str(monitor(path, "human-monitor-command", seconds, **{"command-line": line})).strip()
    if said.startswith("Error"):
        raise LabError(f"QEMU could not {line}: {said}")
    return said


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    """The socket, for one process at a time: QEMU serves one connection and would let a second wait without a word."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as stream:
            try:
                stream.connect(str(path))
            except OSError as error:
                raise GuestEndedError(f"nothing answers at {path} ({error.strerror}); the machine is not up") from error
            yield stream


def _send(stream: socket.socket, line: bytes, path: Path) -> None:
    try:
        stream.sendall(line)
    except ConnectionError as error:
        raise GuestEndedError(f"the machine behind {path} closed the connection; it has stopped") from error


def _lines(stream: socket.socket, seconds: float, path: Path) -> Iterator[bytes]:
    """Complete lines until the other side closes; raises LabError when the time is up."""
    end = time.monotonic() + seconds
    rest: list[bytes] = []
    while True:
        stream.settimeout(max(0.01, end - time.monotonic()))
        try:
            piece = stream.recv(1 << 16)
        except TimeoutError as error:
            raise LabError(f"no answer from {path} within {seconds:.0f} s; the guest hangs or is overloaded") from error
        except ConnectionError:
            return
        if not piece:
            return
        *complete, tail = piece.split(b"\n")
        for line in complete:
            yield b"".join([*rest, line])
            rest = []
        if tail:
            rest.append(tail)
