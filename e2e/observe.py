"""Reads from inside a node what the kernel enforces, and trusts nobody's logs: not ours, not the kubelet's.

1. One script prints kernel files as they are: cgroups, the status of every thread, the pages of the pods' processes.
2. Everything else is parsing of that text, here, without a node.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

COLLECT = r"""
cd /sys/fs/cgroup
find . \( -name 'cpuset.*.effective' -o -name cpuset.cpus.partition -o -name cpu.max -o -name memory.numa_stat \) \
  -exec grep -sHZ '' {} + | sed 's/^/G /'
grep -sHZE '^(Name|Kthread|Cpus_allowed_list|Mems_allowed_list):' /proc/[0-9]*/task/[0-9]*/status | sed 's/^/T /'
grep -sHZ '^0:' /proc/[0-9]*/task/[0-9]*/cgroup | sed 's/^/C /'
grep -sHZ '' /sys/devices/system/node/node*/cpulist | sed 's/^/N /'
for pid in $(find ./kubepods.slice -name cgroup.procs -exec cat {} + 2>/dev/null); do
  grep -sHZ 'N[0-9]*=' /proc/$pid/numa_maps
done | sed 's/^/P /'
"""
"""Prints lines of a letter, a path, a zero byte and a line of that file; what ends meanwhile is left out."""


GLANCE = r"""
cd /sys/fs/cgroup
find ./kubepods.slice -name cpuset.cpus.effective -exec grep -sHZ '' {} + | sed 's/^/G /'
"""
"""Only where the pods' containers may run: a tenth of what COLLECT costs the node."""


def numbers(text: str) -> frozenset[int]:
    """A kernel list such as `0-3,8`. Written apart from the code under test, so that both cannot be wrong alike."""
    spans = [part.partition("-") for part in text.strip().split(",") if part]
    return frozenset(n for low, _, high in spans for n in range(int(low), int(high or low) + 1))


@dataclass(frozen=True, slots=True)
class Quota:
    """A cgroup's `cpu.max`."""

    microseconds: int | None
    """Per period; None is `max`: no limit."""
    period: int

    @property
    def cpus(self) -> float | None:
        """How many CPUs it amounts to; None for no limit."""
        return None if self.microseconds is None else self.microseconds / self.period


@dataclass(frozen=True, slots=True)
class Group:
    """One cgroup."""

    path: str
    """Without a slash in front; empty for the root."""
    cpus: frozenset[int] = frozenset()
    """`cpuset.cpus.effective`."""
    mems: frozenset[int] = frozenset()
    """`cpuset.mems.effective`."""
    partition: str = "member"
    """`cpuset.cpus.partition` as the kernel writes it, its reason included when it is invalid."""
    quota: Quota | None = None
    """`cpu.max`; None in the root, which has none."""
    memory: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """`memory.numa_stat`: bytes by kind and NUMA node."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thread of the node."""

    pid: int
    tid: int
    name: str
    kernel: bool
    """Whether it is a kernel thread."""
    cpus: frozenset[int]
    """`Cpus_allowed_list`: where the kernel lets it run."""
    mems: frozenset[int]
    group: str
    """Path of its cgroup."""

    def __str__(self) -> str:
        return f"{self.name} ({self.pid}/{self.tid}) of /{self.group}"


@dataclass(frozen=True, slots=True)
class Container:
    """What the kernel enforces for one container."""

    identity: str
    group: Group
    """The innermost cgroup: crun puts the processes one deeper than runc."""
    tasks: tuple[Task, ...]
    pages: Mapping[int, int]
    """Bytes of its processes' pages by NUMA node (`numa_maps`)."""

    @property
    def cpus(self) -> frozenset[int]:
        """`cpuset.cpus.effective`."""
        return self.group.cpus

    @property
    def mems(self) -> frozenset[int]:
        """`cpuset.mems.effective`."""
        return self.group.mems


@dataclass(frozen=True, slots=True)
class Sight:
    """A node at one moment."""

    groups: Mapping[str, Group]
    tasks: tuple[Task, ...]
    numa: Mapping[int, frozenset[int]]
    """CPUs of each NUMA node; none of a memory-only one."""
    pages: Mapping[int, Mapping[int, int]]
    """Bytes by process and NUMA node, of the pods' processes."""

    def container(self, identity: str) -> Container:
        """The container of that id. Raises KeyError when no cgroup has it in its name."""
        scopes = [path for path in self.groups if identity in path]
        if not scopes:
            raise KeyError(f"no cgroup of the node is named after container {identity}")
        tasks = tuple(task for task in self.tasks if identity in task.group)
        innermost = max(scopes, key=len)
        pages = _added(self.pages.get(pid, {}) for pid in {task.pid for task in tasks})
        return Container(identity, self.groups[innermost], tasks, pages)

    def pod_group(self, uid: str) -> Group:
        """The cgroup of a pod, by its uid. Raises KeyError when there is none."""
        name = f"pod{uid.replace('-', '_')}.slice"
        for path, group in self.groups.items():
            if path.endswith(name):
                return group
        raise KeyError(f"no cgroup of the node is named after pod {uid}")

    def tasks_on(self, cpus: Iterable[int], *, besides: Iterable[str] = ()) -> tuple[Task, ...]:
        """Tasks that may run on any of these CPUs, but kernel threads and those of the containers `besides`."""
        return tuple(task for task in self._able(cpus, besides) if not task.kernel)

    def kernel_threads_on(self, cpus: Iterable[int]) -> tuple[Task, ...]:
        """Kernel threads that may run on any of these CPUs."""
        return tuple(task for task in self._able(cpus, ()) if task.kernel)

    def _able(self, cpus: Iterable[int], besides: Iterable[str]) -> Iterable[Task]:
        wanted, left_out = frozenset(cpus), tuple(besides)
        return (task for task in self.tasks if task.cpus & wanted and not any(name in task.group for name in left_out))


