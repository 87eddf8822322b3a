"""The door for pods: what it takes, and how it says no."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InputError
from shared.quantity import NANO
from tests.support.pods import amounts
from webhook.pod import Subject, find_template, limit_range, parse_pod, subject

CONTAINER: dict[str, Any] = {"name": "app"}


def a_pod(**spec: Any) -> dict[str, Any]:
    """The smallest pod, with a few fields of its spec set otherwise."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [CONTAINER], **spec}}


def with_requests(**requests: Any) -> dict[str, Any]:
    """The same, its container asking for something; ``_`` stands for ``-``."""
    named = {name.replace("_", "-"): amount for name, amount in requests.items()}
    return a_pod(containers=[{"name": "app", "resources": {"requests": named}}])


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no containers at all", a_pod(containers=None), "spec.containers: required, and missing"),
    ("an empty list of them", a_pod(containers=[]), "spec.containers: required, and missing"),
    ("containers that are no list", a_pod(containers={}), "spec.containers: expected a list, found an object"),
    ("a container that is text", a_pod(containers=["app"]), "spec.containers[0]: expected an object, found text"),
    ("a container without a name", a_pod(containers=[{}]), "spec.containers[0].name: required, and missing"),
    (
        "one name twice, once as an init container",
        a_pod(initContainers=[CONTAINER]),
        'container name "app": used twice; names are unique in a pod',
    ),
    ("a spec that is a list", {"spec": []}, "spec: expected an object, found a list"),
    (
        "a quantity with a space in it",
        with_requests(cpu="1 k"),
        "spec.containers[0].resources.requests[cpu]: '1 k': quantities must match the regular expression "
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    (
        "a negative quantity",
        with_requests(memory="-1Gi"),
        "spec.containers[0].resources.requests[memory]: '-1Gi': must be greater than or equal to 0",
    ),
    (
        "a quantity that is a list",
        with_requests(cpu=[1]),
        "spec.containers[0].resources.requests[cpu]: [1]: quantities must match the regular expression "
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    (
        "huge pages of no size",
        with_requests(hugepages_0="1Gi"),
        "spec.containers[0].resources.requests[hugepages-0]: '1Gi': hugepages-0: the page size must be a positive "
        "quantity, as in hugepages-2Mi",
    ),
    (
        "huge pages of a size that is no quantity",
        with_requests(hugepages_big="1Gi"),
        "spec.containers[0].resources.requests[hugepages-big]: '1Gi': quantities must match the regular expression "
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    (
        "a very long quantity, shown cut",
        with_requests(cpu="x" * 200),
        f"spec.containers[0].resources.requests[cpu]: '{'x' * 27}...{'x' * 28}': quantities must match the "
        "regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
]


@pytest.mark.parametrize(("what", "obj", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_read_names_its_field(what: str, obj: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_pod(obj)
    assert str(caught.value) == message


def test_null_counts_as_absent() -> None:
    pod = parse_pod({"metadata": None, "spec": {"containers": [{"name": "app", "resources": None}], "overhead": None}})
    assert (pod.containers[0].requests, pod.overhead, pod.annotations, pod.requests) == ({}, {}, {}, None)


def test_quantities_may_be_numbers() -> None:
    pod = parse_pod(with_requests(cpu=1.5, memory=1024))
    assert pod.containers[0].requests == amounts({"cpu": "1500m", "memory": "1Ki"})


def test_what_is_remembered_of_an_amount_is_no_other_amount() -> None:
    for _ in range(2):
        assert parse_pod(with_requests(memory="1Gi")).containers[0].requests == {"memory": 2**30 * NANO}
        with pytest.raises(InputError, match=r"\[hugepages-0\]: '1Gi': hugepages-0: the page size must be"):
            parse_pod(with_requests(hugepages_0="1Gi"))
        assert parse_pod(with_requests(cpu="1")).containers[0].requests == {"cpu": NANO}
        with pytest.raises(InputError, match=r"\[cpu\]: True: quantities must match"):
            parse_pod(with_requests(cpu=True))


def test_only_an_init_container_is_restartable() -> None:
    always = {"restartPolicy": "Always"}
    pod = parse_pod(
        a_pod(initContainers=[{"name": "a", **always}, {"name": "b"}], containers=[{"name": "c", **always}])
    )
    assert [c.restartable for c in (*pod.init_containers, *pod.containers)] == [True, False, False]


TEMPLATE = {"spec": {"containers": [CONTAINER]}}
KINDS = [
    ("v1", "PodTemplate", {"template": TEMPLATE}),
    ("v1", "ReplicationController", {"spec": {"template": TEMPLATE}}),
    ("apps/v1", "Deployment", {"spec": {"template": TEMPLATE}}),
    ("apps/v1", "ReplicaSet", {"spec": {"template": TEMPLATE}}),
    ("apps/v1", "StatefulSet", {"spec": {"template": TEMPLATE}}),
    ("apps/v1", "DaemonSet", {"spec": {"template": TEMPLATE}}),
    ("batch/v1", "Job", {"spec": {"template": TEMPLATE}}),
    ("batch/v1", "CronJob", {"spec": {"jobTemplate": {"spec": {"template": TEMPLATE}}}}),
]


@pytest.mark.parametrize(("version", "kind", "rest"), KINDS, ids=[row[1] for row in KINDS])
def test_every_kind_of_workload_gives_its_template(version: str, kind: str, rest: dict[str, Any]) -> None:
    assert find_template({"apiVersion": version, "kind": kind, **rest}) == TEMPLATE


def test_a_kind_of_another_group_holds_no_pod() -> None:
    assert find_template({"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "spec": {}}) is None


def test_a_workload_without_its_template_says_so() -> None:
    with pytest.raises(InputError) as caught:
        find_template({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {}})
    assert str(caught.value) == "spec.template: required, and missing"


def test_the_subject_takes_what_names_there_are() -> None:
    assert subject({"kind": "Pod", "metadata": {"generateName": "web-"}}) == Subject("Pod", "default", "web-")
    assert subject({"kind": "Job", "metadata": {"name": "a", "namespace": "b"}}) == Subject("Job", "b", "a")
    assert subject({"kind": "Job", "metadata": {"name": "a", "namespace": "b"}}, "c").namespace == "c"


def test_a_limit_range_gives_its_container_items_the_later_over_the_earlier() -> None:
    limits = [
        {"type": "Pod", "max": {"cpu": 9}},
        {"type": "Container", "default": {"cpu": 1}, "min": {"memory": "1Gi"}},
        {"type": "Container", "default": {"cpu": 2}},
    ]
    found = limit_range({"kind": "LimitRange", "spec": {"limits": limits}})
    assert found.default == amounts({"cpu": "2"})
    assert found.default_request == amounts({"cpu": "2", "memory": "1Gi"})
