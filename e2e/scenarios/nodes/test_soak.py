"""For hours at a modest rate: memory, open files, threads and tasks stay where they are, and so does every pod.

1. The chart on one node: its enforcer there; two replicas of its webhook as processes beside the API server, whose
   certificates live for two minutes.
2. Pods come and go on the node (``residents``), and ``lab/churn`` asks about others, changes labels and namespaces.
3. Every ten seconds the kernel is asked what each process holds (``footprint``) and where each pod runs.
4. At the end no object, cgroup or file may be left that was not there at the start, and ``trend`` judges what was held.

By hand only, as many minutes as are given; samples, table, report and logs stay in a folder of the cache::

    ARMISTICE_LAB_SOAK=120 pytest e2e/scenarios/nodes/test_soak.py
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from e2e.footprint import Footprint, read, script
from e2e.lab import armistice
from e2e.lab.cache import cache_folder
from e2e.lab.churn import Kind
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE, TOPOLOGIES, Enforcer
from e2e.lab.installed import Installed
from e2e.lab.kubelet import Runtime
from e2e.lab.namespace import Namespace
from e2e.lab.replicas import PORT, Replicas, address
from e2e.lab.shapes import named
from e2e.lab.webhook import SigningKey
from e2e.scenarios.enforcer.armed import Armed, alone, intended, until
from e2e.scenarios.nodes.conftest import Cluster, ready_node
from e2e.scenarios.nodes.residents import Residents
from e2e.scenarios.plane.charted import everything_stored
from e2e.trend import Bound, Samples, Trend, rates, table
from shared.seal import ANNOTATION

ASKED = os.environ.get("ARMISTICE_LAB_SOAK", "")


def minutes(asked: str) -> float:
    """As they were asked for."""
    with suppress(ValueError):
        if 0 < (found := float(asked)) < math.inf:
            return found
    return pytest.fail(f"ARMISTICE_LAB_SOAK={asked}: give minutes, such as 120", pytrace=False)


MINUTES = minutes(ASKED or "120")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ASKED, reason="takes as long as it is told to: ARMISTICE_LAB_SOAK=120 is two hours of it"),
]

RATE = 10.0
"""Requests a second that nobody stores, to two replicas together."""

LOOK_EVERY = 10.0
STEP_EVERY = 20.0
"""Seconds between two pods that come or go."""

FLAGS = ("--leaf-life", "120", "--look", "10")
"""A certificate is renewed every 80 s."""

JUDGED_FROM = 90.0
"""Minutes: in a shorter run growth is shown but not judged. At this rate the webhook's memory still fills for half an
hour, and has to be full before the second third."""

MEMORY = Bound(rise=0.5, per_hour=1.0)
"""MiB."""

CONNECTIONS = Bound(rise=2.0, per_hour=1.0)
"""The API server opens and closes them as it likes; each has a socket and a task."""

BOUNDS = {
    (component, quantity): bound
    for component in ("enforcer", "webhook-1", "webhook-2")
    for quantity, bound in (
        ("resident, MiB", MEMORY),
        ("anonymous, MiB", MEMORY),
        ("open files", Bound()),
        ("threads", Bound()),
        ("sockets", CONNECTIONS),
        ("tasks", CONNECTIONS),
    )
}

LEFT = r"""
echo "cgroups $(find /sys/fs/cgroup/kubepods.slice -type d | wc -l)"
echo "files of state $(find /run/armistice -type f | wc -l)"
echo "tasks of containerd $(ls /run/containerd/io.containerd.runtime.v2.task/k8s.io | wc -l)"
"""
"""What pods and the enforcer leave on the node, counted."""

JOURNAL = "journalctl -u kubelet -u containerd --no-pager -o short-precise -n 4000"
"""The last that both daemons of the node said."""

GONE_WITHIN = 180.0
"""Seconds until all that was made has gone."""

VALUES: Mapping[str, Any] = {
    "image": {"registry": "localhost", "pullPolicy": "Never"},
    "enforcer": {"enabled": True, "image": {"tag": "dev"}, "cleanup": False},
}


@dataclass(slots=True)
class Soak:
    """The node with everything on it, and what was seen of it."""

    armed: Armed
    installed: Installed
    replicas: Replicas
    began: float = field(default_factory=time.monotonic)
    samples: Samples = field(default_factory=Samples)
    clocks: Samples = field(default_factory=Samples)
    """Seconds of processor time."""
    starts: dict[str, int] = field(default_factory=dict)
    """When each process began."""
    enforcer: int = 0
    """Its process id on the node."""

    @property
    def plane(self) -> ControlPlane:
        """The control plane."""
        return self.armed.plane

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def sample(self) -> None:
        """Of every process and of the node."""
        here = {f"webhook-{number}": self._pid(self.replicas.name(number)) for number in self.replicas.numbers}
        here |= {"kube-apiserver": self._pid("kube-apiserver"), "emulator": self._pid(self.armed.cluster.node.daemon)}
        said = subprocess.run(["sh", "-c", script(here.values())], capture_output=True, text=True, check=True)
        self._add(here, read(said.stdout))
        self.enforcer = self.enforcer or self.armed.enforcer.pid() or 0
        there = {"enforcer": self.enforcer}
        node = self.armed.cluster.node.sh(script(there.values()) + LEFT)
        self._add(there, read(node))
        self.samples.add(self.now, "node", left(node))

    def _pid(self, daemon: str) -> int:
        pid = self.plane.run.pid(daemon)
        assert pid is not None, f"{daemon} {self.plane.run.ended(daemon)}"
        return pid

    def _add(self, pids: Mapping[str, int], found: Mapping[int, Footprint]) -> None:
        for name, pid in pids.items():
            assert pid in found, f"{name} does not run any more"
            held = found[pid]
            assert self.starts.setdefault(name, held.began) == held.began, f"{name} was started anew"
            self.samples.add(self.now, name, held.quantities)
            self.clocks.add(self.now, name, {"processor": held.seconds})

    def left(self) -> Mapping[str, float]:
        """What is on the node."""
        return left(self.armed.cluster.node.sh(LEFT))

    def trends(self) -> list[Trend]:
        """Of everything that was sampled."""
        for (name, _), points in self.clocks.series.items():
            for at, milliseconds in rates(points, 1000.0):
                self.samples.add(at, name, {"processor, ms per s": milliseconds})
        return self.samples.trends(BOUNDS)


def left(text: str) -> Mapping[str, float]:
    """What LEFT printed."""
    names = ("cgroups", "files of state", "tasks of containerd")
    return {
        name: float(line.removeprefix(name)) for line in text.splitlines() for name in names if line.startswith(name)
    }


@pytest.fixture
def soak(plane: ControlPlane, tmp_path: Path) -> Iterator[Soak]:
    """All of it ready. The webhook comes first: the enforcer's pod waits for its public key."""
    installed = Installed.install(plane, VALUES)
    replicas = installed.replicas(*FLAGS)
    images = (armistice.image("enforcer", plane.run.progress),)
    try:
        replicas.start(2)
        with ready_node(plane, named("2x4"), images=images, runtime=Runtime.RUNC) as node:
            enforcer = Enforcer(plane, node)
            with plane.run.progress.phase(f"enforcer of {node.name} ready"):
                enforcer.wait_ready()
                topology = enforcer.write_topology(tmp_path / "nodes.json")
            yield Soak(Armed(Cluster(plane, node), enforcer, SigningKey.make(tmp_path), topology), installed, replicas)
    finally:
        replicas.stop()
        plane.kubectl_raw("delete", "pods", "-n", NAMESPACE, "--all", "--force", "--grace-period=0")
        plane.kubectl_raw("delete", TOPOLOGIES, "--all")
        installed.uninstall()


