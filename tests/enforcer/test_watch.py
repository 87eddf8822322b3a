"""What the watch tells, on plain folders with the model's files, and on this machine's own cgroups where it has any."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from enforcer.cgroup import Cgroups
from enforcer.kernel import Level
from enforcer.partition import enclose
from enforcer.watch import Event, Mask, Watcher, parse_events
from shared.cpuset import CpuSet
from tests.support.cgroupfs import CgroupFs

A, B = "/kubepods/burstable/pod0a", "/kubepods/burstable/pod0b"
SECONDS = 5.0
"""That an event may take on a loaded machine."""


@pytest.fixture
def fs(tmp_path: Path) -> CgroupFs:
    fs = CgroupFs(tmp_path / "cgroup", CpuSet.parse("0-7"))
    fs.make(A)
    fs.make(B)
    return fs


@pytest.fixture
async def watcher(fs: CgroupFs) -> AsyncIterator[Watcher]:
    watcher = Watcher(Cgroups(fs.root, fs.write))
    yield watcher
    watcher.close()


async def told(watcher: Watcher, count: int = 1) -> list[str]:
    """The next uids."""
    uids = []
    async with asyncio.timeout(SECONDS), aclosing(watcher.changed()) as changes:
        async for uid in changes:
            uids.append(uid)
            if len(uids) == count:
                break
    return uids


async def silent(watcher: Watcher) -> bool:
    """Whether nothing is told for a while."""
    try:
        async with asyncio.timeout(0.1), aclosing(watcher.changed()) as changes:
            async for _ in changes:
                return False
    except TimeoutError:
        return True
    return True


async def test_a_pod_that_goes_is_told_once(fs: CgroupFs, watcher: Watcher) -> None:
    watcher.follow("a", A)
    watcher.follow("b", B)
    fs.remove(A)
    assert await told(watcher) == ["a"]
    watcher.unfollow("a")
    assert await silent(watcher)


async def test_a_partition_that_changes_is_told(fs: CgroupFs, watcher: Watcher) -> None:
    enclose(Cgroups(fs.root, fs.write), B, CpuSet.parse("3"), Level.PARTITION)
    watcher.follow("a", A)
    watcher.follow("b", B)
    fs.write(fs.root / "kubepods/cpuset.cpus.exclusive", "\n")
    assert await told(watcher) == ["b"]
    assert await silent(watcher)


async def test_a_pod_that_is_gone_already_is_told_at_once(watcher: Watcher) -> None:
    watcher.follow("late", "/kubepods/burstable/pod0f")
    assert await told(watcher) == ["late"]


async def test_several_pods_are_told_each_once(fs: CgroupFs, watcher: Watcher) -> None:
    watcher.follow("a", A)
    watcher.follow("b", B)
    fs.remove(B)
    fs.remove(A)
    assert sorted(await told(watcher, 2)) == ["a", "b"]


async def test_a_pod_that_nobody_follows_any_more_is_not_told(fs: CgroupFs, watcher: Watcher) -> None:
    watcher.follow("a", A)
    watcher.follow("b", B)
    watcher.unfollow("a")
    fs.remove(A)
    fs.remove(B)
    assert await told(watcher) == ["b"]
    assert await silent(watcher)


async def test_a_pod_whose_cgroup_is_made_anew_is_followed_again(fs: CgroupFs, watcher: Watcher) -> None:
    watcher.follow("a", A)
    fs.remove(A)
    assert await told(watcher) == ["a"]
    fs.make(A)
    watcher.follow("a", A)
    assert await silent(watcher)
    fs.remove(A)
    assert await told(watcher) == ["a"]


async def test_nothing_is_told_while_nothing_happens(fs: CgroupFs, watcher: Watcher) -> None:
    watcher.follow("a", A)
    fs.make("/kubepods/burstable/pod0c")
    fs.remove("/kubepods/burstable/pod0c")
    assert await silent(watcher)


async def test_closing_ends_the_iteration(watcher: Watcher) -> None:
    async def collect() -> list[str]:
        return [uid async for uid in watcher.changed()]

    task = asyncio.create_task(collect(), name="collect")
    await asyncio.sleep(0)
    watcher.close()
    watcher.close()
    async with asyncio.timeout(SECONDS):
        assert await task == []


async def test_following_many_and_leaving_them_keeps_no_watch(fs: CgroupFs, watcher: Watcher) -> None:
    for number in range(20):
        path = f"/kubepods/pod{number:x}"
        fs.make(path)
        watcher.follow(str(number), path)
    for number in range(20):
        watcher.unfollow(str(number))
    info = Path(f"/proc/self/fdinfo/{watcher._inotify.descriptor}").read_text()
    assert "inotify wd:" not in info


def test_events_are_read_with_and_without_names() -> None:
    data = struct.pack("iIII8s", 1, Mask.DELETE, 0, 8, b"pod0a") + struct.pack("iIII", 2, Mask.MODIFY, 0, 0)
    assert list(parse_events(data)) == [Event(1, Mask.DELETE, "pod0a"), Event(2, Mask.MODIFY)]


async def test_lost_events_mean_every_pod(fs: CgroupFs, watcher: Watcher) -> None:
    watcher.follow("a", A)
    watcher.follow("b", B)
    assert watcher._meant(Event(-1, Mask.OVERFLOW)) == ["a", "b"]


def cgroup_mounts() -> list[Path]:
    """Where this machine has cgroup v2, if anywhere."""
    rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(row[1]) for row in rows if row[2] == "cgroup2"]


@pytest.fixture
def real_cgroup() -> Iterator[Path]:
    """A fresh cgroup of this machine's kernel."""
    for mount in cgroup_mounts():
        path = mount / f"armistice-test-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            continue
        yield path
        if path.exists():
            path.rmdir()
        return
    pytest.skip("this machine has no cgroup v2 that can be written")


async def test_this_kernel_tells_of_a_cgroup_that_goes(real_cgroup: Path) -> None:
    watcher = Watcher(Cgroups(real_cgroup.parent))
    try:
        watcher.follow("real", f"/{real_cgroup.name}")
        assert await silent(watcher)
        real_cgroup.rmdir()
        assert await told(watcher) == ["real"]
    finally:
        watcher.close()
