"""Following a stand-in API server on loopback: in order, and through each way of going wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import TypeVar

import pytest

from tests.support.api_server import at_work
from tests.support.cluster import (
    LIMIT_RANGES,
    NAMESPACES,
    NODES,
    TOPOLOGIES,
    Asked,
    Cluster,
    Manifest,
    cluster,
    limit_range,
    namespace,
    node,
    plain,
    topology,
)
from webhook.cluster.watching import Broken, Follower, Lines, Pace, follow
from webhook.following import Followed, Relist, Trouble, View, our_labels
from webhook.policy import Rules

T = TypeVar("T")

QUICK = Pace(first_pause=0.01, longest_pause=0.05, absent=0.02, short=0.0, patience=5.0, page=2, batch=1)
"""As in earnest, but nobody waits."""


@dataclass
class Scene:
    """An API server, and what is known of it."""

    server: Cluster
    view: View

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until it is so."""
        try:
            async with asyncio.timeout(10):
                while not true():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            pytest.fail(f"it never came true; known are {self.names()}, pulses {self.view.pulses}")

    def names(self, path: str = NAMESPACES) -> set[str]:
        """Whom the view knows."""
        return set(self.view.tables[FOLLOWED[path]].known)

    def knows(self, names: set[str]) -> bool:
        """Whether these are the namespaces that are known."""
        return self.names() == names

    def watches(self, path: str = NAMESPACES) -> list[str]:
        """The versions that watches were asked from."""
        return [asked.query["resourceVersion"] for asked in self.server.asked if asked.watch and asked.path == path]

    async def watched(self, path: str = NAMESPACES, times: int = 1) -> None:
        """Wait until so many watches were asked for."""
        await self.until(lambda: len(self.watches(path)) >= times)


FOLLOWED = {
    NAMESPACES: Followed.NAMESPACES,
    NODES: Followed.NODES,
    LIMIT_RANGES: Followed.LIMIT_RANGES,
    TOPOLOGIES: Followed.TOPOLOGIES,
}


@asynccontextmanager
async def scene(*names: str, pace: Pace = QUICK, synced: bool = True) -> AsyncIterator[Scene]:
    """A cluster with some namespaces, followed."""
    async with cluster() as server:
        server.put(NAMESPACES, *map(namespace, names))
        async with followed(server, pace, synced) as made:
            yield made


@asynccontextmanager
async def followed(server: Cluster, pace: Pace = QUICK, synced: bool = True) -> AsyncIterator[Scene]:
    """What a cluster lets us know."""
    made = Scene(server, View(Rules()))
    async with server.client() as api, at_work(follow(api, made.view, pace, lambda: 0.0)):
        if synced:
            await made.until(lambda: made.view.synced)
        yield made


# In order.


async def test_every_page_is_read() -> None:
    async with scene("a", "b", "c", "d", "e") as it:
        assert it.names() == {"a", "b", "c", "d", "e"}
        pages = [asked.query for asked in it.server.asked if asked.path == NAMESPACES and not asked.watch]
        tokens = [query.pop("continue", "").partition("-")[2] for query in pages]
        assert (tokens, pages) == (["", "2", "4"], [{"limit": "2"}] * 3)


async def test_what_comes_changes_and_goes_is_followed() -> None:
    async with scene("a", "b") as it:
        await it.watched()
        it.server.put(NAMESPACES, namespace("c"), namespace("a", enforce="restricted"))
        it.server.delete(NAMESPACES, "b")
        await it.until(lambda: it.names() == {"a", "c"})
        assert it.view.of("a").policy.enforce.value == "restricted"
        assert it.view.pulses[Followed.NAMESPACES].relists == {Relist.FIRST: 1}


