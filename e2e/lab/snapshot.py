"""Snapshots: a Ready node with its control plane, frozen together, from which a later run goes on in seconds.

1. Taking one: the guest stands still, etcd and the certificates are copied, QEMU saves the guest into its disk
   (`savevm`), the disk is copied, the guest goes on.
2. Both halves belong together: a fresh etcd would not know the node, for a kubelet registers once in its life.
3. Going on: the control plane starts from its half, QEMU with `-loadvm`; then the guest's clock, which stands at the
   moment of the snapshot, is set before anything looks at a certificate.
4. A snapshot's name is a hash of all that it depends on: shape, kubelet, runtime, image, emulator, tools, our code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import console, controlplane, kubelet, netns, node, pki
from e2e.lab.cache import GIB, cache_folder, require_room
from e2e.lab.errors import LabError
from e2e.lab.kubelet import KubeletVariant, Runtime
from e2e.lab.node import Node
from e2e.lab.progress import Progress
from e2e.lab.rootfs import emulator, key, root_image
from e2e.lab.shapes import Shape
from e2e.lab.tools import CONTROL_PLANE, build
from e2e.lab.unpacked import image_disk

NAME = "ready"
"""Of the snapshot inside the disk."""

AGE = 24 * 3600
"""Seconds after which a snapshot is taken anew and the old one removed: its certificates are of its time."""

ROOM = 3 * GIB
"""What a snapshot may take on the disk; measured 0.6 to 0.9 GiB."""

RENEWED_WITHIN = 60.0
"""Seconds until the woken kubelet must have renewed its lease."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen node with its control plane; it may not have been taken yet."""

    folder: Path

    @classmethod
    def of(cls, shape: Shape, variant: KubeletVariant, runtime: Runtime, progress: Progress) -> Snapshot:
        """Where the snapshot of such a node is."""
        image = root_image(progress)
        images = image_disk(image, (), progress).parent.name
        made = [str(image.disk), images, emulator(progress).tree.name]  # the disk names the image's path
        tools = [build(name, progress).parent.name for name in (*CONTROL_PLANE, "kubelet")]
        code = [Path(str(module.__file__)).read_bytes() for module in (controlplane, kubelet, netns, node, pki)]
        return cls(
            cache_folder() / "snapshots" / f"{shape.name}-{variant.value}-{key(shape, runtime, made, tools, code)}"
        )

    @property
    def seed(self) -> Path:
        """What `ControlPlane.start(seed=...)` goes on from."""
        return self.folder / "plane"

    def usable(self, now: float) -> bool:
        """Whether it has been taken, and not too long ago."""
        return self.folder.is_dir() and now - self.folder.stat().st_mtime < AGE


def take(snapshot: Snapshot, ready: Node) -> None:
    """Freeze a Ready node and its control plane; both go on afterwards."""
    shelf = snapshot.folder.parent
    shelf.mkdir(exist_ok=True)
    _prune(shelf)
    require_room(shelf, ROOM, "a snapshot of a node")
    unfinished = shelf / f".{snapshot.folder.name}.{os.getpid()}"
    monitor = ready.folder / "monitor.sock"
    with ready.plane.run.progress.phase(f"snapshot of node {ready.name}"):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        ready.sh("sync")
        console.monitor(monitor, "stop")
        try:
            ready.plane.freeze(unfinished / "plane")
            console.human(monitor, f"savevm {NAME}", seconds=120)
            for disk in ("root.qcow2", "settings.img"):
                _copy(ready.folder / disk, unfinished / disk)
            console.human(monitor, f"delvm {NAME}", seconds=120)
        finally:
            console.monitor(monitor, "cont")
        shutil.rmtree(snapshot.folder, ignore_errors=True)
        unfinished.rename(snapshot.folder)
        os.utime(snapshot.folder)


def _prune(shelf: Path) -> None:
    """Remove what is too old, and what a killed run left half-taken."""
    for folder in shelf.iterdir():
        owner = folder.suffix.removeprefix(".")
        cut_short = folder.name.startswith(".") and not Path("/proc", owner).exists()
        if cut_short or not Snapshot(folder).usable(time.time()):
            shutil.rmtree(folder, ignore_errors=True)


def resume(snapshot: Snapshot, frozen: Node) -> None:
    """Wake the node of a snapshot under a control plane that was started from the same snapshot's seed."""
    with frozen.plane.run.progress.phase(f"node {frozen.name} ({frozen.shape.name}) woken from its snapshot"):
        before = _lease(frozen)
        frozen.folder.mkdir(parents=True)
        for disk in ("root.qcow2", "settings.img"):
            _copy(snapshot.folder / disk, frozen.folder / disk)
        frozen.connect()
        frozen.start(frozen.machine(snapshot=NAME))
        frozen.sh(f"date -s @{time.time():.3f}")
        _wait_renewed(frozen, before)


def _copy(source: Path, target: Path) -> None:
    """A copy that keeps holes, and shares blocks where the file system can."""
    argv = ["cp", "--reflink=auto", "--sparse=always", str(source), str(target)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{source.name} of a snapshot could not be copied: {done.stderr.strip()}; is the disk full?")


def _lease(frozen: Node) -> str:
    """When the kubelet last renewed its lease; empty while it has none."""
    where = ("-n", "kube-node-lease", "-o", "jsonpath={.spec.renewTime}")
    return frozen.plane.kubectl_raw("get", "lease", frozen.name, *where).stdout


def _wait_renewed(frozen: Node, before: str) -> None:
    """Until the kubelet has spoken to the new API server; the node's condition in the frozen etcd says Ready anyway."""
    end = time.monotonic() + RENEWED_WITHIN
    while _lease(frozen) in ("", before):
        if said := frozen.plane.run.ended(frozen.daemon):
            raise LabError(f"node {frozen.name} {said}; see {frozen.log}")
        if time.monotonic() > end:
            raise LabError(
                f"node {frozen.name} woke from its snapshot and did not renew its lease within {RENEWED_WITHIN:.0f} s; "
                f"remove {cache_folder() / 'snapshots'} to start without it, and see {frozen.log}"
            )
        time.sleep(0.1)
