"""What was promised to a pod beside what the kernel says, thread by thread and page by page.

The promise comes from the enforcer's report; everything that is found comes from the kernel's own files, read now:

1. the pod's cgroup and its containers' cgroups, held against the promise as :mod:`enforcer.verify` does;
2. each thread of each container: its own CPUs and NUMA nodes lie inside the promise;
3. each container's memory, by NUMA node;
4. every other task of the node that may run on the pod's own CPUs.

Threads come and go while they are counted: whoever seems to intrude is looked at once more before it is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from enforcer.cgroup import Cgroups
from enforcer.kernel import ContainerReading, Level, PodReading
from enforcer.processes import Pages, Processes, Thread
from enforcer.promise import ContainerPromise, PodPromise
from enforcer.report import Report
from enforcer.verify import verify
from shared.cpuset import CpuSet
from shared.errors import InputError

FAR_SHARE, FAR_BYTES = 100, 2**20
"""A container's anonymous memory may lie elsewhere up to a hundredth, and up to 1 MiB: the runtime makes the first
pages of a process before the process is in its cgroup. More than that was allocated against the promise."""

NAMED = 5
"""Tasks that a sentence names; the rest are counted."""


class Kind(Enum):
    """Who a task is that may run on a pod's own CPUs."""

    CONTAINER = "container"
    """A container that was promised other CPUs."""
    OTHER = "other"
    """A host daemon, a pod's pause process, or a container that the enforcer does not know."""
    KERNEL = "kernel"
    """A thread of the kernel. Those of one CPU cannot go elsewhere; no cgroup keeps the others off."""


@dataclass(frozen=True, slots=True)
class Other:
    """A task that is none of the pod's, and may run on its own CPUs."""

    thread: Thread
    kind: Kind
    whose: str = ""
    """``NAMESPACE/POD container NAME`` where that is known."""


@dataclass(frozen=True, slots=True)
class ContainerFound:
    """One container as it is."""

    promise: ContainerPromise
    reading: ContainerReading | None
    """None: it does not run."""
    threads: tuple[Thread, ...] = ()
    pages: Pages = field(default_factory=Pages)


@dataclass(frozen=True, slots=True)
class PodFound:
    """One pod as it is."""

    promise: PodPromise
    reading: PodReading | None
    """None: it has no cgroup."""
    containers: tuple[ContainerFound, ...]
    others: tuple[Other, ...]
    differences: tuple[str, ...] = ()
    """A sentence for each way in which the promise does not hold."""

    @property
    def holds(self) -> bool:
        """Whether the kernel does what was promised."""
        return not self.differences


def prove(report: Report, promises: Iterable[PodPromise], cgroups: Cgroups, processes: Processes) -> list[PodFound]:
    """Look at these pods. Raises KernelError or InputError when the kernel's files cannot be read."""
    online = processes.online()
    everybody, owners = tuple(processes.threads()), _owners(report, cgroups)
    found = []
    for promise in promises:
        containers = tuple(_look(each, promise, cgroups, processes) for each in promise.containers)
        others = _others(promise, cgroups, processes, everybody, owners)
        pod = PodFound(promise, cgroups.read_pod(promise.cgroup_parent), containers, others)
        found.append(judge(pod, online))
    return found


def _look(container: ContainerPromise, pod: PodPromise, cgroups: Cgroups, processes: Processes) -> ContainerFound:
    reading = cgroups.read_container(container.cgroups_path, pod.cgroup_parent)
    if reading is None:
        return ContainerFound(container, None)
    path = cgroups.container_path(container.cgroups_path, pod.cgroup_parent)
    threads = tuple(thread for thread in map(processes.thread, cgroups.threads(path)) if thread is not None)
    if not threads and any(cgroups.threads(path)):  # asked again: it may just have come to its end
        raise InputError(f"no thread of {path} is in {processes.root}: name the node's /proc with --proc")
    return ContainerFound(container, reading, threads, processes.pages(sorted({each.pid for each in threads})))


