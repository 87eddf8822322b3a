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
    """One verb on one resource, of some names or of all."""

    resource: str
    """With its group behind a dot, unless it is of the core."""
    verb: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        of = f" of {', '.join(self.names)}" if self.names else ""
        return f"{self.verb} {self.resource}{of}"


def split(rules: Rules) -> list[Right]:
    """Every right that rules give."""
    return [
        Right(f"{resource}.{group}".rstrip("."), verb, tuple(rule.get("resourceNames", ())))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def rule_of(right: Right) -> dict[str, Any]:
    """A rule that gives one right."""
    resource, _, group = right.resource.partition(".")
    names = {"resourceNames": list(right.names)} if right.names else {}
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
    def without(self, right: Right) -> Iterator[None]:
        """The role has all of its rights but one; afterwards all."""
        self._write([one for one in self.stored if one != right])
        try:
            yield
        finally:
            self._write(self.stored)

    def _write(self, rights: Sequence[Right]) -> None:
        patch = [{"op": "replace", "path": "/rules", "value": [rule_of(right) for right in rights]}]
        self.plane.kubectl("patch", self.kind, self.name, *self._where(), "--type=json", "-p", json.dumps(patch))

    def _where(self) -> tuple[str, ...]:
        return ("-n", self.namespace) if self.namespace else ()
