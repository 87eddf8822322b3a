"""The lab's load: what it makes of an API server's answers, and what of none."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from e2e.lab.load import Load, Made, Report, gated
from shared.seal import ANNOTATION

Answer = Callable[[web.Request, int], web.StreamResponse]
"""What is answered to a creation, by the number of it."""


def stored(name: str, intent: str = "sealed") -> web.Response:
    return web.json_response({"metadata": {"name": name, "annotations": {ANNOTATION: intent}}}, status=201)


def refusal(status: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message}, status=status)


def hung_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def loaded(answer: Answer, pods: int, until: Path) -> Report:
    """A run against a server that answers so, and is ready always."""
    numbers: Iterator[int] = itertools.count(1)

    async def create(request: web.Request) -> web.StreamResponse:
        await request.read()
        return answer(request, next(numbers))

    async def found(request: web.Request) -> web.Response:
        return stored(request.match_info["name"], "found")

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.router.add_post("/api/v1/namespaces/one/pods", create)
    application.router.add_get("/api/v1/namespaces/one/pods/{name}", found)
    application.router.add_get("/readyz", ready)
    async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        return await asyncio.wait_for(Load(session, ["one"], pods, until, 200, 4).run(), 30)


CASES: list[tuple[str, Answer, tuple[int, int, int], str]] = [
    ("every pod is stored", lambda request, n: stored("x"), (3, 0, 0), ""),
    (
        "a webhook's refusal is final, and in its own words",
        lambda request, n: refusal(403, 'admission webhook "enforce" denied it') if n == 2 else stored("x"),
        (2, 1, 0),
        'admission webhook "enforce" denied it',
    ),
    (
        "a webhook that cannot be called is a refusal, whatever its status",
        lambda request, n: refusal(503, "failed calling webhook") if n == 1 else stored("x"),
        (2, 1, 0),
        "failed calling webhook",
    ),
    (
        "an API server that goes away is asked again",
        lambda request, n: refusal(503, "apiserver is shutting down") if n == 1 else stored("x"),
        (3, 0, 1),
        "apiserver is shutting down",
    ),
    (
        "one that hangs up, too",
        lambda request, n: hung_up(request) if n == 1 else stored("x"),
        (3, 0, 1),
        "ServerDisconnectedError: Server disconnected",
    ),
    (
        "a pod that an unanswered try has stored counts as stored",
        lambda request, n: refusal(409, 'pods "load-0" already exists') if n == 1 else stored("x"),
        (3, 0, 0),
        "",
    ),
]


@pytest.mark.parametrize(("what", "answer", "counts", "text"), CASES, ids=[case[0] for case in CASES])
async def test_answers(tmp_path: Path, what: str, answer: Answer, counts: tuple[int, int, int], text: str) -> None:
    (tmp_path / "done").touch()
    report = await loaded(answer, 3, tmp_path / "done")
    assert (len(report.made), len(report.refused), len(report.tried_again)) == counts
    assert [one.text for one in (*report.refused, *report.tried_again)] == ([text] if text else [])
    assert len(report.away) == counts[2]
    assert all(one.intent in ("sealed", "found") for one in report.made)


async def test_it_goes_on_until_it_is_told_that_all_has_happened(tmp_path: Path) -> None:
    done = tmp_path / "done"

    def answer(_: web.Request, number: int) -> web.StreamResponse:
        if number == 20:
            done.touch()
        return stored("x")

    assert 20 <= len((await loaded(answer, 3, done)).made) <= 24


def test_figures_are_of_the_time_with_an_api_server() -> None:
    made = tuple(Made("one", f"load-{n}", 0, n / 1000, 0, "") for n in range(1, 101))
    report = Report(30.0, ((5.0, 25.0),), made, (), ())
    assert report.rate == 10
    assert (report.percentile(0.5), report.percentile(0.99), report.percentile(1)) == (51.0, 100.0, 100.0)
    assert report.figures().startswith("100 pods at 10/s, p50 51.0 ms, p90 91.0 ms, p99 100.0 ms, max 100.0 ms, ")


def test_pods_differ_in_size_and_none_can_run() -> None:
    pods = [gated(f"load-{n}", 0, n) for n in range(15)]
    sizes = {str(pod["spec"]["containers"][0]["resources"]) for pod in pods}
    assert len(sizes) == 15
    assert all(pod["spec"]["schedulingGates"] for pod in pods)
