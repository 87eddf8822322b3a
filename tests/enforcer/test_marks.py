"""Marks: read back exactly, and never more than what the intent asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from enforcer import marks
from shared.allocator import offer
from shared.cpuset import CpuSet
from shared.intent import Intent
from shared.ledger import Ledger
from shared.placement import Placement
from tests.enforcer.scenes import APP, NODE, PROXIED, SMALL, wish
from tests.support.machines import machine
from tests.support.storm import intents

LEDGER = Ledger.of(NODE, CpuSet.parse("0"))


def placed(intent: Intent, ledger: Ledger = LEDGER) -> Placement:
    place = offer(ledger, "uid", intent)
    assert isinstance(place, Placement)
    return place


MARK = (
    '{"accounts":[{"memory":1073741824,"node":0}],"bubble":"1-3","mems":[0],"numa":[0],"pod":"uid",'
    '"slices":{"app":"1-2"},"v":1}'
)


def test_what_a_mark_says() -> None:
    assert marks.write(placed(wish(PROXIED))) == MARK


def test_every_place_of_the_allocator_is_read_back_exactly() -> None:
    node = machine(4, 4, 2, hugepages={2**21: 512}, devices=[{"example.com/nic": 4}], isolated="30-31")
    ledger = Ledger.of(node)
    places = [
        place for intent in intents(node, 11, 400) if isinstance(place := offer(ledger, "uid", intent), Placement)
    ]
    assert len(places) > 150
    for place in places:
        if place.numa_nodes and place.intent.placement.value != "none":
            assert marks.read(marks.write(place), "uid", place.intent, ledger.layout) == place


def test_a_mark_of_another_pod_says_nothing() -> None:
    assert marks.read(MARK, "other", wish(PROXIED), LEDGER.layout) is None


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(MARK), **fields})


UNFIT = [
    ("more CPUs than were asked", changed(bubble="1-4", numa=[0, 1])),
    ("fewer CPUs than were asked", changed(bubble="1-2")),
    ("a slice outside the bubble", changed(slices={"app": "4-5"})),
    ("a slice that is too large", changed(slices={"app": "1-3"})),
    ("a slice of nobody", changed(slices={"app": "1-2", "rest": "3"})),
    ("no slice for the owner", changed(slices={})),
    ("CPUs of another NUMA node", changed(numa=[1])),
    ("two NUMA nodes for one", changed(bubble="2-4", slices={"app": "2-3"}, numa=[0, 1])),
    ("a NUMA node that is not there", changed(mems=[7])),
    ("a NUMA node twice", changed(numa=[0, 0])),
    ("no NUMA node", changed(numa=[], bubble="")),
    ("less memory on the books", changed(accounts=[{"node": 0, "memory": 1}])),
    ("no account", changed(accounts=[])),
    ("an account of no NUMA node", changed(accounts=[{"node": 9, "memory": 2**30}])),
    ("CPU of the node shared pool as well", changed(accounts=[{"node": 0, "memory": 2**30, "cpu": 500}])),
    ("devices that it did not ask for", changed(accounts=[{"node": 0, "memory": 2**30, "devices": {"a.b/c": 1}}])),
    ("a later version", changed(v=2)),
]


@pytest.mark.parametrize(("what", "text"), UNFIT, ids=[row[0] for row in UNFIT])
def test_a_mark_that_does_not_satisfy_the_intent_says_nothing(what: str, text: str) -> None:
    assert marks.read(text, "uid", wish(PROXIED), LEDGER.layout) is None


GARBAGE: list[str] = [
    "", "null", "[]", "{}", "3", '"text"', "{", "[" * 100_000, "NaN", MARK[:-1], MARK.replace("0", '"0"'),
    changed(bubble="0-99999999999"), changed(bubble=None), changed(bubble=[1]), changed(slices=[]),
    changed(numa="0"), changed(numa=[True]), changed(numa=[-1]), changed(mems=[[0]]), changed(accounts=[0]),
    changed(accounts=[{}]), changed(accounts=[{"node": 0, "memory": -1}]), changed(accounts=[{"node": 0, "pages": 1}]),
    changed(accounts=[{"node": 0, "memory": 1e300}]), changed(accounts=[{"node": 0, "pages": {"x": 1}}]),
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_says_nothing(text: str) -> None:
    assert marks.read(text, "uid", wish(PROXIED), LEDGER.layout) is None


BENT: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("half a core", lambda mark: mark.update(bubble="3-4", slices={"app": "3-4"})),
    ("an isolated CPU", lambda mark: mark.update(bubble="6-7", slices={"app": "6-7"})),
]


@pytest.mark.parametrize(("what", "bend"), BENT, ids=[row[0] for row in BENT])
def test_a_mark_keeps_to_what_the_policy_allows(what: str, bend: Callable[[dict[str, Any]], object]) -> None:
    ledger = Ledger.of(machine(1, 4, 2, isolated="6-7"))
    content = json.loads(marks.write(placed(wish(APP), ledger)))
    assert marks.read(json.dumps(content), "uid", wish(APP), ledger.layout) is not None
    bend(content)
    assert marks.read(json.dumps(content), "uid", wish(APP), ledger.layout) is None


def test_a_bound_pod_owns_no_cpus() -> None:
    content = json.loads(marks.write(placed(wish(SMALL))))
    assert marks.read(json.dumps({**content, "bubble": "1"}), "uid", wish(SMALL), LEDGER.layout) is None
    assert marks.read(json.dumps(content), "uid", wish(SMALL), LEDGER.layout) == placed(wish(SMALL))
