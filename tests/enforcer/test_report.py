"""The report is replaced whole, complains once, and is read with a clear word about whatever is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enforcer.kernel import Level, Support
from enforcer.promise import ContainerPromise, PodPromise
from enforcer.report import MissingReport, Report, ReportFile, encode, read_report
from shared.cpuset import EMPTY, CpuSet
from shared.errors import InputError

cpus = CpuSet.parse
REPORT = Report(
    "node-1",
    cpus("0-3"),
    Support(False, "old"),
    (
        PodPromise("u", "default", "web", "/kubepods/podu", "exclusive", cpus("4-7"), Level.ISOLATED, "why", (0, 1),
                   (ContainerPromise("c", "app", "/kubepods/podu/c", cpus("4-5"), cpus("0"), True),)),
        PodPromise("v", "default", "log", "/kubepods/podv", "none"),
    ),
)  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert ReportFile(tmp_path / "run").write(REPORT) == ""
    assert read_report(tmp_path / "run") == REPORT
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["report.json"]


def test_an_unchanged_report_is_not_written_again(tmp_path: Path) -> None:
    file = ReportFile(tmp_path)
    file.write(REPORT)
    before = file.path.stat().st_ino
    file.write(REPORT)
    assert file.path.stat().st_ino == before
    file.write(Report("node-1", EMPTY, Support(True)))
    assert file.path.stat().st_ino != before


def test_an_unwritable_folder_is_told_once_until_it_works(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder should be")
    file = ReportFile(tmp_path / "run")
    assert file.write(REPORT) == (
        f"{tmp_path}/run/report.json cannot be written (File exists): pods are bound all the same, but 'armistice "
        "proof' has nothing to go by; mount a folder there that the enforcer may write"
    )
    assert file.write(REPORT) == ""
    (tmp_path / "run").unlink()
    assert file.write(REPORT) == ""
    assert read_report(tmp_path / "run") == REPORT


def test_what_is_there_already_ends_an_outage_and_the_next_is_told_again(tmp_path: Path) -> None:
    file, other = ReportFile(tmp_path / "run"), Report("node-1", EMPTY, Support(True))
    file.write(REPORT)
    for _ in range(2):
        (tmp_path / "run").rename(tmp_path / "away")
        (tmp_path / "run").write_text("a file where a folder should be")
        assert "cannot be written" in file.write(other)
        assert file.failing
        (tmp_path / "run").unlink()
        (tmp_path / "away").rename(tmp_path / "run")
        assert file.write(REPORT) == ""
        assert not file.failing


def test_a_missing_report_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(MissingReport) as caught:
        read_report(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/report.json is not there: run this on a node whose enforcer runs, or name the enforcer's folder "
        "with --state-dir"
    )


WHOLE = json.dumps(encode(REPORT))
BAD = [
    ("nothing", "", "is cut or not JSON"),
    ("a cut one", WHOLE[:200], "is cut or not JSON"),
    ("garbage", "\0\1\2", "is cut or not JSON"),
    ("deep nesting", "[" * 100_000, "is cut or not JSON"),
    ("a list", "[]", "has version None where 'armistice.dev/report/v1' was expected"),
    ("an old one", '{"version": "armistice.dev/report/v0"}',
     "has version 'armistice.dev/report/v0' where 'armistice.dev/report/v1' was expected"),
    ("one without promises", '{"version": "armistice.dev/report/v1"}', "is not a whole report (KeyError: 'support')"),
    ("an unknown level", WHOLE.replace('"isolated"', '"best"'),
     "is not a whole report (ValueError: 'best' is not a valid Level)"),
    ("CPUs that are none", WHOLE.replace('"0-3"', '"x"'),
     "is not a whole report (InputError: 'x' is not a CPU list; write it as 0-3,8)"),
    ("a number for a name", WHOLE.replace('"web"', "7"), "is not a whole report (TypeError: 7 is no text)"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "content", "told"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_report_is_told_with_the_way_out(tmp_path: Path, what: str, content: str, told: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError) as caught:
        read_report(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/report.json {told}: restart this node's enforcer, which writes it anew, and use its own version"
    )


@pytest.mark.parametrize("length", range(0, len(WHOLE), 7))
def test_no_cut_gives_a_traceback(tmp_path: Path, length: int) -> None:
    (tmp_path / "report.json").write_text(WHOLE[:length])
    with pytest.raises(InputError):
        read_report(tmp_path)
