"""What a chart's roles allow, right by right, and each of them taken away for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e.lab.controlplane import ControlPlane

Rules = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource."""

    resource: str
    """With its group behind a dot, unless it is of the core."""
    verb: str
    name: str = ""
    """Of the one object; empty for all."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, self.resource, self.name)))


def split(rules: Rules) -> list[Right]:
    """Every right that rules give."""
    return [
        Right(f"{resource}.{group}".rstrip("."), verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    ]


def rule_of(right: Right) -> dict[str, Any]:
    """A rule that gives one right."""
    resource, _, group = right.resource.partition(".")
    names = {"resourceNames": [right.name]} if right.name else {}
    return {"apiGroups": [group], "resources": [resource], "verbs": [right.verb], **names}


@dataclass(frozen=True, slots=True)
class Role:
    """A ClusterRole, or a Role of a namespace."""

    plane: ControlPlane
    kind: str
    name: str
    namespace: str = ""
    stored: list[Right] = field(default_factory=list)

    @classmethod
    def read(cls, plane: ControlPlane, kind: str, name: str, namespace: str = "") -> Role:
        """As it is in the cluster."""
        role = cls(plane, kind, name, namespace)
        found = json.loads(plane.kubectl("get", kind, name, *role._where(), "-o", "json"))
        role.stored.extend(split(found["rules"]))
        return role

    @contextmanager
    def without(self, *rights: Right) -> Iterator[None]:
        """The role has all of its rights but these; afterwards all."""
        self._write([one for one in self.stored if one not in rights])
        try:
            yield
        finally:
            self._write(self.stored)

    def _write(self, rights: Sequence[Right]) -> None:
        patch = [{"op": "replace", "path": "/rules", "value": [rule_of(right) for right in rights]}]
        self.plane.kubectl("patch", self.kind, self.name, *self._where(), "--type=json", "-p", json.dumps(patch))

    def _where(self) -> tuple[str, ...]:
        return ("-n", self.namespace) if self.namespace else ()
