"""How long one offer takes: machines by size, empty to nearly full, pods that fit and pods that do not."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import thread_time

from shared import catalogue
from shared.allocator import offer
from shared.demand import PlacementClass
from shared.intent import Intent, Part
from shared.ledger import Ledger
from shared.placement import Placement
from shared.policy import Placing, Smt, TopologyPolicy
from shared.sidecars import Role
from shared.sysfs import read_machine
from shared.topology import Machine
from tests.bench.report import Figure, Target, worst
from tests.support.data import unpack_dump
from tests.support.machines import GIB, machine

ROUND_SECONDS = 0.004
"""Time for one case in one round; the rounds of all cases are interleaved."""

STATES: Mapping[str, float] = {"empty": 0.0, "half full": 0.5, "nearly full": 0.94}
"""The part of the CPUs that is taken already."""

SPANNING = (TopologyPolicy.BEST_EFFORT, TopologyPolicy.RESTRICTED)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to repeat."""

    row: str
    name: str
    act: Callable[[], object]
    target: Target | None


def measure(quick: bool) -> Iterator[Figure]:
    """The worst case of each row, by its median; the note says which case that was."""
    with tempfile.TemporaryDirectory() as folder:
        cases = [case for label, made, target in _machines(Path(folder)) for case in _cases(label, made, target)]
    rounds: dict[int, list[float]] = {index: [] for index in range(len(cases))}
    for _ in range(3 if quick else 9):
        for index, case in enumerate(cases):
            rounds[index].append(_time(case.act, ROUND_SECONDS / (4 if quick else 1)))
    rows: dict[str, list[Figure]] = {}
    for index, case in enumerate(cases):
        figure = Figure("allocator", case.row, "us", tuple(rounds[index]), case.target, case.name)
        rows.setdefault(case.row, []).append(figure)
    yield from map(worst, rows.values())


def _time(act: Callable[[], object], seconds: float) -> float:
    """Microseconds of processor time for one call: what else runs on the machine counts less that way."""
    count, began = 0, thread_time()
    while True:
        act()
        count += 1
        spent = thread_time() - began
        if spent >= seconds and count >= 3:
            return 1e6 * spent / count


def _machines(folder: Path) -> Iterator[tuple[str, Machine, Target | None]]:
    two, many = Target(200), Target(2000)
    yield "16 CPUs, 2 NUMA nodes", machine(2, 4, 2), None
    yield "256 CPUs, 2 NUMA nodes", machine(2, 64, 2, caches=8, memory=512 * GIB), two
    yield "256 CPUs, 2 NUMA nodes, no SMT", catalogue.machine("altramax-m128-2s"), two
    yield "256 CPUs, 8 NUMA nodes", catalogue.machine("dgx-a100"), None
    yield "1,024 CPUs, 2 NUMA nodes", machine(2, 256, 2, caches=32, memory=2048 * GIB), None
    yield "1,024 CPUs, 8 NUMA nodes", machine(8, 64, 2, caches=8, memory=512 * GIB), None
    cube = [[10 + 6 * (a ^ b).bit_count() for b in range(64)] for a in range(64)]
    yield "1,024 CPUs, 64 NUMA nodes", machine(64, 8, 2, memory=64 * GIB, distances=cube), many
    yield "256 CPUs, 64 NUMA nodes, real", read_machine(unpack_dump("altix-64n", folder)), many


def _cases(label: str, made: Machine, target: Target | None) -> Iterator[Case]:
    empty = Ledger.of(made)
    cpus = [len(node.cpus) for node in made.numa_nodes if node.cpus]
    memory = min(node.memory or GIB for node in made.numa_nodes if node.cpus)
    for state, part in STATES.items():
        ledger = _filled(empty, part)
        left = max((ledger.free & node.cpus.mask).bit_count() for node in made.numa_nodes)
        for name, intent in _fitting_one(max(1, left // 2), max(cpus), memory):
            row, act = f"{label}: one NUMA node", _offers(ledger, intent)
            yield Case(row, f"{name}, {state}", act, target)
        for name, intent in _spanning(ledger.free.bit_count(), left, memory, len(cpus)):
            row, act = f"{label}: several NUMA nodes", _offers(ledger, intent)
            yield Case(row, f"{name}, {state}", act, target)
        small = exclusive(max(1, left // 2), GIB // 8)
        yield Case(f"{label}: offer and commit", state, _commits(ledger, small), target)


def _offers(ledger: Ledger, intent: Intent) -> Callable[[], object]:
    return lambda: offer(ledger, "pod", intent)


def _commits(ledger: Ledger, intent: Intent) -> Callable[[], object]:
    def act() -> object:
        found = offer(ledger, "pod", intent)
        return ledger.commit(found) if isinstance(found, Placement) else found

    return act


def _fitting_one(some: int, most: int, memory: int) -> Iterator[tuple[str, Intent]]:
    """Pods for one NUMA node: half of what is left on the emptiest, and more than any has."""
    yield "exclusive", exclusive(some, GIB // 8)
    yield "exclusive, SMT shared", exclusive(some, GIB // 8, smt=Smt.SHARE)
    yield "exclusive misfit", exclusive(most + 1, GIB // 8)
    yield "memory misfit", exclusive(some, memory + 1)
    yield "bound", bound(some * 500, GIB // 8)
    yield "bound misfit", bound(most * 1000 + 1, GIB // 8)


def _spanning(free: int, left: int, memory: int, nodes: int) -> Iterator[tuple[str, Intent]]:
    """Pods for two NUMA nodes, for half of what is free, for all of it, for the memory of half the nodes; a misfit."""
    for policy in SPANNING:
        for name, cpus, asked in (
            ("two nodes", left + 1, GIB // 8),
            ("half", free // 2, GIB // 8),
            ("all but two CPUs", free - 2, GIB // 8),
            ("memory of half", max(1, left // 2), memory * nodes // 2),
            ("misfit", free + 1, GIB // 8),
        ):
            yield f"{policy.value}, {name}", exclusive(max(1, cpus), asked, policy)
        yield f"{policy.value}, bound, half", bound(free * 500, GIB // 8, policy)


def exclusive(
    cpus: int,
    memory: int,
    policy: TopologyPolicy = TopologyPolicy.SINGLE_NUMA_NODE,
    smt: Smt = Smt.FULL_CORES,
) -> Intent:
    """A pod with a bubble: an app with a slice, and a sidecar that shares the rest where there is a rest."""
    parts = (Part("app", Role.APP, max(1, cpus - 1), memory), Part("proxy", Role.SIDECAR))
    placing = Placing(policy, smt=smt)
    return Intent(PlacementClass.EXCLUSIVE, placing, parts[: 1 + (cpus > 1)], 1000 * cpus, memory, bubble=cpus)


def bound(cpu: int, memory: int, policy: TopologyPolicy = TopologyPolicy.SINGLE_NUMA_NODE) -> Intent:
    """A pod on the node shared pool; CPU in millicores."""
    return Intent(PlacementClass.BOUND, Placing(policy), (Part("app", Role.APP, memory=memory),), cpu, memory)


def _filled(ledger: Ledger, part: float) -> Ledger:
    """A ledger with a part of its cores and of its memory gone, all over the machine."""
    machine = ledger.layout.machine
    gone = random.Random(1).sample(machine.cores, round(len(machine.cores) * part))
    mask = sum(core.mask for core in gone)
    books = tuple(replace(book, memory=round((book.memory or 0) * (1 - part))) for book in ledger.books)
    return replace(ledger, free=ledger.free & ~mask, books=books)
