"""Which NUMA node takes a pod that several could hold: rules beside the one in force, on the sequences of ``packing``.

In numbers only: a NUMA node is its free CPUs, memory and huge pages, so that a rule is a few lines and 12,000 sequences
take two minutes. Devices are left out. ``test_choice`` holds the model to the allocator and to the model of the
kubelet, pod by pod. Each rule is counted against the kubelet's, the lowest NUMA node that holds the pod, and both keep
one CPU for the shared pool.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from shared.ledger import Ledger, Site
from shared.policy import Smt
from tests.bench.packing import LONGEST, MACHINES, SEQUENCES, start
from tests.bench.pods import Drawn
from tests.bench.report import Figure
from tests.support.kubelet import Asked

SEEDS = 6


@dataclass(slots=True)
class Numa:
    """What is left of a NUMA node."""

    place: int
    cpus: int
    memory: int
    pages: dict[int, int]
    """Huge page size to bytes."""
    all_cpus: int
    """Of the empty machine, as is the next."""
    all_memory: int

    def holds(self, asked: Asked) -> bool:
        """Whether it has room for all of the pod."""
        if self.cpus < asked.cpus or self.memory < asked.memory:
            return False
        return all(self.pages.get(size, 0) >= amount for size, amount in asked.pages.items())

    def take(self, asked: Asked) -> None:
        """Give the pod what it asks for."""
        self.cpus -= asked.cpus
        self.memory -= asked.memory
        for size, amount in asked.pages.items():
            self.pages[size] -= amount

    def rest(self, asked: Asked) -> tuple[float, float]:
        """The shares of its CPUs and memory that the pod would leave."""
        return (self.cpus - asked.cpus) / self.all_cpus, (self.memory - asked.memory) / self.all_memory

    @property
    def short(self) -> bool:
        """Whether more of its memory is given than of its CPUs."""
        return self.memory * self.all_cpus < self.cpus * self.all_memory


Nodes = Sequence[Numa]
"""In the order of their places."""

Rule = Callable[[Nodes, Nodes, Asked], Numa]
"""Chooses among those that hold the pod (the second), which are some of those that have a CPU left (the first)."""

Watch = Callable[[Nodes, Nodes], Nodes]
"""On which of the same two a shortage of memory speaks for the lowest instead."""


def nowhere(_: Nodes, __: Nodes) -> Nodes:
    """It never does."""
    return ()


def anywhere(some: Nodes, _: Nodes) -> Nodes:
    """On any."""
    return some


def where_it_fits(_: Nodes, holding: Nodes) -> Nodes:
    """On those that hold the pod."""
    return holding


def lowest(_: Nodes, holding: Nodes, __: Asked) -> Numa:
    """The kubelet's (KEP-693: the narrowest mask, then the lower one)."""
    return holding[0]


def least(measure: Callable[[Numa, Asked], object], watch: Watch = nowhere) -> Rule:
    """The one with the least of something; the lowest, where memory is short on another."""

    def choose(some: Nodes, holding: Nodes, asked: Asked) -> Numa:
        chosen = min(holding, key=lambda each: (measure(each, asked), each.place))
        return holding[0] if any(each.short for each in watch(some, holding) if each is not chosen) else chosen

    return choose


def last(ends: Callable[[Numa, Asked], bool], watch: Watch = nowhere) -> Rule:
    """The first that the pod uses up without memory being short on another; else the lowest."""

    def choose(some: Nodes, holding: Nodes, asked: Asked) -> Numa:
        short = [each for each in watch(some, holding) if each.short]
        chosen = (each for each in holding if ends(each, asked) and all(other is each for other in short))
        return next(chosen, holding[0])

    return choose


def cpus_end(each: Numa, asked: Asked) -> bool:
    """Whether the pod takes its last CPUs."""
    return each.cpus == asked.cpus


BEST_FIT = "least CPUs left, then least memory (best fit)"
IN_FORCE = "last CPUs unless memory is short anywhere (in force)"
"""What :func:`shared.rooms.best` does."""

RULES: Mapping[str, Rule] = {
    BEST_FIT: least(Numa.rest),
    "least product of the two shares left": least(lambda each, asked: math.prod(each.rest(asked))),
    "least of the smaller share left": least(lambda each, asked: min(each.rest(asked))),
    "last CPUs": last(cpus_end),
    "last CPUs or last hundredth of memory": last(
        lambda each, asked: cpus_end(each, asked) or each.rest(asked)[1] <= 0.01
    ),
    "last CPUs unless memory is short where it fits": last(cpus_end, where_it_fits),
    IN_FORCE: last(cpus_end, anywhere),
    "last 5 % of CPUs unless memory is short anywhere": last(lambda each, asked: each.rest(asked)[0] <= 0.05, anywhere),
    "best fit unless memory is short anywhere": least(Numa.rest, anywhere),
}
"""Where none of them has a reason to choose it is the lowest NUMA node that holds the pod."""


def measure(quick: bool) -> Iterator[Figure]:
    """Three rows for each rule; a round is all sequences of all seeds in both SMT modes."""
    seeds, count = (1, 100) if quick else (SEEDS, SEQUENCES)
    placed: dict[str, list[int]] = {name: [] for name in RULES}
    theirs: list[int] = []
    for smt in (Smt.SHARE, Smt.FULL_CORES):
        for seed in range(1, 1 + seeds):
            for number in range(count):
                ledger, deck = start(MACHINES[number % len(MACHINES)], smt, True)
                pods = list(islice(deck.sequence(random.Random(f"{seed}/{number}")), LONGEST))
                theirs.append(fill(ledger, lowest, pods))
                for name, rule in RULES.items():
                    placed[name].append(fill(ledger, rule, pods))
    unit, mean = f"of {len(theirs):,}", f"mean {sum(theirs) / len(theirs):.1f} pods"
    for name, found in placed.items():
        pairs = list(zip(found, theirs, strict=True))
        fewer, more = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
        yield Figure("choice", f"{name}: sequences with fewer pods than lowest first", unit, (fewer,))
        yield Figure("choice", f"{name}: sequences with more", unit, (more,))
        yield Figure("choice", f"{name}: pods placed, to lowest first", "x", (sum(found) / sum(theirs),), None, mean)


def fill(empty: Ledger, rule: Rule, pods: Sequence[Drawn]) -> int:
    """How many pods the rule places before the first misfit."""
    return sum(1 for _ in places(empty, rule, pods))


def places(empty: Ledger, rule: Rule, pods: Sequence[Drawn]) -> Iterator[int]:
    """The place of the NUMA node of each pod, up to the first misfit."""
    nodes = [_numa(empty, site) for site in empty.layout.with_cpus]
    free = empty.free.bit_count()
    for drawn in pods:
        asked = drawn.asked
        holding = [each for each in nodes if each.holds(asked)]
        if not holding or free <= asked.cpus:
            return
        chosen = rule([each for each in nodes if each.cpus], holding, asked)
        chosen.take(asked)
        free -= asked.cpus
        yield chosen.place


def _numa(empty: Ledger, site: Site) -> Numa:
    book = empty.books[site.place]
    cpus, memory = (empty.free & site.cpus).bit_count(), book.memory or 0
    pages = {size: size * count for size, count in book.pages.items()}
    return Numa(site.place, cpus, memory, pages, cpus, memory)
