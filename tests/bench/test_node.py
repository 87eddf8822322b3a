"""What is made of a turn's readings, and that a plugin which does nothing is not measured as one that binds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from e2e.observe import Container, Group, Sight, Task
from tests.bench.node import NOOP, NOTHING, OURS, PEER, Candidate, Life, figures
from tests.bench.process import Reading

NUMA = {0: frozenset(range(4)), 1: frozenset(range(4, 8))}
EVERY = NUMA[0] | NUMA[1]


def app(name: str, cpus: Sequence[int], mems: Sequence[int] = (0,)) -> Container:
    """A container of one thread."""
    task = Task(1, 1, name, False, frozenset(cpus), frozenset(mems), f"kubepods/{name}")
    return Container(name, Group(f"kubepods/{name}", frozenset(cpus), frozenset(mems)), (task,), {})


def node(*apps: Container, daemon: frozenset[int] = EVERY) -> Sight:
    """With these containers, and a daemon of the host."""
    tasks = [task for one in apps for task in one.tasks]
    host = Task(2, 2, "sshd", False, daemon, frozenset(NUMA), "system.slice/sshd")
    return Sight({one.identity: one.group for one in apps}, (*tasks, host), NUMA, {})


WIDE = (app("one", range(8), (0, 1)), app("two", range(8), (0, 1)))
OWN = (app("one", [1]), app("two", [5], [1]))

WRONG = [
    ("nobody binds", NOTHING, OWN, EVERY, "an app may run on 1 alone; by whose doing?"),
    ("a plugin that should do nothing binds", NOOP, OWN, EVERY, "an app may run on 1 alone; by whose doing?"),
    ("apps are everywhere", PEER, WIDE, EVERY, "an app that asked for one CPU of its own runs on 0,1,2,3,4,5,6,7"),
    ("two apps share a CPU", PEER, (app("one", [1]), app("two", [1])), EVERY, "one and two share 1"),
    ("memory is elsewhere", PEER, (app("one", [1], [1]),), EVERY, "an app of NUMA node 0 takes memory from 1"),
    ("a daemon may run there", OURS, OWN, EVERY, "1 other tasks may run on CPUs 1: sshd (2/2) of /system.slice/sshd"),
]


@pytest.mark.parametrize(("what", "candidate", "apps", "daemon", "why"), WRONG, ids=[row[0] for row in WRONG])
def test_a_plugin_that_does_something_else_is_not_measured(
    what: str, candidate: Candidate, apps: Sequence[Container], daemon: frozenset[int], why: str
) -> None:
    with pytest.raises(AssertionError) as found:
        candidate.check(node(*apps, daemon=daemon), apps)
    assert str(found.value).splitlines()[0] == why


@pytest.mark.parametrize(
    ("candidate", "apps", "daemon"),
    [(NOTHING, WIDE, EVERY), (NOOP, WIDE, EVERY), (PEER, OWN, EVERY), (OURS, OWN, EVERY - {1, 5})],
)
def test_a_plugin_that_does_what_it_is_there_for_is(
    candidate: Candidate, apps: Sequence[Container], daemon: frozenset[int]
) -> None:
    candidate.check(node(*apps, daemon=daemon), apps)


def test_costs_are_per_pod_and_per_second() -> None:
    fresh, full = Reading(0, 20, 10, 100, 50, 10), Reading(60, 24, 11, 500, 90, 20)
    rested, gone = Reading(90, 25, 12, 530, 96, 22), Reading(100, 25, 12, 700, 116, 32)
    life = Life((2.0, 4.0), (0, 0), (fresh, full, rested, gone))
    assert {figure.what: figure.rounds for figure in figures(OURS.name, life)} == {
        "Armistice: a pod, created to Running": (2.0, 4.0),
        "Armistice: tasks of others on an app's CPU": (0.0, 0.0),
        "Armistice: resident memory without pods": (20,),
        "Armistice: resident memory with 2 pods": (25,),
        "Armistice: its share of that (PSS) with 2 pods": (12,),
        "Armistice: wake-ups while idle": (1.0,),
        "Armistice: processor time while idle": (0.2,),
        "Armistice: processor time for a pod, start and end": (30.0,),
        "Armistice: of it in the kernel": (10.0,),
    }


def test_a_node_without_a_plugin_has_pods_alone() -> None:
    life = Life((1.0, 3.0), (7, 7))
    assert {figure.what: figure.rounds for figure in figures(NOTHING.name, life)} == {
        "no plugin: a pod, created to Running": (1.0, 3.0),
        "no plugin: tasks of others on an app's CPU": (7.0, 7.0),
    }
