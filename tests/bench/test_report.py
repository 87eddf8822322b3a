"""What the command prints: figures on standard output and nothing else, whatever a section says meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from tests.bench import start
from tests.bench.__main__ import main
from tests.bench.report import Figure, Target

Measure = Callable[[bool], Iterator[Figure]]


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measure], None]:
    """Puts another measurement in the place of a section's."""
    return lambda measure: monkeypatch.setattr(start, "measure", measure)


def talkative(quick: bool) -> Iterator[Figure]:
    """Says what it does, as the lab does."""
    print("node Ready")
    yield Figure("start", "one thing", "ms", (3.0, 1.0, 2.0), Target(2.5))
    print("and gone")


def test_json_is_all_that_standard_output_has(instead: Callable[[Measure], None]) -> None:
    instead(talkative)
    done = CliRunner().invoke(main, ["start", "--json"])
    [figure] = json.loads(done.stdout)["figures"]
    assert (figure["median"], figure["rounds"], figure["met"]) == (2.0, [3.0, 1.0, 2.0], True)
    assert [line for line in done.stderr.splitlines() if "node" in line or "gone" in line] == ["node Ready", "and gone"]


def test_a_row_has_the_command_that_repeats_it(instead: Callable[[Measure], None]) -> None:
    instead(talkative)
    done = CliRunner().invoke(main, ["start", "--readme"])
    assert (
        "| `python -m tests.bench start` | one thing | 2 ms | 1 to 3 | at most 2.5 | met |" in done.stdout.splitlines()
    )


def test_a_section_that_cannot_be_measured_says_why_and_the_others_are_told(
    instead: Callable[[Measure], None],
) -> None:
    def cut(quick: bool) -> Iterator[Figure]:
        yield from talkative(quick)
        pytest.skip("no such machine here")

    instead(cut)
    found = json.loads(CliRunner().invoke(main, ["start", "--json"]).stdout)
    assert found["skipped"] == ["start: no such machine here"]
    assert len(found["figures"]) == 1
