"""The CRD that the chart brings takes what the enforcer publishes, and refuses what no reader could use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from enforcer.publish import topology
from shared import catalogue
from shared.ledger import Ledger

FILE = Path(__file__).resolve().parents[2] / "charts" / "armistice" / "crds" / "noderesourcetopologies.yaml"
CRD = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def published(name: str) -> Any:
    """As the API server gets it."""
    return json.loads(json.dumps(topology(Ledger.of(catalogue.machine(name)), name)))


def test_it_is_the_resource_that_nodes_publish() -> None:
    assert CRD["metadata"]["name"] == "noderesourcetopologies.topology.node.k8s.io"
    assert [version["name"] for version in CRD["spec"]["versions"]] == ["v1alpha2"]
    assert CRD["spec"]["scope"] == "Cluster"


@pytest.mark.parametrize("name", catalogue.names())
def test_every_machine_of_the_catalogue_can_be_published(name: str) -> None:
    assert list(Draft7Validator(SCHEMA).iter_errors(published(name))) == []


def unknown_fields(obj: Any, schema: Any, where: str = "") -> list[str]:
    """What the API server would drop without a word: fields that the schema does not have."""
    if isinstance(obj, list):
        return [found for item in obj for found in unknown_fields(item, schema["items"], where)]
    if not isinstance(obj, dict) or where == ".metadata":
        return []
    known = schema["properties"]
    lost = [f"{where}.{field}" for field in obj if field not in known]
    return lost + [
        found
        for field in obj
        if field in known
        for found in unknown_fields(obj[field], known[field], f"{where}.{field}")
    ]


def test_nothing_that_is_published_is_dropped() -> None:
    assert unknown_fields(published("dgx-h100"), SCHEMA) == []


BROKEN: list[tuple[str, list[str | int], Any]] = [
    ("zones as a text", ["zones"], "node-0"),
    ("a zone without a type", ["zones", 0], {"name": "node-0"}),
    ("an amount that is no quantity", ["zones", 0, "resources", 0, "available"], "ten"),
    ("a distance that is no number", ["zones", 0, "costs", 0, "value"], "far"),
    ("an attribute without a value", ["attributes", 0], {"name": "topologyManagerPolicy"}),
]


@pytest.mark.parametrize(("case", "path", "value"), BROKEN, ids=[case for case, *_ in BROKEN])
def test_what_no_reader_could_use_is_refused(case: str, path: list[str | int], value: Any) -> None:
    obj = published("dgx-h100")
    holder = obj
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    assert len(list(Draft7Validator(SCHEMA).iter_errors(obj))) == 1
