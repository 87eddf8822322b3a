"""A model of everything around the enforcer's decisions: kubelet, runtime, kernel, API server, and people.

It shares no rule with the code it drives. The runtime keeps specifications and applies what it is told; the kernel
keeps partitions and works out who may run where.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count

from enforcer.kernel import ContainerReading, Level, PodReading
from enforcer.runtime import Adjustment, Container, ContainerState, Sandbox, Update
from shared.cpuset import EMPTY, CpuSet
from shared.intent import Intent
from shared.topology import Machine

TYPES = {Level.PARTITION: "root", Level.ISOLATED: "isolated"}


@dataclass
class Pod:
    """One pod as kubelet and kernel know it."""

    uid: str
    name: str
    namespace: str
    annotations: dict[str, str]
    intent: Intent | None
    """What was asked of the agent in good faith; None where it is to get nothing."""
    sandbox: str = ""
    """Id of the newest."""
    cgroup: bool = False
    exclusive: CpuSet = EMPTY
    partition: str = "member"
    next: int = 0
    """How many containers the kubelet has made."""


@dataclass
class Task:
    """One container that runs, or was created."""

    id: str
    pod: Pod
    sandbox: str
    name: str
    cpus: str = ""
    mems: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    managed: bool = False
    """Whether the agent answered when it was created, for a pod with a place."""
    promised: CpuSet | None = None
    """The CPUs it was created with as part of a bubble: they never change while it runs."""


class World:
    """Kubelet, runtime and kernel of one node."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.pods: dict[str, Pod] = {}
        self.sandboxes: dict[str, Sandbox] = {}
        self.tasks: dict[str, Task] = {}
        self.kernel_takes_partitions = True
        self._ids = count(1)

    # The runtime.

    def new_id(self, what: str) -> str:
        return f"{what}-{next(self._ids)}"

    def run_sandbox(self, pod: Pod) -> Sandbox:
        """A sandbox, and the cgroup that the kubelet made before it."""
        if pod.sandbox in self.sandboxes:
            self.stop_sandbox(pod)
        pod.cgroup, pod.sandbox, pod.next = True, self.new_id("sandbox"), 0
        parent = f"/kubepods/pod{pod.uid}"
        sandbox = Sandbox(pod.sandbox, pod.uid, pod.namespace, pod.name, pod.annotations, parent, 4242)
        self.sandboxes[sandbox.id] = sandbox
        return sandbox

    def stop_sandbox(self, pod: Pod) -> Sandbox:
        sandbox = replace(self.sandboxes[pod.sandbox], pid=0)
        self.sandboxes[sandbox.id] = sandbox
        return sandbox

    def remove_pod(self, pod: Pod) -> None:
        """The kubelet takes the cgroup away; with it go partition and tasks."""
        self.remove_cgroup(pod)
        self.sandboxes = {key: sandbox for key, sandbox in self.sandboxes.items() if sandbox.uid != pod.uid}
        del self.pods[pod.uid]

    def remove_cgroup(self, pod: Pod) -> None:
        self.tasks = {key: task for key, task in self.tasks.items() if task.pod is not pod}
        pod.cgroup, pod.exclusive, pod.partition = False, EMPTY, "member"

    def create(self, task: Task, adjustment: Adjustment | None) -> None:
        """A runtime may be set to copy the pod's annotations; what the agent says goes over them."""
        task.annotations = dict(task.pod.annotations)
        if adjustment is not None:
            task.cpus, task.mems = adjustment.cpus, adjustment.mems
            task.annotations |= adjustment.annotations
        self.tasks[task.id] = task

    def apply(self, updates: tuple[Update, ...], creating: str = "") -> None:
        """As NRI does: a request with one container twice, or with the one that is being created, fails whole."""
        told = [update.container for update in updates]
        assert len(set(told)) == len(told), f"a container twice in {told}"
        assert creating not in told, f"{creating} is being created"
        for update in updates:
            assert update.cpus, f"an update of {update.container} says nothing"
            if update.container in self.tasks:
                self.tasks[update.container].cpus = update.cpus

    def shown(self, task: Task) -> Container:
        """As Synchronize and events show it."""
        path = f"/kubepods/pod{task.pod.uid}/{task.id}"
        state = ContainerState.RUNNING
        return Container(task.id, task.sandbox, task.name, state, task.annotations, task.cpus, task.mems, path, 1)

    # The kernel.

    def enclose(self, pod: Pod, cpus: CpuSet, level: Level) -> Level:
        """Refuses CPUs that another cgroup holds, as cpuset_cpus_exclusive does, and whenever it is told to."""
        taken = [other for other in self.pods.values() if other is not pod and not other.exclusive.isdisjoint(cpus)]
        if not self.kernel_takes_partitions or taken or not pod.cgroup:
            pod.exclusive, pod.partition = EMPTY, "member"
            return Level.CPUSET
        pod.exclusive, pod.partition = cpus, TYPES[level]
        return level

    def reading(self, pod: Pod) -> PodReading | None:
        return PodReading(pod.exclusive, pod.partition, EMPTY) if pod.cgroup else None

    def readings(self) -> dict[str, PodReading | None]:
        return {pod.uid: self.reading(pod) for pod in self.pods.values()}

    def effective(self, task: Task) -> CpuSet:
        """Where a task may run: what it asks of what its pod has, or all of that where nothing is left."""
        whole = task.pod.exclusive if task.pod.partition != "member" else self._outside()
        asked = CpuSet.parse(task.cpus) if task.cpus else whole
        return asked & whole or whole

    def _outside(self) -> CpuSet:
        left = self.machine.online
        for pod in self.pods.values():
            if pod.partition != "member":
                left -= pod.exclusive
        return left

    def container_reading(self, task: Task) -> ContainerReading:
        return ContainerReading(CpuSet.parse(task.cpus), self.effective(task), CpuSet.parse(task.mems), None)
