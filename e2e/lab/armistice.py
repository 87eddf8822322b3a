"""The project's own images: built from its Containerfiles, on a base of Debian's packages, without a registry.

1. Two bases by mmdebstrap, committed from scratch: one with pip, to build on; one with Python alone, to run on.
2. The same Containerfile that Docker builds on `python:3.x-slim` is built on those by buildah, in a chroot.
3. The result is an OCI archive in the cache, named by a hash of the Containerfile, what it copies and the bases.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from e2e.lab import debian
from e2e.lab.cache import GIB, cache_folder, only_one, require_room
from e2e.lab.errors import LabError
from e2e.lab.progress import Progress
from e2e.lab.rootfs import SUITE, key, unpack
from e2e.lab.tools import tied

ROOT = Path(__file__).resolve().parents[2]

COMPONENTS = ("webhook", "enforcer")
"""Folders with a Containerfile."""

BASES = {
    "build": ("python3", "python3-venv", "ca-certificates", "base-files", "dash", "coreutils"),
    "base": ("python3", "base-files"),
}
"""Build argument of the Containerfiles to the packages of the image that it names."""

CERTIFICATES = Path("/etc/ssl/certs")
"""Whom this machine trusts: pip in the build asks the same package index as pip out here."""

ROOM = 3 * GIB
"""What building takes at most, with buildah's copies; measured 1.3 GiB."""


def image_name(component: str) -> str:
    """As pods name it."""
    return f"localhost/armistice-{component}:dev"


def image(component: str, progress: Progress) -> Path:
    """The OCI archive of a component's image, from the cache or built now (half a minute)."""
    shelf = cache_folder() / "images"
    shelf.mkdir(exist_ok=True)
    archive = shelf / f"{component}-{key(SUITE, BASES, _sources(component))}.tar"
    with only_one(shelf / ".lock"):
        if not archive.exists():
            debian.require(("mmdebstrap", "buildah"))
            require_room(shelf, ROOM, f"building the image of the {component}")
            with progress.phase(f"built the image of the {component}"):
                _build(component, archive, shelf / "store")
            for old in set(shelf.glob(f"{component}-*.tar")) - {archive}:
                old.unlink()
    return archive


def _sources(component: str) -> list[tuple[str, bytes]]:
    """Every file that the Containerfile copies, and the Containerfile."""
    containerfile = ROOT / component / "Containerfile"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", containerfile.read_text(), re.MULTILINE)
    named = [ROOT / name for line in copied for name in line.split()]
    return [
        (str(file.relative_to(ROOT)), file.read_bytes()) for path in [containerfile, *named] for file in _files(path)
    ]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    yield from sorted(file for file in path.rglob("*") if file.is_file() and file.suffix not in (".pyc", ".pyi"))


def _build(component: str, archive: Path, store: Path) -> None:
    shutil.rmtree(store, ignore_errors=True)
    try:
        bases = [f"--build-arg={name.upper()}={_base(name, store)}" for name in BASES]
        trust = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.is_dir() else []
        name = image_name(component)
        options = ["--isolation=chroot", "--format=oci", *trust, *bases, f"--tag={name}"]
        _buildah(store, "build", *options, f"--file={ROOT / component / 'Containerfile'}", str(ROOT))
        unfinished = archive.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        # Compressed: a node whose images are not (docker-archive) is Ready no sooner.
        _buildah(store, "push", "-q", name, f"oci-archive:{unfinished}:{name}")
        unfinished.rename(archive)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _base(name: str, store: Path) -> str:
    """An image of Debian's packages; its tree is kept for the next build."""
    shelf = cache_folder() / "images"
    tree = shelf / f"{name}-{key(SUITE, BASES[name])}"
    if not tree.exists():
        unfinished = tree.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unpack("minbase" if name == "build" else "extract", BASES[name], unfinished)
        unfinished.rename(tree)
    container = _buildah(store, "from", "scratch").strip()
    _buildah(store, "add", "-q", container, str(tree), "/")
    _buildah(store, "commit", "-q", container, f"localhost/lab-{name}")
    _buildah(store, "rm", container)
    return f"localhost/lab-{name}"


def _buildah(store: Path, *words: str) -> str:
    """Standard output of buildah with a storage of our own: plain folders, which need no kernel module and no mount."""
    own = ["buildah", f"--root={store / 'root'}", f"--runroot={store / 'run'}", "--storage-driver=vfs"]
    done = _run([*own, *words])
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        why = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "it said nothing")
        raise LabError(f"`buildah {words[0]}` failed: {why}; it needs root, and the package index that pip uses here")
    return done.stdout


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(tied(list(argv)), capture_output=True, text=True, check=False)
