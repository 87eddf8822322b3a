"""Every command of the chart's README, typed in its order at a real API server.

Two processes stand in for the webhook's pods, with what the chart gives those, and one node that no machine stands
behind has published a topology. What needs a node that runs is listed with the reason, and where it is shown instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE, RELEASE
from e2e.lab.helm import CHART, Release
from e2e.lab.installed import Installed, publish, withdraw
from e2e.lab.replicas import Replicas
from e2e.lab.tools import build
from e2e.scenarios.plane.test_webhook import published
from tests.support.commands import commands
from webhook.command.__main__ import COMMANDS

pytestmark = pytest.mark.slow

README = CHART / "README.md"

NOT_TYPED = {
    "docker ": "needs Docker and a registry; e2e/lab/armistice.py builds the same Containerfiles",
    "kubectl --namespace armistice-system rollout status ": "needs a node; e2e/scenarios/nodes/test_chart.py",
    "helm test ": "runs a pod; e2e/scenarios/nodes/test_chart.py",
    "kubectl --namespace armistice-system logs ": "needs a pod that runs; e2e/scenarios/nodes/test_chart.py",
    "kubectl armistice proof ": "needs a pod that runs; e2e/scenarios/enforcer/test_proof.py",
}
"""Beginnings of commands that are not typed here, and why."""

OTHERWISE = {"helm uninstall armistice --namespace armistice-system": " --no-hooks"}
"""What is added, because the Job at the end needs a node."""

REFUSED = {
    "kubectl apply -f charts/armistice/examples/3-heavy.yaml": (
        'admission webhook "enforce.armistice.dev" denied the request: Pod "heavy": sidecars too heavy, they take '
        "50.0 % of its CPU, over the 25 % allowed; proxy asks 2 CPUs and 64 MiB (50.0 %); namespace armistice-example "
        "enforces single-numa-node"
    )
}
"""What is to fail, as the README says, and what is said then."""

INSTALLED = "helm install armistice "
UNINSTALLED = "helm uninstall armistice "

TYPED = [command for command in commands(README) if not command.startswith(tuple(NOT_TYPED))]


def test_no_reason_is_there_for_nothing() -> None:
    every = commands(README)
    for beginning in (*NOT_TYPED, *OTHERWISE, *REFUSED, INSTALLED, UNINSTALLED):
        assert any(command.startswith(beginning) for command in every), beginning


def known(command: str) -> bool:
    """Whether this version has what ``kubectl armistice`` is asked for."""
    words = command.split()
    return words[:2] != ["kubectl", "armistice"] or words[2] in COMMANDS


class Admin:
    """Somebody at a terminal in a checkout, with helm, kubectl and armistice, and rights to everything."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        self.replicas: Replicas | None = None
        (folder / "charts").symlink_to(CHART.parent)

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """One command, with what the cluster does by itself after it."""
        if command.startswith(UNINSTALLED):
            self.stop()
        done = self._run(command + OTHERWISE.get(command, ""))
        if command.startswith(INSTALLED) and done.returncode == 0:
            self._start()
        return done

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        path = [str(build(tool).parent) for tool in ("helm", "kubectl")]
        path.append(str(Path(sys.executable).parent))
        settings = {"KUBECONFIG": str(self.plane.kubeconfig), "PATH": ":".join([*path, os.environ["PATH"]])}
        return subprocess.run(
            self.plane.inside(["bash", "-c", command]),
            cwd=self.folder,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def _start(self) -> None:
        """A node that publishes, and the webhook's pods, so to speak."""
        publish(
            self.plane, {**published(), "topologyPolicies": []}, {"cpu": "8", "memory": "16Gi", "pods": "0"}
        )  # nobody would end a pod there
        self.replicas = Installed(Release(self.plane, RELEASE, NAMESPACE)).replicas()
        self.replicas.start(2)

    def stop(self) -> None:
        """And their end."""
        if self.replicas is not None:
            self.replicas.stop()
            self.replicas = None


@pytest.fixture
def admin(plane: ControlPlane, tmp_path: Path) -> Iterator[Admin]:
    """What they leave is taken away."""
    made = Admin(plane, tmp_path)
    yield made
    made.stop()
    Release(plane, RELEASE, NAMESPACE).helm_raw("uninstall", RELEASE, "--no-hooks", "--ignore-not-found")
    plane.kubectl("delete", "namespace", "shop", "armistice-example", NAMESPACE, "--ignore-not-found")
    withdraw(plane, published()["metadata"]["name"])
    plane.wait_settled()


def test_every_command_does_what_the_text_around_it_says(admin: Admin) -> None:
    for command in filter(known, TYPED):
        done = admin.types(command)
        print(f"$ {command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        if command in REFUSED:
            assert REFUSED[command] in done.stderr, command
        assert done.returncode == (1 if command in REFUSED else 0), f"{command}: {done.stderr}"
