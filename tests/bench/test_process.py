"""What is read of a process: from the text, and of a real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.process import Reading, parse, read

TOLD = """\
at 100.50 300.00
Rss:                2048 kB
Pss:                1024 kB
voluntary_ctxt_switches:\t7
voluntary_ctxt_switches:\t5
ticks 150 100
ran 1500000 10 3
ran 500000 10 3
"""


def test_threads_are_added_and_units_are_told() -> None:
    found = parse(TOLD)
    assert found == Reading(at=100.5, resident=2, proportional=1, wakes=12, processor=2, kernel=1500)


def test_a_process_that_has_ended_is_said_to_have() -> None:
    with pytest.raises(
        ValueError,
        match=r"^the kernel tells no Pss, Rss, ran, ticks, voluntary_ctxt_switches of the process; has it ended\?$",
    ):
        parse("at 100.50 300.00\n")


def test_one_that_works_has_run_and_one_that_sleeps_has_not() -> None:
    for work, ran in (("while time.process_time() < 0.1: pass", True), ("pass", False)):
        program = f"import time\nprint(flush=True); input()\n{work}\nprint(flush=True); input()"
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            before = read(process.pid)
            process.stdin.write(b"go\n")
            process.stdin.flush()
            process.stdout.readline()
            after = read(process.pid)
            process.kill()
        assert (after.processor - before.processor > 20) is ran
        assert after.resident >= after.proportional > 0
        assert after.wakes > before.wakes
        assert after.at >= before.at
