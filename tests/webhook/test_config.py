"""The config file: what it settles, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import InputError
from shared.policy import Isolation, Scope, Smt, TopologyPolicy
from webhook.config import read_config
from webhook.policy import Mode, NamespacePolicy, Rules

ALWAYS = ("kube-system", "armistice")


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


WHOLE = """\
defaults:
  enforce: restricted
  warn: single-numa-node
  audit: best-effort
  max-sidecar-share: 30
  scope: container
  isolation: partition
  smt: share
exempt:
  namespaces: [monitoring]
  usernames: ["system:serviceaccount:ci:robot"]
  runtime-classes: [gvisor]
mode: warn
unknown: reject
"""


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, WHOLE), ALWAYS) == Rules(
        NamespacePolicy(
            enforce=TopologyPolicy.RESTRICTED,
            warn=TopologyPolicy.SINGLE_NUMA_NODE,
            audit=TopologyPolicy.BEST_EFFORT,
            max_sidecar_share=30,
            scope=Scope.CONTAINER,
            isolation=Isolation.PARTITION,
            smt=Smt.SHARE,
            unknown_breaks=True,
        ),
        exempt=frozenset({"kube-system", "armistice", "monitoring"}),
        usernames=frozenset({"system:serviceaccount:ci:robot"}),
        runtime_classes=frozenset({"gvisor"}),
        mode=Mode.WARN,
    )


NOTHING_SAID = [
    ("an empty file", ""),
    ("a comment", "# later\n"),
    ("an empty mapping", "{}\n"),
    ("the chart's defaults", "defaults: {enforce: none, max-sidecar-share: null}\nexempt: {namespaces: []}\n"),
    ("sections without content", "defaults:\nexempt:\n"),
    ("JSON", '{"mode": "enforce", "unknown": "allow"}'),
]


@pytest.mark.parametrize(("what", "text"), NOTHING_SAID, ids=[row[0] for row in NOTHING_SAID])
def test_what_is_not_said_asks_for_nothing(what: str, text: str, tmp_path: Path) -> None:
    assert read_config(written(tmp_path, text), ALWAYS) == Rules(exempt=frozenset(ALWAYS))


LEVELS = "none, best-effort, restricted, single-numa-node"

REFUSED = [
    ("a key nobody knows", "default: {}", "the key default does not exist; known are defaults, exempt, mode, unknown"),
    (
        "a default nobody knows",
        "defaults: {enforced: none}",
        "the key defaults.enforced does not exist; known are enforce, warn, audit, max-sidecar-share, scope, "
        "isolation, smt",
    ),
    (
        "an exemption nobody knows",
        "exempt: {groups: []}",
        "the key exempt.groups does not exist; known are namespaces, usernames, runtime-classes",
    ),
    ("a mistyped level", "defaults: {warn: singel}", f'defaults.warn is "singel"; give one of {LEVELS}'),
    ("no level", "defaults: {enforce: null}", f"defaults.enforce is null; give one of {LEVELS}"),
    ("a truth value as a level", "defaults: {enforce: no}", f"defaults.enforce is false; give one of {LEVELS}"),
    (
        "a share of nothing",
        "defaults: {max-sidecar-share: 0}",
        "defaults.max-sidecar-share is 0; give a number from 1 to 100",
    ),
    (
        "a share in words",
        "defaults: {max-sidecar-share: half}",
        'defaults.max-sidecar-share is "half"; give a number from 1 to 100',
    ),
    ("a mode nobody knows", "mode: dry-run", 'mode is "dry-run"; give one of enforce, warn, audit'),
    ("a truth value for unknown", "unknown: true", "unknown is true; give one of allow, reject"),
    ("a name in the place of a list", "exempt: {usernames: bob}", 'exempt.usernames is "bob"; give a list of names'),
    (
        "a number in the place of a name",
        "exempt: {namespaces: [a, 7]}",
        "exempt.namespaces[1] is 7; give a name, as text",
    ),
    (
        "a list in the place of a section",
        "defaults: [enforce]",
        'defaults is ["enforce"]; give a mapping with keys of enforce, warn, audit, max-sidecar-share, scope, '
        "isolation, smt",
    ),
    (
        "a list in the place of the file",
        "- mode",
        'the file is ["mode"]; give a mapping with keys of defaults, exempt, mode, unknown',
    ),
    ("two documents", "mode: warn\n---\nmode: warn\n", "the file has 2 documents; write everything into one"),
]


@pytest.mark.parametrize(("what", "text", "told"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused(what: str, text: str, told: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_config(path, ALWAYS)
    assert str(caught.value) == f"{path}: {told}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_config(tmp_path / "none", ALWAYS)
    assert str(caught.value) == f"{tmp_path / 'none'} cannot be read: No such file or directory"
