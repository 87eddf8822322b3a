"""The state, rebuilt from what the node shows: after a crash, a runtime's restart, a reboot.

1. Of every pod the live sandbox counts. One that has stopped and has no cgroup any more is over.
2. Who has CPUs keeps them. The kernel's partitions are the best evidence, then marks whose place a container was
   created in, then CPUs that specifications name, then marks alone.
3. Where two have the same CPUs, the better evidence keeps them and the other pod is told.
4. Who has none, and is there, is placed like a new pod: it was never given any, so nothing moves that was promised.
5. Every container whose specification says something else is told in the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from enforcer import marks, messages
from enforcer.decisions import asking, bare, kept_by_kernel, place, settled, told
from enforcer.effects import Effect, Forget, Reason, Step, Watch
from enforcer.kernel import Level, PodReading
from enforcer.runtime import Container, Reply, Sandbox
from enforcer.state import Pod, Resident, State
from enforcer.targets import owed
from enforcer.trust import Belief, believe
from shared.allocator import keep
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass
from shared.errors import IntentError, InvariantError
from shared.intent import Intent
from shared.ledger import Layout
from shared.placement import Placement
from shared.seal import ANNOTATION, KeyRing, unverified

ABSENT = PodReading()
"""Of a pod whose cgroup nobody could read."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the node shows of one pod."""

    sandbox: Sandbox
    belief: Belief
    reading: PodReading
    containers: tuple[Container, ...]
    """Of all its sandboxes: the old one's may still run."""
    remembered: Placement | None
    """Its place before the connection was lost, where this process is the same."""
    intent: Intent | None = None
    """What it asks; of a doubted one what it says that it asks, which counts only beside good evidence."""
    marked: Placement | None = None
    """The place that a mark tells of, if it satisfies the intent."""

    @property
    def alive(self) -> bool:
        """Whether anything of it runs."""
        return bool(self.sandbox.pid or self.containers)


def recover(
    fresh: State,
    sandboxes: Sequence[Sandbox],
    containers: Sequence[Container],
    readings: Mapping[str, PodReading | None],
    keys: KeyRing,
    before: State | None = None,
) -> Step:
    """Synchronize: the state, updates for containers that have the wrong CPUs, and what is to be done. ``fresh`` is the
    empty state of this node; ``before`` is the state of this process, if it is only the connection that is new."""
    founds = [
        found
        for sandbox, own in _present(sandboxes, containers)
        if (found := _found(fresh, sandbox, own, readings.get(sandbox.uid), keys, before)).alive
        or readings.get(sandbox.uid) is not None
    ]
    state = _carried(fresh, before)
    effects: list[Effect] = [Forget(uid) for uid in _lost(before, founds)]
    for found in sorted(founds, key=_rank):
        step = _recovered(state, found)
        state = step.state
        effects += [Watch(found.sandbox.uid, found.sandbox.cgroup_parent), *step.effects]
    state, updates = owed(state)
    return Step(state, tuple(effects), Reply(updates=updates))


def _carried(fresh: State, before: State | None) -> State:
    """What is known of namespaces and the kubelet has nothing to do with the runtime."""
    if before is None:
        return fresh
    return replace(fresh, namespaces=before.namespaces, static_kubelet=before.static_kubelet)


def _lost(before: State | None, founds: Iterable[Found]) -> list[str]:
    left = {found.sandbox.uid for found in founds}
    return [uid for uid in before.pods if uid not in left] if before else []


# What there is.


def _present(
    sandboxes: Sequence[Sandbox], containers: Iterable[Container]
) -> Iterator[tuple[Sandbox, tuple[Container, ...]]]:
    """Every pod's live sandbox, and the containers of all its sandboxes."""
    pods = {sandbox.id: sandbox.uid for sandbox in sandboxes}
    inside: dict[str, list[Container]] = {}
    for container in containers:
        inside.setdefault(pods.get(container.sandbox, ""), []).append(container)
    for uid, sandbox in _live(sandboxes).items():
        yield sandbox, tuple(inside.get(uid, ()))


