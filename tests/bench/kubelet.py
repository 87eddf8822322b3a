"""The kubelet's own Go code against our allocator: time for a pod, pods placed, the largest hole left.

The same pods come to both, in the same order, on the same machines. Our model of the kubelet, which ``packing`` and
``exact`` compare with, is asked beside it: every decision of the model that differs is counted. What here is the
kubelet's own and what is not: ``README.md`` beside this file.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from time import thread_time_ns

import pytest

from e2e.lab.errors import LabError
from shared.allocator import offer
from shared.ledger import Ledger
from shared.placement import Placement
from shared.policy import Smt
from tests.bench.gokubelet import Fate, GoKubelet, RefusesToStart, Setup, gokubelet
from tests.bench.packing import LONGEST, MACHINES, RESERVED_MEMORY, SEQUENCES, kubelet_of, start
from tests.bench.pods import Deck, Drawn
from tests.bench.report import Figure, Target, number
from tests.support.kubelet import Kubelet, Refusal
from tests.support.machines import GIB, MIB, machine

CORES = 128
"""Of the machines on which time is taken, with two threads each, however many NUMA nodes they have."""

STATES: Mapping[str, tuple[float, float]] = {
    "empty": (0, 0.25),
    "half full": (0.4, 0.6),
    "nearly full": (0.85, 1.01),
}
"""The part of the CPUs that is taken when the pod comes: from, to."""

AT_ONCE = 4
"""Sequences that are timed in one round."""

BEYOND = 16
"""NUMA nodes of the machine on which the kubelet's limit is lifted."""

MODES = {"SMT shared": Smt.SHARE, "full cores": Smt.FULL_CORES}
"""Names of the modes in ``packing``; the kubelet's ``full-pcpus-only`` goes with the second."""

MEMORY_FOLDER = Path("/dev/shm")
"""Where checkpoints go if it is there: a disk's own time is not what is measured."""


def measure(quick: bool) -> Iterator[Figure]:
    """Times, the limit, then the sequences; a round of those is all of them."""
    try:
        with gokubelet() as go:
            yield from times(go, 1 if quick else 7)
            yield from limit(go, 1 if quick else 3)
        for name, smt in MODES.items():
            yield from packed(name, smt, 28 if quick else SEQUENCES)
    except LabError as problem:
        pytest.skip(str(problem))


@dataclass(frozen=True, slots=True)
class Sample:
    """One admitted pod."""

    taken: float
    """The part of the CPUs that was taken when it came."""
    microseconds: float


def times(go: GoKubelet, rounds: int) -> Iterator[Figure]:
    """Processor time of an admitted pod: the median of a round. Whole sequences take turns."""
    for nodes in (2, 4, 8):
        empty = _empty(nodes)
        deck = Deck(empty, Smt.FULL_CORES, pin=True)
        found: list[dict[str, list[Sample]]] = []
        for turn in range(rounds):
            sides: dict[str, list[Sample]] = {"the kubelet": [], "the kubelet with checkpoints": [], "ours": []}
            for one in range(AT_ONCE):
                pods = list(islice(deck.sequence(random.Random(f"time/{turn}/{one}")), LONGEST))
                sides["the kubelet"] += _their_times(go, Setup(empty.layout, full_pcpus_only=True), pods)
                with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as folder:
                    kept = Setup(empty.layout, full_pcpus_only=True, state_folder=folder)
                    sides["the kubelet with checkpoints"] += _their_times(go, kept, pods)
                sides["ours"] += _our_times(empty, pods)
            found.append(sides)
        for state in STATES:
            yield from _timed(f"{2 * CORES} CPUs, {nodes} NUMA nodes, {state}", state, found)


