"""A node in a folder, for a process of the enforcer: a machine's sysfs, plain files in the place of cgroups, a key.

Plain files neither refuse a write nor follow one; what the kernel does with them is `tests/support/cgroupfs.py`'s.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.seal import SigningKey
from tests.support.data import unpack_dump

DUMP = "kunpeng920-2s4n128c"
"""128 CPUs in 4 NUMA nodes."""

FILES = {
    "cpuset.cpus": "",
    "cpuset.cpus.exclusive": "",
    "cpuset.cpus.partition": "member",
    "cpuset.cpus.effective": "",
    "cpuset.mems.effective": "",
    "cpu.max": "max 100000",
}
"""Of one cgroup."""


def make_node(folder: Path) -> SigningKey:
    """A node without pods; the key whose intents it believes."""
    unpack_dump(DUMP, folder)
    return furnish(folder)


def furnish(folder: Path) -> SigningKey:
    """All of it but the machine's sysfs."""
    key = SigningKey(Ed25519PrivateKey.generate())
    public = Ed25519PublicKey.from_public_bytes(key.public)
    (folder / "key.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    cgroup = folder / "cgroup"
    cgroup.mkdir()
    (cgroup / "cgroup.controllers").write_text("cpuset cpu memory")
    (cgroup / "cgroup.subtree_control").write_text("")
    make_cgroup(cgroup / "kubepods")
    return key


def make_cgroup(path: Path) -> None:
    """One cgroup, with its files."""
    path.mkdir(parents=True)
    for name, text in FILES.items():
        (path / name).write_text(text)


def arguments(folder: Path) -> list[str]:
    """Options of the enforcer for the node in a folder; nothing is published or told."""
    options = {"--keys": "key.pem", "--nri-socket": "nri.sock", "--cgroup-root": "cgroup", "--sysfs": DUMP}
    options |= {"--kubelet-dir": "kubelet", "--state-dir": "state"}
    placed = [word for option, name in options.items() for word in (option, str(folder / name))]
    return ["-m", "enforcer", "enforcer", "--node", "node1", "--no-cluster", *placed]
