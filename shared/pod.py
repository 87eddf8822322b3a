"""A pod, as far as weighing it goes. Values only: whoever reads YAML or JSON fills them.

Amounts map a resource name to nano-units (:mod:`shared.quantity`). A name that is present with zero was asked for with
zero; a name that is absent was not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from shared.value import value

Amounts = Mapping[str, int]
NOTHING: Amounts = {}


@value
class Container:
    """One entry of ``containers`` or ``initContainers``."""

    name: str
    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)
    restartable: bool = False
    """An init container with ``restartPolicy: Always`` (KEP-753): it stays for the life of the pod."""
    image: str = ""


@value
class Pod:
    """One pod, or the pod that a template would make."""

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    requests: Amounts | None = None
    """``spec.resources.requests`` (KEP-2837); None when the pod has no ``spec.resources``."""
    limits: Amounts | None = None
    overhead: Amounts = field(default_factory=dict)
    """``spec.overhead`` (KEP-688): what the sandbox itself takes."""
    annotations: Mapping[str, str] = field(default_factory=dict)


POD_LEVEL_RESOURCES = ("cpu", "memory")
"""What ``spec.resources`` may name (KEP-2837), beside every ``hugepages-*``."""


def has_pod_level(pod: Pod) -> bool:
    """Whether ``spec.resources`` says anything that counts: an empty one is as good as none
    (``IsPodLevelResourcesSet``)."""
    if not (pod.requests or pod.limits):
        return False
    return any(is_pod_level(resource) for amounts in (pod.requests, pod.limits) for resource in amounts or ())


def is_hugepages(resource: str) -> bool:
    """Whether the resource is pre-allocated huge pages of some size."""
    return resource.startswith("hugepages-")


def is_pod_level(resource: str) -> bool:
    """Whether ``spec.resources`` may name the resource."""
    return resource in POD_LEVEL_RESOURCES or is_hugepages(resource)
