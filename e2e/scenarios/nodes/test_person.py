"""``python -m e2e`` with a node: up, a shell on it, an image of ours into it, and nothing left, whoever ends it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from e2e.lab.armistice import image_name
from e2e.scenarios.person import ROOT, Person, assert_nothing_left, namespace_of

pytestmark = pytest.mark.slow

PATIENCE = 300.0
"""Seconds for what takes 30 on two idle cores."""


def test_up_shell_load_and_down(person: Person, record_property: Callable[[str, object], None]) -> None:
    first = person.types("up", "--shape", "2x4")
    assert first.returncode == 0, first.stderr
    assert person.types("down").returncode == 0
    disks = list((person.cache / "snapshots").glob("*/root.qcow2"))
    assert disks, "no snapshot was taken"
    for disk in disks:
        with disk.open("rb") as header:
            assert str(person.cache).encode() not in header.read(65536), "everybody's snapshot names our folder"
    began = time.monotonic()
    up = person.types("up", "--shape", "2x4")
    assert up.returncode == 0, up.stderr
    record_property("seconds of a second `up` to a Ready node", round(time.monotonic() - began, 1))
    assert re.search(r"node node1 \(2x4\) woken from its snapshot: [0-9.]+ s", up.stderr)
    namespace = namespace_of(person, "up")

    assert "node        node1 Ready" in person.types("status").stdout
    assert person.types("exec", "node1", "nproc").stdout == "8\n"
    assert said_in_a_shell(person, "node1", "echo $((6 * 7)) CPUs?", "42 CPUs?")
    absent = person.types("ssh", "node9")
    assert (absent.returncode, absent.stderr) == (2, "e2e: the run 'up' has no node 'node9'; nodes: node1\n")

    loaded = person.types("load", "node1", "webhook")
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout == f"pods on node1 may now use {image_name('webhook')} with imagePullPolicy: Never\n"
    run = ("run", "once", f"--image={image_name('webhook')}", "--image-pull-policy=Never", "--restart=Never")
    made = person.types("kubectl", *run, "--", "topology", "--sysfs", "/", "-o", "json")
    assert made.returncode == 0, made.stderr
    done = ("wait", "pod/once", "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={PATIENCE:.0f}s")
    assert person.types("kubectl", *done).returncode == 0, person.types("kubectl", "describe", "pod", "once").stdout
    assert '"cpus": "4-7"' in person.types("kubectl", "logs", "once").stdout, "our image saw another machine"

    assert person.types("down").returncode == 0
    assert_nothing_left(person, namespace, "up")


def said_in_a_shell(person: Person, node: str, typed: str, expected: str) -> bool:
    """Whether a person who types this in `ssh` reads that; they leave with Ctrl-]."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        person.argv("ssh", node), stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=person.surroundings({})
    )
    os.close(theirs)
    try:
        _read_until(ours, b"Ctrl-]")
        os.write(ours, f"{typed}\r".encode())
        found = _read_until(ours, expected.encode())
        os.write(ours, b"\x1d")
        shell.wait(10)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
    return found


def _read_until(terminal: int, wanted: bytes) -> bool:
    end, text = time.monotonic() + 60, b""
    while wanted not in text and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            text += os.read(terminal, 4096)
    return wanted in text


@pytest.mark.parametrize("seconds_later", [0.0, 4.0], ids=["as the machine starts", "while it boots"])
def test_up_killed_with_a_machine_is_taken_away_by_the_next(person: Person, seconds_later: float) -> None:
    process = subprocess.Popen(
        person.argv("up", "--shape", "2x4-hugepages", "--name", "killed"),
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=person.surroundings({}),
    )
    machine = person.cache / "runs" / "killed" / "pids" / "qemu-node1"
    end = time.monotonic() + PATIENCE
    while not machine.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(seconds_later)
    process.send_signal(signal.SIGKILL)
    process.wait()
    namespace = namespace_of(person, "killed")

    up = person.types("up", "--shape", "none", "--name", "next")
    assert "taking away what the killed run killed left" in up.stderr
    assert_nothing_left(person, namespace, "killed")
    assert person.types("down", "--name", "next").returncode == 0