def _found(
    fresh: State,
    sandbox: Sandbox,
    containers: tuple[Container, ...],
    reading: PodReading | None,
    keys: KeyRing,
    before: State | None,
) -> Found:
    belief = believe(sandbox, keys)
    remembered = before.placement(sandbox.uid) if before else None
    intent = _intent(sandbox, belief, remembered)
    found = Found(sandbox, belief, reading or ABSENT, containers, remembered, intent)
    return replace(found, marked=_marked(found, fresh.ledger.layout))


def _marked(found: Found, layout: Layout) -> Placement | None:
    """The place that the pod's marks tell of: what the kernel guards before what specifications bear out, and a bare
    mark only where the kernel says nothing else."""
    intent = found.intent
    texts = {container.annotations[marks.KEY] for container in found.containers if marks.KEY in container.annotations}
    reads = [marks.read(text, found.sandbox.uid, intent, layout) for text in sorted(texts) if intent]
    claims = [claim for claim in reads if claim]
    for proof in (_guarded, _created_there, _borne_out, _unopposed):
        for claim in claims:
            if proof(found, claim):
                return claim
    return None


def _intent(sandbox: Sandbox, belief: Belief, remembered: Placement | None) -> Intent | None:
    if not belief.doubt:
        return belief.intent
    if remembered is not None:
        return remembered.intent
    try:
        return unverified(sandbox.annotations[ANNOTATION])
    except IntentError:
        return None


def _live(sandboxes: Iterable[Sandbox]) -> Mapping[str, Sandbox]:
    """The sandbox of every pod; of several the one that runs, else the last."""
    live: dict[str, Sandbox] = {}
    for sandbox in sandboxes:
        if sandbox.pid or sandbox.uid not in live or not live[sandbox.uid].pid:
            live[sandbox.uid] = sandbox
    return live


# Who keeps what.


def _rank(found: Found) -> int:
    """The strength of a pod's evidence, the best first. Nobody but root can make a partition, and nobody but the
    runtime writes CPUs into a specification; an annotation may have come from the pod's."""
    claim = found.remembered or found.marked
    if claim is not None and _guarded(found, claim):
        return 0
    if claim is None and found.reading.level is not Level.CPUSET:
        return 1  # after those whose marks tell what else they have: its memory is whatever is left
    if claim is not None and (claim is found.remembered or _created_there(found, claim)):
        return 2
    if (claim and _borne_out(found, claim)) or (found.intent and _pinned(found, found.intent)[0]):
        return 3
    return 4 if claim else 5


def _recovered(state: State, found: Found) -> Step:
    """The pod in its old place, in a new one, or without any."""
    pod = _pod(found)
    claim = _claim(state, found)
    if claim is not None:
        proven = _proven(found, claim)
        for worth in (claim, replace(claim, accounts=()))[: 1 + proven]:
            with suppress(InvariantError):
                return _keeping(state, replace(pod, intent=claim.intent), worth, found)
        if proven and found.containers:
            return _conflicting(state, pod, claim)
    if not found.alive:
        return Step(state.having(pod), asking(pod) if pod.doubt else ())
    return place(state, pod)


def _pod(found: Found) -> Pod:
    residents = {container.id: Resident.of(container) for container in found.containers}
    return Pod(bare(found.sandbox), found.belief.intent, found.belief.doubt, residents=residents)


def _keeping(state: State, pod: Pod, claim: Placement, found: Found) -> Step:
    """Memory that the books no longer have (more of it is reserved since) costs a running pod nothing: it is there."""
    step = settled(state, pod, claim, kept_by_kernel(claim, found.reading))
    if not pod.doubt:
        return step
    news = told(pod, Reason.NOT_TRUSTED, messages.doubted_but_kept(pod))
    return replace(step, effects=(*step.effects, news))


