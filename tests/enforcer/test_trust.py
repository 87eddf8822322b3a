"""What is believed: the seal's word, and silence where nothing is asked."""

from __future__ import annotations

from dataclasses import replace

from enforcer.trust import Belief, believe
from shared.seal import ANNOTATION
from tests.enforcer.scenes import APP, KEY, KEYS, OTHER_KEY, OTHER_KEYS, sandbox, wish


def test_a_sealed_intent_is_believed_to_the_letter() -> None:
    assert believe(sandbox("a", wish(APP)), KEYS) == Belief(wish(APP))


def test_a_pod_without_an_intent_asks_for_nothing_and_is_not_doubted() -> None:
    assert believe(sandbox("a"), KEYS) == Belief()


def test_an_intent_under_another_key_is_doubted_with_both_keys_names() -> None:
    told = f'the topology intent was signed with the key "{KEY.id}"; known keys: {OTHER_KEY.id}'
    assert believe(sandbox("a", wish(APP)), OTHER_KEYS) == Belief(doubt=told, reason="unknown-key")


def test_an_altered_intent_is_doubted() -> None:
    box = sandbox("a", wish(APP))
    more = box.annotations[ANNOTATION].replace('"bubble":2', '"bubble":3')
    told = f"the topology intent does not carry a signature of the key {KEY.id}; it was altered afterwards"
    assert believe(replace(box, annotations={ANNOTATION: more}), KEYS) == Belief(doubt=told, reason="bad-signature")


def test_an_intent_replayed_on_another_pod_is_doubted() -> None:
    box = replace(sandbox("a", wish(APP)), name="b")
    assert believe(box, KEYS).doubt == 'the topology intent is for pod "a"; this one is "b"'


def test_an_intent_from_another_namespace_is_doubted() -> None:
    box = replace(sandbox("a", wish(APP)), namespace="bank")
    assert believe(box, KEYS).doubt == 'the topology intent is for a pod in namespace "shop"; this one is in "bank"'


def test_an_empty_annotation_is_doubted_too() -> None:
    box = replace(sandbox("a"), annotations={ANNOTATION: ""})
    assert believe(box, KEYS).doubt == "the topology intent is not JSON; it was cut short or typed by hand"
