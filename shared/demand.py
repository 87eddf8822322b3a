"""What a pod weighs: the one calculation of demand that admission, the command and the node all rest on.

Demand is what the API server and the scheduler count: the worst moment over the containers (:mod:`shared.kep753`),
replaced per resource by ``spec.resources`` where the pod has it (KEP-2837), plus the overhead. The pod must have its
defaults already (:mod:`shared.defaulting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

from shared.kep753 import add, peak
from shared.pod import Amounts, Container, Pod, has_pod_level, is_pod_level
from shared.quantity import to_whole
from shared.sidecars import Cast, Role, cast
from shared.value import value

CORE = 10**9
"""One CPU in nano-units."""


class QosClass(Enum):
    """The pod's quality-of-service class, as the API server writes it into the status."""

    GUARANTEED = "Guaranteed"
    BURSTABLE = "Burstable"
    BEST_EFFORT = "BestEffort"


class PlacementClass(Enum):
    """How a pod is placed on its node."""

    EXCLUSIVE = "exclusive"
    """A bubble of whole CPUs of its own."""
    BOUND = "bound"
    """The node shared pool's CPUs of one NUMA node."""
    NONE = "none"
    """The node shared pool, anywhere."""


@value
class Weight:
    """What one container adds."""

    name: str
    role: Role
    why: str
    """What made it a sidecar; empty for the others."""
    requests: Amounts
    eligible: bool
    """Requests equal limits for CPU and memory, and the CPUs are a positive whole number. Never a standard init
    container: it passes, and uses what its pod holds anyway."""

    @property
    def exclusive_cpus(self) -> int:
        """CPUs it will own alone."""
        return self.requests["cpu"] // CORE if self.eligible else 0

    @property
    def cpu(self) -> int:
        """Requested millicores."""
        return to_whole("cpu", self.requests.get("cpu", 0))

    @property
    def memory(self) -> int:
        """Requested bytes."""
        return to_whole("memory", self.requests.get("memory", 0))


@value
class Demand:
    """A weighed pod. Amounts are nano-units."""

    total: Amounts
    containers: tuple[Weight, ...]
    """In the order the kubelet starts them."""
    qos: QosClass
    placement: PlacementClass
    pod_cpu: int | None
    """The pod-level CPU request in nano-units, overhead not included; None where the containers' sum counts."""
    overhead_cpu: int

    @property
    def sidecars(self) -> tuple[Weight, ...]:
        """The containers that are sidecars."""
        return tuple(weight for weight in self.containers if weight.role is Role.SIDECAR)

    def share(self, resource: str) -> float:
        """The sidecars' part of the pod's demand, in per cent; 0 where nothing is demanded."""
        total = self.total.get(resource, 0)
        taken = sum(weight.requests.get(resource, 0) for weight in self.sidecars)
        return 100 * taken / total if total else 0.0


def whole(amounts: Amounts) -> Mapping[str, int]:
    """Every amount rounded up once: millicores, bytes, pieces."""
    return {resource: to_whole(resource, amount) for resource, amount in amounts.items()}


def weigh(pod: Pod) -> Demand:
    """Weigh a pod that has its defaults."""
    weights = tuple(map(_weight, cast(pod)))
    qos = qos_class(pod)
    return Demand(
        total=_total(pod),
        containers=weights,
        qos=qos,
        placement=_placement_class(pod, weights, qos),
        pod_cpu=(pod.requests or {}).get("cpu"),
        overhead_cpu=pod.overhead.get("cpu", 0),
    )


def without_sidecars(pod: Pod) -> Amounts:
    """What would be demanded without the sidecars. Nano-units."""
    sidecars = {member.container.name for member in cast(pod) if member.role is Role.SIDECAR}
    return _total(
        replace(
            pod,
            containers=tuple(c for c in pod.containers if c.name not in sidecars),
            init_containers=tuple(c for c in pod.init_containers if c.name not in sidecars),
        )
    )


def _total(pod: Pod) -> Amounts:
    total = peak([(c.requests, c.restartable) for c in pod.init_containers], [c.requests for c in pod.containers])
    for resource, amount in (pod.requests or {}).items():
        if is_pod_level(resource):
            total[resource] = amount
    add(total, pod.overhead)
    return total


def _weight(member: Cast) -> Weight:
    container = member.container
    eligible = member.role is not Role.INIT and is_eligible(container)
    return Weight(container.name, member.role, member.why, container.requests, eligible)


def is_eligible(container: Container) -> bool:
    """Whether a container may own CPUs: the kubelet's static policy asks the same of a Guaranteed pod's containers,
    here each container is asked by itself (a fractional sidecar does not cost the app its cores)."""
    requests, limits = container.requests, container.limits
    cpu = requests.get("cpu", 0)
    if cpu <= 0 or cpu % CORE:
        return False
    return requests.get("memory", 0) > 0 and all(requests[r] == limits.get(r) for r in ("cpu", "memory"))


def _placement_class(pod: Pod, weights: tuple[Weight, ...], qos: QosClass) -> PlacementClass:
    if qos is QosClass.BEST_EFFORT:
        return PlacementClass.NONE
    pod_guaranteed = qos is QosClass.GUARANTEED and has_pod_level(pod)
    if pod_guaranteed or any(weight.eligible for weight in weights):
        return PlacementClass.EXCLUSIVE
    return PlacementClass.BOUND


def qos_class(pod: Pod) -> QosClass:
    """``ComputePodQOS`` of ``pkg/apis/core/v1/helper/qos`` in Kubernetes 1.37: CPU and memory only, of the pod where it
    has ``spec.resources``, else of each container; whatever is not everywhere the same is Burstable."""
    asked: tuple[tuple[Amounts, Amounts], ...] = ((pod.requests or {}, pod.limits or {}),)
    if not has_pod_level(pod):
        asked = tuple((c.requests, c.limits) for c in (*pod.containers, *pod.init_containers))
    found = {_qos(requests.get(r, 0), limits.get(r, 0)) for requests, limits in asked for r in ("cpu", "memory")}
    return QosClass.BURSTABLE if len(found) > 1 else next(iter(found), QosClass.BEST_EFFORT)


def _qos(request: int, limit: int) -> QosClass:
    """Of one resource."""
    if request != limit:
        return QosClass.BURSTABLE
    return QosClass.GUARANTEED if request else QosClass.BEST_EFFORT
