"""Network namespaces: a run's processes see only each other, and whoever is in the namespace belongs to the run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from e2e.lab import debian
from e2e.lab.errors import LabError

_MOUNTED = Path("/run/netns")

TUN = Path("/dev/net/tun")
"""Where the kernel makes cables whose other end is a process."""


def require() -> None:
    """Raise LabError unless namespaces can be made here."""
    if os.geteuid() != 0:
        raise LabError(
            "the lab makes network namespaces, which only root may; run it as root (`sudo -E python -m e2e up`)"
        )
    debian.require(("ip",))


def add(name: str) -> None:
    """A new namespace with its loopback up."""
    require()
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def exists(name: str) -> bool:
    """Whether there is a namespace of that name."""
    return (_MOUNTED / name).exists()


def pids(name: str) -> list[int]:
    """Every process in the namespace; empty when there is no such namespace."""
    if not exists(name):
        return []
    return [int(pid) for pid in _ip("netns", "pids", name).split()]


def delete(name: str) -> None:
    """Takes the namespace away, if it is there."""
    if exists(name):
        _ip("netns", "delete", name)


def inside(name: str, argv: list[str]) -> list[str]:
    """The command, to run in the namespace."""
    return [_program(), "netns", "exec", name, *argv]


def add_tap(name: str, device: str, mac: str, network: str, beyond: str, router: str) -> None:
    """The namespace's end of a virtual machine's cable, if it is not there yet; it goes with the namespace.

    It has an address of ``network`` (such as 10.0.11.2/24), and what lies ``beyond`` is reached through ``router``.
    """
    if not TUN.exists():
        raise LabError(f"the lab's nodes are connected through {TUN}, which is not here; `modprobe tun` makes it")
    if device not in _ip("-n", name, "-brief", "link").split():
        _ip("-n", name, "tuntap", "add", "dev", device, "mode", "tap")
    _ip("-n", name, "link", "set", device, "address", mac, "up")
    _ip("-n", name, "address", "replace", network, "dev", device)
    _ip("-n", name, "route", "replace", beyond, "via", router, "dev", device)


def add_address(name: str, address: str) -> None:
    """One more address on the namespace's loopback, for a process that is to have one of its own."""
    _ip("-n", name, "address", "replace", f"{address}/32", "dev", "lo")


def add_hole(name: str, address: str) -> None:
    """An address that swallows what the namespace sends there, on open connections too: a cable whose other end nobody
    holds."""
    if "hole" not in _ip("-n", name, "-brief", "link").split():
        _ip("-n", name, "tuntap", "add", "dev", "hole", "mode", "tun")
    _ip("-n", name, "link", "set", "hole", "up")
    _ip("-n", name, "route", "replace", f"{address}/32", "dev", "hole")


def close_hole(name: str, address: str) -> None:
    """What is sent to the address goes where it went before."""
    _ip("-n", name, "route", "delete", f"{address}/32", "dev", "hole")


def _program() -> str:
    return debian.find("ip") or "ip"


def _ip(*args: str) -> str:
    done = subprocess.run([_program(), *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(
            f"`ip {' '.join(args)}` failed ({done.stderr.strip() or done.returncode}); the lab needs CAP_SYS_ADMIN and "
            "CAP_NET_ADMIN, which a container has only when it is privileged"
        )
    return done.stdout
