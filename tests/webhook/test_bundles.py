"""The caBundle of each webhook of a configuration."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from webhook.bundles import Configuration, bundles, repair

Json = dict[str, Any]


def webhook(name: str, **config: Any) -> Json:
    return {"name": name, "clientConfig": {"service": {"name": "a"}, **config}}


THREE: Json = {"webhooks": [webhook("a", caBundle="bmV3"), webhook("b"), webhook("c", caBundle="!!")]}


def test_what_is_there_is_read_by_name() -> None:
    assert bundles(THREE) == {"a": b"new", "b": b"", "c": b""}
    assert bundles(None) == bundles({}) == bundles({"webhooks": None}) == {}


def test_only_what_differs_is_patched_and_nothing_else_is_touched() -> None:
    operations = repair(THREE, lambda present: b"new")
    assert operations == [
        {"op": "test", "path": "/webhooks/1/name", "value": "b"},
        {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "bmV3"},
        {"op": "test", "path": "/webhooks/2/name", "value": "c"},
        {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "bmV3"},
    ]
    assert jsonpatch.apply_patch(THREE, operations) == {
        "webhooks": [webhook(name, caBundle="bmV3") for name in ("a", "b", "c")]
    }
    assert repair(jsonpatch.apply_patch(THREE, operations), lambda present: b"new") == []


def test_a_webhook_that_moved_is_not_patched() -> None:
    moved = {"webhooks": list(reversed(THREE["webhooks"]))}
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        jsonpatch.apply_patch(moved, repair({"webhooks": [webhook("x")]}, lambda present: b"new"))


def test_their_kinds_are_the_api_servers() -> None:
    assert [one.kind for one in Configuration] == ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
