"""A node goes on from its snapshot: in seconds, with the right time, and able to run pods."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.namespace import Namespace
from e2e.lab.node import Node
from e2e.lab.shapes import named
from e2e.lab.snapshot import Snapshot, resume, take
from e2e.lab.state import Run
from e2e.lab.workload import container, pod

pytestmark = pytest.mark.slow

LIMIT = 40.0
"""Seconds until a woken node is Ready; 12 to 15 on two idle cores, and others may use them too."""


@pytest.fixture
def runs() -> Iterator[Callable[[str], Run]]:
    """Makes runs, and ends them."""
    made: list[Run] = []

    def make(name: str) -> Run:
        made.append(Run.create(f"test-{name}-{os.getpid()}"))
        return made[-1]

    yield make
    for run in made:
        run.down()


def test_a_node_wakes_from_its_snapshot_in_another_run_and_runs_a_pod(
    runs: Callable[[str], Run], tmp_path: Path
) -> None:
    snapshot = Snapshot(tmp_path / "snapshots" / "one")
    first = runs("frozen")
    frozen = Node(ControlPlane.start(first), named("2x4"))
    frozen.boot()
    frozen.wait_ready()
    take(snapshot, frozen)
    assert frozen.sh("echo still here") == "still here\n"
    first.down()

    began = time.monotonic()
    plane = ControlPlane.start(runs("woken"), seed=snapshot.seed)
    woken = Node(plane, named("2x4"))
    resume(snapshot, woken)
    assert time.monotonic() - began < LIMIT
    assert abs(float(woken.sh("date +%s")) - time.time()) < 5, "the guest's clock was not set"

    namespace = Namespace.make(plane)
    namespace.apply(pod("plain", container("app", "echo done"), restartPolicy="Never"))
    namespace.wait("--for=jsonpath={.status.phase}=Succeeded", "pod/plain")
