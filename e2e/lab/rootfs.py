"""What a node boots: a root image and an emulator, both of Debian's packages by mmdebstrap, cached by their recipes.

1. A recipe is data: the suite, the packages, the files laid over them. Its hash is the name of its folder in the cache.
2. One process builds while others wait; the result is moved into place when it is whole.
3. Nothing is mounted and nothing of the host is changed: `mke2fs -d` writes the file system from a folder.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import debian
from e2e.lab.cache import GIB, cache_folder, only_one, require_room
from e2e.lab.errors import LabError
from e2e.lab.initrd import initrd
from e2e.lab.progress import Progress
from e2e.lab.tools import tied

GUEST = Path(__file__).with_name("guest")
"""Files that go into the root image."""

SUITE = "forky"
"""The Debian whose kernel knows remote cpuset partitions well and whose containerd is version 2 with NRI."""

NODE_PACKAGES = (
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "crun",
    "dbus",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "mount",
    "nftables",
    "numactl",
    "procps",
    "runc",
    "systemd-sysv",
    "util-linux",
)

EMULATOR_PACKAGES = ("qemu-system-x86", "qemu-utils")
"""The suite's own QEMU: pods start three times as fast on it as on Debian 12's."""

MASKED = (
    "getty.target",
    "timers.target",
    "remote-fs.target",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-varlink.socket",
    "systemd-udev-trigger.service",
    "systemd-udev-load-credentials.service",
    "systemd-hwdb-update.service",
    "systemd-logind.service",
    "systemd-journal-flush.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-utmp.service",
    "systemd-update-done.service",
    "systemd-random-seed.service",
    "systemd-firstboot.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-sysusers.service",
    "systemd-binfmt.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-networkd-wait-online.service",
    "systemd-user-sessions.service",
    "ldconfig.service",
    "proc-sys-fs-binfmt_misc.automount",
)
"""Units that a node of minutes does not need and that an emulated CPU feels."""

DISK = "6G"
"""Size of the root file system; the file is sparse."""

ROOM = 2 * GIB
"""What building an image takes at most, with the unpacked packages; measured 1.1 GiB."""


LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
LOADER = Path("usr/lib64/ld-linux-x86-64.so.2")
PROGRAMS = Path("usr/bin")


def started_in(tree: Path, program: str) -> list[str]:
    """The argv that starts a program of a Debian in a folder, by its own dynamic loader and on its own libraries."""
    return [str(tree / LOADER), "--library-path", str(tree / LIBRARIES), str(tree / PROGRAMS / program)]


CONTAINERD = (LOADER, LIBRARIES / "libc.so.6", PROGRAMS / "containerd", PROGRAMS / "ctr")
"""All that a node's containerd and its client need to run out here."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """QEMU of the suite, unpacked into a folder: it needs no library of this machine."""

    tree: Path

    def command(self, program: str) -> list[str]:
        """The argv that starts one of its programs."""
        return started_in(self.tree, program)

    def data(self) -> list[str]:
        """Where QEMU finds its firmware."""
        return [argument for name in ("qemu", "seabios") for argument in ("-L", str(self.tree / "usr/share" / name))]

    def environment(self) -> dict[str, str]:
        """Where QEMU finds its modules."""
        return {"QEMU_MODULE_DIR": str(self.tree / "usr/lib/x86_64-linux-gnu/qemu")}


@dataclass(frozen=True, slots=True)
class RootImage:
    """What a node boots from."""

    folder: Path

    @property
    def disk(self) -> Path:
        """Raw ext4 of the root file system; never written to, nodes have overlays. Those name this path, which is
        without the links through which a cache may borrow from another: a snapshot outlives them."""
        return (self.folder / "root.img").resolve()

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initrd."""
        return self.folder / "initrd"

    @property
    def busybox(self) -> Path:
        """A static busybox, for the host and for images."""
        return self.folder / "busybox"

    def command(self, program: str) -> list[str]:
        """The argv that starts the node's ``containerd`` or ``ctr`` out here."""
        return started_in(self.folder / "containerd", program)


def key(*parts: object) -> str:
    """The name in the cache of what is made of these parts."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:16]


def units() -> dict[str, str]:
    """The node's systemd units by name."""
    return tomllib.loads((GUEST / "units.toml").read_text(encoding="utf-8"))


