"""Our enforcer beside its peers on one real node: same kernel, same containerd, same pods, one plugin at a time.

For each plugin: put it on the node; start pods one by one, each an app with a CPU of its own and a native sidecar;
leave all of it alone for a while; read from the kernel where the apps may run, and who else may run there; delete the
pods; take the plugin off. A plugin that does not do what it is there for is an error and not a figure.

The virtual machine is emulated: processor time and seconds are many times those of real hardware, and only what one
plugin costs beside another says something. Memory and wake-ups are as they would be there.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.assertions import assert_disjoint, assert_nobody_else, assert_one_numa_node, kernel_list
from e2e.lab import armistice
from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.kubelet import Containerd
from e2e.lab.namespace import Namespace
from e2e.lab.shapes import named
from e2e.lab.state import Run
from e2e.lab.workload import container, pod, sidecar
from e2e.observe import Container, Sight, look
from e2e.scenarios.enforcer.armed import armistice_on
from e2e.scenarios.nodes.conftest import Cluster, ready_node
from tests.bench import peer_plugins
from tests.bench.process import Reading, read
from tests.bench.report import Figure, Target

SHAPE = "2x8"
"""Two NUMA nodes of eight CPUs: room for six pods whose app and sidecar have CPUs of their own."""

PODS, IDLE = 6, 30.0
"""Pods, and seconds without anything happening."""

SETTLING = 3.0
"""Seconds from the last event until a plugin is called idle."""

LIMIT_MEMORY = 64.0
"""Target: MiB resident."""

WITHIN = 120
"""Seconds for a pod to start, and for all of them to go; measured 5 and 20."""

IDLES = "exec sleep 2147483647"


@dataclass(frozen=True, slots=True)
class Placed:
    """A plugin on the node."""

    namespace: Namespace
    """Whose pods it is to look after."""
    pid: int | None
    """Of its process on the node; None where there is no plugin."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plugin that can be put on the node."""

    name: str
    place: Callable[[Cluster, Path], AbstractContextManager[Placed]]
    check: Callable[[Sight, Sequence[Container]], None]
    """Raises AssertionError where the kernel does not show what the plugin is there for. Given the pods' apps."""


@dataclass(frozen=True, slots=True)
class Life:
    """What one plugin cost, from its start to its end."""

    starts: tuple[float, ...]
    """Seconds from created to Running, of each pod."""
    strangers: tuple[int, ...]
    """Tasks of others that may run on an app's CPUs, for each app."""
    readings: tuple[Reading, ...] = ()
    """Without pods; with all of them; after the idle time; after they have gone. Empty without a plugin."""


def measure(quick: bool) -> Iterator[Figure]:
    """One machine, on which each plugin has its turn. Where one fails, the figures of those before it are there."""
    pods, idle = (2, IDLE / 3) if quick else (PODS, IDLE)
    try:
        with tempfile.TemporaryDirectory() as scratch, _cluster() as cluster:
            _life(cluster, Path(scratch), NOTHING, 1, 0)  # what only the first pod of a machine costs
            for candidate in CANDIDATES:
                yield from figures(candidate.name, _life(cluster, Path(scratch), candidate, pods, idle))
    except (LabError, AssertionError) as error:
        pytest.skip(str(error))


@contextmanager
def _cluster() -> Iterator[Cluster]:
    run = Run.create(f"bench-{os.getpid()}-{secrets.token_hex(2)}")
    try:
        plane = ControlPlane.start(run)
        image = armistice.image("enforcer", run.progress)
        with ready_node(plane, named(SHAPE), containerd=Containerd.NEW, images=(image,)) as node:
            yield Cluster(plane, node)
    finally:
        run.down()


# The plugins.


@contextmanager
def _nothing(cluster: Cluster, _: Path) -> Iterator[Placed]:
    yield Placed(Namespace.make(cluster.plane), None)


@contextmanager
def _noop(cluster: Cluster, _: Path) -> Iterator[Placed]:
    with peer_plugins.noop(cluster.node) as pid:
        yield Placed(Namespace.make(cluster.plane), pid)


@contextmanager
def _topology_aware(cluster: Cluster, folder: Path) -> Iterator[Placed]:
    with peer_plugins.topology_aware(cluster.node, folder) as pid:
        yield Placed(Namespace.make(cluster.plane), pid)


@contextmanager
def _armistice(cluster: Cluster, folder: Path) -> Iterator[Placed]:
    with armistice_on(cluster, folder) as armed:
        yield Placed(armed.enforced(), armed.enforcer.pid())


def _unbound(sight: Sight, apps: Sequence[Container]) -> None:
    every = frozenset(cpu for own in sight.numa.values() for cpu in own)
    for app in apps:
        assert _cpus(app) == every, f"an app may run on {kernel_list(_cpus(app))} alone; by whose doing?"


