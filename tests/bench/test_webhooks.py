"""What the sections ``webhooks`` and ``create`` count as an answer, and how they count."""

from __future__ import annotations

import argparse
import base64
import json
from dataclasses import asdict
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from e2e.lab.load import Failure, Made, Report
from tests.bench.admission import whole
from tests.bench.create import figures
from tests.bench.creations import WARM_UP, Turn, by_round, observed, take_turns, turn
from tests.bench.webhooks import allows, echoes, warns, writes

ASKED: dict[str, Any] = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": "one"}}
WARNED = ['would violate PodSecurity "restricted:latest": runAsNonRoot != true']


def answer(patch: list[dict[str, Any]] | None = None, **response: Any) -> dict[str, Any]:
    """One that allows, with a patch."""
    coded = {} if patch is None else {"patch": base64.b64encode(json.dumps(patch).encode()).decode()}
    return {**ASKED, "response": {"uid": "one", "allowed": True, **coded, **response}}


ADDED = [{"op": "add", "path": "/metadata/annotations/a.dev~1intent", "value": "x"}]

ANSWERS = [
    ("the same bytes are an echo", echoes, ASKED, True),
    ("an answer is no echo", echoes, answer(), False),
    ("an answer allows", allows, answer(), True),
    ("an echo allows nothing", allows, ASKED, False),
    ("nothing allows nothing", allows, {}, False),
    ("who answers another review allows nothing", allows, answer(uid="two"), False),
    ("a refusal does not allow", allows, answer(allowed=False), False),
    ("a response without its review allows nothing", allows, {"response": answer()["response"]}, False),
    ("a warning of the policy is one", warns, answer(warnings=WARNED), True),
    ("another warning is not", warns, answer(warnings=["unknown field"]), False),
    ("a refusal with the warning is not", warns, answer(warnings=WARNED, allowed=False), False),
    ("a patch writes its annotation", writes("a.dev/intent"), answer(ADDED), True),
    ("and no other", writes("a.dev/other"), answer(ADDED), False),
    ("without a patch nothing is written", writes("a.dev/intent"), answer(), False),
    ("a refusal writes nothing", writes("a.dev/intent"), answer(ADDED, allowed=False), False),
]


