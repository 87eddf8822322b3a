"""What follows from each event: pure functions from a state to the next one, with effects and an answer.

A pod's life: :func:`reserve` finds it a place when its sandbox starts, :func:`enclosed` hears the kernel's answer,
:func:`seat` makes up for what is missing before each of its containers, :func:`create` answers or refuses,
:func:`start` checks, :func:`gone` gives the place back. A place belongs to a pod until its cgroup is gone, whatever the
runtime says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from enforcer import marks, messages
from enforcer.effects import Ask, Confine, Effect, Enclose, Forget, Reason, Step, Tell, Watch
from enforcer.kernel import ContainerReading, Enclosure, Level, PodReading
from enforcer.runtime import Adjustment, Container, Reply, Sandbox, Update
from enforcer.state import Pod, Resident, State
from enforcer.targets import Pools, Target, owed, target
from enforcer.trust import Belief
from shared.allocator import offer
from shared.demand import PlacementClass
from shared.intent import Intent
from shared.placement import Misfit, Placement
from shared.policy import Isolation

STRENGTH = {Level.CPUSET: 0, Level.PARTITION: 1, Level.ISOLATED: 2}
"""How much a level keeps away."""


# A pod comes.


def reserve(state: State, sandbox: Sandbox, belief: Belief) -> Step:
    """RunPodSandbox: the whole bubble, or nothing and the reason. Never a refusal: a runtime that is told one here
    leaks the sandbox (containerd before 2.2.6 and 2.3.3). A sandbox that is made anew keeps its pod's place."""
    known = state.pods.get(sandbox.uid)
    if known is not None and state.placement(known.uid) is not None:
        return _kept(state.having(replace(known, sandbox=bare(sandbox))), known.uid)
    residents = known.residents if known else {}
    pod = Pod(bare(sandbox), belief.intent, belief.doubt, residents=residents)
    step = place(state, pod)
    return replace(step, effects=(Watch(pod.uid, sandbox.cgroup_parent), *step.effects))


def bare(sandbox: Sandbox) -> Sandbox:
    """Without annotations."""
    return replace(sandbox, annotations={})


def _kept(state: State, uid: str) -> Step:
    """A new sandbox in the old place."""
    pod = state.pods[uid]
    return Step(state, (Watch(uid, pod.sandbox.cgroup_parent), *missing(state, pod)))


def place(state: State, pod: Pod) -> Step:
    """The pod with its place, or with the reason why it has none."""
    if pod.doubt:
        return Step(state.having(pod), (*asking(pod), told(pod, Reason.NOT_TRUSTED, messages.doubted(pod))))
    if pod.intent is None or pod.placement_class is PlacementClass.NONE:
        return Step(state.having(pod))
    if state.static_kubelet:
        return _hands_off(state, pod)
    answer = offer(state.ledger, pod.uid, pod.intent)
    if isinstance(answer, Misfit):
        pod = replace(pod, misfit=messages.no_room(pod, answer.message))
        return Step(state.having(pod), (told(pod, Reason.NO_ROOM, pod.misfit),))
    return settled(state, pod, answer)


def _hands_off(state: State, pod: Pod) -> Step:
    """Where the kubelet pins: exclusive pods are to be refused, all others are the kubelet's own business."""
    if pod.placement_class is not PlacementClass.EXCLUSIVE:
        return Step(state.having(pod))
    pod = replace(pod, misfit=messages.pinned_by_kubelet(pod))
    return Step(state.having(pod), (told(pod, Reason.CONFLICT, pod.misfit),))


def settled(state: State, pod: Pod, placement: Placement, level: Level = Level.CPUSET) -> Step:
    """The pod in a place that is free, and what is to be done so that it is its own. ``level`` is what the kernel keeps
    of it already."""
    wanted = asked(placement.intent) if placement.bubble else Level.CPUSET
    beyond = STRENGTH[wanted] > STRENGTH[level] and state.best is Level.CPUSET
    why_not = (state.why_not or "this node has no partitions") if beyond else ""
    pod = replace(pod, misfit="", level=level, why_not=why_not)
    state = state.placing(pod, placement)
    if beyond and placement.intent.placing.isolation is not Isolation.AUTO:
        return Step(state, (told(pod, Reason.WEAKER, messages.weaker(pod, placement.bubble, wanted)),))
    return Step(state, missing(state, pod))


