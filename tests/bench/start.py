"""How long ``armistice check`` of one file takes, from the start of the process to its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from time import perf_counter

from tests.bench.report import Figure, Target
from tests.support.data import reference

MACHINE = "aws-m7i.metal-48xl"


def measure(quick: bool) -> Iterator[Figure]:
    """One run each time, files and byte code in the system's cache."""
    file = reference("manifests/istio-native-sidecar-deployment.yaml")
    command = [sys.executable, "-m", "webhook.command", "check", "-f", str(file), "--machine", MACHINE]
    empty = [sys.executable, "-c", ""]
    rounds = [(_time(command), _time(empty)) for _ in range(4 if quick else 11)][1:]
    yield Figure("start", "armistice check -f one.yaml", "ms", tuple(ours for ours, _ in rounds), Target(500))
    yield Figure("start", "python itself, doing nothing", "ms", tuple(bare for _, bare in rounds))


def _time(command: list[str]) -> float:
    """Milliseconds."""
    began = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return 1000 * (perf_counter() - began)
