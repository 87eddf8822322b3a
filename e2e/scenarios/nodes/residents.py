"""Pods that come and go on a node, a few at a time, and what the kernel enforces for each as long as it is there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.assertions import assert_disjoint, assert_subset
from e2e.lab.namespace import Namespace
from e2e.lab.workload import HOLD, container, pod
from e2e.observe import Sight, glance
from e2e.scenarios.enforcer.armed import Armed, Manifest, bubble, told
from e2e.scenarios.enforcer.bound import assert_bubble_bound

MOST = 3
"""Pods at a time, those that are being deleted included: any three that follow each other fit."""

READY_WITHIN = 300.0
"""Seconds from a pod's creation; an emulated node on two cores with a load of 17 took more than 153 for one."""

SHARED = {"requests": {"cpu": "500m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
"""Of a pod that owns no CPU: it is kept on the node shared pool of one NUMA node."""


@dataclass(frozen=True, slots=True)
class Resident:
    """One pod that is meant to be there."""

    since: float
    cpus: int
    """That its app owns; 0 for a pod on the node shared pool."""


@dataclass(slots=True)
class Residents:
    """Those of a namespace that enforces, on a node of two NUMA nodes of four CPUs."""

    armed: Armed
    space: Namespace
    numa: Mapping[int, frozenset[int]]
    meant: dict[str, Resident] = field(default_factory=dict)
    """The oldest first."""
    waiting: set[str] = field(default_factory=set)
    """Those of them that have not been ready yet."""
    places: dict[str, frozenset[int]] = field(default_factory=dict)
    """By container id, where it ran when its pod was seen ready first; without CPUs of its own, that NUMA node."""
    present: int = 0
    """Pods at the last look."""
    made: int = 0
    looks: int = 0

    def step(self) -> None:
        """One pod more, or the oldest away; nothing where the one before is not ready yet: the machine is busy then."""
        if self.waiting:
            return
        if self.present < MOST:
            name, size = f"resident-{self.made}", self.made % 3
            self.made += 1
            asked = bubble(name, size) if size else shared(name)
            done = self.space.apply(asked)
            assert done.returncode == 0, f"pod {name} was refused: {done.stderr}"
            self.meant[name] = Resident(time.monotonic(), size)
            self.waiting.add(name)
        elif self.meant:
            self.dismiss(next(iter(self.meant)))

    def dismiss(self, name: str) -> None:
        """Delete a pod; does not wait for the end of that."""
        del self.meant[name]
        self.waiting.discard(name)
        self.armed.plane.kubectl("delete", "pod", name, "-n", self.space.name, "--wait=false")

    def look(self) -> None:
        """Hold what the kernel enforces now against all that was seen before."""
        found = {one["metadata"]["name"]: one for one in self.space.list("pods")}
        sight = glance(self.armed.cluster.node)
        self.present, self.looks = len(found), self.looks + 1
        apart: dict[str, frozenset[int]] = {}
        for name, resident in self.meant.items():
            assert name in found, f"pod {name} is gone, and nobody deleted it"
            if ready(found[name]):
                self.waiting.discard(name)
                apart |= self._placed(name, resident, found[name], sight)
            else:
                assert name in self.waiting, f"pod {name} is not ready any more"
                waited = time.monotonic() - resident.since
                assert waited < READY_WITHIN, f"pod {name} is not ready after {waited:.0f} s: {told(self.space, name)}"
        assert_disjoint(apart)

    def _placed(self, name: str, resident: Resident, stored: Manifest, sight: Sight) -> Mapping[str, frozenset[int]]:
        """Where each container of a ready pod runs: where it did before."""
        where: dict[str, frozenset[int]] = {}
        for container_name, identity in running(stored).items():
            who = f"container {container_name} of pod {name}"
            cpus = where[who] = sight.container(identity).cpus
            if not resident.cpus:
                home = next((own for own in self.numa.values() if cpus & own), frozenset[int]())
                assert_subset(cpus, self.places.setdefault(identity, home), f"{who} left its NUMA node")
                continue
            before = self.places.setdefault(identity, cpus)
            assert before == cpus, f"{who} was moved from {sorted(before)} to {sorted(cpus)}"
            if container_name == "app":
                assert len(cpus) == resident.cpus, f"{who} runs on {sorted(cpus)}; {resident.cpus} CPUs are its own"
        assert where, f"pod {name} is ready and has no container that runs"
        return where

    def settle(self) -> None:
        """Wait until every pod is ready, and hold each with CPUs of its own to being bound in every respect."""
        while self.waiting:
            self.look()
            time.sleep(2)
        for name, resident in self.meant.items():
            if resident.cpus:
                for one in ("side", "app"):
                    self.armed.cluster.holds(self.space, name, one)
                assert_bubble_bound(self.armed, self.space, name, resident.cpus)


def shared(name: str) -> Manifest:
    """A pod without CPUs of its own."""
    return pod(name, container("app", HOLD, resources=SHARED))


def ready(stored: Manifest) -> bool:
    """Whether the kubelet says so of a pod; a container of it that was started anew is an error."""
    status = stored["status"]
    every = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    again = {one["name"]: one.get("lastState") for one in every if one["restartCount"]}
    assert not again, f"containers of pod {stored['metadata']['name']} were started anew after {again}"
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))


def running(stored: Manifest) -> Mapping[str, str]:
    """Ids of a pod's running containers by name."""
    status = stored["status"]
    every = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return {one["name"]: one["containerID"].rpartition("/")[2] for one in every if "running" in one.get("state", {})}
