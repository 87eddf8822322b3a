"""``armistice topology``: this machine, a dump, or a machine of the catalogue, as a picture or as data."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import click

from shared import catalogue
from shared.cpuset import CpuSet
from shared.errors import InputError
from shared.quantity import text
from shared.sysfs import read_machine
from shared.topology import Machine
from webhook.command.output import Format, print_document, print_people, write_yaml


class TopologyFormat(Enum):
    """What ``-o`` takes here."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NRT = "nrt"
    """A NodeResourceTopology object, in YAML."""


@click.command(
    short_help="Sockets, NUMA nodes, caches and cores.",
    epilog="\b\nExamples:\n  armistice topology\n  armistice topology --machine xeon8480-2s-snc4 -o json",
)
@click.option(
    "--sysfs", metavar="ROOT", type=click.Path(path_type=Path), help="Folder that holds sys/ and proc/.  [default: /]"
)
@click.option("--machine", metavar="NAME", help="A machine of the catalogue instead (`armistice machines` lists them).")
@click.option("--reserved-cpus", metavar="LIST", default="", help="CPUs kept from pods, such as 0-1,64.")
@click.option(
    "-o",
    "--output",
    type=click.Choice([form.value for form in TopologyFormat]),
    default="table",
    show_default=True,
    help="table is a picture; nrt is a NodeResourceTopology object.",
)
def topology(sysfs: Path | None, machine: str | None, reserved_cpus: str, output: str) -> None:
    """Show which CPUs, caches, memory and devices belong to which NUMA node."""
    if sysfs is not None and machine is not None:
        raise click.UsageError(
            "--sysfs and --machine each name the machine; give one of them", click.get_current_context()
        )
    found = catalogue.machine(machine) if machine is not None else read_machine(sysfs or Path("/"))
    show(reserving(found, reserved_cpus), TopologyFormat(output))


def reserving(machine: Machine, cpus: str) -> Machine:
    """The machine with further CPUs kept from pods. Raises InputError for CPUs that are not online."""
    reserved = CpuSet.parse(cpus)
    if not reserved <= machine.online:
        missing = reserved - machine.online
        raise InputError(
            f"--reserved-cpus {reserved}: {machine.name} has no CPUs {missing} online, only {machine.online}"
        )
    return replace(machine, reserved=machine.reserved | reserved)


def show(machine: Machine, form: TopologyFormat) -> None:
    """Print one machine."""
    if form is TopologyFormat.TABLE:
        from webhook.command.drawing import draw

        print_people(draw(machine))
    elif form is TopologyFormat.NRT:
        from shared.noderesourcetopology import to_object

        write_yaml(to_object(machine))
    else:
        print_document({"machine": content(machine)}, Format(form.value))


def content(machine: Machine) -> dict[str, Any]:
    """A machine as ``-o json`` has it: a stable interface. CPU lists in the kernel's form, memory in bytes."""
    return {
        "name": machine.name,
        "title": machine.title,
        "cpus": str(machine.cpus),
        "online": str(machine.online),
        "reserved": str(machine.reserved),
        "isolated": str(machine.isolated),
        "packages": [{"id": package.id, "cpus": str(package.cpus)} for package in machine.packages],
        "cores": [str(core) for core in machine.cores],
        "uncore_caches": [str(cache) for cache in machine.uncore_caches],
        "numa_nodes": [
            {
                "id": node.id,
                "cpus": str(node.cpus),
                "memory": node.memory,
                "memory_kind": node.kind.value,
                "hugepages": {text("memory", size): pages for size, pages in node.hugepages.items()},
                "extended_resources": dict(node.devices),
            }
            for node in machine.numa_nodes
        ],
        "distances": {
            "nodes": [node.id for node in machine.numa_nodes],
            "matrix": [list(row) for row in machine.distances],
        },
        "devices": [
            {"address": device.address, "class": device.pci_class, "numa_node": device.numa_node}
            for device in machine.devices
        ],
    }
