"""The lab's churn: what it asks for, and what it holds against an API server's answers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from e2e.lab.churn import TOO_LARGE, Ask, Churn, Kind, Said, ask, wrong
from e2e.lab.webhook import ENFORCE
from shared.seal import ANNOTATION

REFUSAL = f'Pod "x": asks {TOO_LARGE + 1} CPUs'


def test_of_sixty_requests_each_kind_of_namespace_gets_its_share_of_everything() -> None:
    asked = [ask(number) for number in range(60)]
    assert Counter(each.kind for each in asked) == dict.fromkeys(Kind, 20)
    assert Counter((each.kind, each.body["kind"], each.too_large) for each in asked) == {
        key: count
        for kind in Kind
        for key, count in (
            ((kind, "Pod", False), 16),
            ((kind, "Pod", True), 2),
            ((kind, "Deployment", False), 2),
        )
    }


def test_replicas_weigh_the_same_and_new_pods_like_no_other() -> None:
    specs = [json.dumps(ask(number).body["spec"]) for number in range(1000) if number % 10 != 8]
    seen = Counter(specs)
    assert sorted(seen.values(), reverse=True)[:4] == [125] * 4
    assert list(seen.values()).count(1) == 400


POD = {"kind": "Pod"}
RULES: list[tuple[str, Ask, Said, str]] = [
    ("a pod that fits gets an intent", Ask(Kind.ENFORCES, POD, False), Said(201, ANNOTATION, False), ""),
    (
        "or it is wrong",
        Ask(Kind.ENFORCES, POD, False),
        Said(201, "{}", False),
        "no intent was written",
    ),
    (
        "a pod that fits is refused",
        Ask(Kind.ENFORCES, POD, False),
        Said(403, "no", False),
        "success was due, and 403 came: no",
    ),
    ("nobody answers", Ask(Kind.PLAIN, POD, False), Said(0, "gone", False), "success was due, and 0 came: gone"),
    ("one that is too large is refused", Ask(Kind.ENFORCES, POD, True), Said(403, REFUSAL, False), ""),
    (
        "for another reason",
        Ask(Kind.ENFORCES, POD, True),
        Said(403, "quota", False),
        "the refusal does not say what was asked: quota",
    ),
    (
        "or it comes in",
        Ask(Kind.ENFORCES, POD, True),
        Said(201, ANNOTATION, False),
        f"refusal was due, and 201 came: {ANNOTATION}",
    ),
    ("where it is warned it comes in with a warning", Ask(Kind.WARNS, POD, True), Said(201, "{}", True), ""),
    ("or it is wrong there", Ask(Kind.WARNS, POD, True), Said(201, "{}", False), "no warning came"),
    ("a warning for nothing", Ask(Kind.WARNS, POD, False), Said(201, "{}", True), "a warning came"),
    ("where nobody asked nothing happens", Ask(Kind.PLAIN, POD, True), Said(201, "{}", False), ""),
    (
        "not even an intent",
        Ask(Kind.PLAIN, POD, False),
        Said(201, ANNOTATION, False),
        "an intent was written",
    ),
    (
        "a template is judged and not changed",
        Ask(Kind.ENFORCES, {"kind": "Deployment"}, False),
        Said(201, "", False),
        "",
    ),
]


@pytest.mark.parametrize(("asked", "said", "why"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_an_answer_is_right_or_wrong(asked: Ask, said: Said, why: str) -> None:
    assert wrong(asked, said) == why


Answer = Callable[[web.Request, dict[str, Any]], web.Response]


def as_it_should(request: web.Request, body: dict[str, Any]) -> web.Response:
    """An API server with the webhook."""
    kind, spec = request.match_info["namespace"], body["spec"].get("template", body)["spec"]
    large = any(one["resources"]["limits"]["cpu"] == str(TOO_LARGE) for one in spec["containers"])
    if large and kind == "enforces":
        return web.json_response({"message": REFUSAL}, status=403)
    sealed = {ANNOTATION: "{}"} if kind == "enforces" else {}
    headers = {"Warning": '299 - "too large"'} if large and kind == "warns" else {}
    return web.json_response({"metadata": {"annotations": sealed}}, status=201, headers=headers)


def without_a_webhook(request: web.Request, body: dict[str, Any]) -> web.Response:
    """One that takes everything as it is."""
    return web.json_response(body, status=201)


async def churned(answer: Answer) -> tuple[Churn, list[str]]:
    """A second of it against a server that answers so, and what the server was asked for besides."""
    besides: list[str] = []

    async def create(request: web.Request) -> web.Response:
        return answer(request, json.loads(await request.read()))

    async def other(request: web.Request) -> web.Response:
        body = await request.read()
        besides.append(f"{request.method} {request.path} {body.decode() if request.method == 'PATCH' else ''}".strip())
        return web.json_response({})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="armistice_tasks 7\narmistice_certificate_not_after_seconds 1e9\n")

    application = web.Application()
    application.router.add_post("/api/v1/namespaces/{namespace}/pods", create)
    application.router.add_post("/apis/apps/v1/namespaces/{namespace}/deployments", create)
    application.router.add_get("/metrics", metrics)
    application.router.add_route("*", "/{rest:.*}", other)
    async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        spaces, pages = {kind: kind.value for kind in Kind}, {"webhook-1": str(server.make_url("/metrics"))}
        churn = Churn(session, spaces, "shifting", "node1", pages, rate=200)
        asyncio.get_running_loop().call_later(1.0, churn.over.set)
        await asyncio.wait_for(churn.run(), 20)
    return churn, besides


async def test_a_second_against_an_api_server_that_answers_as_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    churn, besides = await churned(as_it_should)
    report = churn.report()
    assert (report["wrong"], report["complaints"]) == (0, [])
    assert churn.done["Pods asked"] > 8 * churn.done["Deployments asked"] > 0
    assert report["certificates"] == {"webhook-1": 1}
    assert json.loads(capsys.readouterr().out)["tasks"] == {"webhook-1": 7.0}
    assert sorted(besides) == sorted(
        [
            f"PATCH /api/v1/namespaces/shifting {json.dumps({'metadata': {'labels': {ENFORCE: 'single-numa-node'}}})}",
            "POST /api/v1/namespaces",
            'PATCH /api/v1/nodes/node1 {"metadata": {"labels": {"lab.armistice.dev/turn": "0"}}}',
            "DELETE /api/v1/namespaces/shifting-0",
        ]
    )


async def test_without_a_webhook_it_complains() -> None:
    churn, _ = await churned(without_a_webhook)
    assert churn.wrongs > 10
    assert len(churn.complaints) <= 20
    assert any("no intent was written" in text for text in churn.complaints)
    assert any("refusal was due, and 201 came" in text for text in churn.complaints)
