"""The peer: what the kubelet's own managers do today (KEP-5526), read from the kernel."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from e2e.assertions import (
    assert_disjoint,
    assert_memory_on,
    assert_one_numa_node,
    assert_subset,
    assert_threads_inside,
)
from e2e.lab.namespace import Namespace
from e2e.lab.workload import HOLD, OWN_MEMORY, container, deployment, pod, pod_resources, sidecar
from e2e.scenarios.nodes.conftest import Cluster

pytestmark = pytest.mark.slow

STORM_SECONDS = 60


def test_the_settings_are_in_force_and_not_the_defaults(peer: Cluster) -> None:
    state = peer.node.sh("cat /var/lib/kubelet/cpu_manager_state /var/lib/kubelet/memory_manager_state")
    assert '"policyName":"static"' in state
    assert '"policyName":"Static"' in state


def test_a_pod_with_resources_of_its_own_is_bound_to_one_numa_node_and_its_app_has_cpus_alone(
    peer: Cluster, peer_namespace: Namespace
) -> None:
    app = container("app", HOLD, {"cpu": "2", "memory": "64Mi"})
    resources = pod_resources(cpu="3", memory="256Mi")
    mixed = pod("mixed", app, initContainers=[sidecar("side", HOLD)], resources=resources)
    sight, seen = peer.see(peer_namespace, peer.runs(peer_namespace, mixed))
    bubble = seen["app"].cpus | seen["side"].cpus
    home = assert_one_numa_node(sight, bubble, "the pod")
    assert len(bubble) == 3
    assert len(seen["app"].cpus) == 2
    assert_disjoint({name: one.cpus for name, one in seen.items()})
    for one in seen.values():
        assert_threads_inside(one, one.cpus)
        assert_subset(one.mems, {home}, "memory may come from elsewhere")
        assert_memory_on(one, {home}, at_least=OWN_MEMORY)
    assert seen["app"].group.quota is not None
    assert seen["app"].group.quota.cpus is None, "an exclusive container runs without a quota"
    strangers = sight.tasks_on(seen["app"].cpus, besides=[one.identity for one in seen.values()])
    assert strangers, "the kubelet keeps no task of the host off; if it does now, say so in the README"


def test_a_pod_whose_containers_ask_for_nothing_shares_the_pods_cpus_of_one_numa_node(
    peer: Cluster, peer_namespace: Namespace
) -> None:
    parts = {"initContainers": [sidecar("side", HOLD)], "resources": pod_resources(cpu="4", memory="256Mi")}
    sight, seen = peer.see(peer_namespace, peer.runs(peer_namespace, pod("shared", container("app", HOLD), **parts)))
    assert seen["app"].cpus == seen["side"].cpus
    assert len(seen["app"].cpus) == 4
    home = assert_one_numa_node(sight, seen["app"].cpus, "the pod")
    for one in seen.values():
        assert_memory_on(one, {home}, at_least=OWN_MEMORY)


def test_one_deployment_that_fits_no_numa_node_makes_a_storm_of_failed_pods(
    peer: Cluster, peer_namespace: Namespace, record_property: Callable[[str, object], None]
) -> None:
    wide = pod("wide", container("app", HOLD, {"cpu": "5", "memory": "64Mi"}))
    assert peer_namespace.apply(deployment("wide", wide)).returncode == 0
    time.sleep(STORM_SECONDS)
    failed = [one for one in peer_namespace.list("pods") if one["status"].get("phase") == "Failed"]
    assert peer_namespace.plane.kubectl("delete", "deployment", "wide", "-n", peer_namespace.name, "--wait=false")
    reasons = {one["status"].get("reason") for one in failed}
    print(f"{len(failed)} Failed pods of one Deployment in {STORM_SECONDS} s, reasons {reasons}")
    record_property("failed_pods_in_60_s", len(failed))
    assert reasons == {"TopologyAffinityError"}
    assert len(failed) > 20, f"only {len(failed)} pods; the figure in e2e/README.md no longer holds"
