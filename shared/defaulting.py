"""What the API server fills in before it stores a pod, done here for pods it has not seen yet.

Sources, as of Kubernetes 1.37: ``SetDefaults_Pod`` in ``pkg/apis/core/v1/defaults.go`` (requests from limits), the
LimitRanger admission plugin, and ``DefaultPodLevelResources`` in ``pkg/api/pod/util.go`` (``spec.resources``).
The API server does this for pods only, never for templates: a template has to be defaulted here before it is weighed.
The last it does between mutating and validating admission; before 1.37 it did less of it, and earlier. Defaulting a pod
twice changes nothing.
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
    """The pod as the scheduler would see it.

    1. Each container's limits become its requests, as soon as the pod is read.
    2. Admission gives what LimitRanges say.
    3. ``spec.resources`` are completed when the pod is about to be stored, with all that admission has put in.
    """
    pod = _limits_as_requests(pod)
    for item in ranges:
        pod = _limits_as_requests(_each_container(pod, partial(_limited, item)))
    return _pod_level(pod)


def _limits_as_requests(pod: Pod) -> Pod:
    if all(map(_is_settled, pod.containers + pod.init_containers)):
        return pod
    return _each_container(pod, lambda c: replace(c, requests={**c.limits, **c.requests}))


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
    """KEP-2837, in the API server's order: huge page limits, then requests, then limits."""
    if not has_pod_level(pod):
        return pod
    limits = {**_hugepage_limits(pod), **(pod.limits or {})}
    requests = {**_pod_requests(pod, limits), **(pod.requests or {})}
    return replace(pod, requests=requests, limits={**_pod_limits(pod, requests), **limits})


def _hugepage_limits(pod: Pod) -> Amounts:
    """``defaultHugePagePodLevelLimits``: the containers' huge pages, where the pod says nothing of that size."""
    asked = pod.requests or {}
    return {r: amount for r, amount in _peak_limits(pod).items() if is_hugepages(r) and r not in asked}


def _pod_requests(pod: Pod, limits: Amounts) -> Amounts:
    """``defaultPodLevelRequests``: the containers' CPU and memory requests, else the pod's own limits."""
    summed = peak([(c.requests, c.restartable) for c in pod.init_containers], [c.requests for c in pod.containers])
    own = {r: amount for r, amount in limits.items() if is_pod_level(r)}
    return own | {r: amount for r, amount in summed.items() if r in POD_LEVEL_RESOURCES}


def _pod_limits(pod: Pod, requests: Amounts) -> Amounts:
    """``defaultPodLevelLimits``: of what the pod requests, the containers' limits where every one has such a limit, and
    no less than the request."""
    everyone = (*pod.init_containers, *pod.containers)
    summed = _peak_limits(pod)
    return {
        r: max(asked, summed[r])
        for r, asked in requests.items()
        if is_pod_level(r) and everyone and all(r in c.limits for c in everyone)
    }


def _peak_limits(pod: Pod) -> Amounts:
    return peak([(c.limits, c.restartable) for c in pod.init_containers], [c.limits for c in pod.containers])
