"""Make a pod's cgroup a cpuset partition: the kernel itself then keeps every other task of the node off its CPUs.

As the kernel's Documentation/admin-guide/cgroup-v2.rst has it ("remote partition"): a CPU is exclusive to a cgroup
when ``cpuset.cpus.exclusive`` names it in the cgroup and in all its ancestors below the root. One enclosure:

1. Nothing is written where the cgroup is already as wanted.
2. From the top down each ancestor gets the CPUs in addition to those it has; then the pod's cgroup gets exactly them.
3. The pod's cgroup is told to be a partition, and read back: a write may succeed and the answer be ``root invalid``.
4. Where any of it fails, all of it is taken back, so that there is never half a binding.

Ancestors keep CPUs that no pod uses any more. That harms nobody but the pods of another QoS class, since two sisters
may not name the same CPU: :func:`trim` takes them back, only ever those that nothing below uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from enforcer.cgroup import EXCLUSIVE, PARTITION, Cgroups
from enforcer.errors import KernelError
from enforcer.kernel import Enclosure, Level, PodReading
from shared.cpuset import EMPTY, CpuSet

WORDS = {Level.PARTITION: "root", Level.ISOLATED: "isolated"}
"""How the kernel calls the levels in ``cpuset.cpus.partition``."""

KUBEPODS = re.compile(r"(.+-)?kubepods(\.slice)?")
"""The kubelet's cgroup of all pods, for both drivers and below any ``--cgroup-root``."""

QOS = re.compile(r"((.+-)?kubepods-)?(burstable|besteffort)(\.slice)?")
"""The kubelet's cgroups of a QoS class. Guaranteed pods lie beside them."""

POD = re.compile(r"(.+-)?pod[0-9a-f_-]+(\.slice)?")
"""The kubelet's cgroup of one pod: its uid, with ``_`` for ``-`` in a slice. A static pod's uid is a bare hash."""


def enclose(cgroups: Cgroups, cgroup_parent: str, cpus: CpuSet, level: Level) -> Enclosure:
    """Make the pod's cgroup a partition of these CPUs, or change the one it is. The answer says what holds."""
    try:
        pod = cgroups.pod_path(cgroup_parent)
    except KernelError as error:
        return Enclosure(Level.CPUSET, str(error))
    try:
        found = _enclose(cgroups, pod, cpus, level)
    except KernelError as error:
        found = Enclosure(Level.CPUSET, str(error))
    # Looked at last: a pod may go at any moment between two writes.
    return replace(found, gone=True) if found.level is not level and not pod.is_dir() else found


def open_(cgroups: Cgroups, cgroup_parent: str) -> None:
    """Let the CPUs of a pod that lives go: its cgroup is an ordinary one again. Raises KernelError."""
    pod = cgroups.pod_path(cgroup_parent)
    if cgroups.read_partition(pod) not in (None, PodReading()):
        _open(cgroups, pod)


def trim(cgroups: Cgroups, kept: CpuSet) -> bool:
    """Take off the ancestors of pods every exclusive CPU that no pod below uses; say whether there was one.

    ``kept`` are the CPUs of all bubbles. A partition in force is never touched, whether its CPUs are kept or not: CPUs
    taken off an ancestor would end it. What an invalid or opened one still names counts only where it is kept.
    """
    changed = False
    for ancestor in _ancestors(cgroups, cgroups.root):
        used = EMPTY
        for child in cgroups.children(ancestor):
            used |= _used(cgroups, child, kept)
        had = cgroups.cpus(ancestor, EXCLUSIVE)
        if not had <= used:
            _put_exclusive(cgroups, ancestor, had & used)
            changed = True
    return changed


def _enclose(cgroups: Cgroups, pod: Path, cpus: CpuSet, level: Level) -> Enclosure:
    refusal = _hindrance(cgroups, pod, cpus)
    if refusal:
        return Enclosure(Level.CPUSET, refusal)
    refusal = _attempt(cgroups, pod, cpus, level)
    if refusal and trim(cgroups, cpus):  # a sister of an ancestor still had CPUs of a pod that is gone
        refusal = _attempt(cgroups, pod, cpus, level)
    if not refusal:
        return Enclosure(level)
    if level is Level.ISOLATED:
        return _weaker(_enclose(cgroups, pod, cpus, Level.PARTITION), refusal)
    return Enclosure(Level.CPUSET, refusal)


def _weaker(found: Enclosure, refusal: str) -> Enclosure:
    """A partition where an isolated one was asked for, or not even that: both reasons where they differ."""
    if found.level is Level.CPUSET and found.why_not != refusal:
        return Enclosure(found.level, f"{refusal}; {found.why_not}")
    return Enclosure(found.level, refusal)


