"""What a kubelet would do with a pod: an own model, to compare with, written from the enhancement proposals.

A kubelet with the static CPU manager, the static memory manager and the topology manager's ``single-numa-node`` policy
in scope ``pod`` (KEP-693, KEP-1752), and with pod-level resource managers (KEP-5526). ``tests/bench/kubelet.py`` holds
it against the kubelet's own code, decision by decision. :func:`ask` reads a pod once, :meth:`Kubelet.admit` takes it in
or says why not, by these rules in this order:

1. Node allocatable: the requests of all pods, pinned or not, stay within the machine less the reservation (the
   scheduler's NodeResourcesFit, which the kubelet repeats at admission).
2. Only Guaranteed pods are pinned. All others run unaligned on the shared pool, and the memory manager does not count
   them (KEP-3570, static CPU management; KEP-1769).
3. What is pinned: ``spec.resources`` where the pod has it (KEP-5526, "Pod Scope"), else the containers' whole CPUs and
   the memory of all, at the worst moment of KEP-753. Fractional CPUs are not pinned, the memory is.
4. A pod gets no hints whose exclusive slices use up the CPUs, the memory or the huge pages of ``spec.resources`` while
   another container has to share them (KEP-5526, "Empty podSharedPool"; the memory manager's rule is in its code only).
   A standard init container shares with the sidecars before it, every other one with all that stay.
5. Hints: the CPU manager offers every NUMA node with enough assignable CPUs, the memory manager every one with enough
   free memory and huge pages. A node has to be in both; of several the *lowest numbered* wins, whatever is left on it
   (KEP-693, the narrowest mask, then the lower one). None: TopologyAffinityError. Where no NUMA nodes together have the
   memory either, the memory manager is taken to have no preference, and the pod is refused when its turn comes to
   allocate: UnexpectedAdmissionError.
6. With ``full-pcpus-only`` CPUs that are no multiple of the SMT width are refused (KEP-2625, SMTAlignmentError).
7. CPUs on that NUMA node: the whole node when all of it is asked, else whole free cores, lowest first, else single
   threads, those of the cores with the fewest free ones first (``takeByTopology``, KEP-3570). With ``spec.resources``
   they are taken for the pod and the slices cut from them; else each container takes its own, and may take again what
   standard init containers before it had.
8. Reserved CPUs are never assigned. By default the shared pool runs on them too, so that every other CPU may be
   assigned; with ``strict-cpu-reservation`` (KEP-4540) it does not, and ``never_empty`` then refuses the pod that would
   take its last CPU (kubernetes/kubernetes#141196: the kubelet as it is lets the pool become empty; with the fix of
   #141197 it refuses).

Left out: devices, scope ``container``, resizing, and the release of pods.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from shared.cpuset import EMPTY, CpuSet
from shared.kep753 import peak
from shared.pod import Amounts, Container, Pod, has_pod_level, is_hugepages
from shared.quantity import from_whole, parse, text, to_whole
from shared.topology import Machine, NumaNode

CORE = from_whole("cpu", 1000)
"""One CPU in nano-units."""

MOST_NUMA_NODES = 8
"""The topology manager refuses to start on more unless told otherwise (``max-allowable-numa-nodes``)."""


@dataclass(frozen=True, slots=True)
class Share:
    """A container with CPUs of its own."""

    name: str
    cpus: int
    stays: bool
    """Whether it lives as long as the pod: all but standard init containers do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A pod as the kubelet counts it. CPU in millicores, CPUs in pieces, the rest in bytes."""

    cpu: int
    memory: int
    pages: Mapping[int, int]
    """Huge page size to bytes."""
    pinned: bool
    """Whether the memory manager pins it: the pod is Guaranteed."""
    cpus: int = 0
    """CPUs that the CPU manager assigns; 0 for none."""
    shares: tuple[Share, ...] = ()
    """In the order of their start."""
    as_one: bool = False
    """Whether it is pinned by ``spec.resources``."""
    starved: bool = False
    """Whether a container would have to share an empty pod shared pool."""

    @property
    def slices(self) -> Mapping[str, int]:
        """Container to the CPUs that it owns as long as the pod lives."""
        return {share.name: share.cpus for share in self.shares if share.stays}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is not admitted."""

    reason: str
    """The kubelet's own word where it has one."""


@dataclass(frozen=True, slots=True)
class Given:
    """What an admitted pod holds."""

    node: int | None
    """The NUMA node's kernel id; None for a pod that is not pinned."""
    cpus: CpuSet
    slices: Mapping[str, CpuSet]


