"""A test run in phases, the quickest to find a fault first, with the time that each took.

1. Tests without a cluster, 2. scenarios on a real API server, 3. models held against what they are models of,
4. scenarios on nodes of their own, 5. those that share one node; inside each pytest's order.
The folder says to which phase a test belongs. Both ``conftest.py`` name this module as a plugin.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PHASES = (
    ("tests", "tests without a cluster"),
    ("e2e/scenarios/plane", "scenarios on a real API server"),
    ("e2e/scenarios/peers", "models of peers, held against the peers' own code"),
    ("e2e/scenarios/nodes", "scenarios on real nodes"),
    ("e2e/scenarios/enforcer", "scenarios of the enforcer on one node"),
)
"""Folder and name, in the order they run."""


@dataclass(slots=True)
class Clock:
    """What each phase took."""

    names: dict[str, str] = field(default_factory=dict)
    """Test's id to its phase."""
    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""
    since: float = 0.0

    def turn(self, phase: str, now: float) -> bool:
        """Charge the time since the last turn; whether another phase begins."""
        if self.current:
            self.seconds[self.current] = self.seconds.get(self.current, 0.0) + now - self.since
        begins = phase != self.current
        self.current, self.since = phase, now
        return begins


CLOCK = pytest.StashKey[Clock]()


def phase_of(path: Path, root: Path) -> int:
    """Place in PHASES of a test's file; a file of no phase goes last."""
    here = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    found = [place for place, (folder, _) in enumerate(PHASES) if here.startswith(f"{folder}/")]
    return found[0] if found else len(PHASES)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the times where every hook finds them."""
    config.stash.setdefault(CLOCK, Clock())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Cheap phases first."""
    items.sort(key=lambda item: phase_of(item.path, config.rootpath))
    for item in items:
        place = phase_of(item.path, config.rootpath)
        config.stash[CLOCK].names[item.nodeid] = PHASES[place][1] if place < len(PHASES) else "the rest"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Say where a phase begins, and charge each test's time to its own."""
    clock = item.config.stash[CLOCK]
    phase = clock.names.get(item.nodeid, "the rest")
    if clock.turn(phase, time.monotonic()):
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"== {phase}")
    result = yield
    clock.turn(phase, time.monotonic())
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures that tests took (`record_property`), and a line for each phase."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
    for phase, seconds in config.stash[CLOCK].seconds.items():
        terminalreporter.write_line(f"== {phase}: {seconds:.0f} s")
