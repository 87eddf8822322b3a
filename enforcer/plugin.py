"""The node agent's shell: each event becomes one transaction on the state, and nothing else changes it.

1. Take the lock: the runtime serialises its events, but the kernel's and the API server's answers come between them.
2. Read what the decision needs from the kernel, in the worker thread.
3. Decide: a pure function of :mod:`enforcer.decisions` gives the next state, effects and an answer.
4. Replace the state, in one assignment.
5. Do the effects, in their order. What the kernel said to a partition is a decision of its own, at once.
6. Answer, or refuse with the decision's words.

A handler whose deadline passes is answered for, and goes on: it changes the state in one piece, and what it leaves
undone in the kernel, the watch or the slow tick finds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from time import monotonic, perf_counter
from typing import Any, Concatenate, ParamSpec, TypeVar, assert_never

from enforcer import decisions
from enforcer.cgroup import Cgroups
from enforcer.effects import Ask, Confine, Effect, Enclose, Forget, Reason, Step, Tell, Watch
from enforcer.errors import KernelError, RefusedError
from enforcer.events import Events
from enforcer.kernel import ContainerReading, PodReading
from enforcer.keys import Keys
from enforcer.metrics import Call, Drifted, Metrics, Refused
from enforcer.partition import enclose, trim
from enforcer.promise import PodPromise
from enforcer.recovery import recover
from enforcer.repair import repair
from enforcer.runtime import Container, Reply, Sandbox
from enforcer.state import State
from enforcer.targets import promises
from enforcer.trust import SILENT, believe
from enforcer.verify import Drift, verify
from enforcer.watch import Watcher
from shared.cpuset import EMPTY

LOG = logging.getLogger("armistice.enforcer")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The adapters of everything outside the process that a transaction touches."""

    cgroups: Cgroups
    keys: Keys
    watcher: Watcher
    events: Events
    metrics: Metrics
    worker: ThreadPoolExecutor
    """One thread: what is written to the kernel is written in the order in which it was decided."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was found of one pod."""

    uid: str
    reading: PodReading | None
    """Of its cgroup; None where that is gone."""
    mended: Sequence[tuple[Drift, bool]]
    """What of its containers differed, and whether it is right again."""


Handler = Callable[Concatenate["Plugin", P], Coroutine[Any, Any, T]]


def timed(call: Call) -> Callable[[Handler[P, T]], Handler[P, T]]:
    """Count a handler's calls, and the time from the call to the answer."""

    def around(handler: Handler[P, T]) -> Handler[P, T]:
        @wraps(handler)
        async def counted(plugin: Plugin, /, *args: P.args, **kwargs: P.kwargs) -> T:
            since = perf_counter()
            try:
                return await handler(plugin, *args, **kwargs)
            finally:
                plugin.metrics.called(call, perf_counter() - since)

        return counted

    return around