def asked(intent: Intent) -> Level:
    """The level that a policy's word means. ``auto`` is a partition whose threads the kernel still balances:
    ``isolated`` leaves those that do not pin themselves on one CPU, so only who asks for it gets it."""
    return {
        Isolation.AUTO: Level.PARTITION,
        Isolation.CPUSET: Level.CPUSET,
        Isolation.PARTITION: Level.PARTITION,
        Isolation.ISOLATED: Level.ISOLATED,
    }[intent.placing.isolation]


def best(state: State, wanted: Level) -> Level:
    """What this node is to try for it: a kernel that makes partitions makes both types."""
    return Level.CPUSET if state.best is Level.CPUSET else wanted


def missing(state: State, pod: Pod) -> tuple[Enclose, ...]:
    """The partition that the pod is to have, if the kernel was not heard about it: it is new, or a handler was cut."""
    placement = state.placement(pod.uid)
    if placement is None or not placement.bubble or pod.why_not:
        return ()
    wanted = best(state, asked(placement.intent))
    if STRENGTH[wanted] <= STRENGTH[pod.level]:
        return ()
    return (Enclose(pod.uid, pod.sandbox.cgroup_parent, placement.bubble, wanted),)


def asking(pod: Pod) -> tuple[Effect, ...]:
    """The question whether the pod's namespace enforces. Asked each time: labels change, and until the answer the last
    one counts."""
    return (Ask(pod.sandbox.namespace),)


def told(pod: Pod, reason: Reason, text: str) -> Tell:
    """An event on the pod."""
    return Tell(pod.uid, pod.sandbox.namespace, pod.sandbox.name, reason, text)


# The kernel answers.


def enclosed(state: State, asked: Enclose, outcome: Enclosure) -> Step:
    """What came of a partition. An answer to a question of another day counts for nothing; a partition that was there,
    and whose cgroup is not there any more, has gone with its pod."""
    pod, placement = state.pods.get(asked.uid), state.placement(asked.uid)
    if pod is None or placement is None or placement.bubble != asked.cpus:
        return Step(state)
    if outcome.gone and pod.level is not Level.CPUSET:
        return gone(state, asked.uid)
    weaker = STRENGTH[outcome.level] < STRENGTH[asked.level]
    why_not = (outcome.why_not or "the kernel gave no reason") if weaker else ""
    after = replace(pod, level=outcome.level, why_not=why_not)
    return Step(state.having(after), _news(pod, after, asked))


def _news(before: Pod, after: Pod, asked: Enclose) -> tuple[Tell, ...]:
    """A pod that was as strong before was being repaired."""
    repair = STRENGTH[before.level] >= STRENGTH[asked.level]
    if repair and after.why_not:
        return (told(after, Reason.UNREPAIRED, messages.unrepaired(after, asked.cpus)),)
    if after.why_not:
        return (told(after, Reason.WEAKER, messages.weaker(after, asked.cpus, asked.level)),)
    return (told(after, Reason.DRIFT, messages.repaired(after, asked.cpus)),) if repair else ()


def looked(state: State, uid: str, reading: PodReading | None) -> Step:
    """A pod's cgroup changed: it is gone, it is what it was, or somebody else wrote to it and it is made right."""
    if reading is None:
        return gone(state, uid)
    pod, placement = state.pods.get(uid), state.placement(uid)
    if pod is None or placement is None or not placement.bubble:
        return Step(state)
    if kept_by_kernel(placement, reading) is not Level.CPUSET and _as_wanted(state, placement, reading):
        return Step(state.having(replace(pod, level=reading.level, why_not="")))
    if pod.level is Level.CPUSET:
        return Step(state, missing(state, pod))
    if kept_by_kernel(placement, reading) is pod.level:
        return Step(state)
    return Step(state, (Enclose(uid, pod.sandbox.cgroup_parent, placement.bubble, pod.level),))