async def test_all_four_resources_come_to_count() -> None:
    async with scene("a") as it:
        it.server.put(NODES, node("n1"))
        it.server.put(TOPOLOGIES, topology("n1"))
        it.server.put(LIMIT_RANGES, limit_range("a", "x", cpu="2"))
        await it.until(lambda: bool(it.names(NODES) and it.names(TOPOLOGIES) and it.names(LIMIT_RANGES)))
        (nodes, machines) = it.view.nodes_and_machines()
        assert (nodes[0].name, len(machines[0].numa_nodes)) == ("n1", 2)
        assert it.view.of("a").ranges[0].default == {"cpu": 2 * 10**9}


async def test_a_bookmark_moves_the_place_to_go_on_from() -> None:
    async with scene("a") as it:
        await it.watched()
        it.server.bookmark(NAMESPACES)
        version = str(it.server.version)
        it.server.put(NODES, node("n1"))
        await it.until(lambda: bool(it.names(NODES)))
        await it.server.hang_up()
        await it.watched(times=2)
        assert it.watches()[1] == version


async def test_a_watch_whose_time_is_over_goes_on_where_it_was() -> None:
    async with scene("a", pace=replace(QUICK, watch=1.0)) as it:
        await it.watched(times=2)
        it.server.put(NAMESPACES, namespace("b"))
        await it.until(lambda: it.names() == {"a", "b"})
        pulse = it.view.pulses[Followed.NAMESPACES]
        assert (sum(pulse.relists.values()), sum(pulse.troubles.values())) == (1, 0)


async def test_a_heartbeat_and_what_is_free_on_a_node_change_nothing() -> None:
    async with scene() as it:
        it.server.put(NODES, node("n1"))
        it.server.put(TOPOLOGIES, topology("n1"))
        await it.until(lambda: bool(it.names(NODES) and it.names(TOPOLOGIES)))
        before = it.view.fleet_version
        for beat in range(1, 20):
            it.server.put(NODES, node("n1", heartbeat=beat))
            it.server.put(TOPOLOGIES, topology("n1", free=beat % 5))
        it.server.put(NAMESPACES, namespace("last"))
        it.server.put(NODES, node("n2"))
        await it.until(lambda: "n2" in it.names(NODES))
        assert it.view.fleet_version == before + 1


async def test_it_is_read_as_a_whole_now_and_then() -> None:
    async with scene("a", "b", pace=replace(QUICK, resync=1.0)) as it:
        await it.watched()
        it.server.delete(NAMESPACES, "a", silently=True)
        it.server.put(NAMESPACES, namespace("c"), silently=True)
        await it.until(lambda: it.names() == {"b", "c"})
        assert it.view.pulses[Followed.NAMESPACES].relists[Relist.RESYNC] >= 1


# Going wrong.


async def test_a_version_that_is_gone_is_a_reason_to_read_anew() -> None:
    async with scene("a", "b") as it:
        await it.watched()
        it.server.delete(NAMESPACES, "a", silently=True)
        it.server.forget(NAMESPACES)
        await it.server.hang_up()
        await it.until(lambda: it.names() == {"b"})
        assert it.view.pulses[Followed.NAMESPACES].relists == {Relist.FIRST: 1, Relist.GONE: 1}


GONE = plain(410, {"kind": "Status", "code": 410})


async def test_a_list_whose_continuation_is_gone_begins_anew() -> None:
    async with cluster() as server:
        server.put(NAMESPACES, *map(namespace, "abcde"))
        server.answer = once(lambda asked: "continue" in asked.query, GONE)
        async with followed(server) as it:
            assert it.names() == set("abcde")


async def test_a_watch_refused_as_gone_begins_anew() -> None:
    async with scene("a") as it:
        await it.watched()
        it.server.answer = once(lambda asked: asked.watch and asked.path == NAMESPACES, GONE)
        await it.server.hang_up()
        await it.until(lambda: it.view.pulses[Followed.NAMESPACES].relists[Relist.GONE] == 1)


def once(which: Callable[[Asked], bool], answer: T) -> Callable[[Asked], T | None]:
    """An answer for the first request of a kind."""
    left = [answer]
    return lambda asked: left.pop() if left and which(asked) else None


