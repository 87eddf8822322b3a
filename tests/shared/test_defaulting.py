"""What the API server fills in, for pods that it has not seen yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.defaulting import LimitRange, with_defaults
from shared.pod import Amounts, Container, Pod
from tests.support.pods import Written, amounts, asking, container, even, pod

Level = Written | None

LEVELS: list[tuple[str, Pod, Level, Level]] = [
    ("no spec.resources: none is made up", pod(even("a", "1")), None, None),
    ("an empty one stays empty", pod(even("a", "1"), requests={}), {}, None),
    ("limits become requests where no container asks", pod(limits={"cpu": "4", "memory": "4Gi"}),
     {"cpu": "4", "memory": "4Gi"}, {"cpu": "4", "memory": "4Gi"}),
    ("the containers' requests come first", pod(asking("a", "1"), asking("b", "2"), limits={"cpu": "8"}),
     {"cpu": "3"}, {"cpu": "8"}),
    ("by their worst moment", pod(asking("a", "1"), init=(asking("i", "5"),), limits={"cpu": "8"}),
     {"cpu": "5"}, {"cpu": "8"}),
    ("even of a resource that the pod does not limit", pod(asking("a", "1", "1Gi"), limits={"cpu": "8"}),
     {"cpu": "1", "memory": "1Gi"}, {"cpu": "8"}),
    ("what the pod asks stays", pod(asking("a", "1"), requests={"cpu": "2"}, limits={"cpu": "8"}),
     {"cpu": "2"}, {"cpu": "8"}),
    ("requests alone take the other requests from the containers", pod(asking("a", "1", "1Gi"), requests={"cpu": "2"}),
     {"cpu": "2", "memory": "1Gi"}, {}),
    ("and limits where every container has one, no lower than the request",
     pod(even("a", "1"), even("b", "2"), requests={"cpu": "4"}),
     {"cpu": "4", "memory": "2Gi"}, {"cpu": "4", "memory": "2Gi"}),
    ("no lower than the containers' together either", pod(even("a", "1"), even("b", "2"), requests={"cpu": "1"}),
     {"cpu": "1", "memory": "2Gi"}, {"cpu": "3", "memory": "2Gi"}),
    ("one container without a limit prevents it", pod(even("a", "1"), asking("b", "2"), requests={"cpu": "4"}),
     {"cpu": "4", "memory": "1Gi"}, {}),
    ("an init container without one too", pod(even("a", "1"), init=(asking("i", "1"),), requests={"cpu": "4"}),
     {"cpu": "4", "memory": "1Gi"}, {}),
    ("beside one pod limit the others come all the same",
     pod(even("a", "1"), requests={"cpu": "4", "memory": "4Gi"}, limits={"memory": "4Gi"}),
     {"cpu": "4", "memory": "4Gi"}, {"cpu": "4", "memory": "4Gi"}),
    ("huge pages come from the containers' limits",
     pod(even("a", "1", hugepages_2Mi="4Mi"), even("b", "1", hugepages_2Mi="2Mi"), limits={"cpu": "4"}),
     {"cpu": "2", "memory": "2Gi", "hugepages-2Mi": "6Mi"}, {"cpu": "4", "memory": "2Gi", "hugepages-2Mi": "6Mi"}),
    ("but not where the pod asks for some", pod(even("a", "1", hugepages_2Mi="4Mi"), requests={"hugepages-2Mi": "8Mi"}),
     {"hugepages-2Mi": "8Mi", "cpu": "1", "memory": "1Gi"}, {"hugepages-2Mi": "8Mi", "cpu": "1", "memory": "1Gi"}),
    ("devices are not for spec.resources", pod(container("a", {}, {"nvidia.com/gpu": "1"}), limits={"cpu": "1"}),
     {"cpu": "1"}, {"cpu": "1"}),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "requests", "limits"), LEVELS, ids=[row[0] for row in LEVELS])
def test_spec_resources_are_filled_in(about: str, given: Pod, requests: Level, limits: Level) -> None:
    found = with_defaults(given)
    assert found.requests == (None if requests is None else amounts(requests))
    assert found.limits == (None if limits is None else amounts(limits))


def test_requests_come_from_limits_in_every_container() -> None:
    given = pod(
        container("a", {"cpu": "1"}, {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}),
        init=(container("i", {}, {"cpu": "3"}),),
    )
    found = with_defaults(given)
    assert found.containers[0].requests == amounts({"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"})
    assert found.init_containers[0].requests == amounts({"cpu": "3"})


def test_a_request_of_zero_is_a_request() -> None:
    found = with_defaults(pod(container("a", {"cpu": "0"}, {"cpu": "2"})))
    assert found.containers[0].requests == {"cpu": 0}


def of(
    default: Written | None = None,
    default_request: Written | None = None,
    largest: Written | None = None,
    smallest: Written | None = None,
) -> LimitRange:
    return LimitRange.of(*(amounts(given or {}) for given in (default, default_request, largest, smallest)))


RANGES: list[tuple[str, list[LimitRange], Pod, Written, Written]] = [
    ("a default request for a container that asks for nothing", [of(None, {"cpu": "100m"})], pod(),
     {"cpu": "100m"}, {}),
    ("a default limit is also its request", [of({"cpu": "1"})], pod(), {"cpu": "1"}, {"cpu": "1"}),
    ("unless there is a default request", [of({"cpu": "1"}, {"cpu": "100m"})], pod(), {"cpu": "100m"}, {"cpu": "1"}),
    ("max stands in for a default", [of(largest={"memory": "2Gi"})], pod(), {"memory": "2Gi"}, {"memory": "2Gi"}),
    ("min stands in for a default request", [of(smallest={"memory": "64Mi"})], pod(), {"memory": "64Mi"}, {}),
    ("min does not where max gave one", [of(largest={"cpu": "2"}, smallest={"cpu": "100m"})], pod(),
     {"cpu": "2"}, {"cpu": "2"}),
    ("what the container asks stays", [of({"cpu": "1"}, {"cpu": "100m"})], pod(asking("app", "3")),
     {"cpu": "3"}, {"cpu": "1"}),
    ("its limit was its request before the range came", [of({"cpu": "1"}, {"cpu": "100m"})],
     pod(container("app", {}, {"cpu": "2"})), {"cpu": "2"}, {"cpu": "2"}),
    ("each resource by itself", [of({"memory": "1Gi"}, {"cpu": "100m"})], pod(asking("app", "3")),
     {"cpu": "3", "memory": "1Gi"}, {"memory": "1Gi"}),
    ("the first of two ranges wins", [of(None, {"cpu": "100m"}), of(None, {"cpu": "900m", "memory": "1Gi"})], pod(),
     {"cpu": "100m", "memory": "1Gi"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("about", "ranges", "given", "requests", "limits"), RANGES, ids=[row[0] for row in RANGES])
def test_a_limit_range(about: str, ranges: list[LimitRange], given: Pod, requests: Written, limits: Written) -> None:
    found = with_defaults(given, ranges).containers[0]
    assert (found.requests, found.limits) == (amounts(requests), amounts(limits))


def test_a_limit_range_is_for_init_containers_too_and_before_spec_resources() -> None:
    given = pod(limits={"cpu": "4"}, init=(container("i"),))
    found = with_defaults(given, [of(None, {"cpu": "100m"})])
    assert found.init_containers[0].requests == amounts({"cpu": "100m"})
    assert found.requests == amounts({"cpu": "100m"})  # what the container asks, now that it asks for something


SOME = st.dictionaries(st.sampled_from(["cpu", "memory", "hugepages-2Mi", "nvidia.com/gpu"]), st.integers(0, 5))
LEVEL = st.one_of(st.none(), SOME)


@given(SOME, SOME, SOME, SOME, LEVEL, LEVEL, SOME, SOME)
def test_defaulting_twice_changes_nothing(
    requests: Amounts,
    limits: Amounts,
    init_requests: Amounts,
    init_limits: Amounts,
    pod_requests: Amounts | None,
    pod_limits: Amounts | None,
    default: Amounts,
    default_request: Amounts,
) -> None:
    given = Pod(
        containers=(Container("a", requests, limits),),
        init_containers=(Container("i", init_requests, init_limits, restartable=True),),
        requests=pod_requests,
        limits=pod_limits,
    )
    once = with_defaults(given, [LimitRange.of(default, default_request)])
    assert with_defaults(once) == once
