"""The chart's values: all of them known to the schema, used, and told to people; what is wrong is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.support.chart import README, chart, leaves, schema, sources, table, values
from tests.test_project import pyproject

PASSED_THROUGH = ("global", "nodeAffinity", "podAffinity", "podAntiAffinity", "selector")
"""Objects whose insides are Kubernetes' (or Helm's) own: the API server says what is wrong with them."""

LEAVES = dict(leaves(values()))


def complaints(**given: Any) -> list[str]:
    """What the schema has against values that are set over the defaults: the path of each."""
    validator = jsonschema.Draft7Validator(schema())
    return [".".join(map(str, error.absolute_path)) or error.message for error in validator.iter_errors(given)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schema())


def test_the_defaults_fit_the_schema() -> None:
    assert complaints(**values()) == []


def objects_of(name: str, found: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of the schema that describes an object."""
    if isinstance(found, dict):
        if found.get("type") == "object":
            yield name, found
        for key, inner in found.items():
            yield from objects_of(key, inner)


def test_no_object_takes_what_it_does_not_know() -> None:
    loose = [
        name
        for name, found in objects_of("", schema())
        if found.get("additionalProperties") is not False
        and not isinstance(found.get("additionalProperties"), dict)
        and name not in PASSED_THROUGH
    ]
    assert loose == []


def described(found: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each value that the schema knows, by its path."""
    for key, inner in found.get("properties", {}).items():
        name = f"{path}.{key}" if path else key
        if "properties" in inner:
            yield from described(inner, name)
        else:
            yield name, inner


KNOWN = {path: found for path, found in described(schema()) if path != "global"}


def test_the_schema_knows_each_default_and_nothing_else() -> None:
    assert sorted(KNOWN) == sorted(LEAVES)


def test_the_schema_says_what_each_value_is() -> None:
    assert [path for path, found in KNOWN.items() if not found.get("description", "").endswith(".")] == []


@pytest.mark.parametrize("path", LEAVES)
def test_each_value_is_used(path: str) -> None:
    text = "\n".join(sources().values())
    parent, _, name = path.rpartition(".")
    ways = [f".Values.{path}", f"$values.{path}"]
    if parent:  # through a variable or a parameter that holds the parent
        ways += [f"${parent.rpartition('.')[2]}.{name}", f"${parent.partition('.')[0]}.{path.partition('.')[2]}"]
    assert any(re.search(re.escape(way) + r"\b", text) for way in ways), f"no template reads {path}"


def test_the_readme_lists_each_value_with_its_default() -> None:
    told = {path: json.loads(text) for path, text, _ in table(README.read_text(encoding="utf-8"))}
    assert told == LEAVES


def test_the_readme_says_of_each_value_what_the_schema_says() -> None:
    said = {path: what for path, _, what in table(README.read_text(encoding="utf-8"))}
    assert said == {path: description(KNOWN[path]) for path in LEAVES}


def description(found: dict[str, Any]) -> str:
    """A value's, with the words it may be."""
    text: str = found["description"]
    words = [f"`{word}`" for word in found.get("enum", [])]
    return f"{text.removesuffix('.')}: {', '.join(words)}." if words else text


def test_the_chart_installs_what_this_checkout_is() -> None:
    assert chart()["appVersion"] == pyproject()["project"]["version"]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("a key that there is not", {"webhok": {}}, "webhok"),
    ("a key within another", {"webhook": {"replica": 3}}, "webhook"),
    ("a word that is no policy", {"defaults": {"enforce": "strict"}}, "defaults.enforce"),
    ("a share beyond a hundred", {"defaults": {"maxSidecarShare": 101}}, "defaults.maxSidecarShare"),
    ("text for a number", {"webhook": {"replicas": "two"}}, "webhook.replicas"),
    ("fewer than no replica", {"webhook": {"replicas": -1}}, "webhook.replicas"),
    ("a port that only root may have", {"webhook": {"port": 443}}, "webhook.port"),
    ("a failure policy in small letters", {"webhook": {"failurePolicy": "fail"}}, "webhook.failurePolicy"),
    ("a longer wait than the API server's", {"webhook": {"timeouts": {"mutate": 31}}}, "webhook.timeouts.mutate"),
    ("a path that is none", {"enforcer": {"hostPaths": {"nri": "var/run/nri"}}}, "enforcer.hostPaths.nri"),
    ("CPUs that are no list", {"enforcer": {"reservedCpus": "0..3"}}, "enforcer.reservedCpus"),
    ("a private key", {"enforcer": {"publicKeys": "-----BEGIN PRIVATE KEY-----"}}, "enforcer.publicKeys"),
    ("a name that is no label", {"fullnameOverride": "Armistice"}, "fullnameOverride"),
    ("a digest without its kind", {"webhook": {"image": {"digest": "0" * 64}}}, "webhook.image.digest"),
    ("an empty peer", {"webhook": {"networkPolicy": {"from": [{}]}}}, "webhook.networkPolicy.from.0"),
    ("one name twice", {"exempt": {"namespaces": ["a", "a"]}}, "exempt.namespaces"),
]


@pytest.mark.parametrize(("what", "given", "named"), WRONG, ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_named(what: str, given: dict[str, Any], named: str) -> None:
    (complaint,) = complaints(**given)
    assert named in complaint


RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("no limit for sidecars", {"defaults": {"maxSidecarShare": None}}),
    ("a limit", {"defaults": {"maxSidecarShare": 25}}),
    ("amounts as numbers", {"webhook": {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": 2}}}}),
    ("what Helm gives every chart", {"global": {"anything": True}}),
    ("a toleration", {"webhook": {"tolerations": [{"key": "a", "operator": "Equal", "value": "b"}]}}),
    ("a public key", {"enforcer": {"publicKeys": "-----BEGIN PUBLIC KEY-----\nMCo=\n-----END PUBLIC KEY-----\n"}}),
]


@pytest.mark.parametrize(("what", "given"), RIGHT, ids=[row[0] for row in RIGHT])
def test_what_is_right_passes(what: str, given: dict[str, Any]) -> None:
    assert complaints(**given) == []
