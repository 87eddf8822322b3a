"""What follows from each event, on a node of two NUMA nodes with four CPUs each, CPU 0 reserved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enforcer import decisions, marks
from enforcer.effects import Ask, Enclose, Forget, Watch
from enforcer.kernel import ContainerReading, Enclosure, Level
from enforcer.runtime import Adjustment, Reply, Update
from enforcer.state import State
from enforcer.trust import SILENT, Belief, believe
from shared.cpuset import CpuSet
from shared.policy import Isolation
from tests.enforcer.scenes import (
    APP,
    KEY,
    KEYS,
    LARGE,
    MEMBER,
    OTHER_KEY,
    OTHER_KEYS,
    PROXIED,
    SMALL,
    WITHOUT_PARTITIONS,
    answered,
    arrives,
    container,
    fresh,
    guarded,
    news,
    runs,
    sandbox,
    wish,
)

A, B, C = (sandbox(uid, wish(APP)) for uid in "abc")
P = sandbox("p", wish(PROXIED))
PLAIN = sandbox("plain")
HUGE = sandbox("huge", wish(LARGE))
WEB = sandbox("web", wish(SMALL))
BAD = sandbox("bad", wish(APP), OTHER_KEY)

UNKNOWN_KEY = f'pod shop/bad: the topology intent was signed with the key "{OTHER_KEY.id}"; known keys: {KEY.id}.'


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


# A pod comes.


def test_a_sandbox_reserves_the_whole_bubble_and_has_it_enclosed() -> None:
    step = decisions.reserve(fresh(), P, believe(P, KEYS))
    assert step.effects == (
        Watch("p", "/kubepods/podp"),
        Enclose("p", "/kubepods/podp", cpus("1-3"), Level.PARTITION),
    )
    assert step.refusal == ""
    assert str(step.state.ledger.node_shared_pool) == "4-7"


ISOLATIONS = [
    (Isolation.AUTO, Level.ISOLATED, Level.PARTITION),
    (Isolation.PARTITION, Level.ISOLATED, Level.PARTITION),
    (Isolation.ISOLATED, Level.ISOLATED, Level.ISOLATED),
    (Isolation.CPUSET, Level.ISOLATED, None),
    (Isolation.AUTO, Level.CPUSET, None),
    (Isolation.ISOLATED, Level.CPUSET, None),
]


@pytest.mark.parametrize(("asked", "best", "tried"), ISOLATIONS)
def test_what_is_tried_of_the_kernel(asked: Isolation, best: Level, tried: Level | None) -> None:
    box = sandbox("a", wish(APP, asked))
    step = decisions.reserve(fresh(best), box, believe(box, KEYS))
    assert [effect.level for effect in step.effects if isinstance(effect, Enclose)] == ([tried] if tried else [])


def test_a_node_without_partitions_says_so_to_those_who_asked_for_one() -> None:
    box = sandbox("a", wish(APP, Isolation.PARTITION))
    step = decisions.reserve(WITHOUT_PARTITIONS, box, believe(box, KEYS))
    assert news(step) == [
        (
            "WEAKER",
            "pod shop/a: its CPUs 1-2 are kept by the cpusets of all containers, not by a partition of the kernel: "
            "the kernel is older than 6.12",
        )
    ]
    assert step.state.pods["a"].why_not == "the kernel is older than 6.12"
    assert news(decisions.reserve(WITHOUT_PARTITIONS, A, believe(A, KEYS))) == []  # auto is the best there is


def test_a_pod_that_does_not_fit_is_remembered_and_told_never_refused_here() -> None:
    step = decisions.reserve(fresh(), HUGE, believe(HUGE, KEYS))
    text = (
        "pod shop/huge asks 5 CPUs; NUMA node 1, the roomiest, has 4 CPUs free. Its containers are created once that "
        "is free here; a smaller pod, or another node, need not wait"
    )
    assert (step.refusal, news(step)) == ("", [("NO_ROOM", text)])
    assert decisions.create(step.state, HUGE, container(HUGE, "app")).refusal == text


def test_a_sandbox_made_anew_keeps_its_pods_place() -> None:
    state = arrives(arrives(fresh(), A), B)
    again = replace(A, id="a-box2")
    step = decisions.reserve(state, again, believe(again, KEYS))
    assert step.effects == (Watch("a", "/kubepods/poda"),)
    assert step.state.ledger == state.ledger
    assert step.state.pods["a"].sandbox.id == "a-box2"


def test_a_new_sandbox_hears_of_a_partition_whose_handler_was_cut() -> None:
    cut = decisions.reserve(fresh(), A, believe(A, KEYS)).state
    step = decisions.reserve(cut, A, believe(A, KEYS))
    assert Enclose("a", "/kubepods/poda", cpus("1-2"), Level.PARTITION) in step.effects


# The kernel answers.

ASKED = Enclose("a", "/kubepods/poda", CpuSet.parse("1-2"), Level.PARTITION)


def test_a_partition_that_the_kernel_takes_is_in_force() -> None:
    step = decisions.enclosed(decisions.reserve(fresh(), A, believe(A, KEYS)).state, ASKED, Enclosure(Level.PARTITION))
    assert (step.state.pods["a"].level, step.effects) == (Level.PARTITION, ())


def test_a_partition_that_the_kernel_refuses_becomes_a_fence_and_is_told() -> None:
    state = decisions.reserve(fresh(), A, believe(A, KEYS)).state
    step = decisions.enclosed(state, ASKED, Enclosure(Level.CPUSET, "root invalid (it is busy)"))
    assert step.state.pods["a"].level is Level.CPUSET
    text = (
        "pod shop/a: its CPUs 1-2 are kept by the cpusets of all containers, not by a partition of the kernel: "
        "root invalid (it is busy)"
    )
    assert news(step) == [("WEAKER", text)]
    assert decisions.seat(step.state, A, believe(A, KEYS)).effects == ()  # it was heard; it is not tried each time


def test_an_answer_about_another_day_counts_for_nothing() -> None:
    state = fresh()
    assert decisions.enclosed(state, ASKED, Enclosure(Level.PARTITION)).state is state
    other = decisions.reserve(state, A, believe(A, KEYS)).state
    late = replace(ASKED, cpus=cpus("5-6"))
    assert decisions.enclosed(other, late, Enclosure(Level.PARTITION)).state is other


def test_a_partition_that_somebody_took_away_is_made_again_and_told() -> None:
    state = arrives(fresh(), A)
    step = decisions.looked(state, "a", MEMBER)
    assert step.effects == (ASKED,)
    after = decisions.enclosed(step.state, ASKED, Enclosure(Level.PARTITION))
    text = "pod shop/a: somebody changed its cgroup. Its CPUs 1-2 are kept by a partition of the kernel again"
    assert news(after) == [("DRIFT", text)]


def test_a_repair_that_the_kernel_does_not_take_is_told_and_the_bubble_fenced() -> None:
    state = runs(arrives(fresh(), A), A, "app")
    state = runs(decisions.reserve(state, PLAIN, SILENT).state, PLAIN, "main")
    step = decisions.enclosed(state, ASKED, Enclosure(Level.CPUSET, "it is busy"))
    text = (
        "pod shop/a: somebody changed its cgroup, and the kernel did not take the repair: it is busy. "
        "Its CPUs 1-2 are kept by the cpusets of all containers from now on"
    )
    assert news(step) == [("UNREPAIRED", text)]
    after = decisions.stop(step.state, B, container(B, "app"))
    assert after.reply.updates == (Update("plain-main", "3-7"),)


@pytest.mark.parametrize(
    ("what", "seen"),
    [("all is well", guarded("1-2")), ("isolated instead", guarded("1-2", "isolated")), ("other CPUs", guarded("1-3"))],
)
def test_looking_at_a_partition(what: str, seen: object) -> None:
    step = decisions.looked(arrives(fresh(), A), "a", seen)  # type: ignore[arg-type]
    assert step.effects == (() if what == "all is well" else (ASKED,))


def test_a_partition_that_came_late_counts() -> None:
    state = arrives(fresh(), A, takes=False)
    after = decisions.looked(state, "a", guarded("1-2")).state.pods["a"]
    assert (after.level, after.why_not) == (Level.PARTITION, "")


# A container comes.


def created(state: State, box: object, name: str) -> Reply:
    step = decisions.create(state, box, container(box, name))  # type: ignore[arg-type]
    assert step.refusal == ""
    return step.reply


def test_an_owner_gets_its_slice_local_memory_and_no_quota_and_a_mark() -> None:
    state = arrives(fresh(), P)
    mark = marks.write(state.ledger.placements["p"])
    assert created(state, P, "app") == Reply(Adjustment("1-2", "0", True, {marks.KEY: mark}))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("proxy", "3"),  # the pod shared pool
        ("setup", "1-3"),  # an init container has the bubble to itself
        ("debugger", "3"),  # nobody knows it; below a partition nothing else is left
    ],
)
def test_who_owns_nothing_keeps_its_quota(name: str, wanted: str) -> None:
    adjustment = created(arrives(fresh(), P), P, name).adjustment
    assert adjustment is not None
    assert (adjustment.cpus, adjustment.no_quota) == (wanted, False)


def test_an_unknown_container_of_a_fenced_pod_runs_on_the_node_shared_pool() -> None:
    adjustment = created(arrives(WITHOUT_PARTITIONS, P), P, "debugger").adjustment
    assert adjustment is not None
    assert (adjustment.cpus, adjustment.mems) == ("4-7", "")


def test_a_bound_pod_gets_the_pool_of_its_numa_node_and_its_memory() -> None:
    adjustment = created(arrives(fresh(), WEB), WEB, "web").adjustment
    assert adjustment is not None
    assert (adjustment.cpus, adjustment.mems, adjustment.no_quota) == ("1-3", "0", False)


def test_a_pod_without_an_intent_gets_the_static_pool_and_any_memory() -> None:
    assert created(arrives(fresh(), PLAIN), PLAIN, "main") == Reply(Adjustment("1-7"))


def test_a_partition_changes_nobody_elses_cpus() -> None:
    state = runs(arrives(fresh(), PLAIN), PLAIN, "main")
    assert created(arrives(state, A), A, "app").updates == ()


def test_a_fence_changes_everybody_elses_cpus_in_the_same_answer() -> None:
    state = runs(arrives(WITHOUT_PARTITIONS, PLAIN), PLAIN, "main", "two")
    state = runs(arrives(state, WEB), WEB, "web")
    reply = created(arrives(state, A), A, "app")
    assert reply.updates == (Update("plain-main", "3-7"), Update("plain-two", "3-7"), Update("web-web", "3"))


def test_the_container_that_is_created_is_never_updated() -> None:
    state = runs(arrives(WITHOUT_PARTITIONS, PLAIN), PLAIN, "main")
    state = arrives(state, A)
    step = decisions.create(state, PLAIN, container(PLAIN, "main"))  # its id again, as no runtime should
    assert step.reply == Reply(Adjustment("3-7"))


def test_a_misfit_is_tried_again_and_starts_when_room_has_appeared() -> None:
    state = arrives(arrives(arrives(fresh(), A), B), C)
    fourth = sandbox("d", wish(APP))
    state = arrives(state, fourth)
    text = (
        "pod shop/d asks 2 CPUs; NUMA node 0, the roomiest, has 0 CPUs free; 1 CPU is free, but only whole cores "
        "count, and the node shared pool keeps its share. Its containers are created once that is free here; a smaller "
        "pod, or another node, need not wait"
    )
    step = decisions.seat(state, fourth, believe(fourth, KEYS))
    assert decisions.create(step.state, fourth, container(fourth, "app")).refusal == text
    state = decisions.gone(step.state, "b").state
    step = decisions.seat(state, fourth, believe(fourth, KEYS))
    assert step.effects == (Enclose("d", "/kubepods/podd", cpus("4-5"), Level.PARTITION),)
    adjustment = created(answered(step), fourth, "app").adjustment
    assert adjustment is not None
    assert adjustment.cpus == "4-5"


def test_a_pod_that_was_never_announced_is_reserved_before_its_first_container() -> None:
    step = decisions.seat(fresh(), A, believe(A, KEYS))
    assert ASKED in step.effects
    text = "pod shop/a was not announced to the node agent; its containers are created at the kubelet's next attempt"
    assert decisions.create(fresh(), A, container(A, "app")).refusal == text


# Trust.


def test_a_doubted_pod_is_told_and_its_namespace_asked_about() -> None:
    step = decisions.reserve(fresh(), BAD, believe(BAD, KEYS))
    assert step.effects[:2] == (Watch("bad", "/kubepods/podbad"), Ask("shop"))
    assert news(step) == [("NOT_TRUSTED", f"{UNKNOWN_KEY} It gets no CPUs of its own")]


def test_until_the_namespace_is_known_a_doubted_pod_waits() -> None:
    step = decisions.create(arrives(fresh(), BAD), BAD, container(BAD, "app"))
    text = (
        f"{UNKNOWN_KEY} Whether namespace shop enforces a topology policy is not known yet, so none of its containers "
        "is created until it is"
    )
    assert (step.refusal, step.effects) == (text, (Ask("shop"),))


def test_an_enforcing_namespace_refuses_a_doubted_pod() -> None:
    state = decisions.namespace_known(arrives(fresh(), BAD), "shop", True).state
    step = decisions.create(state, BAD, container(BAD, "app"))
    text = (
        f"{UNKNOWN_KEY} Namespace shop enforces a topology policy, so none of its containers is created. Delete the "
        "pod: one that is made anew is admitted and signed anew"
    )
    assert (step.refusal, step.effects) == (text, (Ask("shop"),))


def test_elsewhere_a_doubted_pod_runs_on_the_static_pool() -> None:
    state = decisions.namespace_known(arrives(fresh(), BAD), "shop", False).state
    assert created(state, BAD, "app") == Reply(Adjustment("1-7"))


def test_a_key_that_came_late_lifts_the_doubt() -> None:
    state = arrives(fresh(), BAD)
    after = answered(decisions.seat(state, BAD, believe(BAD, OTHER_KEYS)))
    assert created(after, BAD, "app").adjustment == Adjustment(
        "1-2", "0", True, {marks.KEY: marks.write(after.ledger.placements["bad"])}
    )


def test_a_doubted_pod_that_runs_stays_what_it_is() -> None:
    state = runs(decisions.namespace_known(arrives(fresh(), BAD), "shop", False).state, BAD, "app")
    assert decisions.seat(state, BAD, believe(BAD, OTHER_KEYS)).state is state


# Started, updated, stopped.


@pytest.mark.parametrize(
    ("effective", "refusal"),
    [
        ("1-2", ""),
        ("1", ""),
        (
            "0-7",
            "container app of pod shop/a was given CPUs 1-2, and the kernel would run it on 0-7. Another program of "
            "this node changes cpusets; stop it, the kubelet tries again",
        ),
        (
            "",
            "container app of pod shop/a was given CPUs 1-2, and the kernel would run it on none. Another program of "
            "this node changes cpusets; stop it, the kubelet tries again",
        ),
    ],
)
def test_starting_is_checked_against_the_kernel(effective: str, refusal: str) -> None:
    reading = ContainerReading(cpus("1-2"), cpus(effective), cpus("0"), None)
    state = runs(arrives(fresh(), A), A, "app")
    assert decisions.start(state, A, container(A, "app"), reading).refusal == refusal


def test_an_owner_without_a_cgroup_does_not_start_and_nobody_else_is_asked() -> None:
    state = runs(arrives(runs(arrives(fresh(), A), A, "app"), PLAIN), PLAIN, "main")
    text = "container app of pod shop/a has no cgroup to be checked in; the kubelet tries again"
    assert decisions.start(state, A, container(A, "app"), None).refusal == text
    assert decisions.start(state, PLAIN, container(PLAIN, "main"), None).refusal == ""


def test_a_container_that_was_created_past_us_is_taken_in_and_told_its_cpus_with_the_next_answer() -> None:
    state = runs(arrives(arrives(fresh(), A), B), B, "app")
    step = decisions.start(state, A, container(A, "app"), None)
    assert (step.refusal, step.reply.updates) == ("", ())  # this event carries none
    after = decisions.stop(step.state, B, container(B, "app"))
    assert Update("a-app", "1-2") in after.reply.updates
    assert after.state.pods["a"].residents["a-app"].cpus == cpus("1-2")


def test_the_kubelets_own_update_is_answered_with_ours() -> None:
    state = runs(arrives(fresh(), A), A, "app")
    asked = replace(container(A, "app"), cpus="0-7")
    assert decisions.update(state, A, asked).reply == Reply(updates=(Update("a-app", "1-2"),))


def test_stopping_keeps_the_place_for_the_next_attempt() -> None:
    state = runs(arrives(fresh(), A), A, "app")
    step = decisions.stop(state, A, container(A, "app"))
    assert (step.state.ledger, dict(step.state.pods["a"].residents)) == (state.ledger, {})
    assert decisions.remove(step.state, A, container(A, "app")).state == step.state


# A pod goes.


def test_a_removed_sandbox_does_not_free_anything() -> None:
    state = runs(arrives(fresh(), A), A, "app")
    after = decisions.sandbox_removed(state, replace(A, annotations={})).state
    assert (after.ledger, dict(after.pods["a"].residents)) == (state.ledger, {})


def test_a_cgroup_that_is_gone_frees_everything_and_others_are_told_with_the_next_answer() -> None:
    state = runs(arrives(WITHOUT_PARTITIONS, A), A, "app")
    state = runs(arrives(state, PLAIN), PLAIN, "main")
    step = decisions.looked(state, "a", None)
    assert (step.effects, "a" in step.state.pods) == ((Forget("a"),), False)
    assert step.state.ledger == WITHOUT_PARTITIONS.ledger
    after = decisions.stop(step.state, B, container(B, "app"))
    assert after.reply.updates == (Update("plain-main", "1-7"),)
    assert decisions.stop(after.state, B, container(B, "app")).reply.updates == ()  # once is enough


def test_a_pod_that_nobody_knows_goes_unnoticed() -> None:
    state = fresh()
    for step in (
        decisions.gone(state, "x"),
        decisions.looked(state, "x", MEMBER),
        decisions.sandbox_removed(state, A),
        decisions.start(state, A, container(A, "app"), None),
        decisions.update(state, A, container(A, "app")),
        decisions.stop(state, A, container(A, "app")),
        decisions.remove(state, A, container(A, "app")),
    ):
        assert (step.state, step.effects, step.refusal) == (state, (), "")


# Where the kubelet pins.

PINNED = (
    "pod shop/a asks CPUs of its own, and on this node the kubelet gives CPUs away by itself (cpuManagerPolicy "
    "static). Set cpuManagerPolicy to none on this node, or keep such pods off it"
)


def test_a_pinning_kubelet_gets_no_exclusive_pod_beside_it() -> None:
    state = decisions.kubelet_known(fresh(), True).state
    step = decisions.reserve(state, A, believe(A, KEYS))
    assert news(step) == [("CONFLICT", PINNED)]
    assert step.state.ledger == fresh().ledger
    assert decisions.create(step.state, A, container(A, "app")).refusal == PINNED


@pytest.mark.parametrize("box", [WEB, PLAIN])
def test_all_others_are_left_to_a_pinning_kubelet(box: object) -> None:
    state = arrives(decisions.kubelet_known(fresh(), True).state, box)  # type: ignore[arg-type]
    assert created(state, box, "main") == Reply()
    assert decisions.update(state, box, container(box, "main")).reply == Reply()  # type: ignore[arg-type]


def test_a_kubelet_that_begins_to_pin_is_told_to_those_who_own_cpus() -> None:
    state = runs(arrives(arrives(fresh(), A), WEB), A, "app")
    step = decisions.kubelet_known(state, True)
    assert news(step) == [("CONFLICT", PINNED)]
    assert decisions.kubelet_known(step.state, True).effects == ()
    again = decisions.create(step.state, A, replace(container(A, "app"), id="a-app2"))
    assert again.refusal == ""  # it was there before
    assert decisions.update(step.state, A, container(A, "app")).reply.updates == (Update("a-app", "1-2"),)


def test_a_belief_without_an_intent_places_nobody() -> None:
    state = decisions.reserve(fresh(), PLAIN, Belief()).state
    assert (state.placement("plain"), state.pods["plain"].level) == (None, Level.CPUSET)


def test_a_pod_that_goes_while_its_partition_is_repaired_is_gone_and_not_weaker() -> None:
    state = arrives(fresh(), sandbox("a", wish(APP)))
    (repair,) = decisions.looked(state, "a", MEMBER).effects
    assert isinstance(repair, Enclose)
    step = decisions.enclosed(state, repair, Enclosure(Level.CPUSET, "it does not exist", gone=True))
    assert (step.state.pods, step.effects) == ({}, (Forget("a"),))
