"""What a run of scenarios says while it runs, and what it does where time is short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCENARIOS = """
import sys

def test_holds():
    pass

def test_does_not():
    assert 1 + 1 == 3

def test_after_it():
    sys.__stdout__.write("the next has begun\\n")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with three scenarios on nodes, the second of which fails."""
    place = tmp_path / "e2e/scenarios/nodes"
    place.mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "e2e/conftest.py").write_text('pytest_plugins = ["e2e.phases"]\n')
    (place / "test_it.py").write_text(SCENARIOS)
    return tmp_path


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Exit status and output of pytest on the scenarios."""
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--capture=no", *words, "e2e"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_failure_is_told_before_the_next_scenario_begins(folder: Path) -> None:
    status, said = run(folder)
    assert status == 1
    told = said.index("test_does_not failed after 0 s:")
    assert told < said.index("assert (1 + 1) == 3") < said.index("the next has begun") < said.index("= FAILURES =")


def test_what_has_not_begun_in_time_is_skipped_and_named(folder: Path) -> None:
    status, said = run(folder, "--begin-within=-1")
    assert status == 0
    assert "3 skipped" in said
    for name in ("test_holds", "test_does_not", "test_after_it"):
        assert f"NOT BEGUN IN TIME, so not shown by this run: e2e/scenarios/nodes/test_it.py::{name}" in said


def test_with_time_enough_everything_runs(folder: Path) -> None:
    status, said = run(folder, "--begin-within=600")
    assert (status, "1 failed, 2 passed" in said) == (1, True)
    assert "NOT BEGUN" not in said
