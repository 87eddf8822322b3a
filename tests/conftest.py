"""Settings and one fixture for all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How wide and how colourful somebody's shell is must not matter; what shares tests among processes sets the first.
for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(name, None)

if "CI" not in os.environ:  # there hypothesis has a profile of its own: no deadline, and always the same examples
    settings.register_profile("here", deadline=None)
    settings.load_profile("here")


@pytest.fixture(scope="session")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `unpack_dump` puts dumps of machines that tests only read: once each, for they are 20,000 files."""
    folder = tmp_path_factory.mktemp("dumps")
    yield folder
    shutil.rmtree(folder)
