"""The kernel's files: dumps of real machines with files gone, cut short, swapped, garbled, replaced by what is no file.

An input is a dump's name and the changes to it. What comes out is a machine that is one by :func:`consistent`, which a
ledger takes and a pod is placed on, or the reader's own error with the folder in it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from shared.allocator import offer
from shared.cpuset import CpuSet
from shared.errors import InputError
from shared.intent import make as make_intent
from shared.ledger import Ledger
from shared.policy import Placing
from shared.sysfs import read_machine
from shared.topology import Machine
from tests.fuzz.target import Target, WrongError, resident
from tests.support.audit import audit
from tests.support.data import MACHINES_WITH_ORACLE, reference, unpack_dump
from tests.support.pods import even, pod, weighed

INTENT = make_intent(weighed(pod(even("app", "1"))), Placing())

ROOM = 64 << 20
"""Bytes of memory that one reading may take."""

TEXTS = (
    "", "\n", " ", "0", "-1", "1", "0-4294967295", "0-65535", "0-65536", "65535", "4294967295", "0-", "-", ",", "0,,1",
    "3-1", "0-3,2-5", "0-99999999999999999999", "x", "é", "\x00", "\x00" * 4096, "0x7f", "ffffffff", "f" * 4000,
    "ffffffff," * 3000, "0," * 60_000, "9" * 20, "9" * 100_000, "10 20", "10 " * 5000, "10 -20", "1e3", "+1", "٣",
    "Node 0 MemTotal: 999999999999999 kB", "MemTotal: -1 kB", "MemTotal:       9999999999999999999999 kB",
    "Node 0 MemTotal: 0 kB", "0-7:2/4", "all", "N", "0 - 3", "１",
)  # fmt: skip

PLACES = (
    "sys/devices/system/cpu/online", "sys/devices/system/cpu/present", "sys/devices/system/cpu/isolated",
    "sys/devices/system/node/online", "sys/devices/system/node/possible", "sys/devices/system/node/node0/cpulist",
    "sys/devices/system/node/node0/meminfo", "sys/devices/system/node/node0/distance",
    "sys/devices/system/node/node1023/cpulist", "sys/devices/system/node/node1024/cpulist",
    "sys/devices/system/node/node9/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id", "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    "sys/devices/system/cpu/cpu65535/online", "sys/devices/system/cpu/cpu65536/online",
    "sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list", "sys/devices/system/cpu/cpu0/cache/index3/level",
    "sys/bus/pci/devices/0000:00:00.0/class", "sys/bus/pci/devices/x y/numa_node", "proc/meminfo", "proc/cpuinfo",
    "proc/sys/kernel/hostname", "proc/driver/nvidia/gpus/0/numa_status", "sys/bus/dax/devices/dax0.0/target_node",
)  # fmt: skip
"""Files that the reader looks for, some of which no dump has."""

Change = list[Any]
"""A word of :data:`CHANGES`, which file (a share of all, or a path), and an argument."""


def make(rng: Random) -> bytes:
    """A dump and one to six changes."""
    changes = [_change(rng) for _ in range(rng.choice((1, 1, 2, 3, 6)))]
    return json.dumps({"dump": rng.choice(MACHINES_WITH_ORACLE), "changes": changes}).encode()


def _change(rng: Random) -> Change:
    where: float | str = rng.choice(PLACES) if rng.random() < 0.5 else round(rng.random(), 6)
    word = rng.choice(list(CHANGES))
    return [word, where, rng.choice(TEXTS) if word == "write" else round(rng.random(), 6)]


# What can be done to a file. Each gets its path, the argument, and every file of the dump.


def _put(path: Path, data: bytes = b"") -> None:
    """A file of its own: what was there is the dump's, too."""
    _gone(path)
    path.write_bytes(data)


def _said(path: Path) -> bytes:
    """What a file says, unless an earlier change has made it endless."""
    return path.read_bytes() if path.is_file() and path.stat().st_size < 2**20 else b""


def _gone(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _write(path: Path, text: Any, _: list[Path]) -> None:
    _put(path, text.encode())


def _remove(path: Path, _: Any, __: list[Path]) -> None:
    path.unlink(missing_ok=True)


def _remove_folder(path: Path, _: Any, __: list[Path]) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)


def _truncate(path: Path, share: Any, _: list[Path]) -> None:
    data = _said(path)
    _put(path, data[: int(share * len(data))])


def _garble(path: Path, share: Any, _: list[Path]) -> None:
    _put(path, Random(share).randbytes(int(share * 3000)))


def _flip(path: Path, share: Any, _: list[Path]) -> None:
    if data := bytearray(_said(path)):
        data[int(share * len(data))] ^= 1 << int(share * 8000) % 8
        _put(path, bytes(data))


def _swap(path: Path, share: Any, files: list[Path]) -> None:
    """What another file says."""
    _put(path, _said(files[int(share * len(files))]))


def _folder(path: Path, _: Any, __: list[Path]) -> None:
    _gone(path)
    path.mkdir()


def _loop(path: Path, _: Any, __: list[Path]) -> None:
    """A link to itself."""
    _gone(path)
    path.symlink_to(path)


def _linked_folder(path: Path, _: Any, __: list[Path]) -> None:
    """The file's folder becomes a link to the one above it."""
    shutil.rmtree(path.parent)
    path.parent.symlink_to(path.parent.parent)


