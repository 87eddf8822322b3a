"""The one patch that the webhook ever makes: annotations of a pod (JSON Patch, RFC 6902).

A patch that does not apply is an error for the user even where the webhook is allowed to fail, so only operations are
used that cannot fail: ``add`` of a key whose parent is there. Neither ``test`` nor ``remove``.
"""

from __future__ import annotations

from collections.abc import Mapping

from webhook.review import encoded

_PARENT = "/metadata/annotations"


def annotate(present: Mapping[str, str] | None, wanted: Mapping[str, str]) -> bytes:
    """The JSON that makes the wanted annotations true; empty where they are. None: the object has none at all."""
    missing = {key: value for key, value in wanted.items() if not present or present.get(key) != value}
    if not missing:
        return b""
    if present is None:
        return encoded([{"op": "add", "path": _PARENT, "value": missing}])
    added = [{"op": "add", "path": f"{_PARENT}/{escape(key)}", "value": text} for key, text in missing.items()]
    return encoded(added)


def escape(key: str) -> str:
    """A key as one step of a JSON Pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
