"""A pod's cgroup as a partition, on a model of the kernel's files."""

from __future__ import annotations

import contextlib
import errno
import random
from pathlib import Path

import pytest

from enforcer.cgroup import Cgroups
from enforcer.kernel import Enclosure, Level
from enforcer.partition import enclose, open_, trim
from shared.cpuset import EMPTY, CpuSet
from tests.support.cgroupfs import CgroupFs

A, B, G = "/kubepods/burstable/pod0a", "/kubepods/burstable/pod0b", "/kubepods/pod0c"
"""Two burstable pods, and a Guaranteed one."""
ABOVE = ("/kubepods", "/kubepods/burstable")
HOST = "/system.slice/sshd.service"


class Machine:
    """A node of eight CPUs with three pods and a daemon."""

    def __init__(self, root: Path) -> None:
        self.fs = CgroupFs(root / "cgroup", CpuSet.parse("0-7"))
        for path in (A, B, G, HOST):
            self.fs.make(path)
        self.cgroups = Cgroups(self.fs.root, self.fs.write)

    def enclose(self, pod: str, cpus: str, level: Level = Level.PARTITION) -> Enclosure:
        return enclose(self.cgroups, pod, CpuSet.parse(cpus), level)

    def says(self, path: str, name: str) -> str:
        return (self.fs.root / path[1:] / name).read_text().strip()

    def exclusive(self, *paths: str) -> list[str]:
        return [self.says(path, "cpuset.cpus.exclusive") for path in paths]

    def effective(self, *paths: str) -> list[str]:
        return [self.says(path, "cpuset.cpus.effective") for path in paths]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("level", [Level.PARTITION, Level.ISOLATED])
def test_a_pod_gets_its_cpus_and_everybody_else_loses_them(machine: Machine, level: Level) -> None:
    assert machine.enclose(A, "4-6", level) == Enclosure(level)
    assert machine.exclusive(*ABOVE, A) == ["4-6", "4-6", "4-6"]
    assert machine.effective(A, B, G, HOST) == ["4-6", "0-3,7", "0-3,7", "0-3,7"]