def _others(
    promise: PodPromise,
    cgroups: Cgroups,
    processes: Processes,
    everybody: Iterable[Thread],
    owners: Mapping[int, str],
) -> tuple[Other, ...]:
    """Tasks seen on the pod's CPUs that are still there, still on them, and not the pod's by now."""
    suspects = [thread for thread in everybody if not thread.cpus.isdisjoint(promise.bubble)]
    if not suspects:
        return ()
    own = set(cgroups.threads(cgroups.pod_path(promise.cgroup_parent)))
    found = []
    for suspect in suspects:
        thread = None if suspect.tid in own else processes.thread(suspect.tid)
        if thread is not None and not thread.cpus.isdisjoint(promise.bubble):
            whose = owners.get(thread.tid, "")
            kind = Kind.KERNEL if thread.kernel else Kind.CONTAINER if whose else Kind.OTHER
            found.append(Other(thread, kind, whose))
    return tuple(found)


def _owners(report: Report, cgroups: Cgroups) -> Mapping[int, str]:
    """Whose each thread of a promised container is. Containers to which nothing was promised are nobody's."""
    owners = {}
    for pod in report.promises:
        for container in pod.containers:
            if container.cpus:
                path = cgroups.container_path(container.cgroups_path, pod.cgroup_parent)
                whose = f"{pod.namespace}/{pod.name} container {container.name}"
                owners.update(dict.fromkeys(cgroups.threads(path), whose))
    return owners


def judge(found: PodFound, online: CpuSet) -> PodFound:
    """The pod with a sentence for each difference."""
    promise = found.promise
    readings = {each.promise.id: each.reading for each in found.containers if each.reading is not None}
    differences = [drift.text for drift in verify(promise, found.reading, readings, online)]
    if found.reading is None:
        differences.append(f"the pod's cgroup {promise.cgroup_parent} does not exist")
    for container in found.containers:
        differences += _threads_astray(container, online)
        differences += _memory_astray(container)
    differences += _intruders(promise, found.others)
    return replace(found, differences=tuple(differences))


def _threads_astray(container: ContainerFound, online: CpuSet) -> list[str]:
    """A thread may pin itself to fewer CPUs; none may have one more."""
    promise, differences = container.promise, []
    reachable = promise.cpus & online
    astray = [thread for thread in container.threads if reachable and not thread.cpus <= promise.cpus]
    if astray:
        differences.append(
            f"container {promise.name}: {_count(astray)} may run outside of {promise.cpus}: "
            + _named(f"{_who(thread)} on {thread.cpus}" for thread in astray)
        )
    far = [thread for thread in container.threads if promise.mems and not thread.mems <= promise.mems]
    if far:
        differences.append(
            f"container {promise.name}: {_count(far)} may take memory outside of NUMA nodes {promise.mems}: "
            + _named(f"{_who(thread)} on {thread.mems}" for thread in far)
        )
    return differences


def far_bytes(pages: Mapping[int, int], mems: CpuSet) -> int:
    """Bytes that lie outside of NUMA nodes; none where no node was promised."""
    return sum(count for node, count in pages.items() if mems and node not in mems)


def _memory_astray(container: ContainerFound) -> list[str]:
    """Files are left out: a page of a file stays where it was read first, maybe by another pod, and is no promise of
    ours."""
    promise, pages = container.promise, container.pages.anonymous
    far = far_bytes(pages, promise.mems)
    if far <= max(FAR_BYTES, sum(pages.values()) // FAR_SHARE):
        return []
    return [
        f"container {promise.name}: {spoken_bytes(far)} of {spoken_bytes(sum(pages.values()))} anonymous memory lie "
        f"outside of NUMA nodes {promise.mems}"
    ]


def _intruders(promise: PodPromise, others: Iterable[Other]) -> list[str]:
    """Cpusets keep the other containers off; only a partition keeps off everybody but the kernel."""
    kept_off = {Kind.CONTAINER} if promise.level is Level.CPUSET else {Kind.CONTAINER, Kind.OTHER}
    found = [other for other in others if other.kind in kept_off]
    if not found:
        return []
    return [
        f"{_count(found)} of others may run on the pod's own CPUs {promise.bubble}: "
        + _named(f"{other.whose or _who(other.thread)} on {other.thread.cpus}" for other in found)
    ]


def _who(thread: Thread) -> str:
    return f"{thread.name} ({thread.tid})"


def _count(tasks: Iterable[object]) -> str:
    count = len(list(tasks))
    return f"{count} thread{'s' if count > 1 else ''}"


def _named(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def spoken_bytes(count: int) -> str:
    """Bytes for people: in MiB with one digit, from 1 MiB on."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count // 1024} KiB"