def scripts() -> dict[str, bytes]:
    """The node's own scripts by name."""
    return {name: (GUEST / name).read_bytes() for name in ("setup", "agent")}


def emulator(progress: Progress) -> Emulator:
    """The emulator, from the cache or made now (a quarter of a minute)."""

    def make(folder: Path) -> None:
        unpack("extract", EMULATOR_PACKAGES, folder)

    return Emulator(cached("emulator", key(SUITE, EMULATOR_PACKAGES), make, progress))


def root_image(progress: Progress, suite: str = SUITE) -> RootImage:
    """The root image, from the cache or made now (a minute and a half)."""

    def make(folder: Path) -> None:
        _make_image(folder, suite)

    own = Path(__file__).with_name("initrd.py").read_bytes()
    recipe = key(suite, NODE_PACKAGES, MASKED, DISK, units(), scripts(), CONTAINERD, own)
    return RootImage(cached(f"node-{suite}", recipe, make, progress))


def _make_image(folder: Path, suite: str) -> None:
    tree = folder / "tree"
    unpack("minbase", NODE_PACKAGES, tree, suite)
    lay_over(tree)
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    shutil.copy(kernel, folder / "vmlinuz")
    shutil.copy(tree / "bin/busybox", folder / "busybox")
    for name in CONTAINERD:
        (folder / "containerd" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / name, folder / "containerd" / name)
    (folder / "initrd").write_bytes(initrd(tree))
    for boot in (tree / "boot").iterdir():
        boot.unlink()
    make_filesystem(folder / "root.img", tree, DISK)
    shutil.rmtree(tree)


def lay_over(tree: Path) -> None:
    """Put the node's own files over the unpacked packages."""
    system = tree / "etc/systemd/system"
    for name, text in units().items():
        (system / name).write_text(text.lstrip(), encoding="utf-8")
    for name in MASKED:
        (system / name).unlink(missing_ok=True)
        (system / name).symlink_to("/dev/null")
    own = tree / "usr/lib/lab"
    own.mkdir(parents=True)
    for name, content in scripts().items():
        (own / name).write_bytes(content)
        (own / name).chmod(0o755)
    (tree / "etc/resolv.conf").write_text("", encoding="utf-8")  # there is no name server
    (tree / "etc/machine-id").unlink(missing_ok=True)  # each node's comes with its kernel command line
    (tree / "etc/machine-id").touch()


def make_filesystem(disk: Path, content: Path, size: str) -> None:
    """An ext4 of that size in a sparse file, filled from a folder; without a journal, which nobody would replay."""
    mke2fs = debian.find("mke2fs") or "mke2fs"
    options = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=1,nodiscard,root_owner=0:0",
    ]
    _run([mke2fs, *options, "-d", str(content), str(disk), size], f"mke2fs could not write {disk.name}")


def unpack(variant: str, packages: Sequence[str], target: Path, suite: str = SUITE) -> None:
    """Unpack packages and what they depend on. No mirror is named: mmdebstrap takes Debian's own or the host's."""
    options = [f"--variant={variant}", f"--include={','.join(packages)}", "--mode=root"]
    options += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "false"']
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")]
    _run(["mmdebstrap", *options, suite, str(target)], f"mmdebstrap could not unpack Debian {suite}")


def _run(argv: list[str], complaint: str) -> None:
    done = subprocess.run(tied(argv), capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        why = told[0].strip() if told else f"exit code {done.returncode}"
        raise LabError(
            f"{complaint} ({why}); it needs root, room on the disk and a mirror of Debian that can be reached"
        )


def cached(what: str, name: str, make: Callable[[Path], None], progress: Progress) -> Path:
    """The folder of that name in the cache; made in a folder beside it and moved when it is whole."""
    shelf = cache_folder() / "nodes"
    ready = shelf / f"{what}-{name}"
    if ready.exists():
        return ready
    shelf.mkdir(exist_ok=True)
    with only_one(shelf / f".{what}.lock"):
        if ready.exists():
            return ready
        debian.require(("mmdebstrap", "mke2fs"))
        require_room(shelf, ROOM, f"building {what} for the lab")
        unfinished = shelf / f".{what}-{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        with progress.phase(f"built {what}"):
            make(unfinished)
        unfinished.rename(ready)
    return ready
