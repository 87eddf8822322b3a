"""The adapter of the kernel's cgroup v2 files: where the cgroup of a pod and of a container lies, what its files say.

Nothing else of the enforcer opens a file below the root of cgroupfs, but for the watch on them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from enforcer.errors import KernelError, SetupError
from enforcer.kernel import ContainerReading, PodReading, Support
from shared.cpuset import CpuSet
from shared.errors import InputError

LONGEST = 256 * 1024
"""Bytes read of one file at most. A list of every second of the kernel's 8,192 CPUs has 20 KiB."""

LONGEST_NAME = 4096
"""Bytes of a cgroup's path, as PATH_MAX has it."""

GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)
"""What the kernel says of a cgroup that is not there, or goes away while its file is read (ENODEV)."""

CPUS = "cpuset.cpus"
EXCLUSIVE = "cpuset.cpus.exclusive"
PARTITION = "cpuset.cpus.partition"
EFFECTIVE = "cpuset.cpus.effective"
MEMS = "cpuset.mems.effective"

Write: TypeAlias = Callable[[Path, str], None]
"""Puts a text into one of the kernel's files, or raises OSError."""


def write_file(file: Path, text: str) -> None:
    """One write call, as the kernel's files want it. Never creates a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The node's cgroups, by the names that the container runtime has for them."""

    root: Path
    """Where cgroup v2 is mounted: ``/sys/fs/cgroup``."""
    write: Write = write_file
    """How a file is written: a model of the kernel may stand in for it."""

    def pod_path(self, cgroup_parent: str) -> Path:
        """The pod's cgroup: a path, or with the systemd driver a slice as a path or by its base name."""
        if "/" not in cgroup_parent and cgroup_parent.endswith(".slice"):
            return self._below_root(nested_slice(cgroup_parent))
        return self._below_root(cgroup_parent)

    def container_path(self, cgroups_path: str, cgroup_parent: str = "") -> Path:
        """The container's cgroup: ``PARENT/ID``, or with the systemd driver ``SLICE:PREFIX:ID``.

        crun puts the processes one cgroup deeper; the cpuset that counts for them is this one's.
        """
        if ":" not in cgroups_path:
            return self._below_root(cgroups_path)
        slice_name, scope = _scope(cgroups_path)
        known = cgroup_parent.rstrip("/").endswith(f"/{slice_name}")
        return self.pod_path(cgroup_parent if known else slice_name) / scope

    def read_pod(self, cgroup_parent: str) -> PodReading | None:
        """What the pod's cgroup says; None where there is none."""
        return self.read_partition(self.pod_path(cgroup_parent))

    def read_partition(self, cgroup: Path) -> PodReading | None:
        """What a cgroup says of its CPUs and of being a partition; None where there is none."""
        if not cgroup.is_dir():
            return None
        return PodReading(self.cpus(cgroup, EXCLUSIVE), self.text(cgroup, PARTITION), self.cpus(cgroup, EFFECTIVE))

    def read_container(self, cgroups_path: str, cgroup_parent: str = "") -> ContainerReading | None:
        """What the container's cgroup says; None where there is none."""
        cgroup = self.container_path(cgroups_path, cgroup_parent)
        if not cgroup.is_dir():
            return None
        return ContainerReading(
            cpus=self.cpus(cgroup, CPUS),
            effective=self.cpus(cgroup, EFFECTIVE),
            mems=self.cpus(cgroup, MEMS),
            quota=_quota(self.text(cgroup, "cpu.max")),
        )

    def write_cpus(self, cgroups_path: str, cgroup_parent: str, cpus: CpuSet) -> None:
        """Set the CPUs of a container behind the runtime's back: a repair. Raises KernelError."""
        self.put(self.container_path(cgroups_path, cgroup_parent), CPUS, str(cpus))

    def lift_quota(self, cgroups_path: str, cgroup_parent: str) -> None:
        """Take a container's CFS quota away: a repair. Raises KernelError."""
        self.put(self.container_path(cgroups_path, cgroup_parent), "cpu.max", "max")

    def confine(self, cgroup_parent: str, name: str, cpus: CpuSet) -> None:
        """Keep a cgroup of the pod whose name holds ``name`` on these CPUs; nothing where there is none, or where it is
        so. Raises KernelError."""
        for child in self.children(self.pod_path(cgroup_parent)):
            if name in child.name and self.cpus(child, CPUS) != cpus:
                self.put(child, CPUS, str(cpus))

    def put(self, cgroup: Path, name: str, text: str) -> None:
        """Write one file of a cgroup; the empty text clears it. Raises KernelError with the file and the reason."""
        file = cgroup / name
        try:
            self.write(file, text or "\n")  # the kernel takes an empty write for none at all
        except OSError as error:
            raise KernelError(f"{file} did not take {text!r}: {error.strerror or error}") from error

    def has(self, cgroup: Path, name: str) -> bool:
        """Whether the cgroup has a file of this name."""
        return (cgroup / name).exists()

    def text(self, cgroup: Path, name: str) -> str:
        """A file's text without its line end; empty where the file or the cgroup is not there. Raises KernelError."""
        file = cgroup / name
        try:
            with open(file, "rb") as source:
                return source.read(LONGEST).decode("ascii", "replace").strip()
        except OSError as error:
            if error.errno in GONE:
                return ""
            raise KernelError(f"{file} cannot be read: {error.strerror or error}") from error

    def cpus(self, cgroup: Path, name: str) -> CpuSet:
        """A file's list of CPUs or of NUMA nodes; empty where the file is not there. Raises KernelError."""
        text = self.text(cgroup, name)
        try:
            return CpuSet.parse(text)
        except InputError as error:
            raise KernelError(f"{cgroup / name} cannot be read: {error}") from error

    def children(self, cgroup: Path) -> list[Path]:
        """The cgroups right below one, by name; none where it is gone."""
        try:
            with os.scandir(cgroup) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return []

    def threads(self, cgroup: Path) -> Iterator[int]:
        """Every thread in a cgroup and below it, by its id. Raises KernelError where we are not to see them."""
        for line in self.text(cgroup, "cgroup.threads").split():
            if line == "0":
                raise KernelError(
                    f"{cgroup}/cgroup.threads hides its threads: run this with the node's process ids (hostPID)"
                )
            yield int(line)
        for child in self.children(cgroup):
            yield from self.threads(child)

    def check(self) -> Support:
        """Whether cgroups can be used here at all, and for partitions too. Raises SetupError."""
        self._demand_version_2()
        self._demand_cpuset()
        return self._support()

    def _demand_version_2(self) -> None:
        if (self.root / "cgroup.controllers").is_file():
            return
        if not self.root.is_dir():
            raise SetupError(
                f"{self.root} is not there: mount the node's /sys/fs/cgroup into the container, or name its place with "
                f"--cgroup-root"
            )
        kind = "the hybrid of cgroup v1 and v2" if (self.root / "unified").is_dir() else "not cgroup v2"
        raise SetupError(
            f"{self.root} is {kind}, and Armistice needs cgroup v2 alone: boot the node with "
            f"systemd.unified_cgroup_hierarchy=1, or use an image whose default it is"
        )

    def _demand_cpuset(self) -> None:
        """The controller is there and handed down, which also tells a mount that cannot be written."""
        if "cpuset" not in self.text(self.root, "cgroup.controllers").split():
            raise SetupError(
                f"{self.root} has no cpuset controller: build the kernel with CONFIG_CPUSETS, or, where the node is "
                f"itself a container, delegate cpuset to it"
            )
        try:
            self.put(self.root, "cgroup.subtree_control", "+cpuset")
        except KernelError as error:
            raise SetupError(
                f"{error}: mount the node's cgroup filesystem read-write, and run the enforcer as root in a "
                f"privileged container"
            ) from error

    def _support(self) -> Support:
        """The root has no file to look for, so its children are asked."""
        below = [child for child in self.children(self.root) if self.has(child, CPUS)]
        if any(self.has(child, EXCLUSIVE) for child in below):
            return Support(True)
        if below:
            return Support(False, f"the kernel has no {EXCLUSIVE}: cpuset partitions of pods need Linux 6.7 or newer")
        return Support(False, f"no cgroup right below {self.root} has the cpuset controller")

    def _below_root(self, name: str) -> Path:
        """A cgroup by its path from the root. The runtime names it; no name leads out of the root."""
        parts = [part for part in name.split("/") if part]
        if not parts or len(name) > LONGEST_NAME or "\0" in name or not {".", ".."}.isdisjoint(parts):
            raise KernelError(f"{name[:200]!r} names no cgroup of a pod or container")
        return self.root.joinpath(*parts)


def nested_slice(name: str) -> str:
    """``a-b-c.slice`` lies in ``a.slice/a-b.slice``: systemd.slice(5)."""
    words = name.removesuffix(".slice").split("-")
    if not all(words):
        raise KernelError(f"{name[:200]!r} names no slice of a pod")
    return "/".join("-".join(words[: count + 1]) + ".slice" for count in range(len(words)))


def _scope(cgroups_path: str) -> tuple[str, str]:
    """The slice, and the scope in it, of ``SLICE:PREFIX:ID``, as runc and crun read it."""
    slice_name, prefix, name = (*cgroups_path.split(":", 2), "", "")[:3]
    if not slice_name or not name or "/" in prefix + name or "\0" in prefix + name or ":" in name:
        raise KernelError(f"{cgroups_path[:200]!r} names no scope of a container: SLICE:PREFIX:ID was expected")
    if name.endswith(".slice"):
        return slice_name, name
    return slice_name, f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def _quota(text: str) -> int | None:
    """The first word of ``cpu.max``: microseconds per period, or ``max``."""
    word = text.partition(" ")[0]
    return int(word) if word.isdigit() else None
