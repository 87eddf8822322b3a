"""``armistice demand``: what each pod weighs, container by container, with and without its sidecars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from shared.demand import Demand, weigh, whole, without_sidecars
from shared.quantity import spoken
from webhook.command.inputs import Item, manifest_option, output_option, read_manifests, tell_skipped
from webhook.command.output import Format, print_document, print_people, print_table
from webhook.printable import printable


@click.command(
    short_help="What each pod weighs, container by container.",
    epilog="\b\nExamples:\n  armistice demand -f deploy.yaml\n  kubectl get deploy web -o yaml | armistice demand -f -",
)
@manifest_option
@output_option("table", "json", "yaml")
def demand(files: tuple[str, ...], output: str) -> None:
    """Weigh pods as the API server and the scheduler would count them, container by container."""
    manifests = read_manifests(files)
    weighed = [(item, weigh(item.pod)) for item in manifests.items]
    form = Format(output)
    if form is Format.TABLE:
        for item, found in weighed:
            _show(item, found)
    else:
        print_document({"items": [content(item, found) for item, found in weighed]}, form)
    tell_skipped(manifests)


def identity(item: Item) -> dict[str, Any]:
    """How every command's JSON names an object."""
    about = item.subject
    return {"source": item.source, "kind": about.kind, "namespace": about.namespace, "name": about.name}


def content(item: Item, found: Demand) -> dict[str, Any]:
    """One item of ``-o json``: a stable interface. Millicores, bytes, pieces."""
    return {
        **identity(item),
        "qos": found.qos.value,
        "class": found.placement.value,
        "demand": _asked(found.total),
        "without_sidecars": _asked(without_sidecars(item.pod)),
        "sidecar_share": {resource: round(found.share(resource), 1) for resource in ("cpu", "memory")},
        "containers": [
            {
                "name": weight.name,
                "role": weight.role.value,
                "why": weight.why,
                "cpu": weight.cpu,
                "memory": weight.memory,
                "eligible": weight.eligible,
                "exclusive_cpus": weight.exclusive_cpus,
            }
            for weight in found.containers
        ],
    }


def _asked(amounts: Any) -> dict[str, int]:
    """In a fixed order: CPU, memory, then the others by name."""
    rounded = whole(amounts)
    return {name: rounded[name] for name in sorted(rounded, key=lambda n: (n != "cpu", n != "memory", n))}


def _show(item: Item, found: Demand) -> None:
    about = item.subject
    total = ", ".join(spoken(name, amount) for name, amount in _asked(found.total).items()) or "nothing"
    whom = printable(f"{about.kind} {about.namespace}/{about.name}")
    print_people(f"{whom}  asks {total}  ({found.qos.value}, class {found.placement.value})")
    columns = ("CONTAINER", "ROLE", "CPU", "MEMORY", "OWNS", "WHY A SIDECAR")
    print_table(columns, list(_rows(item, found)), right=columns[2:5], elastic="WHY A SIDECAR")
    print_people("")


def _rows(item: Item, found: Demand) -> Iterator[list[str]]:
    for weight in found.containers:
        cpu = spoken("cpu", weight.cpu) if weight.cpu else "-"
        memory = spoken("memory", weight.memory) if weight.memory else "-"
        owns = spoken("cpu", 1000 * weight.exclusive_cpus) if weight.eligible else ""
        yield [printable(weight.name), weight.role.value, cpu, memory, owns, printable(weight.why)]
    if found.sidecars:
        without = _asked(without_sidecars(item.pod))
        cpu, memory = spoken("cpu", without.get("cpu", 0)), spoken("memory", without.get("memory", 0))
        share = f"they take {found.share('cpu'):.1f} % of CPU, {found.share('memory'):.1f} % of memory"
        yield ["without sidecars", "", cpu, memory, "", share]
