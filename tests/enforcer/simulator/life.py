"""Sequences of node life: what can happen, and what has to hold after each step.

A deed is three numbers. What they mean is worked out against the world as it is then, so that any part of a sequence is
a sequence too, and a failing one can be cut down.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enforcer import decisions, marks
from enforcer.effects import Ask, Enclose, Step, Tell
from enforcer.kernel import Enclosure, Level
from enforcer.recovery import recover
from enforcer.state import Settled, State
from enforcer.targets import owed, promises
from enforcer.trust import believe
from shared.allocator import offer
from shared.cpuset import EMPTY, CpuSet
from shared.intent import Intent
from shared.ledger import Ledger
from shared.placement import Placement
from shared.seal import ANNOTATION, KeyRing, SigningKey, seal
from shared.sidecars import Role
from shared.topology import Machine
from tests.enforcer.simulator.world import Pod, Task, World
from tests.support.audit import audit
from tests.support.machines import machine
from tests.support.storm import intents, reserved

MACHINE = machine(2, 8, 2)
"""CPUs 0-15 on NUMA node 0, 16-31 on node 1, two threads to a core."""

INTENTS = intents(MACHINE, seed=5, count=60)

KEYS = [SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in range(1, 4)]
"""The second and the third take over from the one before."""

STRANGER = "somebody-elses"

NAMESPACES = ("strict", "easy", "silent")
"""One enforces, one does not, one is never answered for."""


class KilledError(Exception):
    """The agent was killed where it stood."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that happens."""

    name: str
    a: int
    b: int

    def __str__(self) -> str:
        return f"{self.name}({self.a}, {self.b})"


