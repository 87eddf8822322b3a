"""The patch: applied by an independent implementation, and never one that could fail."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest

from webhook.patch import annotate, escape

KEY = "armistice.dev/topology-intent"

ROWS: list[tuple[str, dict[str, str] | None, dict[str, str]]] = [
    ("no annotations at all", None, {KEY: "x"}),
    ("annotations of others", {"a/b": "c"}, {KEY: "x"}),
    ("an empty map", {}, {KEY: "x"}),
    ("an older value of ours", {KEY: "old", "a": "b"}, {KEY: "x"}),
    ("two at once", {"a": "b"}, {KEY: "x", "required-plugins.noderesource.dev": '["armistice"]'}),
    ("one there, one missing", {KEY: "x"}, {KEY: "x", "other": "y"}),
    ("keys that need escapes", {"a": "b"}, {"odd~key/with~1both": "x"}),
]


@pytest.mark.parametrize(("what", "present", "wanted"), ROWS, ids=[row[0] for row in ROWS])
def test_the_patch_makes_it_true(what: str, present: dict[str, str] | None, wanted: dict[str, str]) -> None:
    obj: dict[str, Any] = {"metadata": {"name": "web"}}
    if present is not None:
        obj["metadata"]["annotations"] = present
    patch = json.loads(annotate(present, wanted))
    assert {operation["op"] for operation in patch} == {"add"}
    patched = jsonpatch.apply_patch(obj, patch)
    assert patched["metadata"]["annotations"] == {**(present or {}), **wanted}


def test_what_is_true_already_needs_no_patch() -> None:
    assert annotate({KEY: "x", "a": "b"}, {KEY: "x"}) == b""


def test_a_key_is_one_step_of_a_pointer() -> None:
    assert escape("a/b~c") == "a~1b~0c"
