"""Whether what was sampled over hours stays where it is: medians of thirds and a slope, as values.

1. The first third of a run is its warm-up: caches fill, connections open.
2. A quantity grows where the last third's median lies above the middle third's by more than a bound, and the slope over
   both is above a bound too: a step that was made once is no growth, and neither is a slope that came to nothing.
3. The slope is that of Theil and Sen, the median of the slopes between all pairs of samples: samples that are far off
   do not move it as long as they are fewer than 29 of 100.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from statistics import median

Point = tuple[float, float]
"""Seconds since the start, and a value."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is no growth yet."""

    rise: float = 0.0
    """Of the last third's median over the middle third's."""
    per_hour: float = 0.0
    """Of the slope."""


@dataclass(frozen=True, slots=True)
class Trend:
    """One quantity of one component over a run."""

    component: str
    quantity: str
    start: float
    """Median of the first third of the time; ``middle`` and ``end`` of the others."""
    middle: float
    end: float
    per_hour: float
    """Slope after the first third."""
    bound: Bound | None = None
    """None where nothing is judged."""

    @property
    def flat(self) -> bool:
        """Whether it does not grow. What is not judged is flat."""
        bound = self.bound
        return bound is None or self.end - self.middle <= bound.rise or self.per_hour <= bound.per_hour

    def __str__(self) -> str:
        bound = self.bound or Bound()
        return (
            f"{self.quantity} of {self.component} grows: {self.middle:.2f} in the middle third, {self.end:.2f} in the "
            f"last, {self.per_hour:+.2f} an hour; at most {bound.rise:g} and {bound.per_hour:g} an hour are no growth"
        )


def slope(points: Sequence[Point]) -> float:
    """Of Theil and Sen, per second; none of less than two moments."""
    pairs = combinations(points, 2)
    found = [(later - earlier) / (end - begin) for (begin, earlier), (end, later) in pairs if end != begin]
    return median(found) if found else 0.0


def trend(component: str, quantity: str, points: Sequence[Point], bound: Bound | None = None) -> Trend:
    """Of the samples of a run, in the order of time. Raises ValueError where one of its thirds has none."""
    first, last = points[0][0], points[-1][0]
    thirds: tuple[list[Point], ...] = ([], [], [])
    for at, value in points:
        thirds[min(2, int(3 * (at - first) / ((last - first) or 1.0)))].append((at, value))
    if not all(thirds):
        raise ValueError(f"{quantity} of {component} was sampled {len(points)} times, not in each third of the run")
    start, middle, end = (median(value for _, value in third) for third in thirds)
    return Trend(component, quantity, start, middle, end, 3600 * slope([*thirds[1], *thirds[2]]), bound)


@dataclass(slots=True)
class Samples:
    """What was seen of every quantity of every component."""

    series: dict[tuple[str, str], list[Point]] = field(default_factory=lambda: defaultdict(list))

    def add(self, at: float, component: str, values: Mapping[str, float]) -> None:
        """Values by quantity, at a moment."""
        for quantity, value in values.items():
            self.series[component, quantity].append((at, value))

    def trends(self, bounds: Mapping[tuple[str, str], Bound]) -> list[Trend]:
        """Of each; ``bounds`` by component and quantity."""
        return [trend(*key, points, bounds.get(key)) for key, points in sorted(self.series.items())]

    def csv(self) -> str:
        """Every sample as a line: seconds, component, quantity, value."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("seconds", "component", "quantity", "value"))
        for key, points in self.series.items():
            writer.writerows((f"{at:.1f}", *key, f"{value:.6g}") for at, value in points)
        return text.getvalue()


def rates(points: Sequence[Point], scale: float = 1.0) -> Iterator[Point]:
    """What a counter counts per second between two samples, times ``scale``."""
    for (begin, before), (end, after) in pairwise(points):
        yield end, scale * (after - before) / (end - begin)


def table(trends: Iterable[Trend]) -> str:
    """In Markdown, a row for each."""
    head = ("component", "quantity", "first third", "middle", "last", "slope per hour", "")
    rows = [head, ("---",) * len(head), *map(_row, trends)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(one: Trend) -> tuple[str, ...]:
    figures = (f"{value:.2f}".rstrip("0").rstrip(".") for value in (one.start, one.middle, one.end))
    verdict = "" if one.bound is None else "flat" if one.flat else "grows"
    return one.component, one.quantity, *figures, f"{one.per_hour:+.2f}", verdict