class Node:
    """One node, with an agent that may be down."""

    def __init__(self, rules: ModuleType = decisions, node: Machine = MACHINE) -> None:
        self.rules = rules
        self.world = World(node)
        self.reserved = reserved(node)
        self.state: State | None = self._fresh()
        self.key = 0
        self.fuse: int | None = None
        self.unseen: list[str] = []
        """Pods whose cgroup is gone while the watch has not said so yet."""
        self.seen: Counter[str] = Counter()
        self.known: dict[str, Placement] = {}
        """Places at the last moment of an agent that was killed, of pods with a container that it had created."""

    def _fresh(self) -> State:
        return State.fresh(Ledger.of(self.world.machine, self.reserved), Level.ISOLATED)

    @property
    def keys(self) -> KeyRing:
        return KeyRing.of([KEYS[self.key].public])

    # The agent's shell.

    def does(self, step: Step) -> Step:
        """Replace the state, then do the effects one after the other; the fuse kills in between."""
        assert self.state is not None
        self.state = step.state
        for effect in step.effects:
            self._burns()
            if isinstance(effect, Enclose):
                self._encloses(effect)
            elif isinstance(effect, Ask) and effect.namespace != "silent":
                self.does(self.rules.namespace_known(self.state, effect.namespace, effect.namespace == "strict"))
            elif isinstance(effect, Tell):
                self.seen[effect.reason.name] += 1
        return step

    def _burns(self) -> None:
        """One moment at which the agent may be killed."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise KilledError

    def _encloses(self, effect: Enclose) -> None:
        assert self.state is not None
        pod = self.world.pods.get(effect.uid)
        level = self.world.enclose(pod, effect.cpus, effect.level) if pod else Level.CPUSET
        self.seen[f"enclosed {level.value}"] += 1
        outcome = Enclosure(level, "" if level is effect.level else "the kernel said no")
        self.does(self.rules.enclosed(self.state, effect, outcome))

    def event(self, decide: Callable[[State], Step]) -> Step | None:
        """One transaction; None where the agent is down or dies in it: then the runtime goes on without."""
        if self.state is None:
            return None
        try:
            step = self.does(decide(self.state))
            self._burns()  # everything is done, and nobody hears the answer
        except KilledError:
            self._dies()
            return None
        return step

    def _dies(self) -> None:
        assert self.state is not None
        marked = {task.pod.uid for task in self.world.tasks.values() if task.managed}
        self.known = {uid: place for uid, place in self.state.ledger.placements.items() if uid in marked}
        self.state, self.fuse = None, None
        self.unseen = []
        self.seen["killed"] += 1

    # What happens.

    def do(self, deed: Deed) -> None:
        getattr(self, f"_{deed.name}")(deed.a, deed.b)

    def _some_pod(self, a: int, running: bool = True) -> Pod | None:
        pods = [pod for pod in self.world.pods.values() if not running or self._runs(pod)]
        return pods[a % len(pods)] if pods else None

    def _runs(self, pod: Pod) -> bool:
        return pod.sandbox in self.world.sandboxes and self.world.sandboxes[pod.sandbox].pid != 0

    def _some_task(self, a: int) -> Task | None:
        tasks = list(self.world.tasks.values())
        return tasks[a % len(tasks)] if tasks else None

    def _pod(self, a: int, b: int) -> None:
        """A pod is scheduled here: with an intent, without one, or with one that nobody may believe."""
        uid, namespace = self.world.new_id("uid"), NAMESPACES[b % 3]
        intent: Intent | None = INTENTS[a % len(INTENTS)] if b % 7 else None
        annotations = {}
        if intent is not None:
            whose = STRANGER if b % 11 == 0 else uid
            annotations[ANNOTATION] = seal(intent, namespace, whose, "", KEYS[self.key])
            intent = None if whose is STRANGER else intent
        if intent is not None and b % 5 == 0:
            annotations[marks.KEY] = self._forged(uid, intent)
        pod = Pod(uid, uid, namespace, annotations, intent)
        self.world.pods[uid] = pod
        self._sandbox(pod)

    def _forged(self, uid: str, intent: Intent) -> str:
        """A mark as the pod's owner could write it, for the place that the pod would have on an empty machine; the
        runtime copies it where the agent does not write its own."""
        place = offer(self._fresh().ledger, uid, intent)
        return marks.write(place) if isinstance(place, Placement) else "{}"

    def _sandbox(self, pod: Pod) -> None:
        sandbox = self.world.run_sandbox(pod)
        self.event(lambda state: self.rules.reserve(state, sandbox, believe(sandbox, self.keys)))

    def _container(self, a: int, b: int) -> None:
        """The kubelet makes a pod's next container; init containers end before it."""
        pod = self._some_pod(a)
        if pod is None:
            return
        for task in [task for task in self.world.tasks.values() if task.pod is pod and self._is_init(task)]:
            self._ends(task)
        name = self._next_name(pod, b)
        if name:
            self._creates(pod, Task(self.world.new_id("task"), pod, pod.sandbox, name))

    def _is_init(self, task: Task) -> bool:
        parts = task.pod.intent.parts if task.pod.intent else ()
        return any(part.name == task.name and part.role is Role.INIT for part in parts)

    def _next_name(self, pod: Pod, b: int) -> str:
        names = [part.name for part in pod.intent.parts] if pod.intent else ["main"]
        if pod.next < len(names):
            return names[pod.next]
        alive = {task.name for task in self.world.tasks.values() if task.pod is pod}
        again = [n for n in names if n not in alive and not (pod.intent and self._init_name(pod.intent, n))]
        return again[b % len(again)] if again else "debugger" if b % 9 == 0 and "debugger" not in alive else ""

    def _init_name(self, intent: Intent, name: str) -> bool:
        return any(part.name == name and part.role is Role.INIT for part in intent.parts)

    def _creates(self, pod: Pod, task: Task) -> None:
        sandbox, shown = self.world.sandboxes[pod.sandbox], self.world.shown(task)
        if self.state is not None:
            self.event(lambda state: self.rules.seat(state, sandbox, believe(sandbox, self.keys)))
        step = self.event(lambda state: self.rules.create(state, sandbox, shown))
        if step is not None and step.refusal:
            self.seen["refused"] += 1
            return
        if step is not None:
            self.world.apply(step.reply.updates, creating=task.id)
        task.managed = step is not None and step.state.placement(pod.uid) is not None and task.name != "debugger"
        self.world.create(task, step.reply.adjustment if step else None)
        pod.next += 1
        self._starts(task)

    def _starts(self, task: Task) -> None:
        """The model's kernel does as it is told, so that nothing may be refused here."""
        reading = self.world.container_reading(task)
        box, shown = self.world.sandboxes[task.sandbox], self.world.shown(task)
        step = self.event(lambda state: self.rules.start(state, box, shown, reading))
        if step is None:
            return
        assert not step.refusal, step.refusal
        self.seen["started"] += 1
        placement = step.state.placement(task.pod.uid)
        if placement and placement.bubble and any(p.name == task.name for p in placement.intent.parts):
            task.promised = CpuSet.parse(task.cpus)

    def _stop(self, a: int, b: int) -> None:
        task = self._some_task(a)
        if task is not None:
            self._ends(task)

    def _ends(self, task: Task) -> None:
        box, shown = self.world.sandboxes[task.sandbox], self.world.shown(task)
        del self.world.tasks[task.id]
        step = self.event(lambda state: self.rules.stop(state, box, shown))
        if step is not None:
            self.world.apply(step.reply.updates)
        self.event(lambda state: self.rules.remove(state, box, shown))

    def _resandbox(self, a: int, b: int) -> None:
        """A pod's sandbox died, or the node was booted: the kubelet makes another one."""
        pod = self._some_pod(a, running=False)
        if pod is None:
            return
        for task in [task for task in self.world.tasks.values() if task.pod is pod]:
            self._ends(task)
        old = self.world.stop_sandbox(pod)
        self._sandbox(pod)
        if b % 2:
            del self.world.sandboxes[old.id]
            self.event(lambda state: self.rules.sandbox_removed(state, replace(old, annotations={})))

    def _leave(self, a: int, b: int) -> None:
        """A pod ends; events come or do not, the watch is at once or late."""
        pod = self._some_pod(a, running=False)
        if pod is None:
            return
        old = self.world.stop_sandbox(pod)
        if b % 2:
            for task in [task for task in self.world.tasks.values() if task.pod is pod]:
                self._ends(task)
            self.event(lambda state: self.rules.sandbox_removed(state, replace(old, annotations={})))
        self.world.remove_pod(pod)
        if b % 3:
            self.event(lambda state: self.rules.gone(state, pod.uid))
        elif self.state is not None:
            self.unseen.append(pod.uid)

    def _tick(self, a: int, b: int) -> None:
        """The watch catches up."""
        late, self.unseen = self.unseen, []
        for uid in late:
            self.event(partial(self.rules.looked, uid=uid, reading=None))

    def _resize(self, a: int, b: int) -> None:
        """The kubelet writes a cpuset of its own."""
        task = self._some_task(a)
        if task is None:
            return
        box, shown = self.world.sandboxes[task.sandbox], self.world.shown(task)
        step = self.event(lambda state: self.rules.update(state, box, replace(shown, cpus="0-31")))
        if step is None:
            return
        task.cpus = "0-31"
        self.world.apply(step.reply.updates)

    def _meddle(self, a: int, b: int) -> None:
        """Somebody takes a partition away."""
        pod = self._some_pod(a)
        if pod is None or pod.partition == "member":
            return
        pod.exclusive, pod.partition = EMPTY if b % 2 else pod.exclusive, "member"
        self.event(lambda state: self.rules.looked(state, pod.uid, self.world.reading(pod)))

    def _mood(self, a: int, b: int) -> None:
        self.world.kernel_takes_partitions = b % 3 != 0

    def _rotate(self, a: int, b: int) -> None:
        self.key = a % len(KEYS)

    def _fuse(self, a: int, b: int) -> None:
        if self.state is not None:
            self.fuse = a % 3

    def _kill(self, a: int, b: int) -> None:
        if self.state is not None:
            self._dies()

    def _up(self, a: int, b: int) -> None:
        if self.state is None:
            self._synchronizes(None)

    def _reconnect(self, a: int, b: int) -> None:
        """The runtime starts anew: its tasks go on, its events for older pods do not."""
        if self.state is not None:
            self._synchronizes(self.state)

    def _reboot(self, a: int, b: int) -> None:
        """Nothing runs, no cgroup is left; the runtime still has the sandboxes."""
        if a % 4:
            return
        for pod in self.world.pods.values():
            self.world.remove_cgroup(pod)
            self.world.stop_sandbox(pod)
        if self.state is not None:
            self._dies()
        self._synchronizes(None)

    def _synchronizes(self, before: State | None) -> None:
        boxes = list(self.world.sandboxes.values())
        tasks = [self.world.shown(task) for task in self.world.tasks.values()]
        step = recover(self._fresh(), boxes, tasks, self.world.readings(), self.keys, before)
        self.state, self.unseen = step.state, []
        self.seen["recovered"] += 1
        self._keeps_all()
        try:
            self.does(step)
            self._burns()
        except KilledError:
            self._dies()
        else:
            self.world.apply(step.reply.updates)

    def _keeps_all(self) -> None:
        """To the last byte of the accounts, whoever still runs has the place that he had."""
        assert self.state is not None
        for uid in {task.pod.uid for task in self.world.tasks.values() if task.managed} & self.known.keys():
            assert self.state.placement(uid) == self.known[uid], f"{uid} is not where it was"
        self.known = {}


