"""Real pods in seeded sequences, for the sections that pack machines.

The collected manifests ask for little: most for one CPU, some for 4 to 125. So that sequences of 10 to 60 pods fill a
machine of any size, each pod is drawn together with a whole factor from 1 up to the sequence's largest, by which all
its amounts are multiplied: the same pod, sized up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from shared.allocator import offer
from shared.defaulting import with_defaults
from shared.demand import CORE, QosClass, weigh
from shared.documents import objects, read_documents
from shared.intent import Intent, make
from shared.ledger import Ledger
from shared.placement import Placement
from shared.pod import Amounts, Container, Pod, is_hugepages
from shared.policy import Placing, Smt
from shared.quantity import parse
from tests.support.data import reference
from tests.support.kubelet import Asked, ask
from webhook.pod import find_template, parse_pod

FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""From which a sequence's largest factor is taken."""

LENGTHS = (10, 60)
"""Shortest and longest sequence that is aimed at."""

LEAST_MEMORY = 2**20 * CORE
"""A mebibyte in nano-units."""

NUMA_RESOURCES = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One pod of a sequence, as each side wants it."""

    pod: Pod
    intent: Intent
    asked: Asked


@lru_cache(maxsize=1)
def manifests() -> tuple[Pod, ...]:
    """The pods of the collected manifests, in the files' order, without devices (the model of the kubelet has none) and
    without the BestEffort ones (nobody pins them)."""
    found: list[Pod] = []
    for path in sorted(reference("manifests").glob("*.yaml")):
        for entry in objects(read_documents(path)):
            template = find_template(entry) if isinstance(entry, dict) else None
            if template is not None:
                found.append(_without_devices(with_defaults(parse_pod(template))))
    return tuple(pod for pod in found if weigh(pod).qos is not QosClass.BEST_EFFORT)


def _without_devices(pod: Pod) -> Pod:
    return _each(pod, lambda amounts: {n: a for n, a in amounts.items() if n in NUMA_RESOURCES or is_hugepages(n)})


def sized(pod: Pod, factor: int) -> Pod:
    """The pod with all its amounts multiplied."""
    return _each(pod, lambda amounts: {name: factor * amount for name, amount in amounts.items()})


def _each(pod: Pod, change: Callable[[Amounts], Amounts]) -> Pod:
    def changed(container: Container) -> Container:
        return replace(container, requests=change(container.requests), limits=change(container.limits))

    return replace(
        pod,
        containers=tuple(map(changed, pod.containers)),
        init_containers=tuple(map(changed, pod.init_containers)),
        requests=None if pod.requests is None else change(pod.requests),
        limits=None if pod.limits is None else change(pod.limits),
        overhead=change(pod.overhead),
    )


def pinned(pod: Pod, width: int) -> Pod:
    """The pod that a kubelet with KEP-5526 can pin: Guaranteed by ``spec.resources``, its demand rounded up to whole
    CPUs (to a multiple of ``width``), its slices as they were, all other containers in the pod shared pool, which has a
    CPU, a mebibyte and a huge page at least of what the slices use."""
    demand = weigh(pod)
    owners = {weight.name: weight for weight in demand.containers if weight.eligible}
    slices = sum(weight.exclusive_cpus for weight in owners.values())
    shared = any(weight.name not in owners for weight in demand.containers)
    cpus = max(1, slices + shared, -(-demand.total.get("cpu", 0) // CORE))
    level = {**demand.total, "cpu": -(-cpus // width) * width * CORE}
    for name in ("memory", *filter(is_hugepages, demand.total)):
        least = _least(name)
        owned = sum(c.requests.get(name, 0) for c in (*pod.init_containers, *pod.containers) if c.name in owners)
        level[name] = max(
            level.get(name, 0), least if name == "memory" else 0, owned + least if shared and owned else 0
        )

    def kept(container: Container) -> Container:
        return container if container.name in owners else replace(container, requests={}, limits={})

    return replace(
        pod,
        containers=tuple(map(kept, pod.containers)),
        init_containers=tuple(map(kept, pod.init_containers)),
        requests=level,
        limits=level,
        overhead={},
    )


def _least(resource: str) -> int:
    """A mebibyte of memory (a Guaranteed pod has to name some), one page of huge pages; in nano-units."""
    return LEAST_MEMORY if resource == "memory" else parse(resource.removeprefix("hugepages-"))


class Deck:
    """The pods that one empty machine could hold, to draw sequences from."""

    def __init__(self, empty: Ledger, smt: Smt, pin: bool) -> None:
        """``pin`` for pods that both sides pin; else they are as they were written."""
        self._empty = empty
        self._placing = Placing(smt=smt)
        self._pin = pin
        self._width = empty.layout.machine.threads_per_core if smt is Smt.FULL_CORES else 1
        self._drawn: dict[tuple[int, int], Drawn | None] = {}

    def sequence(self, chance: random.Random) -> Iterator[Drawn]:
        """An endless sequence that should fill the machine within the lengths aimed at."""
        largest = self._largest_factor(chance.randint(*LENGTHS))
        return self.drawn(chance, range(1, largest + 1))

    def drawn(self, chance: random.Random, factors: Sequence[int]) -> Iterator[Drawn]:
        """An endless sequence of pods that each could go on the empty machine."""
        while True:
            drawn = self._draw(chance.randrange(len(manifests())), chance.choice(factors))
            if drawn is not None:
                yield drawn

    def _load(self, pod: Pod) -> tuple[float, float]:
        """The pod's shares of all CPUs and of all memory."""
        ledger, total = self._empty, weigh(pod).total
        memory = sum(book.memory or 0 for book in ledger.books)
        cpus = max(1, -(-total.get("cpu", 0) // CORE))
        return cpus / ledger.free.bit_count(), total.get("memory", 0) / CORE / memory

    def _largest_factor(self, length: int) -> int:
        """The smallest one with which that many pods, drawn at random, should use up the CPUs or the memory."""
        loads = [self._load(pod) for pod in manifests()]
        most = 1 / sum(1 for _ in self._empty.layout.with_cpus)
        for largest in FACTORS:
            drawn = [(f * c, f * m) for c, m in loads for f in range(1, largest + 1) if f * max(c, m) <= most]
            if length * max(sum(c for c, _ in drawn), sum(m for _, m in drawn)) >= len(drawn):
                break
        return largest

    def _draw(self, index: int, factor: int) -> Drawn | None:
        """The pod, or None for one that the empty machine does not hold."""
        key = index, factor
        if key not in self._drawn:
            pod = sized(manifests()[index], factor)
            pod = pinned(pod, self._width) if self._pin else pod
            drawn = Drawn(pod, make(weigh(pod), self._placing), ask(pod))
            self._drawn[key] = drawn if isinstance(offer(self._empty, "pod", drawn.intent), Placement) else None
        return self._drawn[key]
