"""Whether those who say what is right can say that something is wrong: replies, machines and answers, doctored."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from shared.cpuset import CpuSet
from shared.topology import Machine
from tests.fuzz import demands, frames, intents, quantities, sysfs
from tests.fuzz.reckoning import amount, reckon
from tests.fuzz.replies import Json, Reader
from tests.fuzz.reviews import KEY, NODES, PLACINGS, Called, room
from tests.fuzz.target import WrongError
from tests.support.machines import machine
from tests.support.reviews import container, pod, review, sharing

READER = Reader(KEY.public_key(), room(*(name for name, _, _ in NODES.values())), PLACINGS)

POD = pod(container("app"), sharing("istio-proxy"), annotations={"a": "b"})
BODY = json.dumps(review(POD, namespace="strict")).encode()


@pytest.fixture(scope="module")
def reply() -> bytes:
    """An honest one."""
    status, answer = Called()("/mutate", BODY)
    assert status == 200
    assert READER.read("/mutate", True, BODY, status, answer)[0] == "Pod allowed patched"
    return answer


def patched(response: Json, change: Callable[[list[Json]], None]) -> None:
    """Another patch."""
    operations = json.loads(base64.b64decode(response["patch"]))
    change(operations)
    response["patch"] = base64.b64encode(json.dumps(operations).encode()).decode()


def forged(**fields: Any) -> Callable[[Json], None]:
    """An intent that says something else, signed well."""

    def change(operations: list[Json]) -> None:
        content = {**json.loads(operations[0]["value"]), **fields}
        operations[0]["value"] = intents._signed(content, KEY)

    return lambda response: patched(response, change)


def unsigned(operations: list[Json]) -> None:
    operations[0]["value"] = operations[0]["value"].replace('"bubble":3', '"bubble":4')


def labelled(operations: list[Json]) -> None:
    operations.append({"op": "add", "path": "/metadata/labels", "value": {}})


def another_annotation(operations: list[Json]) -> None:
    operations.append({"op": "add", "path": "/metadata/annotations/a", "value": "c"})


def removed(operations: list[Json]) -> None:
    operations[0]["op"] = "replace"


def denied(**status: Any) -> Callable[[Json], None]:
    def change(response: Json) -> None:
        del response["patch"], response["patchType"]
        response.update(allowed=False, status=status)

    return change


DOCTORED: list[tuple[str, Callable[[Json], None], str]] = [
    ("another uid", lambda r: r.update(uid="x"), "another uid"),
    ("no answer", lambda r: r.pop("allowed"), "no answer"),
    ("a field that no review has", lambda r: r.update(result=1), "no answer"),
    ("a patch without its type", lambda r: r.pop("patchType"), "a patch where none may be"),
    ("no patch", lambda r: [r.pop(key) for key in ("patch", "patchType")].clear(), "no intent"),
    ("a patch that changes labels", lambda r: patched(r, labelled), "a patch changes more than annotations"),
    ("a patch of somebody's annotation", lambda r: patched(r, another_annotation), "an annotation that is not ours"),
    ("a patch that may fail", lambda r: patched(r, removed), "a patch that may fail"),
    ("a patch of nothing", lambda r: patched(r, lambda operations: operations.clear()), "a patch of nothing"),
    ("an intent that was altered", lambda r: patched(r, unsigned), "a signature that does not hold"),
    ("another bubble", forged(bubble=4), "another bubble: 4, reckoned 3"),
    ("another demand", forged(demand={"cpu": 2500, "memory": 1}), "another demand"),
    ("another namespace", forged(ns="warned"), "another ns"),
    ("another pod", forged(pod="other"), "an intent for another pod"),
    ("a looser policy", forged(policy="none"), "another policy"),
    ("a denial without a reason", denied(code=403, reason="Forbidden", message=""), "a denial without a reason"),
    ("a warning with a line end", lambda r: r.update(warnings=["a\nb"]), "a warning that would be cut or lost"),
    ("a warning that is too long", lambda r: r.update(warnings=["x" * 257]), "a warning that would be cut or lost"),
    ("a warning twice", lambda r: r.update(warnings=["x", "x"]), "warnings that would be dropped"),
    ("an audit key with a slash", lambda r: r.update(auditAnnotations={"a/b": "c"}), "an audit entry"),
    ("a fault of ours", lambda r: r.update(warnings=["Armistice met a fault of its own"]), "a fault of the webhook's"),
]


@pytest.mark.parametrize(("what", "change", "kind"), DOCTORED, ids=[row[0] for row in DOCTORED])
def test_a_doctored_reply_is_seen(what: str, change: Callable[[Json], None], kind: str, reply: bytes) -> None:
    content = json.loads(reply)
    change(content["response"])
    with pytest.raises(WrongError) as caught:
        READER.read("/mutate", True, BODY, 200, json.dumps(content).encode())
    assert str(caught.value).startswith(kind)


def test_a_500_and_a_400_for_a_sound_review_are_seen() -> None:
    for status, answer, kind in ((500, b"x", "HTTP 500"), (400, b"the body is empty\n", "a 400 for a review")):
        with pytest.raises(WrongError, match=kind):
            READER.read("/mutate", True, BODY, status, answer)


def test_a_denial_where_nothing_is_enforced_is_seen(reply: bytes) -> None:
    content = json.loads(reply)
    denied(code=403, reason="Forbidden", message="Pod is too large")(content["response"])
    body = BODY.replace(b'"strict"', b'"warned"')
    with pytest.raises(WrongError, match="a denial where nothing is enforced"):
        READER.read("/mutate", True, body, 200, json.dumps(content).encode())


def test_a_reckoning_by_hand() -> None:
    made = pod(container("app", "4", "2Gi"), sharing("proxy", "1500m", "1Gi"))
    made["spec"]["initContainers"] = [
        container("side", "1", "1Gi", restartPolicy="Always"),
        container("init", "9", "1Gi"),
    ]
    made["spec"]["overhead"] = {"cpu": "250m"}
    found = reckon(made)
    assert (found.placement, [box.owns for box in found.boxes]) == ("exclusive", [1, 0, 4, 0])
    # CPU: the init container beside the sidecar, and the overhead; memory: all that stays.
    assert found.total == {"cpu": Fraction(41, 4), "memory": Fraction(4 * 2**30)}
    assert found.bubble == 11  # 1 owned, and 9.25 rounded up


AMOUNTS = [
    ("1.5Ki", 1536),
    ("1e3", 1000),
    ("100m", Fraction(1, 10)),
    ("0.1n", Fraction(1, 10**9)),
    (" 2 ", 2),
    (None, 0),
]


@pytest.mark.parametrize(("written", "expected"), AMOUNTS)
def test_an_amount_by_hand(written: object, expected: Fraction) -> None:
    assert amount(written) == expected


SOUND = machine(2, 4)

NO_MACHINES: list[tuple[str, Machine]] = [
    ("nothing online", replace(SOUND, online=CpuSet())),
    ("a CPU that is not there", replace(SOUND, cpus=CpuSet.parse("0-6"))),
    ("a CPU in no core", replace(SOUND, cores=SOUND.cores[1:])),
    ("a CPU in two NUMA nodes", replace(SOUND, numa_nodes=(SOUND.numa_nodes[0], replace(SOUND.numa_nodes[0], id=1)))),
    ("NUMA nodes out of order", replace(SOUND, numa_nodes=SOUND.numa_nodes[::-1])),
    ("no NUMA node", replace(SOUND, numa_nodes=(), distances=())),
    ("a row too few", replace(SOUND, distances=SOUND.distances[:1])),
    ("a distance below zero", replace(SOUND, distances=((10, -1), (20, 10)))),
    ("memory below zero", replace(SOUND, numa_nodes=(replace(SOUND.numa_nodes[0], memory=-1), SOUND.numa_nodes[1]))),
    ("no name", replace(SOUND, name="")),
]


@pytest.mark.parametrize(("what", "found"), NO_MACHINES, ids=[row[0] for row in NO_MACHINES])
def test_what_is_no_machine_is_seen(what: str, found: Machine) -> None:
    assert list(sysfs.consistent(SOUND)) == []
    assert list(sysfs.consistent(found)) != []


def test_an_answer_too_few_or_too_many_is_seen() -> None:
    call = frames._frame(2, bytes.fromhex("00000000 00000001 01 00"))
    answer = frames._frame(1, bytes.fromhex("00000000 00000003 02 00"))
    frames._check_answers(call + answer, frames.Ending([3]))
    for data in (
        call,
        call + answer * 2,
        answer,
        call + answer.replace(b"\x03", b"\x05"),
        call + frames._frame(1, b"\xff" * 10),
    ):
        with pytest.raises(WrongError):
            frames._check_answers(data, frames.Ending([3]))


def test_an_intent_that_the_key_did_not_sign_is_seen() -> None:
    text = intents.TEXTS[0]
    whose = intents.SEALED[text][1]
    intents._signed_for(text, whose.namespace, whose.name)
    for altered, name in ((text.replace('"v":1', '"v":2'), whose.name), (text, "other"), ("{}", whose.name)):
        with pytest.raises(WrongError):
            intents._signed_for(altered, whose.namespace, name)


def test_another_reading_of_a_quantity_or_a_pod_is_seen() -> None:
    assert quantities._compared(b'{"text":"1k"}', {"amount": ["1", -3]}) == "text: equal"
    for line, answer in ((b'{"text":"1k"}', {"amount": ["1", 0]}), (b'{"text":"1k"}', {"error": "no"})):
        with pytest.raises(WrongError, match="read differently"):
            quantities._compared(line, answer)
    line = json.dumps(pod()).encode()
    honest = {"requests": {"cpu": ["2", 0], "memory": [str(2**30), 0]}, "qos": "Guaranteed"}
    assert demands._compared(line, honest) == "equal, Guaranteed, exclusive"
    for told in ({**honest, "qos": "Burstable"}, {**honest, "requests": {"cpu": ["2", 0]}}, {"error": "no"}):
        with pytest.raises(WrongError):
            demands._compared(line, told)