# What has to hold.


def wrong(node: Node) -> list[str]:
    """Every law that is broken now. Without an agent only what the kernel itself keeps can be asked."""
    found = [] if node.state is None else audit(node.world.machine, node.state.ledger, node.reserved)
    found += _moved(node)
    if node.state is not None:
        found += _ledger(node, node.state) + _levels(node, node.state) + _told(node, node.state)
        found += _passed_over(node.state)
        if not owed(node.state)[1]:
            found += _shared(node, node.state)
    return found


def _passed_over(state: State) -> list[str]:
    """Who is not looked at again is owed nothing."""
    looked, looked_again = (set(owed(each)[1]) for each in (state, replace(state, settled=Settled())))
    return [f"nobody finds that {update.container} is owed {update.cpus}" for update in looked_again - looked]


def _moved(node: Node) -> list[str]:
    return [
        f"{task.id} ({task.name} of {task.pod.uid}) was moved from {task.promised} to {task.cpus}"
        for task in node.world.tasks.values()
        if task.promised is not None and CpuSet.parse(task.cpus) != task.promised
    ]


def _ledger(node: Node, state: State) -> list[str]:
    """Nobody has CPUs who is not there; who runs has what it runs on."""
    there = {pod.uid for pod in node.world.pods.values() if pod.cgroup} | set(node.unseen)
    found = [f"{uid} is gone and still has a place" for uid in state.ledger.placements if uid not in there]
    for task in node.world.tasks.values():
        placement = state.placement(task.pod.uid)
        if task.promised is not None and (placement is None or not task.promised <= placement.bubble):
            found.append(f"{task.id} runs on {task.promised}, which the ledger does not give to {task.pod.uid}")
    return found


