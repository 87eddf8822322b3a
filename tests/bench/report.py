"""What a measurement says and how it is printed: a table for people, JSON for programs, Markdown for the README."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that the median has to keep."""

    bound: float
    at_least: bool = False
    """Whether the bound is the least; else it is the most."""

    def met(self, value: float) -> bool:
        """Whether a figure keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing."""

    section: str
    what: str
    unit: str
    """``us``, ``ms``, ``s``, ``per s``, ``x`` for a ratio, or the things that were counted."""
    rounds: tuple[float, ...]
    """One value for each round (or seed), all of the same run."""
    target: Target | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """The figure that stands for the rounds."""
        return median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the target is kept; None without one."""
        return None if self.target is None else self.target.met(self.median)


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one run, and where it ran."""

    figures: tuple[Figure, ...]
    skipped: tuple[str, ...] = ()
    """Sections left out, with the reason."""
    machine: str = field(default_factory=lambda: _machine())
    python: str = field(default_factory=platform.python_version)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())

    @property
    def where(self) -> str:
        """One line about the run."""
        return f"{self.machine}, Python {self.python}, {self.date}"


def _machine() -> str:
    """The processor's name and the CPUs that this process may use."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = " ".join(line.partition(":")[2].split())
            break
    count = len(os.sched_getaffinity(0))
    return f"{model}, {count} CPU{'s' if count > 1 else ''}"


def number(value: float, unit: str) -> str:
    """Three digits for what is measured, all of them for what is counted."""
    if unit == "x":
        return f"{value:.4f}" if abs(value - 1) < 0.05 else f"{value:.2f}"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _row(figure: Figure) -> tuple[str, ...]:
    unit = "" if figure.unit == "x" else f" {figure.unit}"
    low, high = min(figure.rounds), max(figure.rounds)
    spread = f"{number(low, figure.unit)} to {number(high, figure.unit)}" if len(figure.rounds) > 1 else ""
    wanted, verdict = "", ""
    if figure.target is not None:
        wanted = f"{'at least' if figure.target.at_least else 'at most'} {number(figure.target.bound, figure.unit)}"
        verdict = "met" if figure.met else "missed"
    what = f"{figure.what} ({figure.note})" if figure.note else figure.what
    return f"{COMMAND} {figure.section}", what, f"{number(figure.median, figure.unit)}{unit}", spread, wanted, verdict


COMMAND = "python -m tests.bench"
"""What repeats a row, with the row's section behind it."""

HEADINGS = ("repeat with", "what", "median", "min to max", "target", "")


def show(report: Report, console: Console) -> None:
    """The table for people."""
    table = Table(*HEADINGS, title=report.where, title_justify="left", pad_edge=False)
    for figure in report.figures:
        table.add_row(*_row(figure), style="red" if figure.met is False else "")
    console.print(table)
    for reason in report.skipped:
        console.print(f"left out: {reason}", highlight=False)


def markdown(report: Report) -> str:
    """The table as it stands in the README: the rows with a target."""
    lines = [f"{report.where}.", "", f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
    rows = [_row(figure) for figure in report.figures if figure.target is not None]
    lines += [f"| {' | '.join((f'`{command}`', *others))} |" for command, *others in rows]
    return "\n".join([*lines, *(f"\nLeft out: {reason}" for reason in report.skipped)])


def as_json(report: Report) -> dict[str, Any]:
    """Everything, every round's value included."""
    return {
        "machine": report.machine,
        "python": report.python,
        "date": report.date,
        "figures": [_as_json(figure) for figure in report.figures],
        "skipped": list(report.skipped),
    }


def _as_json(figure: Figure) -> dict[str, Any]:
    target = figure.target
    return {
        "section": figure.section,
        "what": figure.what,
        "unit": figure.unit,
        "min": min(figure.rounds),
        "median": figure.median,
        "max": max(figure.rounds),
        "rounds": list(figure.rounds),
        "target": None if target is None else {"bound": target.bound, "at_least": target.at_least},
        "met": figure.met,
        "note": figure.note,
    }


def worst(figures: Sequence[Figure]) -> Figure:
    """Of several cases the one with the largest median."""
    return max(figures, key=lambda figure: figure.median)