def test_it_works_the_same_with_slices(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    name = "kubepods-burstable-pod0a.slice"
    path = f"/kubepods.slice/kubepods-burstable.slice/{name}"
    machine.fs.make(path)
    assert machine.enclose(name, "1") == Enclosure(Level.PARTITION)
    assert machine.exclusive("/kubepods.slice", path) == ["1", "1"]
    machine.fs.remove(path)
    assert trim(machine.cgroups, EMPTY)
    assert machine.exclusive("/kubepods.slice", "/kubepods.slice/kubepods-burstable.slice") == ["", ""]


def test_as_already_wanted_writes_nothing(machine: Machine) -> None:
    machine.enclose(A, "4-6")
    machine.fs.writes.clear()
    assert machine.enclose(A, "4-6") == Enclosure(Level.PARTITION)
    assert machine.fs.writes == []


def test_the_order_is_from_the_top_down(machine: Machine) -> None:
    machine.enclose(A, "4")
    assert machine.fs.writes == [
        ("kubepods/cpuset.cpus.exclusive", "4"),
        ("kubepods/burstable/cpuset.cpus.exclusive", "4"),
        ("kubepods/burstable/pod0a/cpuset.cpus.exclusive", "4"),
        ("kubepods/burstable/pod0a/cpuset.cpus.partition", "root"),
    ]


CHANGES = [("grows", "4-5", "3-6"), ("shrinks", "3-6", "4-5"), ("moves", "2-3", "5-6")]


@pytest.mark.parametrize(("what", "before", "after"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_live_partition_changes_and_its_neighbour_stays(machine: Machine, what: str, before: str, after: str) -> None:
    machine.enclose(B, "7")
    machine.enclose(A, before)
    assert machine.enclose(A, after) == Enclosure(Level.PARTITION)
    assert machine.effective(A, B) == [after, "7"]


def test_the_level_of_a_live_partition_changes(machine: Machine) -> None:
    machine.enclose(A, "4-5", Level.ISOLATED)
    assert machine.enclose(A, "4-5", Level.PARTITION) == Enclosure(Level.PARTITION)
    assert machine.says(A, "cpuset.cpus.partition") == "root"


def test_an_invalid_partition_is_revived(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    machine.fs.write(machine.fs.root / "kubepods/cpuset.cpus.exclusive", "\n")
    assert machine.says(A, "cpuset.cpus.partition") == "root invalid (Parent is not a partition root)"
    assert machine.enclose(A, "4-5") == Enclosure(Level.PARTITION)
    assert machine.effective(A, B) == ["4-5", "0-3,6-7"]


def test_isolated_falls_back_to_a_partition_and_says_so(machine: Machine) -> None:
    machine.fs.forbidden["isolated"] = "partition config conflicts with housekeeping setup"
    file = machine.fs.root / "kubepods/burstable/pod0a/cpuset.cpus.partition"
    assert machine.enclose(A, "4-5", Level.ISOLATED) == Enclosure(
        Level.PARTITION,
        f"{file} says 'isolated invalid (partition config conflicts with housekeeping setup)' where 'isolated' was "
        "asked for",
    )
    assert machine.effective(A, B) == ["4-5", "0-3,6-7"]


def test_an_isolated_one_that_fell_back_is_asked_for_again_without_a_gap(machine: Machine) -> None:
    machine.fs.forbidden["isolated"] = "no"
    machine.enclose(A, "4-5", Level.ISOLATED)
    assert machine.enclose(A, "4-5", Level.PARTITION) == Enclosure(Level.PARTITION)


def test_what_comes_out_invalid_is_taken_back_whole(machine: Machine) -> None:
    machine.enclose(B, "7")
    machine.fs.forbidden["root"] = "for the test"
    file = machine.fs.root / "kubepods/burstable/pod0a/cpuset.cpus.partition"
    why = f"{file} says 'root invalid (for the test)' where 'root' was asked for"
    assert machine.enclose(A, "4-5") == Enclosure(Level.CPUSET, why)
    assert machine.exclusive(*ABOVE, A, B) == ["7", "7", "", "7"]
    assert machine.says(A, "cpuset.cpus.partition") == "member"
    assert machine.effective(A, B) == ["0-6", "7"]


REFUSED = [
    ("the first ancestor", "kubepods/cpuset.cpus.exclusive"),
    ("the second ancestor", "kubepods/burstable/cpuset.cpus.exclusive"),
    ("the pod's CPUs", "kubepods/burstable/pod0a/cpuset.cpus.exclusive"),
    ("the pod's partition", "kubepods/burstable/pod0a/cpuset.cpus.partition"),
]


@pytest.mark.parametrize(("what", "file"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_write_refused_anywhere_leaves_nothing(machine: Machine, what: str, file: str) -> None:
    machine.fs.refuse(file, errno.EACCES)
    text = "root" if file.endswith("partition") else "4-5"
    why = f"{machine.fs.root / file} did not take '{text}': Permission denied"
    assert machine.enclose(A, "4-5") == Enclosure(Level.CPUSET, why)
    assert machine.exclusive(*ABOVE, A) == ["", "", ""]
    assert machine.says(A, "cpuset.cpus.partition") == "member"


def test_two_pods_never_get_the_same_cpu(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    outcome = machine.enclose(B, "5-6")
    assert outcome.level is Level.CPUSET
    assert outcome.why_not.endswith("pod0b/cpuset.cpus.exclusive did not take '5-6': Invalid argument")
    assert machine.effective(A, B) == ["4-5", "0-3,6-7"]


def test_the_last_cpu_is_nobodys(machine: Machine) -> None:
    outcome = machine.enclose(A, "0-7")
    assert outcome.level is Level.CPUSET
    assert machine.effective(A, HOST) == ["0-7", "0-7"]


def test_cpus_that_a_gone_pod_of_another_class_left_behind_are_taken_back(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    machine.fs.remove(A)
    assert machine.exclusive("/kubepods/burstable") == ["4-5"]
    assert machine.enclose(G, "4-5") == Enclosure(Level.PARTITION)
    assert machine.exclusive("/kubepods", "/kubepods/burstable", G) == ["4-5", "", "4-5"]


def test_an_old_kernel_is_told(tmp_path: Path) -> None:
    fs = CgroupFs(tmp_path, CpuSet.parse("0-7"), partitions=False)
    fs.make(A)
    assert enclose(Cgroups(fs.root, fs.write), A, CpuSet.parse("1"), Level.PARTITION) == Enclosure(
        Level.CPUSET,
        f"{tmp_path}{A} has no cpuset.cpus.exclusive: the kernel is older than Linux 6.7, or the cpuset controller is "
        "not handed down",
    )


def test_a_pod_that_is_gone_is_told_as_gone(machine: Machine) -> None:
    why = f"{machine.fs.root}/kubepods/pod9 does not exist"
    assert machine.enclose("/kubepods/pod9", "1") == Enclosure(Level.CPUSET, why, gone=True)


NOT_EVEN_TRIED = [
    ("no CPUs", A, "", "{root}/kubepods/burstable/pod0a cannot be a partition of no CPUs"),
    ("a name that leads out", "../x", "1", "'../x' names no cgroup of a pod or container"),
]


@pytest.mark.parametrize(("what", "pod", "cpus", "why"), NOT_EVEN_TRIED, ids=[row[0] for row in NOT_EVEN_TRIED])
def test_what_is_not_even_tried(machine: Machine, what: str, pod: str, cpus: str, why: str) -> None:
    assert machine.enclose(pod, cpus) == Enclosure(Level.CPUSET, why.format(root=machine.fs.root))
    assert machine.fs.writes == []


def test_a_pod_that_lives_is_opened(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    open_(machine.cgroups, A)
    assert machine.effective(A, HOST) == ["0-7", "0-7"]
    assert machine.exclusive(A) == [""]


def test_a_pod_that_is_gone_is_opened_without_a_word(machine: Machine) -> None:
    machine.fs.remove(A)
    open_(machine.cgroups, A)
    assert machine.fs.writes == []


def test_trimming_leaves_what_is_used(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    machine.enclose(B, "6")
    machine.enclose(G, "1")
    machine.fs.remove(A)
    assert trim(machine.cgroups, CpuSet.parse("1,6"))
    assert machine.exclusive(*ABOVE, B, G) == ["1,6", "6", "6", "1"]
    assert machine.effective(B, G, HOST) == ["6", "1", "0,2-5,7"]


def test_trimming_never_takes_cpus_from_under_a_partition_even_if_nobody_keeps_them(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    assert not trim(machine.cgroups, EMPTY)
    assert machine.effective(A, HOST) == ["4-5", "0-3,6-7"]


def test_trimming_forgets_what_an_invalid_partition_names_unless_kept(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    machine.fs.plug(CpuSet.parse("4-5"))
    assert machine.says(A, "cpuset.cpus.partition") == "root invalid (No cpu available due to hotplug)"
    assert not trim(machine.cgroups, CpuSet.parse("4-5"))
    assert trim(machine.cgroups, EMPTY)
    assert machine.exclusive(*ABOVE) == ["", ""]


def test_trimming_leaves_other_programs_partitions_alone(machine: Machine) -> None:
    machine.fs.write(machine.fs.root / "system.slice/cpuset.cpus.exclusive", "2")
    machine.enclose(A, "4")
    machine.fs.remove(A)
    trim(machine.cgroups, EMPTY)
    assert machine.exclusive("/system.slice", "/kubepods") == ["2", ""]


def test_trimming_works_below_a_root_of_the_kubelets_own(machine: Machine) -> None:
    pod = "/kubelet/kubepods/besteffort/pod0d"
    machine.fs.make(pod)
    machine.enclose(pod, "4")
    assert not trim(machine.cgroups, EMPTY)
    machine.fs.remove(pod)
    assert trim(machine.cgroups, EMPTY)
    assert machine.exclusive("/kubelet", "/kubelet/kubepods", "/kubelet/kubepods/besteffort") == ["", "", ""]


def test_a_cpu_that_goes_offline_leaves_the_partition_in_force(machine: Machine) -> None:
    machine.enclose(A, "4-5")
    machine.fs.plug(CpuSet.parse("5"))
    assert machine.enclose(A, "4-5") == Enclosure(Level.PARTITION)
    assert machine.effective(A) == ["4"]


class Life:
    """Pods that come, change, are opened and go, at random, with what was promised to each."""

    def __init__(self, machine: Machine, chance: random.Random) -> None:
        self.machine, self.chance = machine, chance
        self.kept: dict[str, CpuSet] = {}

    @property
    def taken(self) -> CpuSet:
        """Everybody's bubbles."""
        return CpuSet.of(cpu for cpus in self.kept.values() for cpu in cpus)

    def bind(self, pod: str) -> None:
        """A pod gets some of what others have not; CPU 0 is the housekeeper's."""
        self.machine.fs.make(pod)
        free = list(CpuSet.parse("1-7") - (self.taken - self.kept.get(pod, EMPTY)))
        if free:
            cpus = CpuSet.of(self.chance.sample(free, self.chance.randint(1, len(free))))
            level = self.chance.choice([Level.PARTITION, Level.ISOLATED])
            assert enclose(self.machine.cgroups, pod, cpus, level) == Enclosure(level)
            self.kept[pod] = cpus

    def go(self, pod: str) -> None:
        self.machine.fs.remove(pod)
        self.kept.pop(pod, None)

    def open(self, pod: str) -> None:
        open_(self.machine.cgroups, pod)
        self.kept.pop(pod, None)

    def trim(self, pod: str) -> None:
        trim(self.machine.cgroups, self.taken)
        wanted = [self.taken, CpuSet.of(cpu for each in self.kept if "burst" in each for cpu in self.kept[each])]
        assert self.machine.exclusive(*ABOVE) == [str(cpus) for cpus in wanted]

    def check(self) -> None:
        """Each pod has its own; the host has the rest."""
        for pod, cpus in self.kept.items():
            assert self.machine.effective(pod) == [str(cpus)]
        assert self.machine.effective(HOST) == [str(CpuSet.parse("0-7") - self.taken)]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_pods_do_each_keeps_its_own_and_the_host_the_rest(machine: Machine, seed: int) -> None:
    life = Life(machine, random.Random(seed))
    pods = [A, B, G, "/kubepods/pod0d", "/kubepods/besteffort/pod0e"]
    for _ in range(100):
        step = life.chance.choice([life.bind, life.bind, life.bind, life.go, life.open, life.trim])
        step(life.chance.choice(pods))
        life.check()


@pytest.mark.parametrize("cut", range(5))
def test_an_enclosure_cut_short_anywhere_is_made_good_by_the_next(machine: Machine, cut: int) -> None:
    machine.enclose(B, "7")
    left = cut

    def die_at_last(file: Path, text: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise SystemExit
        machine.fs.write(file, text)

    with contextlib.suppress(SystemExit):
        enclose(Cgroups(machine.fs.root, die_at_last), A, CpuSet.parse("4-5"), Level.PARTITION)
    assert machine.effective(B) == ["7"]
    assert machine.enclose(A, "4-5") == Enclosure(Level.PARTITION)
    assert machine.effective(A, B, HOST) == ["4-5", "7", "0-3,6"]


@pytest.mark.parametrize("writes", range(4))
def test_a_pod_that_goes_between_two_writes_is_told_as_gone(machine: Machine, writes: int) -> None:
    left = iter(range(writes))

    def write(file: Path, text: str) -> None:
        if next(left, None) is None and (machine.fs.root / A.strip("/")).exists():
            machine.fs.remove(A)
        if not file.exists():
            raise FileNotFoundError(2, "No such file or directory")
        machine.fs.write(file, text)

    outcome = enclose(Cgroups(machine.fs.root, write), A, CpuSet.parse("4-5"), Level.PARTITION)
    assert (outcome.level, outcome.gone) == (Level.CPUSET, True)
