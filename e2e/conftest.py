"""What scenarios are given: one control plane for the session, and a fresh namespace for each test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.namespace import Namespace
from e2e.lab.state import Run


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane of the session's own."""
    try:
        run = Run.create(f"test-{os.getpid()}-{secrets.token_hex(2)}")
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield ControlPlane.start(run)
    finally:
        run.down()


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[Namespace]:
    """A namespace that nobody else uses."""
    made = Namespace.make(plane)
    yield made
    made.drop()
