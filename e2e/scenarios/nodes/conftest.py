"""Nodes for scenarios. A virtual machine costs a third of a core even idle: it lives as long as its module's tests."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.kubelet import Containerd, KubeletVariant, Runtime
from e2e.lab.namespace import PATIENCE, Namespace
from e2e.lab.node import Node
from e2e.lab.shapes import Shape, named
from e2e.lab.state import Run
from e2e.observe import Container, Sight, container_ids, look


@dataclass(frozen=True, slots=True)
class Cluster:
    """A control plane with one node."""

    plane: ControlPlane
    node: Node

    def runs(self, namespace: Namespace, pod: dict[str, Any], seconds: int = PATIENCE) -> str:
        """Apply a pod, wait until all of its containers are ready and hold their memory (`workload.HOLD`); its name."""
        name = str(pod["metadata"]["name"])
        done = namespace.apply(pod)
        assert done.returncode == 0, done.stderr
        namespace.wait("--for=condition=Ready", f"pod/{name}", seconds=seconds)
        for one in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            self.holds(namespace, name, one["name"], seconds)
        return name

    def holds(self, namespace: Namespace, pod: str, container: str, seconds: int = PATIENCE) -> None:
        """Wait until a container has filled its memory: where its pages are shows nothing before."""
        end = time.monotonic() + seconds
        while "holding" not in self.plane.kubectl("logs", pod, "-c", container, "-n", namespace.name):
            assert time.monotonic() < end, f"container {container} of pod {pod} did not fill its memory in {seconds} s"
            time.sleep(0.2)

    def see(self, namespace: Namespace, pod: str) -> tuple[Sight, dict[str, Container]]:
        """What the kernel enforces now, and for each container of the pod."""
        identities = container_ids(self.plane, pod, namespace.name)
        sight = look(self.node)
        return sight, {name: sight.container(identity) for name, identity in identities.items()}


@contextmanager
def ready_node(
    plane: ControlPlane,
    shape: Shape,
    variant: KubeletVariant = KubeletVariant.NONE,
    number: int = 1,
    containerd: Containerd = Containerd.DEBIAN,
    images: Sequence[Path] = (),
    runtime: Runtime = Runtime.CRUN,
) -> Iterator[Node]:
    """A Ready node; afterwards gone, from the cluster too, so that another of its number may take its place.

    On crun pods start in less than half the time. ``test_everywhere`` shows that what users run, runc, binds alike.
    """
    plane.wait_settled()
    name = f"node-{shape.name}-containerd-{containerd.value}"
    node = Node(plane, shape, name, variant, number, runtime, containerd, extra_images=images)
    try:
        node.boot()
        node.wait_ready()
        yield node
    finally:
        node.stop()
        plane.kubectl("delete", "node", node.name, "--ignore-not-found")


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane) -> Iterator[Cluster]:
    """Two NUMA nodes of four CPUs and the kubelet as most clusters have it."""
    with ready_node(plane, named("2x4")) as node:
        yield Cluster(plane, node)


@pytest.fixture(scope="module")
def peer() -> Iterator[Cluster]:
    """The same machine with the kubelet's own answer to our problem switched on, on a control plane of its own."""
    run = Run.create(f"test-peer-{os.getpid()}-{secrets.token_hex(2)}")
    try:
        plane = ControlPlane.start(run, feature_gates=KubeletVariant.PEER.feature_gates)
        with ready_node(plane, named("2x4"), KubeletVariant.PEER) as node:
            yield Cluster(plane, node)
    finally:
        run.down()


@pytest.fixture
def peer_namespace(peer: Cluster) -> Iterator[Namespace]:
    """A fresh namespace of the peer's cluster."""
    made = Namespace.make(peer.plane)
    yield made
    made.drop()