@pytest.mark.parametrize(("proof", "answered", "wanted"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_a_server_has_to_have_done_its_work(proof: Any, answered: dict[str, Any], wanted: bool) -> None:
    assert proof(ASKED, answered) is wanted


@pytest.mark.parametrize(
    "sent",
    [
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":0}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n3\r\n0}\n\r\n0\r\n\r\n',
    ],
    ids=["by its length", "by its last chunk"],
)
def test_an_answer_is_whole_at_its_last_byte_and_not_before(sent: bytes) -> None:
    assert [end for end in range(len(sent) + 1) if whole(sent[:end])] == [len(sent)]


def report(made: int, *refused: Failure) -> Report:
    """Pods that took 1 ms, 2 ms, ...; every other one has an intent."""
    pods = tuple(Made("a", f"p{n}", 0.0, n / 1000, 0.0, "sealed" * (n % 2)) for n in range(1, made + 1))
    return Report(1.0, (), pods, refused, ())


def test_percentiles_lie_between_the_pods_that_they_part() -> None:
    found = turn(8, "a", report(100), {"admit": (50, 1.0), "validating": (3, 4.0)}, OBSERVED)
    assert (found.clients, found.namespace, found.sealed) == (8, "a", 50)
    assert found.p50 == pytest.approx(50.5)
    assert found.p99 == pytest.approx(99.01)


OBSERVED = {"admit": (150, 2.0), "validating": (3, 4.0)}
"""Calls so far, and their seconds: 100 calls of 10 ms since it was 50 and 1 s."""


def test_calls_are_those_of_the_turn() -> None:
    assert turn(8, "a", report(100), {"admit": (50, 1.0), "validating": (3, 4.0)}, OBSERVED).calls == {"admit": 10.0}
    assert turn(8, "a", report(150), {"validating": (3, 4.0)}, OBSERVED).calls == {"admit": pytest.approx(2000 / 150)}


def test_a_webhook_that_was_not_called_for_each_pod_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match=r"^100 calls \(admit\) for 99 pods in a$"):
        turn(8, "a", report(99), {"admit": (50, 1.0), "validating": (3, 4.0)}, OBSERVED)


METRICS = """\
# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",type="admit",le="0.005"} 7
apiserver_admission_webhook_admission_duration_seconds_sum{name="a",operation="UPDATE",type="admit"} 2
apiserver_admission_webhook_admission_duration_seconds_count{name="a",operation="UPDATE",type="admit"} 9
apiserver_admission_webhook_admission_duration_seconds_sum{name="b",operation="CREATE",rejected="true",type="admit"} 2
apiserver_admission_webhook_admission_duration_seconds_count{name="b",operation="CREATE",rejected="true",type="admit"} 1
apiserver_admission_webhook_admission_duration_seconds_sum{name="a",operation="CREATE",type="validating"} 2.5e-03
apiserver_admission_webhook_admission_duration_seconds_count{name="a",operation="CREATE",type="validating"} 4
apiserver_admission_step_admission_duration_seconds_sum{operation="CREATE",rejected="false",type="admit"} 77
"""


def test_the_metrics_are_added_up_by_type() -> None:
    assert observed(METRICS) == {"admit": (10, 4), "validating": (4, 0.0025)}


def test_a_refused_pod_is_no_measurement() -> None:
    refusal = Failure("a", "p9", 0.0, 500, "failed calling webhook")
    with pytest.raises(RuntimeError, match="1 of the pods in a were not simply stored; the first: failed calling"):
        turn(8, "a", report(10, refusal), {}, {})


def test_what_is_added_is_added_to_the_same_round() -> None:
    calls: dict[str, dict[str, float]] = {"a": {}, "b": {"admit": 1.5}}
    turns = [
        Turn(1, name, p50, 2 * p50, 0, calls[name])
        for p50s in ((5, 7), (50, 53))
        for name, p50 in zip("ab", p50s, strict=True)
    ]
    rounds = list(by_round([json.dumps(asdict(each)) for each in turns], 2))
    assert {figure.what: figure.rounds for figure in figures("1 client", ["none", "ours"], rounds)} == {
        "1 client: create pod, none, p50": (5, 50),
        "1 client: create pod, ours, p50": (7, 53),
        "1 client: added by ours, p50": (2, 3),
        "1 client: create pod, none, p99": (10, 100),
        "1 client: create pod, ours, p99": (14, 106),
        "1 client: added by ours, p99": (4, 6),
        "1 client: a mutating call to ours, mean": (1.5, 1.5),
    }


async def test_turns_go_round_and_every_pod_of_one_is_gone_before_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    there: dict[str, set[str]] = {"a": set(), "b": set()}
    story: list[tuple[str, int]] = []

    async def create(request: web.Request) -> web.Response:
        assert [space for space, pods in there.items() if pods] in ([], [request.match_info["space"]])
        name = (await request.json())["metadata"]["name"]
        assert name not in there[request.match_info["space"]]
        there[request.match_info["space"]].add(name)
        return web.json_response({"metadata": {"name": name}}, status=201)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=METRICS)

    async def delete(request: web.Request) -> web.Response:
        story.append((request.match_info["space"], len(there[request.match_info["space"]])))
        return web.json_response({})

    async def left(request: web.Request) -> web.Response:
        """A deletion takes a moment."""
        items = [{"metadata": {"name": name}} for name in there[request.match_info["space"]]]
        there[request.match_info["space"]].clear()
        return web.json_response({"items": items})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    pods = application.router.add_resource("/api/v1/namespaces/{space}/pods")
    pods.add_route("POST", create)
    pods.add_route("DELETE", delete)
    pods.add_route("GET", left)
    given = argparse.Namespace(namespaces="a,b", clients="4", pods=5, rounds=1, seconds=60)
    async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        await take_turns(session, given)
    assert story == [("a", WARM_UP), ("b", WARM_UP), ("a", 5), ("b", 5)]
    turns = [Turn(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert [(each.clients, each.namespace, each.sealed) for each in turns] == [(4, "a", 0), (4, "b", 0)]
