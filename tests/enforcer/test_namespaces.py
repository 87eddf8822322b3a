"""Whether namespaces enforce: labels, how long an answer is believed, and outages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enforcer.apiserver import ApiServer
from enforcer.namespaces import Namespaces, enforces
from tests.support.api_server import Answer, FakeApiServer, api_server, status

LABELS: list[tuple[str, Any, bool]] = [
    ("no labels", None, False),
    ("other labels", {"a": "b"}, False),
    ("enforcing nothing", {"armistice.dev/enforce": "none"}, False),
    ("enforcing", {"armistice.dev/enforce": "single-numa-node"}, True),
    ("enforcing a little", {"armistice.dev/enforce": "best-effort"}, True),
    ("a mistyped value is the stricter", {"armistice.dev/enforce": "singel"}, True),
    ("an empty value is a mistyped one", {"armistice.dev/enforce": ""}, True),
    ("only warned", {"armistice.dev/warn": "restricted"}, False),
]


@pytest.mark.parametrize(("case", "labels", "expected"), LABELS, ids=[case for case, *_ in LABELS])
def test_a_label_says_whether_the_namespace_enforces(case: str, labels: Any, expected: bool) -> None:
    assert enforces({"metadata": {"name": "a", "labels": labels}}) is expected


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeApiServer]:
    with api_server(tmp_path) as found:
        yield found


ENFORCING: Answer = (200, {"metadata": {"labels": {"armistice.dev/enforce": "restricted"}}})


async def test_an_answer_is_believed_for_a_minute(fake: FakeApiServer) -> None:
    time = [0.0]
    namespaces = Namespaces(ApiServer(fake.access()), lambda: time[0])
    fake.answer = lambda asked: ENFORCING
    assert await namespaces.ask("a") is True
    fake.answer = lambda asked: (200, {"metadata": {}})
    time[0] = 59.9
    assert await namespaces.ask("a") is True
    time[0] = 60.0
    assert await namespaces.ask("a") is False
    assert [asked.path for asked in fake.asked] == ["/api/v1/namespaces/a"] * 2


async def test_while_nobody_answers_it_is_unknown_and_not_asked_at_every_turn(fake: FakeApiServer) -> None:
    time = [0.0]
    namespaces = Namespaces(ApiServer(fake.access()), lambda: time[0])
    fake.answer = lambda asked: status(503, "busy")
    assert await namespaces.ask("a") is None
    fake.answer = lambda asked: ENFORCING
    time[0] = 4.9
    assert await namespaces.ask("a") is None
    time[0] = 5.0
    assert await namespaces.ask("a") is True


async def test_without_a_cluster_it_stays_unknown() -> None:
    assert await Namespaces(None).ask("a") is None
