"""The model in numbers decides as the allocator and as the model of the kubelet do, pod by pod."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice

import pytest

from shared.allocator import offer
from shared.ledger import Ledger
from shared.placement import Placement
from shared.policy import Smt
from tests.bench.choice import BEST_FIT, IN_FORCE, RULES, Numa, lowest, places
from tests.bench.packing import LONGEST, MACHINES, kubelet_of, start
from tests.bench.pods import Drawn
from tests.support.kubelet import Asked, Kubelet

SEQUENCES = 3 * len(MACHINES)


def ours(ledger: Ledger, pods: list[Drawn]) -> list[int]:
    """The NUMA nodes that the allocator chooses, up to its first misfit."""
    found: list[int] = []
    for name, drawn in enumerate(pods):
        offered = offer(ledger, str(name), drawn.intent)
        if not isinstance(offered, Placement):
            break
        ledger = ledger.commit(offered)
        (node,) = offered.numa_nodes
        found.append(node)
    return found


def theirs(ledger: Ledger, smt: Smt, pods: list[Drawn]) -> list[int]:
    """The same of the kubelet's."""
    found: list[int] = []
    kubelet = kubelet_of(ledger, smt, never_empty=True)
    for name, drawn in enumerate(pods):
        after = kubelet.admit(str(name), drawn.asked)
        if not isinstance(after, Kubelet):
            break
        kubelet, node = after, after.pods[str(name)].node
        assert node is not None
        found.append(node)
    return found


@pytest.mark.parametrize("smt", [Smt.SHARE, Smt.FULL_CORES])
def test_the_rule_in_force_is_the_allocators_and_the_lowest_is_the_kubelets(smt: Smt) -> None:
    moved = 0
    for number in range(SEQUENCES):
        found, deck = start(MACHINES[number % len(MACHINES)], smt, True)
        ledger = replace(found, books=tuple(replace(book, devices={}) for book in found.books))
        pods = list(islice(deck.sequence(random.Random(f"test/{number}")), LONGEST))
        sites = ledger.layout.sites
        in_force, first = ([sites[n].id for n in places(ledger, rule, pods)] for rule in (RULES[IN_FORCE], lowest))
        assert in_force == ours(ledger, pods), f"sequence {number}"
        assert first == theirs(ledger, smt, pods), f"sequence {number}"
        moved += in_force != first
    assert moved, "both rules chose the same all along, which shows nothing"


def chosen(rule: str, *nodes: Numa, cpus: int = 4, memory: int = 10) -> int:
    """The place that a rule chooses for a pod."""
    asked = Asked(cpus * 1000, memory, {}, pinned=True, cpus=cpus)
    return RULES[rule](nodes, [node for node in nodes if node.holds(asked)], asked).place


def numa(place: int, cpus: int, memory: int) -> Numa:
    """What is left of 16 CPUs and 160 bytes."""
    return Numa(place, cpus, memory, {}, 16, 160)


@pytest.mark.parametrize(
    ("rule", "nodes", "place"),
    [
        (BEST_FIT, (numa(0, 8, 90), numa(1, 6, 90), numa(2, 6, 80)), 2),
        ("least product of the two shares left", (numa(0, 12, 20), numa(1, 6, 150)), 0),
        ("least of the smaller share left", (numa(0, 12, 60), numa(1, 8, 150)), 1),
        ("last CPUs", (numa(0, 8, 90), numa(1, 4, 30)), 1),
        ("last CPUs or last hundredth of memory", (numa(0, 8, 90), numa(1, 8, 11)), 1),
        ("last CPUs unless memory is short where it fits", (numa(0, 8, 70), numa(1, 4, 90)), 0),
        ("last CPUs unless memory is short where it fits", (numa(0, 3, 20), numa(1, 8, 90), numa(2, 4, 90)), 2),
        (IN_FORCE, (numa(0, 3, 20), numa(1, 8, 90), numa(2, 4, 90)), 1),
        (IN_FORCE, (numa(0, 8, 90), numa(1, 4, 30)), 1),
        (IN_FORCE, (numa(0, 8, 90), numa(1, 4, 90), numa(2, 4, 30)), 2),
        ("last 5 % of CPUs unless memory is short anywhere", (numa(0, 8, 90), numa(1, 4, 90)), 1),
        ("best fit unless memory is short anywhere", (numa(0, 8, 90), numa(1, 6, 90)), 1),
        ("best fit unless memory is short anywhere", (numa(0, 8, 70), numa(1, 6, 90)), 0),
    ],
)  # fmt: skip
def test_a_rule_chooses(rule: str, nodes: tuple[Numa, ...], place: int) -> None:
    assert chosen(rule, *nodes) == place
