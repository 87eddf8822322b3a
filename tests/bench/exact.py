"""Pods placed before the first misfit on small machines: ours against the most that anybody could have placed.

A prefix of a sequence packs if its pods can be spread over the NUMA nodes at all; CP-SAT of OR-tools decides that,
knowing the whole prefix beforehand. We see one pod after the other and move none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from ortools.sat.python import cp_model

from shared.allocator import offer
from shared.ledger import Ledger
from shared.placement import Placement
from shared.policy import Smt
from tests.bench.pods import Deck, Drawn
from tests.bench.report import Figure, Target
from tests.support.kubelet import Kubelet, Refusal
from tests.support.machines import GIB, machine

SEQUENCES = 250
LONGEST = 64
NODES = (2, 3, 4)
CORES = (4, 6, 8)
GIB_PER_CPU = (2, 4, 8)
SOLVER_SECONDS = 10.0

FACTORS = ((1,), (1, 1, 2, 3))
"""By what the pods are multiplied: as they are, and some of them doubled or trebled."""


def measure(quick: bool) -> Iterator[Figure]:
    """Ratios of the sums; a round is a seed."""
    count, seeds = (40, (1,)) if quick else (SEQUENCES, (1, 2, 3))
    for factors in FACTORS:
        name = "real pods" if factors == (1,) else "real pods, some sized up"
        runs = [[_outcome(random.Random(f"{seed}/{n}"), factors) for n in range(count)] for seed in seeds]
        best = [sum(most for _, _, most in run) for run in runs]
        ratios = [sum(ours for ours, _, _ in run) / total for run, total in zip(runs, best, strict=True)]
        mean = sum(best) / (count * len(runs))
        target = Target(0.99, at_least=True)
        note = f"mean {mean:.1f} pods"
        yield Figure("exact", f"{name}: pods placed, ours to the exact optimum's", "x", tuple(ratios), target, note)
        below = tuple(float(sum(ours < most for ours, _, most in run)) for run in runs)
        yield Figure("exact", f"{name}: sequences below the optimum", f"of {count:,}", below)
        theirs = [sum(kubelet for _, kubelet, _ in run) / total for run, total in zip(runs, best, strict=True)]
        yield Figure("exact", f"{name}: pods placed, the kubelet's to the optimum's", "x", tuple(theirs))


def _outcome(chance: random.Random, factors: Sequence[int]) -> tuple[int, int, int]:
    """Pods placed by us, by the kubelet, at most."""
    cores = chance.choice(CORES)
    made = machine(chance.choice(NODES), cores, memory=cores * chance.choice(GIB_PER_CPU) * GIB)
    ledger = Ledger.of(made, made.cores[0])
    pods = list(islice(Deck(ledger, Smt.SHARE, pin=True).drawn(chance, factors), LONGEST))
    memory = {node.id: node.memory or 0 for node in made.numa_nodes}
    kubelet = Kubelet.of(made, made.cores[0], memory, never_empty=True)
    ours = _ours(ledger, pods)
    return ours, _theirs(kubelet, pods), most(ledger, pods, ours)


def _ours(ledger: Ledger, pods: Sequence[Drawn]) -> int:
    for number, drawn in enumerate(pods):
        found = offer(ledger, str(number), drawn.intent)
        if not isinstance(found, Placement):
            return number
        ledger = ledger.commit(found)
    return len(pods)


def _theirs(kubelet: Kubelet, pods: Sequence[Drawn]) -> int:
    for number, drawn in enumerate(pods):
        after = kubelet.admit(str(number), drawn.asked)
        if isinstance(after, Refusal):
            return number
        kubelet = after
    return len(pods)


def most(ledger: Ledger, pods: Sequence[Drawn], known: int) -> int:
    """The length of the longest prefix that packs, of which ``known`` pods are known to."""
    while known < len(pods) and packs(ledger, pods[: known + 1]):
        known += 1
    return known


def packs(ledger: Ledger, pods: Sequence[Drawn]) -> bool:
    """Whether pods can be spread over the NUMA nodes, one CPU of the machine left over."""
    if sum(drawn.intent.bubble for drawn in pods) >= ledger.free.bit_count():
        return False
    model = cp_model.CpModel()
    seats = []
    for site in ledger.layout.sites:
        taken = [model.new_bool_var("") for _ in pods]
        cpus = (ledger.free & site.cpus).bit_count()
        model.add(sum(t * drawn.intent.bubble for t, drawn in zip(taken, pods, strict=True)) <= cpus)
        memory = ledger.books[site.place].memory or 0
        model.add(sum(t * drawn.intent.memory for t, drawn in zip(taken, pods, strict=True)) <= memory)
        seats.append(taken)
    for choices in zip(*seats, strict=True):
        model.add_exactly_one(choices)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = SOLVER_SECONDS
    status = solver.solve(model)
    if status == cp_model.UNKNOWN:
        raise TimeoutError(f"{len(pods)} pods: the solver did not decide within {SOLVER_SECONDS} s")
    return bool(status in (cp_model.OPTIMAL, cp_model.FEASIBLE))
