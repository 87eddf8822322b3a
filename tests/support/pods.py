"""Pods in few words: amounts as a manifest would write them."""

from __future__ import annotations

from collections.abc import Mapping

from shared.defaulting import LimitRange, with_defaults
from shared.demand import Demand, weigh
from shared.pod import Amounts, Container, Pod
from shared.quantity import parse

Written = Mapping[str, str]
"""Resource to quantity."""


def amounts(written: Written) -> Amounts:
    """The amounts in nano-units."""
    return {resource: parse(quantity) for resource, quantity in written.items()}


def container(
    name: str,
    requests: Written | None = None,
    limits: Written | None = None,
    *,
    restartable: bool = False,
    image: str = "",
) -> Container:
    """One container."""
    return Container(name, amounts(requests or {}), amounts(limits or {}), restartable, image)


def even(name: str, cpu: str, memory: str = "1Gi", *, restartable: bool = False, **pages: str) -> Container:
    """A container whose requests equal its limits. ``hugepages_2Mi="4Mi"`` asks for ``hugepages-2Mi``."""
    written = {"cpu": cpu, "memory": memory, **{key.replace("_", "-"): value for key, value in pages.items()}}
    return container(name, written, written, restartable=restartable)


def asking(name: str, cpu: str, memory: str = "", *, restartable: bool = False) -> Container:
    """A container with requests and no limits."""
    written = {"cpu": cpu, "memory": memory}
    return container(name, {key: value for key, value in written.items() if value}, restartable=restartable)


def pod(
    *containers: Container,
    init: tuple[Container, ...] = (),
    requests: Written | None = None,
    limits: Written | None = None,
    overhead: Written | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Pod:
    """A pod; with none given it has one container, ``app``, that asks for nothing."""
    return Pod(
        containers=containers or (container("app"),),
        init_containers=init,
        requests=None if requests is None else amounts(requests),
        limits=None if limits is None else amounts(limits),
        overhead=amounts(overhead or {}),
        annotations=annotations or {},
    )


def weighed(given: Pod, *ranges: LimitRange) -> Demand:
    """The pod's demand, with the API server's defaults."""
    return weigh(with_defaults(given, ranges))
