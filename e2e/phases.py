"""Scenarios run in phases, the quickest to find a fault first, with the time that each took; a failure is told at once.

1. On a real API server, 2. models held against what they are models of, 3. those of the enforcer, which share one node,
4. on nodes of their own; inside each pytest's order. The folder says to which phase a scenario belongs.

Where time is short (``--begin-within``), what has not begun by then is skipped, and the summary says what that was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PHASES = (
    ("e2e/scenarios/plane", "scenarios on a real API server"),
    ("e2e/scenarios/peers", "models of peers, held against the peers' own code"),
    ("e2e/scenarios/enforcer", "scenarios of the enforcer on one node"),
    ("e2e/scenarios/nodes", "scenarios on nodes of their own"),
)
"""Folder and name, in the order they run."""


@dataclass(slots=True)
class Clock:
    """What each phase took."""

    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""
    since: float = 0.0
    last: float = math.inf
    """When the last scenario may begin, of `time.monotonic`."""
    late: list[str] = field(default_factory=list)
    """Scenarios that would have begun later."""

    def turn(self, phase: str, now: float) -> bool:
        """Charge the time since the last turn; whether another phase begins."""
        if self.current:
            self.seconds[self.current] = self.seconds.get(self.current, 0.0) + now - self.since
        begins = phase != self.current
        self.current, self.since = phase, now
        return begins


CLOCK = pytest.StashKey[Clock]()


def phase_of(path: Path, root: Path) -> tuple[int, str]:
    """Place and name of a test's phase, by its file; what belongs to none goes first."""
    here = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    found = [(place, name) for place, (folder, name) in enumerate(PHASES) if here.startswith(f"{folder}/")]
    return found[0] if found else (-1, "no scenarios")


def say(config: pytest.Config, text: str) -> None:
    """Put it on lines of its own, where there is a terminal to put it on."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    """A limit for machines that end a run after so long, and with it every word of it."""
    parser.addoption("--begin-within", type=float, metavar="SECONDS", help="skip scenarios that have not begun by then")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the times where every hook finds them."""
    within = config.getoption("--begin-within", None)
    last = math.inf if within is None else time.monotonic() + within
    config.stash.setdefault(CLOCK, Clock(last=last))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is late, before anything is made for it."""
    clock = item.config.stash[CLOCK]
    if time.monotonic() > clock.last:
        clock.late.append(item.nodeid)
        pytest.skip("not begun in time: `pytest e2e` runs it")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Cheap phases first."""
    items.sort(key=lambda item: phase_of(item.path, config.rootpath))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Say where a phase begins, and charge each test's time to its own."""
    clock = item.config.stash[CLOCK]
    _, phase = phase_of(item.path, item.config.rootpath)
    if clock.turn(phase, time.monotonic()):
        say(item.config, f"== {phase}")
    result = yield
    clock.turn(phase, time.monotonic())
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say at once why a scenario failed: whoever ends a run that takes too long never sees its summary."""
    report = yield
    if report.failed:
        happened = f"{report.when} of {report.nodeid} failed after {report.duration:.0f} s:"
        say(item.config, f"{happened}\n{report.longreprtext}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures that tests took (`record_property`), and a line for each phase."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
    clock = config.stash[CLOCK]
    for phase, seconds in clock.seconds.items():
        terminalreporter.write_line(f"== {phase}: {seconds:.0f} s")
    for late in clock.late:
        terminalreporter.write_line(f"NOT BEGUN IN TIME, so not shown by this run: {late}")
