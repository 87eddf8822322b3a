"""helm, as built for the lab, beside the control plane and as its admin."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.armistice import ROOT
from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.tools import build

CHART = ROOT / "charts/armistice"

DELETED_WITHIN = 180.0
"""Seconds until the controllers are through with a namespace whose pods were on a node that has gone."""

_PHASE = "jsonpath={.status.phase}"

_TOLD = 'jsonpath={range .items[*]}{.count} times: {.message}{"\\n"}{end}'


@dataclass(frozen=True, slots=True)
class Release:
    """One installation of a chart, there or not yet."""

    plane: ControlPlane
    name: str
    namespace: str
    chart: Path = CHART
    program: str = "helm"
    """What the lab calls it; ``helm@3`` is the one before."""

    def install(self, values: Mapping[str, Any], *flags: str) -> str:
        """Install it, its namespace too; what helm says, the notes included. A namespace that is just being deleted,
        with an installation before this one, is waited for."""
        if self.plane.kubectl_raw("get", "namespace", self.namespace, "-o", _PHASE).stdout == "Terminating":
            gone = ("--for=delete", f"namespace/{self.namespace}", f"--timeout={DELETED_WITHIN:.0f}s")
            self.plane.kubectl("wait", *gone)
        return self.helm("install", self.name, str(self.chart), "--create-namespace", *flags, values=values)

    def upgrade(self, values: Mapping[str, Any], *flags: str) -> str:
        """Upgrade it to the chart, with these values and no others."""
        return self.helm("upgrade", self.name, str(self.chart), *flags, values=values)

    def uninstall(self, *flags: str) -> str:
        """Take it away."""
        return self.helm("uninstall", self.name, *flags)

    def manifest(self, values: Mapping[str, Any], *flags: str) -> str:
        """What would be applied, without asking the cluster."""
        return self.helm("template", self.name, str(self.chart), *flags, values=values)

    def helm(self, *words: str, values: Mapping[str, Any] | None = None) -> str:
        """What helm prints on standard output. Raises LabError with what it says, and its pods say, when it fails."""
        done = self.helm_raw(*words, values=values)
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise LabError(f"`helm {' '.join(words)}` failed: {said}\n{self.last_words()}")
        return done.stdout

    def last_words(self, selector: str = "") -> str:
        """What can be heard of its pods: a line for each container's state, each warning, and the end of each log."""
        pods = json.loads(self._kubectl("get", "pods", "-l", selector, "-o", "json").stdout or "{}").get("items", [])
        return "\n".join(line for pod in pods for line in self._words_of(pod)) or "it has no pods"

    def _words_of(self, pod: Mapping[str, Any]) -> Iterator[str]:
        name = pod["metadata"]["name"]
        yield f"{name}: {pod['status'].get('phase')}"
        for status in pod["status"].get("containerStatuses", []):
            yield f"{name}: {status['restartCount']} restarts, {status['state']}, before {status.get('lastState')}"
        warnings = f"involvedObject.name={name},type=Warning"
        told = self._kubectl("get", "events", f"--field-selector={warnings}", "-o", _TOLD).stdout
        for previous in ([], ["--previous"]):
            told += self._kubectl("logs", name, "--all-containers", "--tail=5", *previous).stdout
        yield from (f"{name}: {line}" for line in told.splitlines() if line.strip())

    def _kubectl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.plane.kubectl_raw(*words, "-n", self.namespace)

    def helm_raw(self, *words: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """The same with its status and standard error."""
        given = [] if values is None else ["--values", "-"]
        argv = [str(build(self.program, self.plane.run.progress)), *words, "--namespace", self.namespace, *given]
        return subprocess.run(
            self.plane.inside(argv),
            input="" if values is None else json.dumps(values),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self._homes(), "KUBECONFIG": str(self.plane.kubeconfig)},
        )

    def _homes(self) -> dict[str, str]:
        """What helm keeps for a person goes with the run."""
        folder = self.plane.folder / "helm"
        return {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
