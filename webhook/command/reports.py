"""``armistice check`` for machines that show findings: JUnit XML, SARIF 2.1.0, and GitHub's workflow commands.

Each function takes the items of ``check -o json`` and gives the whole text, the last line ended. The same items give
the same text: no clock, no host name. What an item means is decided once, by :func:`_outcome`:

==================================  ==========  ================  =============
verdict                             JUnit       SARIF             GitHub
==================================  ==========  ================  =============
fits                                passed      no result         nothing
unknown                             skipped     ``note``          ``::notice``
any other, the policy allows it     failure     ``warning``       ``::warning``
any other, the policy rejects it    failure     ``error``         ``::error``
==================================  ==========  ================  =============

JUnit knows no warning; an allowed misfit is a failure there because the command's exit code is 1 for it as well. SARIF
does have passes, but readers that ignore ``kind`` would show them as findings; ``artifacts`` names every file judged.

XML and JSON are written in ASCII with escapes, so that no stream's encoding can damage them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from shared.quantity import spoken, text
from shared.version import VERSION
from webhook.verdict import Verdict

Items = Sequence[Mapping[str, Any]]
"""As in ``check -o json``; beside its fields ``notes`` and ``line`` (where the object starts, from 1) may be there."""


class Outcome(Enum):
    """What an item means to a reader of findings; the value is the word of SARIF and of GitHub, where they have one."""

    PASSED = "none"
    UNKNOWN = "note"
    TOLERATED = "warning"
    REJECTED = "error"


@dataclass(frozen=True, slots=True)
class _Finding:
    """One item, its text made safe for every format."""

    file: str
    """As given with ``-f``: ``-`` is standard input."""
    document: int
    """The object's number in the file, from 1; 0 where the source names none."""
    line: int | None
    kind: str
    namespace: str
    name: str
    verdict: Verdict
    outcome: Outcome
    item: Mapping[str, Any]

    @property
    def title(self) -> str:
        """``Deployment default/web``."""
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def message(self) -> str:
        """What a person applying the object would read."""
        return str(self.item.get("message") or "")

    @property
    def notes(self) -> Sequence[str]:
        """What is worth knowing although nothing is wrong."""
        return self.item.get("notes") or ()


STDIN = "-"
STDIN_NAME = "stdin"
"""How a report calls standard input."""

NAMELESS = "(no name)"
"""An object that leaves its name to the API server, as messages call it."""

UNSAFE = re.compile("[^\t\n\r\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 forbids (section 2.2: controls, lone surrogates), and the controls of ISO 6429 that a terminal obeys."""


def _findings(items: Items) -> Iterator[_Finding]:
    for raw in items:
        item = _safe(raw)
        verdict = Verdict(item["verdict"])
        file, document = _split(raw["source"])
        yield _Finding(
            file=file,
            document=document,
            line=item.get("line"),
            kind=item["kind"],
            namespace=item["namespace"],
            name=item["name"] or NAMELESS,
            verdict=verdict,
            outcome=_outcome(verdict, item["allowed"]),
            item=item,
        )


def _safe(value: Any) -> Any:
    """The same value without characters that XML or a terminal could not bear."""
    if isinstance(value, str):
        return UNSAFE.sub("", value)
    if isinstance(value, Mapping):
        return {key: _safe(inner) for key, inner in value.items()}
    return [_safe(inner) for inner in value] if isinstance(value, list | tuple) else value


def _split(source: str) -> tuple[str, int]:
    file, mark, number = source.rpartition("#")
    if not mark or not number.isdecimal():
        file, number = source, "0"
    return file, int(number)


def _name(file: str) -> str:
    return STDIN_NAME if file == STDIN else UNSAFE.sub("", file)


def _outcome(verdict: Verdict, allowed: bool) -> Outcome:
    if verdict is Verdict.FITS:
        return Outcome.PASSED
    if verdict is Verdict.UNKNOWN:
        return Outcome.UNKNOWN
    return Outcome.TOLERATED if allowed else Outcome.REJECTED


# JUnit, as https://github.com/jenkinsci/xunit-plugin describes it (junit-10.xsd).


def junit(items: Items) -> str:
    """A test suite per file, in the order of the input; a test case per object. Times are 0: nothing was run."""
    suites: dict[str, list[_Finding]] = {}
    for finding in _findings(items):
        suites.setdefault(finding.file, []).append(finding)
    everything = [finding for findings in suites.values() for finding in findings]
    counts = {name: count for name, count in _counts(everything).items() if name != "skipped"}
    root = ElementTree.Element("testsuites", {"name": "armistice check", **counts})
    for file, findings in suites.items():
        name = _name(file)
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, "file": name, **_counts(findings)})
        for finding in findings:
            _add_case(suite, finding)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return written.decode("ascii") + "\n"