def _levels(node: Node, state: State) -> list[str]:
    """What is said to be kept by the kernel is."""
    found = []
    for uid, pod in state.pods.items():
        seen, placement = node.world.pods.get(uid), state.placement(uid)
        if seen is None or placement is None or pod.level is Level.CPUSET:
            continue
        if seen.exclusive != placement.bubble or seen.partition == "member":
            found.append(f"{uid} is kept by {seen.partition} of {seen.exclusive or 'nothing'}, not by {pod.level}")
    return found


def _told(node: Node, state: State) -> list[str]:
    """What is promised is what the runtime was told."""
    found, known = [], set()
    for pod in promises(state):
        for container in pod.containers:
            known.add(container.id)
            task = node.world.tasks.get(container.id)
            if task and container.cpus and CpuSet.parse(task.cpus) != container.cpus:
                found.append(f"{container.id} has {task.cpus or 'no cpuset'}, promised was {container.cpus}")
    return found + [f"nobody knows {key}" for key in node.world.tasks if key not in known]


def _shared(node: Node, state: State) -> list[str]:
    """Nobody runs on a slice but its owner. A pod's own init and unnamed containers may: they are the pod's."""
    tasks = list(node.world.tasks.values())
    where = {task.id: node.world.effective(task) for task in tasks}
    found = []
    for pod in state.pods.values():
        placement = state.placement(pod.uid)
        if placement is None or not placement.bubble or pod.uid not in node.world.pods:
            continue
        foreign = [
            task for task in tasks if task.pod.uid != pod.uid and not where[task.id].isdisjoint(placement.bubble)
        ]
        found += [
            f"{task.id} of {task.pod.uid} may run in the bubble {placement.bubble} of {pod.uid}" for task in foreign
        ]
        own = {part.name for part in placement.intent.parts if part.role is not Role.INIT}
        inside = [task for task in tasks if task.pod.uid == pod.uid and task.name in own]
        for name, cpus in placement.slices.items():
            others = [task for task in inside if task.name != name and not where[task.id].isdisjoint(cpus)]
            found += [f"{task.id} may run on the slice {cpus} of {name}" for task in others]
    return found


