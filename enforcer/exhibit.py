"""A proof for a reader: plain text for people, and the same in data for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from enforcer.partition import WORDS
from enforcer.processes import Thread
from enforcer.proof import ContainerFound, Kind, Other, PodFound, spoken_bytes

VERSION = "armistice.dev/v1"
NAMED = 8
"""Tasks of one kind that a line names; the rest are counted. The data names all."""


def lines(found: Sequence[PodFound]) -> Iterator[str]:
    """What a person reads."""
    for number, pod in enumerate(found):
        if number:
            yield ""
        yield from _pod_lines(pod)


def _pod_lines(pod: PodFound) -> Iterator[str]:
    promise = pod.promise
    yield f"{promise.namespace}/{promise.name}: {'holds' if pod.holds else 'DOES NOT HOLD'}"
    for difference in pod.differences:
        yield f"  ! {difference}"
    nodes = ",".join(map(str, promise.numa_nodes)) or "any"
    yield f"  class {promise.placement}, NUMA nodes {nodes}, kept by {promise.level.value}"
    if promise.why_not:
        yield f"  not kept by more: {promise.why_not}"
    if promise.bubble:
        yield from _table(_bubble_rows(pod))
    for container in pod.containers:
        yield from _container_lines(container)
    yield from _other_lines(pod.others)


def _bubble_rows(pod: PodFound) -> list[tuple[str, ...]]:
    promise, reading = pod.promise, pod.reading
    word = WORDS.get(promise.level, "")
    found = [reading.partition, str(reading.exclusive), f"in effect {reading.effective}"] if reading else ["no cgroup"]
    return [("  pod", "promised", f"{promise.bubble} {word}".strip(), "found", " ".join(filter(None, found)))]


def _container_lines(container: ContainerFound) -> Iterator[str]:
    promise, reading = container.promise, container.reading
    asked = f"{promise.cpus or 'any CPU'}, memory {promise.mems or 'any'}"
    kind = "exclusive" if promise.owns else "shared"
    if reading is None:
        yield from _table([(f"  {promise.name}", "promised", f"{asked}, {kind}", "found", "does not run")])
        return
    quota = "no quota" if reading.quota is None else f"quota {reading.quota}"
    found = f"{reading.effective}, memory {reading.mems}, {quota}"
    yield from _table([(f"  {promise.name}", "promised", f"{asked}, {kind}", "found", found)])
    yield from _table(_thread_rows(container.threads))
    yield f"    memory: anonymous {_memory(container.pages.anonymous)}; of files {_memory(container.pages.files)}"


def _thread_rows(threads: Iterable[Thread]) -> list[tuple[str, ...]]:
    return [(f"    thread {each.tid}", each.name, f"CPUs {each.cpus}", f"memory {each.mems}") for each in threads]


def _memory(pages: Mapping[int, int]) -> str:
    parts = [f"{spoken_bytes(count)} on node {node}" for node, count in sorted(pages.items())]
    return ", ".join(parts) or "none"


def _other_lines(others: Sequence[Other]) -> Iterator[str]:
    for kind, words in (
        (Kind.CONTAINER, "other containers that may run on the pod's own CPUs"),
        (Kind.OTHER, "other tasks that may run on the pod's own CPUs"),
        (Kind.KERNEL, "kernel threads there, which no cgroup keeps off"),
    ):
        names = [each.whose or f"{each.thread.name} ({each.thread.tid})" for each in others if each.kind is kind]
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"  {words}: {len(names)}: {', '.join(names[:NAMED])}{more}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows with their columns aligned."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def document(found: Sequence[PodFound]) -> dict[str, Any]:
    """What a program reads: CPU lists in the kernel's form, bytes as integers."""
    return {"version": VERSION, "items": [_item(pod) for pod in found]}


def _item(pod: PodFound) -> dict[str, Any]:
    promise, reading = pod.promise, pod.reading
    return {
        "namespace": promise.namespace,
        "name": promise.name,
        "uid": promise.uid,
        "holds": pod.holds,
        "differences": list(pod.differences),
        "class": promise.placement,
        "isolation": promise.level.value,
        "why_not": promise.why_not,
        "numa_nodes": list(promise.numa_nodes),
        "promised": {"cpus": str(promise.bubble), "partition": WORDS.get(promise.level, "")},
        "found": None
        if reading is None
        else {"cpus": str(reading.exclusive), "partition": reading.partition, "effective": str(reading.effective)},
        "containers": [_container_item(each) for each in pod.containers],
        "others": [_other_item(each) for each in pod.others],
    }


def _container_item(container: ContainerFound) -> dict[str, Any]:
    promise, reading = container.promise, container.reading
    return {
        "name": promise.name,
        "id": promise.id,
        "exclusive": promise.owns,
        "promised": {"cpus": str(promise.cpus), "mems": str(promise.mems)},
        "found": None
        if reading is None
        else {"cpus": str(reading.effective), "mems": str(reading.mems), "quota": reading.quota},
        "threads": [_thread_item(each) for each in container.threads],
        "memory": {
            "anonymous": _pages_item(container.pages.anonymous),
            "files": _pages_item(container.pages.files),
        },
    }


def _thread_item(thread: Thread) -> dict[str, Any]:
    return {
        "tid": thread.tid,
        "pid": thread.pid,
        "name": thread.name,
        "cpus": str(thread.cpus),
        "mems": str(thread.mems),
    }


def _pages_item(pages: Mapping[int, int]) -> dict[str, int]:
    return {str(node): count for node, count in sorted(pages.items())}


def _other_item(other: Other) -> dict[str, Any]:
    return {"kind": other.kind.value, "whose": other.whose, **_thread_item(other.thread)}