def _counts(findings: Sequence[_Finding]) -> dict[str, str]:
    found = Counter(finding.outcome for finding in findings)
    return {
        "tests": str(len(findings)),
        "failures": str(found[Outcome.TOLERATED] + found[Outcome.REJECTED]),
        "errors": "0",
        "skipped": str(found[Outcome.UNKNOWN]),
        "time": "0",
    }


def _add_case(suite: ElementTree.Element, finding: _Finding) -> None:
    attributes = {"name": finding.title, "classname": _name(finding.file), "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    if finding.outcome is Outcome.UNKNOWN:
        ElementTree.SubElement(case, "skipped", {"message": finding.message})
    elif finding.outcome is not Outcome.PASSED:
        failure = ElementTree.SubElement(case, "failure", {"type": finding.verdict.value, "message": finding.message})
        failure.text = "\n".join(_details(finding))
    if finding.notes:
        ElementTree.SubElement(case, "system-out").text = "\n".join(finding.notes)


def _details(finding: _Finding) -> Iterator[str]:
    """The numbers behind a misfit, a line each."""
    item = finding.item
    yield f"source: {item['source']}"
    policy = "rejected" if finding.outcome is Outcome.REJECTED else "allowed"
    yield f"verdict: {finding.verdict.value}, {policy} by the policy"
    if zone := item.get("largest_numa_node"):
        machine = f" of {zone['machine']}" if "machine" in zone else ""
        yield f"largest NUMA node: {zone['node']}{machine}, {_weight(zone)}"
    for sidecar in item.get("sidecars") or ():
        yield f"sidecar {sidecar['name']}: {_weight(sidecar)}, {sidecar['share']} % of the pod"
    for change in item.get("smallest_change") or ():
        resource = change["resource"]
        before, after = text(resource, change["from"]), text(resource, change["to"])
        yield f"smallest change: {change['container']} {resource} from {before} to {after}"
    yield f"fits on: {', '.join(item.get('fits_on') or ()) or 'none of the machines considered'}"


def _weight(holder: Mapping[str, Any]) -> str:
    return f"{spoken('cpu', holder['cpu'])} and {spoken('memory', holder['memory'])}"


# SARIF, https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html; section numbers are those of it.

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

SOURCE_ROOT = "%SRCROOT%"
"""Section 3.14.14's name for the folder that relative addresses start from."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A verdict as SARIF's rule (section 3.49). Its id is interface: findings are matched by it from run to run."""

    verdict: Verdict
    short: str
    full: str
    help: str

    @property
    def id(self) -> str:
        return f"armistice/{self.verdict.value}"

    @property
    def name(self) -> str:
        return "".join(word.capitalize() for word in self.verdict.value.split("-"))


RULES = (
    _Rule(
        Verdict.SIDECARS_TOO_HEAVY,
        "Sidecars too heavy",
        "The pod would fit one NUMA node without its sidecars, or they take more of it than max-sidecar-share allows.",
        "Lower the requests of the sidecars, the heaviest first, as the smallest change says; or choose nodes with "
        "larger NUMA nodes; or raise max-sidecar-share where the share is meant.",
    ),
    _Rule(
        Verdict.POD_TOO_LARGE,
        "Pod too large",
        "No NUMA node of the nodes considered holds the pod, and would not without its sidecars either.",
        "Lower the requests of its containers, as the smallest change says; or split the work over more pods; or "
        "choose nodes with larger NUMA nodes.",
    ),
    _Rule(
        Verdict.UNEVEN,
        "Exclusive containers own every CPU",
        "The pod asks for all CPUs of its own through containers that own whole CPUs; no CPU is left for its others.",
        "Raise the CPU request in spec.resources by at least one CPU, or give an exclusive container one CPU less.",
    ),
    _Rule(
        Verdict.UNKNOWN,
        "Topology unknown",
        "No eligible node has published a topology, so it cannot be said whether the pod fits one NUMA node.",
        "Name machines to hold the pod against: --machine NAME, --nodes FILE, --sysfs ROOT or --cluster.",
    ),
)
"""Every verdict that is a finding, in the order of :class:`Verdict`."""

_RULE_INDEX = {rule.verdict: index for index, rule in enumerate(RULES)}


def sarif(items: Items, root: Path | None = None) -> str:
    """One run with a result for each object that does not fit or is not known to fit.

    Files below ``root`` (by default the working folder) get addresses relative to it. Results are sorted by file and by
    the object's place in it; the order of ``-f`` does not matter.
    """
    base = root or Path.cwd()
    findings = sorted(_findings(items), key=lambda f: (_address(f.file, base), f.document, f.title, f.verdict.value))
    files = {_address(f.file, base): f.file for f in findings}  # one entry however often and however spelled
    places = {address: index for index, address in enumerate(files)}
    driver = {"name": "Armistice", "version": VERSION, "rules": [_rule(rule) for rule in RULES]}
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {SOURCE_ROOT: {"description": {"text": "The folder that the command was started in."}}},
        "artifacts": [_artifact(file, base) for file in files.values()],
        "results": list(_results(findings, places, base)),
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(rule: _Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.short},
        "fullDescription": {"text": rule.full},
        "help": {"text": rule.help},
        "defaultConfiguration": {"level": _outcome(rule.verdict, allowed=False).value},
    }


