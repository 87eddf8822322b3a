"""Where the lab keeps what is dear to make: tools, images, and the folders of its runs. Outside the source tree."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.lab.errors import LabError

VARIABLE = "ARMISTICE_LAB_CACHE"

GIB = 1024**3


def cache_folder() -> Path:
    """The cache's folder, made if need be: $ARMISTICE_LAB_CACHE, or armistice-lab in the user's cache folder."""
    given = os.environ.get(VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given).absolute() if given else base / "armistice-lab"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(
            f"the lab's cache folder {folder} cannot be made ({error.strerror}); set {VARIABLE} to another folder"
        ) from error
    return folder


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise LabError unless the disk of ``folder`` has ``needed`` bytes free for ``what``."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise LabError(
            f"{what} needs {needed / GIB:.1f} GiB of disk and {folder} has {free / GIB:.1f} GiB free; "
            f"make room, or set {VARIABLE} to a folder on another disk"
        )


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Of all processes that make the same thing, one at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