def _empty(nodes: int) -> Ledger:
    made = machine(nodes, CORES // nodes, 2, memory=8 * CORES // nodes * GIB)
    return Ledger.of(made, made.cores[0], RESERVED_MEMORY)


def _timed(row: str, state: str, found: Sequence[Mapping[str, Sequence[Sample]]]) -> Iterator[Figure]:
    by_side = {side: tuple(_median(sides[side], STATES[state]) for sides in found) for side in found[0]}
    for side, rounds in by_side.items():
        yield Figure("kubelet", f"{row}: {side}", "us", rounds)
    ratios = [theirs / ours for ours, theirs in zip(by_side["ours"], by_side["the kubelet"], strict=True)]
    yield Figure("kubelet", f"{row}: the kubelet to ours", "x", tuple(ratios))


def _median(samples: Sequence[Sample], state: tuple[float, float]) -> float:
    return median(sample.microseconds for sample in samples if state[0] <= sample.taken < state[1])


def _their_times(go: GoKubelet, setup: Setup, pods: Sequence[Drawn]) -> Iterator[Sample]:
    go.start(setup)
    total, taken = len(setup.layout.machine.online - setup.layout.reserved), 0
    for name, drawn in enumerate(pods):
        fate = go.admit(str(name), drawn.pod)
        if not fate.admitted:
            return
        yield Sample(taken / total, fate.microseconds)
        taken += len(fate.cpus)


def _our_times(ledger: Ledger, pods: Sequence[Drawn]) -> Iterator[Sample]:
    total = ledger.free.bit_count()
    for name, drawn in enumerate(pods):
        began = thread_time_ns()
        found = offer(ledger, str(name), drawn.intent)
        if not isinstance(found, Placement):
            return
        after = ledger.commit(found)
        took = thread_time_ns() - began
        yield Sample(1 - ledger.free.bit_count() / total, took / 1000)
        ledger = after


def limit(go: GoKubelet, rounds: int) -> Iterator[Figure]:
    """How many NUMA nodes the kubelet starts on, and what a pod costs where the limit is lifted; a round is a pod."""
    most, said = 0, ""
    for nodes in (2, 4, 8, 9):
        try:
            go.start(Setup(_empty(nodes).layout))
        except RefusesToStart as refusal:
            said = str(refusal)
            break
        most = nodes
    yield Figure("kubelet", "most NUMA nodes that the kubelet starts on", "NUMA nodes", (most,), note=said)
    empty = _empty(BEYOND)
    pods = list(islice(Deck(empty, Smt.FULL_CORES, pin=True).sequence(random.Random("limit")), rounds))
    theirs = tuple(s.microseconds for s in _their_times(go, Setup(empty.layout, True, most_numa_nodes=BEYOND), pods))
    ours = tuple(s.microseconds for s in _our_times(empty, pods))
    row = f"{2 * CORES} CPUs, {BEYOND} NUMA nodes, limit lifted, empty"
    yield Figure("kubelet", f"{row}: the kubelet", "us", theirs, note=f"max-allowable-numa-nodes={BEYOND}")
    yield Figure("kubelet", f"{row}: ours", "us", ours)


@dataclass(frozen=True, slots=True)
class Hole:
    """The most that one more pod could have on one NUMA node."""

    cpus: int
    """Where a mebibyte is left for it, too."""
    memory: int
    """Bytes, where a CPU (a core) is left for it, too."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Pods placed before the first misfit of one sequence on one machine."""

    ours: int
    theirs: int
    """By a kubelet that keeps its shared pool from becoming empty, as we do."""
    as_it_comes: int
    """By a kubelet that does not."""
    hole: Hole
    """Ours, when the first of the two could not go on; the pods placed are the same on both sides."""
    their_hole: Hole
    decisions: int
    differing: tuple[str, ...]
    """Decisions of the kubelet that our model of it does not share."""


class Peer:
    """The kubelet's own code on one node, and the model of it beside."""

    def __init__(self, go: GoKubelet, empty: Ledger, smt: Smt) -> None:
        go.start(Setup(empty.layout, full_pcpus_only=smt is Smt.FULL_CORES))
        self._go = go
        self._model = kubelet_of(empty, smt, never_empty=False)
        self.free = empty.free
        self.memory = _memory(empty)
        self.decisions = 0
        self.differing: list[str] = []

    def would_empty(self, drawn: Drawn) -> bool:
        """Whether the pod would take the last CPU: what kubernetes/kubernetes#141197 proposes to refuse."""
        return drawn.asked.pinned and 0 < self.free.bit_count() <= drawn.asked.cpus

    def admit(self, name: str, drawn: Drawn) -> bool:
        """Whether the kubelet takes the pod."""
        fate = self._go.admit(name, drawn.pod)
        self._compare(name, drawn, fate)
        if fate.admitted:
            self.free &= ~fate.cpus.mask
            for node in fate.nodes:
                self.memory[node] -= drawn.asked.memory
        return fate.admitted

    def _compare(self, name: str, drawn: Drawn, fate: Fate) -> None:
        self.decisions += 1
        after = self._model.admit(name, drawn.asked)
        model = after.reason if isinstance(after, Refusal) else _told(after, name)
        said = _said(fate, drawn) if fate.admitted else fate.reason
        if model != said:
            self.differing.append(f"pod {name}: the kubelet says {said}, the model {model}")
        if isinstance(after, Kubelet):
            self._model = after


def _told(kubelet: Kubelet, name: str) -> str:
    given = kubelet.pods[name]
    slices = " ".join(f"{container}={cpus}" for container, cpus in sorted(given.slices.items()))
    return f"{'' if given.node is None else given.node}:{given.cpus} {slices}"


def _said(fate: Fate, drawn: Drawn) -> str:
    owners = sorted(drawn.asked.slices)
    slices = " ".join(f"{container}={fate.containers[container]}" for container in owners)
    return f"{','.join(map(str, fate.nodes))}:{fate.cpus} {slices}"


def packed(name: str, smt: Smt, count: int) -> Iterator[Figure]:
    """The sequences of the first seed of ``packing``, pods that both sides pin."""
    found, unit = outcomes(smt, count), f"of {count:,}"

    def figure(what: str, unit: str, value: float, target: Target | None = None, note: str = "") -> Figure:
        return Figure("kubelet", f"{name}: {what}", unit, (value,), target, note)

    yield figure("sequences with fewer pods", unit, sum(o.ours < o.theirs for o in found), Target(0))
    yield figure("sequences with more pods", unit, sum(o.ours > o.theirs for o in found))
    placed = sum(o.ours for o in found) / sum(o.theirs for o in found)
    mean = f"mean {sum(o.theirs for o in found) / count:.1f} pods"
    yield figure("pods placed, ours to the kubelet's", "x", placed, Target(1, at_least=True), mean)
    for field, resource in (("cpus", "CPUs"), ("memory", "memory")):
        pairs = [(getattr(o.hole, field), getattr(o.their_hole, field)) for o in found]
        yield from _holes(figure, unit, resource, pairs)
    fewer = sum(o.ours < o.as_it_comes for o in found)
    more = sum(o.ours > o.as_it_comes for o in found)
    most = max(o.as_it_comes - o.ours for o in found)
    said = f"at most {most} fewer; {more} with more"
    yield figure("sequences with fewer pods, the kubelet's pool may become empty", unit, fewer, note=said)
    differing = [difference for o in found for difference in o.differing]
    decisions = f"of {number(sum(o.decisions for o in found), '')}"
    first = differing[0] if differing else ""
    yield figure("decisions in which our model differs", decisions, len(differing), Target(0), first)


def _holes(
    figure: Callable[..., Figure], unit: str, resource: str, pairs: Sequence[tuple[int, int]]
) -> Iterator[Figure]:
    """``pairs`` are ours and the kubelet's."""
    larger, same = sum(a > b for a, b in pairs), sum(a == b for a, b in pairs)
    said = f"{larger} larger, {same} the same"
    yield figure(f"largest hole left is smaller, {resource}", unit, sum(a < b for a, b in pairs), note=said)
    ratio = sum(a for a, _ in pairs) / max(1, sum(b for _, b in pairs))
    yield figure(f"largest hole left, {resource}, ours to the kubelet's", "x", ratio)


def outcomes(smt: Smt, count: int) -> list[Outcome]:
    """Of the first sequences of a seed; each processor has a kubelet."""
    workers = len(os.sched_getaffinity(0))

    def some(first: int) -> list[Outcome]:
        with gokubelet() as go:
            return [outcome(go, smt, MACHINES[n % len(MACHINES)], f"1/{n}") for n in range(first, count, workers)]

    with ThreadPoolExecutor(workers) as pool:
        return [one for found in pool.map(some, range(workers)) for one in found]


def outcome(go: GoKubelet, smt: Smt, name: str, seed: str) -> Outcome:
    """Both sides take the pods in their order, each up to its first misfit."""
    ledger, deck = start(name, smt, True)
    peer = Peer(go, ledger, smt)
    ours = theirs = as_it_comes = None
    holes = _hole(ledger, ledger.free, peer.memory), _hole(ledger, peer.free, peer.memory)
    pods = list(islice(deck.sequence(random.Random(seed)), LONGEST))
    for place, drawn in enumerate(pods):
        if ours is None and theirs is None:
            holes = _hole(ledger, ledger.free, _memory(ledger)), _hole(ledger, peer.free, peer.memory)
        if ours is None:
            found = offer(ledger, str(place), drawn.intent)
            ledger = ledger.commit(found) if isinstance(found, Placement) else ledger
            ours = None if isinstance(found, Placement) else place
        if theirs is None and peer.would_empty(drawn):
            theirs = place
        if as_it_comes is None and not peer.admit(str(place), drawn):
            as_it_comes = place
            theirs = place if theirs is None else theirs
        if ours is not None and as_it_comes is not None:
            break
    ours, theirs, as_it_comes = (len(pods) if end is None else end for end in (ours, theirs, as_it_comes))
    return Outcome(ours, theirs, as_it_comes, *holes, peer.decisions, tuple(peer.differing))


def _memory(ledger: Ledger) -> dict[int, int]:
    """Bytes left by NUMA node."""
    return {site.id: book.memory or 0 for site, book in zip(ledger.layout.sites, ledger.books, strict=True)}


def _hole(ledger: Ledger, free: int, memory: Mapping[int, int]) -> Hole:
    left = [((free & site.cpus).bit_count(), memory[site.id]) for site in ledger.layout.with_cpus]
    return Hole(
        max((cpus for cpus, bytes_ in left if bytes_ >= MIB), default=0),
        max((bytes_ for cpus, bytes_ in left if cpus), default=0),
    )
