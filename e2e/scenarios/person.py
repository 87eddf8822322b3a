"""A person who types ``python -m e2e`` at a terminal, and what they leave behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import netns
from e2e.lab.cache import VARIABLE

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a terminal, with a cache of their own; only the built tools are those of everybody."""

    cache: Path

    def types(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``python -m e2e`` with these words."""
        return subprocess.run(
            self.argv(*words), capture_output=True, text=True, check=False, cwd=ROOT, env=self.surroundings(environment)
        )

    def argv(self, *words: str) -> list[str]:
        """The same as a list."""
        return [sys.executable, "-m", "e2e", *words]

    def surroundings(self, more: dict[str, str]) -> dict[str, str]:
        """Their environment variables."""
        return {**os.environ, VARIABLE: str(self.cache), **more}

    def run_folders(self) -> list[str]:
        """What is left of runs."""
        runs = self.cache / "runs"
        return sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []


def namespace_of(person: Person, run: str) -> str:
    """The network namespace of a run, from what the run has written down."""
    found = re.search(r"armistice-[0-9a-f]{8}", (person.cache / "runs" / run / "run.json").read_text())
    assert found is not None
    return found.group()


def processes_that_name(text: str) -> list[str]:
    """Command lines of processes, other than zombies, in which a text occurs."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in words:
            found.append(words)
    return found


def assert_nothing_left(person: Person, namespace: str, run: str) -> None:
    """No process, no mount, no namespace, no file."""
    assert processes_that_name(str(person.cache / "runs" / run)) == []
    assert netns.pids(namespace) == []
    assert not netns.exists(namespace)
    assert namespace not in Path("/proc/self/mounts").read_text()
    assert run not in person.run_folders()
