"""Hear of it when a pod's cgroup goes or its partition changes: inotify, and nothing runs in between.

Three things are watched for each pod, since none of them alone tells everything:

* ``cpuset.cpus.partition``: the kernel marks it modified whenever the state of the partition changes (Linux 5.18);
* the pod's cgroup itself, for its own end: not every kernel tells it for a cgroup;
* the folder that it lies in, for the removal of its name: every kernel does.

Call everything from the event loop's thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from enforcer.cgroup import GONE, PARTITION, Cgroups
from enforcer.errors import KernelError

HEADER = struct.Struct("iIII")
"""``struct inotify_event`` without its name: watch, mask, cookie, length of the name. inotify(7)."""

BUFFER = 64 * 1024
"""Bytes read at once: far more than one event, which has at most 272."""


class Mask(IntFlag):
    """The bits of inotify(7) that are of use here."""

    MODIFY = 0x2
    DELETE = 0x200
    DELETE_SELF = 0x400
    OVERFLOW = 0x4000
    IGNORED = 0x8000
    MASK_ADD = 0x2000_0000


@dataclass(frozen=True, slots=True)
class Event:
    """One event of inotify."""

    watch: int
    """The descriptor that the watch was given; -1 when events were lost."""
    mask: int
    name: str = ""
    """Of a folder's child."""


def parse_events(data: bytes) -> Iterator[Event]:
    """The events in what was read. The kernel never hands out half of one."""
    at = 0
    while at + HEADER.size <= len(data):
        watch, mask, _, length = HEADER.unpack_from(data, at)
        at += HEADER.size
        name = data[at : at + length].rstrip(b"\0")
        at += length
        yield Event(watch, mask, os.fsdecode(name))


class Watcher:
    """Follows the cgroups of pods."""

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._inotify = _Inotify()
        self._pods: dict[str, Path] = {}
        self._watched: dict[int, Path] = {}
        self._pending: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._closed = False

    def follow(self, uid: str, cgroup_parent: str) -> None:
        """Tell of this pod from now on; at once, where its cgroup is gone already. Raises KernelError where the node
        has no room for more watches: then only a look now and then will find out."""
        pod = self._cgroups.pod_path(cgroup_parent)
        self.unfollow(uid)
        self._pods[uid] = pod
        self._watch(pod.parent, Mask.DELETE)
        self._watch(pod / PARTITION, Mask.MODIFY)
        if not self._watch(pod, Mask.DELETE_SELF):
            self._tell(uid)

    def unfollow(self, uid: str) -> None:
        """Tell of this pod no more. One that nobody follows is left so."""
        pod = self._pods.pop(uid, None)
        self._pending.pop(uid, None)
        if pod is None:
            return
        needed = {path for other in self._pods.values() for path in (other, other / PARTITION, other.parent)}
        for watch, path in list(self._watched.items()):
            if path in (pod, pod / PARTITION, pod.parent) and path not in needed:
                self._inotify.remove(watch)
                del self._watched[watch]

    async def changed(self) -> AsyncGenerator[str, None]:
        """The uids of pods to look at, each once however much happened to it, until :meth:`close`."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._inotify.descriptor, self._read)
        try:
            while not self._closed:
                await self._woken.wait()
                self._woken.clear()
                while self._pending and not self._closed:
                    uid = next(iter(self._pending))
                    del self._pending[uid]
                    yield uid
        finally:
            if not self._closed:
                loop.remove_reader(self._inotify.descriptor)

    def close(self) -> None:
        """Watch nothing any more; :meth:`changed` comes to its end."""
        if self._closed:
            return
        self._closed = True
        self._woken.set()
        with suppress(RuntimeError):  # outside of a loop nobody reads
            asyncio.get_running_loop().remove_reader(self._inotify.descriptor)
        self._inotify.close()

    def _watch(self, path: Path, mask: Mask) -> bool:
        watch = self._inotify.add(path, mask | Mask.MASK_ADD)
        if watch is not None:
            self._watched[watch] = path
        return watch is not None

    def _read(self) -> None:
        for event in parse_events(self._inotify.read()):
            for uid in self._meant(event):
                self._tell(uid)
            if event.mask & Mask.IGNORED:
                self._watched.pop(event.watch, None)

    def _meant(self, event: Event) -> list[str]:
        """The pods that an event is about; all of them when the kernel lost events."""
        if event.mask & Mask.OVERFLOW:
            return list(self._pods)
        path = self._watched.get(event.watch)
        if path is None:
            return []
        if event.name:
            path /= event.name
        return [uid for uid, pod in self._pods.items() if path in (pod, pod / PARTITION)]

    def _tell(self, uid: str) -> None:
        self._pending[uid] = None
        self._woken.set()


class _Inotify:
    """The three calls of inotify(7), by way of the C library."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            code = ctypes.get_errno()
            raise KernelError(
                f"the node has no inotify instance left ({os.strerror(code)}): raise fs.inotify.max_user_instances"
            )

    def add(self, path: Path, mask: int) -> int | None:
        """The descriptor of a new watch, or of the one that the file has; None where there is no such file."""
        watch = int(self._libc.inotify_add_watch(self.descriptor, os.fsencode(path), mask))
        if watch >= 0:
            return watch
        code = ctypes.get_errno()
        if code in GONE:
            return None
        remedy = ": raise fs.inotify.max_user_watches" if code == errno.ENOSPC else ""
        raise KernelError(f"{path} cannot be watched: {os.strerror(code)}{remedy}")

    def remove(self, watch: int) -> None:
        """End a watch; one that has ended by itself is no error."""
        self._libc.inotify_rm_watch(self.descriptor, watch)

    def read(self) -> bytes:
        """What has happened; nothing where nothing has."""
        try:
            return os.read(self.descriptor, BUFFER)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self.descriptor)
