"""``armistice topology`` as people and tools call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import catalogue
from shared.noderesourcetopology import from_object
from shared.quantity import parse
from tests.support.data import MACHINES_WITH_ORACLE, reference, unpack_dump
from webhook.command.__main__ import run


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["topology", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("name", MACHINES_WITH_ORACLE)
def test_json_of_a_dump_equals_its_oracle(name: str, dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oracle: dict[str, Any] = json.loads(reference(f"machines/oracle/{name}.json").read_text())
    found = json.loads(told(capsys, "--sysfs", str(unpack_dump(name, dumps)), "-o", "json"))
    assert found["version"] == "armistice.dev/v1"
    machine = found["machine"]
    assert machine["online"] == oracle["machine"]["online_cpus"]
    assert machine["isolated"] == (oracle["isolated_cpus"] or "")
    assert machine["packages"] == sorted(oracle["packages"], key=lambda package: package["id"])
    assert set(machine["cores"]) == set(oracle["cores"].values())
    assert set(machine["uncore_caches"]) == {group["cpus"] for group in oracle["l3_groups"]}
    assert [
        (node["id"], node["cpus"], node["memory"], {parse(size) // 10**9: n for size, n in node["hugepages"].items()})
        for node in machine["numa_nodes"]
    ] == [
        (node["id"], node["cpus"], node["memory_bytes"], {int(size): n for size, n in node["hugepages"].items()})
        for node in oracle["numa_nodes"]
    ]
    if oracle["distances"]:
        assert machine["distances"] == {key: oracle["distances"][key] for key in ("nodes", "matrix")}
    assert [device["address"] for device in machine["devices"]] == [pci["busid"] for pci in oracle["pci_sysfs"]]


def test_json_of_a_small_machine_field_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(told(capsys, "--machine", "aws-t3.medium", "--reserved-cpus", "0", "-o", "json")) == {
        "version": "armistice.dev/v1",
        "machine": {
            "name": "aws-t3.medium",
            "title": "1 core of a Xeon, 2 vCPU",
            "cpus": "0-1",
            "online": "0-1",
            "reserved": "0",
            "isolated": "",
            "packages": [{"id": 0, "cpus": "0-1"}],
            "cores": ["0-1"],
            "uncore_caches": ["0-1"],
            "numa_nodes": [
                {
                    "id": 0,
                    "cpus": "0-1",
                    "memory": 4294967296,
                    "memory_kind": "dram",
                    "hugepages": {"2Mi": 0, "1Gi": 0},
                    "extended_resources": {"amd.com/gpu": 0, "nvidia.com/gpu": 0},
                }
            ],
            "distances": {"nodes": [0], "matrix": [[10]]},
            "devices": [],
        },
    }


def test_yaml_says_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    as_json = json.loads(told(capsys, "--machine", "dgx-a100", "-o", "json"))
    assert yaml.safe_load(told(capsys, "--machine", "dgx-a100", "-o", "yaml")) == as_json


def test_hugepages_of_every_size_have_the_names_kubernetes_gives_them(capsys: pytest.CaptureFixture[str]) -> None:
    gh200 = json.loads(told(capsys, "--machine", "gh200-480gb", "-o", "json"))["machine"]["numa_nodes"][0]
    assert gh200["hugepages"] == {"2Mi": 0, "512Mi": 0, "16Gi": 0}


def test_memory_that_a_dump_does_not_tell_is_null(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = unpack_dump("epyc7451-2s8n", dumps)
    found = json.loads(told(capsys, "--sysfs", str(dump), "-o", "json"))
    assert {node["memory"] for node in found["machine"]["numa_nodes"]} == {None}


def test_nrt_is_an_object_that_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    written = told(capsys, "--machine", "gb200-nvl-tray", "-o", "nrt")
    assert from_object(yaml.safe_load(written)) == catalogue.machine("gb200-nvl-tray")


def test_this_machine_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert "NUMA node" in told(capsys)


def test_reserved_cpus_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    picture = told(capsys, "--machine", "aws-t3.medium", "--reserved-cpus", "1")
    assert "·#" in picture
    assert "#  reserved for the system: 1\n" in picture


WRONG = [
    ("two machines at once", ["--sysfs", "/", "--machine", "dgx-h100"],
     "--sysfs and --machine each name the machine; give one of them (see armistice topology --help)"),
    ("a machine that nobody knows", ["--machine", "dgx-h10"],
     "no machine 'dgx-h10' in the catalogue; did you mean dgx-h100? `armistice machines` lists them"),
    ("a root that holds no machine", ["--sysfs", "/nowhere"],
     "/nowhere shows no CPU: neither sys/devices/system/cpu/online nor any folder sys/devices/system/cpu/cpu0 can be "
     "read there; give the folder that holds sys/ and proc/ (/ is this machine)"),
    ("reserved CPUs that are none", ["--reserved-cpus", "some"], "'some' is not a CPU list; write it as 0-3,8"),
    ("reserved CPUs that are not there", ["--machine", "aws-t3.medium", "--reserved-cpus", "0-3"],
     "--reserved-cpus 0-3: aws-t3.medium has no CPUs 2-3 online, only 0-1"),
    ("a format that is none", ["-o", "xml"],
     "Invalid value for '-o' / '--output': 'xml' is not one of 'table', 'json', 'yaml', 'nrt'. "
     "(see armistice topology --help)"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "arguments", "message"), WRONG, ids=[case for case, *_ in WRONG])
def test_wrong_call(case: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topology", *arguments]) == 2
    assert capsys.readouterr() == ("", f"armistice: {message}\n")
