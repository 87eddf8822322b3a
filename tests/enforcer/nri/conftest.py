"""What every test of the connection starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.enforcer.nri.recorder import Recorder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the runtime listens."""
    return tmp_path / "nri.sock"


@pytest.fixture
def handlers() -> Recorder:
    """Who answers."""
    return Recorder()
