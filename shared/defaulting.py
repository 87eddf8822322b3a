"""What the API server fills in before it stores a pod, done here for pods it has not seen yet.

Sources: ``SetDefaults_Pod`` in ``pkg/apis/core/v1/defaults.go`` (requests from limits, pod-level requests and limits) and
the LimitRanger admission plugin. The API server does this for pods only, never for templates: a template has to be
defaulted here before it is weighed. Defaulting a pod twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from shared.kep753 import peak
from shared.pod import Amounts, Container, Pod, is_hugepages, is_pod_level


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
    """The pod as the API server would store it."""
    pod = _each_container(pod, lambda c: replace(c, requests={**c.limits, **c.requests}))
    pod = _pod_level(pod)
    for item in ranges:
        pod = _each_container(pod, partial(_limited, item))
    return pod


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
    """KEP-2837: requests from the containers' sum, else from the pod's limits; limits where every container has one."""
    if pod.requests is None and pod.limits is None:
        return pod
    requests, limits = dict(pod.requests or {}), dict(pod.limits or {})
    if limits:
        summed = peak([(c.requests, c.restartable) for c in pod.init_containers], [c.requests for c in pod.containers])
        for resource, amount in summed.items():
            if is_pod_level(resource) and not is_hugepages(resource):
                requests.setdefault(resource, amount)
        for resource, amount in limits.items():
            if is_pod_level(resource):
                requests.setdefault(resource, amount)
    return replace(pod, requests=requests, limits={**_limits_of_all(pod, requests), **limits})


def _limits_of_all(pod: Pod, requests: Mapping[str, int]) -> Amounts:
    everyone = (*pod.init_containers, *pod.containers)
    names = [r for r in requests if everyone and all(r in c.limits for c in everyone)]
    summed = peak([(c.limits, c.restartable) for c in pod.init_containers], [c.limits for c in pod.containers])
    return {name: summed[name] for name in names}