async def test_a_stream_may_be_cut_at_any_byte() -> None:
    """Three events in one watch that breaks off after each possible number of bytes: nothing is lost, nothing taken
    for an event that is none, nothing read anew."""

    async with cluster() as server, server.client() as api:
        server.put(NAMESPACES, namespace("a"), namespace("b"))
        old = server.version
        server.put(NAMESPACES, namespace("a", warn="restricted"), namespace("c"))
        server.delete(NAMESPACES, "b")
        listed = plain(200, _listed(old, namespace("a"), namespace("b")))
        length = sum(len(happened.line) for happened in server.shelves[NAMESPACES].log if happened.version > old)
        for size in range(length + 1):
            it = Scene(server, View(Rules()))
            server.answer = once(lambda asked: not asked.watch, listed)
            server.cut = once(lambda asked: True, size)
            pace = replace(QUICK, first_pause=0.0)
            async with at_work(Follower(api, Followed.NAMESPACES, it.view, pace, lambda: 0.0).run()):
                await it.until(partial(it.knows, {"a", "c"}))
            pulse = it.view.pulses[Followed.NAMESPACES]
            assert (sum(pulse.relists.values()), len(it.view.namespaces.unreadable)) == (1, 0), size
            assert dict(it.view.namespaces.known)["a"] == (("armistice.dev/warn", "restricted"),), size


def _listed(version: int, *objects: Manifest) -> Manifest:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(objects)}


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

NONSENSE = [
    ("no JSON", b"hello\n"),
    ("JSON that is no event", b"[1]\n"),
    ("an event without an object", b'{"type": "ADDED"}\n'),
    (
        "an event of no known type",
        b'{"type": "MOVED", "object": {"metadata": {"name": "x", "resourceVersion": "1"}}}\n',
    ),
    ("an object without a name", b'{"type": "ADDED", "object": {}}\n'),
    ("an object without a version", b'{"type": "ADDED", "object": {"metadata": {"name": "a"}}}\n'),
    ("an object that is none", b'{"type": "ADDED", "object": 7}\n'),
    ("bytes that are no text", b'{"type": "ADDED", "object": {"metadata": {"name": "\xff\xfe"}}}\n'),
    ("a line without end", b"x" * 300),
]


@pytest.mark.parametrize(("what", "stream"), NONSENSE, ids=[row[0] for row in NONSENSE])
async def test_what_is_no_event_is_a_reason_to_read_anew(what: str, stream: bytes) -> None:
    async with scene("a", "b", pace=replace(QUICK, longest_line=200)) as it:
        await it.watched()
        it.server.delete(NAMESPACES, "b", silently=True)
        it.server.answer = once(lambda asked: asked.watch and asked.path == NAMESPACES, HEAD + stream)
        await it.server.hang_up()
        await it.until(lambda: it.names() == {"a"})
        assert it.view.pulses[Followed.NAMESPACES].relists[Relist.LOST] == 1


LISTS = [
    ("no JSON", plain(200, b"hello")),
    ("half a page", plain(200, b"x" * 90)[:-40]),
    ("a page without a version", plain(200, {"metadata": {}, "items": []})),
    ("a page without metadata", plain(200, {"items": []})),
    ("an item that is none", plain(200, {"metadata": {"resourceVersion": "1"}, "items": [3]})),
    ("503", plain(503, {"kind": "Status", "code": 503})),
    ("404, of what every API server knows", plain(404, {"kind": "Status", "code": 404})),
    ("nothing", b""),
    ("something else than HTTP", b"SSH-2.0-x\r\n"),
]


@pytest.mark.parametrize(("what", "answer"), LISTS, ids=[row[0] for row in LISTS])
async def test_a_list_that_cannot_be_used_is_asked_for_again(what: str, answer: bytes) -> None:
    async with cluster() as server:
        server.put(NAMESPACES, namespace("a"))
        server.answer = once(lambda asked: asked.path == NAMESPACES, answer)
        async with followed(server) as it:
            assert it.names() == {"a"}
            assert it.view.pulses[Followed.NAMESPACES].relists == {Relist.FIRST: 1}


