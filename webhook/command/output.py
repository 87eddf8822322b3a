"""What every command prints with: JSON and YAML byte for byte, tables and pictures for people.

The two are kept apart on purpose. What a program reads goes straight to standard output, so that no terminal's width or
colour can touch it; what a person reads goes through rich, which obeys ``NO_COLOR``, drops colour where there is no
terminal, and is told the width.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

VERSION = "armistice.dev/v1"
"""Of everything printed as JSON or YAML."""

NARROWEST, DEFAULT_WIDTH = 40, 100
"""Columns: below the first a table is not readable anyway; the second where nothing tells the width."""


NARROWEST_COLUMN = 12


class Format(Enum):
    """What ``-o`` takes in every command; some commands know more."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def print_json(content: Mapping[str, Any]) -> None:
    """One object, the version first, indented by two; never wrapped, never coloured."""
    sys.stdout.write(json.dumps({"version": VERSION, **content}, indent=2, ensure_ascii=not _unicode()) + "\n")


def _unicode() -> bool:
    """Whether standard output takes every character; escapes are used where it does not."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def print_yaml(content: Mapping[str, Any]) -> None:
    """The same as YAML."""
    write_yaml({"version": VERSION, **content})


def write_yaml(document: Mapping[str, Any]) -> None:
    """One YAML document as it is: keys in their order, nothing folded."""
    import yaml

    yaml.safe_dump(document, sys.stdout, sort_keys=False, width=10**6, allow_unicode=_unicode())


def print_document(content: Mapping[str, Any], form: Format) -> None:
    """JSON or YAML, as asked."""
    (print_json if form is Format.JSON else print_yaml)(content)


def console(*, stderr: bool = False) -> Console:
    """Where people read. Without a terminal the width is COLUMNS, or else 100, so that a log stays readable."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    columns = os.environ.get("COLUMNS", "")
    known = stream.isatty() or columns.isdigit()
    width = shutil.get_terminal_size().columns if known else DEFAULT_WIDTH
    return Console(file=stream, width=max(NARROWEST, width), highlight=False, soft_wrap=False, emoji=False)


def print_people(*renderables: RenderableType) -> None:
    """Tables, pictures and sentences for a person, to standard output."""
    out = console()
    for renderable in renderables:
        out.print(renderable, markup=False, crop=False)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), elastic: str = ""
) -> None:
    """A table without rules, a row a line, so that grep works on it.

    Columns in ``right`` are aligned as numbers are; ``elastic`` is cut to the width. Text of others goes through
    :func:`webhook.printable.printable` first.
    """
    from rich.text import Text

    cells = [list(columns), *map(list, rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    if elastic:
        place = columns.index(elastic)
        others = sum(widths) - widths[place] + 2 * (len(columns) - 1)
        widths[place] = min(widths[place], max(NARROWEST_COLUMN, console().width - others))
    lines: list[Text] = []
    for row in cells:
        fitted = [_fitted(cell, width) for cell, width in zip(row, widths, strict=True)]
        aligned = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(fitted, widths, columns, strict=True)
        ]
        lines.append(Text("  ".join(aligned).rstrip(), style="" if lines else "bold", no_wrap=True, overflow="ignore"))
    print_people(*lines)


def _fitted(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


def size(amount: int | None) -> str:
    """Bytes for a person, to three digits: ``512 MiB``, ``1.5 TiB``; ``?`` for unknown."""
    if amount is None:
        return "?"
    power = min(5, max(0, amount.bit_length() - 1) // 10)
    if amount >> (10 * power) >= 1000:  # 1,000 GiB is told as 0.977 TiB: four digits are no rounder
        power = min(5, power + 1)
    return f"{amount / (1 << 10 * power):.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[power]}"


def count(number: int, one: str, many: str = "") -> str:
    """A number with its word: ``1 CPU``, ``2 CPUs``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
