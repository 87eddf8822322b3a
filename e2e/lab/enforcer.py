"""The enforcer on a node, by the chart: installed, waited for, ended the hard way, taken away and brought back.

Its image is already on the node: it comes with the node's settings, and is never pulled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.armistice import image_name
from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.helm import CHART, Release
from e2e.lab.node import Node
from e2e.lab.webhook import SigningKey

NAMESPACE = "armistice-system"
RELEASE = "armistice"
NAME = f"{RELEASE}-enforcer"
CONTAINER = "enforcer"

LABELS = {"app.kubernetes.io/name": "armistice", "app.kubernetes.io/component": "enforcer"}
"""How ``kubectl armistice proof`` finds the enforcer of a node."""

PROCESS = "python -m enforcer enforcer"
"""In the daemon's command line on the node, and in no other's: ``proof`` is a process of the same program."""

CRD = CHART / "crds/noderesourcetopologies.yaml"
"""What the topologies of nodes are published as; other installations bring the same definition."""

TOPOLOGIES = "noderesourcetopologies.topology.node.k8s.io"

AWAY = {"armistice.lab/nowhere": "true"}
"""A label that no node has."""

READY_WITHIN = 400.0
"""Seconds until a new pod of it is ready; measured in e2e/README.md."""

Manifest = dict[str, Any]


def values(node: str, public_key: str) -> Manifest:
    """What the chart is told: the enforcer alone, on one node, with the image that the node has."""
    repository, _, tag = image_name("enforcer").rpartition(":")
    own = {
        "image": {"repository": repository, "tag": tag},
        "publicKeys": public_key,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "cleanup": False,  # by a pod, which would need a node that may be gone by then
    }
    return {"image": {"pullPolicy": "Never"}, "webhook": {"enabled": False}, "enforcer": own}


@dataclass(frozen=True, slots=True)
class Enforcer:
    """The enforcer of one node."""

    plane: ControlPlane
    node: Node

    @classmethod
    def install(cls, plane: ControlPlane, node: Node, key: SigningKey) -> Enforcer:
        """Install it; it then starts by itself. Only one node of a control plane has it at a time."""
        found = cls(plane, node)
        found.release.install(values(node.name, key.public.read_text()))
        return found

    @property
    def release(self) -> Release:
        """The installation of the chart."""
        return Release(self.plane, RELEASE, NAMESPACE)

    def remove(self) -> None:
        """Take it away from the cluster, with what it published; whatever became of the node."""
        self.release.uninstall("--no-hooks")
        self._kubectl("delete", "pods", "-l", _selector(), "--force", "--grace-period=0", "--ignore-not-found")
        self.plane.kubectl_raw("delete", TOPOLOGIES, self.node.name, "--ignore-not-found")

    def wait_ready(self, seconds: float = READY_WITHIN) -> None:
        """Wait until its pod is ready: the runtime has told it everything. Raises LabError with what it said last."""
        end = time.monotonic() + seconds
        while not self._ready():
            if time.monotonic() > end:
                raise LabError(f"the enforcer was not ready within {seconds:.0f} s; {self._last_words()}")
            time.sleep(0.5)

    def _ready(self) -> bool:
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for pod in self.pods()
            if "deletionTimestamp" not in pod["metadata"]
            for condition in pod["status"].get("conditions", [])
        )

    def _last_words(self) -> str:
        return self.release.last_words(_selector())

    def pods(self) -> list[Manifest]:
        """Its pods as they are stored: one, or none."""
        return list(json.loads(self._kubectl("get", "pods", "-l", _selector(), "-o", "json"))["items"])

    def pid(self) -> int | None:
        """Of its process on the node; None while there is none."""
        found = self.node.agent(f"pgrep -o -f '{PROCESS}'").stdout.split()
        return int(found[0]) if found else None

    def kill(self) -> None:
        """kill -9, as the kernel does when memory is short. The kubelet starts it again."""
        self.node.sh(f"kill -9 {self._alive()}")

    def freeze(self) -> None:
        """Stop its process where it is, as a node does that swaps: it is there, and does nothing."""
        self.node.sh(f"kill -STOP {self._alive()}")

    def thaw(self) -> None:
        """Let it go on."""
        self.node.sh(f"kill -CONT {self._alive()}")

    def _alive(self) -> int:
        pid = self.pid()
        if pid is None:
            raise LabError(f"no process of the enforcer runs on node {self.node.name}; {self._last_words()}")
        return pid

    def memory(self) -> int:
        """Resident bytes of its process."""
        return int(self.node.sh(f"grep VmRSS /proc/{self._alive()}/status").split()[1]) * 1024

    def absent(self, seconds: float = 180) -> None:
        """No node is left for it; returns when its process has gone."""
        self._select({**AWAY, "kubernetes.io/hostname": self.node.name})
        end = time.monotonic() + seconds
        while self.pods() or self.pid() is not None:
            if time.monotonic() > end:
                raise LabError(f"the enforcer did not leave node {self.node.name} within {seconds:.0f} s")
            time.sleep(0.5)

    def present(self) -> None:
        """Its node is there again; returns when it is ready."""
        self._select({**dict.fromkeys(AWAY), "kubernetes.io/hostname": self.node.name})
        self.wait_ready()

    def _select(self, labels: Mapping[str, str | None]) -> None:
        patch = {"spec": {"template": {"spec": {"nodeSelector": labels}}}}
        self._kubectl("patch", "daemonset", NAME, "--type=merge", "-p", json.dumps(patch))

    def proof(self, pod: str, namespace: str) -> tuple[int, Manifest]:
        """``proof`` of a pod, run beside the daemon: its exit code, and what it prints as JSON."""
        words = ("python", "-m", "enforcer", "proof", pod, "-n", namespace, "-o", "json")
        done = self.plane.kubectl_raw("exec", "-n", NAMESPACE, self._pod(), "-c", CONTAINER, "--", *words)
        if not done.stdout.strip():
            raise LabError(f"proof of pod {namespace}/{pod} printed nothing: {done.stderr.strip()}")
        return done.returncode, json.loads(done.stdout)

    def proof_from_afar(self, pod: str, namespace: str) -> tuple[int, str]:
        """``kubectl armistice proof`` of a person who has a kubeconfig and no node: exit code and table."""
        words = ["proof", pod, "-n", namespace, "--remote"]
        command = [sys.executable, "-m", "webhook.command", *words]
        path = f"{self.plane.kubectl_path.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            self.plane.inside(command),
            env={**os.environ, "PATH": path, "KUBECONFIG": str(self.plane.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def _pod(self) -> str:
        names = [pod["metadata"]["name"] for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
        if not names:
            raise LabError(f"node {self.node.name} has no pod of the enforcer; {self._last_words()}")
        return str(names[0])

    def log(self, previous: bool = False, lines: int = -1) -> str:
        """What it said, or its last lines; with ``previous``, what the process before this one said."""
        flags = (f"--tail={lines}", *(("--previous",) if previous else ()))
        words = ("logs", "-n", NAMESPACE, "-l", _selector(), "-c", CONTAINER, *flags)
        return self.plane.kubectl_raw(*words).stdout

    def topology(self) -> Manifest | None:
        """What the node has published; None while there is nothing."""
        done = self.plane.kubectl_raw("get", TOPOLOGIES, self.node.name, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def write_topology(self, path: Path, seconds: float = 180) -> Path:
        """Write that down for the webhook's ``--nodes``, as soon as it is there."""
        end = time.monotonic() + seconds
        while (found := self.topology()) is None:
            if time.monotonic() > end:
                raise LabError(f"node {self.node.name} published no topology in {seconds:.0f} s; {self._last_words()}")
            time.sleep(0.5)
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [found]}), encoding="utf-8")
        return path

    def _kubectl(self, *words: str) -> str:
        return self.plane.kubectl(*words, "-n", NAMESPACE)


def _selector() -> str:
    return ",".join(f"{key}={value}" for key, value in LABELS.items())