class Plugin:
    """Answers the runtime. Implements :class:`enforcer.nri.handlers.Handlers`."""

    def __init__(self, fresh: State, around: Surroundings) -> None:
        self._fresh = fresh
        """The node without any pod."""
        self._around = around
        self.metrics = around.metrics
        self._lock = asyncio.Lock()
        self.state = fresh
        self.synchronized = False
        """Whether the runtime has said what runs here."""
        self.changed = asyncio.Event()
        """Set whenever the state has changed; whoever writes it down clears it."""
        self.questions: asyncio.Queue[str] = asyncio.Queue()
        """Namespaces of which it has to be found out whether they enforce."""

    # What the runtime says.

    async def configured(self, runtime: str, version: str, nri_version: str) -> None:
        """The runtime has taken us in."""
        LOG.info("connected", extra={"runtime": runtime, "version": version, "nri": nri_version or "before 0.12"})

    @timed(Call.SYNCHRONIZE)
    async def synchronize(self, sandboxes: Sequence[Sandbox], containers: Sequence[Container]) -> Reply:
        """Everything that runs on the node, at each connection: the state is made anew from it."""
        async with self._lock:
            readings = await self._in_worker(lambda: {pod.uid: self._reading(pod.cgroup_parent) for pod in sandboxes})
            keys = self._around.keys.ring
            reply = await self._take(recover(self._fresh, sandboxes, containers, readings, keys, self.state))
            await self._in_worker(lambda: self._trim(self.state))
            self.synchronized = True
            self.changed.set()  # a node without pods is news too
            return reply

    @timed(Call.RUN_SANDBOX)
    async def run_sandbox(self, sandbox: Sandbox) -> Reply:
        """Reserve the whole bubble, or remember why not."""
        async with self._lock:
            belief = believe(sandbox, self._around.keys.ring)
            if belief.doubt:
                self.metrics.doubted(belief.reason)
            return await self._take(decisions.reserve(self.state, sandbox, belief))

    @timed(Call.STOP_SANDBOX)
    async def stop_sandbox(self, sandbox: Sandbox) -> None:
        """The pod's containers are no more; its place stays its own until its cgroup is gone."""
        async with self._lock:
            await self._take(decisions.sandbox_removed(self.state, sandbox))

    @timed(Call.REMOVE_SANDBOX)
    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        """The sandbox is gone; the pod's cgroup may be, too."""
        async with self._lock:
            await self._take(decisions.sandbox_removed(self.state, sandbox))
            await self._look(sandbox.uid)

    @timed(Call.CREATE)
    async def create(self, sandbox: Sandbox, container: Container) -> Reply:
        """Find a place for a pod that has none yet, then carve the container out of it."""
        async with self._lock:
            asked = decisions.undecided(self.state, sandbox.uid)  # opening a seal takes as long as all the rest
            belief = believe(sandbox, self._around.keys.ring) if asked else SILENT
            await self._take(decisions.seat(self.state, sandbox, belief))
            step = decisions.create(self.state, sandbox, container)
            if step.refusal:
                self.metrics.refused(self._refused(sandbox.uid))
            return await self._take(step)

    @timed(Call.START)
    async def start(self, sandbox: Sandbox, container: Container) -> None:
        """Hold what the kernel gives the container against what was promised, before its first instruction."""
        async with self._lock:
            reading = None
            if self.state.placement(sandbox.uid):
                path, parent = container.cgroups_path, sandbox.cgroup_parent
                reading = await self._in_worker(lambda: self._read_container(path, parent))
            step = decisions.start(self.state, sandbox, container, reading)
            if step.refusal:
                self.metrics.refused(Refused.NOT_CONFINED)
            await self._take(step)

    @timed(Call.UPDATE)
    async def update(self, sandbox: Sandbox, container: Container) -> Reply:
        """The kubelet changes a container's resources: its CPUs stay what they are."""
        async with self._lock:
            return await self._take(decisions.update(self.state, sandbox, container))

    @timed(Call.STOP)
    async def stop(self, sandbox: Sandbox, container: Container) -> Reply:
        """A container has ended; others may have wider sets now."""
        async with self._lock:
            return await self._take(decisions.stop(self.state, sandbox, container))

    @timed(Call.REMOVE)
    async def remove(self, sandbox: Sandbox, container: Container) -> None:
        """A container is gone for good."""
        async with self._lock:
            await self._take(decisions.remove(self.state, sandbox, container))

    # What others say.

    async def look(self, uid: str) -> None:
        """Something happened to a pod's cgroup."""
        async with self._lock:
            await self._look(uid)

    async def learn(self, namespace: str, enforces: bool) -> None:
        """Whether a namespace's pods are refused when their intent cannot be believed."""
        async with self._lock:
            await self._take(decisions.namespace_known(self.state, namespace, enforces))

    async def learn_kubelet(self, static: bool) -> None:
        """Whether the kubelet pins containers by itself."""
        async with self._lock:
            await self._take(decisions.kubelet_known(self.state, static))
            self._fresh = decisions.kubelet_known(self._fresh, static).state

    async def inspect(self, turn: deque[str], seconds: float) -> None:
        """Hold what the kernel says of pods against their promises, and put right what differs. Takes pods from the
        turn until it is empty or the time is over. One trip to the worker for all of them: each would wake us twice."""
        async with self._lock:
            promised = {each.uid: each for each in promises(self.state)}
            for inspected in await self._in_worker(lambda: self._inspected(turn, promised, seconds)):
                await self._take(decisions.looked(self.state, inspected.uid, inspected.reading))
                for drift, done in inspected.mended:
                    self._tell_drift(promised[inspected.uid], drift, done)

    def _inspected(self, turn: deque[str], promised: Mapping[str, PodPromise], seconds: float) -> list[Inspected]:
        """Runs in the worker."""
        until, found = monotonic() + seconds, []
        while turn and monotonic() < until:
            promise = promised.get(turn.popleft())
            if promise is not None:
                reading = self._reading(promise.cgroup_parent)
                found.append(Inspected(promise.uid, reading, self._mended(promise)))
        return found

    def _mended(self, promise: PodPromise) -> list[tuple[Drift, bool]]:
        """Containers only: what the pod's own cgroup needs is decided by its reading. Runs in the worker."""
        cgroups, online = self._around.cgroups, self._fresh.ledger.layout.machine.online
        readings = dict(self._read_containers(promise))
        drifts = [drift for drift in verify(promise, None, readings, online) if drift.container]
        return [(drift, repair(cgroups, promise, drift, online)) for drift in drifts]

    def _read_containers(self, promise: PodPromise) -> Iterator[tuple[str, ContainerReading]]:
        for each in promise.containers:
            reading = self._read_container(each.cgroups_path, promise.cgroup_parent)
            if reading is not None:
                yield each.id, reading

    def _read_container(self, path: str, parent: str) -> ContainerReading | None:
        """Failure direction: one that cannot be read shows nothing, and is not started where something was promised."""
        try:
            return self._around.cgroups.read_container(path, parent)
        except KernelError as error:
            LOG.warning("a container's cgroup cannot be read", extra={"error": str(error)})
            return None

    def _tell_drift(self, promise: PodPromise, drift: Drift, done: bool) -> None:
        self.metrics.drifted(Drifted(drift.what.value))
        self.metrics.repaired(done)
        reason = Reason.DRIFT if done else Reason.UNREPAIRED
        after = "it is right again" if done else "the kernel keeps it so; delete the pod to have it right"
        text = f"pod {promise.namespace}/{promise.name}: {drift.text}; {after}"
        self._tell(Tell(promise.uid, promise.namespace, promise.name, reason, text))

    # A transaction's steps.

    async def _look(self, uid: str) -> None:
        pod = self.state.pods.get(uid)
        if pod is not None:
            reading = await self._in_worker(lambda: self._reading(pod.sandbox.cgroup_parent))
            await self._take(decisions.looked(self.state, uid, reading))

    async def _take(self, step: Step) -> Reply:
        if step.state != self.state:
            self.state = step.state
            self.changed.set()
        for effect in step.effects:
            await self._do(effect)
        if step.refusal:
            raise RefusedError(step.refusal)
        return step.reply

    def _refused(self, uid: str) -> Refused:
        """Why the pod's container is not created, as a closed word."""
        pod = self.state.pods.get(uid)
        if pod is None:
            return Refused.OTHER
        if pod.doubt:
            return Refused.NOT_TRUSTED
        if self.state.static_kubelet:
            return Refused.STATIC_KUBELET
        return Refused.NO_ROOM if pod.misfit else Refused.OTHER

    async def _do(self, effect: Effect) -> None:
        match effect:
            case Enclose():
                cgroups = self._around.cgroups
                outcome = await self._in_worker(
                    lambda: enclose(cgroups, effect.cgroup_parent, effect.cpus, effect.level)
                )
                await self._take(decisions.enclosed(self.state, effect, outcome))
            case Watch():
                self._follow(effect)
            case Confine():
                await self._in_worker(lambda: self._confine(effect))
            case Forget():
                self._around.watcher.unfollow(effect.uid)
                await self._in_worker(lambda: self._trim(self.state))
            case Ask():
                self.questions.put_nowait(effect.namespace)
            case Tell():
                self._tell(effect)
            case _:
                assert_never(effect)

    def _confine(self, effect: Confine) -> None:
        """Failure direction: the pause process only ever sleeps, so that a pod is no worse off than with another's."""
        try:
            self._around.cgroups.confine(effect.cgroup_parent, effect.sandbox, effect.cpus)
        except KernelError as error:
            LOG.warning("a pause process is not confined", extra={"error": str(error)})

    def _tell(self, news: Tell) -> None:
        self.metrics.told(news.reason)
        self._around.events.tell(news)

    def _follow(self, effect: Watch) -> None:
        """Failure direction: unwatched, the pod's end is found by the slow tick."""
        try:
            self._around.watcher.follow(effect.uid, effect.cgroup_parent)
        except KernelError as error:
            LOG.warning("a pod's cgroup cannot be watched", extra={"error": str(error)})

    def _reading(self, cgroup_parent: str) -> PodReading | None:
        """Failure direction: a cgroup that cannot be read is there, and enforces nothing that we know of."""
        try:
            return self._around.cgroups.read_pod(cgroup_parent)
        except KernelError as error:
            LOG.warning("a pod's cgroup cannot be read", extra={"error": str(error)})
            return PodReading()

    def _trim(self, state: State) -> None:
        kept = EMPTY
        for promise in promises(state):
            kept |= promise.bubble
        try:
            trim(self._around.cgroups, kept)
        except KernelError as error:  # harmless: what ancestors keep for nobody is taken back at the next pod's end
            LOG.warning("exclusive CPUs stay with the pods' ancestors", extra={"error": str(error)})

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._around.worker, work)
