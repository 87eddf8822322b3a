"""The report that a running enforcer leaves on its node, for ``armistice proof``: what was promised to whom.

It is written and never read by the enforcer itself, whose state comes from the node alone. A report that is missing,
cut or from another version costs a person the proof, and no pod anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enforcer.kernel import Level, Support
from enforcer.promise import ContainerPromise, PodPromise
from shared.cpuset import CpuSet
from shared.errors import InputError

VERSION = "armistice.dev/report/v1"
FILE_NAME = "report.json"
LARGEST = 16 * 2**20
"""Bytes read at most. A node with 250 pods of 10 containers has less than 1 MiB."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a node's enforcer promised."""

    machine: str
    """The node's name."""
    shared_pool: CpuSet
    """The node shared pool: CPUs that no bubble owns."""
    support: Support
    promises: tuple[PodPromise, ...] = ()


class ReportFile:
    """The report's place, ``/run/armistice``; it remembers whether it has complained."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._complained = False
        self._written = ""

    def write(self, report: Report) -> str:
        """Replace the report, whole or not at all. The answer is a warning, once until a write works again."""
        text = json.dumps(encode(report))  # on one line: indenting takes three times as long
        if text == self._written and self.path.exists():
            self._complained = False
            return ""
        try:
            replace_file(self.path, text)
        except OSError as error:
            return self._complain(error)
        self._complained, self._written = False, text
        return ""

    @property
    def failing(self) -> bool:
        """Whether the last write failed: what the file says, if it is there, is old."""
        return self._complained

    def _complain(self, error: OSError) -> str:
        if self._complained:
            return ""
        self._complained = True
        return (
            f"{self.path} cannot be written ({error.strerror or error}): pods are bound all the same, but 'armistice "
            f"proof' has nothing to go by; mount a folder there that the enforcer may write"
        )


def replace_file(path: Path, text: str) -> None:
    """Put a new content in a file's place so that a reader, and the next boot, find the old or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(fresh, "w", encoding="utf-8") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def read_report(folder: Path) -> Report:
    """The report in a folder. Raises InputError in one sentence with the way out."""
    path = folder / FILE_NAME
    try:
        with open(path, "rb") as source:
            content = json.loads(source.read(LARGEST))
    except FileNotFoundError as error:
        raise MissingReport(
            f"{path} is not there: run this on a node whose enforcer runs, or name the enforcer's folder with "
            f"--state-dir"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): run this as root") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, "is cut or not JSON") from error
    return _checked(path, content)


class MissingReport(InputError):
    """There is no report: this may be no node at all."""


def _checked(path: Path, content: object) -> Report:
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise _unusable(path, f"has version {version!r} where {VERSION!r} was expected")
    assert isinstance(content, dict)
    try:
        return decode(content)
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise _unusable(path, f"is not a whole report ({type(error).__name__}: {error})") from error


def _unusable(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}: restart this node's enforcer, which writes it anew, and use its own version")


def encode(report: Report) -> dict[str, Any]:
    """The report as JSON has it; CPU lists in the kernel's form."""
    return {
        "version": VERSION,
        "machine": report.machine,
        "shared_pool": str(report.shared_pool),
        "support": {"partitions": report.support.partitions, "why_not": report.support.why_not},
        "promises": [_encode_pod(promise) for promise in report.promises],
    }


def decode(content: Mapping[str, Any]) -> Report:
    """The way back."""
    support = content["support"]
    return Report(
        machine=_text(content["machine"]),
        shared_pool=_cpus(content["shared_pool"]),
        support=Support(_truth(support["partitions"]), _text(support["why_not"])),
        promises=tuple(_decode_pod(each) for each in _list(content["promises"])),
    )


def _encode_pod(promise: PodPromise) -> dict[str, Any]:
    return {
        "uid": promise.uid,
        "namespace": promise.namespace,
        "name": promise.name,
        "cgroup_parent": promise.cgroup_parent,
        "placement": promise.placement,
        "bubble": str(promise.bubble),
        "level": promise.level.value,
        "why_not": promise.why_not,
        "numa_nodes": list(promise.numa_nodes),
        "containers": [_encode_container(each) for each in promise.containers],
    }


def _decode_pod(content: Mapping[str, Any]) -> PodPromise:
    return PodPromise(
        uid=_text(content["uid"]),
        namespace=_text(content["namespace"]),
        name=_text(content["name"]),
        cgroup_parent=_text(content["cgroup_parent"]),
        placement=_text(content["placement"]),
        bubble=_cpus(content["bubble"]),
        level=Level(content["level"]),
        why_not=_text(content["why_not"]),
        numa_nodes=tuple(int(each) for each in _list(content["numa_nodes"])),
        containers=tuple(_decode_container(each) for each in _list(content["containers"])),
    )


def _encode_container(promise: ContainerPromise) -> dict[str, Any]:
    return {
        "id": promise.id,
        "name": promise.name,
        "cgroups_path": promise.cgroups_path,
        "cpus": str(promise.cpus),
        "mems": str(promise.mems),
        "owns": promise.owns,
    }


def _decode_container(content: Mapping[str, Any]) -> ContainerPromise:
    return ContainerPromise(
        id=_text(content["id"]),
        name=_text(content["name"]),
        cgroups_path=_text(content["cgroups_path"]),
        cpus=_cpus(content["cpus"]),
        mems=_cpus(content["mems"]),
        owns=_truth(content["owns"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _list(value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _cpus(value: object) -> CpuSet:
    return CpuSet.parse(_text(value))
