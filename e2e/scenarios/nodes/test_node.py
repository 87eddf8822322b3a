"""A node is a real one: pods run on it, and what the lab reads of it is what its kernel enforces."""

from __future__ import annotations

import pytest

from e2e.assertions import (
    assert_disjoint,
    assert_memory_on,
    assert_nobody_else,
    assert_shape,
    assert_subset,
    assert_threads_inside,
)
from e2e.lab.controlplane import ControlPlane
from e2e.lab.namespace import Namespace
from e2e.lab.shapes import named
from e2e.lab.workload import HOLD, OWN_MEMORY, container, pod, sidecar
from e2e.observe import look, numbers
from e2e.scenarios.nodes.conftest import Cluster, ready_node

pytestmark = pytest.mark.slow


def test_a_plain_pod_with_app_sidecar_and_init_container_runs_to_completion(
    cluster: Cluster, namespace: Namespace
) -> None:
    parts = [container("init", "echo first"), sidecar("side", "trap 'exit 0' TERM; while :; do sleep 1; done")]
    plain = pod("plain", container("app", "echo done"), initContainers=parts, restartPolicy="Never")
    assert namespace.apply(plain).returncode == 0
    namespace.wait("--for=jsonpath={.status.phase}=Succeeded", "pod/plain")
    assert cluster.plane.kubectl("logs", "plain", "-c", "app", "-n", namespace.name) == "done\n"


def test_the_kubelet_manages_no_cpus_and_all_of_a_container_is_where_the_cgroup_says(
    cluster: Cluster, namespace: Namespace
) -> None:
    limited = container("app", HOLD, {"cpu": "500m", "memory": "64Mi"})
    sight, seen = cluster.see(namespace, cluster.runs(namespace, pod("limited", limited)))
    app = seen["app"]
    whole = frozenset(range(cluster.node.shape.cpus))
    assert app.cpus == whole, "cpuManagerPolicy none leaves a container on every CPU"
    assert app.group.quota is not None
    assert app.group.quota.cpus == 0.5
    assert_threads_inside(app, app.cpus)
    assert_memory_on(app, app.mems, at_least=OWN_MEMORY)
    assert sum(app.pages.values()) >= OWN_MEMORY, f"numa_maps shows only {app.pages}"
    assert frozenset(sight.numa) == app.mems


def test_kubectl_reaches_into_a_container_through_the_kubelet(cluster: Cluster, namespace: Namespace) -> None:
    name = cluster.runs(namespace, pod("reached", container("app", HOLD)))
    said = cluster.plane.kubectl("exec", name, "-n", namespace.name, "--", "cat", "/proc/self/status")
    allowed = next(line for line in said.splitlines() if line.startswith("Cpus_allowed_list"))
    assert_subset(numbers(allowed.partition(":")[2]), range(cluster.node.shape.cpus), "the process in the container")


def test_a_partition_made_by_hand_is_seen_and_keeps_every_task_of_the_node_off_its_cpus(cluster: Cluster) -> None:
    path = "/sys/fs/cgroup/lab-partition"
    before = look(cluster.node)
    assert before.tasks_on({6, 7}), "before, tasks may run there"
    cluster.node.sh(
        f"mkdir {path} && echo 6-7 >{path}/cpuset.cpus.exclusive && echo root >{path}/cpuset.cpus.partition"
    )
    try:
        during = look(cluster.node)
    finally:
        cluster.node.sh(f"rmdir {path}")
    assert during.groups["lab-partition"].partition == "root"
    assert during.groups["lab-partition"].cpus == {6, 7}
    assert_disjoint({"the partition": {6, 7}, "the pods": during.groups["kubepods.slice"].cpus})
    assert_nobody_else(during, {6, 7}, ())
    assert during.kernel_threads_on({6, 7}), "each CPU keeps its own kernel threads; they are named apart"


def test_a_node_with_huge_pages_joins_and_its_kernel_shows_its_shape(plane: ControlPlane) -> None:
    """The other shapes show themselves in ``test_everywhere.py``."""
    with ready_node(plane, named("2x4-hugepages"), number=2) as node:
        assert_shape(node)
