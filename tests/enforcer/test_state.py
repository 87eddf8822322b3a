"""The state is a value: a change gives another one, and the ledger has the last word."""

from __future__ import annotations

import pytest

from enforcer.kernel import Level
from enforcer.state import Pod, Resident
from shared.allocator import offer
from shared.cpuset import CpuSet
from shared.demand import PlacementClass
from shared.errors import InvariantError
from shared.placement import Placement
from tests.enforcer.scenes import APP, PROXIED, arrives, container, fresh, sandbox, wish

A, B = sandbox("a", wish(APP)), sandbox("b", wish(APP))


def test_a_fresh_node_knows_nobody() -> None:
    state = fresh(Level.CPUSET, "too old")
    assert (dict(state.pods), state.placement("a"), state.best, state.why_not) == ({}, None, Level.CPUSET, "too old")


def test_losing_a_pod_gives_back_exactly_what_it_had() -> None:
    before = arrives(fresh(), B)
    assert arrives(before, A).losing("a") == before
    assert before.losing("a") == before


def test_a_place_that_is_anothers_is_refused_and_changes_nothing() -> None:
    before = arrives(fresh(), A)
    stolen = offer(fresh().ledger, "b", wish(APP))
    assert isinstance(stolen, Placement)
    with pytest.raises(InvariantError) as refused:
        before.placing(Pod(B, wish(APP)), stolen)
    assert str(refused.value) == "pod b wants CPUs 1-2 that are not free"
    assert before == arrives(fresh(), A)


def test_a_pod_is_kept_without_its_annotations() -> None:
    assert dict(arrives(fresh(), A).pods["a"].sandbox.annotations) == {}


def test_a_resident_is_what_the_runtime_shows() -> None:
    shown = container(A, "app", cpus="1-2", mems="0")
    expected = Resident("a-app", "a-box1", "app", "/kubepods/poda/a-app", CpuSet.parse("1-2"), CpuSet.parse("0"))
    assert Resident.of(shown) == expected


def test_a_doubted_pod_asks_for_nothing() -> None:
    assert Pod(A, doubt="forged").placement_class is PlacementClass.NONE
    assert Pod(A, wish(PROXIED)).placement_class is PlacementClass.EXCLUSIVE
