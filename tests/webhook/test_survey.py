"""What an admin is told about existing pods when a namespace becomes stricter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared import catalogue
from shared.policy import TopologyPolicy
from tests.support.reviews import Json, container, pod, request
from tests.webhook.test_admission import KEY, KEYS
from webhook.admission import Court, Phase, decide
from webhook.nodes import Fleet
from webhook.policy import Mode, NamespacePolicy, Rules, Uniform
from webhook.review import PodObject, pod_page
from webhook.survey import MOST_REASONS, Roll, Survey, Tightening, tightening
from webhook.verdict import Bench, never

BENCH = Bench(Fleet.whole([catalogue.machine("azure-nd96isr-h100-v5")]))
"""Two NUMA nodes of 48 CPUs each."""

SINGLE = NamespacePolicy(enforce=TopologyPolicy.SINGLE_NUMA_NODE, warn=TopologyPolicy.SINGLE_NUMA_NODE)


def court(mode: Mode = Mode.ENFORCE, **rules: Any) -> Court:
    return Court(Uniform(NamespacePolicy(), mode=mode), BENCH, KEY, KEYS, rules=Rules(**rules))


def namespace(name: str = "demo", **labels: str) -> Json:
    ours = {f"armistice.dev/{key.replace('_', '-')}": text for key, text in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": ours}}


def change(before: Json, after: Json, phase: Phase = Phase.VALIDATE, mode: Mode = Mode.ENFORCE) -> Tightening | None:
    asked = request(after, "UPDATE", namespace=after["metadata"]["name"], oldObject=before)
    return tightening(asked, phase, court(mode))


RESTRICTED, STRICT = "restricted", "single-numa-node"

CHANGES: list[tuple[str, Json, Json, str]] = [
    ("a first level", namespace(), namespace(enforce=RESTRICTED), "enforce=restricted"),
    ("a stricter one", namespace(enforce=RESTRICTED), namespace(enforce=STRICT), "enforce=single-numa-node"),
    ("what was warned of is now enforced", namespace(warn=STRICT), namespace(enforce=STRICT),
     "enforce=single-numa-node"),
    ("a mistyped level is the strictest", namespace(), namespace(enforce="x"), "enforce=single-numa-node"),
    ("a first warning", namespace(), namespace(warn=RESTRICTED), "warn=restricted"),
    ("a smaller share", namespace(enforce=RESTRICTED), namespace(enforce=RESTRICTED, max_sidecar_share="9"),
     "enforce=restricted"),
    ("another scope", namespace(enforce=STRICT, scope="container"), namespace(enforce=STRICT),
     "enforce=single-numa-node"),
    ("a looser level", namespace(enforce=STRICT), namespace(enforce=RESTRICTED), ""),
    ("the same level", namespace(enforce=STRICT), namespace(enforce=STRICT, isolation="cpuset"), ""),
    ("a larger share", namespace(enforce=STRICT, max_sidecar_share="5"), namespace(enforce=STRICT), ""),
    ("only an audit", namespace(), namespace(audit=STRICT), ""),
    ("none is no level", namespace(), namespace(enforce="none"), ""),
    ("an exempt namespace", namespace("kube-system"), namespace("kube-system", enforce=STRICT), ""),
]  # fmt: skip


@pytest.mark.parametrize(("what", "before", "after", "level"), CHANGES, ids=[row[0] for row in CHANGES])
def test_what_makes_a_namespace_stricter(what: str, before: Json, after: Json, level: str) -> None:
    found = change(before, after)
    assert (found.level if found else "") == level


def test_nothing_but_a_validated_update_of_a_namespace_is_looked_at() -> None:
    assert change(namespace(), namespace(enforce=STRICT), Phase.MUTATE) is None
    assert tightening(request(namespace(enforce=STRICT)), Phase.VALIDATE, court()) is None
    assert tightening(request(pod(), "UPDATE", oldObject=pod()), Phase.VALIDATE, court()) is None


def test_a_process_that_only_warns_tightens_only_warnings() -> None:
    found = change(namespace(), namespace(enforce=STRICT), mode=Mode.WARN)
    assert found is not None
    assert found.level == "warn=single-numa-node"


# Pods.


def running(name: str, *containers: Json, owner: str = "", node: str = "", **metadata: Any) -> PodObject:
    obj = pod(*containers, name=name, **metadata)
    if owner:
        obj["metadata"]["ownerReferences"] = [{"controller": True, "uid": owner}]
    if node:
        obj["spec"]["nodeName"] = node
    (found,) = pod_page(json.dumps({"metadata": {}, "items": [obj]}).encode()).pods
    return found


def surveyed(*pods: PodObject, steps: int = 10_000, total: int = 0, place: Court | None = None) -> tuple[str, ...]:
    """The warnings after so many steps."""
    survey = Survey(
        Tightening("demo", Mode.ENFORCE, SINGLE), place or court(), Roll(pods, len(pods), total or len(pods))
    )
    for number, _ in enumerate(survey.steps(), start=1):
        if number >= steps:
            break
    return survey.warnings()


HUGE, LARGE = container(cpu="60"), container(cpu="50")
TOO_HUGE = "too large, asks 60 CPUs, the roomiest NUMA node has 48 CPUs"
TOO_LARGE = "too large, asks 50 CPUs, the roomiest NUMA node has 48 CPUs"


def test_where_all_pods_keep_the_new_policy_nothing_is_said() -> None:
    assert surveyed() == surveyed(running("a")) == ()


def test_one_pod_that_breaks_it() -> None:
    assert surveyed(running("a", HUGE), running("b")) == (
        "namespace demo: 1 existing pod breaks its new policy enforce=single-numa-node; what runs keeps running",
        f"a: {TOO_HUGE}",
    )


def test_pods_are_grouped_by_reason_and_sorted() -> None:
    pods = [running(name, HUGE) for name in ("web-3", "web-1", "web-2")]
    assert surveyed(*pods, running("db", LARGE), running("api", LARGE)) == (
        "namespace demo: 5 existing pods break its new policy enforce=single-numa-node; what runs keeps running",
        f"api (and 1 other pod): {TOO_LARGE}",
        f"web-1 (and 2 other pods): {TOO_HUGE}",
    )


def test_one_pod_of_each_controller_comes_first_and_what_was_left_out_is_said() -> None:
    replicas = [running(f"web-{number}", owner="1") for number in range(3)]
    assert surveyed(*replicas, running("alone", HUGE), running("db-0", LARGE, owner="2"), steps=3) == (
        "namespace demo: only the first 3 of 5 existing pods were held against its new policy",
        "namespace demo: 2 existing pods break its new policy enforce=single-numa-node; what runs keeps running",
        f"alone: {TOO_HUGE}",
        f"db-0: {TOO_LARGE}",
    )


def test_pods_that_were_not_even_read_are_counted() -> None:
    assert surveyed(running("a"), total=5200) == (
        "namespace demo: only the first 1 of 5,200 existing pods were held against its new policy",
    )


def test_many_reasons_are_cut_short() -> None:
    pods = [running(f"pod-{number:02}", container(cpu=str(50 + number))) for number in range(MOST_REASONS + 3)]
    found = surveyed(*pods)
    assert len(found) == MOST_REASONS + 2
    assert found[-1] == "other pods break it for 3 more reasons"


def test_a_pod_is_judged_as_if_it_were_created_now_wherever_it_runs() -> None:
    assert surveyed(running("a", node="somewhere")) == ()


def test_pods_of_static_manifests_and_of_exempt_classes_are_left_alone() -> None:
    mirror = running("a", HUGE, annotations={"kubernetes.io/config.mirror": "x"})
    assert surveyed(mirror) == ()
    kata = pod(HUGE, name="b")
    kata["spec"]["runtimeClassName"] = "kata"
    (found,) = pod_page(json.dumps({"metadata": {}, "items": [kata]}).encode()).pods
    assert surveyed(found, place=court(runtime_classes=frozenset({"kata"}))) == ()
    assert len(surveyed(found)) == 2


def test_a_pod_that_cannot_be_weighed_is_named() -> None:
    assert surveyed(running("a", container(), container()))[1] == (
        'a: it cannot be weighed: container name "app": used twice; names are unique in a pod'
    )


def test_pods_that_cannot_be_listed_are_said() -> None:
    change = Tightening("demo", Mode.ENFORCE, SINGLE)
    survey = Survey(change, court(), Roll(complaint="the API server refuses to list them: 403 Forbidden"))
    assert list(survey.steps()) == []
    assert survey.warnings() == (
        "namespace demo: its pods were not held against its new policy enforce=single-numa-node: the API server "
        "refuses to list them: 403 Forbidden",
    )


def test_the_change_is_allowed_and_its_author_told() -> None:
    asked = request(namespace(enforce=STRICT), "UPDATE", namespace="demo", oldObject=namespace())
    decision = decide(asked, Phase.VALIDATE, court(), never, existing=("about pods",))
    assert (decision.answer.allowed, decision.answer.warnings) == (True, ("about pods",))


# Reading.


def test_pods_that_have_ended_are_counted_as_read_and_not_kept() -> None:
    items = [{**pod(name=phase.lower()), "status": {"phase": phase}} for phase in ("Running", "Succeeded", "Failed")]
    page = pod_page(json.dumps({"metadata": {"continue": "t", "remainingItemCount": 7}, "items": items}).encode())
    assert ([p.metadata.name for p in page.pods], page.read, page.remaining, page.token) == (["running"], 3, 7, "t")
    assert pod_page(b'{"metadata": {}, "items": null}').pods == ()
