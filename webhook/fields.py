"""The fields of a Secret: Base64 in JSON, bytes here."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def fields_of(secret: Mapping[str, Any] | None) -> dict[str, bytes]:
    """All of them; one that cannot be read is there, and empty. None where there is no Secret."""
    return {name: decoded(text) for name, text in ((secret or {}).get("data") or {}).items()}


def with_fields(secret: Json, fields: Mapping[str, bytes]) -> Json:
    """The Secret with these fields, and whatever else it has."""
    written = {name: base64.b64encode(content).decode() for name, content in fields.items()}
    return {**secret, "type": secret.get("type", "Opaque"), "data": {**(secret.get("data") or {}), **written}}


def decoded(text: object) -> bytes:
    """What Base64 says; nothing where it is none."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""
