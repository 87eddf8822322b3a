"""A namespace for one test."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from e2e.lab.controlplane import ControlPlane

PATIENCE = 300
"""Seconds until a wait is given up. It holds nobody to being quick: pods that are Ready in 10 on idle cores took 90
where others used them."""

_numbers: Iterator[int] = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace, and kubectl in it."""

    plane: ControlPlane
    name: str

    @classmethod
    def make(cls, plane: ControlPlane, labels: Mapping[str, str] | None = None) -> Namespace:
        """A new one, ready for pods: its service account is there."""
        name = f"scenario-{next(_numbers)}"
        metadata = {"name": name, "labels": dict(labels or {})}
        plane.kubectl(
            "create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        )
        plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=30s")
        return cls(plane, name)

    def apply(self, *objects: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """What ``kubectl apply`` does with the objects: status, standard output and error."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)} if len(objects) != 1 else objects[0]
        return self.plane.kubectl_raw("apply", "-n", self.name, "-f", "-", input=json.dumps(listed))

    def create_dry(self, obj: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """What ``kubectl create --dry-run=server`` says: everything is asked and nothing stored."""
        flags = ("--dry-run=server", "-n", self.name, "-f", "-")
        return self.plane.kubectl_raw("create", *flags, input=json.dumps(obj))

    def wait(self, *args: str, seconds: int = PATIENCE) -> None:
        """``kubectl wait``. Raises LabError when the time is over."""
        self.plane.kubectl("wait", *args, "-n", self.name, f"--timeout={seconds}s")

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object as it is stored. Raises LabError if it is not there."""
        found = json.loads(self.plane.kubectl("get", kind, name, "-n", self.name, "-o", "json"))
        assert isinstance(found, dict)
        return found

    def list(self, kind: str) -> list[dict[str, Any]]:
        """Every object of a kind."""
        found = json.loads(self.plane.kubectl("get", kind, "-n", self.name, "-o", "json"))
        return list(found["items"])

    def drop(self) -> None:
        """Delete it with everything in it, without waiting for the end of that."""
        self.plane.kubectl("delete", "namespace", self.name, "--wait=false")
