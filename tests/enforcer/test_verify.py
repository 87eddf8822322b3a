"""Which differences between promise and kernel count, and what a repair does about them."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from enforcer.cgroup import Cgroups
from enforcer.kernel import ContainerReading, Level, PodReading
from enforcer.partition import enclose
from enforcer.promise import ContainerPromise, PodPromise
from enforcer.repair import repair
from enforcer.verify import Drift, verify
from shared.cpuset import EMPTY, CpuSet
from tests.support.cgroupfs import CgroupFs

POD = "/kubepods/burstable/pod0a"
cpus = CpuSet.parse
APP = ContainerPromise("1", "app", f"{POD}/1", cpus("4-5"), cpus("0"), owns=True)
PROXY = ContainerPromise("2", "proxy", f"{POD}/2", cpus("6-7"), cpus("0"))
PROMISE = PodPromise("u", "default", "web", POD, "exclusive", cpus("4-7"), Level.PARTITION, "", (0,), (APP, PROXY))
GOOD = PodReading(cpus("4-7"), "root", cpus("4-7"))
GOOD_APP = ContainerReading(cpus("4-5"), cpus("4-5"), cpus("0"), None)
GOOD_PROXY = ContainerReading(cpus("6-7"), cpus("6-7"), cpus("0"), 50000)

PODS = [
    ("as promised", GOOD, []),
    ("a CPU of it offline", replace(GOOD, effective=cpus("4-6")), []),
    ("gone", None, []),
    ("a member again", PodReading(cpus("4-7"), "member", cpus("0-7")),
     ["the pod's cgroup is member, and was promised to be root"]),
    ("invalid", replace(GOOD, partition="root invalid (Parent is not a partition root)"),
     ["the pod's cgroup is root invalid (Parent is not a partition root), and was promised to be root"]),
    ("isolated by somebody", replace(GOOD, partition="isolated"),
     ["the pod's cgroup is isolated, and was promised to be root"]),
    ("with fewer CPUs", replace(GOOD, exclusive=cpus("4-5")),
     ["the pod's own CPUs are 4-5, and were promised to be 4-7"]),
    ("with none, on a kernel that has no partitions", PodReading(),
     ["the pod's cgroup is nothing, and was promised to be root",
      "the pod's own CPUs are nothing, and were promised to be 4-7"]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "reading", "texts"), PODS, ids=[row[0] for row in PODS])
def test_the_pods_cgroup(what: str, reading: PodReading | None, texts: list[str]) -> None:
    assert [drift.text for drift in verify(PROMISE, reading, {}, cpus("0-7"))] == texts


def test_a_bubble_kept_by_cpusets_is_not_asked_for_a_partition() -> None:
    assert verify(replace(PROMISE, level=Level.CPUSET), PodReading(), {}, cpus("0-7")) == ()


def on(effective: str, reading: ContainerReading) -> ContainerReading:
    return replace(reading, effective=cpus(effective))


CONTAINERS = [
    ("a slice as promised", "1", GOOD_APP, "0-7", []),
    ("a slice that is wider", "1", on("0-7", GOOD_APP), "0-7",
     ["container app may run on 0-7, and was promised 4-5"]),
    ("a slice that is narrower", "1", on("4", GOOD_APP), "0-7", ["container app may run on 4, and was promised 4-5"]),
    ("a slice with a CPU offline", "1", on("4", GOOD_APP), "0-4,6-7", []),
    ("a slice that runs elsewhere while all its CPUs are offline", "1", on("6-7", GOOD_APP), "0-3,6-7", []),
    ("a slice with a quota", "1", replace(GOOD_APP, quota=100), "0-7",
     ["container app is throttled at 100 microseconds per period, and was promised no quota"]),
    ("a shared container as promised, with its quota", "2", GOOD_PROXY, "0-7", []),
    ("a shared container that is narrower", "2", on("6", GOOD_PROXY), "0-7", []),
    ("a shared container that is wider", "2", on("0-7", GOOD_PROXY), "0-7",
     ["container proxy may run on 0-7, and was promised 6-7"]),
    ("a shared container on nothing", "2", on("", GOOD_PROXY), "0-7",
     ["container proxy may run on nothing, and was promised 6-7"]),
    ("memory of another NUMA node", "2", replace(GOOD_PROXY, mems=cpus("0-1")), "0-7",
     ["container proxy may take memory of NUMA nodes 0-1, and was promised 0"]),
    ("no memory at all", "2", replace(GOOD_PROXY, mems=EMPTY), "0-7",
     ["container proxy may take memory of NUMA nodes nothing, and was promised 0"]),
    ("everything at once", "1", ContainerReading(EMPTY, cpus("1"), cpus("1"), 7), "0-7",
     ["container app may run on 1, and was promised 4-5",
      "container app may take memory of NUMA nodes 1, and was promised 0",
      "container app is throttled at 7 microseconds per period, and was promised no quota"]),
    ("a container that nothing is known of", "3", on("0", GOOD_APP), "0-7", []),
]  # fmt: skip


@pytest.mark.parametrize(("what", "id_", "found", "online", "texts"), CONTAINERS, ids=[row[0] for row in CONTAINERS])
def test_a_container(what: str, id_: str, found: ContainerReading, online: str, texts: list[str]) -> None:
    assert [drift.text for drift in verify(PROMISE, GOOD, {id_: found}, cpus(online))] == texts


def test_nothing_promised_nothing_asked() -> None:
    free = replace(PROMISE, level=Level.CPUSET, containers=(ContainerPromise("1", "app", "", EMPTY, EMPTY),))
    assert verify(free, PodReading(), {"1": on("0-7", GOOD_APP)}, cpus("0-7")) == ()


class Node:
    """A node on which the promise holds."""

    def __init__(self, root: Path) -> None:
        self.fs = CgroupFs(root / "cgroup", cpus("0-7"), cpus("0-1"))
        self.cgroups = Cgroups(self.fs.root, self.fs.write)
        for container in PROMISE.containers:
            self.fs.make(container.cgroups_path)
            self.cgroups.write_cpus(container.cgroups_path, POD, container.cpus)
            self.write(container.cgroups_path, "cpuset.mems", "0")
        enclose(self.cgroups, POD, PROMISE.bubble, Level.PARTITION)
        assert self.drifts() == ()

    def write(self, path: str, name: str, text: str) -> None:
        self.fs.write(self.fs.root / path[1:] / name, text)

    def drifts(self) -> tuple[Drift, ...]:
        found = {each.id: self.cgroups.read_container(each.cgroups_path, POD) for each in PROMISE.containers}
        readings = {id_: reading for id_, reading in found.items() if reading}
        return verify(PROMISE, self.cgroups.read_pod(POD), readings, cpus("0-7"))

    def repair(self) -> list[bool]:
        return [repair(self.cgroups, PROMISE, drift, cpus("0-7")) for drift in self.drifts()]


WIDENED = [
    ("a slice widened by hand", f"{POD}/1", "cpuset.cpus", "0-7"),
    ("a slice whose CPUs were cleared", f"{POD}/1", "cpuset.cpus", "\n"),
    ("a slice narrowed", f"{POD}/1", "cpuset.cpus", "5"),
    ("a shared container widened into the slice", f"{POD}/2", "cpuset.cpus", "4-7"),
    ("a quota put on a slice", f"{POD}/1", "cpu.max", "50000 100000"),
    ("the partition ended", POD, "cpuset.cpus.partition", "member"),
    ("the partition's CPUs changed", POD, "cpuset.cpus.exclusive", "4-5"),
    ("CPUs taken from under the partition", "/kubepods", "cpuset.cpus.exclusive", "\n"),
]


@pytest.mark.parametrize(("what", "path", "name", "text"), WIDENED, ids=[row[0] for row in WIDENED])
def test_what_somebody_changed_by_hand_is_put_right(tmp_path: Path, what: str, path: str, name: str, text: str) -> None:
    node = Node(tmp_path)
    node.write(path, name, text)
    repaired = node.repair()
    assert repaired
    assert all(repaired)
    assert node.drifts() == ()


def test_memory_nodes_of_a_running_container_are_left(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.write(f"{POD}/1", "cpuset.mems", "0-1")
    node.fs.writes.clear()
    assert node.repair() == [False]
    assert node.fs.writes == []


def test_a_repair_that_the_kernel_refuses_is_none(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.write(f"{POD}/1", "cpuset.cpus", "4-7")
    node.fs.refuse(f"{POD}/1/cpuset.cpus", errno.EACCES)
    assert node.repair() == [False]
