"""A model of the kernel's cgroup v2 files for CPUs, in a folder.

The code under test reads the files itself, and writes them through :meth:`CgroupFs.write`
(``Cgroups(fs.root, fs.write)``), since a plain file can neither refuse a write nor answer it with ``root invalid``. The
rules are those of Documentation/admin-guide/cgroup-v2.rst and of what Linux 7.2 was seen to do:

* A remote partition takes its CPUs out of the effective set of every cgroup that is not below it, and gives them back
  when its cgroup goes or becomes a member.
* It may have only what all its ancestors below the root name in ``cpuset.cpus.exclusive``; nothing at all is
  ``invalid (Invalid cpu list in cpuset.cpus.exclusive)``.
* Where an ancestor loses CPUs that a partition uses, the partition becomes invalid, and stays so until it is written
  again.
* Sisters may not name the same exclusive CPU, nor one of them all that another has in ``cpuset.cpus``: EINVAL.
* The last CPU of the node is nobody's.
* A member's effective CPUs are its own that its parent has; where that is none, the parent's.

Left out: partitions inside partitions, and threads (``put`` names a cgroup's threads; they obey nothing).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.cpuset import EMPTY, CpuSet
from shared.errors import InputError

ONE_NUMA_NODE = CpuSet(1)
"""NUMA node 0 and no other, as a set of ids."""


@dataclass(slots=True)
class Node:
    """One cgroup as the model remembers it; the files show the same."""

    path: Path
    parent: Node | None = None
    children: dict[str, Node] = field(default_factory=dict)
    cpus: CpuSet = EMPTY
    exclusive: CpuSet = EMPTY
    mems: CpuSet = EMPTY
    word: str = "member"
    invalid: str = ""
    """Why the partition is none, without brackets."""
    taken: CpuSet = EMPTY
    """The CPUs that a valid partition has, offline ones among them."""
    effective: CpuSet = EMPTY
    mems_effective: CpuSet = EMPTY
    shown: tuple[object, ...] = ()
    """What its files were last made from: text is made anew only when that changes."""

    @property
    def valid(self) -> bool:
        """Whether it is a partition in force."""
        return self.word != "member" and not self.invalid

    @property
    def partition(self) -> str:
        """What ``cpuset.cpus.partition`` reads."""
        return f"{self.word} invalid ({self.invalid})" if self.invalid else self.word

    def walk(self) -> Iterator[Node]:
        """This cgroup and all below it, from the top down."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def above(self) -> Iterator[Node]:
        """The ancestors below the root, from the bottom up."""
        node = self.parent
        while node is not None and node.parent is not None:
            yield node
            node = node.parent


