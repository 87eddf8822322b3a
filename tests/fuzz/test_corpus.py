"""What was found once is looked at for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pytest

from tests.fuzz.corpus import CORPUS, keep, kept
from tests.fuzz.run import Finding, looked
from tests.fuzz.target import Session
from tests.fuzz.targets import TARGETS

KEPT = [(name, path) for name in TARGETS for path in kept(name)]
ROWS = [
    pytest.param(name, path, id=f"{name}/{path.stem}", marks=[pytest.mark.slow] if TARGETS[name].builds else [])
    for name, path in KEPT
]


@pytest.fixture(scope="module")
def session_of() -> Iterator[Callable[[str], Session]]:
    """One of each target that has a corpus, opened when it is first needed."""
    with ExitStack() as stack:
        yield lru_cache(lambda name: stack.enter_context(TARGETS[name].open()))


@pytest.mark.parametrize(("name", "path"), ROWS)
def test_a_finding_stays_mended(name: str, path: Path, session_of: Callable[[str], Session]) -> None:
    assert looked(TARGETS[name], session_of(name), path.read_bytes())


def test_every_kept_input_says_how_to_repeat_it() -> None:
    silent = [path.name for _, path in KEPT if f"--input tests/fuzz/corpus/{path.parent.name}/{path.name}" not in
              path.with_suffix(".txt").read_text(encoding="utf-8")]  # fmt: skip
    assert silent == []


def test_every_folder_of_the_corpus_is_a_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(TARGETS)


def test_a_finding_is_kept_with_how_to_repeat_it(tmp_path: Path) -> None:
    finding = Finding("reviews", "another uid: 'a' for\n'b'", b"\x00{}", seed=7, number=12)
    path = keep(finding, tmp_path)
    assert kept("reviews", tmp_path) == [path]
    assert path.read_bytes() == b"\x00{}"
    assert path.with_suffix(".txt").read_text() == (
        "another uid: 'a' for 'b'\n\nFound as input 12 of seed 7. Again, this input alone:\n\n"
        f"    python -m tests.fuzz reviews --input tests/fuzz/corpus/reviews/{path.name}\n"
    )