def _conflicting(state: State, pod: Pod, claim: Placement) -> Step:
    """Rather no cores of its own than cores of two."""
    pod = replace(pod, misfit=messages.conflict(pod, claim.bubble, _holders(state, claim)))
    return Step(state.having(pod), (told(pod, Reason.CONFLICT, pod.misfit),))


def _holders(state: State, claim: Placement) -> str:
    """Whose the claim's CPUs are by now; empty where they are nobody's, and are not for pods any more."""
    owners = [key for key, other in state.ledger.placements.items() if not other.bubble.isdisjoint(claim.bubble)]
    return " and ".join(state.pods[key].spoken for key in owners)


def _claim(state: State, found: Found) -> Placement | None:
    """The place that the pod had. A doubted pod has to show for it what nobody can write but root and we."""
    intent, marked = found.intent, found.marked
    if intent is None or intent.placement is PlacementClass.NONE:
        return None
    if found.remembered is not None and found.remembered.intent == intent:
        return found.remembered
    if marked is not None and (_guarded(found, marked) or _created_there(found, marked)):
        return marked
    if found.belief.doubt and found.reading.level is Level.CPUSET:
        return None
    if marked is not None and _borne_out(found, marked):
        return marked
    return _standing(state, found, intent) or marked


def _proven(found: Found, claim: Placement) -> bool:
    """Whether more than an annotation speaks for the claim."""
    if claim is found.remembered or _guarded(found, claim):
        return True
    return _created_there(found, claim) or _borne_out(found, claim)


def _guarded(found: Found, claim: Placement) -> bool:
    """Whether the kernel keeps exactly this bubble for the pod."""
    return kept_by_kernel(claim, found.reading) is not Level.CPUSET


def _unopposed(found: Found, claim: Placement) -> bool:
    """Whether the pod is believed, and the kernel guards nothing else for it."""
    return not found.belief.doubt and found.reading.level is Level.CPUSET


def _created_there(found: Found, claim: Placement) -> bool:
    """Whether some container was created in the claim's place: with its memory nodes, which are written then and never
    later, and which no pod without a place gets."""
    nodes = CpuSet.of(claim.memory_nodes)
    residents = [
        resident for resident in map(Resident.of, found.containers) if resident.mems and resident.mems == nodes
    ]
    return any(not claim.bubble or _has_cpus(resident, claim) for resident in residents)


def _borne_out(found: Found, claim: Placement) -> bool:
    """Whether some container's specification has the CPUs that the claim means for it; those of a bound pod change with
    its neighbours, and bear out nothing."""
    return bool(claim.bubble) and any(_has_cpus(Resident.of(container), claim) for container in found.containers)


def _has_cpus(resident: Resident, claim: Placement) -> bool:
    named = any(part.name == resident.name for part in claim.intent.parts)
    return named and resident.cpus == claim.cpus_of(resident.name, EMPTY)


def _standing(state: State, found: Found, intent: Intent) -> Placement | None:
    """The place that a partition in force, or the specifications alone, tell of, if it satisfies the intent."""
    pinned, slices = _pinned(found, intent)
    bubble = found.reading.exclusive if found.reading.level is not Level.CPUSET else pinned
    claim = keep(state.ledger, found.sandbox.uid, intent, bubble, slices) if intent.bubble else None
    return claim if claim and marks.satisfies(claim, state.ledger.layout) else None


def _pinned(found: Found, intent: Intent) -> tuple[CpuSet, Mapping[str, CpuSet]]:
    """The CPUs of the pod's own containers together, and of those that own theirs. Without an owner it says nothing:
    a set of the node shared pool may have the bubble's size by chance."""
    sizes = {part.name: part.slice for part in intent.parts}
    own = [resident for resident in map(Resident.of, found.containers) if resident.name in sizes and resident.cpus]
    slices = {one.name: one.cpus for one in own if sizes[one.name] and len(one.cpus) == sizes[one.name]}
    union = EMPTY
    for resident in own if slices else ():
        union |= resident.cpus
    return union, slices
