"""``python -m tests.bench [SECTION...] [--quick] [--json | --readme]``: every figure that the README gives."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module

import click
import pytest
from rich.console import Console

from tests.bench.report import Figure, Report, as_json, markdown, show

SECTIONS = (
    "allocator", "packing", "choice", "kubelet", "exact", "start", "enforcer", "node",
    "admission", "stages", "webhooks", "create", "cluster", "lapse", "latency",
)  # fmt: skip
"""A module of this package each, with ``measure(quick)``."""


@click.command()
@click.argument("sections", nargs=-1, type=click.Choice(SECTIONS))
@click.option("--quick", is_flag=True, help="Fewer rounds: does it run, and about what comes out.")
@click.option("--json", "to_json", is_flag=True, help="Print JSON, every round's value included.")
@click.option("--readme", is_flag=True, help="Print the README's table in Markdown: the rows with a target.")
def main(sections: Sequence[str], quick: bool, to_json: bool, readme: bool) -> None:
    """Measure; all SECTIONS when none is named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended too
    figures: list[Figure] = []
    skipped: list[str] = []
    for section in sections or SECTIONS:
        print(f"measuring: {section}", file=sys.stderr, flush=True)
        try:
            with redirect_stdout(sys.stderr):  # the lab says what it does; standard output is for the figures
                figures += import_module(f"tests.bench.{section}").measure(quick)
        except pytest.skip.Exception as reason:
            skipped.append(f"{section}: {reason}")
    report = Report(tuple(figures), tuple(skipped))
    if to_json:
        print(json.dumps(as_json(report), indent=1))
    elif readme:
        print(markdown(report))
    else:
        show(report, Console())


if __name__ == "__main__":
    main()