def kept_by_kernel(placement: Placement, reading: PodReading) -> Level:
    """What the kernel keeps of a bubble by itself: nothing, where it guards other CPUs than these."""
    return reading.level if placement.bubble and reading.exclusive == placement.bubble else Level.CPUSET


def _as_wanted(state: State, placement: Placement, reading: PodReading) -> bool:
    return reading.level is best(state, asked(placement.intent))


# A container comes.


def seat(state: State, sandbox: Sandbox, belief: Belief) -> Step:
    """Before CreateContainer: make up for what the pod misses. One that did not fit is tried again (room may have
    appeared), one that was doubted is judged by today's keys, one whose partition was never heard of gets it now.
    A pod that runs already stays what it is: its containers would move."""
    step = _seated(state, sandbox, belief)
    return replace(step, effects=(*step.effects, *_confined(step.state, sandbox)))


def undecided(state: State, uid: str) -> bool:
    """Whether :func:`seat` goes by what is believed of the pod: it has no place yet, and nothing of it runs without."""
    pod = state.pods.get(uid)
    return pod is None or (state.placement(uid) is None and not pod.residents)


def _seated(state: State, sandbox: Sandbox, belief: Belief) -> Step:
    pod = state.pods.get(sandbox.uid)
    if pod is None:
        return reserve(state, sandbox, belief)
    if undecided(state, pod.uid):
        return place(state, Pod(bare(sandbox), belief.intent, belief.doubt))
    return Step(state, missing(state, pod))


def _confined(state: State, sandbox: Sandbox) -> tuple[Confine, ...]:
    """The pause process belongs to the pod's own pool. By the time of the first container every runtime has started it
    (containerd 1.7 only after RunPodSandbox). A pod that is all slices has no other place for it."""
    placement = state.placement(sandbox.uid)
    if placement is None or not placement.pool:
        return ()
    return (Confine(sandbox.cgroup_parent, sandbox.id, placement.pool),)


def create(state: State, sandbox: Sandbox, container: Container) -> Step:
    """CreateContainer: its CPUs and memory nodes, and news for others; or what the first rule that refuses says."""
    pod = state.pods.get(sandbox.uid)
    if pod is None:
        return Step(state, refusal=messages.unknown(f"{sandbox.namespace}/{sandbox.name}"))
    refusal = next((found for rule in REFUSALS if (found := rule(state, pod))), "")
    if refusal:
        return Step(state, asking(pod) if pod.doubt else (), refusal=refusal)
    given = target(Pools.of(state), pod, container.name)
    resident = Resident(container.id, container.sandbox, container.name, container.cgroups_path, given.cpus, given.mems)
    state, updates = owed(state.having(pod.holding(resident)), but=container.id)
    return Step(state, reply=Reply(_adjusted(state, pod, given), updates))


def _adjusted(state: State, pod: Pod, given: Target) -> Adjustment | None:
    placement = state.placement(pod.uid)
    if not given.cpus:
        return None
    mark = {marks.KEY: marks.write(placement)} if placement else {}
    return Adjustment(str(given.cpus), str(given.mems), no_quota=given.owns, annotations=mark)


def _untrusted(state: State, pod: Pod) -> str:
    """A doubted pod is refused where its namespace enforces, and where that is not known: failing to the stricter side
    costs a pod that carries a bad intent some seconds. One that has a place was believed when it got it."""
    if not pod.doubt or state.placement(pod.uid) is not None:
        return ""
    enforces = state.namespaces.get(pod.sandbox.namespace)
    return "" if enforces is False else messages.refused(pod) if enforces else messages.undecided(pod)


def _pinned(state: State, pod: Pod) -> str:
    """No exclusive pod starts where the kubelet pins by itself: it may hand the same CPUs to another, and the kernel
    would let that one run on shared CPUs without a word. Containers of a pod that was there before may come back."""
    exclusive = pod.placement_class is PlacementClass.EXCLUSIVE
    before = state.placement(pod.uid) is not None and bool(pod.residents)
    return messages.pinned_by_kubelet(pod) if state.static_kubelet and exclusive and not before else ""


