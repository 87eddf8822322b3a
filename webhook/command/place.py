"""``armistice place``: where each container would land on one machine, pod after pod."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from shared.allocator import offer
from shared.cpuset import EMPTY, CpuSet
from shared.demand import PlacementClass, weigh
from shared.errors import InputError
from shared.intent import Intent, make
from shared.ledger import Ledger
from shared.placement import Misfit, Placement
from shared.policy import Placing
from webhook.command.demand import identity
from webhook.command.inputs import (
    Item,
    manifest_option,
    node_options,
    output_option,
    policy_options,
    read_manifests,
    read_nodes,
    reservation,
    reservation_options,
    tell_skipped,
    wanted,
)
from webhook.command.output import Format, count, print_document, print_people
from webhook.printable import printable


@dataclass(frozen=True, slots=True)
class Placed:
    """One object of the list with the allocator's answer."""

    item: Item
    intent: Intent
    answer: Placement | Misfit


@click.command(
    short_help="Where pods would land on one machine, drawn.",
    epilog="\b\nExamples:\n  armistice place -f pods.yaml --machine epyc9654-2s-nps4\n"
    "  armistice place -f pods.yaml --reserved-cpus 0-1 -o json",
)
@manifest_option
@node_options
@reservation_options
@policy_options
@output_option("table", "json", "yaml")
def place(
    files: tuple[str, ...],
    machines: tuple[str, ...],
    sysfs: str | None,
    nodes: str | None,
    cluster: bool,
    reserved_cpus: str,
    reserved_memory: str,
    output: str,
    **policy: Any,
) -> int:
    """Place pods on one machine in the order given; a pod that does not fit leaves the rest of the list going.

    Exit code: 0 all placed; 1 at least one has no place; 2 the input could not be read.
    """
    asked = wanted(**policy)
    manifests = read_manifests(files)
    found = read_nodes(machines, sysfs, nodes, cluster)
    if len(found) != 1:
        names = ", ".join(machine.name for machine in found) or "none"
        raise InputError(f"place works on one machine, and {len(found)} were given ({names}); name one with --machine")
    reserved = reservation(reserved_cpus, reserved_memory)
    ledger, placed = place_all(Ledger.of(found[0], reserved.cpus, reserved.memory), manifests.items, asked.placing)
    if output == "table":
        show(ledger, placed)
    else:
        print_document(content(ledger, placed), Format(output))
    tell_skipped(manifests)
    return int(any(isinstance(each.answer, Misfit) for each in placed))


def place_all(ledger: Ledger, items: Sequence[Item], placing: Placing) -> tuple[Ledger, list[Placed]]:
    """Pod after pod. The same object given twice is two pods."""
    placed = []
    for number, item in enumerate(items):
        intent = make(weigh(item.pod), placing)
        answer = offer(ledger, f"{number}:{item.subject.namespace}/{item.subject.name}", intent)
        if isinstance(answer, Placement):
            ledger = ledger.commit(answer)
        placed.append(Placed(item, intent, answer))
    return ledger, placed


def content(ledger: Ledger, placed: Sequence[Placed]) -> dict[str, Any]:
    """All of ``-o json``: a stable interface. What bound pods may use is told as it is after all pods."""
    return {
        "machine": ledger.layout.machine.name,
        "node_shared_pool": str(ledger.node_shared_pool),
        "items": [_item(ledger, each) for each in placed],
    }


def _item(ledger: Ledger, placed: Placed) -> dict[str, Any]:
    answer = placed.answer
    head = {**identity(placed.item), "class": placed.intent.placement.value}
    if isinstance(answer, Misfit):
        misfit = {
            "message": answer.message,
            "asked": dict(answer.asked),
            "found": {"numa_node": answer.node, **answer.found},
        }
        empty: dict[str, Any] = {"numa_nodes": [], "memory_nodes": [], "cpus": "", "pod_shared_pool": ""}
        return {**head, **empty, "containers": {}, "misfit": misfit}
    common = ledger.common(answer)
    exclusive = answer.intent.placement is PlacementClass.EXCLUSIVE
    return {
        **head,
        "numa_nodes": list(answer.numa_nodes),
        "memory_nodes": list(answer.memory_nodes),
        "cpus": str(answer.bubble if exclusive else common),
        "pod_shared_pool": str(answer.pool),
        "containers": {name: str(cpus) for name, cpus in runs_on(answer, common).items()},
        "misfit": None,
    }


def runs_on(placement: Placement, common: CpuSet) -> dict[str, CpuSet]:
    """Every container of a placed pod with the CPUs that it may run on."""
    return {part.name: placement.cpus_of(part.name, common) for part in placement.intent.parts}


def show(ledger: Ledger, placed: Sequence[Placed]) -> None:
    """The machine as a picture with the pods on it, and the misfits below."""
    from webhook.command.drawing import draw

    machine = replace(ledger.layout.machine, reserved=ledger.layout.reserved)
    print_people(draw(machine, list(_bubbles(ledger, placed))))
    for each in placed:
        if isinstance(each.answer, Misfit):
            about = each.item.subject
            whom = printable(f"{about.kind} {about.namespace}/{about.name}")
            print_people(f"no place for {whom}: {printable(each.answer.message)}")
    missed = sum(1 for each in placed if isinstance(each.answer, Misfit))
    print_people(f"{len(placed) - missed} of {count(len(placed), 'pod')} placed")


def _bubbles(ledger: Ledger, placed: Sequence[Placed]) -> Iterator[Any]:
    from webhook.command.drawing import Bubble

    for each in placed:
        if isinstance(each.answer, Placement):
            about, common = each.item.subject, ledger.common(each.answer)
            exclusive = each.intent.placement is PlacementClass.EXCLUSIVE
            yield Bubble(
                label=f"{about.namespace}/{about.name}",
                containers=runs_on(each.answer, common),
                pool=each.answer.pool if exclusive else EMPTY,
                owns=exclusive,
            )
