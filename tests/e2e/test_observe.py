"""What the kernel's files say, parsed; and the properties that scenarios hold against it."""

from __future__ import annotations

import pytest

from e2e.assertions import (
    assert_disjoint,
    assert_memory_on,
    assert_nobody_else,
    assert_one_numa_node,
    assert_subset,
    assert_threads_inside,
)
from e2e.observe import Quota, Sight, Task, numbers, parse

SCOPE = "kubepods.slice/kubepods-podab_cd.slice/cri-containerd-11ff.scope"


def line(letter: str, path: str, content: str) -> str:
    """As the script on the node prints it."""
    return f"{letter} {path}\0{content}\n"


def thread(pid: int, name: str, cpus: str, group: str, kernel: int = 0) -> str:
    """A thread's status and cgroup."""
    path = f"/proc/{pid}/task/{pid}"
    rows = {"Name": name, "Kthread": str(kernel), "Cpus_allowed_list": cpus, "Mems_allowed_list": "0-1"}
    status = "".join(line("T", f"{path}/status", f"{key}:\t{value}") for key, value in rows.items())
    return status + line("C", f"{path}/cgroup", f"0::/{group}")


NODE = "".join(
    [
        line("N", "/sys/devices/system/node/node0/cpulist", "0-3"),
        line("N", "/sys/devices/system/node/node1/cpulist", "4-7"),
        line("N", "/sys/devices/system/node/node2/cpulist", ""),
        line("G", "./cpuset.cpus.effective", "0-3,7"),
        line("G", "./kubepods.slice/kubepods-podab_cd.slice/cpuset.cpus.partition", "isolated invalid (No: reason)"),
        line("G", f"./{SCOPE}/cpuset.cpus.effective", "4-6"),
        line("G", f"./{SCOPE}/cpuset.mems.effective", "1"),
        line("G", f"./{SCOPE}/cpu.max", "50000 100000"),
        line("G", f"./{SCOPE}/memory.numa_stat", "anon N0=4096 N1=12288 N2=0"),
        line("P", "/proc/30/numa_maps", "7f00 default anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=4"),
        line("P", "/proc/30/numa_maps", "7f10 default file=/lib/x huge N1=1 kernelpagesize_kB=2048"),
        thread(1, "systemd", "0-3,7", "init.scope"),
        thread(20, "kworker/4:0", "4", "", kernel=1),
        thread(30, "app", "4-6", SCOPE),
        thread(31, "app: worker", "5", SCOPE),
        "T /proc/99/task/99/status\0Name:\tgone\n",
    ]
)


@pytest.fixture
def sight() -> Sight:
    """A small node."""
    return parse(NODE)


@pytest.mark.parametrize(
    ("text", "found"), [("", set()), ("3", {3}), ("0-2,7", {0, 1, 2, 7}), ("8-8,10-11\n", {8, 10, 11})]
)
def test_a_kernel_list_is_read(text: str, found: set[int]) -> None:
    assert numbers(text) == found


def test_a_container_is_found_by_its_id_with_all_that_is_enforced_for_it(sight: Sight) -> None:
    container = sight.container("11ff")
    assert container.cpus == {4, 5, 6}
    assert container.mems == {1}
    assert container.group.quota == Quota(50000, 100000)
    assert container.group.quota.cpus == 0.5
    assert [task.tid for task in container.tasks] == [30, 31]
    assert container.pages == {0: 4096, 1: 2 * 4096 + 2**21}
    assert container.group.memory["anon"] == {0: 4096, 1: 12288, 2: 0}


def test_no_limit_is_told_from_a_limit() -> None:
    group = parse(line("G", "./x/cpu.max", "max 100000")).groups["x"]
    assert group.quota == Quota(None, 100000)
    assert group.quota.cpus is None


def test_under_crun_the_container_is_the_cgroup_below_the_scope() -> None:
    below = line("G", f"./{SCOPE}/container/cpuset.cpus.effective", "5")
    assert parse(NODE + below).container("11ff").cpus == {5}


def test_a_pods_cgroup_is_found_by_uid_and_an_invalid_partition_keeps_its_reason(sight: Sight) -> None:
    assert sight.pod_group("ab-cd").partition == "isolated invalid (No: reason)"


def test_what_is_not_there_is_said(sight: Sight) -> None:
    with pytest.raises(KeyError, match="no cgroup of the node is named after container 22"):
        sight.container("22")
    with pytest.raises(KeyError, match="no cgroup of the node is named after pod u-1"):
        sight.pod_group("u-1")


def test_other_tasks_on_some_cpus_are_named_and_kernel_threads_apart(sight: Sight) -> None:
    assert [str(task) for task in sight.tasks_on({4, 7}, besides=["11ff"])] == ["systemd (1/1) of /init.scope"]
    assert [task.name for task in sight.tasks_on({4})] == ["app"]
    assert [task.name for task in sight.kernel_threads_on({4})] == ["kworker/4:0"]


def test_numa_nodes_have_their_cpus_and_a_memory_only_one_none(sight: Sight) -> None:
    assert sight.numa == {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7}, 2: set()}


def test_a_thread_that_ended_while_it_was_read_is_left_out(sight: Sight) -> None:
    assert "gone" not in {task.name for task in sight.tasks}


def test_properties_that_hold_pass(sight: Sight) -> None:
    container = sight.container("11ff")
    assert_disjoint({"a": {1}, "b": {2}, "c": ()})
    assert_subset({1}, {1, 2}, "it leaks")
    assert assert_one_numa_node(sight, container.cpus, "the pod") == 1
    assert_threads_inside(container, {4, 5, 6})
    assert_memory_on(container, {1}, share=0.75)
    assert_nobody_else(sight, {4, 5, 6}, ["11ff"])


def test_properties_that_do_not_hold_say_what_was_seen(sight: Sight) -> None:
    container = sight.container("11ff")
    with pytest.raises(AssertionError, match="a and c share 1,3"):
        assert_disjoint({"a": {1, 2, 3}, "b": {0}, "c": {3, 1}})
    with pytest.raises(AssertionError, match="it leaks: 4 is outside of 1,2"):
        assert_subset({1, 4}, {1, 2}, "it leaks")
    with pytest.raises(AssertionError, match="the pod has CPUs 3,4, of NUMA nodes 0,1; one was expected"):
        assert_one_numa_node(sight, {3, 4}, "the pod")
    with pytest.raises(AssertionError, match=r"app \(30/30\) of /kubepods.* may run elsewhere: 6 is outside of 4,5"):
        assert_threads_inside(container, {4, 5})
    with pytest.raises(AssertionError, match=r"12288 of 16384 bytes of container 11ff are on NUMA nodes 1; .*"):
        assert_memory_on(container, {1})
    with pytest.raises(AssertionError, match=r"1 other tasks may run on CPUs 7: systemd \(1/1\) of /init.scope"):
        assert_nobody_else(sight, {7}, ["11ff"])


def test_a_container_that_shows_nothing_does_not_pass(sight: Sight) -> None:
    with pytest.raises(AssertionError, match="container 11ff holds 16384 bytes, too few to show anything"):
        assert_memory_on(sight.container("11ff"), {0, 1}, at_least=10**6)
    empty = parse(line("G", f"./{SCOPE}/cpuset.cpus.effective", "1")).container("11ff")
    with pytest.raises(AssertionError, match=r"container 11ff has no threads; is it still running\?"):
        assert_threads_inside(empty, {1})


def test_a_task_says_who_it_is() -> None:
    assert str(Task(1, 2, "sh", False, frozenset(), frozenset(), "a.slice")) == "sh (1/2) of /a.slice"
