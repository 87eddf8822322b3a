"""No byte is left where the node keeps what runs, or where the enforcer writes its report.

/run is where the runtime, systemd and the enforcer write. The enforcer keeps no state of its own: what it knows after a
restart comes from the runtime and the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.faults import by_hand
from e2e.lab.namespace import Namespace
from e2e.lab.node import Node
from e2e.scenarios.enforcer.armed import Armed, alone, until
from e2e.scenarios.enforcer.bound import assert_off, exclusive_cpus

pytestmark = [pytest.mark.slow, by_hand]

FULL = 10.0
"""Seconds in which a pod tries to start, and the enforcer to start again."""

FILL = "dd if=/dev/zero of={0}/lab-full bs=64k; dd if=/dev/zero of={0}/lab-full.rest bs=4k; test -s {0}/lab-full"
"""Until nothing fits any more. The second file takes the last pages."""

PROVED_WITHIN = 60.0
"""Seconds until the report is written once there is room; a tick is 10."""


@contextmanager
def full_run(node: Node) -> Iterator[None]:
    """/run of the node is full meanwhile. It is made small first, for what fills it is the node's memory. Files of the
    lab's agent are there, too: they are laid elsewhere for as long."""
    size = node.sh("df -B1 --output=size /run | tail -n 1").strip()
    node.sh("for one in script out err; do : >/dev/shm/$one; mount --bind /dev/shm/$one /run/agent.$one; done")
    try:
        used = int(node.sh("df -B1 --output=used /run | tail -n 1"))
        node.sh(f"mount -o remount,size={used + 2**22} /run; {FILL.format('/run')}")
        yield
    finally:
        node.agent(f"rm /run/lab-full*; mount -o remount,size={size} /run; umount -l /run/agent.script /run/agent.???")


@pytest.mark.fault("disk-full")
def test_with_run_full_and_the_enforcer_killed_nothing_is_half_bound_and_afterwards_all_is(
    armed: Armed, enforced: Namespace
) -> None:
    armed.cluster.runs(enforced, alone("before", 2))
    before = exclusive_cpus(armed, enforced, "before", 2)
    with full_run(armed.cluster.node):
        assert enforced.apply(alone("meanwhile", 2)).returncode == 0
        armed.enforcer.kill()
        end = time.monotonic() + FULL
        while time.monotonic() < end:
            assert_off(armed, enforced, "meanwhile", before)
            time.sleep(0.5)
        assert exclusive_cpus(armed, enforced, "before", 2) == before
    armed.enforcer.wait_ready()
    enforced.wait("--for=condition=Ready", "pod/meanwhile")
    exclusive_cpus(armed, enforced, "meanwhile", 2)
    assert exclusive_cpus(armed, enforced, "before", 2) == before, "a running pod was moved"


@contextmanager
def full_folder(armed: Armed) -> Iterator[None]:
    """The enforcer's own folder is a disk of its own meanwhile, which is full; it is killed to find that, and again to
    find the folder as it was."""
    node = armed.cluster.node
    node.sh(f"mount -t tmpfs -o size=64k lab /run/armistice; {FILL.format('/run/armistice')}")
    try:
        restart(armed)
        yield
    finally:
        node.sh("umount -l /run/armistice")
        restart(armed)


def restart(armed: Armed) -> None:
    """kill -9; returns when the next one is ready."""
    before = armed.enforcer.pid()
    armed.enforcer.kill()
    until(lambda: armed.enforcer.pid() not in (None, before), 60, "the kubelet does not start it again")
    armed.enforcer.wait_ready()


@pytest.mark.fault("disk-full")
def test_killed_with_its_own_folder_full_the_enforcer_knows_who_owns_what_and_binds(
    armed: Armed, enforced: Namespace
) -> None:
    armed.cluster.runs(enforced, alone("before", 3))
    before = exclusive_cpus(armed, enforced, "before", 3)
    with full_folder(armed):
        assert exclusive_cpus(armed, enforced, "before", 3) == before
        armed.cluster.runs(enforced, alone("meanwhile", 3))  # fits only beside what it knows to be taken
        exclusive_cpus(armed, enforced, "meanwhile", 3)
        armed.cluster.node.sh("rm /run/armistice/lab-full*")
        until(lambda: armed.enforcer.proof("meanwhile", enforced.name)[0] == 0, PROVED_WITHIN, "it has no report")
    assert exclusive_cpus(armed, enforced, "before", 3) == before, "a running pod was moved"
