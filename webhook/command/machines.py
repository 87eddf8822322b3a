"""``armistice machines``: the catalogue as a table, or one of its machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from shared import catalogue
from shared.topology import Machine, MemoryKind
from webhook.command import topology
from webhook.command.output import Format, print_document, print_people, print_table, size


@click.command(
    short_help="The machines that Armistice knows.",
    epilog="\b\nExamples:\n  armistice machines\n  armistice machines aws-p5.48xlarge",
)
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Choice([form.value for form in Format]),
    default="table",
    show_default=True,
    help="With a NAME, table is a picture.",
)
def machines(name: str | None, output: str) -> None:
    """List the machines that one can rent or buy, or draw the one called NAME.

    NODES are NUMA nodes: 2 + 8 means two with CPUs and eight without. Prices are in US dollars, on demand.
    """
    form = Format(output)
    if name is None:
        _list(form)
    else:
        _one(name, form)


def _list(form: Format) -> None:
    entries = [_summary(catalogue.machine(name)) for name in catalogue.names()]
    if form is not Format.TABLE:
        print_document({"items": entries}, form)
        return
    columns = ("NAME", "CPUS", "NODES", "MEMORY", "GPUS", "$/HOUR", "WHAT IT IS")
    print_table(columns, [_row(entry) for entry in entries], right=columns[1:6], elastic="WHAT IT IS")


def _one(name: str, form: Format) -> None:
    machine, about = catalogue.machine(name), catalogue.about(name)
    if form is not Format.TABLE:
        print_document({"machine": topology.content(machine), "about": asdict(about)}, form)
        return
    topology.show(machine, topology.TopologyFormat.TABLE)
    print_people(*_remarks(about))


def _remarks(about: catalogue.About) -> list[str]:
    remarks = [""]
    if about.gpu_model:
        remarks.append(f"GPUs: {about.gpu_model}")
    if about.price_per_hour is not None:
        remarks.append(f"Price: ${about.price_per_hour:,.2f} an hour on demand in {about.price_region}")
    if about.note:
        remarks.append(f"Note: {about.note}")
    if about.unsure:
        remarks.append(f"From one source only: {', '.join(about.unsure)}")
    return remarks if len(remarks) > 1 else []


def _summary(machine: Machine) -> dict[str, Any]:
    """One line of the list. Memory is what pods may use, in bytes; a GPU's own is not counted."""
    nodes = machine.numa_nodes
    return {
        "name": machine.name,
        "title": machine.title,
        "cpus": len(machine.online),
        "cores": len(machine.cores),
        "sockets": len(machine.packages),
        "numa_nodes": len(nodes),
        "numa_nodes_with_cpus": sum(1 for node in nodes if node.cpus),
        "memory": sum(node.memory or 0 for node in nodes if node.kind is not MemoryKind.GPU),
        "gpus": sum(sum(node.devices.values()) for node in nodes),
        "price_per_hour": catalogue.price_per_hour(machine.name),
    }


def _row(entry: dict[str, Any]) -> list[str]:
    nodes, with_cpus = entry["numa_nodes"], entry["numa_nodes_with_cpus"]
    price = entry["price_per_hour"]
    return [
        entry["name"],
        str(entry["cpus"]),
        str(nodes) if nodes == with_cpus else f"{with_cpus} + {nodes - with_cpus}",
        size(entry["memory"]),
        str(entry["gpus"] or ""),
        "" if price is None else f"{price:,.2f}",
        entry["title"],
    ]
