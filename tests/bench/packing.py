"""Pods placed before the first misfit: ours against the model of the kubelet, on the same sequences of real pods.

What makes the two comparable is in ``README.md`` beside this file.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

from shared import catalogue
from shared.allocator import offer
from shared.cpuset import EMPTY
from shared.ledger import Ledger
from shared.placement import Placement
from shared.policy import Smt
from tests.bench.pods import Deck, Drawn
from tests.bench.report import Figure, Target
from tests.support.kubelet import Kubelet, Refusal
from tests.support.machines import GIB

MACHINES = (
    "aws-m7i.metal-48xl", "aws-c7i.metal-48xl", "aws-r8g.metal-48xl", "altramax-m128-2s", "epyc9654-2s-nps1",
    "gcp-c3-highcpu-176", "azure-hb176rs-v4", "mi300a-4s", "power10-s1022-smt8",
    "aws-hpc7a.96xlarge", "epyc9654-2s-nps4", "xeon8480-2s-snc4", "xeon8480-2s-snc4-dpdk", "dgx-a100",
)  # fmt: skip
"""Catalogue machines of 2, 4 and 8 NUMA nodes; the sequences take turns on them."""

SEQUENCES = 1000
LONGEST = 200
RESERVED_MEMORY = GIB


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compare."""

    name: str
    smt: Smt
    pin: bool = True
    """Whether both sides pin every pod; else the pods are as written, and a kubelet pins only Guaranteed ones."""
    never_empty: bool = True
    """Whether the kubelet keeps its shared pool from becoming empty, as we do."""
    seeds: int = 3


VARIANTS = (
    Variant("SMT shared", Smt.SHARE),
    Variant("full cores", Smt.FULL_CORES),
    Variant("SMT shared, kubelet's pool may become empty", Smt.SHARE, never_empty=False, seeds=1),
    Variant("full cores, kubelet's pool may become empty", Smt.FULL_CORES, never_empty=False, seeds=1),
    Variant("SMT shared, pods as written", Smt.SHARE, pin=False, seeds=1),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sequence on one machine."""

    ours: int
    theirs: int
    hole: int
    """CPUs free on our roomiest NUMA node when the first of the two could not go on."""
    their_hole: int


def measure(quick: bool) -> Iterator[Figure]:
    """Each variant's figures; a round is a seed."""
    count = 100 if quick else SEQUENCES
    for variant in VARIANTS:
        seeds = range(1, 2 if quick else 1 + variant.seeds)
        yield from _figures(variant, count, [outcomes(variant, seed, count) for seed in seeds])


def _figures(variant: Variant, count: int, runs: Sequence[Sequence[Outcome]]) -> Iterator[Figure]:
    judged = variant.pin and variant.never_empty
    unit = f"of {count:,}"

    def figure(what: str, unit: str, rounds: Sequence[float], target: Target | None = None, note: str = "") -> Figure:
        return Figure("packing", f"{variant.name}: {what}", unit, tuple(rounds), target if judged else None, note)

    fewer = [sum(o.ours < o.theirs for o in run) for run in runs]
    longest = max((o.theirs - o.ours for run in runs for o in run), default=0)
    yield figure("sequences with fewer pods", unit, fewer, Target(0), f"at most {longest} fewer" if any(fewer) else "")
    yield figure("sequences with more pods", unit, [sum(o.ours > o.theirs for o in run) for run in runs])
    ratios = [sum(o.ours for o in run) / sum(o.theirs for o in run) for run in runs]
    mean = sum(o.theirs for run in runs for o in run) / (count * len(runs))
    yield figure("pods placed, ours to the kubelet's", "x", ratios, Target(1, at_least=True), f"mean {mean:.1f} pods")
    holes = [sum(o.hole for o in run) / max(1, sum(o.their_hole for o in run)) for run in runs]
    yield figure("largest hole left, ours to the kubelet's", "x", holes)


def outcomes(variant: Variant, seed: int, count: int) -> list[Outcome]:
    """The sequences of one seed."""
    return [_outcome(variant, MACHINES[number % len(MACHINES)], f"{seed}/{number}") for number in range(count)]


def _outcome(variant: Variant, name: str, seed: str) -> Outcome:
    ledger, deck = start(name, variant.smt, variant.pin)
    pods = list(islice(deck.sequence(random.Random(seed)), LONGEST))
    return run(ledger, kubelet_of(ledger, variant.smt, never_empty=variant.never_empty), pods)


@cache
def start(name: str, smt: Smt, pin: bool) -> tuple[Ledger, Deck]:
    """The machine with its first core and some memory reserved. No CPU counts as isolated: a kubelet knows no such."""
    machine = replace(catalogue.machine(name), isolated=EMPTY)
    empty = Ledger.of(machine, machine.cores[0], RESERVED_MEMORY)
    return empty, Deck(empty, smt, pin)


def kubelet_of(empty: Ledger, smt: Smt, *, never_empty: bool) -> Kubelet:
    """A kubelet with the same machine and the same reservation."""
    layout = empty.layout
    memory = {node.id: book.memory or 0 for node, book in zip(layout.machine.numa_nodes, layout.books, strict=True)}
    whole = smt is Smt.FULL_CORES
    return Kubelet.of(layout.machine, layout.reserved, memory, full_pcpus_only=whole, never_empty=never_empty)


def run(ledger: Ledger, kubelet: Kubelet, pods: Sequence[Drawn]) -> Outcome:
    """Both sides take the pods in their order, each up to its first misfit."""
    ours = theirs = None
    holes = 0, 0
    for number, drawn in enumerate(pods):
        found = offer(ledger, str(number), drawn.intent) if ours is None else None
        after = kubelet.admit(str(number), drawn.asked) if theirs is None else None
        if ours is None and theirs is None and not (isinstance(found, Placement) and isinstance(after, Kubelet)):
            holes = _hole(ledger, ledger.free), _hole(ledger, kubelet.free.mask)
        if isinstance(found, Placement):
            ledger = ledger.commit(found)
        elif ours is None:
            ours = number
        if isinstance(after, Kubelet):
            kubelet = after
        elif isinstance(after, Refusal):
            theirs = number
        if ours is not None and theirs is not None:
            return Outcome(ours, theirs, *holes)
    return Outcome(len(pods) if ours is None else ours, len(pods) if theirs is None else theirs, *holes)


def _hole(ledger: Ledger, free: int) -> int:
    return max((free & site.cpus).bit_count() for site in ledger.layout.sites)