def wait_until_asked(armed: Armed) -> None:
    """Until a pod that breaks the policy would be refused, and another would get its intent."""
    probe = Namespace.make(armed.plane, Kind.ENFORCES.labels)
    until(lambda: "asks 9 CPUs" in probe.create_dry(alone("wide", 9)).stderr, 60, "nothing is refused")
    until(lambda: ANNOTATION in intended(probe, alone("fits", 1)), 60, "no intent is written")
    probe.drop()
    until(lambda: armed.plane.kubectl_raw("get", "namespace", probe.name).returncode, 60, "it is not deleted")


@dataclass(frozen=True, slots=True)
class Churning:
    """The process of ``lab/churn``."""

    soak: Soak
    spaces: Mapping[Kind, Namespace]
    shifting: Namespace
    name: str = "churn"

    @classmethod
    def start(cls, soak: Soak) -> Churning:
        """In namespaces of its own."""
        plane, node = soak.plane, soak.armed.cluster.node.name
        spaces = {kind: Namespace.make(plane, kind.labels) for kind in Kind}
        found = cls(soak, spaces, Namespace.make(plane))
        pages = {f"webhook-{number}": f"https://{address(number)}:{PORT}/metrics" for number in soak.replicas.numbers}
        (pod,) = soak.armed.enforcer.pods()
        pages["enforcer"] = f"http://{pod['status']['podIP']}:9465/metrics"
        certificate, key = plane.issue(found.name, ("system:masters",), client=True)
        argv = [sys.executable, "-m", "e2e.lab.churn", f"--server=https://127.0.0.1:{plane.port}"]
        argv += [f"--ca={plane.ca_pem}", f"--cert={certificate}", f"--key={key}", f"--rate={RATE}", f"--node={node}"]
        argv += [f"--namespace={kind.value}={space.name}" for kind, space in spaces.items()]
        argv += [f"--page={who}={url}" for who, url in pages.items()]
        plane.run.spawn(found.name, [*argv, f"--shifting={found.shifting.name}"])
        return found

    def lines(self) -> list[dict[str, Any]]:
        """What it has said."""
        return [json.loads(line) for line in (self.soak.plane.run.logs / f"{self.name}.log").read_text().splitlines()]

    def end(self) -> Mapping[str, Any]:
        """Stop it and drop its namespaces; its report. The tasks that it read become samples."""
        began = time.time() - self.soak.now
        self.soak.plane.run.end(self.name, timeout=60.0)
        *readings, report = self.lines()
        for reading in readings:
            for who, tasks in reading["tasks"].items():
                self.soak.samples.add(reading["at"] - began, who, {"tasks": tasks})
        for space in (*self.spaces.values(), self.shifting):
            space.drop()
        return report


