"""``armistice machines``: the list and one machine of it."""

from __future__ import annotations

import json

import pytest
import yaml

from shared import catalogue
from webhook.command.__main__ import run


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["machines", *arguments]) == 0
    return capsys.readouterr().out


def test_the_list_has_a_line_for_every_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = told(capsys).splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *catalogue.names()]
    assert max(map(len, lines)) <= 80
    assert lines[:4] == [
        "NAME                      CPUS   NODES    MEMORY  GPUS  $/HOUR  WHAT IT IS",
        "aws-m7i.metal-48xl         192       2   768 GiB          9.68  2x Xeon Platinu…",
        "aws-c7i.metal-48xl         192       2   384 GiB          8.57  2x Xeon Platinu…",
        "aws-hpc7a.96xlarge         192       8   768 GiB          7.20  2x EPYC 9R14 (G…",
    ]


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(told(capsys, "-o", "json"))
    assert found["version"] == "armistice.dev/v1"
    assert {item["name"]: item for item in found["items"]}["gh200-480gb"] == {
        "name": "gh200-480gb",
        "title": catalogue.machine("gh200-480gb").title,
        "cpus": 72,
        "cores": 72,
        "sockets": 1,
        "numa_nodes": 9,
        "numa_nodes_with_cpus": 1,
        "memory": 513841037312,
        "gpus": 1,
        "price_per_hour": None,
    }


def test_one_machine_is_a_picture_and_what_is_known_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "aws-p5.48xlarge").endswith(
        "\n\nGPUs: NVIDIA H100 80GB HBM3\n"
        "Price: $55.04 an hour on demand in us-east-1\n"
        "From one source only: L3 caches, PCI addresses\n"
    )


def test_one_machine_as_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    found = yaml.safe_load(told(capsys, "aws-t3.medium", "-o", "yaml"))
    assert found["machine"]["cores"] == ["0-1"]
    assert found["about"]["price_per_hour"] == 0.0416


def test_an_unknown_machine_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machines", "aws-p5.48xlarg"]) == 2
    assert capsys.readouterr().err == (
        "armistice: no machine 'aws-p5.48xlarg' in the catalogue; did you mean aws-p5.48xlarge? "
        "`armistice machines` lists them\n"
    )