# Sequences.

CHANCES = {
    "pod": 14, "container": 34, "stop": 7, "leave": 9, "tick": 4, "resandbox": 3, "resize": 3, "meddle": 3,
    "mood": 1, "rotate": 1, "fuse": 2, "kill": 1, "up": 12, "reconnect": 2, "reboot": 1,
}  # fmt: skip


def sequence(seed: int, length: int) -> list[Deed]:
    """Deeds drawn by a seed."""
    chance = random.Random(seed)
    names = chance.choices(list(CHANCES), list(CHANCES.values()), k=length)
    return [Deed(name, chance.randrange(1 << 16), chance.randrange(1 << 16)) for name in names]


def live(deeds: Sequence[Deed], rules: ModuleType = decisions) -> tuple[Node, str]:
    """Everything that happens, in order; the first broken law, or nothing."""
    node = Node(rules)
    for number, deed in enumerate(deeds):
        if found := _first(partial(_after, node, deed)):
            return node, f"after {number + 1} deeds, {deed}: {found}"
    return node, _first(lambda: _left_at_the_end(node))


def _after(node: Node, deed: Deed) -> list[str]:
    node.do(deed)
    return wrong(node)


def _first(step: Callable[[], list[str]]) -> str:
    """What is wrong first; whatever is raised is wrong too, ours or the model's."""
    try:
        return next(iter(step()), "")
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _left_at_the_end(node: Node) -> list[str]:
    """When every pod has gone nothing is left of any."""
    node.fuse = None
    if node.state is None:
        node.do(Deed("up", 0, 0))
    while node.world.pods:
        node.do(Deed("leave", 0, 1))
    node.do(Deed("tick", 0, 0))
    assert node.state is not None
    left = node.state.ledger != Ledger.of(node.world.machine, node.reserved) or node.state.pods
    return [f"at the end {sorted({*node.state.pods, *node.state.ledger.placements})} are left"] if left else []


def shortest(deeds: Sequence[Deed], rules: ModuleType = decisions) -> list[Deed]:
    """A failing sequence of which no single deed can be left out."""
    kept, size = list(deeds), len(deeds) // 2
    while size:
        before = len(kept)
        for start in range(len(kept) - size, -1, -size):
            tried = kept[:start] + kept[start + size :]
            kept = tried if live(tried, rules)[1] else kept
        size = size if size == 1 and len(kept) < before else size // 2
    return kept
