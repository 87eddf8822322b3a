"""What scenarios are given: one control plane for the session, and a fresh namespace for each test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.namespace import Namespace
from e2e.lab.state import Run
from e2e.lab.tools import NEWEST

pytest_plugins = ["e2e.phases"]

Planes = Callable[[str], ControlPlane]
"""Kubernetes' minor version to a control plane of it."""


@pytest.fixture(scope="session")
def planes() -> Iterator[Planes]:
    """Control planes of the session's own, each started when it is first asked for."""
    runs: list[Run] = []
    started: dict[str, ControlPlane] = {}

    def of(kubernetes: str) -> ControlPlane:
        if kubernetes not in started:
            runs.append(Run.create(f"test-{os.getpid()}-{secrets.token_hex(2)}"))
            started[kubernetes] = ControlPlane.start(runs[-1], kubernetes=kubernetes)
        return started[kubernetes]

    yield of
    for run in runs:
        run.down()


@pytest.fixture(scope="session")
def plane(planes: Planes) -> ControlPlane:
    """A control plane of the newest Kubernetes."""
    try:
        return planes(NEWEST)
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[Namespace]:
    """A namespace that nobody else uses."""
    made = Namespace.make(plane)
    yield made
    made.drop()
