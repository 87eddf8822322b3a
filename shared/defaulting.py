"""What the API server fills in before it stores a pod, done here for pods it has not seen yet.

Sources: ``SetDefaults_Pod`` in ``pkg/apis/core/v1/defaults.go`` (requests from limits, pod-level requests and limits)
and the LimitRanger admission plugin. The API server does this for pods only, never for templates: a template has to be
defaulted here before it is weighed. Defaulting a pod twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from shared.kep753 import peak
from shared.pod import POD_LEVEL_RESOURCES, Amounts, Container, Pod, has_pod_level, is_hugepages, is_pod_level


@dataclass(frozen=True, slots=True)
class LimitRange:
    """The ``type: Container`` item of a LimitRange."""

    default: Amounts = field(default_factory=dict)
    """Limits for containers that set none."""
    default_request: Amounts = field(default_factory=dict)

    @staticmethod
    def of(
        default: Amounts, default_request: Amounts, largest: Amounts | None = None, smallest: Amounts | None = None
    ) -> LimitRange:
        """With the API server's own filling: ``max`` gives a missing default, that a missing default request, ``min``
        what is still missing (``SetDefaults_LimitRangeItem``)."""
        limits = {**(largest or {}), **default}
        return LimitRange(limits, {**(smallest or {}), **limits, **default_request})


def with_defaults(pod: Pod, ranges: Iterable[LimitRange] = ()) -> Pod:
    """The pod as the scheduler would see it."""
    pod = _settled(pod)
    for item in (ranges := tuple(ranges)):
        pod = _each_container(pod, partial(_limited, item))
    return _settled(pod) if ranges else pod


def _settled(pod: Pod) -> Pod:
    """Defaults as they are once the pod was read again, which the API server does after every webhook's patch and when
    it takes it from its store: pod-level limits filled in the first time make for more requests the second time."""
    if not all(map(_is_settled, pod.containers + pod.init_containers)):
        pod = _each_container(pod, lambda c: replace(c, requests={**c.limits, **c.requests}))
    return _pod_level(_pod_level(pod))


def _is_settled(container: Container) -> bool:
    """Whether there is a request for every limit, as in every pod that comes from the API server."""
    return container.limits.keys() <= container.requests.keys()


def _each_container(pod: Pod, change: Callable[[Container], Container]) -> Pod:
    return replace(
        pod,
        containers=tuple(change(c) for c in pod.containers),
        init_containers=tuple(change(c) for c in pod.init_containers),
    )


def _limited(item: LimitRange, container: Container) -> Container:
    return replace(
        container,
        limits={**item.default, **container.limits},
        requests={**item.default_request, **container.requests},
    )


def _pod_level(pod: Pod) -> Pod:
    """KEP-2837, in the API server's order: huge page limits, then requests, then CPU and memory limits."""
    if not has_pod_level(pod):
        return pod
    limits = {**_hugepage_limits(pod), **(pod.limits or {})}
    requests = {**_pod_requests(pod, limits), **(pod.requests or {})}
    if not any(is_pod_level(resource) for resource in limits):
        limits |= _pod_limits(pod)
    return replace(pod, requests=requests, limits=limits)


def _hugepage_limits(pod: Pod) -> Amounts:
    """``defaultHugePagePodLimits``: the containers' huge pages, where the pod says nothing of that size."""
    asked = pod.requests or {}
    return {r: amount for r, amount in _peak_limits(pod).items() if is_hugepages(r) and r not in asked}


def _pod_requests(pod: Pod, limits: Amounts) -> Amounts:
    """``defaultPodRequests``: beside pod limits, the containers' CPU and memory requests, else the pod's own limits."""
    if not limits:
        return {}
    summed = peak([(c.requests, c.restartable) for c in pod.init_containers], [c.requests for c in pod.containers])
    own = {r: amount for r, amount in limits.items() if is_pod_level(r)}
    return own | {r: amount for r, amount in summed.items() if r in POD_LEVEL_RESOURCES}


def _pod_limits(pod: Pod) -> Amounts:
    """``defaultPodLimits``: the containers' CPU and memory limits, where every container has one."""
    everyone = (*pod.init_containers, *pod.containers)
    summed = _peak_limits(pod)
    return {r: summed[r] for r in POD_LEVEL_RESOURCES if everyone and all(r in c.limits for c in everyone)}


def _peak_limits(pod: Pod) -> Amounts:
    return peak([(c.limits, c.restartable) for c in pod.init_containers], [c.limits for c in pod.containers])
