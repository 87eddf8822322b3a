"""Looks at a node again and again: a container that once had CPUs of its own keeps exactly these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.assertions import assert_disjoint
from e2e.lab.namespace import Namespace
from e2e.observe import Sight, glance
from e2e.scenarios.enforcer.armed import Armed


@dataclass(slots=True)
class Watch:
    """What was seen of each container's own CPUs, and that it never changed."""

    armed: Armed
    space: Namespace
    seen: dict[str, frozenset[int]] = field(default_factory=dict)
    """CPUs by container id, since the container first had as many as its pod asked for."""
    looks: int = 0

    def look(self) -> None:
        """Compare what the kernel enforces now with all that was seen before."""
        asked = self._asked()
        sight = glance(self.armed.cluster.node)
        owned = {identity: cpus for identity, size in asked.items() if len(cpus := _cpus(sight, identity)) == size}
        for identity, cpus in owned.items():
            before = self.seen.setdefault(identity, cpus)
            assert before == cpus, f"container {identity[:12]} was moved from {sorted(before)} to {sorted(cpus)}"
        for identity in asked.keys() & self.seen.keys():
            found = _cpus(sight, identity)
            assert found in (frozenset(), self.seen[identity]), f"container {identity[:12]} now runs on {sorted(found)}"
        assert_disjoint({identity[:12]: cpus for identity, cpus in owned.items()})
        self.looks += 1

    def _asked(self) -> Mapping[str, int]:
        """Ids of the running containers and the CPUs they asked for."""
        return {
            status["containerID"].rpartition("/")[2]: int(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"])
            for pod in self.space.list("pods")
            for status in pod["status"].get("containerStatuses", [])
            if "running" in status["state"]
        }


def _cpus(sight: Sight, identity: str) -> frozenset[int]:
    """Where a container may run; nowhere when it has ended since."""
    try:
        return sight.container(identity).cpus
    except KeyError:
        return frozenset()
