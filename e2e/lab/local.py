"""The provider ``local``: the control plane as processes here, each node a virtual machine of any NUMA shape."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import carry, console
from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.kubelet import KubeletVariant, Runtime
from e2e.lab.node import Node
from e2e.lab.progress import Progress
from e2e.lab.shapes import Shape, named
from e2e.lab.snapshot import Snapshot, resume, take
from e2e.lab.state import Run

NO_NODE = "none"
"""In place of a shape: the control plane alone."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A run that is up."""

    run: Run
    plane: ControlPlane

    @classmethod
    def up(cls, name: str, shape: str, variant: KubeletVariant, progress: Progress) -> Lab:
        """Start a control plane, and a node unless the shape is ``none``; all of it goes away if any of it fails."""
        wanted = None if shape == NO_NODE else named(shape)
        run = Run.create(name, progress)
        try:
            plane = _with_node(run, wanted, variant) if wanted else ControlPlane.start(run, variant.feature_gates)
        except BaseException:
            run.down()
            raise
        run.release()
        return cls(run, plane)

    @classmethod
    def find(cls, name: str) -> Lab:
        """The run of that name. Raises LabError if it is not up."""
        run = Run.find(name)
        return cls(run, ControlPlane.attach(run))

    def nodes(self) -> list[str]:
        """Names of its virtual machines."""
        folder = self.run.folder / "nodes"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def folder_of(self, node: str) -> Path:
        """A node's disks and sockets. Raises LabError where there is no such node."""
        if node not in self.nodes():
            known = ", ".join(self.nodes()) or "none; `python -m e2e up --shape 2x4` makes one"
            raise LabError(f"the run {self.run.name!r} has no node {node!r}; nodes: {known}")
        return self.run.folder / "nodes" / node

    def sh(self, node: str, script: str) -> console.Reply:
        """Run a shell script as root in a node's guest."""
        return console.run_in_guest(self.folder_of(node) / "agent.sock", script, 3600)

    def load(self, node: str, archive: Path, progress: Progress) -> None:
        """Give a node's containerd the images of an OCI archive."""
        with progress.phase(f"{archive.name} loaded into {node}"):
            carry.load(self.run, self.folder_of(node) / "agent.sock", archive)

    def log(self, name: str) -> Path:
        """The log of a daemon."""
        path = self.run.logs / f"{name}.log"
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in self.run.logs.glob("*.log")))
            raise LabError(f"the run {self.run.name!r} has no log {name!r}; logs: {known}")
        return path

    def memory(self, pid: int) -> int:
        """Resident memory of a process, MiB."""
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * 4096 // 2**20

    def ready_nodes(self) -> list[str]:
        """Each node with its condition, as kubectl would say it."""
        items = json.loads(self.plane.kubectl("get", "nodes", "-o", "json"))["items"]
        return [f"{item['metadata']['name']} {_ready(item['status'].get('conditions', []))}" for item in items]


def _with_node(run: Run, shape: Shape, variant: KubeletVariant) -> ControlPlane:
    """A control plane with one Ready node: both from their snapshot, or booted, and then a snapshot is taken."""
    snapshot = Snapshot.of(shape, variant, Runtime.RUNC, run.progress)
    usable = snapshot.usable(time.time())
    plane = ControlPlane.start(run, variant.feature_gates, seed=snapshot.seed if usable else None)
    node = Node(plane, shape, "node1", variant)
    if usable:
        resume(snapshot, node)
        return plane
    node.boot()
    node.wait_ready()
    take(snapshot, node)
    return plane


def _ready(conditions: list[dict[str, str]]) -> str:
    found = [condition["status"] for condition in conditions if condition["type"] == "Ready"]
    return "Ready" if found == ["True"] else "not Ready"