def _own_cpus(sight: Sight, apps: Sequence[Container]) -> None:
    for app in apps:
        cpus = _cpus(app)
        assert len(cpus) == 1, f"an app that asked for one CPU of its own runs on {kernel_list(cpus)}"
        home = assert_one_numa_node(sight, cpus, "an app")
        assert app.mems == {home}, f"an app of NUMA node {home} takes memory from {kernel_list(app.mems)}"
    assert_disjoint({app.identity[:12]: _cpus(app) for app in apps})


def _cpus(app: Container) -> frozenset[int]:
    """Where its threads may run."""
    assert app.tasks, f"container {app.identity[:12]} has no threads"
    return frozenset(cpu for task in app.tasks for cpu in task.cpus)


def _kernel_kept(sight: Sight, apps: Sequence[Container]) -> None:
    _own_cpus(sight, apps)
    for app in apps:
        assert_nobody_else(sight, _cpus(app), [app.identity])


NOTHING = Candidate("no plugin", _nothing, _unbound)
NOOP = Candidate("does nothing", _noop, _unbound)
OURS = Candidate("Armistice", _armistice, _kernel_kept)
PEER = Candidate("topology-aware", _topology_aware, _own_cpus)

CANDIDATES = (NOTHING, NOOP, OURS, PEER)


# A turn.


def _life(cluster: Cluster, folder: Path, candidate: Candidate, pods: int, idle: float) -> Life:
    progress = cluster.plane.run.progress
    with progress.phase(candidate.name), candidate.place(cluster, folder) as placed:
        readings: list[Reading] = []

        def note() -> None:
            if placed.pid is not None:
                readings.append(read(placed.pid, cluster.node.sh))

        time.sleep(SETTLING)
        note()
        starts = tuple(_start(placed.namespace, f"pod-{number}") for number in range(pods))
        time.sleep(SETTLING)
        note()
        time.sleep(idle)
        note()
        strangers = _strangers(cluster, placed.namespace, candidate)
        _clear(cluster, placed.namespace)
        time.sleep(SETTLING)
        note()
        return Life(starts, strangers, tuple(readings))


def _start(namespace: Namespace, name: str) -> float:
    """Seconds from created to Running."""
    app = container("app", IDLES, {"cpu": "1", "memory": "32Mi"})
    side = sidecar("side", IDLES, {"cpu": "100m", "memory": "16Mi"})
    made = pod(name, app, initContainers=[side])
    namespace.plane.kubectl("create", "-n", namespace.name, "-f", "-", input=json.dumps(made))
    since = time.monotonic()
    namespace.wait("--for=jsonpath={.status.phase}=Running", f"pod/{name}", seconds=WITHIN)
    return time.monotonic() - since


def _strangers(cluster: Cluster, namespace: Namespace, candidate: Candidate) -> tuple[int, ...]:
    sight = look(cluster.node)
    apps = [sight.container(identity) for identity in _apps(namespace)]
    candidate.check(sight, apps)
    return tuple(len(sight.tasks_on(_cpus(app), besides=[app.identity])) for app in apps)


def _apps(namespace: Namespace) -> list[str]:
    """The ids of the apps' containers."""
    return [
        status["containerID"].rpartition("/")[2]
        for one in namespace.list("pods")
        for status in one["status"]["containerStatuses"]
    ]


def _clear(cluster: Cluster, namespace: Namespace) -> None:
    cluster.plane.kubectl("delete", "pods", "--all", "-n", namespace.name, f"--timeout={WITHIN}s")
    namespace.drop()


# The figures.


def figures(name: str, life: Life) -> Iterator[Figure]:
    """What a turn says."""
    yield Figure("node", f"{name}: a pod, created to Running", "s", life.starts)
    yield Figure("node", f"{name}: tasks of others on an app's CPU", "tasks", tuple(map(float, life.strangers)))
    if life.readings:
        yield from _costs(name, life)


def _costs(name: str, life: Life) -> Iterator[Figure]:
    def figure(what: str, unit: str, value: float, limit: float | None = None) -> Figure:
        return Figure("node", f"{name}: {what}", unit, (value,), None if limit is None else Target(limit))

    fresh, full, rested, gone = life.readings
    idle, pods = rested.at - full.at, len(life.starts)
    yield figure("resident memory without pods", "MiB", fresh.resident)
    yield figure(
        f"resident memory with {pods} pods", "MiB", rested.resident, LIMIT_MEMORY if name == OURS.name else None
    )
    yield figure(f"its share of that (PSS) with {pods} pods", "MiB", rested.proportional)
    yield figure("wake-ups while idle", "per s", (rested.wakes - full.wakes) / idle)
    yield figure("processor time while idle", "ms per s", (rested.processor - full.processor) / idle)
    busy = full.processor - fresh.processor + gone.processor - rested.processor
    yield figure("processor time for a pod, start and end", "ms", busy / pods)
    yield figure("of it in the kernel", "ms", (full.kernel - fresh.kernel + gone.kernel - rested.kernel) / pods)
