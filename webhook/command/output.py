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


class Format(Enum):
    """What ``-o`` takes in every command; some commands know more."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def print_json(content: Mapping[str, Any]) -> None:
    """One object, the version first, indented by two; never wrapped, never coloured."""
    sys.stdout.write(json.dumps({"version": VERSION, **content}, indent=2, ensure_ascii=False) + "\n")


def print_yaml(content: Mapping[str, Any]) -> None:
    """The same as YAML."""
    write_yaml({"version": VERSION, **content})


def write_yaml(document: Mapping[str, Any]) -> None:
    """One YAML document as it is: keys in their order, nothing folded."""
    import yaml

    yaml.safe_dump(document, sys.stdout, sort_keys=False, width=10**6, allow_unicode=True)


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
        out.print(renderable, markup=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table without lines. The named columns are set to the right, as numbers are."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    print_people(table)


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
