"""The tiny initrd of a node: busybox and the modules of the disk, packed here so that the host needs no tools."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Mapping
from pathlib import Path

MODULES = ("drivers/block/virtio_blk",)
"""What Debian's cloud kernel has as a module and needs before it sees its root disk."""

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /*.ko; do /bin/busybox insmod $module; done
while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.05; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /sysroot || exec /bin/busybox sh
/bin/busybox mount --move /dev /sysroot/dev
exec /bin/busybox switch_root /sysroot /sbin/init
"""

FILE, FOLDER = 0o100755, 0o040755


def initrd(tree: Path) -> bytes:
    """The initrd for the one kernel of a root tree."""
    kernel = next((tree / "usr/lib/modules").iterdir()) / "kernel"
    files = {"init": INIT.encode(), "bin/busybox": (tree / "bin/busybox").read_bytes()}
    for module in MODULES:
        packed = (kernel / f"{module}.ko.xz").read_bytes()
        files[f"{Path(module).name}.ko"] = lzma.decompress(packed)
    return gzip.compress(cpio(("bin", "dev", "sysroot"), files), compresslevel=1, mtime=0)


def cpio(folders: tuple[str, ...], files: Mapping[str, bytes]) -> bytes:
    """An archive in the kernel's own format: cpio, "newc" (Documentation/driver-api/early-userspace/buffer-format)."""
    members = [(name, FOLDER, b"") for name in folders] + [(name, FILE, content) for name, content in files.items()]
    packed = [_member(number, *member) for number, member in enumerate(members, start=1)]
    return b"".join([*packed, _member(0, "TRAILER!!!", 0, b"")])


def _member(number: int, name: str, mode: int, content: bytes) -> bytes:
    """One member: a magic and thirteen fields of eight hex digits, the name, the content; both padded to 4."""
    path = name.encode() + b"\0"
    #         inode   mode  uid gid links mtime size        dev*2 rdev*2 name's length  check
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
