"""What the scenarios of every kind are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.cache import cache_folder
from e2e.lab.progress import Progress
from e2e.lab.tools import CONTROL_PLANE, build_all
from e2e.scenarios.person import Person

KEPT = ("tools", "nodes", "images", "snapshots")
"""What of everybody's cache a person has too: what takes long to make."""


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Their runs are ended whatever the test does."""
    build_all(CONTROL_PLANE, Progress())
    for name in KEPT:
        (cache_folder() / name).mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(cache_folder() / name)
    person = Person(tmp_path)
    yield person
    for name in person.run_folders():
        person.types("down", "--name", name)