def _added(maps: Iterable[Mapping[int, int]]) -> Mapping[int, int]:
    total: dict[int, int] = defaultdict(int)
    for one in maps:
        for node, size in one.items():
            total[node] += size
    return dict(total)


def parse(text: str) -> Sight:
    """What COLLECT printed, as values."""
    files: dict[str, dict[str, list[str]]] = {letter: defaultdict(list) for letter in "GTCNP"}
    for line in text.split("\n")[:-1]:
        path, _, content = line[2:].partition("\0")
        files[line[0]][path].append(content)
    homes = {_thread(path): lines[0].partition("::")[2].strip("/") for path, lines in files["C"].items()}
    numa = {int(path.split("/")[-2].removeprefix("node")): numbers(lines[0]) for path, lines in files["N"].items()}
    return Sight(
        groups=_groups(files["G"]),
        tasks=tuple(_task(path, lines, homes) for path, lines in files["T"].items() if _thread(path) in homes),
        numa=dict(sorted(numa.items())),
        pages={int(path.split("/")[2]): _pages(lines) for path, lines in files["P"].items()},
    )


def _groups(files: Mapping[str, list[str]]) -> Mapping[str, Group]:
    """The cgroups, from their files by path (`./kubepods.slice/cpu.max`)."""
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for path, lines in files.items():
        folder, _, name = path.removeprefix("./").rpartition("/")
        found[folder][name] = lines
    return {path: _group(path, content) for path, content in found.items()}


def _group(path: str, content: Mapping[str, list[str]]) -> Group:
    def first(name: str) -> str:
        return content[name][0].strip() if content.get(name) else ""

    quota = first("cpu.max").split()
    return Group(
        path=path,
        cpus=numbers(first("cpuset.cpus.effective")),
        mems=numbers(first("cpuset.mems.effective")),
        partition=first("cpuset.cpus.partition") or "member",
        quota=Quota(None if quota[0] == "max" else int(quota[0]), int(quota[1])) if quota else None,
        memory=dict(_numa_stat(line) for line in content.get("memory.numa_stat", [])),
    )


def _numa_stat(line: str) -> tuple[str, Mapping[int, int]]:
    """`anon N0=4096 N1=0`: a kind and its bytes by NUMA node."""
    kind, *counts = line.split()
    return kind, {int(node[1:]): int(size) for node, _, size in (count.partition("=") for count in counts)}


def _thread(path: str) -> tuple[int, int]:
    """Process and thread of `/proc/PID/task/TID/...`."""
    _, _, pid, _, tid, _ = path.split("/")
    return int(pid), int(tid)


def _task(path: str, lines: list[str], homes: Mapping[tuple[int, int], str]) -> Task:
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    pid, tid = _thread(path)
    return Task(
        pid=pid,
        tid=tid,
        name=fields["Name"],
        kernel=fields.get("Kthread") == "1",
        cpus=numbers(fields["Cpus_allowed_list"]),
        mems=numbers(fields["Mems_allowed_list"]),
        group=homes[pid, tid],
    )


def _pages(lines: Iterable[str]) -> Mapping[int, int]:
    """Bytes by NUMA node from the lines of one `numa_maps`: `7f.. default anon=3 N0=3 kernelpagesize_kB=4`."""
    total: dict[int, int] = defaultdict(int)
    for line in lines:
        size = re.search(r"kernelpagesize_kB=(\d+)", line)
        for node, count in re.findall(r"\bN(\d+)=(\d+)", line):
            total[int(node)] += int(count) * (int(size[1]) if size else 4) * 1024
    return dict(total)


class Shell(Protocol):
    """A root shell on the node."""

    def sh(self, script: str, seconds: float = 60) -> str:
        """Standard output of a script."""
        ...


class Kubectl(Protocol):
    """A cluster's kubectl."""

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Standard output."""
        ...


def look(node: Shell) -> Sight:
    """What the kernel of the node enforces now."""
    return parse(node.sh(COLLECT, seconds=120))


def glance(node: Shell) -> Sight:
    """The pods' cgroups and their CPUs, and nothing else: for who looks again and again at a busy node."""
    return parse(node.sh(GLANCE))


def container_ids(cluster: Kubectl, pod: str, namespace: str = "default") -> Mapping[str, str]:
    """The ids of a pod's running containers by name: the one thing that is taken from the API server."""
    status = json.loads(cluster.kubectl("get", "pod", pod, "-n", namespace, "-o", "json"))["status"]
    every = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return {one["name"]: one["containerID"].rpartition("/")[2] for one in every if "running" in one.get("state", {})}
