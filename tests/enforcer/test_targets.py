"""Sets of containers that own nothing, what is owed, and what is promised."""

from __future__ import annotations

import pytest

from enforcer import decisions
from enforcer.kernel import Level
from enforcer.promise import ContainerPromise, PodPromise
from enforcer.runtime import Update
from enforcer.state import Resident
from enforcer.targets import Pools, fenced, owed, promises
from enforcer.trust import SILENT
from shared.cpuset import EMPTY, CpuSet
from tests.enforcer.scenes import (
    APP,
    PROXIED,
    SMALL,
    WITHOUT_PARTITIONS,
    arrives,
    container,
    fresh,
    runs,
    sandbox,
    wish,
)
from tests.support.pods import even, pod

A, P, PLAIN = sandbox("a", wish(APP)), sandbox("p", wish(PROXIED)), sandbox("plain")
WEB = sandbox("web", wish(SMALL))


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


@pytest.mark.parametrize(
    ("what", "state", "fence", "everywhere", "near"),
    [
        ("an empty node", fresh(), "", "1-7", "1-3"),
        ("a partition", arrives(fresh(), A), "", "1-7", "1-3"),
        ("a partition not heard of yet", arrives(fresh(), A, takes=False), "1-2", "3-7", "3"),
        ("a fence", arrives(WITHOUT_PARTITIONS, A), "1-2", "3-7", "3"),
    ],
)
def test_static_sets(what: str, state: object, fence: str, everywhere: str, near: str) -> None:
    pools = Pools.of(state)  # type: ignore[arg-type]
    assert (str(fenced(pools.state)), str(pools.open), str(pools.near((0,)))) == (fence, everywhere, near)


@pytest.mark.parametrize("start", [fresh(), WITHOUT_PARTITIONS])
def test_a_numa_node_that_bubbles_took_whole_gives_way_to_the_whole_node(start: object) -> None:
    """An empty text would mean "leave it", and the kernel would give a container without CPUs its parent's."""
    whole = sandbox("whole", wish(pod(even("app", "4"))))
    state = arrives(start, whole)  # type: ignore[arg-type]
    assert str(state.ledger.placements["whole"].bubble) == "4-7"
    assert Pools.of(state).near((1,)) == Pools.of(state).open != EMPTY


def test_nothing_is_owed_twice_and_nothing_that_is_right() -> None:
    state = runs(arrives(WITHOUT_PARTITIONS, PLAIN), PLAIN, "main", "two")
    state = arrives(state, A)
    told, updates = owed(state, but="plain-two")
    assert updates == (Update("plain-main", "3-7"),)
    assert owed(told)[1] == (Update("plain-two", "3-7"),)
    assert owed(owed(told)[0])[1] == ()


def test_a_cpuset_that_nobody_can_read_is_written_anew() -> None:
    assert Resident.of(container(PLAIN, "main", cpus="1-x")).cpus == EMPTY
    state = arrives(fresh(), PLAIN)
    state = state.having(state.pods["plain"].holding(Resident.of(container(PLAIN, "main", cpus="1-x"))))
    assert owed(state)[1] == (Update("plain-main", "1-7"),)


def test_what_is_promised() -> None:
    state = runs(arrives(fresh(), P), P, "proxy", "app")
    state = runs(decisions.reserve(state, PLAIN, SILENT).state, PLAIN, "main")
    assert promises(state) == (
        PodPromise(
            uid="p",
            namespace="shop",
            name="p",
            cgroup_parent="/kubepods/podp",
            placement="exclusive",
            bubble=cpus("1-3"),
            level=Level.PARTITION,
            numa_nodes=(0,),
            containers=(
                ContainerPromise("p-proxy", "proxy", "/kubepods/podp/p-proxy", cpus("3"), cpus("0")),
                ContainerPromise("p-app", "app", "/kubepods/podp/p-app", cpus("1-2"), cpus("0"), owns=True),
            ),
        ),
        PodPromise(
            uid="plain",
            namespace="shop",
            name="plain",
            cgroup_parent="/kubepods/podplain",
            placement="none",
            containers=(ContainerPromise("plain-main", "main", "/kubepods/podplain/plain-main", cpus("1-7"), EMPTY),),
        ),
    )


def test_a_weaker_level_is_promised_with_its_reason() -> None:
    (promise,) = promises(arrives(fresh(), A, takes=False))
    assert (promise.level, promise.why_not) == (Level.CPUSET, "it is busy")


def test_a_promise_follows_what_was_told_not_what_is_owed() -> None:
    state = runs(arrives(WITHOUT_PARTITIONS, A), A, "app")
    state = runs(arrives(state, PLAIN), PLAIN, "main")
    state = decisions.gone(state, "a").state
    assert [str(one.cpus) for pod in promises(state) for one in pod.containers] == ["3-7"]
    assert [str(one.cpus) for pod in promises(owed(state)[0]) for one in pod.containers] == ["1-7"]


def test_nothing_is_promised_beside_a_pinning_kubelet_but_what_is_owned() -> None:
    state = runs(arrives(runs(arrives(fresh(), A), A, "app"), WEB), WEB, "web")
    state = decisions.kubelet_known(state, True).state
    assert [str(one.cpus) for pod in promises(state) for one in pod.containers] == ["1-2", ""]


def test_nothing_is_promised_to_a_container_whose_cgroup_is_still_being_made() -> None:
    state = arrives(fresh(), A)
    state = decisions.create(state, A, container(A, "app")).state
    (promise,) = promises(state)
    assert promise.containers == ()
