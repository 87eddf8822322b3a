"""The provider ``kind``: nodes as containers of Docker, for machines that have it, multi-NUMA ones above all.

It does only what differs from the provider ``local``: create, load an image, reach a node, delete.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.cache import cache_folder
from e2e.lab.errors import LabError
from e2e.lab.progress import Progress
from e2e.lab.tools import build

PREFIX = "armistice-"
"""Before a run's name: whose cluster it is, among others that kind has made here."""

NODE_READY = "180s"


def config(workers: int = 1) -> dict[str, Any]:
    """A cluster of one control plane and some workers, as kind's ``v1alpha4`` has it.

    NRI is on in containerd 2; the plugin's socket is where the enforcer expects it. The workers see the machine's own
    NUMA nodes, so that the scenarios that need two of them depend on the machine.
    """
    nri = '[plugins."io.containerd.nri.v1.nri"]\n  disable = false\n'
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"}, *({"role": "worker"} for _ in range(workers))],
        "containerdConfigPatches": [nri],
    }


def numa_nodes(sysfs: Path = Path("/sys")) -> int:
    """NUMA nodes with CPUs that this machine has: what a node of kind will see."""
    lists = (sysfs / "devices/system/node").glob("node[0-9]*/cpulist")
    return sum(1 for file in lists if file.read_text().strip())


def needs_two_numa_nodes(found: int) -> str:
    """Why a scenario that needs two NUMA nodes is skipped; empty when it need not be."""
    return "" if found > 1 else f"it needs two NUMA nodes, and this machine, which kind's nodes see, has {found}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that kind makes."""

    name: str
    kind: Path

    @classmethod
    def called(cls, name: str, progress: Progress | None = None) -> Cluster:
        """The cluster of a run's name, made or not. Raises LabError where there is no Docker to make it with."""
        _require_docker()
        return cls(PREFIX + name, build("kind", progress))

    @property
    def kubeconfig(self) -> Path:
        """Where kind writes the admin's."""
        return cache_folder() / "kind" / f"{self.name}.kubeconfig"

    def create(self, workers: int = 1) -> None:
        """Create it and wait until its nodes are Ready."""
        self.kubeconfig.parent.mkdir(exist_ok=True)
        path = self.kubeconfig.with_suffix(".json")
        path.write_text(json.dumps(config(workers)))
        self._kind(
            "create", "cluster", "--config", str(path), "--wait", NODE_READY, "--kubeconfig", str(self.kubeconfig)
        )

    def load(self, archive: Path) -> None:
        """Give every node the images of an OCI archive."""
        self._kind("load", "image-archive", str(archive))

    def sh(self, node: str, script: str) -> str:
        """Standard output of a shell script run as root in a node."""
        return _run(["docker", "exec", node, "sh", "-ec", script])

    def delete(self) -> None:
        """Take it away, made or not."""
        self._kind("delete", "cluster", "--kubeconfig", str(self.kubeconfig))
        for file in (self.kubeconfig, self.kubeconfig.with_suffix(".json")):
            file.unlink(missing_ok=True)

    def _kind(self, *args: str) -> str:
        return _run([str(self.kind), *args, "--name", self.name])


def _require_docker() -> None:
    if shutil.which("docker") is None:
        raise LabError(
            "--provider kind makes its nodes with Docker and there is no `docker` in PATH; "
            "install Docker, or use --provider local, which needs none"
        )
    _run(["docker", "version", "--format", "{{.Server.Version}}"])


def _run(argv: Sequence[str]) -> str:
    """Standard output; what went wrong as one sentence."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    if done.returncode == 0:
        return done.stdout
    raise LabError(complaint(" ".join([Path(argv[0]).name, *argv[1:3]]), done.stderr))


def complaint(command: str, said: str) -> str:
    """What kind or Docker said when they failed, and the way out where it is known."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:] or ["it said nothing"]
    if any(words in said for words in ("failed to pull image", "pull access denied", "Unable to find image")):
        return (
            f"`{command}` failed for want of kind's node image ({errors[0]}); `docker load` it on this machine, or "
            "use --provider local, which needs no image"
        )
    if "Cannot connect to the Docker daemon" in said:
        return f"`{command}` failed because Docker does not run here; start it, or use --provider local"
    return f"`{command}` failed: {errors[0]}"
