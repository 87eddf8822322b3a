"""A node's images, unpacked out here, in seconds; an emulated CPU takes minutes.

1. The containerd of the node's Debian runs here for a moment, with folders and a socket of its own, and imports the
   archives as `ctr images import` does; it unpacks them for its overlay snapshotter.
2. What it leaves becomes a disk that nodes share and nobody writes. It is named by a hash of what it is made of.
3. The guest's `setup` copies records and blobs to where its own containerd looks, and mounts the layers there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.lab import images
from e2e.lab.errors import LabError
from e2e.lab.progress import Progress
from e2e.lab.rootfs import RootImage, cached, key, make_filesystem
from e2e.lab.tools import tied

SIZE = "4G"
"""Of the file system; the file is sparse, measured 0.5 GiB with both of our images."""

LISTENS_WITHIN = 60.0
"""Seconds until containerd does; measured 0.1."""

KEPT = 24 * 3600.0
"""Seconds for which a disk stays that no node was given: our own images change with each line of ours. A snapshot,
which needs its disk, is not used for longer (`snapshot.AGE`)."""

SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"
RECORDS = ("io.containerd.content.v1.content", "io.containerd.metadata.v1.bolt", SNAPSHOTTER)

DISABLED = (
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.nri.v1.nri",
)
"""Plugins that would reach for what is this machine's: networks, /opt, sockets."""


def image_disk(image: RootImage, archives: Sequence[Path], progress: Progress) -> Path:
    """A disk with pause, busybox and what these OCI archives hold, from the cache or made now (ten seconds)."""

    def make(folder: Path) -> None:
        first, root, content = (folder / name for name in ("base.tar", "root", "content"))
        first.write_bytes(images.base_images(image.busybox))
        _unpack(image, (first, *archives), root)
        _lay_out(root, content)
        make_filesystem(folder / "images.img", content, SIZE)
        first.unlink()
        for left in (root, content):
            shutil.rmtree(left)

    code = [Path(module).read_bytes() for module in (images.__file__, __file__)]
    name = key(image.folder.name, [archive.name for archive in archives], code)
    ready = cached("images", name, make, progress)
    os.utime(ready)
    for other in ready.parent.glob("*images-*"):  # what a build left that failed, too
        if time.time() - other.stat().st_mtime > KEPT:
            shutil.rmtree(other, ignore_errors=True)
    return ready / "images.img"


def configuration(root: Path, work: Path) -> str:
    """Of a containerd that keeps what lasts in one folder and what does not in another, and manages no containers."""
    return f"""version = 2
root = '{root}'
state = '{work}/state'
disabled_plugins = {list(DISABLED)}
[grpc]
  address = '{work}/socket'
[ttrpc]
  address = '{work}/socket.ttrpc'
"""


def _unpack(image: RootImage, archives: Sequence[Path], root: Path) -> None:
    with _containerd(image, root) as socket:
        for archive in archives:
            words = [f"--address={socket}", "--namespace=k8s.io", "images", "import", "--all-platforms", "--local"]
            argv = tied([*image.command("ctr"), *words, str(archive)])
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                raise LabError(f"containerd could not unpack the images of {archive.name}: {done.stderr.strip()}")


@contextmanager
def _containerd(image: RootImage, root: Path) -> Iterator[Path]:
    """One that listens on this socket, and mounts where nobody else sees it."""
    with tempfile.TemporaryDirectory(prefix="lab-unpack-") as name:  # a socket's path may have 107 characters
        work = Path(name)
        settings, log, socket = work / "config.toml", work / "log", work / "socket"
        settings.write_text(configuration(root, work), encoding="utf-8")
        argv = tied(["unshare", "--mount", *image.command("containerd"), "--config", str(settings)])
        with log.open("wb") as said, subprocess.Popen(argv, stdout=said, stderr=said) as daemon:
            try:
                end = time.monotonic() + LISTENS_WITHIN
                while not socket.exists():
                    if daemon.poll() is not None or time.monotonic() > end:
                        last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
                        raise LabError(f"containerd did not start to unpack images: {last}")
                    time.sleep(0.05)
                yield socket
            finally:
                daemon.terminate()


def _lay_out(root: Path, content: Path) -> None:
    """What the guest copies to one folder, what it mounts to another."""
    (content / "records").mkdir(parents=True)
    (root / SNAPSHOTTER / "snapshots").rename(content / "layers")
    for name in RECORDS:
        (root / name).rename(content / "records" / name)
