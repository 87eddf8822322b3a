"""Named objects: nothing is overwritten that was not read before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.support.stored import Stored, stored
from webhook.certs import utc_now
from webhook.cluster.writing import (
    ClusterError,
    Conflict,
    Place,
    Writer,
    account,
    config_map,
    configuration,
    lease,
    secret,
)

PLACE = secret("armistice-ca", "armistice-system")
PATH = "/api/v1/namespaces/armistice-system/secrets/armistice-ca"

Json = dict[str, Any]


@pytest.fixture
async def server() -> AsyncIterator[Stored]:
    async with stored() as server:
        yield server


@pytest.fixture
async def writer(server: Stored) -> AsyncIterator[Writer]:
    async with server.client() as api:
        yield Writer(api, utc_now)


def adding(word: str) -> Any:
    """A change that puts a word among the fields, unless it is there."""

    def change(found: Json | None) -> Json | None:
        data = dict((found or {}).get("data") or {})
        return None if word in data else {**(found or PLACE.bare), "data": {**data, word: "x"}}

    return change


PLACES = [
    (PLACE, PATH, "Secret armistice-system/armistice-ca"),
    (config_map("a", "n"), "/api/v1/namespaces/n/configmaps/a", "ConfigMap n/a"),
    (account("a", "n"), "/api/v1/namespaces/n/serviceaccounts/a", "ServiceAccount n/a"),
    (lease("a", "n"), "/apis/coordination.k8s.io/v1/namespaces/n/leases/a", "Lease n/a"),
    (
        configuration("MutatingWebhookConfiguration", "zz-a"),
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-a",
        "MutatingWebhookConfiguration zz-a",
    ),
]


@pytest.mark.parametrize(("place", "path", "text"), PLACES, ids=[row[2] for row in PLACES])
def test_where_things_are(place: Place, path: str, text: str) -> None:
    assert (place.path, str(place)) == (path, text)


async def test_what_is_missing_is_made_and_what_is_there_is_changed_once(server: Stored, writer: Writer) -> None:
    conflicts: list[None] = []
    for word, wrote in (("one", True), ("two", True), ("two", False)):
        found, written = await writer.ensure(PLACE, adding(word), lambda: conflicts.append(None))
        assert found
        assert written is wrote
    assert server.objects[PATH]["data"] == {"one": "x", "two": "x"}
    assert server.written == [("POST", PATH.rpartition("/")[0]), ("PUT", PATH)]
    assert conflicts == []


OWNER = account("armistice-webhook", "armistice-system")


async def test_what_is_made_belongs_to_the_account_that_the_chart_brought(server: Stored) -> None:
    server.put(OWNER.path, {**OWNER.bare, "metadata": {"name": OWNER.name, "uid": "its uid"}})
    async with server.client() as api:
        await Writer(api, utc_now, OWNER).ensure(PLACE, adding("one"), lambda: None)
    named = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "armistice-webhook", "uid": "its uid"}
    assert server.objects[PATH]["metadata"]["ownerReferences"] == [named]


async def test_what_an_admin_made_belongs_to_nobody(server: Stored) -> None:
    server.put(OWNER.path, {**OWNER.bare, "metadata": {"name": OWNER.name, "uid": "its uid"}})
    server.put(PATH, PLACE.bare)
    async with server.client() as api:
        await Writer(api, utc_now, OWNER).ensure(PLACE, adding("one"), lambda: None)
    assert "ownerReferences" not in server.objects[PATH]["metadata"]


async def test_outside_a_chart_there_is_no_owner(server: Stored) -> None:
    async with server.client() as api:
        await Writer(api, utc_now, OWNER).ensure(PLACE, adding("one"), lambda: None)
    assert "ownerReferences" not in server.objects[PATH]["metadata"]


async def test_nothing_is_made_while_the_owner_cannot_be_read(server: Stored) -> None:
    server.refuse = lambda verb, path: 403 if path == OWNER.path else 0
    async with server.client() as api:
        with pytest.raises(
            ClusterError, match="refuses to read ServiceAccount armistice-system/armistice-webhook: 403"
        ):
            await Writer(api, utc_now, OWNER).ensure(PLACE, adding("one"), lambda: None)
    assert PATH not in server.objects


async def test_six_writers_at_once_lose_nothing(server: Stored) -> None:
    conflicts: list[None] = []
    async with server.client() as api:
        words = [f"word{number}" for number in range(6)]
        ensured = (Writer(api, utc_now).ensure(PLACE, adding(word), lambda: conflicts.append(None)) for word in words)
        await asyncio.gather(*ensured)
    assert sorted(server.objects[PATH]["data"]) == words
    assert len(conflicts) >= 5


async def test_who_is_always_second_gives_up_and_says_so(server: Stored, writer: Writer) -> None:
    server.put(PATH, PLACE.bare)

    def faster(verb: str, path: str) -> None:
        if verb == "PUT":
            server.put(PATH, server.objects[PATH])

    server.before = faster
    conflicts: list[None] = []
    with pytest.raises(Conflict) as error:
        await writer.ensure(PLACE, adding("one"), lambda: conflicts.append(None))
    assert str(error.value) == "Secret armistice-system/armistice-ca was changed by others 10 times in a row"
    assert len(conflicts) == 10


async def test_an_object_that_goes_while_it_is_changed_is_made_anew(server: Stored, writer: Writer) -> None:
    server.put(PATH, PLACE.bare)

    def gone(verb: str, path: str) -> None:
        if verb == "PUT" and server.asked.count(("PUT", PATH)) == 1:
            server.drop(PATH)

    server.before = gone
    await writer.ensure(PLACE, adding("one"), lambda: None)
    assert server.objects[PATH]["data"] == {"one": "x"}


async def test_a_patch_whose_test_fails_is_a_conflict(server: Stored, writer: Writer) -> None:
    server.put(PATH, {**PLACE.bare, "data": {"name": "b"}})
    with pytest.raises(Conflict):
        await writer.patch(PLACE, [{"op": "test", "path": "/data/name", "value": "a"}])
    await writer.patch(PLACE, [{"op": "add", "path": "/data/other", "value": "c"}])
    assert server.objects[PATH]["data"] == {"name": "b", "other": "c"}


async def test_a_refusal_names_object_and_reason(server: Stored, writer: Writer) -> None:
    server.refuse = lambda verb, path: 403
    with pytest.raises(ClusterError) as error:
        await writer.get(PLACE)
    assert error.value.forbidden
    said = "the API server refuses to read Secret armistice-system/armistice-ca: 403 refused by the test"
    assert str(error.value) == said


async def test_an_api_server_that_is_away_is_told(server: Stored, writer: Writer) -> None:
    await server.stop()
    with pytest.raises(ClusterError) as error:
        await writer.get(PLACE)
    lead = "the API server cannot be asked about Secret armistice-system/armistice-ca: Cannot connect to host"
    assert str(error.value).startswith(lead)
    await server.start()


async def test_the_clock_of_the_api_server_counts_where_ours_is_wrong(server: Stored) -> None:
    async with server.client() as api:
        for wrong, counts in ((timedelta(days=400), False), (timedelta(seconds=30), True), (timedelta(days=-9), False)):
            writer = Writer(api, lambda wrong=wrong: utc_now() + wrong)  # type: ignore[misc]
            assert abs(writer.now() - utc_now() - wrong) < timedelta(seconds=1)
            await writer.get(PLACE)
            off = wrong if counts else timedelta()
            assert abs(writer.now() - utc_now() - off) < timedelta(seconds=3)


async def test_a_clock_that_is_set_after_the_last_answer_is_not_believed_until_the_next_one(server: Stored) -> None:
    ahead = [timedelta()]
    async with server.client() as api:
        writer = Writer(api, lambda: utc_now() + ahead[-1])
        await writer.get(PLACE)
        for days in (31, -31, 0):
            ahead.append(timedelta(days=days))
            assert abs(writer.now() - utc_now()) < timedelta(seconds=3)


async def test_a_watch_tells_of_what_comes_changes_and_goes(server: Stored, writer: Writer) -> None:
    heard: list[None] = []

    async def watch() -> None:
        async for _ in writer.changes(PLACE):
            heard.append(None)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(watch())
        for number in range(3):
            await asyncio.sleep(0.05)
            server.drop(PATH) if number == 2 else server.put(PATH, PLACE.bare)
            while len(heard) <= number:
                await asyncio.sleep(0.01)
        task.cancel()
    assert len(heard) == 3
