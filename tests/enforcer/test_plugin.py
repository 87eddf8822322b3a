"""The whole shell over a real socket: a runtime's events in, answers and the kernel's files (a model of them) out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enforcer.cgroup import Cgroups
from enforcer.events import Events
from enforcer.keys import Keys
from enforcer.metrics import Gauges, Metrics
from enforcer.nri.reconnect import stay_connected
from enforcer.plugin import Plugin, Surroundings
from enforcer.runtime import Container, Sandbox
from enforcer.state import State
from enforcer.watch import Watcher
from shared.cpuset import CpuSet
from tests.enforcer.scenes import APP, KEY, OTHER_KEY, PROXIED, container, fresh, sandbox, wish
from tests.support.cgroupfs import CgroupFs
from tests.support.fake_runtime import CallError, Dialect, FakePlugin, FakeRuntime


@dataclass
class Node:
    """A runtime, a kernel and an enforcer between them."""

    runtime: FakeRuntime
    kernel: CgroupFs
    folder: Path
    state: State = field(default_factory=fresh)
    plugin: Plugin = field(init=False)
    wire: FakePlugin = field(init=False)

    async def start(self, *boxes: Sandbox, containers: tuple[Container, ...] = ()) -> asyncio.Task[None]:
        """A new process of the enforcer, which knows nothing, and its first connection."""
        cgroups = Cgroups(self.kernel.root, self.kernel.write)
        worker = ThreadPoolExecutor(1)
        around = Surroundings(
            cgroups, Keys(self.folder / "keys.pem"), Watcher(cgroups), Events(None, "n"), Metrics(), worker
        )
        self.plugin = Plugin(self.state, around)
        task = asyncio.create_task(self._live(around))
        self.wire = await self.runtime.plugin(boxes, containers)
        return task

    async def _live(self, around: Surroundings) -> None:
        try:
            await stay_connected(self.runtime.path, "armistice", "90", self.plugin, told=lambda *_: None)
        finally:
            around.watcher.close()
            around.worker.shutdown()

    async def arrives(self, box: Sandbox) -> None:
        self.kernel.make(box.cgroup_parent.strip("/"))
        await self.wire.run_sandbox(box)

    async def runs(self, box: Sandbox, name: str) -> Container:
        """A container created as the runtime does it, with what the plugin said; as Synchronize would show it."""
        made = container(box, name)
        reply = await self.wire.create(box, made)
        told = reply.adjustment
        self.kernel.make(made.cgroups_path.strip("/"))
        if told is None:
            return made
        path = self.kernel.root / made.cgroups_path.strip("/")
        self.kernel.write(path / "cpuset.cpus", told.cpus)
        await self.wire.start(box, made)
        return replace(made, cpus=told.cpus, mems=told.mems, annotations=told.annotations)

    def reads(self, path: str, file: str) -> str:
        return (self.kernel.root / path.strip("/") / file).read_text().strip()


@pytest.fixture(params=list(Dialect), ids=lambda dialect: dialect.name)
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    key = Ed25519PublicKey.from_public_bytes(KEY.public)
    (tmp_path / "keys.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    kernel = CgroupFs(tmp_path / "cgroup", CpuSet.parse("0-7"), CpuSet.parse("0-1"))
    async with FakeRuntime(tmp_path / "nri.sock", request.param) as runtime:
        yield Node(runtime, kernel, tmp_path)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_a_pod_gets_a_partition_its_app_a_slice_and_its_sidecar_the_rest(node: Node) -> None:
    task = await node.start()
    box = sandbox("web", wish(PROXIED))
    await node.arrives(box)
    assert node.reads("kubepods/podweb", "cpuset.cpus.partition") == "root"
    app, proxy = await node.runs(box, "app"), await node.runs(box, "proxy")
    bubble = CpuSet.parse(node.reads("kubepods/podweb", "cpuset.cpus.exclusive"))
    assert len(CpuSet.parse(app.cpus)) == 2
    assert CpuSet.parse(app.cpus) | CpuSet.parse(proxy.cpus) == bubble
    assert CpuSet.parse(app.cpus).isdisjoint(CpuSet.parse(proxy.cpus))
    assert app.mems == proxy.mems in ("0", "1")
    await stopped(task)


async def test_a_pod_that_waits_for_room_starts_once_another_is_gone(node: Node) -> None:
    task = await node.start()
    first, second, third = (sandbox(name, wish(PROXIED)) for name in ("one", "two", "three"))
    for box in (first, second):
        await node.arrives(box)
        await node.runs(box, "app")
    await node.arrives(third)  # never refused here
    with pytest.raises(CallError, match="pod shop/three asks 3 CPUs"):
        await node.runs(third, "app")
    node.kernel.remove("kubepods/podone")
    await node.wire.remove_sandbox(first)
    made = await node.runs(third, "app")
    assert len(CpuSet.parse(made.cpus)) == 2
    await stopped(task)


async def test_the_end_of_a_pod_is_noticed_without_an_event_of_the_runtime(node: Node) -> None:
    task = await node.start()
    watching = asyncio.create_task(_watch(node.plugin))
    await node.arrives(sandbox("web", wish(APP)))
    assert "web" in node.plugin.state.pods
    node.kernel.remove("kubepods/podweb")
    async with asyncio.timeout(5):
        while "web" in node.plugin.state.pods or node.reads("kubepods", "cpuset.cpus.exclusive"):
            await asyncio.sleep(0.01)
    assert node.reads("kubepods", "cpuset.cpus.exclusive") == ""
    watching.cancel()
    await stopped(task)


async def _watch(plugin: Plugin) -> None:
    async for uid in plugin._around.watcher.changed():
        await plugin.look(uid)


async def test_a_new_process_finds_every_place_again(node: Node) -> None:
    task = await node.start()
    boxes = [sandbox("one", wish(PROXIED)), sandbox("two", wish(APP))]
    containers = []
    for box in boxes:
        await node.arrives(box)
        containers.append(await node.runs(box, "app"))
    before = node.plugin.state.ledger
    await stopped(task)
    task = await node.start(*boxes, containers=tuple(containers))
    assert node.wire.synchronized == ()
    assert node.plugin.state.ledger == before
    await stopped(task)


async def test_an_intent_of_a_foreign_key_gets_no_cores_and_no_container_while_the_namespace_is_unknown(
    node: Node,
) -> None:
    task = await node.start()
    box = sandbox("web", wish(APP), key=OTHER_KEY)
    await node.arrives(box)
    assert node.reads("kubepods/podweb", "cpuset.cpus.partition") == "member"
    with pytest.raises(CallError, match="was signed with the key"):
        await node.runs(box, "app")
    assert node.plugin.questions.get_nowait() == "shop"
    await node.plugin.learn("shop", False)
    made = await node.runs(box, "app")
    assert len(CpuSet.parse(made.cpus)) > 2
    await stopped(task)


async def test_a_container_that_the_kernel_lets_run_elsewhere_is_not_started(node: Node) -> None:
    task = await node.start()
    box = sandbox("web", wish(APP))
    await node.arrives(box)
    made = container(box, "app")
    await node.wire.create(box, made)
    node.kernel.make(made.cgroups_path.strip("/"))
    node.kernel.write(node.kernel.root / "kubepods/podweb/cpuset.cpus.partition", "member")
    with pytest.raises(CallError, match="container app of pod shop/web"):
        await node.wire.start(box, made)
    await stopped(task)


async def test_what_somebody_wrote_by_hand_is_put_right(node: Node) -> None:
    task = await node.start()
    box = sandbox("web", wish(PROXIED))
    await node.arrives(box)
    app = await node.runs(box, "app")
    file = node.kernel.root / app.cgroups_path.strip("/") / "cpuset.cpus"
    node.kernel.write(file, "0-7")
    await node.plugin.inspect(deque(["web"]), 1)
    assert file.read_text().strip() == app.cpus
    assert b'drift_total{what="cpus"} 1\n' in node.plugin.metrics.text(Gauges())
    await stopped(task)