@dataclass(frozen=True, slots=True)
class Kubelet:
    """One node's state. Admitting gives the next one."""

    machine: Machine
    full_pcpus_only: bool
    never_empty: bool
    free: CpuSet
    """Assignable CPUs that no pod owns."""
    memory: Mapping[int, int]
    """NUMA node's kernel id to the free bytes that the memory manager may pin."""
    pages: Mapping[int, Mapping[int, int]]
    """The same for huge pages: size to bytes."""
    cpu_left: int
    """Millicores of node allocatable that nobody requested."""
    memory_left: int
    pages_left: Mapping[int, int]
    """Huge page size to the bytes that nobody requested."""
    pods: Mapping[str, Given] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        machine: Machine,
        reserved: CpuSet,
        memory: Mapping[int, int],
        *,
        full_pcpus_only: bool = False,
        never_empty: bool = False,
    ) -> Kubelet:
        """An empty node. ``memory`` is each NUMA node's, less the huge pages and what ``reservedMemory`` keeps."""
        if len(machine.numa_nodes) > MOST_NUMA_NODES:
            raise ValueError(f"the topology manager stops at {MOST_NUMA_NODES} NUMA nodes")
        if not reserved:
            raise ValueError("the static CPU manager does not start without a CPU reservation")
        free = machine.online - reserved
        pages = {n.id: {size: size * count for size, count in n.hugepages.items()} for n in machine.numa_nodes}
        sizes = {size for here in pages.values() for size in here}
        return cls(
            machine=machine,
            full_pcpus_only=full_pcpus_only,
            never_empty=never_empty,
            free=free,
            memory=memory,
            pages=pages,
            cpu_left=1000 * len(free),
            memory_left=sum(memory.values()),
            pages_left={size: sum(here.get(size, 0) for here in pages.values()) for size in sizes},
        )

    def admit(self, name: str, asked: Asked) -> Kubelet | Refusal:
        """The node with the pod on it."""
        if asked.cpu > self.cpu_left:
            return Refusal("OutOfcpu")
        if asked.memory > self.memory_left:
            return Refusal("OutOfmemory")
        short = next((size for size, amount in asked.pages.items() if amount > self.pages_left.get(size, 0)), None)
        if short is not None:
            return Refusal(f"OutOfhugepages-{text('memory', short)}")
        after = replace(
            self,
            cpu_left=self.cpu_left - asked.cpu,
            memory_left=self.memory_left - asked.memory,
            pages_left={size: left - asked.pages.get(size, 0) for size, left in self.pages_left.items()},
        )
        if not asked.pinned:
            return after._with(name, Given(None, EMPTY, {}))
        if self.never_empty and 0 < len(self.free) <= asked.cpus:
            return Refusal("empty shared pool")
        node = next(self._hints(asked), None)
        blind = node is None and self._memory_is_blind(asked) and any(self._has_cpus(asked, n) for n in self._nodes)
        if asked.starved or (node is None and not blind):
            return Refusal("TopologyAffinityError")
        if self.full_pcpus_only and any(cpus % self.machine.threads_per_core for cpus in _taken_together(asked)):
            return Refusal("SMTAlignmentError")
        return Refusal("UnexpectedAdmissionError") if node is None else after._pin(name, asked, node)

    @property
    def _nodes(self) -> tuple[NumaNode, ...]:
        return self.machine.numa_nodes

    def _hints(self, asked: Asked) -> Iterator[int]:
        """The NUMA nodes that hold all that is pinned, lowest number first."""
        return (node.id for node in self._nodes if self._has_cpus(asked, node) and self._has_memory(asked, (node.id,)))

    def _has_cpus(self, asked: Asked, node: NumaNode) -> bool:
        return asked.cpus <= (self.free & node.cpus).mask.bit_count()

    def _has_memory(self, asked: Asked, nodes: Collection[int]) -> bool:
        """Whether the NUMA nodes together have the memory and the huge pages."""
        pages = {size: sum(self.pages[node].get(size, 0) for node in nodes) for size in asked.pages}
        have = sum(self.memory[node] for node in nodes)
        return asked.memory <= have and all(pages[size] >= amount for size, amount in asked.pages.items())

    def _memory_is_blind(self, asked: Asked) -> bool:
        """Whether the memory manager has no hint at all. Several NUMA nodes serve only where none of them is in use."""
        used = {given.node for given in self.pods.values()}
        unused = [node.id for node in self._nodes if node.id not in used]
        return not any(self._has_memory(asked, nodes) for nodes in (unused, *((node.id,) for node in self._nodes)))

    def _pin(self, name: str, asked: Asked, node: int) -> Kubelet:
        cut = self._cut if asked.as_one else self._each
        cpus, slices = cut(asked, self.machine.numa_nodes[self.machine.index[node]].cpus)
        pages = {size: amount - asked.pages.get(size, 0) for size, amount in self.pages[node].items()}
        after = replace(
            self,
            free=self.free - cpus,
            memory={**self.memory, node: self.memory[node] - asked.memory},
            pages={**self.pages, node: pages},
        )
        return after._with(name, Given(node, cpus, slices))

    def _cut(self, asked: Asked, here: CpuSet) -> tuple[CpuSet, Mapping[str, CpuSet]]:
        """The pod's CPUs, and from them the slices."""
        cpus = take_by_topology(self.machine, here, self.free & here, asked.cpus)
        slices, left = {}, cpus
        for container, count in asked.slices.items():
            slices[container] = take_by_topology(self.machine, here, left, count)
            left -= slices[container]
        return cpus, slices

    def _each(self, asked: Asked, here: CpuSet) -> tuple[CpuSet, Mapping[str, CpuSet]]:
        """Each container's CPUs. What the standard init containers had stays with the pod, used again or not."""
        slices, left, again, all_cpus = {}, self.free & here, EMPTY, EMPTY
        for share in asked.shares:
            cpus = take_by_topology(self.machine, here, left | again, share.cpus)
            left, all_cpus = left - cpus, all_cpus | cpus
            if share.stays:
                slices[share.name] = cpus
                again -= cpus
            else:
                again |= cpus
        return all_cpus, slices

    def _with(self, name: str, given: Given) -> Kubelet:
        return replace(self, pods={**self.pods, name: given})