def _hindrance(cgroups: Cgroups, pod: Path, cpus: CpuSet) -> str:
    """Why there is nothing to try; empty where there is."""
    if not cpus:
        return f"{pod} cannot be a partition of no CPUs"
    if not pod.is_dir():
        return f"{pod} does not exist"
    if not cgroups.has(pod, EXCLUSIVE):
        return (
            f"{pod} has no {EXCLUSIVE}: the kernel is older than Linux 6.7, or the cpuset controller is not handed down"
        )
    return ""


def _attempt(cgroups: Cgroups, pod: Path, cpus: CpuSet, level: Level) -> str:
    """One try. Empty where the partition holds; otherwise the reason, and nothing of it is left."""
    if not _shortfall(cgroups, pod, cpus, level):
        return ""
    before = [(ancestor, cgroups.cpus(ancestor, EXCLUSIVE)) for ancestor in _above(cgroups, pod)]
    try:
        _write(cgroups, pod, cpus, level)
        refusal = _shortfall(cgroups, pod, cpus, level)
    except KernelError as error:
        refusal = str(error)
    if refusal:
        _take_back(cgroups, pod, before)
    return refusal


def _write(cgroups: Cgroups, pod: Path, cpus: CpuSet, level: Level) -> None:
    for ancestor in _above(cgroups, pod):
        _put_exclusive(cgroups, ancestor, cgroups.cpus(ancestor, EXCLUSIVE) | cpus)
    _put_exclusive(cgroups, pod, cpus)
    if cgroups.text(pod, PARTITION) != WORDS[level]:
        cgroups.put(pod, PARTITION, WORDS[level])


def _shortfall(cgroups: Cgroups, pod: Path, cpus: CpuSet, level: Level) -> str:
    """How far the pod's cgroup is from what is wanted, in one sentence; empty where it is as wanted."""
    found = cgroups.read_partition(pod) or PodReading()
    if found.partition != WORDS[level]:
        return f"{pod / PARTITION} says {found.partition!r} where {WORDS[level]!r} was asked for"
    if found.exclusive != cpus:
        return f"{pod / EXCLUSIVE} says {str(found.exclusive)!r} where {str(cpus)!r} was asked for"
    if not found.effective <= cpus:
        return f"{pod} runs on {found.effective}, which is more than the {cpus} that were asked for"
    return ""


def _take_back(cgroups: Cgroups, pod: Path, before: list[tuple[Path, CpuSet]]) -> None:
    """The pod first, then from the bottom up what its ancestors had: nothing is taken from under a partition."""
    _open(cgroups, pod)
    for ancestor, had in reversed(before):
        _put_exclusive(cgroups, ancestor, had)


def _open(cgroups: Cgroups, pod: Path) -> None:
    if pod.is_dir():
        if cgroups.text(pod, PARTITION) != "member":
            cgroups.put(pod, PARTITION, "member")
        _put_exclusive(cgroups, pod, EMPTY)


def _put_exclusive(cgroups: Cgroups, cgroup: Path, cpus: CpuSet) -> None:
    if cgroups.cpus(cgroup, EXCLUSIVE) != cpus:
        cgroups.put(cgroup, EXCLUSIVE, str(cpus))


def _above(cgroups: Cgroups, pod: Path) -> list[Path]:
    """The ancestors below the root, top-down."""
    return [
        parent for parent in reversed(pod.parents) if parent.is_relative_to(cgroups.root) and parent != cgroups.root
    ]


def _ancestors(cgroups: Cgroups, cgroup: Path) -> Iterator[Path]:
    """Cgroups that may be ancestors of pods and name exclusive CPUs, bottom-up. No others are looked into."""
    for child in cgroups.children(cgroup):
        if not cgroups.cpus(child, EXCLUSIVE) or cgroups.text(child, PARTITION) != "member":
            continue
        if KUBEPODS.fullmatch(child.name):
            yield from (each for each in cgroups.children(child) if QOS.fullmatch(each.name))
            yield child
        else:
            below = list(_ancestors(cgroups, child))
            yield from below
            if below:
                yield child


def _used(cgroups: Cgroups, cgroup: Path, kept: CpuSet) -> CpuSet:
    """The exclusive CPUs that a cgroup needs of its parent. Whatever is no pod's is not ours to judge."""
    found = cgroups.read_partition(cgroup) or PodReading()
    idle = found.level is Level.CPUSET and POD.fullmatch(cgroup.name)
    return found.exclusive & kept if idle else found.exclusive
