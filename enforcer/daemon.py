"""The enforcer's process: reads the node once, makes the adapters, and owns the tasks that live as long as it does.

1. Everything that can be wrong with the node or the settings is found before the runtime is spoken to.
2. The tasks run in one group: one that ends early ends the process, and the kubelet starts another, which knows as
   much.
3. At SIGTERM nothing is taken back: pods keep their cores, and the next process finds them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from enforcer.access import find
from enforcer.apiserver import ApiServer
from enforcer.cgroup import Cgroups
from enforcer.events import Events
from enforcer.health import Pages, Server
from enforcer.kernel import Level, Support
from enforcer.keys import Change, Keys
from enforcer.kubelet import CONFIG, CpuManager, Kubelet, read_config, reserve
from enforcer.metrics import Gauges, Metrics
from enforcer.namespaces import Namespaces
from enforcer.nri.reconnect import stay_connected
from enforcer.plugin import Plugin, Surroundings
from enforcer.publish import Publisher
from enforcer.report import Report, ReportFile
from enforcer.settings import Settings
from enforcer.state import State
from enforcer.targets import promises
from enforcer.watch import Watcher
from shared.ledger import Ledger
from shared.seal import PLUGIN
from shared.sysfs import read_machine
from shared.version import VERSION

LOG = logging.getLogger("armistice.enforcer")

INDEX = "90"
"""The runtime asks its plugins in the order of their indexes: the last one hears what the others did."""

INSPECTION = 0.02
"""Seconds of a tick that pods are inspected for; those that did not get their turn come first at the next."""

SETTLING = 0.2
"""Seconds in which changes are gathered before they are written down."""

PARTING = 2.0
"""Seconds at the end for events that are still to be told."""


async def run(settings: Settings) -> None:
    """The process, until SIGTERM or SIGINT. Raises SetupError where it cannot do its work here."""
    daemon = Daemon.prepare(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await daemon.serve(stop)


def first_state(settings: Settings, support: Support) -> State:
    """The node without any pod: its machine, less what is kept from pods."""
    machine = read_machine(settings.sysfs_root, settings.node)
    config = read_config(settings.kubelet_config or settings.kubelet / CONFIG)
    kept = reserve(machine, config, settings.reserved_cpus, settings.reserved_memory)
    LOG.info("reserved", extra={"cpus": str(kept.cpus), "memory": kept.memory, "source": kept.source})
    ledger = Ledger.of(machine, kept.cpus, kept.memory)
    best = Level.PARTITION if support.partitions else Level.CPUSET
    return State.fresh(ledger, best, support.why_not)


@dataclass(frozen=True, slots=True)
class Daemon:
    """Everything that lives as long as the process."""

    settings: Settings
    support: Support
    keys: Keys
    kubelet: Kubelet
    metrics: Metrics
    watcher: Watcher
    events: Events
    namespaces: Namespaces
    publisher: Publisher | None
    report: ReportFile
    plugin: Plugin

    @classmethod
    def prepare(cls, settings: Settings) -> Daemon:
        """Read and check everything. Raises SetupError."""
        cgroups = Cgroups(settings.cgroup_root)
        support = cgroups.check()
        LOG.info("cgroups", extra={"partitions": support.partitions, "why_not": support.why_not})
        keys, metrics, watcher = Keys(settings.keys), Metrics(VERSION), Watcher(cgroups)
        access = find(settings, os.environ)
        api = None if access is None else ApiServer(access)
        events = Events(api, settings.node)
        worker = ThreadPoolExecutor(1, thread_name_prefix="cgroups")
        around = Surroundings(cgroups, keys, watcher, events, metrics, worker)
        return cls(
            settings=settings,
            support=support,
            keys=keys,
            kubelet=Kubelet(settings.kubelet),
            metrics=metrics,
            watcher=watcher,
            events=events,
            namespaces=Namespaces(api),
            publisher=None if api is None else Publisher(api, settings.node),
            report=ReportFile(settings.state_dir),
            plugin=Plugin(first_state(settings, support), around),
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Run every task until told to stop."""
        await self.plugin.learn_kubelet(self.kubelet.cpu_manager is CpuManager.STATIC)
        server = Server(Pages(self._metrics_text, lambda: "", self._not_ready))
        if self.settings.listen:
            await server.start(self.settings.listen)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(work, name=name) for name, work in self._work().items()]
                await stop.wait()
                LOG.info("stopping")
                for task in running:
                    task.cancel()
        finally:
            await server.close()
            self.watcher.close()
            await self.events.drain(PARTING)

    def _work(self) -> dict[str, Coroutine[Any, Any, None]]:
        settings = self.settings
        publishing = {"publish": self.publisher.run()} if self.publisher else {}
        return {
            **publishing,
            "runtime": stay_connected(settings.nri_socket, PLUGIN, INDEX, self.plugin, told=self._connected),
            "watch": self._watch(),
            "questions": self._answer_questions(),
            "record": self._record(),
            "tick": self._tick(),
            "events": self.events.run(),
        }

    def _connected(self, connected: bool, text: str) -> None:
        self.metrics.connected = connected
        LOG.log(logging.INFO if connected else logging.WARNING, "runtime", extra={"said": text})

    def _not_ready(self) -> str:
        if not self.metrics.connected:
            return "the container runtime has not taken the enforcer in: see its log"
        return "" if self.plugin.synchronized else "the container runtime has not said yet what runs here"

    # The tasks.

    async def _watch(self) -> None:
        async for uid in self.watcher.changed():
            await self.plugin.look(uid)

    async def _answer_questions(self) -> None:
        while True:
            namespace = await self.plugin.questions.get()
            enforces = await self.namespaces.ask(namespace)
            if enforces is not None:
                await self.plugin.learn(namespace, enforces)

    async def _record(self) -> None:
        """Write changes down, for ``armistice proof`` and for schedulers."""
        while True:
            await self.plugin.changed.wait()
            await asyncio.sleep(SETTLING)
            self.plugin.changed.clear()
            state = self.plugin.state
            shared_pool = state.ledger.node_shared_pool
            report = Report(self.settings.node, shared_pool, self.support, promises(state))
            if warning := await asyncio.to_thread(self.report.write, report):
                LOG.warning("report", extra={"trouble": warning})
            if self.publisher:
                self.publisher.offer(state.ledger)

    async def _tick(self) -> None:
        """Look at what tells nothing by itself. The only thing that wakes an idle process."""
        turn: deque[str] = deque()
        while True:
            await asyncio.sleep(self.settings.tick)
            self._check_keys()
            if self.report.failing:  # the disk may have room again, and nothing else would tell
                self.plugin.changed.set()
            if self.kubelet.check():
                await self.plugin.learn_kubelet(self.kubelet.cpu_manager is CpuManager.STATIC)
            turn = turn or deque(self.plugin.state.pods)
            await self.plugin.inspect(turn, INSPECTION)

    def _check_keys(self) -> None:
        match self.keys.check():
            case Change.LOADED:
                LOG.info("keys", extra={"known": ",".join(sorted(self.keys.ring.keys))})
            case Change.REFUSED:
                LOG.error("keys", extra={"trouble": self.keys.trouble})
            case Change.NONE:
                pass

    def _metrics_text(self) -> bytes:
        state = self.plugin.state
        pods = Counter(pod.placement_class.value for pod in state.pods.values())
        misfits = sum(bool(pod.misfit) for pod in state.pods.values())
        gauges = Gauges.of(state.ledger, pods, misfits, state.best, state.static_kubelet)
        return self.metrics.text(replace(gauges, tasks=len(asyncio.all_tasks())))
