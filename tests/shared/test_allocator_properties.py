"""What holds for every pod on every machine: real ones, and small ones where every refusal is proved by trying it all.

The audit (``tests/support/audit.py``) shares no rule with the code it audits.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import catalogue
from shared.allocator import fits, offer
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.intent import Intent, make
from shared.ledger import Ledger
from shared.placement import Misfit, Placement
from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy
from shared.sysfs import read_machine
from shared.topology import Machine
from tests.support.audit import audit, least_nodes
from tests.support.data import MACHINES_WITH_ORACLE, unpack_dump
from tests.support.machines import MIB, machine
from tests.support.pods import asking, container, even, pod, weighed
from tests.support.storm import Step, digest, find, reserved

CHECKOUT = Path(__file__).resolve().parents[2]

REAL = (*MACHINES_WITH_ORACLE, *catalogue.names())


def locate(name: str, dumps: Path) -> str:
    """What :func:`find` takes: a catalogue name, or where a dump was unpacked."""
    return str(unpack_dump(name, dumps)) if name in MACHINES_WITH_ORACLE else name


# Storms on real machines.


def weather(machine: Machine, seed: int, count: int, every: int) -> Counter[str]:
    """A storm, audited now and then. How often what happened."""
    seen: Counter[str] = Counter()

    def watch(step: Step) -> None:
        ledger, name, answer = step
        seen["release" if answer is None else type(answer).__name__] += 1
        if seen.total() % every == 0:
            assert audit(machine, ledger, reserved(machine)) == [], name

    digest(machine, seed, count, watch)
    return seen


@pytest.mark.parametrize("name", REAL)
def test_a_hundred_pods_come_and_go_and_every_law_holds(name: str, dumps: Path) -> None:
    seen = weather(find(locate(name, dumps)), seed=1, count=100, every=3)
    assert seen["Placement"] > 10
    assert seen["release"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_ten_thousand_pods_come_and_go_and_every_law_holds(name: str, dumps: Path) -> None:
    seen = weather(find(locate(name, dumps)), seed=2, count=10_000, every=50)
    assert seen["Placement"] + seen["Misfit"] == 10_000
    assert seen["Placement"] > 1000


def digests(target: str, count: int, hash_seed: str) -> str:
    """A storm's digest, by an interpreter of its own."""
    command = [sys.executable, "-m", "tests.support.storm", target, "3", str(count)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("name", ["epyc7451-2s8n", "aws-p5.48xlarge"])
def test_the_same_seed_gives_the_same_cpus_in_every_interpreter(name: str, dumps: Path) -> None:
    target = locate(name, dumps)
    assert digests(target, 200, "0") == digests(target, 200, "4711")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_same_seed_gives_the_same_two_thousand_places(name: str, dumps: Path) -> None:
    """An order that depends on hashes shows within a few hundred; the laws are held for ten thousand above."""
    target = locate(name, dumps)
    assert digests(target, 2000, "0") == digests(target, 2000, "4711")


# Small machines, where a refusal can be proved.

AMOUNT = st.sampled_from([0, 4, 16, 64]).map(lambda n: n * MIB)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    nodes = draw(st.integers(1, 4))
    return machine(
        nodes,
        cores := draw(st.sampled_from([1, 2, 3, 4, 6])),
        draw(st.sampled_from([1, 1, 2, 2, 4])),
        memory=draw(st.lists(st.sampled_from([16, 64, 256]).map(lambda n: n * MIB), min_size=nodes, max_size=nodes)),
        hugepages=[{2 * MIB: draw(st.integers(0, 4))} for _ in range(nodes)],
        devices=[{"example.com/nic": draw(st.integers(0, 2))} for _ in range(nodes)],
        caches=2 if cores % 2 == 0 and draw(st.booleans()) else 1,
    )


@st.composite
def wishes(draw: st.DrawFn) -> Intent:
    cpu = draw(st.sampled_from(["1", "1", "2", "3", "4", "6", "9"]))
    memory = draw(st.sampled_from(["1Mi", "8Mi", "40Mi", "200Mi"]))
    more = {"hugepages-2Mi": draw(st.sampled_from(["2Mi", "4Mi", "8Mi"]))} if draw(st.integers(0, 4)) == 0 else {}
    if draw(st.integers(0, 4)) == 0:
        more["example.com/nic"] = draw(st.sampled_from(["1", "2", "3"]))
    written = {"cpu": cpu, "memory": memory, **more}
    shape = draw(st.integers(0, 4))
    given = (
        pod(container("app", written, written)),
        pod(container("app", written, written), asking("s", "300m", "1Mi")),
        pod(even("a", "1", "1Mi"), container("b", written, written), init=(even("s", "1", "1Mi", restartable=True),)),
        pod(asking("app", draw(st.sampled_from(["100m", "900m", "1500m", "3"])), memory), container("s", more)),
        pod(container("app")),
    )[shape]
    placing = Placing(
        policy=draw(st.sampled_from(TopologyPolicy)),
        scope=draw(st.sampled_from([Scope.POD, Scope.POD, Scope.POD, Scope.CONTAINER])),
        smt=draw(st.sampled_from(Smt)),
    )
    return make(weighed(given), placing)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(machines(), st.lists(st.tuples(wishes(), st.integers(0, 3)), min_size=1, max_size=14), st.booleans())
def test_every_answer_is_lawful_and_every_refusal_is_right(
    machine: Machine, pods: list[tuple[Intent, int]], some_reserved: bool
) -> None:
    kept = CpuSet.of([0]) if some_reserved and len(machine.online) > 1 else EMPTY
    empty = ledger = Ledger.of(machine, kept)
    for number, (intent, leaves) in enumerate(pods):
        before = deepcopy((ledger.free, ledger.isolated, ledger.books, ledger.placements))
        answer = offer(ledger, f"p{number}", intent)
        assert (ledger.free, ledger.isolated, ledger.books, ledger.placements) == before
        assert fits(ledger, intent) == isinstance(answer, Placement)
        if isinstance(answer, Misfit):
            prove(machine, empty, ledger, intent, answer)
            continue
        after = ledger.commit(answer)
        assert audit(machine, after, kept) == []
        assert after.release(answer.pod) == ledger
        tight(machine, ledger, intent, answer)
        ledger = after
        if leaves == 0:
            ledger = ledger.release(next(iter(ledger.placements)))
            assert audit(machine, ledger, kept) == []
    for name in list(ledger.placements):
        ledger = ledger.release(name)
    assert ledger == empty


def prove(machine: Machine, empty: Ledger, ledger: Ledger, intent: Intent, misfit: Misfit) -> None:
    """That no set of NUMA nodes that the policy allows holds the pod, and that the message says so."""
    assert intent.placement is not PlacementClass.NONE
    assert misfit.asked.keys() == misfit.found.keys()
    if intent.placing.scope is Scope.CONTAINER and intent.slices:
        return
    least = least_nodes(machine, ledger, intent)
    policy = intent.placing.policy
    if policy is TopologyPolicy.SINGLE_NUMA_NODE:
        assert least != 1, misfit
    elif policy is TopologyPolicy.RESTRICTED:
        assert least == 0 or least > least_nodes(machine, empty, intent), misfit
    else:
        assert least == 0, misfit


def tight(machine: Machine, ledger: Ledger, intent: Intent, placement: Placement) -> None:
    """That the pod is on no more NUMA nodes than it needs."""
    if intent.placement is PlacementClass.NONE or (intent.placing.scope is Scope.CONTAINER and intent.slices):
        return
    assert len(placement.numa_nodes) == least_nodes(machine, ledger, intent)


@st.composite
def wide_machines(draw: st.DrawFn) -> Machine:
    """More NUMA nodes than are tried in every combination, at all sorts of distances."""
    nodes = draw(st.sampled_from([11, 12]))
    far = [[draw(st.sampled_from([12, 16, 20, 32])) for _ in range(nodes)] for _ in range(nodes)]
    return machine(
        nodes,
        draw(st.sampled_from([2, 4])),
        draw(st.sampled_from([1, 2])),
        memory=[draw(st.sampled_from([16, 64, 256])) * MIB for _ in range(nodes)],
        devices=[{"example.com/nic": draw(st.integers(0, 2))} for _ in range(nodes)],
        distances=[[10 if a == b else far[min(a, b)][max(a, b)] for b in range(nodes)] for a in range(nodes)],
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(wide_machines(), st.lists(wishes(), min_size=1, max_size=10))
def test_sets_that_are_grown_are_lawful_and_nearly_the_smallest(machine: Machine, pods: list[Intent]) -> None:
    empty = ledger = Ledger.of(machine)
    for number, intent in enumerate(pods):
        spread = replace(intent, placing=replace(intent.placing, policy=TopologyPolicy.BEST_EFFORT, scope=Scope.POD))
        answer = offer(ledger, f"p{number}", spread)
        if isinstance(answer, Misfit):
            prove(machine, empty, ledger, spread, answer)
            continue
        after = ledger.commit(answer)
        assert audit(machine, after) == []
        if intent.placement is not PlacementClass.NONE:
            assert len(answer.numa_nodes) <= least_nodes(machine, ledger, spread) + 1
        ledger = after


# Machines of every other make.


@st.composite
def odd_machines(draw: st.DrawFn) -> Machine:
    """Isolated and offline CPUs, unknown memory, memory that is elsewhere."""
    nodes = draw(st.integers(1, 3))
    cores, threads = draw(st.integers(2, 4)), draw(st.integers(1, 2))
    some = st.sampled_from([0, 64 * MIB, 256 * MIB, None])
    last = nodes * cores * threads - 1
    return machine(
        nodes,
        cores,
        threads,
        memory=[256 * MIB, *(draw(some) for _ in range(nodes - 1))],
        isolated=draw(st.sampled_from(["", str(last), f"{last - 1}-{last}" if last > 2 else ""])),
        offline=draw(st.sampled_from(["", "1"])),
        devices=[{"example.com/nic": 1}] if draw(st.booleans()) else (),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    odd_machines(), st.lists(st.tuples(wishes(), st.sampled_from(Isolation), st.booleans()), min_size=1, max_size=10)
)
def test_odd_machines_break_no_law_either(machine: Machine, pods: list[tuple[Intent, Isolation, bool]]) -> None:
    empty = ledger = Ledger.of(machine)
    for number, (intent, isolation, leaves) in enumerate(pods):
        answer = offer(ledger, f"p{number}", isolated(intent, isolation))
        assert fits(ledger, isolated(intent, isolation)) == isinstance(answer, Placement)
        if isinstance(answer, Placement):
            after = ledger.commit(answer)
            assert audit(machine, after) == []
            assert after.release(answer.pod) == ledger
            ledger = ledger if leaves else after
    for name in list(ledger.placements):
        ledger = ledger.release(name)
    assert ledger == empty


def isolated(intent: Intent, isolation: Isolation) -> Intent:
    return replace(intent, placing=replace(intent.placing, isolation=isolation))


PLAIN = st.tuples(st.integers(1, 5), st.booleans(), st.sampled_from(TopologyPolicy), st.sampled_from(Smt))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2), st.integers(2, 4), st.sampled_from(["1", "3", "5", "1,3"]), st.lists(PLAIN, max_size=12))
def test_cores_of_different_width_break_no_law(
    nodes: int, cores: int, offline: str, pods: list[tuple[int, bool, TopologyPolicy, Smt]]
) -> None:
    given = machine(nodes, cores, 2, offline=offline if cores > 2 else "1")
    ledger = Ledger.of(given)
    for number, (cpus, owns, policy, smt) in enumerate(pods):
        wish = pod(even("app", str(cpus), "1Mi")) if owns else pod(asking("app", f"{cpus * 300}m", "1Mi"))
        intent = make(weighed(wish), Placing(policy=policy, smt=smt))
        answer = offer(ledger, f"p{number}", intent)
        assert fits(ledger, intent) == isinstance(answer, Placement)
        if isinstance(answer, Placement):
            ledger = ledger.commit(answer)
            assert audit(given, ledger) == []


def test_the_hybrid_machine_gives_cores_of_both_widths(dumps: Path) -> None:
    hybrid = read_machine(unpack_dump("raptorlake-hybrid", dumps))
    assert {len(core) for core in hybrid.cores} == {1, 2}
    assert weather(hybrid, seed=9, count=300, every=1)["Placement"] > 30
