"""The kubelet's own Go code as a process that is asked one pod after the other: the program of ``peers/kubelet``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.lab.errors import LabError
from e2e.lab.tools import Tool, made, tied
from shared.cpuset import CpuSet
from shared.ledger import Layout
from shared.pod import Amounts, Container, Pod
from shared.quantity import text, to_whole
from shared.topology import Machine, NumaNode
from tests.bench.peers import PEERS

PROGRAM = Tool("kubelet-admit", "kubelet", "./", root=PEERS)

KIB = 1024


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a pod."""

    admitted: bool
    reason: str
    """The kubelet's word for a refusal."""
    cpus: CpuSet
    """CPUs that the pod owns; empty for one on the shared pool."""
    containers: Mapping[str, CpuSet]
    """What the CPU manager gave to each container of such a pod, its pod's shared pool included."""
    nodes: tuple[int, ...]
    """Kernel ids of the NUMA nodes that the memory manager bound the pod to."""
    microseconds: float
    """Processor time that the topology manager's Admit took: hints, their merger and the allocation."""


@dataclass(frozen=True, slots=True)
class Setup:
    """An empty node and its kubelet's configuration."""

    layout: Layout
    """The machine, and what is reserved of it."""
    full_pcpus_only: bool = False
    strict: bool = False
    """``strict-cpu-reservation``."""
    most_numa_nodes: int | None = None
    """``max-allowable-numa-nodes``; None for the kubelet's default."""
    state_folder: str = ""
    """Where the managers keep checkpoints, as in a kubelet; none: the policies alone, on state in memory."""


class RefusesToStart(Exception):
    """The kubelet's managers do not start on the machine; the message is theirs."""


class GoKubelet:
    """The running program. One node at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, setup: Setup) -> None:
        """Start with an empty node. Raises RefusesToStart."""
        error = self._ask({"node": _node(setup)})["error"]
        if error:
            raise RefusesToStart(error)

    def admit(self, name: str, pod: Pod) -> Fate:
        """The next pod, its defaults filled in, for the node that was started last. Raises LabError where the program
        has ended, as :meth:`start` does."""
        said = self._ask({"pod": manifest(name, pod)})
        return Fate(
            said["admitted"],
            said["reason"],
            CpuSet.parse(said["cpus"]),
            {name: CpuSet.parse(cpus) for name, cpus in (said["containers"] or {}).items()},
            tuple(said["nodes"] or ()),
            said["nanoseconds"] / 1000,
        )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LabError(f"the kubelet's program ended with status {self._process.wait()}; why is said above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def gokubelet() -> Iterator[GoKubelet]:
    """The program, built if need be, and ended afterwards. Raises LabError where it cannot be built."""
    argv = tied([str(made(PROGRAM))])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield GoKubelet(process)
        finally:
            process.kill()


def _node(setup: Setup) -> dict[str, Any]:
    layout, options = setup.layout, {}
    if setup.most_numa_nodes is not None:
        options["max-allowable-numa-nodes"] = str(setup.most_numa_nodes)
    return {
        "machine": _machine_info(layout.machine),
        "reservedCPUs": str(layout.reserved),
        "reservedMemory": dict(_reserved_memory(layout)),
        "cpuOptions": {
            "full-pcpus-only": str(setup.full_pcpus_only).lower(),
            "strict-cpu-reservation": str(setup.strict).lower(),
        },
        "topologyOptions": options,
        "stateFolder": setup.state_folder,
    }


def _reserved_memory(layout: Layout) -> Iterator[tuple[str, int]]:
    for node, book in zip(layout.machine.numa_nodes, layout.books, strict=True):
        kept = (node.pages or 0) - (book.memory or 0)
        if kept:
            yield str(node.id), kept


def _machine_info(machine: Machine) -> dict[str, Any]:
    """cAdvisor's MachineInfo, as far as the kubelet's managers read it."""
    sizes = sorted({size for node in machine.numa_nodes for size in node.hugepages})
    total = {size: sum(node.hugepages.get(size, 0) for node in machine.numa_nodes) for size in sizes}
    return {
        "num_cores": len(machine.online),
        "num_physical_cores": len(machine.cores),
        "num_sockets": len(machine.packages),
        "memory_capacity": sum(node.memory or 0 for node in machine.numa_nodes),
        "hugepages": _pages(total, sizes),
        "topology": [_numa_node(machine, node, sizes) for node in machine.numa_nodes],
    }


def _numa_node(machine: Machine, node: NumaNode, sizes: list[int]) -> dict[str, Any]:
    return {
        "node_id": node.id,
        "memory": node.memory or 0,
        "hugepages": _pages(node.hugepages, sizes),
        "cores": [
            {"core_id": number, "thread_ids": list(core), "socket_id": _socket(machine, core)}
            for number, core in enumerate(machine.cores)
            if not core.isdisjoint(node.cpus)
        ],
        "distances": list(machine.distances[machine.index[node.id]]),
    }


def _pages(pages: Mapping[int, int], sizes: list[int]) -> list[dict[str, int]]:
    """Every size that the machine has: the kernel shows each on every NUMA node, be it with no page."""
    return [{"page_size": size // KIB, "num_pages": pages.get(size, 0)} for size in sizes]


def _socket(machine: Machine, core: CpuSet) -> int:
    return next(package.id for package in machine.packages if not core.isdisjoint(package.cpus))


def manifest(name: str, pod: Pod) -> dict[str, Any]:
    """The pod as the API server would give it to a kubelet, as far as amounts go."""
    spec: dict[str, Any] = {
        "containers": [_container(container) for container in pod.containers],
        "initContainers": [
            _container(container) | ({"restartPolicy": "Always"} if container.restartable else {})
            for container in pod.init_containers
        ],
        "overhead": _written(pod.overhead),
    }
    if pod.requests is not None or pod.limits is not None:
        spec["resources"] = _resources(pod.requests or {}, pod.limits or {})
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}


def _container(container: Container) -> dict[str, Any]:
    return {"name": container.name, "resources": _resources(container.requests, container.limits)}


def _resources(requests: Amounts, limits: Amounts) -> dict[str, Any]:
    return {"requests": _written(requests), "limits": _written(limits)}


def _written(amounts: Amounts) -> dict[str, str]:
    return {resource: text(resource, to_whole(resource, amount)) for resource, amount in amounts.items()}