def _without_place(state: State, pod: Pod) -> str:
    """The misfit of the last attempt, with its numbers; a pod that was not tried yet waits for it."""
    if pod.misfit or state.static_kubelet or state.placement(pod.uid) is not None:
        return pod.misfit
    return "" if pod.placement_class is PlacementClass.NONE else messages.unknown(pod.spoken)


REFUSALS: tuple[Callable[[State, Pod], str], ...] = (_untrusted, _pinned, _without_place)
"""Why a container is not created, in the order in which they are looked at."""


def start(state: State, sandbox: Sandbox, container: Container, reading: ContainerReading | None) -> Step:
    """StartContainer: what the kernel would do is held against what was given. Only who was promised something is
    refused: a container of a pod without a place may run wherever the kernel lets it. One that was created while we
    connected, and is in no list of the runtime's, is taken in and told its CPUs with the next answer; runtimes with
    NRI's BlockPluginSync leave none out."""
    pod = state.pods.get(sandbox.uid)
    if pod is None:
        return Step(state)
    resident = pod.resident(container)
    started = state.having(pod.holding(replace(resident, started=True)))
    if not resident.cpus or state.placement(pod.uid) is None:
        return Step(started)
    if reading is None:
        return Step(state, refusal=messages.unseen(pod, resident.name))
    if reading.effective and reading.effective <= resident.cpus:
        return Step(started)
    return Step(state, refusal=messages.outside(pod, resident.name, resident.cpus, reading))


def update(state: State, sandbox: Sandbox, container: Container) -> Step:
    """UpdateContainer, the kubelet's: its own CPUs are said again, because without a word of ours the runtime would
    write the kubelet's."""
    pod = state.pods.get(sandbox.uid)
    if pod is None:
        return Step(state)
    before = pod.resident(container)
    given = target(Pools.of(state), pod, before.name)
    state = state.having(pod.holding(replace(before, cpus=given.cpus or before.cpus)))
    own = (Update(container.id, str(given.cpus)),) if given.cpus else ()
    state, updates = owed(state, but=container.id)
    return Step(state, reply=Reply(updates=(*own, *updates)))


def stop(state: State, sandbox: Sandbox, container: Container) -> Step:
    """StopContainer: it needs its CPUs no more; its pod keeps them for the next attempt."""
    state, updates = owed(_without(state, sandbox, container))
    return Step(state, reply=Reply(updates=updates))


def remove(state: State, sandbox: Sandbox, container: Container) -> Step:
    """RemoveContainer; the runtime takes no updates in its answer."""
    return Step(_without(state, sandbox, container))


def _without(state: State, sandbox: Sandbox, container: Container) -> State:
    pod = state.pods.get(sandbox.uid)
    return state.having(pod.without(container.id)) if pod and container.id in pod.residents else state


# A pod goes.


def sandbox_removed(state: State, sandbox: Sandbox) -> Step:
    """StopPodSandbox and RemovePodSandbox: its containers are no more. The place stays the pod's until its cgroup is
    gone: the kubelet may make another sandbox for it, and these events do not come for every pod."""
    pod = state.pods.get(sandbox.uid)
    if pod is None:
        return Step(state)
    left = {key: resident for key, resident in pod.residents.items() if resident.sandbox != sandbox.id}
    return Step(state.having(replace(pod, residents=left)))


def gone(state: State, uid: str) -> Step:
    """The pod's cgroup is gone, and with it every task that could use its CPUs. What others gain by it goes out with
    the next answer that may carry updates."""
    return Step(state.losing(uid), (Forget(uid),)) if uid in state.pods else Step(state)


# News from outside.


def namespace_known(state: State, namespace: str, enforces: bool) -> Step:
    """The API server said whether a namespace enforces."""
    return Step(replace(state, namespaces={**state.namespaces, namespace: enforces}))


def kubelet_known(state: State, static: bool) -> Step:
    """The kubelet's own state file said whether it pins containers. Pods that own CPUs then are told: both give."""
    step = Step(replace(state, static_kubelet=static))
    if not static or state.static_kubelet:
        return step
    owners = [pod for pod in state.pods.values() if (place := state.placement(pod.uid)) and place.bubble]
    return replace(step, effects=tuple(told(pod, Reason.CONFLICT, messages.pinned_by_kubelet(pod)) for pod in owners))