class CgroupFs:
    """The cgroups of one node."""

    def __init__(self, root: Path, cpus: CpuSet, mems: CpuSet = ONE_NUMA_NODE, partitions: bool = True) -> None:
        self.root = root
        self.cpus = cpus
        self.mems = mems
        self.partitions = partitions
        """Whether the kernel has ``cpuset.cpus.exclusive``."""
        self.offline = EMPTY
        self.refusals: dict[Path, int] = {}
        """Errno that a write to a file is answered with: for a file, or for every file below a folder."""
        self.forbidden: dict[str, str] = {}
        """Words of ``cpuset.cpus.partition`` that come out invalid, and why."""
        self.writes: list[tuple[str, str]] = []
        """Every write that was tried: the file from the root, and the text."""
        self._shown: dict[Path, str] = {}
        root.mkdir(parents=True, exist_ok=True)
        self._top = Node(root)
        self._show(root / "cgroup.controllers", "cpuset cpu memory")
        self._show(root / "cgroup.subtree_control", "cpuset cpu memory")
        self.settle()

    # What happens on a node

    def make(self, path: str | Path) -> Path:
        """A cgroup, and those above it that are missing, with the controllers handed down."""
        node = self._top
        for name in self._names(path):
            if name not in node.children:
                node.children[name] = Node(node.path / name, node)
                self._populate(node.children[name])
            node = node.children[name]
        self.settle()
        return node.path

    def remove(self, path: str | Path) -> None:
        """A cgroup goes, with all below it. One that is not there is left so."""
        node = self.find(path)
        if node is None or node.parent is None:
            return
        del node.parent.children[node.path.name]
        self._shown = {file: text for file, text in self._shown.items() if not file.is_relative_to(node.path)}
        shutil.rmtree(node.path)
        self.settle()

    def put(self, path: str | Path, threads: Iterable[int]) -> None:
        """The threads of a cgroup, by their ids."""
        self._show(self.make(path) / "cgroup.threads", "\n".join(map(str, threads)))

    def plug(self, offline: CpuSet) -> None:
        """Exactly these CPUs are offline from now on."""
        self.offline = offline
        self.settle()

    def refuse(self, path: str | Path, code: int) -> None:
        """Every write to this file, or below this folder, fails with the errno."""
        self.refusals[self.root.joinpath(*self._names(path))] = code

    def find(self, path: str | Path) -> Node | None:
        """A cgroup by its path; None where there is none."""
        node: Node | None = self._top
        for name in self._names(path):
            node = node.children.get(name) if node else None
        return node

    # What the kernel does

    def write(self, file: Path, text: str) -> None:
        """A write to one of the files, as the kernel takes or refuses it. For the seam of ``Cgroups``."""
        self.writes.append((str(file.relative_to(self.root)), text))
        for refused, code in self.refusals.items():
            if file.is_relative_to(refused):
                raise OSError(code, os.strerror(code), str(file))
        node = self.find(file.parent)
        if node is None or not file.exists():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        if text:
            self._take(node, file, text.strip())
            self.settle()

    def settle(self) -> None:
        """Recompute what is effective, and which partitions hold, from what was written; show it in the files."""
        nodes = list(self._top.walk())
        for node in nodes:
            self._validate(node)
        gone = EMPTY
        for node in nodes:
            gone |= node.taken if node.valid else EMPTY
        self._top.effective = self.cpus - self.offline - gone
        self._top.mems_effective = self.mems
        for node in nodes[1:]:
            self._inherit(node)
        for node in nodes:
            self._show_node(node)

    def _take(self, node: Node, file: Path, text: str) -> None:
        if file.name == "cpuset.cpus":
            node.cpus = self._list(text, self.cpus, errno.ERANGE)
        elif file.name == "cpuset.mems":
            node.mems = self._list(text, self.mems, errno.EINVAL)
        elif file.name == "cpuset.cpus.exclusive":
            node.exclusive = self._disjoint(node, self._list(text, self.cpus, errno.ERANGE))
            node.taken = node.exclusive if node.valid else EMPTY
        elif file.name == "cpuset.cpus.partition":
            self._become(node, text)
        else:
            self._show(file, text)

    def _list(self, text: str, known: CpuSet, code: int) -> CpuSet:
        try:
            numbers = CpuSet.parse(text)
        except InputError as error:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
        if not numbers <= known:
            raise OSError(code, os.strerror(code))
        return numbers

    def _disjoint(self, node: Node, exclusive: CpuSet) -> CpuSet:
        sisters = node.parent.children.values() if node.parent else ()
        for sister in sisters:
            swallowed = bool(sister.cpus) and sister.cpus <= exclusive
            if sister is not node and (swallowed or not sister.exclusive.isdisjoint(exclusive)):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return exclusive

    def _become(self, node: Node, word: str) -> None:
        if word not in ("member", "root", "isolated"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        was = node.valid
        node.word, node.invalid = word, self.forbidden.get(word, "")
        if not node.valid:
            node.taken = EMPTY
        elif not was:
            node.taken = self._granted(node)
            if not node.taken or self._is_everything(node):
                self._spoil(node, "Invalid cpu list in cpuset.cpus.exclusive")

    def _granted(self, node: Node) -> CpuSet:
        """What is exclusive to a cgroup along the whole path."""
        granted = node.exclusive
        for ancestor in node.above():
            granted &= ancestor.exclusive
        return granted

    def _is_everything(self, node: Node) -> bool:
        taken = node.taken
        for other in self._top.walk():
            taken |= other.taken if other.valid else EMPTY
        return self.cpus - self.offline <= taken

    def _validate(self, node: Node) -> None:
        if not node.valid:
            return
        if not node.taken:
            self._spoil(node, "Invalid cpu list in cpuset.cpus.exclusive")
        elif not node.taken <= self._granted(node):
            self._spoil(node, "Parent is not a partition root")
        elif node.taken <= self.offline:
            self._spoil(node, "No cpu available due to hotplug")

    @staticmethod
    def _spoil(node: Node, reason: str) -> None:
        node.invalid, node.taken = reason, EMPTY

    def _inherit(self, node: Node) -> None:
        assert node.parent is not None
        if node.valid:
            node.effective = node.taken - self.offline
        else:
            node.effective = (node.cpus & node.parent.effective) or node.parent.effective
        node.mems_effective = (node.mems & node.parent.mems_effective) or node.parent.mems_effective

    # What the files show

    def _populate(self, node: Node) -> None:
        node.path.mkdir()
        for name, text in (
            ("cgroup.subtree_control", "cpuset cpu memory"),
            ("cgroup.procs", ""),
            ("cgroup.threads", ""),
            ("cpu.max", "max 100000"),
        ):
            self._show(node.path / name, text)

    def _show_node(self, node: Node) -> None:
        contents = {"cpuset.cpus.effective": node.effective, "cpuset.mems.effective": node.mems_effective}
        if node is not self._top:
            contents |= {"cpuset.cpus": node.cpus, "cpuset.mems": node.mems}
        if self.partitions and node is self._top:
            contents["cpuset.cpus.isolated"] = self._isolated()
        elif self.partitions:
            contents["cpuset.cpus.exclusive"] = node.exclusive
            contents["cpuset.cpus.exclusive.effective"] = self._granted(node)
        shown = (node.partition, *contents.values())
        if shown != node.shown:
            node.shown = shown
            for name, cpus in contents.items():
                self._show(node.path / name, str(cpus))
            if self.partitions and node is not self._top:
                self._show(node.path / "cpuset.cpus.partition", node.partition)

    def _isolated(self) -> CpuSet:
        isolated = EMPTY
        for node in self._top.walk():
            isolated |= node.taken if node.valid and node.word == "isolated" else EMPTY
        return isolated

    def _show(self, file: Path, text: str) -> None:
        """A file is written only when it changes: somebody may be watching."""
        if self._shown.get(file) != text:
            file.write_text(f"{text}\n")
            self._shown[file] = text

    def _names(self, path: str | Path) -> list[str]:
        """The names of a path below the root, given from there or from the root of everything."""
        path = Path(path)
        if path.is_relative_to(self.root):
            path = path.relative_to(self.root)
        return [name for name in path.parts if name != "/"]
