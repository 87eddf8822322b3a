"""``python -m tests.fuzz [TARGET...]``: hostile input for everything that reads, a line for each target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from tests.fuzz.corpus import keep
from tests.fuzz.run import Tally, fuzz, looked
from tests.fuzz.target import Target, WrongError
from tests.fuzz.targets import TARGETS


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--runs", type=click.IntRange(min=1), help="Cases for each target, instead of its own number.")
@click.option("--full", is_flag=True, help="A million reviews, and of the others what takes as long.")
@click.option("--seed", default=1, show_default=True, help="Another seed makes other inputs.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="End each target after so many, if it has not ended.")
@click.option("--outcomes", is_flag=True, help="Say how often each outcome came, too.")
@click.option(
    "--input",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Look at this one input of the one named target.",
)
def main(
    targets: Sequence[str],
    runs: int | None,
    full: bool,
    seed: int,
    seconds: float | None,
    outcomes: bool,
    file: Path | None,
) -> None:
    """Look for what is wrong; all TARGETS when none is named. Exit code 1 where something was found."""
    chosen = [TARGETS[name] for name in targets or TARGETS]
    if file is not None:
        if len(targets) != 1:
            raise click.UsageError("--input is for one target; name it")
        sys.exit(_again(chosen[0], file))
    found = 0
    for target in chosen:
        try:
            tally = fuzz(target, runs or (target.full if full else target.runs), seed, seconds)
        except pytest.skip.Exception as reason:
            print(f"{target.name}: left out, {reason}", flush=True)
            continue
        _tell(tally, outcomes)
        found += tally.wrong
    sys.exit(min(found, 1))


def _tell(tally: Tally, outcomes: bool) -> None:
    print(tally.line, flush=True)
    if outcomes:
        for outcome, count in tally.outcomes.most_common():
            print(f"  {count:>9,}  {outcome}")
    for finding in tally.findings:
        print(f"  {finding.text[:300]}\n    kept in {keep(finding)}", flush=True)


def _again(target: Target, file: Path) -> int:
    with target.open() as session:
        try:
            print(", ".join(looked(target, session, file.read_bytes())))
        except WrongError as error:
            print(error)
            return 1
    return 0


if __name__ == "__main__":
    main()
