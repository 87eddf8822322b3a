"""Hold what the kernel says against what was promised, and name each difference that matters.

Not every difference does. A container that shares CPUs may run on fewer than it was given, since the partitions of
other pods take theirs out of its cpuset; an exclusive slice is exactly what was promised, but for CPUs that are
offline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from enforcer.kernel import ContainerReading, Level, PodReading
from enforcer.partition import WORDS
from enforcer.promise import ContainerPromise, PodPromise
from shared.cpuset import CpuSet


class What(Enum):
    """What differs; the value is a metric's label."""

    PARTITION = "partition"
    """The pod's cgroup is no partition of the promised type, or not a valid one."""
    BUBBLE = "bubble"
    """The pod's cgroup has other exclusive CPUs."""
    CPUS = "cpus"
    """A container may run on other CPUs."""
    MEMS = "mems"
    """A container may take memory from other NUMA nodes."""
    QUOTA = "quota"
    """An exclusive slice has a CFS quota."""


TEXTS = {
    What.PARTITION: "the pod's cgroup is {found}, and was promised to be {promised}",
    What.BUBBLE: "the pod's own CPUs are {found}, and were promised to be {promised}",
    What.CPUS: "container {name} may run on {found}, and was promised {promised}",
    What.MEMS: "container {name} may take memory of NUMA nodes {found}, and was promised {promised}",
    What.QUOTA: "container {name} is throttled at {found} microseconds per period, and was promised no quota",
}


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between the promise and the kernel."""

    uid: str
    """The pod's."""
    container: str
    """Id of the container; empty where it is the pod's own cgroup."""
    what: What
    promised: str
    found: str
    """As the kernel writes it; empty for nothing at all."""
    name: str = ""
    """The container's."""

    @property
    def text(self) -> str:
        """The difference in one sentence."""
        found, promised = self.found or "nothing", self.promised or "nothing"
        return TEXTS[self.what].format(name=self.name, found=found, promised=promised)


def verify(
    promise: PodPromise, pod: PodReading | None, containers: Mapping[str, ContainerReading], online: CpuSet
) -> tuple[Drift, ...]:
    """Every difference, the pod's first: its repair may settle the containers'.

    ``containers`` are readings by id; a pod or a container without a reading is gone, and differs in nothing.
    ``online`` are those CPUs of the node that are.
    """
    drifts = list(_of_pod(promise, pod)) if pod is not None else []
    for container in promise.containers:
        reading = containers.get(container.id)
        if reading is not None:
            drifts += _of_container(promise.uid, container, reading, online)
    return tuple(drifts)


def _of_pod(promise: PodPromise, found: PodReading) -> list[Drift]:
    """The pod's cgroup, where the kernel is to keep its CPUs. Less in effect than exclusive: a CPU is offline."""
    if promise.level is Level.CPUSET:
        return []
    drifts = []
    if found.level is not promise.level:
        drifts.append(Drift(promise.uid, "", What.PARTITION, WORDS[promise.level], found.partition))
    if found.exclusive != promise.bubble:
        drifts.append(Drift(promise.uid, "", What.BUBBLE, str(promise.bubble), str(found.exclusive)))
    return drifts


def _of_container(uid: str, promise: ContainerPromise, found: ContainerReading, online: CpuSet) -> list[Drift]:
    drifts = []
    if not _cpus_hold(promise, found.effective, online):
        drifts.append(Drift(uid, promise.id, What.CPUS, str(promise.cpus), str(found.effective), promise.name))
    if promise.mems and not (found.mems and found.mems <= promise.mems):
        drifts.append(Drift(uid, promise.id, What.MEMS, str(promise.mems), str(found.mems), promise.name))
    if promise.owns and found.quota is not None:
        drifts.append(Drift(uid, promise.id, What.QUOTA, "max", str(found.quota), promise.name))
    return drifts


def _cpus_hold(promise: ContainerPromise, effective: CpuSet, online: CpuSet) -> bool:
    """Never wider than promised, never nothing; a slice never narrower either. With all of its CPUs offline a container
    runs wherever the kernel puts it, and nothing can be done about that."""
    reachable = promise.cpus & online
    if not reachable:
        return True
    if promise.owns:
        return effective == reachable
    return bool(effective) and effective <= promise.cpus
