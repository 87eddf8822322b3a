"""A run of the lab: its folder, its network namespace, its processes, and how all of it goes away again.

1. A run is written down (folder, name of its namespace) before anything of it exists.
2. Whoever makes it holds a lock on it that the kernel drops when that process ends, by ``kill -9`` too.
3. Everything runs inside the run's namespace; that, and no list of ours, says which processes belong to it.
4. A run that nobody holds and that was not left up on purpose is taken away by the next that starts.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from e2e.lab import netns
from e2e.lab.cache import cache_folder
from e2e.lab.errors import LabError
from e2e.lab.progress import Progress

_DESCRIPTION = "run.json"

_PATIENCE = 10.0
"""Seconds in which a killed process has to be gone."""


@dataclass(slots=True)
class Run:
    """Everything that one run starts, mounts or writes."""

    name: str
    folder: Path
    netns: str
    progress: Progress = field(default_factory=Progress)
    _lock: IO[str] | None = None
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def create(cls, name: str, progress: Progress | None = None) -> Run:
        """A new run with an empty folder and namespace; takes killed ones away first. Raises LabError if it exists."""
        netns.require()
        with _registry() as runs:
            for gone in _abandoned(runs):
                gone.progress.say(f"taking away what the killed run {gone.name} left")
                gone.down()
            folder = runs / name
            if folder.exists():
                raise LabError(f"the run {name!r} is up already; use it, or end it with `python -m e2e down`")
            run = cls(name, folder, f"armistice-{secrets.token_hex(4)}", progress or Progress())
            run._write_down()
        netns.add(run.netns)
        return run

    @classmethod
    def find(cls, name: str) -> Run:
        """The run of that name. Raises LabError if there is none."""
        with _registry() as runs:
            found = _read(runs / name)
        if found is None or not netns.exists(found.netns):
            raise LabError(f"no run {name!r} is up; start one with `python -m e2e up`")
        return found

    @property
    def logs(self) -> Path:
        """Folder of the daemons' output, NAME.log each."""
        return self.folder / "logs"

    def say(self, text: str) -> None:
        """A line of progress."""
        self.progress.say(text)

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command, to run in the run's namespace."""
        return netns.inside(self.netns, list(argv))

    def spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a daemon in the namespace; what it says goes to logs/NAME.log, its temporary files into the run."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        surroundings = {**os.environ, "TMPDIR": str(temporary), **(env or {})}
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.inside(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=surroundings,
                start_new_session=True,
            )
        self._children[name] = process
        (self.folder / "pids" / name).write_text(f"{process.pid} {_started(process.pid)}")
        return process

    def pid(self, name: str) -> int | None:
        """The daemon's process id, from whichever process started it; None when it does not run."""
        try:
            pid, started = (self.folder / "pids" / name).read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if _started(int(pid)) == started != "" else None

    def daemons(self) -> Mapping[str, int | None]:
        """Every daemon that was started, with its process id while it runs."""
        return {path.name: self.pid(path.name) for path in sorted((self.folder / "pids").iterdir())}

    def ended(self, name: str) -> str | None:
        """What a daemon said last if it has ended by itself; None while it runs."""
        child = self._children.get(name)
        if child is None or child.poll() is None:
            return None
        return f"ended with status {child.returncode}: {last_words(self.logs / f'{name}.log')}"

    def end(self, name: str, timeout: float = _PATIENCE) -> None:
        """End one daemon: SIGTERM, and SIGKILL after ``timeout`` seconds. Returns when it is gone."""
        for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, _PATIENCE)):
            pid = self.pid(name)
            if pid is None:
                break
            _signal(pid, number)
            self._wait_gone(name, patience)
        if name in self._children:
            # Of a process with many threads the first may be gone, and the kernel still be taking the others away.
            with suppress(subprocess.TimeoutExpired):
                self._children[name].wait(_PATIENCE)
        (self.folder / "pids" / name).unlink(missing_ok=True)

    def release(self) -> None:
        """Leave the run up when this process ends."""
        self._describe(kept=True)
        if self._lock:
            self._lock.close()

    def down(self) -> None:
        """End every process of the run, and take its namespace and its folder away."""
        self._kill_all()
        netns.delete(self.netns)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock:
            self._lock.close()

    def _kill_all(self) -> None:
        end = time.monotonic() + _PATIENCE
        while pids := netns.pids(self.netns):
            if time.monotonic() > end:
                raise LabError(f"processes {pids} of the run {self.name!r} do not end, not even by SIGKILL")
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            for child in self._children.values():
                child.poll()
            time.sleep(0.02)
        for child in self._children.values():
            child.wait()

    def _wait_gone(self, name: str, patience: float) -> None:
        end = time.monotonic() + patience
        while self.pid(name) is not None and time.monotonic() < end:
            if name in self._children:
                self._children[name].poll()
            time.sleep(0.02)

    def _write_down(self) -> None:
        for part in (self.folder, self.logs, self.folder / "pids"):
            part.mkdir()
        self._lock = (self.folder / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._describe(kept=False)

    def _describe(self, kept: bool) -> None:
        unfinished = self.folder / f"{_DESCRIPTION}.unfinished"
        unfinished.write_text(json.dumps({"netns": self.netns, "kept": kept}))
        unfinished.rename(self.folder / _DESCRIPTION)


def last_words(log: Path) -> str:
    """The last line of a log that is not empty: why a daemon gave up is usually there."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"


@contextmanager
def _registry() -> Iterator[Path]:
    """The folder of all runs, for one process at a time."""
    runs = cache_folder() / "runs"
    runs.mkdir(exist_ok=True)
    with (runs / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield runs


def _abandoned(runs: Path) -> list[Run]:
    """Runs that nobody holds and that are not up on purpose; one whose namespace a reboot took is not up either."""
    found = [run for folder in sorted(runs.iterdir()) if folder.is_dir() and (run := _read(folder)) is not None]
    return [run for run in found if not _held(run.folder) and not (_kept(run.folder) and netns.exists(run.netns))]


def _read(folder: Path) -> Run | None:
    """The run that a folder describes; one that was cut off before it was written down has only its folder."""
    if not folder.is_dir():
        return None
    return Run(folder.name, folder, str(_description(folder).get("netns", "armistice-none")))


def _description(folder: Path) -> Mapping[str, object]:
    try:
        found = json.loads((folder / _DESCRIPTION).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _kept(folder: Path) -> bool:
    return _description(folder).get("kept") is True


def _held(folder: Path) -> bool:
    try:
        with (folder / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks: tells it from a later one of the same id. Empty if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