async def test_an_outage_forgets_nothing_and_what_happened_meanwhile_is_learnt_after_it() -> None:
    async with scene("a", "b") as it:
        it.server.put(NODES, node("n1"))
        it.server.put(TOPOLOGIES, topology("n1"))
        await it.until(lambda: bool(it.names(NODES) and it.names(TOPOLOGIES)))
        await it.server.stop()
        pulses = it.view.pulses
        await it.until(lambda: all(pulse.troubles[Trouble.UNREACHABLE] > 3 for pulse in pulses.values()))
        assert (it.names(), it.names(NODES), it.names(TOPOLOGIES)) == ({"a", "b"}, {"n1"}, {"n1"})
        assert (it.view.synced, it.view.unready()) == (True, "")
        it.server.put(NAMESPACES, namespace("c"))
        it.server.delete(NAMESPACES, "a")
        await it.server.start()
        await it.until(lambda: it.names() == {"b", "c"})
        assert pulses[Followed.NAMESPACES].relists == {Relist.FIRST: 1}
        assert pulses[Followed.NAMESPACES].complaint == ""


async def test_a_review_of_an_unknown_namespace_ends_the_pause_after_an_outage() -> None:
    async with scene("a", pace=replace(QUICK, first_pause=0.05, longest_pause=60.0)) as it:
        await it.server.stop()
        await it.until(lambda: it.view.pulses[Followed.NAMESPACES].troubles[Trouble.UNREACHABLE] >= 5)  # pauses 0.8 s
        it.server.put(NAMESPACES, namespace("b"))
        await it.server.start()
        began = monotonic()
        await it.until(lambda: it.view.of("b").known)
        assert monotonic() - began < 0.4


async def test_a_watch_that_falls_silent_is_taken_for_dead() -> None:
    async with scene("a", pace=replace(QUICK, silence=0.1)) as it:
        await it.watched(times=3)
        assert it.view.pulses[Followed.NAMESPACES].troubles[Trouble.BROKEN] >= 2
        assert it.names() == {"a"}


async def test_a_watch_that_ends_as_soon_as_it_began_is_no_reason_to_run_in_circles() -> None:
    pace = replace(QUICK, short=1.0, first_pause=0.05, longest_pause=10.0)
    async with scene("a", pace=pace) as it:
        it.server.answer = lambda asked: HEAD if asked.watch else None
        await it.server.hang_up()
        await asyncio.sleep(1.0)
        assert 3 <= len(it.watches()) <= 8  # at 0, 0.05, 0.15, 0.35, 0.75 s


async def test_without_its_rights_it_is_not_ready_and_says_so() -> None:
    async with cluster() as server:
        server.answer = lambda asked: plain(403, {"kind": "Status", "code": 403}) if asked.path == NODES else None
        async with followed(server, synced=False) as it:
            await it.until(lambda: bool(it.view.pulses[Followed.NODES].troubles))
            await it.until(lambda: it.view.unready().startswith("the cluster's nodes are not read yet: "))
            host = f"http://127.0.0.1:{server.port}"
            assert it.view.unready() == f"the cluster's nodes are not read yet: {host} refuses: 403 Said"
            server.answer = lambda asked: None
            await it.until(lambda: it.view.synced)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_breaks_and_whenever_in_the_end_the_truth_is_known(seed: int) -> None:
    """Random changes while connections break off, streams are cut, versions are forgotten, the API server goes away."""
    chance = random.Random(seed)
    async with cluster() as server, followed(server, replace(QUICK, watch=2.0), synced=False) as it:
        for _ in range(150):
            await chance.choice((change, change, change, change, trouble))(server, chance)
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.02)))
        server.cut = lambda asked: None
        truth = {obj["metadata"]["name"]: our_labels(obj) for obj in server.shelves[NAMESPACES].objects.values()}
        nodes = {obj["metadata"]["name"] for obj in server.shelves[NODES].objects.values()}
        await it.until(lambda: it.view.namespaces.known == truth and it.names(NODES) == nodes)
        assert sum(pulse.troubles[Trouble.FAULT] for pulse in it.view.pulses.values()) == 0


