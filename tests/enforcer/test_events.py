"""Events: what is told and what is held back, and what becomes of them while the API server is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import pytest

from enforcer.apiserver import ApiServer
from enforcer.effects import Reason, Tell
from enforcer.events import MOST_WAITING, PER_MINUTE, PER_POD, Events
from tests.support.api_server import Answer, Asked, FakeApiServer, api_server, at_work, status, until

NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, UTC)


def tell(text: str = "no room", uid: str = "u1", reason: Reason = Reason.NO_ROOM, name: str = "app-0") -> Tell:
    return Tell(uid, "team", name, reason, text)


class Clock:
    """Seconds that pass when a test says so."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


# --- what is held back ------------------------------------------------------------------------------------------------


def test_the_same_is_told_again_after_five_minutes_only() -> None:
    clock = Clock()
    events = Events(None, "worker-1", clock)
    assert events.tell(tell())
    clock.time = 299.9
    assert not events.tell(tell())
    clock.time = 300.0
    assert events.tell(tell())


DIFFERENT = [
    ("other words", tell("no room, 3 CPUs")),
    ("another reason", tell(reason=Reason.DRIFT)),
    ("another pod", tell(uid="u2")),
]


@pytest.mark.parametrize(("case", "other"), DIFFERENT, ids=[case for case, _ in DIFFERENT])
def test_something_else_is_told_at_once(case: str, other: Tell) -> None:
    events = Events(None, "worker-1", Clock())
    assert events.tell(tell())
    assert events.tell(other)


def test_one_pod_cannot_flood_whatever_its_words() -> None:
    clock = Clock()
    events = Events(None, "worker-1", clock)
    assert [events.tell(tell(str(number))) for number in range(PER_POD + 1)] == [True] * PER_POD + [False]
    assert events.tell(tell(uid="u2"))
    clock.time = 300.0
    assert events.tell(tell("later"))


def test_one_node_cannot_flood_whatever_its_pods() -> None:
    clock = Clock()
    events = Events(None, "worker-1", clock)
    told = [events.tell(tell(uid=str(number))) for number in range(PER_MINUTE + 1)]
    assert told == [True] * PER_MINUTE + [False]
    clock.time = 60.0
    assert events.tell(tell(uid=str(PER_MINUTE)))


# --- what reaches the API server --------------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeApiServer]:
    with api_server(tmp_path) as found:
        yield found


@asynccontextmanager
async def running(fake: FakeApiServer) -> AsyncIterator[Events]:
    api = ApiServer(fake.access())
    events = Events(api, "worker-1", Clock(), lambda: NOON)
    with closing(api):
        async with at_work(events.run()):
            yield events


async def test_an_event_reads_as_the_kubelets_do(fake: FakeApiServer) -> None:
    async with running(fake) as events:
        events.tell(tell())
        await until(lambda: bool(fake.asked))
    asked = fake.asked[0]
    assert (asked.method, asked.path) == ("POST", "/api/v1/namespaces/team/events")
    assert asked.body == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "team", "name": f"app-0.{int(NOON.timestamp() * 1e6):016x}"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "team", "name": "app-0", "uid": "u1"},
        "type": "Warning",
        "reason": "TopologyNoRoom",
        "message": "no room",
        "source": {"component": "armistice-enforcer", "host": "worker-1"},
        "reportingComponent": "armistice-enforcer",
        "reportingInstance": "worker-1",
        "firstTimestamp": "2026-01-02T12:00:00Z",
        "lastTimestamp": "2026-01-02T12:00:00Z",
        "count": 1,
    }


async def test_names_and_words_are_cut_to_what_the_api_server_takes(fake: FakeApiServer) -> None:
    async with running(fake) as events:
        events.tell(tell("x" * 2000, name="a" * 253))
        await until(lambda: bool(fake.asked))
    body = fake.asked[0].body
    assert len(body["metadata"]["name"]) == 253
    assert (len(body["message"]), body["message"][-4:]) == (1024, "x...")


async def test_two_events_at_one_moment_have_two_names(fake: FakeApiServer) -> None:
    async with running(fake) as events:
        events.tell(tell("one"))
        events.tell(tell("two"))
        await until(lambda: len(fake.asked) == 2)
    assert len({asked.body["metadata"]["name"] for asked in fake.asked}) == 2


async def test_after_an_outage_what_waited_is_sent_in_order(fake: FakeApiServer) -> None:
    fake.answer = lambda asked: status(503, "busy")
    async with running(fake) as events:
        events.tell(tell("one"))
        events.tell(tell("two"))
        await until(lambda: bool(fake.asked))
        fake.answer = lambda asked: (201, {})
        await until(lambda: len(fake.asked) == 3)
    assert [asked.body["message"] for asked in fake.asked] == ["one", "one", "two"]
    assert len({asked.body["metadata"]["name"] for asked in fake.asked}) == 2


FINAL: list[tuple[str, Answer, int]] = [
    ("the namespace is gone", status(404, "not found"), 1),
    ("we may not", status(403, "forbidden"), 1),
    ("it has been taken before", status(409, "already exists"), 0),
]


@pytest.mark.parametrize(("case", "answer", "dropped"), FINAL, ids=[case for case, *_ in FINAL])
async def test_what_the_api_server_says_for_good_ends_the_event(
    case: str, answer: Answer, dropped: int, fake: FakeApiServer
) -> None:
    fake.answer = lambda asked: answer
    async with running(fake) as events:
        events.tell(tell("one"))
        events.tell(tell("two"))
        await until(lambda: len(fake.asked) == 2)
        await until(lambda: events.dropped == 2 * dropped)
    assert [asked.body["message"] for asked in fake.asked] == ["one", "two"]


def test_while_it_is_away_the_newest_are_kept(fake: FakeApiServer) -> None:
    clock = Clock()
    events = Events(ApiServer(fake.access()), "worker-1", clock, lambda: NOON)
    for number in range(MOST_WAITING + 5):
        clock.time += 1
        assert events.tell(tell(uid=str(number)))
    assert events.dropped == 5
    fake.answer = lambda asked: (201, {})
    asyncio.run(events.drain(60))
    assert [asked.body["involvedObject"]["uid"] for asked in fake.asked][:1] == ["5"]
    assert len(fake.asked) == MOST_WAITING


async def test_at_the_end_what_waits_is_sent_for_a_while_only(fake: FakeApiServer) -> None:
    def slow_at_last(asked: Asked) -> Answer:
        fake.wait = 3.0 if asked.body["message"] == "two" else 0.0
        return 201, {}

    fake.answer = slow_at_last
    events = Events(ApiServer(fake.access()), "worker-1", Clock(), lambda: NOON)
    for text in ("one", "two", "three"):
        events.tell(tell(text))
    began = monotonic()
    await events.drain(1.0)
    assert monotonic() - began < 2.5
    assert [asked.body["message"] for asked in fake.asked] == ["one", "two"]
