"""What counts as growth over a long run, and what does not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from e2e.trend import Bound, Point, Samples, rates, slope, table, trend

HOUR = 3600.0
STEP = 10.0
BOUND = Bound(rise=0.5, per_hour=1.0)


def sampled(value: Callable[[float], float], hours: float = 2.0) -> list[Point]:
    """A run of samples, by the hours since its start."""
    moments = [number * STEP for number in range(int(hours * HOUR / STEP) + 1)]
    return [(at, value(at / HOUR)) for at in moments]


RUNS: list[tuple[str, Callable[[float], float], bool]] = [
    ("it stays where it is", lambda hour: 40.0, True),
    ("it grows all the time", lambda hour: 40.0 + 2.0 * hour, False),
    ("it grows less than the bound an hour", lambda hour: 40.0 + 0.9 * hour, True),
    ("it grows while it warms up, and no more", lambda hour: 40.0 + 30.0 * min(hour, 0.6), True),
    ("it makes one step in the middle", lambda hour: 40.0 if hour < 1.2 else 41.0, True),
    ("it makes a step every quarter of an hour", lambda hour: 40.0 + int(4 * hour) * 0.5, False),
    ("it goes up and down like a saw", lambda hour: 40.0 + 8.0 * (hour * 6 % 1.0), True),
    ("a saw that climbs", lambda hour: 40.0 + 8.0 * (hour * 6 % 1.0) + 3.0 * hour, False),
    ("it falls", lambda hour: 40.0 - 5.0 * hour, True),
]


@pytest.mark.parametrize(("value", "flat"), [run[1:] for run in RUNS], ids=[run[0] for run in RUNS])
def test_growth_is_told_from_what_is_none(value: Callable[[float], float], flat: bool) -> None:
    assert trend("enforcer", "resident, MiB", sampled(value), BOUND).flat is flat


def test_counts_have_to_stay_as_they_are() -> None:
    more = sampled(lambda hour: 12.0 + int(hour * 3))
    assert not trend("webhook-1", "open files", more, Bound()).flat
    assert trend("webhook-1", "open files", sampled(lambda hour: 12.0), Bound()).flat
    now_and_then = sampled(lambda hour: 12.0 + (int(hour * 360) % 7 == 0))
    assert trend("webhook-1", "open files", now_and_then, Bound()).flat


def test_what_is_not_judged_is_flat_however_it_grows() -> None:
    assert trend("kube-apiserver", "resident, MiB", sampled(lambda hour: 100 * hour)).flat


def test_the_slope_is_that_of_most_samples() -> None:
    chance = random.Random(1)
    points = [(at, 1000.0 if chance.random() < 0.2 else value) for at, value in sampled(lambda hour: 40 + 2 * hour)]
    assert slope(points) * HOUR == pytest.approx(2.0, abs=0.5)
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == 2.0
    assert slope([(5.0, 1.0)]) == 0.0


def test_thirds_are_of_time_and_not_of_samples() -> None:
    found = trend("node", "cgroups", [(0, 1), (1, 1), (2, 1), (3, 1), (50, 5), (89, 9), (90, 9)])
    assert (found.start, found.middle, found.end) == (1, 5, 9)


def test_a_run_with_a_third_of_which_nothing_is_known_shows_nothing() -> None:
    with pytest.raises(ValueError, match="threads of enforcer was sampled 3 times, not in each third of the run"):
        trend("enforcer", "threads", [(0, 1), (1, 1), (90, 1)])


def test_a_complaint_names_what_grows_with_its_figures_and_bounds() -> None:
    found = trend("enforcer", "resident, MiB", sampled(lambda hour: 40 + 2 * hour), BOUND)
    assert str(found) == (
        "resident, MiB of enforcer grows: 42.00 in the middle third, 43.33 in the last, +2.00 an hour; "
        "at most 0.5 and 1 an hour are no growth"
    )


def test_a_counter_becomes_what_it_counts_in_a_second() -> None:
    assert list(rates([(0, 1.0), (10, 1.5), (20, 1.5)], 1000.0)) == [(10, 50.0), (20, 0.0)]


def test_samples_are_kept_as_lines_and_shown_as_a_table() -> None:
    samples = Samples()
    for at in (0.0, 1800.0, 3600.0):
        samples.add(at, "enforcer", {"resident, MiB": 40.0 + at / 900, "threads": 3})
    assert samples.csv().splitlines()[:2] == ["seconds,component,quantity,value", '0.0,enforcer,"resident, MiB",40']
    trends = samples.trends({("enforcer", "resident, MiB"): BOUND, ("enforcer", "threads"): Bound()})
    assert table(trends).splitlines() == [
        "| component | quantity | first third | middle | last | slope per hour |  |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| enforcer | resident, MiB | 40 | 42 | 44 | +4.00 | grows |",
        "| enforcer | threads | 3 | 3 | 3 | +0.00 | flat |",
    ]
