"""Which keys nodes believe, and from when on one may sign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.seal import KeyRing, key_id
from webhook.publication import DELAY, Publication

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
EMPTY = Publication(KeyRing({}), {})


def test_what_is_written_is_what_is_read() -> None:
    both = EMPTY.with_keys([OLD], NOW - timedelta(days=9)).with_keys([NEW], NOW)
    assert both.annotations == {
        f"published.armistice.dev/{key_id(OLD)}": "2026-02-20T12:00:00Z",
        f"published.armistice.dev/{key_id(NEW)}": "2026-03-01T12:00:00Z",
    }
    assert Publication.read(both.text, both.annotations) == both
    assert set(KeyRing.from_pem(both.text.encode(), "a node").keys) == {key_id(OLD), key_id(NEW)}


def test_the_text_does_not_depend_on_who_came_first() -> None:
    assert EMPTY.with_keys([OLD, NEW], NOW).text == EMPTY.with_keys([NEW], NOW).with_keys([OLD], NOW).text


def test_a_block_that_cannot_be_read_takes_no_other_with_it() -> None:
    good = EMPTY.with_keys([OLD], NOW)
    bad = "-----BEGIN PUBLIC KEY-----\nnot base64!\n-----END PUBLIC KEY-----\n"
    assert Publication.read(f"# a note\n{bad}{good.text}", good.annotations) == good


def test_a_key_without_a_time_is_published_now() -> None:
    by_hand = Publication.read(EMPTY.with_keys([OLD, NEW], NOW).text, {"published.armistice.dev/x": "yesterday"})
    assert by_hand.since == {}
    assert by_hand.with_keys([], NOW).since == {key_id(OLD): NOW, key_id(NEW): NOW}


LONG_AGO = datetime.min.replace(tzinfo=UTC)

USES = [
    ("the only key there is", EMPTY.with_keys([NEW], NOW), LONG_AGO),
    ("a second key", EMPTY.with_keys([OLD], LONG_AGO).with_keys([NEW], NOW), NOW + timedelta(minutes=3)),
    ("a key that came before another", EMPTY.with_keys([NEW], NOW).with_keys([OLD], NOW + DELAY), NOW + DELAY),
    ("a key that is not published", EMPTY.with_keys([OLD], NOW), None),
    ("a second key without a time", Publication(KeyRing.of([OLD, NEW]), {}), None),
]


@pytest.mark.parametrize(("what", "publication", "when"), USES, ids=[row[0] for row in USES])
def test_from_when_on_a_key_may_sign(what: str, publication: Publication, when: datetime | None) -> None:
    assert publication.usable_at(key_id(NEW), DELAY) == when
