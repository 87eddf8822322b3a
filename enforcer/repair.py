"""Put a drifted cgroup right, behind the runtime's back: a call of ours to the runtime could block the whole node."""

from __future__ import annotations

from enforcer.cgroup import Cgroups
from enforcer.errors import KernelError
from enforcer.partition import enclose
from enforcer.promise import ContainerPromise, PodPromise
from enforcer.verify import Drift, What, verify
from shared.cpuset import CpuSet


def repair(cgroups: Cgroups, promise: PodPromise, drift: Drift, online: CpuSet) -> bool:
    """Write what was promised, and say whether the kernel holds it now.

    Memory nodes are left: the write would move a running container's memory at once, and stop everybody who waits for
    it. Only a new container gets them right.
    """
    if drift.what is What.MEMS:
        return False
    if drift.what in (What.PARTITION, What.BUBBLE):
        return enclose(cgroups, promise.cgroup_parent, promise.bubble, promise.level).level is promise.level
    container = next((each for each in promise.containers if each.id == drift.container), None)
    return container is not None and _repair_container(cgroups, promise, container, drift, online)


def _repair_container(
    cgroups: Cgroups, promise: PodPromise, container: ContainerPromise, drift: Drift, online: CpuSet
) -> bool:
    try:
        if drift.what is What.CPUS:
            cgroups.write_cpus(container.cgroups_path, promise.cgroup_parent, container.cpus)
        else:
            cgroups.lift_quota(container.cgroups_path, promise.cgroup_parent)
        found = cgroups.read_container(container.cgroups_path, promise.cgroup_parent)
    except KernelError:
        return False
    remaining = verify(promise, None, {container.id: found} if found else {}, online)
    return all(each.what is not drift.what for each in remaining)
