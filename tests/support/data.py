"""Where the reference data lies: a folder ``shared`` beside the checkout, not part of the project."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared"

MACHINES_WITH_ORACLE = (
    "altix-64n", "arm-2c-nonuma", "clx-snc2-pmem8n", "epyc7451-2s8n", "ghw-arm64-1c", "haswell-node0-offline",
    "kunpeng920-2s4n128c", "magnycours-8n-sparse", "opteron-4n-hugepages", "opteron-8n-cpuset-offline",
    "power9-v100-gpumem", "qemu-16n-dies", "qemu-initiators-11n", "raptorlake-hybrid", "xeon-2s-pci-numa",
    "xeon-snc2-hugepages",
)  # fmt: skip
"""The real machines of which there is a sysfs dump and an independent view."""


def reference(path: str) -> Path:
    """A file or folder of the reference data; the test is skipped where it is missing."""
    found = REFERENCE / path
    if not found.exists():
        pytest.skip(f"the reference data {path} is not beside this checkout")
    return found


def unpack_dump(name: str, into: Path) -> Path:
    """Unpack one machine's sysfs dump; the folder returned is its root."""
    root = into / name
    if not root.exists():
        with tarfile.open(reference(f"machines/dumps/{name}.tar.xz")) as archive:
            archive.extractall(root, filter="data")
    return root
