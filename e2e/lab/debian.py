"""Debian's packages on this machine: programs that the lab needs are installed by name when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from e2e.lab.errors import LabError

PACKAGES: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ip": "iproute2",
    "buildah": "buildah",
}
"""Debian's package of each program."""

SBIN = "/usr/sbin:/sbin"
"""Where mke2fs is; not every root's PATH has it."""


def require(programs: Sequence[str], packages: Mapping[str, str] = PACKAGES) -> None:
    """Install what is missing of these programs; as root on a Debian only, else one sentence says what to install."""
    missing = sorted({packages[name] for name in programs if not find(name)})
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LabError(
            f"the lab needs Debian's {', '.join(missing)} or the like, which are not here: install that, or run as "
            "root on a Debian, where the lab does it itself"
        )
    _install(missing)


def find(program: str) -> str | None:
    """Where a program is, looking in sbin too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def _install(packages: Sequence[str]) -> None:
    """`apt-get install`, with one `apt-get update` when the lists are too old to know the packages."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    for before in ([], ["apt-get", "update", "-q"]):
        if before:
            subprocess.run(before, env=environment, capture_output=True, check=False)
        done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    last = (done.stderr.strip().splitlines() or ["apt-get said nothing"])[-1]
    raise LabError(f"Debian's packages {', '.join(packages)} could not be installed ({last}); install them by hand")
