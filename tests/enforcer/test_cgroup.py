"""Where cgroups lie, what their files say, and what the enforcer says of a node that cannot serve."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from enforcer.cgroup import Cgroups
from enforcer.errors import KernelError, SetupError
from enforcer.kernel import ContainerReading, PodReading, Support
from shared.cpuset import EMPTY, CpuSet
from tests.support.cgroupfs import CgroupFs

POD = "/kubepods/burstable/pod1234"
SLICE = "kubepods-burstable-pod12_34.slice"
NESTED = f"kubepods.slice/kubepods-burstable.slice/{SLICE}"


def node(tmp_path: Path, cpus: str = "0-7", **settings: bool) -> tuple[CgroupFs, Cgroups]:
    fs = CgroupFs(tmp_path / "cgroup", CpuSet.parse(cpus), CpuSet.parse("0-1"), **settings)
    return fs, Cgroups(fs.root, fs.write)


PODS = [
    ("a path of the cgroupfs driver", POD, "kubepods/burstable/pod1234"),
    ("a path without its first slash", "kubepods/pod1234", "kubepods/pod1234"),
    ("a path with a slash too many", "//kubepods///pod1234/", "kubepods/pod1234"),
    ("a slice by its base name", SLICE, NESTED),
    ("a slice by its path", f"/{NESTED}", NESTED),
    ("a slice of one word", "machine.slice", "machine.slice"),
    ("a slice under kind's own root", "kubelet-kubepods-pod1.slice",
     "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "parent", "path"), PODS, ids=[row[0] for row in PODS])
def test_where_a_pod_lies(what: str, parent: str, path: str) -> None:
    assert Cgroups(Path("/c")).pod_path(parent) == Path("/c") / path


CONTAINERS = [
    ("the cgroupfs driver", f"{POD}/abc", POD, "kubepods/burstable/pod1234/abc"),
    ("containerd with systemd", f"{SLICE}:cri-containerd:abc", SLICE, f"{NESTED}/cri-containerd-abc.scope"),
    ("CRI-O with systemd", f"{SLICE}:crio:abc", f"/{NESTED}", f"{NESTED}/crio-abc.scope"),
    ("no prefix", f"{SLICE}::abc", SLICE, f"{NESTED}/abc.scope"),
    ("a slice for a container", f"{SLICE}:cri:abc.slice", SLICE, f"{NESTED}/abc.slice"),
    ("a parent that lies elsewhere by its path", f"{SLICE}:crio:abc", f"/kind.slice/{SLICE}",
     f"kind.slice/{SLICE}/crio-abc.scope"),
    ("no parent known", f"{SLICE}:crio:abc", "", f"{NESTED}/crio-abc.scope"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "name", "parent", "path"), CONTAINERS, ids=[row[0] for row in CONTAINERS])
def test_where_a_container_lies(what: str, name: str, parent: str, path: str) -> None:
    assert Cgroups(Path("/c")).container_path(name, parent) == Path("/c") / path


NAMES = [
    ("nothing", ""),
    ("the root", "/"),
    ("the way up", "/kubepods/../../etc"),
    ("the way up in a slice", "../x.slice"),
    ("a null byte", "/kubepods/pod\0"),
    ("more than a path can be", "/kubepods/" + "x" * 5000),
    ("systemd's root slice", "-.slice"),
    ("a slice with an empty word", "kubepods--pod1.slice"),
]


@pytest.mark.parametrize(("what", "name"), NAMES, ids=[row[0] for row in NAMES])
def test_no_name_leads_out_of_the_root(what: str, name: str) -> None:
    with pytest.raises(KernelError):
        Cgroups(Path("/c")).pod_path(name)


SCOPES = [
    "a:b",
    ":p:id",
    f"{SLICE}:p:",
    f"{SLICE}:p/../..:id",
    f"{SLICE}:p:a/b",
    f"{SLICE}:p:a:b",
    "../../x.slice:p:id",
]


@pytest.mark.parametrize("name", SCOPES)
def test_no_scope_leads_out_of_its_slice(name: str) -> None:
    with pytest.raises(KernelError):
        Cgroups(Path("/c")).container_path(name)


def test_a_bad_name_is_told_with_what_was_expected() -> None:
    with pytest.raises(KernelError) as caught:
        Cgroups(Path("/c")).container_path("a:b")
    assert str(caught.value) == "'a:b' names no scope of a container: SLICE:PREFIX:ID was expected"


def test_a_pod_and_a_container_are_read(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    fs.make(f"{POD}/abc")
    fs.write(fs.root / POD[1:] / "abc/cpuset.cpus", "2-3")
    fs.write(fs.root / POD[1:] / "abc/cpuset.mems", "1")
    fs.write(fs.root / POD[1:] / "abc/cpu.max", "50000 100000")
    assert cgroups.read_pod(POD) == PodReading(EMPTY, "member", CpuSet.parse("0-7"))
    cpus = CpuSet.parse("2-3")
    assert cgroups.read_container(f"{POD}/abc", POD) == ContainerReading(cpus, cpus, CpuSet.parse("1"), 50000)


def test_no_quota_is_none(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    fs.make(f"{POD}/abc")
    reading = cgroups.read_container(f"{POD}/abc", POD)
    assert reading is not None
    assert reading.quota is None


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    _, cgroups = node(tmp_path)
    assert cgroups.read_pod(POD) is None
    assert cgroups.read_container(f"{POD}/abc", POD) is None


def test_an_old_kernel_reads_as_no_partition(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path, partitions=False)
    fs.make(POD)
    assert cgroups.read_pod(POD) == PodReading(EMPTY, "", CpuSet.parse("0-7"))


def test_garbage_in_a_file_names_the_file(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    file = fs.make(POD) / "cpuset.cpus.effective"
    file.write_text("all\n")
    with pytest.raises(KernelError) as caught:
        cgroups.read_pod(POD)
    assert str(caught.value) == f"{file} cannot be read: 'all' is not a CPU list; write it as 0-3,8"


def test_cpus_are_written(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    fs.make(f"{POD}/abc")
    cgroups.write_cpus(f"{POD}/abc", POD, CpuSet.parse("4,6"))
    assert (fs.root / POD[1:] / "abc/cpuset.cpus").read_text() == "4,6\n"


def test_a_refused_write_names_file_text_and_reason(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    file = fs.make(f"{POD}/abc") / "cpuset.cpus"
    with pytest.raises(KernelError) as caught:
        cgroups.write_cpus(f"{POD}/abc", POD, CpuSet.parse("9"))
    assert str(caught.value) == f"{file} did not take '9': Numerical result out of range"


def test_a_plain_write_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(KernelError):
        Cgroups(tmp_path).put(tmp_path, "cpuset.cpus", "1")
    assert not list(tmp_path.iterdir())


def test_threads_are_those_of_the_whole_subtree(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    fs.put(POD, [])
    fs.put(f"{POD}/abc", [10])
    fs.put(f"{POD}/abc/container", [11, 12])
    assert list(cgroups.threads(cgroups.pod_path(POD))) == [10, 11, 12]


def test_a_node_with_partitions(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    fs.make("init.scope")
    assert cgroups.check() == Support(True)


def test_a_node_without_partitions_says_why(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path, partitions=False)
    fs.make("init.scope")
    why = "the kernel has no cpuset.cpus.exclusive: cpuset partitions of pods need Linux 6.7 or newer"
    assert cgroups.check() == Support(False, why)


def test_a_node_that_shows_nothing_says_so(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    assert cgroups.check() == Support(False, f"no cgroup right below {fs.root} has the cpuset controller")


def test_cgroup_v1_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        Cgroups(tmp_path).check()
    assert str(caught.value) == (
        f"{tmp_path} is not cgroup v2, and Armistice needs cgroup v2 alone: boot the node with "
        "systemd.unified_cgroup_hierarchy=1, or use an image whose default it is"
    )


def test_the_hybrid_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    with pytest.raises(SetupError, match=r"is the hybrid of cgroup v1 and v2, and Armistice needs cgroup v2 alone"):
        Cgroups(tmp_path).check()


def test_a_missing_mount_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        Cgroups(tmp_path / "none").check()
    assert str(caught.value) == (
        f"{tmp_path}/none is not there: mount the node's /sys/fs/cgroup into the container, or name its place with "
        "--cgroup-root"
    )


def test_no_cpuset_controller_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    with pytest.raises(SetupError) as caught:
        Cgroups(tmp_path).check()
    assert str(caught.value) == (
        f"{tmp_path} has no cpuset controller: build the kernel with CONFIG_CPUSETS, or, where the node is itself a "
        "container, delegate cpuset to it"
    )


def test_a_read_only_mount_is_told_with_the_way_out(tmp_path: Path) -> None:
    fs, cgroups = node(tmp_path)
    fs.refuse("/", errno.EROFS)
    with pytest.raises(SetupError) as caught:
        cgroups.check()
    assert str(caught.value) == (
        f"{fs.root}/cgroup.subtree_control did not take '+cpuset': Read-only file system: mount the node's cgroup "
        "filesystem read-write, and run the enforcer as root in a privileged container"
    )
