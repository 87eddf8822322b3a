"""The enforcer's own process: what it holds in memory, what it does while nothing happens, what an NRI call costs.

A fake runtime on a real socket plays the start of 200 pods with three containers each; the kernel's cgroup files are
plain files in a folder, so that what the kernel itself needs is not in the figures. The floor is a plugin that answers
at once.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from enforcer.nri.reconnect import stay_connected
from enforcer.runtime import Container, Sandbox
from shared.intent import make
from shared.policy import Placing
from shared.seal import ANNOTATION, SigningKey, seal
from tests.bench.process import read
from tests.bench.report import Figure, Target
from tests.enforcer.nri.recorder import Recorder
from tests.support.fake_runtime import Dialect, FakePlugin, FakeRuntime
from tests.support.node_folder import arguments, make_cgroup, make_node
from tests.support.pods import asking, even, pod, weighed

PODS, OWNERS = 200, 32
"""As many pods as the target for memory names; of them those that own CPUs: what the machine holds."""

TICK = 10.0
"""Seconds; the enforcer's default."""

LIMIT_MEMORY, LIMIT_CALL, LIMIT_WAKES = 48.0, 2.0, 0.6
"""Targets: MiB resident; milliseconds for an NRI call; wake-ups per second: one slow tick in ten seconds wakes the loop
and the thread that reads the kernel's files, each twice at most."""


def measure(quick: bool) -> Iterator[Figure]:
    """One process each time."""
    rounds = [asyncio.run(_life(TICK if quick else 3 * TICK)) for _ in range(1 if quick else 3)]
    floors = [asyncio.run(_floor()) for _ in rounds]

    def figure(what: str, unit: str, values: list[float], limit: float | None = None) -> Figure:
        return Figure("enforcer", what, unit, tuple(values), None if limit is None else Target(limit))

    yield figure(f"resident memory with {PODS} pods", "MiB", [each.memory for each in rounds], LIMIT_MEMORY)
    yield figure("wake-ups while idle", "per s", [each.wakes for each in rounds], LIMIT_WAKES)
    yield figure("processor time while idle", "ms per s", [each.idle for each in rounds])
    yield figure("RunPodSandbox, there and back", "ms", [each.sandbox for each in rounds], LIMIT_CALL)
    yield figure("CreateContainer, there and back", "ms", [each.create for each in rounds], LIMIT_CALL)
    yield figure("CreateContainer of a plugin that does nothing", "ms", floors)
    yield figure("processor time for a pod's start", "ms", [each.processor for each in rounds])


@dataclass(frozen=True, slots=True)
class Life:
    """One process's figures, in the units of :func:`measure`."""

    memory: float
    wakes: float
    idle: float
    sandbox: float
    create: float
    processor: float


async def _life(idle: float) -> Life:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        key = make_node(folder)
        async with FakeRuntime(folder / "nri.sock", Dialect.NRI_0_12) as runtime, _enforcer(folder) as process:
            plugin = await runtime.plugin()
            before = read(process.pid)
            sandbox, create = await _pods_start(plugin, folder, key)
            started = read(process.pid)
            await asyncio.sleep(1)
            settled = read(process.pid)
            await asyncio.sleep(idle)
            rested = read(process.pid)
            passed = rested.at - settled.at
            return Life(
                memory=rested.resident,
                wakes=(rested.wakes - settled.wakes) / passed,
                idle=(rested.processor - settled.processor) / passed,
                sandbox=sandbox,
                create=create,
                processor=(started.processor - before.processor) / PODS,
            )


@asynccontextmanager
async def _enforcer(folder: Path) -> AsyncIterator[Process]:
    words = [*arguments(folder), "--listen", "", "--tick", str(TICK)]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _pods_start(plugin: FakePlugin, folder: Path, key: SigningKey) -> tuple[float, float]:
    """Mean milliseconds of RunPodSandbox and of CreateContainer."""
    sandboxes = creates = 0.0
    for number in range(PODS):
        box, names = _pod(number, key)
        make_cgroup(folder / "cgroup" / box.cgroup_parent.strip("/"))
        since = perf_counter()
        await plugin.run_sandbox(box)
        sandboxes += perf_counter() - since
        for name in names:
            creates += await _container_starts(plugin, folder, box, name)
    return 1000 * sandboxes / PODS, 1000 * creates / (3 * PODS)


async def _container_starts(plugin: FakePlugin, folder: Path, box: Sandbox, name: str) -> float:
    """Seconds of CreateContainer."""
    path = f"{box.cgroup_parent}/{box.uid}-{name}"
    container = Container(f"{box.uid}-{name}", box.id, name, cgroups_path=path)
    since = perf_counter()
    reply = await plugin.create(box, container)
    seconds = perf_counter() - since
    make_cgroup(folder / "cgroup" / path.strip("/"))
    if reply.adjustment:
        (folder / "cgroup" / path.strip("/") / "cpuset.cpus.effective").write_text(reply.adjustment.cpus)
        (folder / "cgroup" / path.strip("/") / "cpuset.mems.effective").write_text(reply.adjustment.mems)
    await plugin.start(box, container)
    return seconds


def _pod(number: int, key: SigningKey) -> tuple[Sandbox, tuple[str, ...]]:
    uid = f"{number:08x}-0000-4000-8000-000000000000"
    app = even("app", "2", "64Mi") if number < OWNERS else asking("app", "50m", "16Mi")
    given = pod(app, asking("proxy", "100m", "16Mi"), init=(asking("setup", "10m", "16Mi"),))
    text = seal(make(weighed(given), Placing()), "shop", f"web-{number}", "", key)
    annotations = {ANNOTATION: text, "kubernetes.io/config.source": "api"}
    return Sandbox(f"box{number}", uid, "shop", f"web-{number}", annotations, f"/kubepods/pod{uid}", 7), (
        "setup",
        "app",
        "proxy",
    )


async def _floor() -> float:
    """Milliseconds for CreateContainer of a plugin of the same make whose handlers do nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        async with FakeRuntime(Path(scratch) / "nri.sock", Dialect.NRI_0_12) as runtime:
            serving = asyncio.create_task(stay_connected(runtime.path, "noop", "90", Recorder(), told=lambda *_: None))
            plugin = await runtime.plugin()
            box, container = Sandbox("b", "u", "shop", "web"), Container("c", "b", "app")
            since = perf_counter()
            for _ in range(3 * PODS):
                await plugin.create(box, container)
            seconds = perf_counter() - since
            serving.cancel()
            return 1000 * seconds / (3 * PODS)
