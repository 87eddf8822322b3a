"""The demo: everything in it happens, and it reads well anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

STORY = (
    "   pod/llm-server created",
    'Error from server (Forbidden): error when creating "llm-server-traced.yaml"',
    '"llm-server-traced": sidecars too heavy, asks 50 CPUs',
    '"trainer": too large, asks 8 nvidia.com/gpu',
    '"packet-engine": no CPU is left for exporter',
    '   Warning: Deployment "gateway": it will own 13 CPUs while the scheduler counts',
    "   deployment.apps/gateway created",
    "   read by its own pod    verified with the public key of the webhook",
    "   with one CPU more      refused, the topology intent does not carry a",
    "   in another namespace   refused, the topology intent is for a pod in namespace",
    "A  demo/llm-server: server 0-39",
    "2 of 2 pods placed",
)


@pytest.fixture(scope="module")
def shown() -> str:
    began = time.monotonic()
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(
        [sys.executable, "-m", "webhook.command", "demo"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert time.monotonic() - began < 10
    return ended.stdout


@pytest.mark.parametrize("line", STORY)
def test_it_tells_the_whole_story(line: str, shown: str) -> None:
    assert " ".join(line.split()) in " ".join(shown.split())


def test_it_fits_eighty_columns_and_needs_no_colour(shown: str) -> None:
    assert [line for line in shown.splitlines() if len(line) > 80 and "/" not in line] == []
    assert "\x1b" not in shown
