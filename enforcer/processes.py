"""The adapter of ``/proc``: what the kernel says of threads, and of the memory that processes have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.cpuset import CpuSet
from shared.errors import InputError

KERNEL_PARENT = "2"
"""The process id of kthreadd, the parent of all kernel threads."""

NODE_PAGES = re.compile(r"\bN(\d+)=(\d+)")
PAGE_KIB = re.compile(r"\bkernelpagesize_kB=(\d+)")


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread, as ``/proc/TID/status`` has it."""

    tid: int
    pid: int
    """Of its process."""
    name: str
    cpus: CpuSet
    """``Cpus_allowed_list``: it may run on these."""
    mems: CpuSet
    """``Mems_allowed_list``, as a set of NUMA node ids."""
    kernel: bool = False
    """Whether it is the kernel's own."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Memory of processes by NUMA node id, in bytes."""

    anonymous: dict[int, int] = field(default_factory=dict)
    """Heap, stacks and whatever else no file is behind: the processes' own."""
    files: dict[int, int] = field(default_factory=dict)
    """Mapped files, tmpfs among them: they stay where they were read first, whoever reads them next."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The node's processes."""

    root: Path
    """``/proc`` of the node, not of a container."""

    def thread(self, tid: int) -> Thread | None:
        """One thread; None when it is gone or dead."""
        return parse_status(self._text(Path(str(tid)) / "status"))

    def threads(self) -> Iterator[Thread]:
        """Every thread of the node."""
        for process in self._numbers(self.root):
            for tid in self._numbers(self.root / str(process) / "task"):
                thread = parse_status(self._text(Path(str(process), "task", str(tid), "status")))
                if thread is not None:
                    yield thread

    def pages(self, pids: Iterable[int]) -> Pages:
        """The memory of processes together. What two of them share counts twice. Raises InputError where it is kept
        from us: a proof without pages would be none."""
        total = Pages()
        for pid in pids:
            try:
                with open(self.root / str(pid) / "numa_maps", encoding="ascii", errors="replace") as lines:
                    add_pages(total, lines)
            except PermissionError as error:
                raise InputError(f"{self.root}/{pid}/numa_maps cannot be read: run this as root") from error
            except OSError:  # gone meanwhile, or a kernel without NUMA
                continue
        return total

    def online(self) -> CpuSet:
        """The CPUs that are online, by the lines ``cpuN`` of ``/proc/stat``. Raises InputError where there are none."""
        cpus = CpuSet.of(int(number) for number in re.findall(r"^cpu(\d+) ", self._text(Path("stat")), re.M))
        if not cpus:
            raise InputError(f"{self.root}/stat names no CPU: name the node's /proc with --proc")
        return cpus

    def _text(self, file: Path) -> str:
        try:
            return (self.root / file).read_text("utf-8", "replace")
        except OSError:
            return ""

    @staticmethod
    def _numbers(folder: Path) -> list[int]:
        try:
            return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())
        except OSError:
            return []


def parse_status(text: str) -> Thread | None:
    """The lines of ``/proc/TID/status`` that count (proc_pid_status(5)); None for a dead thread, or half a file."""
    rows = dict(line.partition(":")[::2] for line in text.splitlines())
    try:
        if rows["State"].strip()[0] in "ZX":
            return None
        thread = Thread(
            tid=int(rows["Pid"]),
            pid=int(rows["Tgid"]),
            name=rows["Name"].strip(),
            cpus=CpuSet.parse(rows["Cpus_allowed_list"]),
            mems=CpuSet.parse(rows["Mems_allowed_list"]),
            kernel=_is_kernels(rows),
        )
        return thread if thread.cpus and thread.mems else None
    except (KeyError, IndexError, ValueError, InputError):
        return None


def _is_kernels(rows: dict[str, str]) -> bool:
    """Linux 6.8 says so itself; before, kernel threads are those of kthreadd."""
    if "Kthread" in rows:
        return rows["Kthread"].strip() == "1"
    return KERNEL_PARENT in (rows["Tgid"].strip(), rows.get("PPid", "").strip())


def add_pages(total: Pages, lines: Iterable[str]) -> None:
    """Count the lines of a ``numa_maps`` (numa(7)): pages per NUMA node, each as large as its line says."""
    for line in lines:
        size = PAGE_KIB.search(line)
        kind = total.files if " file=" in line else total.anonymous
        for node, count in NODE_PAGES.findall(line):
            kind[int(node)] = kind.get(int(node), 0) + int(count) * 1024 * (int(size[1]) if size else 4)
