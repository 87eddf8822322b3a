"""A pod's neighbours kept off it in five ways, on real nodes of one shape, one after the other.

The first node has the kubelet that most clusters have: at first with nothing else, then with Armistice, by each of its
isolations. The second has the kubelet's own answer, the pod-level resource managers.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import armistice
from e2e.lab.controlplane import ControlPlane
from e2e.lab.images import archive
from e2e.lab.kubelet import KubeletVariant, Runtime
from e2e.lab.namespace import Namespace
from e2e.lab.shapes import named
from e2e.lab.state import Run
from e2e.lab.tools import Tool, made
from e2e.scenarios.enforcer.armed import armistice_on
from e2e.scenarios.nodes.conftest import Cluster, ready_node
from tests.bench import trial

SHAPE = "2x2"

APPLICATION = Tool("requests", "requests", "./.", root=Path(__file__).parent)

NOTHING, PEER = "nothing", "pod-level managers"
ISOLATIONS = ("cpuset", "partition", "isolated")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is put: one arrangement, ready."""

    name: str
    cluster: Cluster
    space: Namespace


def places(folder: Path, isolations: Sequence[str] = ISOLATIONS) -> Generator[Place, None, None]:
    """The arrangements one after the other; whoever asks for the next has left the last without pods."""
    run = Run.create(f"bench-latency-{os.getpid()}")
    try:
        plane = ControlPlane.start(run, feature_gates=KubeletVariant.PEER.feature_gates)
        images = (_application(folder, run), armistice.image("enforcer", run.progress))
        with ready_node(plane, named(SHAPE), images=images, runtime=Runtime.RUNC) as node:
            cluster = Cluster(plane, node)
            yield Place(NOTHING, cluster, Namespace.make(plane))
            yield from _isolated(cluster, folder, isolations)
        with ready_node(plane, named(SHAPE), KubeletVariant.PEER, images=images[:1], runtime=Runtime.RUNC) as node:
            yield Place(PEER, Cluster(plane, node), Namespace.make(plane))
    finally:
        run.down()


def _isolated(cluster: Cluster, folder: Path, isolations: Sequence[str]) -> Iterator[Place]:
    with armistice_on(cluster, folder) as armed:
        for isolation in isolations:
            with armed.judged(isolation, "--isolation", isolation):
                yield Place(f"Armistice {isolation}", cluster, armed.enforced(isolation))
                armed.clear()


def _application(folder: Path, run: Run) -> Path:
    program = made(APPLICATION, run.progress)
    path = folder / "requests.tar"
    path.write_bytes(archive(trial.image(program.read_bytes())))
    return path
