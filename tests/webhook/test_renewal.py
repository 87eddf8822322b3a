"""When a new fleet is made, and what happens when none can be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import count
from time import monotonic

import pytest

from shared.topology import Machine
from tests.support.cluster import node, topology
from webhook.following import View
from webhook.nodes import ClusterNode, Fleet
from webhook.policy import Rules
from webhook.renewal import Renewal

_prints = count()


def view(synced: bool = True) -> View:
    """One that knows of one node."""
    made = View(Rules())
    change(made, "n1")
    for pulse in made.pulses.values():
        pulse.synced = synced
    return made


def change(known: View, name: str, cpus: int = 4) -> None:
    known.nodes.put(node(name, cpus=2 * cpus), next(_prints))
    known.topologies.put(topology(name, cpus=cpus), next(_prints))


@asynccontextmanager
async def renewed(
    known: View, make: Callable[..., Fleet] = Fleet.of, pause: float = 0.01
) -> AsyncIterator[tuple[Renewal, list[Fleet]]]:
    fleets: list[Fleet] = []
    renewal = Renewal(known, fleets.append, make, pause)
    task = asyncio.create_task(renewal.run())
    try:
        yield renewal, fleets
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.002)


def names(fleet: Fleet) -> list[str]:
    return [known.name for known in fleet.everyone.known]


async def test_no_fleet_is_made_before_everything_was_read() -> None:
    known = view(synced=False)
    async with renewed(known) as (renewal, fleets):
        await asyncio.sleep(0.05)
        assert (fleets, renewal.unready()) == ([], known.unready())
        for pulse in known.pulses.values():
            pulse.synced = True
        assert renewal.unready() == "the cluster's nodes are being put in order"
        await until(lambda: len(fleets) == 1)
        assert (names(fleets[0]), renewal.unready()) == (["n1"], "")


async def test_a_change_makes_a_new_one_and_nothing_makes_none() -> None:
    known = view()
    async with renewed(known) as (_, fleets):
        await until(lambda: len(fleets) == 1)
        await asyncio.sleep(0.05)
        assert len(fleets) == 1
        change(known, "n2")
        await until(lambda: names(fleets[-1]) == ["n1", "n2"])
        known.nodes.drop("n1")
        await until(lambda: names(fleets[-1]) == ["n2"])


async def test_a_storm_of_changes_is_taken_together() -> None:
    known = view()
    async with renewed(known, pause=0.1) as (_, fleets):
        await until(lambda: len(fleets) == 1)
        began = monotonic()
        for number in range(100):
            change(known, f"n{number % 7}", cpus=4 + number % 3)
            await asyncio.sleep(0.003)
        await until(lambda: len(names(fleets[-1])) == 7)
        assert len(fleets) <= 3 + (monotonic() - began) / 0.1


async def test_where_none_can_be_made_the_one_before_stays_and_it_is_tried_again() -> None:
    known = view()
    broken = [False]

    def make(nodes: Iterable[ClusterNode], machines: Iterable[Machine], before: Fleet | None) -> Fleet:
        if broken[0]:
            broken[0] = False
            raise RuntimeError("it is a test")
        return Fleet.of(nodes, machines, before)

    async with renewed(known, make) as (renewal, fleets):
        await until(lambda: len(fleets) == 1)
        broken[0] = True
        change(known, "n2")
        await until(lambda: len(fleets) == 2)
        assert (names(fleets[-1]), renewal.unready()) == (["n1", "n2"], "")


async def test_a_topology_that_is_of_no_use_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "armistice.cluster")
    known = view()
    change(known, "n2", cpus=0)
    async with renewed(known) as (_, fleets):
        await until(lambda: len(fleets) == 1)
        change(known, "n3")
        await until(lambda: len(fleets) == 2)
        assert names(fleets[-1]) == ["n1", "n3"]
    told = "machine n2: reserving CPUs none leaves the node shared pool empty"
    assert caplog.messages == [f"a topology is of no use: {told}"]
