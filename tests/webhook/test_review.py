"""The door for reviews: what comes in, and what goes out."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from shared.errors import InputError
from tests.support.reviews import container, pod, request, review
from webhook.pod import parse_pod
from webhook.review import (
    LONGEST_MESSAGE,
    LONGEST_WARNING,
    MOST_WARNINGS,
    Answer,
    ReviewError,
    member,
    metadata,
    parse,
    pod_object,
    pod_template,
    reply,
    tidy,
)


def without(*keys: str, **changes: Any) -> bytes:
    content = review(pod())
    content["request"] = {key: v for key, v in {**content["request"], **changes}.items() if key not in keys}
    return json.dumps({key: v for key, v in content.items() if key not in keys}).encode()


BAD: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "the body is empty; expected an AdmissionReview of admission.k8s.io/v1 as JSON"),
    ("cut short", json.dumps(review(pod())).encode()[:-9], "the body is not JSON: input data was truncated"),
    ("no JSON", b"uid=7", "the body is not JSON: invalid character (byte 0)"),
    ("bad UTF-8", without(uid="§").replace(rb"\u00a7", b"\xa7"), "the body is not JSON: it is not UTF-8"),
    ("half a surrogate pair", without(uid="\ud800"), "the body is not JSON: unexpected end of escaped utf-16 "),
    ("a list", b"[]", "the body is no AdmissionReview: expected object, got array"),
    ("nothing in it", b"{}", "the body is no AdmissionReview: missing required field apiVersion"),
    ("no request", without("request"), "the body is no AdmissionReview: missing required field request"),
    ("no uid", without("uid"), "the body is no AdmissionReview: request: missing required field uid"),
    ("a uid that is a number", without(uid=7), "the body is no AdmissionReview: request.uid: expected str, got int"),
    ("a uid that is null", without(uid=None), "the body is no AdmissionReview: request.uid: expected str, got null"),
    ("an empty uid", without(uid=""), "request.uid has 0 characters; expected 1 to 256"),
    ("an endless uid", without(uid="x" * 257), "request.uid has 257 characters; expected 1 to 256"),
    (
        "an operation that is a list",
        without(operation=["CREATE"]),
        "the body is no AdmissionReview: request.operation: expected str, got array",
    ),
    (
        "an old version",
        json.dumps({**review(pod()), "apiVersion": "admission.k8s.io/v1beta1"}).encode(),
        "the body is an object AdmissionReview of admission.k8s.io/v1beta1; "
        "expected AdmissionReview of admission.k8s.io/v1",
    ),
    (
        "another kind",
        json.dumps({**review(pod()), "kind": "Pod\n"}).encode(),
        "the body is an object Pod  of admission.k8s.io/v1; expected AdmissionReview of admission.k8s.io/v1",
    ),
    ("brackets without end", b"[" * 10**6, "the body is no AdmissionReview: expected object, got array"),
    (
        "an object nested without end",
        without(object=None).replace(b'"object": null', b'"object": ' + b"[" * 10**5 + b"]" * 10**5),
        "the body is not JSON: it is nested too deeply",
    ),
]


@pytest.mark.parametrize(("what", "body", "said"), BAD, ids=[row[0] for row in BAD])
def test_what_is_no_review_is_refused_with_a_sentence(what: str, body: bytes, said: str) -> None:
    with pytest.raises(ReviewError) as refused:
        parse(body)
    assert str(refused.value).startswith(said) if said.endswith(" ") else str(refused.value) == said


def test_a_pod_shows_no_more_than_its_weight_can_depend_on() -> None:
    obj = pod(container(env=[{"name": "A", "value": "b"}]), managedFields=[{"manager": "kubectl"}], labels={"a": "b"})
    obj["spec"]["volumes"] = [{"name": "v"}]
    seen = pod_object(request(obj)).template
    assert seen["spec"] == {"containers": [{key: v for key, v in container().items() if key != "env"}]}
    assert parse_pod(seen) == parse_pod(obj)


def test_a_pod_with_everything_weighs_the_same_through_the_door() -> None:
    obj = pod(container("a", cpu="1"), container("b", cpu="500m"), annotations={"armistice.dev/sidecars": "b"})
    obj["spec"]["initContainers"] = [container("c", restartPolicy="Always")]
    obj["spec"]["resources"] = {"requests": {"cpu": "4"}}
    obj["spec"]["overhead"] = {"cpu": "250m"}
    assert parse_pod(pod_object(request(obj)).template) == parse_pod(obj)


ODD: list[tuple[str, dict[str, Any], str]] = [
    ("no metadata", {"apiVersion": "v1", "kind": "Pod", "spec": {}}, "missing required field metadata"),
    (
        "containers that are no list",
        pod() | {"spec": {"containers": "x"}},
        "spec.containers: expected array or null, got str",
    ),
    (
        "an annotation that is no text",
        pod(annotations={"a": 1}),
        "metadata.annotations[...]: expected str, got int",
    ),
]


@pytest.mark.parametrize(("what", "obj", "said"), ODD, ids=[row[0] for row in ODD])
def test_a_pod_that_cannot_be_read_is_still_a_review(what: str, obj: dict[str, Any], said: str) -> None:
    asked = request(obj)
    with pytest.raises(InputError) as error:
        pod_object(asked)
    assert (asked.uid, str(error.value)) == ("705ab4f5-6393-11e8-b7cc-42010a800002", said)


def test_of_objects_of_other_kinds_what_is_asked_for_is_read_and_the_rest_passed_over() -> None:
    app = {"name": "app", "image": "a:1", "env": [{"name": "x"}], "volumeMounts": [[[]]]}
    written = {
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"containers": [app], "volumes": 5},
    }
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": written}}
    asked = request(obj)
    assert metadata(asked.object).name == "web"
    raw = member(asked.object, ("spec", "template"))
    assert json.loads(bytes(raw)) == written
    seen = {"containers": [{"name": "app", "image": "a:1"}]}
    assert pod_template(raw) == {"metadata": {"annotations": {"c": "d"}}, "spec": seen}
    assert pod_template(member(request({"a": {}}).object, ("a",))) == {"metadata": {"annotations": None}, "spec": None}


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        ({}, "spec: required, and missing"),
        ({"spec": {}}, "spec.template: required, and missing"),
        ({"spec": {"template": None}}, "spec.template: required, and missing"),
        ({"spec": 5}, "expected object, got int"),
    ],
)
def test_what_is_not_there_is_named(obj: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        member(request(obj).object, ("spec", "template"))
    assert str(error.value) == said


def test_a_denial_says_what_kubectl_needs() -> None:
    answer = json.loads(reply("u", Answer(allowed=False, message="no\nroom", patch=b"[]", warnings=("w",))))
    assert answer == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": "u",
            "allowed": False,
            "status": {"code": 403, "reason": "Forbidden", "message": "no room"},
            "warnings": ["w"],
        },
    }


def test_patch_and_type_travel_together() -> None:
    response = json.loads(reply("u", Answer(patch=b'[{"op":"add"}]')))["response"]
    assert response == {"uid": "u", "allowed": True, "patchType": "JSONPatch", "patch": response["patch"]}
    assert base64.b64decode(response["patch"]) == b'[{"op":"add"}]'
    assert json.loads(reply("u", Answer()))["response"] == {"uid": "u", "allowed": True}


def test_audit_entries_are_short_enough() -> None:
    response = json.loads(reply("u", Answer(audit={"error": "x" * 9000})))["response"]
    assert len(response["auditAnnotations"]["error"]) == LONGEST_MESSAGE


WARNINGS = [
    ("control characters", ("a\nb\tc\x1b[31md",), ["a b c?[31md"]),
    ("the same twice", ("a", "a", "b"), ["a", "b"]),
    ("a long one", ("x" * 300,), ["x" * (LONGEST_WARNING - 3) + "..."]),
]


@pytest.mark.parametrize(("what", "given", "kept"), WARNINGS, ids=[row[0] for row in WARNINGS])
def test_warnings_survive_the_way(what: str, given: tuple[str, ...], kept: list[str]) -> None:
    assert tidy(given) == kept


def test_warnings_leave_room_for_those_of_others() -> None:
    kept = tidy(f"{number:03}" + "x" * 240 for number in range(50))
    assert sum(map(len, kept)) <= MOST_WARNINGS
    assert len(kept) == 16
