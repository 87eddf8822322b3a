"""The list of faults, who shows them, and what is made of what came of the scenarios."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from e2e.faults import FAULTS, NAMES, ROOT, Record, Scenario, Verdict, chosen, described, line, status
from e2e.lab.errors import LabError

MARK = re.compile(r'pytest\.mark\.fault\("([^"]*)"\)')

README = ROOT / "e2e/README.md"


def scenarios_of(name: str) -> list[Path]:
    """Files that have a scenario of a fault."""
    return [
        file for file in sorted((ROOT / "e2e/scenarios").rglob("test_*.py")) if name in MARK.findall(file.read_text())
    ]


def test_every_fault_is_shown_by_a_scenario_and_every_scenario_names_one_of_them() -> None:
    named = {name for file in (ROOT / "e2e/scenarios").rglob("*.py") for name in MARK.findall(file.read_text())}
    assert named == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_where_a_fault_is_shown(name: str) -> None:
    (row,) = [row for row in README.read_text(encoding="utf-8").splitlines() if row.startswith(f"| `{name}` |")]
    files = [file.relative_to(ROOT / "e2e/scenarios").as_posix() for file in scenarios_of(name)]
    assert sorted(re.findall(r"`(\w+/test_\w+\.py)`", row)) == files


def test_faults_are_chosen_by_name_and_all_of_them_where_none_is_named() -> None:
    assert chosen(()) == FAULTS
    assert [fault.name for fault in chosen(("disk-full", "etcd-paused"))] == ["etcd-paused", "disk-full"]
    with pytest.raises(LabError) as caught:
        chosen(("disk",))
    assert str(caught.value).startswith("no fault is called 'disk'; there are api-server-killed, etcd-paused, ")


def recorded(**came: list[Scenario]) -> Record:
    """What came of two faults, etcd's and the disk's."""
    record = Record(frozenset(("etcd-paused", "disk-full")))
    record.scenarios = {f"{name}-{number}": one for name, found in came.items() for number, one in enumerate(found)}
    return record


def scenario(*faults: str, passed: bool = False, failed: bool = False) -> Scenario:
    return Scenario(faults, passed, failed, 20.4)


PAUSED, FULL = chosen(("etcd-paused", "disk-full"))

CAME = [
    ("all pass", [scenario("etcd-paused", passed=True), scenario("etcd-paused", passed=True)], Verdict.HELD, 0),
    ("one fails", [scenario("etcd-paused", passed=True), scenario("etcd-paused", failed=True)], Verdict.NOT_HELD, 1),
    ("one fails as it is taken down", [scenario("etcd-paused", passed=True, failed=True)], Verdict.NOT_HELD, 1),
    ("one is skipped", [scenario("etcd-paused", passed=True), scenario("etcd-paused")], Verdict.NOT_SHOWN, 2),
    ("there is none", [], Verdict.NOT_SHOWN, 2),
]  # fmt: skip


@pytest.mark.parametrize(("what", "came", "verdict", "code"), CAME, ids=[row[0] for row in CAME])
def test_a_fault_holds_when_every_scenario_of_it_passes(
    what: str, came: list[Scenario], verdict: Verdict, code: int
) -> None:
    record = recorded(one=came, other=[scenario("disk-full", passed=True)])
    assert record.verdict("etcd-paused") is verdict
    assert record.verdict("disk-full") is Verdict.HELD
    assert status(record, (PAUSED, FULL)) == code
    assert status(record, (FULL,)) == 0


def test_what_came_of_a_fault_is_one_line_and_what_it_is_follows() -> None:
    record = recorded(one=[scenario("etcd-paused", passed=True), scenario("etcd-paused", failed=True)])
    assert line(record, PAUSED) == "etcd-paused          NOT HELD     41 s  2 scenarios"
    assert described(PAUSED).startswith("    done       etcd stands still (SIGSTOP) for 8 s under a load of pods\n")
    assert max(map(len, described(PAUSED).splitlines())) <= 120


@dataclass
class Item:
    """What pytest has collected, as far as it is looked at."""

    nodeid: str
    faults: tuple[str, ...]

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [pytest.Mark(name, (fault,), {}, _ispytest=True) for fault in self.faults]


def test_only_the_scenarios_of_the_wanted_faults_are_run_and_each_phase_of_them_counts() -> None:
    items: list[Any] = [Item("one", ("etcd-paused",)), Item("both", ("etcd-paused", "disk-full")), Item("none", ())]
    left_out: list[Item] = []
    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: left_out.extend(items)))
    record = Record(frozenset(("disk-full",)))
    record.pytest_collection_modifyitems(config, items)
    assert [item.nodeid for item in items] == ["both"]
    assert [item.nodeid for item in left_out] == ["one", "none"]
    record.pytest_runtest_logreport(report("setup", "failed", 1.0))
    assert record.verdict("disk-full") is Verdict.NOT_SHOWN
    for phase in ("setup", "call", "teardown"):
        record.pytest_runtest_logreport(report(phase, "passed", 7.0))
    assert (record.verdict("disk-full"), record.of("disk-full")[0].seconds) == (Verdict.HELD, 7.0)
    record.pytest_runtest_logreport(report("teardown", "failed", 1.0))
    assert record.verdict("disk-full") is Verdict.NOT_HELD


def report(when: Literal["setup", "call", "teardown"], outcome: Literal["passed", "failed"], seconds: float) -> Any:
    """What pytest says of a phase of the scenario ``both``."""
    return pytest.TestReport("both", ("both", 0, "both"), {}, outcome, None, when, duration=seconds)


FOLDERS = """
import sys
import pytest
from e2e.faults import Record
record = Record(frozenset(("disk-full",)))
pytest.main(["-q", "-p", "no:cacheprovider", "-o", "markers=fault(name): x", sys.argv[1]], plugins=[record])
print([record.verdict(name).value for name in ("disk-full", "etcd-paused")])
"""


def test_pytest_runs_with_the_record_where_folders_have_plugins_of_their_own(tmp_path: Path) -> None:
    for name, fault in (("one", "disk-full"), ("other", "etcd-paused")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conftest.py").write_text("def pytest_runtest_logreport(report): pass\n")
        text = f"import pytest\n\n\n@pytest.mark.fault('{fault}')\ndef test_it():\n    pass\n"
        (tmp_path / name / f"test_{name}.py").write_text(text)
    done = subprocess.run([sys.executable, "-c", FOLDERS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "['held', 'not shown']", done.stdout