async def change(server: Cluster, chance: random.Random) -> None:
    """Some namespace or node comes, changes or goes."""
    path, name = chance.choice((NAMESPACES, NODES)), f"x{chance.randrange(9)}"
    if json.dumps([None, name]) in server.shelves[path].objects and chance.random() < 0.4:
        server.delete(path, name)
    elif path == NODES:
        server.put(path, node(name, cpus=chance.randrange(1, 5)))
    else:
        server.put(path, namespace(name, warn=chance.choice(("none", "restricted", "best-effort"))))


async def trouble(server: Cluster, chance: random.Random) -> None:
    """Something breaks."""
    match chance.randrange(5):
        case 0:
            await server.hang_up()
        case 1:
            server.forget(chance.choice((NAMESPACES, NODES)))
            await server.hang_up()
        case 2:
            room = chance.randrange(500)
            server.cut = lambda asked: room
            await server.hang_up()
        case 3:
            server.bookmark(NAMESPACES)
        case 4:
            await server.stop()
            await asyncio.sleep(0.05)
            await server.start()


# A resource that need not be there.


async def test_a_crd_that_is_not_installed_is_no_error_and_found_once_it_is() -> None:
    async with cluster() as server:
        shelf = server.shelves.pop(TOPOLOGIES)
        async with followed(server) as it:
            pulse = it.view.pulses[Followed.TOPOLOGIES]
            assert (pulse.absent, sum(pulse.troubles.values()), it.view.unready()) == (True, 0, "")
            server.shelves[TOPOLOGIES] = shelf
            server.put(TOPOLOGIES, topology("n1"))
            await it.until(lambda: it.names(TOPOLOGIES) == {"n1"})
            assert not pulse.absent


async def test_a_crd_that_is_taken_away_takes_its_objects_along_but_not_at_the_first_404() -> None:
    async with cluster() as server:
        server.put(TOPOLOGIES, topology("n1"))
        async with followed(server, replace(QUICK, looks=3)) as it:
            missing = plain(404, {"kind": "Status", "code": 404})
            await it.watched(TOPOLOGIES)
            server.answer = once(lambda asked: asked.path == TOPOLOGIES, missing)
            await server.hang_up()
            await it.watched(TOPOLOGIES, times=3)
            assert it.names(TOPOLOGIES) == {"n1"}
            server.answer = lambda asked: missing if asked.path == TOPOLOGIES else None
            await server.hang_up()
            await it.until(lambda: it.names(TOPOLOGIES) == set())


async def test_a_topology_that_cannot_be_read_is_passed_over_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "armistice.cluster")
    async with cluster() as server:
        server.put(TOPOLOGIES, topology("n1"), {**topology("n2"), "zones": []}, {**topology("n3"), "zones": "x"})
        async with followed(server) as it:
            assert it.names(TOPOLOGIES) == {"n1"}
            assert set(it.view.topologies.unreadable) == {"n2", "n3"}
            server.put(TOPOLOGIES, topology("n2"))
            await it.until(lambda: it.names(TOPOLOGIES) == {"n1", "n2"})

    assert (
        "passed over, one of noderesourcetopologies: NodeResourceTopology n2: no zone of type Node called node-0 or "
        "the like, so it tells nothing of NUMA nodes"
    ) in caplog.messages


# Lines.


def test_a_stream_is_cut_into_lines_wherever_its_parts_end() -> None:
    stream = b"one\n\ntwo and a half\nrest"
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            lines = Lines(100)
            parts = stream[:first], stream[first:second], stream[second:]
            assert [line for part in parts for line in lines.feed(part)] == [b"one", b"", b"two and a half"]


def test_a_line_that_does_not_end_is_not_kept_for_ever() -> None:
    with pytest.raises(Broken, match="an event is longer than 10 bytes"):
        list(Lines(10).feed(json.dumps("x" * 20).encode()))
