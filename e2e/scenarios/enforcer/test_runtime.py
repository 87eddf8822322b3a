"""The runtime dies while pods start: what it was at is finished afterwards, and nothing that runs moves."""

from __future__ import annotations

from functools import partial

import pytest

from e2e.assertions import assert_disjoint
from e2e.faults import by_hand
from e2e.lab.namespace import Namespace
from e2e.lab.node import Node
from e2e.observe import container_ids
from e2e.scenarios.enforcer.ambush import Moment, lie_in_wait, wait_struck
from e2e.scenarios.enforcer.armed import Armed, alone, until
from e2e.scenarios.enforcer.bound import assert_whole_node_is_free, exclusive_cpus
from e2e.scenarios.enforcer.watch import Watch

pytestmark = [pytest.mark.slow, by_hand]

MOMENTS = (Moment.COMES, Moment.RESERVED, Moment.SANDBOX)

BACK_WITHIN = 60.0
"""Seconds until systemd has started containerd again; its unit waits for 5."""

BOUND_WITHIN = 180.0
"""Seconds in which, left alone, every pod must be bound."""


@pytest.mark.fault("containerd-killed")
def test_containerd_is_killed_at_moments_of_a_pods_start_and_all_pods_end_up_bound_and_none_moves(
    armed: Armed, enforced: Namespace
) -> None:
    node, watch = armed.cluster.node, Watch(armed, enforced)
    armed.cluster.runs(enforced, alone("before", 1))
    before, identities = (
        exclusive_cpus(armed, enforced, "before", 1),
        container_ids(armed.plane, "before", enforced.name),
    )
    watch.look()
    for moment in MOMENTS:
        victim = runtime(node)
        lie_in_wait(node, moment, f"kill -9 {victim}")
        assert enforced.apply(alone(moment.name.lower(), 1)).returncode == 0
        wait_struck(node)
        watch.look()
        until(partial(another_runs, node, victim), BACK_WITHIN, "containerd is not started again")

    def all_bound() -> bool:
        try:
            watch.look()
        except AssertionError as error:  # nothing that waiting would make good
            pytest.fail(str(error))
        names = ("before", *(moment.name.lower() for moment in MOMENTS))
        assert_disjoint({name: exclusive_cpus(armed, enforced, name, 1) for name in names})
        return True

    until(all_bound, BOUND_WITHIN, "a pod is not bound", every=1)
    assert exclusive_cpus(armed, enforced, "before", 1) == before
    assert container_ids(armed.plane, "before", enforced.name) == identities, "its container was started anew"
    armed.clear()
    assert_whole_node_is_free(armed)


def runtime(node: Node) -> int:
    """containerd's process id; 0 while there is none."""
    return int(node.sh("systemctl show --property=MainPID --value containerd"))


def another_runs(node: Node, victim: int) -> bool:
    """Whether containerd was started again."""
    return runtime(node) not in (0, victim)
