"""Between NRI's messages and the values of :mod:`enforcer.runtime`."""

from __future__ import annotations

from collections.abc import Iterable

from enforcer.nri import api_pb2 as api
from enforcer.runtime import Adjustment, Container, ContainerState, Reply, Sandbox, Update

NO_QUOTA = -1
"""NRI cannot take a field away. For the OCI specification this value of the quota is none, and runc writes
``max`` into ``cpu.max`` for it."""

_STATES = {state.value: state for state in ContainerState}


def sandbox_of(message: api.PodSandbox) -> Sandbox:
    """A pod as the runtime tells of it."""
    return Sandbox(
        id=message.id,
        uid=message.uid,
        namespace=message.namespace,
        name=message.name,
        annotations=dict(message.annotations),
        cgroup_parent=message.linux.cgroup_parent,
        pid=message.pid,
    )


def container_of(message: api.Container) -> Container:
    """A container as the runtime tells of it; a state that NRI may add some day is unknown."""
    cpu = message.linux.resources.cpu
    return Container(
        id=message.id,
        sandbox=message.pod_sandbox_id,
        name=message.name,
        state=_STATES.get(message.state, ContainerState.UNKNOWN),
        annotations=dict(message.annotations),
        cpus=cpu.cpus,
        mems=cpu.mems,
        cgroups_path=message.linux.cgroups_path,
        pid=message.pid,
    )


def created(reply: Reply) -> api.CreateContainerResponse:
    """The answer to CreateContainer."""
    adjust = adjustment_message(reply.adjustment) if reply.adjustment else None
    return api.CreateContainerResponse(adjust=adjust, update=update_messages(reply.updates))


def adjustment_message(adjustment: Adjustment) -> api.ContainerAdjustment:
    """What is to be changed of the container that is being created; nothing that is to be left as it is."""
    message = api.ContainerAdjustment(annotations=adjustment.annotations)
    if resources := _resources(adjustment):
        message.linux.CopyFrom(api.LinuxContainerAdjustment(resources=resources))
    return message


def _resources(adjustment: Adjustment) -> api.LinuxResources | None:
    if not (adjustment.cpus or adjustment.mems or adjustment.no_quota):
        return None
    quota = api.OptionalInt64(value=NO_QUOTA) if adjustment.no_quota else None
    return api.LinuxResources(cpu=api.LinuxCPU(cpus=adjustment.cpus, mems=adjustment.mems, quota=quota))


def update_messages(updates: Iterable[Update]) -> list[api.ContainerUpdate]:
    """New cpusets for containers that exist."""
    return [_update_message(update) for update in updates]


def _update_message(update: Update) -> api.ContainerUpdate:
    resources = api.LinuxResources(cpu=api.LinuxCPU(cpus=update.cpus))
    return api.ContainerUpdate(container_id=update.container, linux=api.LinuxContainerUpdate(resources=resources))
