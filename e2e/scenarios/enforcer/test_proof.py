"""``armistice proof``: what was promised against what the kernel says, and the repair of what differs."""

from __future__ import annotations

import pytest

from e2e.lab.namespace import Namespace
from e2e.observe import container_ids
from e2e.scenarios.enforcer.armed import Armed, bubble, events, until
from e2e.scenarios.enforcer.bound import assert_bubble_bound, exclusive_cpus

pytestmark = pytest.mark.slow

REPAIRED_WITHIN = 60.0
"""Seconds from a cpuset that somebody changed to the repair; a tick is 10."""


def widen(armed: Armed, namespace: Namespace, pod: str, container: str) -> None:
    """Write every CPU of the node into a container's cgroup, as root with an editor would."""
    identity = container_ids(armed.plane, pod, namespace.name)[container]
    scope = f"$(find /sys/fs/cgroup/kubepods.slice -name '*{identity}*' -type d | head -n 1)"
    armed.cluster.node.sh(f"echo 0-{armed.cluster.node.shape.cpus - 1} >{scope}/cpuset.cpus")


@pytest.mark.fault("cgroups-changed")
def test_a_bound_pod_is_proved_and_one_widened_by_hand_is_not_and_is_repaired(
    armed: Armed, enforced: Namespace
) -> None:
    armed.cluster.runs(enforced, bubble("own", 2))
    own = exclusive_cpus(armed, enforced, "own", 2)
    code, said = armed.enforcer.proof("own", enforced.name)
    assert code == 0, said
    assert len(said["items"]) == 1
    code, table = armed.enforcer.proof_from_afar("own", enforced.name)
    assert (code, "own" in table) == (0, True), table

    armed.enforcer.freeze()  # it would have it right again before anybody looks
    try:
        widen(armed, enforced, "own", "app")
        code, said = armed.enforcer.proof("own", enforced.name)
        assert code == 1, f"the app may run on its sidecar's CPUs, and proof says that all is well: {said}"
    finally:
        armed.enforcer.thaw()

    until(lambda: exclusive_cpus(armed, enforced, "own", 2) == own, REPAIRED_WITHIN, "the cpuset was not repaired")
    until(lambda: armed.enforcer.proof("own", enforced.name)[0] == 0, REPAIRED_WITHIN, "proof still fails")
    told = [text for reason, text in events(enforced, "own") if reason == "TopologyDriftRepaired"]
    assert told, f"no event says that it was repaired: {events(enforced, 'own')}"


@pytest.mark.fault("cgroups-changed")
def test_a_partition_that_somebody_dissolves_is_made_again(armed: Armed, enforced: Namespace) -> None:
    armed.cluster.runs(enforced, bubble("own", 2))
    before = assert_bubble_bound(armed, enforced, "own", 2)
    group = armed.see().pod_group(enforced.get("pod", "own")["metadata"]["uid"]).path
    armed.cluster.node.sh(f"echo member >/sys/fs/cgroup/{group}/cpuset.cpus.partition")
    until(lambda: assert_bubble_bound(armed, enforced, "own", 2) == before, REPAIRED_WITHIN, "the partition stays away")
