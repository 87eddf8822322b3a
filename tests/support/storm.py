"""A storm of pods on one machine: placed and released at random, by a seed.

``python -m tests.support.storm MACHINE SEED COUNT`` prints a digest of every decision, for a catalogue machine's name
or the root of a sysfs dump.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from shared.allocator import offer
from shared.catalogue import machine as catalogue_machine
from shared.cpuset import CpuSet
from shared.intent import Intent, make
from shared.ledger import Ledger
from shared.placement import Misfit, Placement
from shared.pod import Pod
from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy
from shared.sysfs import read_machine
from shared.topology import Machine
from tests.support.pods import asking, container, even, pod, weighed

POLICIES = (*[TopologyPolicy.SINGLE_NUMA_NODE] * 5, *TopologyPolicy)
MIB = 2**20


def intents(machine: Machine, seed: int, count: int) -> list[Intent]:
    """Intents of a size that makes sense on the machine."""
    chance = random.Random(seed)
    return [_intent(machine, chance) for _ in range(count)]


def _intent(machine: Machine, chance: random.Random) -> Intent:
    with_cpus = [node for node in machine.numa_nodes if node.cpus]
    largest = max(len(node.cpus) for node in with_cpus)
    memory = max(16, max(node.memory or 2**36 for node in with_cpus) // MIB // largest)
    cpus = chance.choice([1, 1, 2, 2, 3, 4, 5, 8, largest // 4, largest // 2, largest, 2 * largest])
    cpu = str(max(1, min(cpus, 2 * largest)))
    room = f"{max(1, int(cpus * memory * chance.choice([0.1, 0.3, 0.5, 1])))}Mi"
    more: dict[str, str] = {}
    if chance.random() < 0.15:
        sizes = [size for node in machine.numa_nodes for size in node.hugepages] or [2 * MIB]
        size = chance.choice(sizes)
        more[f"hugepages-{size // 1024}Ki"] = str(size * chance.randint(1, 64))
    devices = sorted(machine.known_devices) or ["example.com/nic"]
    if chance.random() < 0.15:
        more[chance.choice(devices)] = str(chance.randint(1, 4))
    small = f"{max(1, memory // 8)}Mi"
    shapes: list[Callable[[], Pod]] = [
        lambda: pod(container("app", {"cpu": cpu, "memory": room, **more}, {"cpu": cpu, "memory": room, **more})),
        lambda: pod(even("app", cpu, room), asking("istio-proxy", "100m", small)),
        lambda: pod(even("app", cpu, room), init=(asking("s", "1500m", small, restartable=True), asking("i", cpu))),
        lambda: pod(even("a", cpu, room), even("b", "1", small), container("c"), init=(even("i", "2", small),)),
        lambda: pod(even("app", "1", small), limits={"cpu": f"{cpu}.5", "memory": room}, requests={"cpu": f"{cpu}.5"}),
        lambda: pod(asking("app", f"{chance.randint(1, 3000)}m", small), container("s", dict(more))),
        lambda: pod(container("app", {"memory": room})),
        lambda: pod(container("app")),
    ]
    shape = chance.choices(shapes, [5, 5, 3, 4, 2, 6, 1, 1])[0]
    placing = Placing(
        policy=chance.choice(POLICIES),
        scope=chance.choice([Scope.POD, Scope.POD, Scope.CONTAINER]),
        isolation=chance.choice([*[Isolation.AUTO] * 6, Isolation.ISOLATED]),
        smt=chance.choice([Smt.FULL_CORES, Smt.FULL_CORES, Smt.SHARE]),
    )
    return make(weighed(shape()), placing)


Step = tuple[Ledger, str, Placement | Misfit | None]
"""The ledger after it, the pod, and its place or its misfit; None where it was released."""


def storm(ledger: Ledger, pods: list[Intent], seed: int, count: int) -> Iterator[Step]:
    """Place pods one after the other; where the machine is full, and now and then, release some."""
    chance = random.Random(seed)
    here: list[str] = []
    for number in range(count):
        name = f"pod-{number}"
        answer = offer(ledger, name, chance.choice(pods))
        if isinstance(answer, Placement):
            ledger = ledger.commit(answer)
            here.append(name)
        yield ledger, name, answer
        leave = 0.1 if isinstance(answer, Placement) else 0.5
        while here and chance.random() < leave:
            gone = here.pop(chance.randrange(len(here)))
            ledger = ledger.release(gone)
            yield ledger, gone, None


def told(step: Step) -> str:
    """One line that tells a step completely."""
    _, name, answer = step
    if isinstance(answer, Misfit):
        return f"{name}: {answer.message}"
    if answer is None:
        return f"{name} gone"
    slices = ";".join(f"{key}={cpus}" for key, cpus in answer.slices.items())
    return f"{name}: {answer.numa_nodes} {answer.memory_nodes} {answer.bubble} {slices} {answer.accounts}"


def digest(machine: Machine, seed: int, count: int, watch: Callable[[Step], None] | None = None) -> str:
    """Of every step of a storm on an empty machine with its lowest core reserved."""
    ledger = Ledger.of(machine, reserved(machine))
    found = hashlib.sha256()
    for step in storm(ledger, intents(machine, seed, 300), seed, count):
        if watch is not None:
            watch(step)
        found.update(told(step).encode())
    return found.hexdigest()


def reserved(machine: Machine) -> CpuSet:
    """The lowest core, where the machine has several."""
    return machine.cores[0] if len(machine.cores) > 1 and machine.isolated.isdisjoint(machine.cores[0]) else CpuSet()


def find(name: str) -> Machine:
    """A machine by its catalogue name, or by the root of a dump."""
    found = read_machine(Path(name)) if "/" in name else catalogue_machine(name)
    return replace(found, reserved=CpuSet())


if __name__ == "__main__":
    print(digest(find(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
