"""The door for the config file: what an admin settles for the whole cluster, as the chart writes it down.

    defaults: {enforce: none, warn: none, audit: none, max-sidecar-share: null, scope: pod, isolation: auto, smt: full-cores}
    exempt: {namespaces: [], usernames: [], runtime-classes: []}
    mode: enforce            # enforce, warn or audit: the most that is done
    unknown: allow           # allow or reject: what an unknown topology does in a namespace that enforces

Everything may be left out; nothing else may be there. A namespace label counts as strictest while it is mistyped; here
nothing starts until it is put right, for this file is read once, at the start.
"""  # noqa: E501

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.documents import parse_documents, read_documents
from shared.errors import InputError
from webhook.policy import LABELS, Label, Mode, NamespacePolicy, Rules

KEYS = ("defaults", "exempt", "mode", "unknown")
EXEMPT_KEYS = ("namespaces", "usernames", "runtime-classes")


def read_config(path: Path, always_exempt: Iterable[str]) -> Rules:
    """The file's rules. Raises InputError with the file, the key, what was found and what is wanted."""
    return _read(read_documents(path), str(path), always_exempt)


def parse_config(text: str, source: str, always_exempt: Iterable[str]) -> Rules:
    """The rules in a text; the source is how errors call it."""
    return _read(parse_documents(text, source), source, always_exempt)


def _read(documents: list[object], source: str, always_exempt: Iterable[str]) -> Rules:
    try:
        return _rules(_content(documents), frozenset(always_exempt))
    except _Wrong as error:
        raise InputError(f"{source}: {error}") from error


class _Wrong(InputError):
    """Without the file's name, which the caller knows."""


def _content(documents: list[object]) -> Mapping[str, Any]:
    found = [document for document in documents if document is not None]
    if len(found) > 1:
        raise _Wrong(f"the file has {len(found)} documents; write everything into one")
    return _section(found[0] if found else None, "", KEYS)


def _rules(content: Mapping[str, Any], always_exempt: frozenset[str]) -> Rules:
    exempt = _section(content.get("exempt"), "exempt", EXEMPT_KEYS)
    namespaces, usernames, classes = (_names(exempt.get(key), f"exempt.{key}") for key in EXEMPT_KEYS)
    unknown = _word(content.get("unknown", "allow"), "unknown", ("allow", "reject"))
    return Rules(
        defaults=replace(_defaults(content.get("defaults")), unknown_breaks=unknown == "reject"),
        exempt=namespaces | always_exempt,
        usernames=usernames,
        runtime_classes=classes,
        mode=Mode(_word(content.get("mode", Mode.ENFORCE.value), "mode", [mode.value for mode in Mode])),
    )


def _defaults(found: Any) -> NamespacePolicy:
    """The levels and settings of a namespace without labels, in the words of the labels."""
    given = _section(found, "defaults", [label.name for label in LABELS])
    return replace(
        NamespacePolicy(), **{label.field: _default(given, label) for label in LABELS if label.name in given}
    )


def _default(given: Mapping[str, Any], label: Label) -> Any:
    found = given[label.name]
    if found is None and getattr(NamespacePolicy(), label.field) is None:
        return None
    text = str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else ""
    value = label.read(text)
    if value is None:
        raise _Wrong(f"defaults.{label.name} is {_shown(found)}; give {label.expected}")
    return value


def _section(found: Any, where: str, keys: Iterable[str]) -> Mapping[str, Any]:
    """A mapping with none but the given keys; nothing is an empty one."""
    if found is None:
        return {}
    known = ", ".join(keys)
    if not isinstance(found, dict):
        raise _Wrong(f"{where or 'the file'} is {_shown(found)}; give a mapping with keys of {known}")
    for key in found:
        if key not in keys:
            name = f"{where}.{key}" if where else str(key)
            raise _Wrong(f"the key {name} does not exist; known are {known}")
    return found


def _names(found: Any, where: str) -> frozenset[str]:
    if found is None:
        return frozenset()
    if not isinstance(found, list):
        raise _Wrong(f"{where} is {_shown(found)}; give a list of names")
    for place, name in enumerate(found):
        if not isinstance(name, str) or not name:
            raise _Wrong(f"{where}[{place}] is {_shown(name)}; give a name, as text")
    return frozenset(found)


def _word(found: Any, where: str, words: Iterable[str]) -> str:
    if isinstance(found, str) and found in words:
        return found
    raise _Wrong(f"{where} is {_shown(found)}; give one of {', '.join(words)}")


def _shown(found: Any) -> str:
    """A value on one line, and not too long."""
    text = json.dumps(found, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
