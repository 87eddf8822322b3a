"""The documents of a YAML or JSON file, read as Kubernetes would.

Two differences to plain YAML 1.1 matter: a date stays the text it is (the API has no dates), and ``22:22`` is text
too, no number in base 60. Nesting is bounded, because the C parser of PyYAML descends without a limit of its own and
would take the process down with it; so is what merge keys (``<<``) add up to, of which a line more can make ten times
as much.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from shared.errors import InputError

MAX_DEPTH = 100
"""Levels of nesting read. A pod has about fifteen."""

MAX_MERGED = 10_000
"""Entries that mappings with merge keys have in all. A manifest that uses them has some dozens."""

try:
    from yaml import CSafeLoader as _Base  # ten times as fast; some builds of PyYAML lack it
except ImportError:  # pragma: no cover
    from yaml import SafeLoader as _Base  # type: ignore[assignment]


class _Loader(_Base):
    """Plain data only, as deep as :data:`MAX_DEPTH`, with the scalars that Kubernetes knows."""

    _depth = 0
    _merged = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} levels")
        super().descend_resolver(current_node, current_index)

    def ascend_resolver(self) -> None:
        self._depth -= 1
        super().ascend_resolver()

    def flatten_mapping(self, node: Any) -> None:
        before = len(node.value)
        super().flatten_mapping(node)
        self._merged += max(0, len(node.value) - before)
        if self._merged > MAX_MERGED:
            raise yaml.YAMLError(f"its merge keys (<<) come to more than {MAX_MERGED:,} entries")


_NO_BASE_60 = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, _NO_BASE_60.get(tag, pattern)) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def read_documents(path: Path) -> list[object]:
    """Every document of a file; an empty one is None. Raises InputError with the file, and line and column if known."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8") from error
    return parse_documents(content, str(path))


def parse_documents(content: str, source: str) -> list[object]:
    """Every document of a text. The source is how errors call it."""
    if content.lstrip().startswith("{"):
        try:
            return [json.loads(content)]
        except (ValueError, RecursionError):
            pass  # a YAML flow mapping begins the same; its parser also tells line and column
    try:
        return list(yaml.load_all(content, Loader=_Loader))
    except yaml.YAMLError as error:
        raise InputError(f"{source} is neither YAML nor JSON: {_told(error)}") from error
    except ValueError as error:
        raise InputError(f"{source} cannot be read as YAML: {error}") from error
    except (LookupError, TypeError, AttributeError) as error:
        # PyYAML takes an explicit tag (``!!bool``, ``!!timestamp``) at its word, whatever text stands behind it.
        raise InputError(f"{source} cannot be read as YAML: a value is not what its tag (!!) says it is") from error


def _told(error: yaml.YAMLError) -> str:
    """The parser's complaint on one line, its place first."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())


def objects(documents: list[object]) -> Iterator[object]:
    """What the documents hold, lists (``kind: List``, ``PodList``) taken apart; empty documents are passed over."""
    for document in documents:
        items = document.get("items") if isinstance(document, dict) and _is_list(document) else None
        if isinstance(items, list):
            yield from items
        elif document is not None:
            yield document


def _is_list(document: dict[Any, Any]) -> bool:
    return str(document.get("kind")).endswith("List")
