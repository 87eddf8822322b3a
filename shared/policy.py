"""What a namespace asks for, in closed sets. The values are the Topology Manager's own words where it has them."""

from __future__ import annotations

from enum import Enum

from shared.value import value


class TopologyPolicy(Enum):
    """How strictly a pod is held to one NUMA node; the Topology Manager's four policies (KEP-693), loosest first."""

    NONE = "none"
    BEST_EFFORT = "best-effort"
    RESTRICTED = "restricted"
    SINGLE_NUMA_NODE = "single-numa-node"

    @property
    def strictness(self) -> int:
        """0 for the loosest."""
        return list(TopologyPolicy).index(self)


class Scope(Enum):
    """What is aligned: the whole pod, or each of its eligible containers by itself (KEP-1752)."""

    POD = "pod"
    CONTAINER = "container"


class Isolation(Enum):
    """How exclusive cores are kept exclusive."""

    AUTO = "auto"
    CPUSET = "cpuset"
    PARTITION = "partition"
    ISOLATED = "isolated"


class Smt(Enum):
    """Whether a bubble takes whole cores, so that no SMT sibling belongs to somebody else."""

    FULL_CORES = "full-cores"
    SHARE = "share"


@value
class Placing:
    """The part of a policy that the allocator obeys."""

    policy: TopologyPolicy = TopologyPolicy.SINGLE_NUMA_NODE
    scope: Scope = Scope.POD
    isolation: Isolation = Isolation.AUTO
    smt: Smt = Smt.FULL_CORES
