"""``armistice check``: the verdict that the webhook would give, before a cluster sees the manifest."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import click

from shared import catalogue
from shared.inventory import Inventory, Zone
from shared.policy import TopologyPolicy
from webhook import messages
from webhook.change import Change
from webhook.command.demand import identity
from webhook.command.inputs import (
    Item,
    Wanted,
    manifest_option,
    node_options,
    output_option,
    policy_options,
    read_fleet,
    read_manifests,
    reservation,
    reservation_options,
    tell_skipped,
    wanted,
)
from webhook.command.output import Format, print_document, print_people
from webhook.nodes import Fleet
from webhook.printable import printable
from webhook.verdict import Bench, Ruling, Verdict, breaks, rule

BAD = frozenset({Verdict.SIDECARS_TOO_HEAVY, Verdict.POD_TOO_LARGE, Verdict.UNEVEN})


@click.command(
    short_help="Whether pods fit one NUMA node; for people and CI.",
    epilog="\b\nExamples:\n  armistice check -f deploy.yaml --machine dgx-h100\n"
    "  armistice check -f manifests/ --nodes nodes.yaml --policy restricted -o junit > report.xml",
)
@manifest_option
@node_options
@reservation_options
@policy_options
@output_option("table", "json", "yaml", "junit", "sarif", "github")
def check(
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
    """Judge pods and workload templates: does each fit one NUMA node, and if not, what is the smallest change?

    Exit code: 0 all fit; 1 at least one does not fit or breaks the policy; 2 the input could not be read.
    """
    asked = wanted(**policy)
    manifests = read_manifests(files)
    reserved = reservation(reserved_cpus, reserved_memory)
    fleet = read_fleet(machines, sysfs, nodes, cluster, reserved)
    bench = Bench(fleet, upgrades())
    ruled = [(item, rule(item.pod, bench, asked.placing, asked.max_share, wish=item.wish)) for item in manifests.items]
    _print(ruled, fleet, asked, output)
    tell_skipped(manifests)
    return int(any(ruling.verdict in BAD for _, ruling in ruled))


@cache
def upgrades() -> Inventory:
    """The catalogue, cheapest first, then smallest; machines without a price after those with one."""
    price = {name: catalogue.price_per_hour(name) for name in catalogue.names()}
    machines = [catalogue.machine(name) for name in price]
    machines.sort(key=lambda m: (price[m.name] is None, price[m.name] or 0.0, len(m.online), m.name))
    return Inventory.of(machines)


def content(item: Item, ruling: Ruling, policy: TopologyPolicy) -> dict[str, Any]:
    """One item of ``-o json``: a stable interface. Millicores and bytes."""
    return {
        **identity(item),
        "verdict": ruling.verdict.value,
        "allowed": not breaks(policy, ruling),
        "message": messages.say(item.subject, ruling),
        "notes": list(messages.notes(item.subject, ruling)),
        "sidecars": [
            {"name": heavy.name, "cpu": heavy.cpu, "memory": heavy.memory, "share": heavy.share}
            for heavy in ruling.sidecars
        ],
        "largest_numa_node": _zone(ruling.largest),
        "smallest_change": None if ruling.change is None else [_change(change) for change in ruling.change],
        "fits_on": fits_on(ruling),
    }


def fits_on(ruling: Ruling) -> list[str]:
    """The machines that count for the pod and hold it on one NUMA node."""
    if ruling.verdict in (Verdict.UNKNOWN, Verdict.UNEVEN):
        return []
    return list(ruling.choice.inventory.holders(ruling.judged))


def _zone(zone: Zone | None) -> dict[str, Any] | None:
    if zone is None:
        return None
    return {"machine": zone.machine, "node": zone.node, "cpu": zone.cpu, "memory": zone.memory}


def _change(change: Change) -> dict[str, Any]:
    return {"container": change.container, "resource": change.resource, "from": change.before, "to": change.after}


def _print(ruled: list[tuple[Item, Ruling]], fleet: Fleet, asked: Wanted, output: str) -> None:
    if output == "table":
        _show(ruled, fleet)
        return
    items = [content(item, ruling, asked.placing.policy) for item, ruling in ruled]
    if output in ("json", "yaml"):
        print_document({"items": items}, Format(output))
        return
    from webhook.command import reports

    sys.stdout.write(getattr(reports, output)(items))


def _show(ruled: list[tuple[Item, Ruling]], fleet: Fleet) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for item, ruling in ruled:
        good = ruling.verdict not in BAD
        style = {Verdict.FITS: "green", Verdict.UNKNOWN: "yellow"}.get(ruling.verdict, "red")
        about = item.subject
        whom = printable(f"{about.namespace}/{about.name}")
        line = Text.assemble(
            ("ok  " if good else "BAD ", style), (f"{ruling.verdict.value:<18} ", style), printable(f"{about.kind} "),
            (whom, "bold"), (printable(f"  {item.source}"), "dim"), no_wrap=True, overflow="ellipsis",
        )  # fmt: skip
        print_people(line)
        for sentence in (messages.say(about, ruling), *messages.notes(about, ruling)):
            if sentence:
                clauses = sentence.split("; ")
                print_people(*(Padding(Text(clause), (0, 0, 0, 6), expand=False) for clause in clauses))
    bad = sum(1 for _, ruling in ruled if ruling.verdict in BAD)
    known = fleet.everyone.known
    against = ", ".join(each.name for each in known[:4])
    more = len(known) - 4
    against += f" and {more} more" if more > 0 else ""
    print_people(f"{len(ruled) - bad} of {len(ruled)} pass, held against {against or 'no node'}")
