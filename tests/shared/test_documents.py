"""YAML and JSON as Kubernetes reads them, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.documents import MAX_DEPTH, objects, parse_documents, read_documents
from shared.errors import InputError
from tests.support.merging import merging

SCALARS = [
    ("a whole number", "2", 2),
    ("an octal number", "0644", 0o644),
    ("a decimal", "0.5", 0.5),
    ("an exponent", "1e3", 1000.0),
    ("a quantity", "100m", "100m"),
    ("a date is text", "2023-06-28", "2023-06-28"),
    ("a date that is none is text", "2020-13-99", "2020-13-99"),
    ("a time is text", "2023-06-28T15:27:28Z", "2023-06-28T15:27:28Z"),
    ("ports are text, no number in base 60", "22:22", "22:22"),
    ("a fraction in base 60 is text", "1:30.5", "1:30.5"),
    ("a switch", "yes", True),
    ("nothing", "~", None),
]


@pytest.mark.parametrize(("case", "text", "value"), SCALARS, ids=[case for case, *_ in SCALARS])
def test_scalar(case: str, text: str, value: object) -> None:
    found = parse_documents(f"a: {text}\n", "test")
    assert found == [{"a": value}]
    assert type(found[0]["a"]) is type(value)  # type: ignore[index]


FILES = [
    ("documents in a row", "a: 1\n---\nb: 2\n", [{"a": 1}, {"b": 2}]),
    ("a byte order mark", "\ufeffa: 1\n", [{"a": 1}]),
    ("JSON", '{"a": [1]}', [{"a": [1]}]),
    ("a flow mapping that is not JSON", "{a: 1}", [{"a": 1}]),
    ("nothing", "", []),
]


@pytest.mark.parametrize(("case", "text", "documents"), FILES, ids=[case for case, *_ in FILES])
def test_file(case: str, text: str, documents: list[object], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_documents(path) == documents


def test_lists_are_taken_apart_and_empty_documents_passed_over() -> None:
    documents: list[object] = [None, {"kind": "PodList", "items": [1, 2]}, {"kind": "List"}, {"items": [3]}, 4]
    assert list(objects(documents)) == [1, 2, {"kind": "List"}, {"items": [3]}, 4]


BAD = [
    ("broken YAML", b"a: [1", "line 2, column 1: did not find expected ',' or ']'"),
    ("broken JSON", b'{"kind": ', "line 2, column 1: did not find expected node content"),
    ("a tab", b"a:\n\tb: 1", "line 2, column 1: found character that cannot start any token"),
    ("a control character", b"a: \x07", "control characters are not allowed"),
    ("lists nested without end", b"[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
    ("objects nested without end", b'{"a":' * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
    ("a tag that would run code", b"!!python/name:os.system",
     "line 1, column 1: could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "content", "message"), BAD, ids=[case for case, *_ in BAD])
def test_what_cannot_be_read_is_told_in_a_sentence(case: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_documents(path)
    assert str(caught.value) == f"{path} is neither YAML nor JSON: {message}"


def test_merge_keys_are_merged() -> None:
    text = "base: &base {cpu: 1, memory: 1Gi}\napp: {<<: *base, cpu: 2}"
    assert parse_documents(text, "a") == [{"base": {"cpu": 1, "memory": "1Gi"}, "app": {"cpu": 2, "memory": "1Gi"}}]
    assert parse_documents(merging(3), "a") == [[{"x": "y"}] * 4]


def test_merge_keys_that_grow_without_end_are_refused_before_they_do() -> None:
    with pytest.raises(
        InputError, match=r"^a is neither YAML nor JSON: its merge keys \(<<\) come to more than 10,000"
    ):
        parse_documents(merging(30), "a")


@pytest.mark.parametrize("text", ["!!bool x", "!!timestamp x", "!!int ''", "!!float ''"])
def test_a_value_that_is_not_what_its_tag_says_is_told(text: str) -> None:
    with pytest.raises(InputError, match=r"^a cannot be read as YAML: a value is not what its tag"):
        parse_documents(text, "a")


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError) as caught:
        read_documents(path)
    assert str(caught.value) == f"{path} is not text in UTF-8"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_documents(tmp_path)
    assert str(caught.value) == f"{tmp_path} cannot be read: Is a directory"
