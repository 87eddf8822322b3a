"""What a person reads where the way to a pod's node ends early. kubectl is a script that says what the real one did."""

from __future__ import annotations

from pathlib import Path

import pytest

from enforcer.remote import find_node, reason
from shared.errors import InputError

LOGGED = (
    'E1128 16:33:16.874184   23540 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API group '
    'list: Get \\"http://localhost:8080/api?timeout=32s\\": dial tcp 127.0.0.1:8080: connect: connection refused"'
)
REFUSED = "The connection to the server localhost:8080 was refused - did you specify the right host or port?"


def kubectl(folder: Path, errors: str) -> str:
    """One that fails with these lines."""
    (folder / "errors").write_text(errors)
    script = folder / "kubectl"
    script.write_text(f"#!/bin/sh\ncat {folder / 'errors'} >&2\nexit 1\n")
    script.chmod(0o755)
    return str(script)


def test_where_no_cluster_is_its_sentence_is_read_without_the_log_before_it(tmp_path: Path) -> None:
    command = kubectl(tmp_path, f"{LOGGED}\n{LOGGED}\n{REFUSED}\n")
    with pytest.raises(InputError) as caught:
        find_node(command, "engine", "inference")
    assert str(caught.value) == f"'{command} get pod engine --namespace inference' failed: {REFUSED}"


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ("", "no reason was given"),
        (f"{LOGGED}\n", LOGGED),
        ('Error from server (NotFound): pods "a" not found\n', 'Error from server (NotFound): pods "a" not found'),
        ("error: one\n\nerror: two\n", "error: one\nerror: two"),
        ("E1128 is a pod's name\n", "E1128 is a pod's name"),
    ],
)
def test_nothing_is_lost_that_is_no_log(errors: str, told: str) -> None:
    assert reason(errors) == told


def test_a_name_with_its_namespace_before_it_is_told_how_to_give_both(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^inference/engine is no name of a pod: .* engine --namespace inference$"):
        find_node(kubectl(tmp_path, "kubectl must not be asked"), "inference/engine", "")
