"""What a process holds: read of one that holds what the test has given it, and parsed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from e2e.footprint import Footprint, read, script

SAID = """process 41
VmRSS:\t   40960 kB
RssAnon:\t   20480 kB
Threads:\t3
     12 File
      5 Socket
Stat: 41 (python3 (x) y) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 987 20 21
process 42
Stat:
"""

HOLDER = """
import socket, sys, threading
pair = socket.socketpair()
held, files, stop = b"x" * (40 << 20), [open("/dev/null") for _ in range(20)], threading.Event()
for _ in range(4): threading.Thread(target=stop.wait, daemon=True).start()
print("holds", flush=True); sys.stdin.read()
"""


def test_what_the_script_printed_is_read_and_who_has_ended_is_left_out() -> None:
    expected = Footprint(resident=40.0, anonymous=20.0, files=12, sockets=5, threads=3, seconds=3.0, began=987)
    assert read(SAID, ticks=100) == {41: expected}


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """A process with 40 MiB, 20 files, 2 sockets and 4 threads more than it needs."""
    words = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
        process.stdin.close()


def test_a_process_is_seen_with_what_it_holds(holder: subprocess.Popen[str]) -> None:
    done = subprocess.run(["sh", "-c", script([holder.pid, 4_000_000])], capture_output=True, text=True, check=True)
    found = read(done.stdout)
    assert found.keys() == {holder.pid}
    seen = found[holder.pid]
    assert 40 <= seen.resident < 80
    assert 40 <= seen.anonymous < seen.resident
    assert (seen.files, seen.sockets) == (3 + 20, 2)
    assert seen.threads == 1 + 4
    assert 0 <= seen.seconds < 30