def last(soak: Soak, residents: Residents) -> None:
    """As many minutes as were asked for; then every pod that is there has to be bound."""
    soak.began, steps = time.monotonic(), 0
    while soak.now < 60 * MINUTES:
        due = soak.now + LOOK_EVERY
        soak.sample()
        residents.look()
        if soak.now >= steps * STEP_EVERY:
            residents.step()
            steps += 1
        time.sleep(max(0.0, due - soak.now))
    residents.settle()


def test_for_hours_nothing_grows_no_pod_moves_and_nothing_is_left(
    soak: Soak, record_property: Callable[[str, object], None]
) -> None:
    wait_until_asked(soak.armed)
    before, stored = soak.left(), everything_stored(soak.plane)
    residents = Residents(soak.armed, soak.armed.namespace(Kind.ENFORCES.labels), soak.armed.see().numa)
    churning = Churning.start(soak)
    folder = cache_folder() / "soak" / time.strftime("%Y-%m-%dT%H%M%S")
    folder.mkdir(parents=True)
    try:
        last(soak, residents)
    finally:
        report = {**churning.end(), "residents": residents.made, "looks": residents.looks, "minutes": soak.now / 60}
        (folder / "samples.csv").write_text(soak.samples.csv(), encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        (folder / "enforcer.log").write_text(soak.armed.enforcer.log(), encoding="utf-8")
        (folder / "node.log").write_text(soak.armed.cluster.node.sh(JOURNAL), encoding="utf-8")
    trends = soak.trends()
    (folder / "table.md").write_text(f"{table(trends)}\n", encoding="utf-8")
    record_property("soak", f"{report}\n{table(trends)}\nkept in {folder}")

    assert report["wrong"] == 0, report["complaints"]
    for number in soak.replicas.numbers:
        assert report["certificates"][f"webhook-{number}"] > 1, "no certificate was renewed"
    soak.armed.clear()
    until(lambda: soak.left() == before, GONE_WITHIN, f"the node does not come back to {before}")
    until(lambda: everything_stored(soak.plane) == stored, GONE_WITHIN, "objects are left, or missing")
    if MINUTES >= JUDGED_FROM:
        growing = [str(trend) for trend in trends if not trend.flat]
        assert not growing, "\n".join(growing)
