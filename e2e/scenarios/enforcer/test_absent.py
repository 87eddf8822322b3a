"""The enforcer is away: what that costs pods with an intent on a runtime that cannot be told to wait.

containerd before 2.2 has no validator of required plugins: a container that is created while the enforcer is away runs
where the kernel lets it. What holds is that pods that are bound already stay bound, and that the others are bound as
soon as the enforcer is back. That they wait instead is shown on a newer containerd, in ``nodes/test_everywhere.py``.
"""

from __future__ import annotations

import pytest

from e2e.assertions import assert_disjoint
from e2e.lab.namespace import Namespace
from e2e.scenarios.enforcer.armed import Armed, alone, bubble, until
from e2e.scenarios.enforcer.bound import assert_bubble_bound, exclusive_cpus

pytestmark = pytest.mark.slow

FIXED_WITHIN = 60.0
"""Seconds from its coming back until everything is as promised."""


def test_bound_pods_stay_bound_while_it_is_away_and_those_created_meanwhile_are_bound_when_it_comes_back(
    armed: Armed, enforced: Namespace
) -> None:
    armed.cluster.runs(enforced, bubble("before", 2))
    before = assert_bubble_bound(armed, enforced, "before", 2)
    armed.enforcer.absent()
    try:
        assert assert_bubble_bound(armed, enforced, "before", 2) == before
        armed.cluster.runs(enforced, alone("meanwhile", 2))
        _, seen = armed.cluster.see(enforced, "meanwhile")
        assert_disjoint({"before": before, "meanwhile": seen["app"].cpus})
    finally:
        armed.enforcer.present()
    until(lambda: exclusive_cpus(armed, enforced, "meanwhile", 2), FIXED_WITHIN, "the newer pod was not bound")
    assert assert_bubble_bound(armed, enforced, "before", 2) == before, "a running pod was moved"


def test_pods_that_go_while_it_is_away_are_released_when_it_comes_back(armed: Armed, enforced: Namespace) -> None:
    """The node can hold two pods of 3 CPUs only where nothing of the ones before is kept."""
    for name in ("one", "two"):
        armed.cluster.runs(enforced, alone(name, 2))
    armed.enforcer.absent()
    armed.plane.kubectl("delete", "pods", "--all", "-n", enforced.name)
    armed.enforcer.present()
    for name in ("three", "four"):
        armed.cluster.runs(enforced, alone(name, 3))
        exclusive_cpus(armed, enforced, name, 3)
