"""The enforcer stands still in the middle of a call, for longer than the runtime waits for it.

The runtime gives it up and goes on without it: on containerd before 2.2 the pod's containers are created all the same,
and are bound when the enforcer goes on and connects again.
"""

from __future__ import annotations

import time

import pytest

from e2e.faults import by_hand
from e2e.lab.namespace import Namespace
from e2e.lab.node import Node
from e2e.scenarios.enforcer.ambush import Moment, lie_in_wait, wait_struck
from e2e.scenarios.enforcer.armed import Armed, alone, until
from e2e.scenarios.enforcer.bound import assert_off, exclusive_cpus

pytestmark = [pytest.mark.slow, by_hand]

STOPPED = 4.0
"""Seconds; containerd waits 2 for an answer of a plugin."""

BOUND_WITHIN = 60.0
"""Seconds from its going on until the pod is bound."""


@pytest.mark.fault("enforcer-stopped")
@pytest.mark.parametrize("moment", [Moment.RESERVED, Moment.SANDBOX], ids=lambda moment: moment.name.lower())
def test_stopped_in_the_middle_of_a_call_it_harms_nobody_and_going_on_it_binds_the_pod(
    armed: Armed, enforced: Namespace, moment: Moment
) -> None:
    node = armed.cluster.node
    armed.cluster.runs(enforced, alone("before", 2))
    before, pid = exclusive_cpus(armed, enforced, "before", 2), armed.enforcer.pid()
    since = node.sh("date +%s").strip()
    lie_in_wait(node, moment, f"kill -STOP {pid}")
    try:
        assert enforced.apply(alone("new", 2)).returncode == 0
        wait_struck(node)
        end = time.monotonic() + STOPPED
        while time.monotonic() < end:
            assert_off(armed, enforced, "new", before)
            time.sleep(0.5)
        assert given_up(node, since), "the runtime was not in the middle of a call"
        assert exclusive_cpus(armed, enforced, "before", 2) == before
    finally:
        armed.enforcer.thaw()
    until(lambda: exclusive_cpus(armed, enforced, "new", 2), BOUND_WITHIN, "the pod was not bound")
    assert exclusive_cpus(armed, enforced, "before", 2) == before, "a running pod was moved"
    assert armed.enforcer.pid() == pid, "it was started anew"


def given_up(node: Node, since: str) -> list[str]:
    """What containerd has said since, in seconds of 1970, of calls that a plugin did not answer in time."""
    said = node.sh(f"journalctl -q -o cat -u containerd --since=@{since}")
    print(said)
    return [line for line in said.splitlines() if "closing plugin" in line]
