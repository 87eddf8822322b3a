"""What is in force in a namespace, and since when: each setting with where its value comes from.

The API server keeps no history of labels. What it keeps is when each field manager last changed something of its own
(``metadata.managedFields``), and a manager that another one overrules loses the field. So a label stands as it is at
least since the time of any manager that owns it; where none is said to, the namespace's own age is all there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from shared.errors import InputError
from webhook.policy import EXEMPT, LABELS, PREFIX, Label, Rules, from_labels, strangers


class Source(Enum):
    """Where a value comes from."""

    LABEL = "label"
    MISTYPED = "mistyped"
    """A label that cannot be read: the strictest value counts."""
    ENFORCE = "enforce"
    """``warn`` where no label says it: whoever is rejected is also told."""
    DEFAULT = "default"
    """The cluster's."""
    MODE = "mode"
    """The process may do no more than that, whatever is asked."""
    EXEMPT = "exempt"


class Since(Enum):
    """What a time stands for."""

    CHANGE = "change"
    """The last change by a field manager that owns the label: it stands at least since then."""
    CREATION = "creation"
    """The namespace was made then; nobody is said to own the label."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a namespace."""

    name: str
    """The label's, without the prefix."""
    value: str | int | None
    source: Source
    since: str = ""
    """As the API server writes times; empty where no label says the value."""
    since_what: Since | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is in force in one namespace."""

    namespace: str
    settings: tuple[Setting, ...]
    """One for each label that there is, in their order."""
    warnings: tuple[str, ...]
    """Labels that cannot be read, or have no effect."""

    @property
    def mistyped(self) -> bool:
        """Whether something stands there that counts as the strictest value only because it cannot be read."""
        return any(setting.source is Source.MISTYPED for setting in self.settings)


def standing(obj: Mapping[str, Any], rules: Rules) -> Standing:
    """What is in force in a Namespace (``v1``). Raises InputError where it is none."""
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise InputError("a Namespace has no metadata.name")
    given = metadata.get("labels")
    labels = {str(key): str(text) for key, text in given.items()} if isinstance(given, dict) else {}
    ours = {key: text for key, text in labels.items() if key.startswith(PREFIX)}
    if name in rules.exempt:
        settings = tuple(_setting(label, EXEMPT.policy, Source.EXEMPT) for label in LABELS)
        ignored = (f"it is exempt; its {PREFIX} labels have no effect",) if ours else ()
        return Standing(name, settings, ignored)
    asked, warnings = from_labels(ours, rules.defaults)
    settings = tuple(_found(label, ours, metadata, asked, rules) for label in LABELS)
    return Standing(name, settings, (*warnings, *strangers(ours)))


def _found(label: Label, labels: Mapping[str, str], metadata: Mapping[str, Any], asked: Any, rules: Rules) -> Setting:
    key = PREFIX + label.name
    effective = asked.under(rules.mode)
    source = Source.DEFAULT
    if key in labels:
        source = Source.MISTYPED if label.read(labels[key]) is None else Source.LABEL
    elif label.name == "warn" and asked.warn is not rules.defaults.warn:
        source = Source.ENFORCE
    if getattr(asked, label.field) != getattr(effective, label.field):
        return _setting(label, effective, Source.MODE)
    return _setting(label, effective, source, *(_since(key, metadata) if key in labels else ()))


def _setting(label: Label, policy: Any, source: Source, since: str = "", what: Since | None = None) -> Setting:
    value = getattr(policy, label.field)
    return Setting(label.name, value.value if isinstance(value, Enum) else value, source, since, what)


def _since(key: str, metadata: Mapping[str, Any]) -> tuple[str, Since | None]:
    times = sorted(_changes(key, metadata))  # those of the API server sort as text
    if times:
        return times[0], Since.CHANGE
    made = str(metadata.get("creationTimestamp") or "")
    return made, Since.CREATION if made else None


def _changes(key: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    """When the owners of a label last changed something of their own."""
    entries = metadata.get("managedFields")
    for entry in entries if isinstance(entries, list) else ():
        try:
            owned = key_owned(entry["fieldsV1"], key)
        except (KeyError, TypeError):
            continue
        if owned and entry.get("time"):
            yield str(entry["time"])


def key_owned(fields: Mapping[str, Any], key: str) -> bool:
    """Whether a field set (``fieldsV1``) has a label in it. Raises KeyError or TypeError where it has no labels."""
    return f"f:{key}" in fields["f:metadata"]["f:labels"]
