"""The catalogue against the facts it was made from."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from shared import catalogue
from shared.errors import InputError
from shared.topology import Machine
from tests.support.data import reference


def facts() -> dict[str, dict[str, Any]]:
    machines: list[dict[str, Any]] = json.loads(reference("machines/modern-machines.json").read_text())
    return {machine["name"]: machine for machine in machines}


def told(machine: Machine) -> dict[str, Any]:
    """A machine in the terms of the facts."""
    return {
        "name": machine.name,
        "title": machine.title,
        "cpus_total": len(machine.cpus),
        "cpus_online": len(machine.online),
        "offline_cpus": str(machine.cpus - machine.online),
        "isolated_cpus": str(machine.isolated),
        "packages": [{"id": package.id, "cpus": str(package.cpus)} for package in machine.packages],
        "cores_cpus": [str(core) for core in machine.cores],
        "l3_groups": [str(cache) for cache in machine.uncore_caches],
        "numa_nodes": [
            (node.id, node.kind.value, str(node.cpus), node.memory, {str(k): v for k, v in node.hugepages.items()})
            for node in machine.numa_nodes
        ],
        "distances": [list(row) for row in machine.distances],
        "gpus": {device.address: device.numa_node for device in machine.devices},
        "gpus_per_numa": {
            str(node.id): count for node in machine.numa_nodes if (count := sum(node.devices.values())) > 0
        },
    }


def known(fact: dict[str, Any]) -> dict[str, Any]:
    same = ("name", "title", "cpus_total", "cpus_online", "offline_cpus", "isolated_cpus", "packages", "cores_cpus")
    return {
        **{key: fact[key] for key in same},
        "l3_groups": [group["cpus"] for group in fact["l3_groups"]],
        "numa_nodes": [
            (node["id"], node["kind"], node["cpus"], node["memory_bytes"], node["hugepages"])
            for node in fact["numa_nodes"]
        ],
        "distances": fact["distances"]["matrix"],
        "gpus": {gpu["pci"]: gpu["numa_node"] for gpu in fact["gpus"]},
        "gpus_per_numa": fact["gpus_per_numa"],
    }


def test_the_catalogue_holds_every_machine_of_the_facts_in_their_order() -> None:
    assert catalogue.names() == tuple(facts())


@pytest.mark.parametrize("name", catalogue.names())
def test_machine_agrees_with_the_facts(name: str) -> None:
    assert told(catalogue.machine(name)) == known(facts()[name])


@pytest.mark.parametrize("name", catalogue.names())
def test_what_a_person_reads_agrees_with_the_facts(name: str) -> None:
    fact, about = facts()[name], catalogue.about(name)
    price = fact["price_usd_per_hour"]
    assert about.architecture == fact["arch"]
    assert catalogue.price_per_hour(name) == (price["usd"] if price else None)
    assert about.price_region == (price["region"] if price else "")
    assert {about.gpu_model} == {gpu["model"] for gpu in fact["gpus"]} or not fact["gpus"]
    assert bool(about.unsure) == any(
        not certainty.startswith("high") for topic, certainty in fact["certainty"].items() if topic != "cache sizes"
    )


@pytest.mark.parametrize("name", catalogue.names())
def test_every_numa_node_tells_how_many_gpus_of_either_kind_it_has(name: str) -> None:
    machine = catalogue.machine(name)
    assert machine.known_devices == {"amd.com/gpu", "nvidia.com/gpu"}
    assert all(set(node.devices) == machine.known_devices for node in machine.numa_nodes)


def test_gpus_are_of_their_makers_resource() -> None:
    mi300a = catalogue.machine("mi300a-4s").numa_nodes[0].devices
    h100 = catalogue.machine("dgx-h100").numa_nodes[0].devices
    assert (mi300a, h100) == ({"amd.com/gpu": 1, "nvidia.com/gpu": 0}, {"amd.com/gpu": 0, "nvidia.com/gpu": 4})


UNKNOWN = [
    ("a slip of the key names the nearest", "dgx-h10",
     "no machine 'dgx-h10' in the catalogue; did you mean dgx-h100? `armistice machines` lists them"),
    ("a name like no other", "toaster", "no machine 'toaster' in the catalogue; `armistice machines` lists them"),
    ("an empty name", "", "no machine '' in the catalogue; `armistice machines` lists them"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "name", "message"), UNKNOWN, ids=[case for case, *_ in UNKNOWN])
def test_unknown_machine(case: str, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        catalogue.machine(name)
    assert str(caught.value) == message


def test_one_machine_is_there_within_ten_milliseconds_of_a_cold_start() -> None:
    script = (
        "import time; from shared import catalogue; start = time.perf_counter();"
        "catalogue.machine('epyc9654-2s-l3numa'); print(time.perf_counter() - start)"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, check=True) for _ in range(5)]
    assert min(float(run.stdout) for run in runs) < 0.010
