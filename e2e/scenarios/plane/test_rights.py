"""Each right that the chart gives is needed: without it something that people would notice fails, and no more is given.

Both programs run as processes with the chart's service accounts. The enforcer's node is this machine with
cgroups in a folder, and its runtime a fake (`tests/support`): what it asks of an API server depends on neither.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAME, TOPOLOGIES
from e2e.lab.installed import Installed
from e2e.lab.namespace import Namespace
from e2e.lab.rights import Right, Role
from enforcer.runtime import Container, Sandbox
from shared.seal import ANNOTATION
from tests.support.fake_runtime import FakeRuntime
from tests.support.node_folder import arguments, furnish

pytestmark = pytest.mark.slow

NODE = "folder"

NOTICED_WITHIN = 20.0
"""Seconds until what fails without a right must have been said; measured 1 to 3."""


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> Iterator[Installed]:
    """The chart with all of its rights, and no pod: there is no node."""
    found = Installed.install(plane, {"enforcer": {"enabled": True}})
    yield found
    found.uninstall()
    plane.wait_settled()


# The enforcer.


@asynccontextmanager
async def enforcer(installed: Installed, folder: Path) -> AsyncIterator[tuple[Path, FakeRuntime]]:
    """Its process with its service account, on a node in a folder; what it says goes to a file."""
    furnish(folder)
    words = [word for word in arguments(folder) if word != "--no-cluster"]
    for option, value in (("--node", NODE), ("--sysfs", "/")):
        words[words.index(option) + 1] = value
    account = ["--kubeconfig", str(installed.account(NAME)), "--listen", ""]
    log = folder / "log"
    async with FakeRuntime(folder / "nri.sock") as runtime:
        with log.open("wb") as out:
            argv = installed.plane.inside([sys.executable, *words, *account])
            process = await asyncio.create_subprocess_exec(*argv, stderr=out, env=dict(os.environ))
        try:
            yield log, runtime
        finally:
            process.kill()
            await process.wait()


async def a_forged_pod_comes(runtime: FakeRuntime, space: str) -> None:
    """Its owner is to be told, and whether it may run depends on its namespace."""
    plugin = await runtime.plugin()
    box = Sandbox("box", "uid", space, "forged", {ANNOTATION: "all the cores, please"}, "/kubepods/poduid", 77)
    await plugin.run_sandbox(box)
    try:
        await plugin.create(box, Container("id", "box", "app", cgroups_path="/kubepods/poduid/id"))
    except Exception as error:  # in a namespace that enforces, or that is not known, it is refused
        print(error)


def published(installed: Installed) -> str:
    """The owners of what the node has published; ``none`` where it has nothing, and empty where nobody owns it."""
    path = "jsonpath={.metadata.ownerReferences[*].name}"
    done = installed.plane.kubectl_raw("get", TOPOLOGIES, NODE, "-o", path)
    return done.stdout if done.returncode == 0 else "none"


Noticed = Callable[[Installed, str], bool]
"""Whether something is wrong, by the cluster and the log."""

ENFORCERS: dict[Right, Noticed] = {
    Right("namespaces", "get"): lambda installed, log: "namespace not known" in log and "refuses GET" in log,
    Right("nodes", "get"): lambda installed, log: published(installed) == "",
    Right("events", "create"): lambda installed, log: "event not taken" in log and "403" in log,
    Right(TOPOLOGIES, "create"): lambda installed, log: "topology not published" in log,
    Right(TOPOLOGIES, "patch"): lambda installed, log: "topology not published" in log,
}
"""What somebody notices without the right."""


def test_the_enforcer_has_these_rights_and_no_others(installed: Installed) -> None:
    assert sorted(Role.read(installed.plane, "clusterrole", NAME).stored) == sorted(ENFORCERS)


@pytest.fixture
def node(installed: Installed) -> Iterator[None]:
    """The Node object that stands for the folder; nothing is published of it yet."""
    installed.plane.kubectl("create", "-f", "-", input=f"{{apiVersion: v1, kind: Node, metadata: {{name: {NODE}}}}}")
    yield
    installed.plane.kubectl("delete", "node", NODE)
    installed.plane.kubectl("delete", TOPOLOGIES, NODE, "--ignore-not-found")


@pytest.mark.usefixtures("node")
async def test_with_all_of_them_nothing_is_noticed(installed: Installed, namespace: Namespace, tmp_path: Path) -> None:
    async with enforcer(installed, tmp_path) as (log, runtime):
        await a_forged_pod_comes(runtime, namespace.name)
        await until(lambda: published(installed) == NODE and namespace.list("events") != [], log)
        noticed = [str(right) for right, look in ENFORCERS.items() if look(installed, log.read_text())]
        assert noticed == []


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("right", ENFORCERS, ids=str)
async def test_the_enforcer_needs(installed: Installed, namespace: Namespace, tmp_path: Path, right: Right) -> None:
    with Role.read(installed.plane, "clusterrole", NAME).without(right):
        async with enforcer(installed, tmp_path) as (log, runtime):
            await a_forged_pod_comes(runtime, namespace.name)
            await until(lambda: ENFORCERS[right](installed, log.read_text()), log)


async def until(noticed: Callable[[], bool], log: Path) -> None:
    """Until it is so; fails with the log."""
    end = time.monotonic() + NOTICED_WITHIN
    while not await asyncio.to_thread(noticed):
        assert time.monotonic() < end, log.read_text()
        await asyncio.sleep(0.2)