def _artifact(file: str, base: Path) -> dict[str, Any]:
    """Section 3.24. Standard input is called a stream, so that nobody looks for a file of that name."""
    roles = ["analysisTarget", "standardStream"] if file == STDIN else ["analysisTarget"]
    return {"location": _location(file, base), "roles": roles}


def _location(file: str, base: Path) -> dict[str, Any]:
    address = _address(file, base)
    return {"uri": address} if address.startswith("file:") else {"uri": address, "uriBaseId": SOURCE_ROOT}


def _relative(file: str, base: Path) -> str:
    """The file as seen from the folder where it lies below it; otherwise as it was named, without detours."""
    path = Path(os.path.normpath(file))
    return str(path.relative_to(base) if path.is_absolute() and path.is_relative_to(base) else path)


def _address(file: str, base: Path) -> str:
    """A URI reference (RFC 3986): relative with every other character encoded, ``file:`` for what lies elsewhere."""
    path = Path(STDIN_NAME if file == STDIN else _relative(file, base))
    return path.as_uri() if path.is_absolute() else quote(os.fsencode(path.as_posix()))


def _results(findings: Iterable[_Finding], places: Mapping[str, int], base: Path) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for finding in findings:
        address = _address(finding.file, base)
        identity = "\n".join((address, finding.kind, finding.namespace, finding.name))
        seen[identity] += 1
        if finding.outcome is not Outcome.PASSED:
            fingerprint = f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}:{seen[identity]}"
            yield _result(finding, fingerprint, {**_location(finding.file, base), "index": places[address]})


def _result(finding: _Finding, fingerprint: str, location: Mapping[str, Any]) -> dict[str, Any]:
    region = {} if finding.line is None else {"region": {"startLine": finding.line}}
    where = {
        "name": finding.name,
        "fullyQualifiedName": f"{finding.namespace}/{finding.kind}/{finding.name}",
        "kind": "object",
    }
    fields = ("allowed", "sidecars", "largest_numa_node", "smallest_change", "fits_on")
    return {
        "ruleId": f"armistice/{finding.verdict.value}",
        "ruleIndex": _RULE_INDEX[finding.verdict],
        "level": finding.outcome.value,
        "message": {"text": finding.message},
        "locations": [
            {"physicalLocation": {"artifactLocation": location, **region}, "logicalLocations": [where]},
        ],
        "partialFingerprints": _fingerprints(finding, fingerprint),
        "properties": {"source": finding.item["source"], **{f: finding.item[f] for f in fields if f in finding.item}},
    }


def _fingerprints(finding: _Finding, fingerprint: str) -> dict[str, str]:
    """The object's identity and its turn among equals, so that a finding is known again wherever in its file it moves.

    GitHub compares ``primaryLocationLineHash`` alone and works it out itself where a line is known; without one, two
    objects of a file would be taken for one finding.
    """
    ours = {"armistice/object/v1": fingerprint}
    return ours if finding.line is not None else {**ours, "primaryLocationLineHash": fingerprint}


# GitHub's workflow commands, as the runner parses them.

GITHUB_COMMANDS = {Outcome.UNKNOWN: "notice", Outcome.TOLERATED: "warning", Outcome.REJECTED: "error"}

_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def github(items: Items, root: Path | None = None) -> str:
    """A line for each object that does not fit or is not known to fit, and for each note; nothing for what fits.

    Files below ``root`` (by default the working folder) are named relative to it.
    """
    lines: list[str] = []
    for finding in _findings(items):
        place = _place(finding, root or Path.cwd())
        if finding.outcome in GITHUB_COMMANDS:
            title = f"{finding.title}: {finding.verdict.value}"
            lines.append(_command(GITHUB_COMMANDS[finding.outcome], {**place, "title": title}, finding.message))
        lines += [_command("notice", {**place, "title": finding.title}, note) for note in finding.notes]
    return "".join(line + "\n" for line in lines)


def _place(finding: _Finding, base: Path) -> dict[str, str]:
    """Where the annotation goes; nowhere for standard input, which is no file of the repository."""
    if finding.file == STDIN:
        return {}
    place = {"file": UNSAFE.sub("", _relative(finding.file, base))}
    return place if finding.line is None else {**place, "line": str(finding.line)}


def _command(name: str, properties: Mapping[str, str], message: str) -> str:
    """One workflow command. The runner undoes these escapes, and only these; no text can start a second command."""
    described = ",".join(f"{key}={value.translate(_PROPERTY)}" for key, value in properties.items())
    return f"::{name} {described}::{message.translate(_DATA)}"