def _endless(path: Path, share: Any, _: list[Path]) -> None:
    """A link to what has no end, or what keeps a reader waiting."""
    _gone(path)
    if share < 0.5:
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)


def _large(path: Path, share: Any, _: list[Path]) -> None:
    """Far more than is read, without a disk to be filled."""
    _put(path)
    os.truncate(path, int(2 ** (40 * share)))


CHANGES: dict[str, Callable[[Path, Any, list[Path]], None]] = {
    "write": _write,
    "remove": _remove,
    "remove folder": _remove_folder,
    "truncate": _truncate,
    "garble": _garble,
    "flip": _flip,
    "swap": _swap,
    "folder": _folder,
    "loop": _loop,
    "linked folder": _linked_folder,
    "endless": _endless,
    "large": _large,
}


class Dump:
    """One machine's files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())

    @contextmanager
    def changed(self, changes: list[Change], scratch: Path) -> Iterator[Path]:
        """A tree with the changes made, and gone afterwards. Its files are the dump's own, until one is changed."""
        tree = Path(tempfile.mkdtemp(dir=scratch))
        try:
            shutil.copytree(self._root, tree, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
            files = [tree / path for path in self._files]
            for word, where, argument in changes:
                path = tree / where if isinstance(where, str) else files[int(where * len(files))]
                with suppress(OSError):  # an earlier change may have left nothing to be changed
                    CHANGES[word](path, argument, files)
            yield tree
        finally:
            shutil.rmtree(tree, ignore_errors=True)


class Session:
    """The dumps, unpacked once each."""

    make = staticmethod(make)
    memory = staticmethod(resident)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._dumps: dict[str, Dump] = {}

    def look(self, data: bytes) -> tuple[str]:
        """Read, and held against what a machine is."""
        case = json.loads(data)
        name = case["dump"]
        if name not in self._dumps:
            self._dumps[name] = Dump(unpack_dump(name, self._folder))
        with self._dumps[name].changed(case["changes"], self._folder) as tree:
            return (_read(tree, measured=crc32(data) % 10 == 0),)


def _read(tree: Path, measured: bool) -> str:
    if measured:
        tracemalloc.start()
    try:
        machine = read_machine(tree)
    except InputError as error:
        if str(tree) not in str(error):
            raise WrongError(f"an error that does not say where: {error}") from error
        return "refused"
    finally:
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
        tracemalloc.stop()
    if peak > ROOM:
        raise WrongError(f"memory: {peak} bytes for one reading")
    if found := list(consistent(machine)):
        raise WrongError(f"no machine: {'; '.join(found)}")
    return _placed(machine)


def consistent(machine: Machine) -> Iterator[str]:
    """Every law of a machine that is broken; CPUs are Python sets here."""
    online, there = set(machine.online), set(machine.cpus)
    if not online or not online <= there or not set(machine.isolated) <= there:
        yield "CPUs are online or isolated that are not there, or none is online"
    yield from _parted("cores", [set(core) for core in machine.cores], online, whole=True)
    yield from _parted("packages", [set(package.cpus) for package in machine.packages], online, whole=True)
    yield from _parted("caches", [set(cache) for cache in machine.uncore_caches], online, whole=False)
    yield from _parted("NUMA nodes", [set(node.cpus) for node in machine.numa_nodes], online, whole=False)
    ids = [node.id for node in machine.numa_nodes]
    if ids != sorted(set(ids)) or any(number < 0 for number in ids) or not ids:
        yield f"NUMA nodes {ids}"
    if len(machine.distances) != len(ids) or any(len(row) != len(ids) for row in machine.distances):
        yield "the distances are no square of the NUMA nodes"
    for node in machine.numa_nodes:
        amounts = [node.memory or 0, node.pages or 0, *node.hugepages.keys(), *node.hugepages.values()]
        if any(amount < 0 for amount in amounts):
            yield f"NUMA node {node.id} has less than nothing"
    if any(value < 0 for row in machine.distances for value in row):
        yield "a distance below zero"
    if not machine.name or any(device.numa_node < -1 for device in machine.devices):
        yield "no name, or a device on no node"


def _parted(what: str, groups: list[set[int]], online: set[int], whole: bool) -> Iterator[str]:
    """Groups of CPUs that share none and are online; the whole of those where they have to be."""
    together = set[int]().union(*groups)
    if sum(map(len, groups)) != len(together):
        yield f"{what} share CPUs"
    if not together <= online or (whole and together != online):
        yield f"{what} are not of the CPUs that are online"


def _placed(machine: Machine) -> str:
    """A ledger takes it and offers a place, or says why not."""
    try:
        ledger = Ledger.of(machine, CpuSet())
    except InputError:
        return "read, and of no use to a ledger"
    answer = offer(ledger, "pod", INTENT)
    if found := audit(machine, ledger):
        raise WrongError(f"the ledger: {found}")
    return f"read, {type(answer).__name__}"


@contextmanager
def _open() -> Iterator[Session]:
    reference("machines/dumps")  # skips where there are none
    with tempfile.TemporaryDirectory() as folder:
        yield Session(Path(folder))


TARGET = Target("sysfs", _open, runs=20, full=1_000, seconds=20.0)
