"""Properties of what was seen on a node. They never name particular CPUs: correct allocators may choose differently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from e2e.lab.node import Node
from e2e.observe import Container, Sight, Task, look, numbers


def kernel_list(numbers: Iterable[int]) -> str:
    """Numbers as a person reads them: 0,1,4."""
    return ",".join(map(str, sorted(numbers))) or "none"


def assert_disjoint(sets: Mapping[str, Iterable[int]]) -> None:
    """No CPU (or NUMA node) is in two of these named sets."""
    for (one, first), (other, second) in combinations(sets.items(), 2):
        both = frozenset(first) & frozenset(second)
        assert not both, f"{one} and {other} share {kernel_list(both)}"


def assert_subset(inner: Iterable[int], outer: Iterable[int], what: str) -> None:
    """Every CPU (or NUMA node) of `inner` is in `outer`; `what` says in the message what that means."""
    outside = frozenset(inner) - frozenset(outer)
    assert not outside, f"{what}: {kernel_list(outside)} is outside of {kernel_list(outer)}"


def numa_nodes_of(sight: Sight, cpus: Iterable[int]) -> frozenset[int]:
    """The NUMA nodes that these CPUs belong to."""
    wanted = frozenset(cpus)
    return frozenset(node for node, own in sight.numa.items() if own & wanted)


def assert_one_numa_node(sight: Sight, cpus: Iterable[int], what: str) -> int:
    """These CPUs belong to one NUMA node, which is returned."""
    nodes = numa_nodes_of(sight, cpus)
    assert len(nodes) == 1, f"{what} has CPUs {kernel_list(cpus)}, of NUMA nodes {kernel_list(nodes)}; one was expected"
    return min(nodes)


def assert_threads_inside(container: Container, cpus: Iterable[int]) -> None:
    """Every thread of the container may run on these CPUs only; a container without threads shows nothing and fails."""
    assert container.tasks, f"container {container.identity[:12]} has no threads; is it still running?"
    for task in container.tasks:
        assert_subset(task.cpus, cpus, f"{task} may run elsewhere")


def assert_memory_on(container: Container, nodes: Iterable[int], share: float = 1.0, at_least: int = 1) -> None:
    """At least this share of the container's own memory (anonymous pages, `memory.numa_stat`) is on these NUMA nodes.

    Pages of files are left out: the node read them before, wherever it was then. A container that holds fewer than
    `at_least` bytes shows nothing, and fails.
    """
    anon = container.group.memory.get("anon", {})
    there, total = sum(anon.get(node, 0) for node in set(nodes)), sum(anon.values())
    assert total >= at_least, f"container {container.identity[:12]} holds {total} bytes, too few to show anything"
    assert there >= share * total, (
        f"{there} of {total} bytes of container {container.identity[:12]} are on NUMA nodes {kernel_list(nodes)}; "
        f"its pages by NUMA node: {dict(anon)}"
    )


def assert_nobody_else(sight: Sight, cpus: Iterable[int], containers: Iterable[str]) -> None:
    """No task of the node but these containers' may run on these CPUs; kernel threads are not counted."""
    strangers = sight.tasks_on(cpus, besides=containers)
    assert not strangers, f"{len(strangers)} other tasks may run on CPUs {kernel_list(cpus)}: {_some(strangers)}"


def _some(tasks: Iterable[Task], most: int = 5) -> str:
    named = [str(task) for task in tasks]
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return ", ".join(named[:most]) + more


def assert_shape(node: Node) -> None:
    """The node's kernel shows the machine that its shape describes."""
    shape, cells = node.shape, range(len(node.shape.cells))
    assert look(node).numa == {number: frozenset(shape.cpus_of(number)) for number in cells}
    siblings = numbers(node.sh("cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list"))
    assert len(siblings) == shape.threads
    distances = node.sh("cat $(ls -v /sys/devices/system/node/node*/distance)").splitlines()
    assert [tuple(map(int, row.split())) for row in distances] == list(shape.distances)
    pages = node.sh("cat $(ls -v /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages)")
    assert [int(count) for count in pages.split()] == [cell.hugepages for cell in shape.cells]
    for number, cell in enumerate(shape.cells):
        total = node.sh(f"grep -o 'MemTotal: *[0-9]*' /sys/devices/system/node/node{number}/meminfo").split()[-1]
        assert cell.memory * 0.85 < int(total) / 1024 <= cell.memory, f"NUMA node {number} has {total} KiB"
    packages = node.sh("cat /sys/devices/system/cpu/cpu*/topology/physical_package_id").split()
    assert len(set(packages)) == shape.sockets
