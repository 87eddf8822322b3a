"""The pods of one namespace from a stand-in API server: in pages, within a time, and each way of going wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from tests.support.cluster import NAMESPACES, Asked, Cluster, cluster, plain
from tests.support.reviews import pod
from webhook.cluster.pods import MOST, PAGE, read_pods
from webhook.survey import Roll

PATH = f"{NAMESPACES}/demo/pods"

Pages = Callable[[Asked], bytes | None]


@asynccontextmanager
async def answering(pages: Pages) -> AsyncIterator[Cluster]:
    async with cluster() as server:
        server.answer = pages
        yield server


async def roll(pages: Pages, seconds: float = 5.0) -> Roll:
    """What is read in the time."""
    async with answering(pages) as server, server.client() as api:
        return await read_pods(api, "demo", monotonic() + seconds)


def page(first: int, number: int, token: str = "", remaining: int = 0, phase: str = "Running") -> bytes:
    """A page of pods, with the number of those after it."""
    more: dict[str, Any] = {"continue": token, "remainingItemCount": remaining} if token else {}
    items = [{**pod(name=f"pod-{first + n}"), "status": {"phase": phase}} for n in range(number)]
    return plain(200, {"metadata": more, "items": items})


async def test_every_page_is_read() -> None:
    asked: list[Asked] = []

    def pages(query: Asked) -> bytes:
        asked.append(query)
        return page(2, 1) if "continue" in query.query else page(0, 2, "next", 1)

    found = await roll(pages)
    assert [each.metadata.name for each in found.pods] == ["pod-0", "pod-1", "pod-2"]
    assert (found.read, found.total, found.complaint) == (3, 3, "")
    assert [query.path for query in asked] == [PATH, PATH]
    assert [query.query for query in asked] == [{"limit": str(PAGE)}, {"limit": str(PAGE), "continue": "next"}]


async def test_pods_that_have_ended_are_read_and_left_out() -> None:
    found = await roll(lambda _: page(0, 3, phase="Succeeded"))
    assert (found.pods, found.read, found.total) == ((), 3, 3)


async def test_no_more_than_so_many_are_read_and_the_others_counted() -> None:
    found = await roll(lambda _: page(0, PAGE, "more", 2200), seconds=60)
    assert (found.read, found.total) == (MOST, MOST + 2200)


async def test_what_was_read_before_something_went_wrong_counts() -> None:
    gone = plain(410, {"kind": "Status", "reason": "Expired"})
    found = await roll(lambda asked: gone if "continue" in asked.query else page(0, 2, "next", 40))
    assert (len(found.pods), found.read, found.total, found.complaint) == (2, 2, 42, "")


BROKEN: list[tuple[str, bytes, str]] = [
    ("a refusal", plain(403, {}), "the API server refuses to list them: 403 Said"),
    ("no JSON", plain(200, b"<html>"), "the list of pods cannot be read: "),
    ("a list of something else", plain(200, {"metadata": {}, "items": [1]}), "the list of pods cannot be read: "),
]


@pytest.mark.parametrize(("what", "answer", "told"), BROKEN, ids=[row[0] for row in BROKEN])
async def test_what_goes_wrong_is_said(what: str, answer: bytes, told: str) -> None:
    found = await roll(lambda _: answer)
    assert (found.pods, found.read) == ((), 0)
    assert found.complaint.startswith(told)


async def test_an_api_server_that_is_not_there() -> None:
    async with cluster() as server, server.client() as api:
        await server.stop()
        found = await read_pods(api, "demo", monotonic() + 5)
    assert found.complaint


async def test_no_time_is_no_pods() -> None:
    found = await roll(lambda _: page(0, 1), seconds=-1)
    assert found == Roll(complaint="the API server did not list them in time")
