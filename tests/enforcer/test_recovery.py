"""The state rebuilt from what the node shows: the same as before, whatever was lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from enforcer import decisions, marks
from enforcer.effects import Ask, Enclose, Forget, Step, Watch
from enforcer.kernel import Level, PodReading
from enforcer.recovery import recover
from enforcer.runtime import Container, ContainerState, Sandbox, Update
from enforcer.state import State
from shared.cpuset import CpuSet
from shared.ledger import Ledger
from shared.policy import Isolation
from tests.enforcer.scenes import (
    APP,
    KEY,
    KEYS,
    LARGE,
    MEMBER,
    NODE,
    OTHER_KEY,
    OTHER_KEYS,
    PROXIED,
    SMALL,
    WITHOUT_PARTITIONS,
    arrives,
    container,
    fresh,
    guarded,
    news,
    runs,
    sandbox,
    wish,
)
from tests.support.machines import GIB

A, B, P = sandbox("a", wish(APP)), sandbox("b", wish(APP)), sandbox("p", wish(PROXIED))
PLAIN, WEB, HUGE = sandbox("plain"), sandbox("web", wish(SMALL)), sandbox("huge", wish(LARGE))
BAD = sandbox("bad", wish(APP), OTHER_KEY)

Readings = Mapping[str, PodReading | None]


def shown(state: State, *boxes: Sandbox) -> tuple[list[Container], Readings]:
    """What runtime and kernel show of a node in this state: specifications with their marks, and partitions."""
    containers, readings = [], {}
    for box in boxes:
        pod, place = state.pods[box.uid], state.placement(box.uid)
        for one in pod.residents.values():
            mark = marks.write(place) if place else ""
            made = container(box, one.name, str(one.cpus), str(one.mems), mark)
            containers.append(replace(made, state=ContainerState.RUNNING if one.started else ContainerState.CREATED))
        in_force = place is not None and pod.level is not Level.CPUSET
        kind = "isolated" if pod.level is Level.ISOLATED else "root"
        readings[box.uid] = guarded(str(place.bubble), kind) if place is not None and in_force else MEMBER
    return containers, readings


def busy(start: State) -> State:
    """Two exclusive pods on different NUMA nodes, a bound one, one that asks for nothing."""
    state = runs(arrives(start, P), P, "proxy", "app")
    state = runs(arrives(state, A), A, "app")
    state = runs(arrives(state, WEB), WEB, "web")
    return runs(arrives(state, PLAIN), PLAIN, "main")


@pytest.mark.parametrize("start", [fresh(), WITHOUT_PARTITIONS], ids=["partitions", "fences"])
@pytest.mark.parametrize("order", [1, -1])
def test_after_a_kill_the_state_is_the_same(start: State, order: int) -> None:
    state = decisions.stop(busy(start), B, container(B, "app")).state  # so that nothing is owed any more
    boxes = [P, A, WEB, PLAIN]
    containers, readings = shown(state, *boxes)
    step = recover(start, boxes[::order], containers[::order], readings, KEYS)
    assert step.state == state
    assert step.reply.updates == ()
    assert not [effect for effect in step.effects if not isinstance(effect, Watch)]


def test_without_marks_a_partition_and_the_specifications_tell_the_same() -> None:
    state = busy(fresh())
    containers, readings = shown(state, P, A)
    bare = [replace(one, annotations={}) for one in containers]
    step = recover(fresh(), [P, A], bare, readings, KEYS)
    assert step.state.placement("p") == state.placement("p")
    assert step.state.placement("a") == state.placement("a")


def test_without_marks_and_partitions_an_owners_cpus_tell_the_place() -> None:
    state = arrives(arrives(WITHOUT_PARTITIONS, A), B)
    found = [container(B, "app", "3,5", "0-1"), container(A, "app", "6-7", "1")]
    step = recover(WITHOUT_PARTITIONS, [B, A], found, {"a": MEMBER, "b": MEMBER}, KEYS)
    kept = step.state.placement("a")
    assert kept is not None
    assert (str(kept.bubble), kept.numa_nodes, kept.memory_nodes) == ("6-7", (1,), (1,))
    moved = step.state.placement("b")  # not on one NUMA node: nobody placed it there, and its policy forbids it
    assert moved is not None
    assert str(moved.bubble) == "1-2" != str(state.ledger.placements["b"].bubble)
    assert step.reply.updates == (Update("b-app", "1-2"),)


def test_a_partition_without_containers_keeps_its_cpus() -> None:
    step = recover(fresh(), [A], [], {"a": guarded("5-6")}, KEYS)
    assert (str(step.state.ledger.placements["a"].bubble), step.state.pods["a"].level) == ("5-6", Level.PARTITION)
    assert step.effects == (Watch("a", "/kubepods/poda"),)


def test_a_pod_without_anything_is_placed_anew_after_all_others() -> None:
    state = arrives(fresh(), B)
    containers, readings = shown(runs(state, B, "app"), B)
    step = recover(fresh(), [A, B], containers, {**readings, "a": MEMBER}, KEYS)
    assert str(step.state.ledger.placements["b"].bubble) == "1-2"
    assert Enclose("a", "/kubepods/poda", CpuSet.parse("4-5"), Level.PARTITION) in step.effects


def test_a_container_that_was_made_without_us_is_put_right_in_the_answer() -> None:
    """NRI fails open: while the agent was away the runtime created it with nothing."""
    step = recover(fresh(), [A], [container(A, "app")], {"a": MEMBER}, KEYS)
    assert step.reply.updates == (Update("a-app", "1-2"),)
    assert step.state.pods["a"].residents["a-app"].mems == CpuSet()  # its pages stay where they are


def test_a_pod_that_never_fitted_runs_on_the_static_pool_and_is_told() -> None:
    step = recover(fresh(), [HUGE], [container(HUGE, "app")], {"huge": MEMBER}, KEYS)
    assert [reason for reason, _ in news(step)] == ["NO_ROOM"]
    assert step.reply.updates == (Update("huge-app", "1-7"),)


# Conflicts, and marks that lie.


def marked(box: Sandbox, cpus: str, mark: str) -> Container:
    return container(box, "app", cpus, "0", mark)


def mark_of(uid: str, bubble: str) -> str:
    place = arrives(fresh(), sandbox(uid, wish(APP))).ledger.placements[uid]
    return marks.write(replace(place, bubble=CpuSet.parse(bubble), slices={"app": CpuSet.parse(bubble)}))


def test_of_two_with_the_same_cpus_the_better_evidence_keeps_them_and_the_other_is_told() -> None:
    found = [marked(A, "1-2", mark_of("a", "1-2")), marked(B, "2-3", mark_of("b", "2-3"))]
    step = recover(fresh(), [A, B], found, {"a": MEMBER, "b": guarded("2-3")}, KEYS)
    assert str(step.state.ledger.placements["b"].bubble) == "2-3"
    assert step.state.placement("a") is None
    text = (
        "pod shop/a lost its CPUs 1-2 when the node agent started: shop/b holds some of them with better evidence. It "
        "runs on the node shared pool; delete it, and one that is made anew gets a place of its own"
    )
    assert news(step) == [("CONFLICT", text)]
    assert step.reply.updates == (Update("a-app", "1-7"),)


def test_a_mark_that_the_specification_does_not_bear_out_gives_way() -> None:
    found = [marked(A, "", mark_of("a", "1-2")), marked(B, "1-2", mark_of("b", "1-2"))]
    step = recover(WITHOUT_PARTITIONS, [A, B], found, {"a": MEMBER, "b": MEMBER}, KEYS)
    assert str(step.state.ledger.placements["b"].bubble) == "1-2"
    assert str(step.state.ledger.placements["a"].bubble) == "4-5"
    assert step.reply.updates == (Update("a-app", "4-5"),)


def test_a_mark_that_asks_for_more_than_the_intent_is_no_mark() -> None:
    found = [marked(A, "", mark_of("a", "4-7"))]
    step = recover(WITHOUT_PARTITIONS, [A], found, {"a": MEMBER}, KEYS)
    assert str(step.state.ledger.placements["a"].bubble) == "1-2"


def test_a_mark_that_the_kernel_contradicts_gives_way() -> None:
    found = [marked(A, "", mark_of("a", "1-2"))]
    step = recover(fresh(), [A], found, {"a": guarded("5-6")}, KEYS)
    assert str(step.state.ledger.placements["a"].bubble) == "5-6"


def test_cpus_that_were_reserved_since_are_lost() -> None:
    since = State.fresh(Ledger.of(NODE, CpuSet.parse("0-1")), Level.CPUSET)
    step = recover(since, [A], [marked(A, "1-2", mark_of("a", "1-2"))], {"a": MEMBER}, KEYS)
    text = (
        "pod shop/a lost its CPUs 1-2 when the node agent started: they are not for pods any more. It runs on the node "
        "shared pool; delete it, and one that is made anew gets a place of its own"
    )
    assert news(step) == [("CONFLICT", text)]
    assert step.reply.updates == (Update("a-app", "2-7"),)


def test_memory_that_was_reserved_since_costs_a_running_pod_nothing() -> None:
    since = State.fresh(Ledger.of(NODE, CpuSet.parse("0"), 64 * GIB), Level.CPUSET)
    step = recover(since, [A], [marked(A, "1-2", mark_of("a", "1-2"))], {"a": MEMBER}, KEYS)
    assert (str(step.state.ledger.placements["a"].bubble), step.reply.updates, news(step)) == ("1-2", (), [])


# Trust, lost.


@pytest.mark.parametrize(
    ("what", "found", "reading", "bubble"),
    [
        ("its specification bears out its mark", marked(A, "5-6", mark_of("a", "5-6")), MEMBER, ""),
        ("the kernel guards it", container(A, "app"), guarded("2-3"), "2-3"),
        ("the mark is all there is", marked(A, "", mark_of("a", "2-3")), MEMBER, ""),
        ("the mark is borne out", marked(A, "2-3", mark_of("a", "2-3")), MEMBER, "2-3"),
        ("the specification is all there is", container(A, "app", "2-3", "0"), MEMBER, ""),
    ],
)
def test_a_pod_whose_key_is_gone_keeps_what_more_than_an_annotation_shows(
    what: str, found: Container, reading: PodReading, bubble: str
) -> None:
    step = recover(fresh(), [A], [found], {"a": reading}, OTHER_KEYS)
    place = step.state.placement("a")
    assert (str(place.bubble) if place else "") == bubble
    doubt = f'the topology intent was signed with the key "{KEY.id}"; known keys: {OTHER_KEY.id}'
    fate = (
        "It keeps the place that it was given while its intent was believed" if place else "It gets no CPUs of its own"
    )
    assert news(step) == [("NOT_TRUSTED", f"pod shop/a: {doubt}. {fate}")]
    assert (Ask("shop") in step.effects) is (place is None)


def test_a_pod_that_kept_its_place_may_start_its_containers_again() -> None:
    state = recover(fresh(), [A], [container(A, "app")], {"a": guarded("2-3")}, OTHER_KEYS).state
    step = decisions.create(state, A, replace(container(A, "app"), id="a-app2"))
    assert (step.refusal, step.reply.adjustment and step.reply.adjustment.cpus) == ("", "2-3")


def test_a_forger_gets_nothing_by_a_mark_beside_a_forged_intent() -> None:
    found = container(BAD, "app", "1-7", "", mark_of("bad", "1-2"))
    step = recover(fresh(), [BAD], [found], {"bad": MEMBER}, KEYS)
    assert step.state.ledger == fresh().ledger


def test_a_forger_whose_mark_names_the_shared_cpus_that_it_has_gets_nothing_either() -> None:
    """Whoever has no place has CPUs of the node shared pool in its specification, but never memory nodes."""
    found = container(BAD, "app", "2-3", "", mark_of("bad", "2-3"))
    assert recover(fresh(), [BAD], [found], {"bad": MEMBER}, KEYS).state.ledger == fresh().ledger
    believed = recover(fresh(), [BAD], [found], {"bad": MEMBER}, OTHER_KEYS)
    assert str(believed.state.ledger.placements["bad"].bubble) == "2-3"  # the same mark beside a seal


# The connection was lost, the process was not.


def test_what_this_process_remembers_needs_no_evidence() -> None:
    before = arrives(arrives(WITHOUT_PARTITIONS, A), B)
    before = decisions.gone(before, "a").state
    before = decisions.namespace_known(before, "shop", True).state
    step = recover(WITHOUT_PARTITIONS, [B], [], {"b": MEMBER}, KEYS, before)
    assert str(step.state.ledger.placements["b"].bubble) == "4-5"  # a new one would get 1-2
    assert step.state == before


def test_pods_that_went_meanwhile_are_forgotten() -> None:
    before = runs(arrives(fresh(), A), A, "app")
    step = recover(fresh(), [], [], {}, KEYS, before)
    assert (step.state, step.effects) == (fresh(), (Forget("a"),))


# Sandboxes.


def test_a_stopped_sandbox_without_a_cgroup_is_over() -> None:
    step = recover(fresh(), [replace(A, pid=0)], [], {"a": None}, KEYS)
    assert (step.state, step.effects) == (fresh(), ())


def test_a_stopped_sandbox_with_a_cgroup_is_watched_and_placed_when_it_comes_back() -> None:
    step = recover(fresh(), [replace(A, pid=0)], [], {"a": MEMBER}, KEYS)
    assert (step.effects, step.state.placement("a")) == ((Watch("a", "/kubepods/poda"),), None)
    text = "pod shop/a was not announced to the node agent; its containers are created at the kubelet's next attempt"
    assert decisions.create(step.state, A, container(A, "app")).refusal == text
    assert arrives(step.state, A).placement("a") is not None


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_sandboxes_of_a_pod_the_live_one_counts(order: int) -> None:
    boxes = [replace(A, pid=0), replace(A, id="a-box2")]
    step = recover(fresh(), boxes[::order], [], {"a": MEMBER}, KEYS)
    assert step.state.pods["a"].sandbox.id == "a-box2"


def test_a_container_of_no_sandbox_is_nobodys() -> None:
    step = recover(fresh(), [], [container(A, "app")], {}, KEYS)
    assert step == Step(fresh())


def test_a_partition_of_another_type_is_changed_to_what_is_asked() -> None:
    box = sandbox("a", wish(APP, Isolation.ISOLATED))
    step = recover(fresh(), [box], [], {"a": guarded("1-2", "root")}, KEYS)
    assert Enclose("a", "/kubepods/poda", CpuSet.parse("1-2"), Level.ISOLATED) in step.effects
