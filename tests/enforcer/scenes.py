"""A small node and its pods in few words: two NUMA nodes of four CPUs (0-3, 4-7), CPU 0 reserved."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enforcer import decisions
from enforcer.effects import Enclose, Step, Tell
from enforcer.kernel import ContainerReading, Enclosure, Level, PodReading
from enforcer.runtime import Container, Sandbox
from enforcer.state import State
from enforcer.trust import believe
from shared.cpuset import EMPTY, CpuSet
from shared.intent import Intent, make
from shared.ledger import Ledger
from shared.pod import Pod
from shared.policy import Isolation, Placing
from shared.seal import ANNOTATION, KeyRing, SigningKey, seal
from tests.support.machines import machine
from tests.support.pods import asking, even, pod, weighed

NODE = machine(2, 4)

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
KEYS = KeyRing.of([KEY.public])
OTHER_KEYS = KeyRing.of([OTHER_KEY.public])

APP = pod(even("app", "2"))
"""Two CPUs of its own."""
PROXIED = pod(even("app", "2"), asking("proxy", "500m"), init=(even("setup", "1"),))
"""Two CPUs of its own, a sidecar on the pod shared pool, an init container before both."""
SMALL = pod(asking("web", "500m", "64Mi"))
"""Bound to a NUMA node."""
LARGE = pod(even("app", "5"))
"""More than a NUMA node has."""


def wish(what: Pod, isolation: Isolation = Isolation.AUTO) -> Intent:
    return make(weighed(what), Placing(isolation=isolation))


def sandbox(uid: str, intent: Intent | None = None, key: SigningKey = KEY, pid: int = 77, made: int = 1) -> Sandbox:
    """Of pod ``shop/UID``, with a sealed intent."""
    annotations = {ANNOTATION: seal(intent, "shop", uid, "", key)} if intent else {}
    return Sandbox(f"{uid}-box{made}", uid, "shop", uid, annotations, f"/kubepods/pod{uid}", pid)


def container(box: Sandbox, name: str, cpus: str = "", mems: str = "", mark: str = "") -> Container:
    annotations = {"armistice.dev/placement": mark} if mark else {}
    path = f"{box.cgroup_parent}/{box.uid}-{name}"
    return Container(
        f"{box.uid}-{name}", box.id, name, annotations=annotations, cpus=cpus, mems=mems, cgroups_path=path
    )


def fresh(best: Level = Level.ISOLATED, why_not: str = "") -> State:
    return State.fresh(Ledger.of(NODE, CpuSet.parse("0")), best, why_not)


WITHOUT_PARTITIONS = fresh(Level.CPUSET, "the kernel is older than 6.12")


def arrives(state: State, box: Sandbox, takes: bool = True) -> State:
    """Its sandbox starts, and the kernel takes the partition or does not."""
    return answered(decisions.reserve(state, box, believe(box, KEYS)), takes)


def answered(step: Step, takes: bool = True) -> State:
    """The state after the kernel's answer to each partition."""
    state = step.state
    for effect in step.effects:
        if isinstance(effect, Enclose):
            outcome = Enclosure(effect.level) if takes else Enclosure(Level.CPUSET, "it is busy")
            state = decisions.enclosed(state, effect, outcome).state
    return state


def runs(state: State, box: Sandbox, *names: str) -> State:
    """Containers are created and started."""
    for name in names:
        step = decisions.create(state, box, container(box, name))
        assert not step.refusal, step.refusal
        given = step.reply.adjustment.cpus if step.reply.adjustment else ""
        cpus = CpuSet.parse(given)
        step = decisions.start(step.state, box, container(box, name), ContainerReading(cpus, cpus, EMPTY, None))
        assert not step.refusal, step.refusal
        state = step.state
    return state


def news(step: Step) -> list[tuple[str, str]]:
    """Reason and text of every event."""
    return [(effect.reason.name, effect.text) for effect in step.effects if isinstance(effect, Tell)]


def guarded(cpus: str, partition: str = "root") -> PodReading:
    return PodReading(CpuSet.parse(cpus), partition, CpuSet.parse(cpus))


MEMBER = PodReading(EMPTY, "member", CpuSet.parse("0-7"))
