"""What it means that a pod is bound: properties of what the kernel enforces for it, on every machine alike."""

from __future__ import annotations

from e2e.assertions import (
    assert_disjoint,
    assert_memory_on,
    assert_nobody_else,
    assert_one_numa_node,
    assert_subset,
    assert_threads_inside,
)
from e2e.lab.namespace import Namespace
from e2e.lab.workload import OWN_MEMORY
from e2e.observe import Container, Sight, glance, numbers
from e2e.scenarios.enforcer.armed import Armed, alone


def assert_bubble_bound(armed: Armed, namespace: Namespace, pod: str, cpus: int) -> frozenset[int]:
    """A pod of :func:`armed.bubble` is bound in every respect; returns its CPUs."""
    sight, seen = armed.cluster.see(namespace, pod)
    app, side = seen["app"], seen["side"]
    bubble = app.cpus | side.cpus
    home = assert_one_numa_node(sight, bubble, f"pod {pod}")
    assert len(app.cpus) == cpus, f"the app of pod {pod} runs on {sorted(app.cpus)}; it asked for {cpus} CPUs"
    assert_disjoint({"the app": app.cpus, "its sidecar": side.cpus})
    for one in (app, side):
        assert_threads_inside(one, one.cpus)
        assert_subset(one.mems, {home}, f"memory of pod {pod} may come from elsewhere")
        assert_memory_on(one, {home}, at_least=OWN_MEMORY)
    assert_quotas(app, side)
    assert_partition(sight, namespace, pod, bubble)
    assert_nobody_else(sight, app.cpus, [app.identity])
    assert_init_ran_inside(namespace, pod, bubble)
    return bubble


def assert_quotas(app: Container, side: Container) -> None:
    """CPUs of one's own know no CFS quota, which would only stall them; who shares keeps its limit."""
    assert app.group.quota is not None
    assert app.group.quota.cpus is None, f"the app is throttled to {app.group.quota.cpus} CPUs"
    assert side.group.quota is not None
    assert side.group.quota.cpus == 0.5


def assert_partition(sight: Sight, namespace: Namespace, pod: str, bubble: frozenset[int], kind: str = "root") -> None:
    """The pod's cgroup is a partition of exactly the bubble: no task of the node outside of the pod may run there."""
    uid = namespace.get("pod", pod)["metadata"]["uid"]
    group = sight.pod_group(uid)
    assert (group.partition, group.cpus) == (kind, bubble)
    strangers = [task for task in sight.tasks_on(bubble) if not task.group.startswith(group.path)]
    assert not strangers, f"tasks of others may run in the bubble of pod {pod}: {', '.join(map(str, strangers[:5]))}"


def assert_init_ran_inside(namespace: Namespace, pod: str, bubble: frozenset[int]) -> None:
    """The init container wrote down where the kernel let it run."""
    said = namespace.plane.kubectl("logs", pod, "-c", "init", "-n", namespace.name)
    ran = numbers(said.splitlines()[0].partition(":")[2])
    assert_subset(ran, bubble, f"the init container of pod {pod} ran outside of the pod's CPUs")


def exclusive_cpus(armed: Armed, namespace: Namespace, pod: str, cpus: int, name: str = "app") -> frozenset[int]:
    """The CPUs of a container that no other pod and no task of the host may use: so many, of one NUMA node.

    A pod of slices alone has no other CPU for its pause container, which sleeps on one of them.
    """
    sight, seen = armed.cluster.see(namespace, pod)
    own = seen[name]
    assert len(own.cpus) == cpus, f"container {name} of pod {pod} runs on {sorted(own.cpus)}; {cpus} CPUs are its own"
    assert_one_numa_node(sight, own.cpus, f"container {name} of pod {pod}")
    assert_disjoint({one: container.cpus for one, container in seen.items()})
    assert_threads_inside(own, own.cpus)
    group = sight.pod_group(namespace.get("pod", pod)["metadata"]["uid"])
    strangers = [task for task in sight.tasks_on(own.cpus) if not task.group.startswith(group.path)]
    assert not strangers, f"others may run on CPUs of pod {pod}: {', '.join(map(str, strangers[:5]))}"
    return own.cpus


def assert_off(armed: Armed, namespace: Namespace, pod: str, taken: frozenset[int]) -> None:
    """Whatever there is of a pod, bound or not or nothing yet, none of it may run on CPUs that are somebody else's."""
    uid = str(namespace.get("pod", pod)["metadata"]["uid"]).replace("-", "_")
    for path, group in glance(armed.cluster.node).groups.items():
        if f"pod{uid}.slice" in path:
            assert_disjoint({f"/{path}, of pod {pod},": group.cpus, "what is taken": taken})


def assert_whole_node_is_free(armed: Armed) -> None:
    """Two pods of 3 CPUs, as many as the node can hold, are bound at once: nothing of earlier ones is kept."""
    space = armed.enforced()
    for name in ("whole-one", "whole-two"):
        armed.cluster.runs(space, alone(name, 3))
        exclusive_cpus(armed, space, name, 3)