def _taken_together(asked: Asked) -> Iterator[int]:
    """The counts of CPUs that are taken in one go."""
    return iter((asked.cpus,)) if asked.as_one else (share.cpus for share in asked.shares)


def take_by_topology(machine: Machine, node: CpuSet, free: CpuSet, count: int) -> CpuSet:
    """Rule 7: ``count`` CPUs of one NUMA node's free ones, of which there are as many."""
    if free == node and count == len(node):
        return node
    taken = EMPTY
    parts = [core & free for core in machine.cores if not core.isdisjoint(free)]
    widths = {(core & free).mask: len(core) for core in machine.cores}
    for part in parts:
        if len(part) == widths[part.mask] == machine.threads_per_core and len(part) <= count - len(taken):
            taken |= part
    for part in sorted(parts, key=lambda part: (len(part), next(iter(part)))):
        for cpu in part - taken:
            if len(taken) < count:
                taken |= CpuSet.of((cpu,))
    return taken


def ask(pod: Pod) -> Asked:
    """Rules 2 to 4: what a pod, its defaults filled in, asks of the kubelet."""
    total = _total(pod)
    cpu, memory = to_whole("cpu", total.get("cpu", 0)), to_whole("memory", total.get("memory", 0))
    pages = {_page_size(name): to_whole(name, n) for name, n in total.items() if is_hugepages(name) and n}
    if not _is_guaranteed(pod):
        return Asked(cpu, memory, pages, pinned=False)
    shares = tuple(Share(c.name, c.requests["cpu"] // CORE, stays) for c, stays in _started(pod) if _is_eligible(c))
    if not has_pod_level(pod):
        return Asked(cpu, memory, pages, True, _whole_peak(pod), shares)
    level = pod.requests or {}
    cpus = level["cpu"] // CORE if level["cpu"] % CORE == 0 else 0
    starved = (cpus > 0 and _is_starved(pod, "cpu", _is_eligible)) or any(
        _is_starved(pod, name, lambda c: _even(c.requests, c.limits))
        for name, amount in level.items()
        if amount and name != "cpu"
    )
    return Asked(cpu, memory, pages, True, cpus, shares if cpus else (), as_one=True, starved=starved)


def _is_starved(pod: Pod, resource: str, owns: Callable[[Container], bool]) -> bool:
    """Whether the slices leave nothing of ``spec.resources`` to a container that shares."""
    total, owned, sharing = (pod.requests or {})[resource], 0, False
    for container, stays in _started(pod):
        if owns(container):
            owned += container.requests.get(resource, 0) if stays else 0
        elif stays:
            sharing = True
        elif owned >= total:
            return True
    return sharing and owned >= total


def _page_size(resource: str) -> int:
    return to_whole(resource, parse(resource.removeprefix("hugepages-")))


def _started(pod: Pod) -> Iterator[tuple[Container, bool]]:
    """The containers in the order of their start, and whether they live as long as the pod."""
    yield from ((container, container.restartable) for container in pod.init_containers)
    yield from ((container, True) for container in pod.containers)


def _total(pod: Pod) -> Amounts:
    """The pod's requests (KEP-753), ``spec.resources`` in their place where it names the resource (KEP-2837)."""
    total = peak([(c.requests, c.restartable) for c in pod.init_containers], [c.requests for c in pod.containers])
    total.update(pod.requests or {})
    return {name: total.get(name, 0) + pod.overhead.get(name, 0) for name in {*total, *pod.overhead}}


def _whole_peak(pod: Pod) -> int:
    """CPUs at the worst moment, of the containers whose request is a whole number."""
    whole = peak([(_whole(c), c.restartable) for c in pod.init_containers], [_whole(c) for c in pod.containers])
    return whole.get("cpu", 0) // CORE


def _whole(container: Container) -> Amounts:
    return {"cpu": container.requests["cpu"]} if container.requests.get("cpu", 0) % CORE == 0 else {}


def _is_guaranteed(pod: Pod) -> bool:
    if has_pod_level(pod):
        return _even(pod.requests or {}, pod.limits or {})
    return all(_even(c.requests, c.limits) for c in (*pod.init_containers, *pod.containers))


def _is_eligible(container: Container) -> bool:
    return _even(container.requests, container.limits) and container.requests["cpu"] % CORE == 0


def _even(requests: Amounts, limits: Amounts) -> bool:
    return all(requests.get(name, 0) > 0 and requests[name] == limits.get(name) for name in ("cpu", "memory"))
