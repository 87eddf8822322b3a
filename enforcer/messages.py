"""What a person reads on a pod, each sentence once: what was asked, what was found, and the way out."""

from __future__ import annotations

from enforcer.kernel import ContainerReading, Level
from enforcer.state import Pod
from shared.cpuset import CpuSet

MEANS = {
    Level.CPUSET: "the cpusets of all containers",
    Level.PARTITION: "a partition of the kernel",
    Level.ISOLATED: "an isolated partition of the kernel",
}
"""What keeps a bubble its own, by its level."""


def no_room(pod: Pod, found: str) -> str:
    """``found`` is the allocator's own sentence, with its numbers."""
    return (
        f"pod {pod.spoken} {found}. Its containers are created once that is free here; "
        "a smaller pod, or another node, need not wait"
    )


def pinned_by_kubelet(pod: Pod) -> str:
    """A static CPU manager would hand the same CPUs to others."""
    return (
        f"pod {pod.spoken} asks CPUs of its own, and on this node the kubelet gives CPUs away by itself "
        "(cpuManagerPolicy static). Set cpuManagerPolicy to none on this node, or keep such pods off it"
    )


def doubted(pod: Pod) -> str:
    """For a pod that runs, without what it asked."""
    return f"pod {pod.spoken}: {pod.doubt}. It gets no CPUs of its own"


def doubted_but_kept(pod: Pod) -> str:
    """For a pod whose intent was believed when it started."""
    return f"pod {pod.spoken}: {pod.doubt}. It keeps the place that it was given while its intent was believed"


def refused(pod: Pod) -> str:
    """For a doubted pod where intents are enforced."""
    return (
        f"pod {pod.spoken}: {pod.doubt}. Namespace {pod.sandbox.namespace} enforces a topology policy, so none of its "
        "containers is created. Delete the pod: one that is made anew is admitted and signed anew"
    )


def undecided(pod: Pod) -> str:
    """For a doubted pod of a namespace that nobody could be asked about yet."""
    return (
        f"pod {pod.spoken}: {pod.doubt}. Whether namespace {pod.sandbox.namespace} enforces a topology policy is not "
        "known yet, so none of its containers is created until it is"
    )


def unknown(spoken: str) -> str:
    """For a container whose pod was never announced."""
    return f"pod {spoken} was not announced to the node agent; its containers are created at the kubelet's next attempt"


def weaker(pod: Pod, bubble: CpuSet, wanted: Level) -> str:
    """For a bubble that is kept by less than was wanted."""
    return f"pod {pod.spoken}: its CPUs {bubble} are kept by {MEANS[pod.level]}, not by {MEANS[wanted]}: {pod.why_not}"


def repaired(pod: Pod, bubble: CpuSet) -> str:
    """After somebody changed the pod's partition."""
    return f"pod {pod.spoken}: somebody changed its cgroup. Its CPUs {bubble} are kept by {MEANS[pod.level]} again"


def unrepaired(pod: Pod, bubble: CpuSet) -> str:
    """After somebody changed the pod's partition for good."""
    return (
        f"pod {pod.spoken}: somebody changed its cgroup, and the kernel did not take the repair: {pod.why_not}. "
        f"Its CPUs {bubble} are kept by {MEANS[pod.level]} from now on"
    )


def conflict(pod: Pod, cpus: CpuSet, holders: str) -> str:
    """For a running pod whose place was found to be another's, or not for pods any more."""
    reason = f"{holders} holds some of them with better evidence" if holders else "they are not for pods any more"
    return (
        f"pod {pod.spoken} lost its CPUs {cpus or 'of the node shared pool'} when the node agent started: {reason}. "
        "It runs on the node shared pool; delete it, and one that is made anew gets a place of its own"
    )


def outside(pod: Pod, name: str, given: CpuSet, reading: ContainerReading) -> str:
    """For a container that would run on CPUs that it was not given."""
    return (
        f"container {name} of pod {pod.spoken} was given CPUs {given}, and the kernel would run it on "
        f"{reading.effective or 'none'}. Another program of this node changes cpusets; stop it, the kubelet tries again"
    )


def unseen(pod: Pod, name: str) -> str:
    """For a container whose cgroup is not there."""
    return f"container {name} of pod {pod.spoken} has no cgroup to be checked in; the kubelet tries again"
