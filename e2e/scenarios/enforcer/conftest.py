"""One node for all scenarios of this folder; each leaves it as it found it, and is held to that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.namespace import Namespace
from e2e.lab.shapes import named
from e2e.scenarios.enforcer.armed import Armed, armed_node


@pytest.fixture(scope="package")
def shared_node(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Armed]:
    """Two NUMA nodes of four CPUs: room for one pod of `test_bind`'s size on each, and not for a third."""
    with armed_node(plane, tmp_path_factory.mktemp("armed"), named("2x4")) as armed:
        yield armed


@pytest.fixture
def armed(shared_node: Armed) -> Iterator[Armed]:
    """The node without pods; afterwards every CPU that a scenario's pods had must be everybody's again."""
    yield shared_node
    shared_node.clear()


@pytest.fixture
def enforced(armed: Armed) -> Namespace:
    """A namespace whose pods get intents."""
    return armed.enforced()
