"""Ten thousand steps of node life, seeded: no law is broken, whatever is killed, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from enforcer import decisions
from enforcer.effects import Step
from enforcer.kernel import Level
from enforcer.runtime import NOTHING
from enforcer.state import State
from tests.enforcer.simulator.life import Deed, live, sequence, shortest

SEQUENCES, LENGTH = 40, 250


def told(deeds: list[Deed], rules: ModuleType = decisions) -> str:
    """What a person needs to see it again."""
    return "\n".join([live(deeds, rules)[1], *map(str, deeds)])


def weather(seeds: range) -> Counter[str]:
    """How often what happened; the first broken law fails the test with the fewest deeds that break it."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        deeds = sequence(seed, LENGTH)
        node, broken = live(deeds)
        if broken:
            pytest.fail(f"seed {seed}, cut down: {told(shortest(deeds))}")
        seen += node.seen
    return seen


def test_a_thousand_steps_of_node_life_break_no_law() -> None:
    assert weather(range(1000, 1004))["started"] > 10


@pytest.mark.slow
def test_ten_thousand_steps_of_node_life_break_no_law() -> None:
    seen = weather(range(SEQUENCES))
    rare = [what for what in WEATHER if seen[what] < 10]
    assert not rare, f"the storm shows too little of {rare}: {seen}"


WEATHER: tuple[str, ...] = (
    "started", "refused", "killed", "recovered", "enclosed partition", "enclosed isolated", "enclosed cpuset",
    "NO_ROOM", "NOT_TRUSTED", "WEAKER", "DRIFT",
)  # fmt: skip
"""What has to happen often enough for the silence of the laws to say anything."""


# Does a law ever speak? Each of these rules is broken on purpose, and a short sequence shows it.


def changed(**rules: Callable[..., Any]) -> ModuleType:
    """The decisions with some rules replaced."""
    copy = ModuleType("broken")
    copy.__dict__.update({**vars(decisions), **rules})
    return copy


def forgets_to_release(state: State, uid: str) -> Step:
    return Step(state)


def keeps_others_where_they_are(state: State, sandbox: Any, container: Any) -> Step:
    """Without the updates that a fenced bubble needs, which count as told."""
    step = decisions.create(state, sandbox, container)
    return replace(step, reply=replace(step.reply, updates=())) if step.reply is not NOTHING else step


def believes_in_partitions(state: State, asked: Any, outcome: Any) -> Step:
    return decisions.enclosed(state, asked, replace(outcome, level=asked.level, why_not=""))


def leaves_the_kubelets_word(state: State, sandbox: Any, container: Any) -> Step:
    return Step(state)


def takes_places_back_early(state: State, sandbox: Any) -> Step:
    return decisions.gone(state, sandbox.uid)


def hands_out_the_first_bubble(state: State, sandbox: Any, belief: Any) -> Step:
    """As if nobody else were there: the ledger itself has to refuse."""
    alone = State.fresh(type(state.ledger).of(state.ledger.layout.machine), Level.ISOLATED)
    step = decisions.reserve(alone, sandbox, belief)
    placement = step.state.placement(sandbox.uid)
    if placement is None:
        return decisions.reserve(state, sandbox, belief)
    return replace(step, state=state.placing(step.state.pods[sandbox.uid], placement))


BROKEN: list[tuple[str, dict[str, Callable[..., Any]]]] = [
    ("a place is never given back", {"gone": forgets_to_release, "looked": lambda state, uid, reading: Step(state)}),
    ("others are not told of a fence", {"create": keeps_others_where_they_are}),
    ("a refusal of the kernel is not heard", {"enclosed": believes_in_partitions}),
    ("the kubelet's cpuset is left to stand", {"update": leaves_the_kubelets_word}),
    ("a sandbox that goes takes the place along", {"sandbox_removed": takes_places_back_early}),
    ("a bubble is given twice", {"reserve": hands_out_the_first_bubble}),
]


@pytest.mark.parametrize(("what", "rules"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_rule_is_found_and_cut_down(what: str, rules: dict[str, Callable[..., Any]]) -> None:
    broken = changed(**rules)
    failing = next(deeds for seed in range(SEQUENCES) if live(deeds := sequence(seed, LENGTH), broken)[1])
    least = shortest(failing, broken)
    assert live(least, broken)[1]
    assert not any(live(least[:at] + least[at + 1 :], broken)[1] for at in range(len(least))), told(least, broken)
    assert len(least) <= 20, told(least, broken)
