"""Families: one question for many nodes, with the answer that asking each would give."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shared import catalogue
from shared.allocator import fits
from shared.intent import make
from shared.inventory import Inventory, Known
from shared.policy import Placing
from shared.topology import Machine
from tests.support.pods import even, pod, weighed

GIBIBYTE = 2**30
BASE = catalogue.machine("gcp-c3-highcpu-176")


def variant(number: int, *memory: int) -> Machine:
    """The base machine with other amounts of memory, in bytes, on its four NUMA nodes."""
    nodes = tuple(replace(node, memory=amount) for node, amount in zip(BASE.numa_nodes, memory, strict=True))
    return replace(BASE, name=f"node-{number}", numa_nodes=nodes)


def test_nodes_that_differ_in_memory_only_are_one_family() -> None:
    inventory = Inventory.of([variant(i, *[(80 + i) * GIBIBYTE] * 4) for i in range(100)])
    assert [[leader.name for leader in family.leaders] for family in inventory.families] == [["node-99"]]


def test_a_node_that_is_better_somewhere_leads_too() -> None:
    few, many = 60 * GIBIBYTE, 90 * GIBIBYTE
    inventory = Inventory.of([variant(0, many, few, few, few), variant(1, few, few, few, many)])
    assert sorted(leader.name for leader in inventory.families[0].leaders) == ["node-0", "node-1"]


def test_other_cpus_are_another_family() -> None:
    assert len(Inventory.of([BASE, catalogue.machine("dgx-h100")]).families) == 2


def test_an_empty_inventory_holds_nothing() -> None:
    inventory = Inventory.of([])
    assert (inventory.holder(make(weighed(pod(even("app", "1"))), Placing())), inventory.largest) == (None, None)


memories = st.lists(st.integers(1, 12), min_size=4, max_size=4)


@given(st.lists(memories, min_size=1, max_size=6), st.integers(1, 44), st.integers(1, 12))
def test_the_answer_is_that_of_asking_every_node(machines: list[list[int]], cpus: int, memory: int) -> None:
    inventory = Inventory.of([variant(i, *(m * GIBIBYTE for m in each)) for i, each in enumerate(machines)])
    intent = make(weighed(pod(even("app", str(cpus), f"{memory}Gi"))), Placing())
    holder = inventory.holder(intent)
    assert (holder is not None) == any(True for _ in inventory.holders(intent))
    assert holder is None or holder.name in set(inventory.holders(intent))
    assert (inventory.closest(intent) is None) == all(family.leaders[0].holds(intent) for family in inventory.families)


bounded = st.lists(st.tuples(memories, st.integers(1, 40)), min_size=1, max_size=6)
"""Nodes by the GiB of their four NUMA nodes, and the GiB that the scheduler gives of them."""


@given(bounded, st.integers(1, 44), st.integers(1, 44))
def test_what_the_scheduler_gives_of_a_node_is_a_bound_too(
    machines: list[tuple[list[int], int]], cpus: int, memory: int
) -> None:
    known = [
        Known.of(variant(i, *(m * GIBIBYTE for m in each)), allocatable={"cpu": 176_000, "memory": given * GIBIBYTE})
        for i, (each, given) in enumerate(machines)
    ]
    inventory = Inventory.holding(known)
    intent = make(weighed(pod(even("app", str(cpus), f"{memory}Gi"))), Placing())
    pairs = zip(known, machines, strict=True)
    holders = [each.name for each, (_, given) in pairs if memory <= given and fits(each.ledger, intent)]
    assert list(inventory.holders(intent)) == holders
    holder = inventory.holder(intent)
    assert holder.name in holders if holder else not holders
    closest = inventory.closest(intent)
    assert closest is not None or holders
    assert closest is None or any(closest.misfit.asked[r] > closest.misfit.found[r] for r in closest.misfit.asked)
