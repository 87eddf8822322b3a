"""What the runtime's calls become: one short method per event, in the values of :mod:`enforcer.runtime`."""

from __future__ import annotations

from typing import Protocol

from enforcer.runtime import Container, Reply, Sandbox


class Handlers(Protocol):
    """Who decides. A method that raises RefusedError refuses, and its text is what the person reads.

    The runtime asks one thing at a time on the whole node. A method that is not done when its deadline has passed is
    answered for, but not cut off: what it does is done whole, and its result is dropped. When the connection ends, by
    the runtime or by us, it has the deadline once more, and is then cancelled.
    """

    async def configured(self, runtime: str, version: str, nri_version: str) -> None:
        """We are registered. ``nri_version`` is empty before NRI 0.12."""

    async def synchronize(self, sandboxes: list[Sandbox], containers: list[Container]) -> Reply:
        """All that there is: stopped sandboxes too, of containers only the created and the running. Asked once per
        connection, and before every other event."""
        ...

    async def run_sandbox(self, sandbox: Sandbox) -> Reply:
        """A pod's sandbox is about to run. Nothing of the reply reaches the runtime, and a refusal does not either."""
        ...

    async def stop_sandbox(self, sandbox: Sandbox) -> None:
        """A pod has stopped. Not told for pods older than the runtime's start."""

    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        """A pod is gone; its annotations are missing here. Not told for pods older than the runtime's start."""

    async def create(self, sandbox: Sandbox, container: Container) -> Reply:
        """A container is to be created; this can be refused, and be adjusted."""
        ...

    async def start(self, sandbox: Sandbox, container: Container) -> None:
        """A container is to be started: its cgroup is there, its program has not begun. This can be refused."""

    async def update(self, sandbox: Sandbox, container: Container) -> Reply:
        """The kubelet changes a container's resources; an update of ours for the same one replaces its cpuset."""
        ...

    async def stop(self, sandbox: Sandbox, container: Container) -> Reply:
        """A container has stopped."""
        ...

    async def remove(self, sandbox: Sandbox, container: Container) -> None:
        """A container is gone."""
