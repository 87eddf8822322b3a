"""The emulated CPUs of a node as the host sees them: a thread of QEMU each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from e2e.lab import console
from e2e.lab.node import Node


def threads(node: Node) -> tuple[int, ...]:
    """The host's thread of each CPU of the node, in the order of the CPUs."""
    found = console.monitor(node.folder / "monitor.sock", "query-cpus-fast")
    return tuple(one["thread-id"] for one in sorted(found, key=lambda one: one["cpu-index"]))


def stalls(node: Node) -> Callable[[], float]:
    """Reads how many seconds the node's CPUs together have waited for a core of the host so far."""
    files = [Path(f"/proc/{thread}/schedstat") for thread in threads(node)]
    return lambda: sum(int(file.read_text().split()[1]) for file in files) / 1e9
