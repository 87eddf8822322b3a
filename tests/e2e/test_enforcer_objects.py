"""The enforcer's installation, as far as the lab leans on what the chart says: its template as text."""

from __future__ import annotations

import re

from e2e.lab.enforcer import CONTAINER, LABELS, NAME, PROCESS, RELEASE, values
from tests.support.chart import TEMPLATES

DAEMON_SET = (TEMPLATES / "enforcer/daemonset.yaml").read_text(encoding="utf-8")


def test_the_daemon_is_told_from_its_own_proof_by_its_command_line() -> None:
    (first,) = re.findall(r"args:\n\s+- (\w+)", DAEMON_SET)
    assert PROCESS.endswith(f" {first}")
    assert first != "proof"


def test_the_container_is_not_privileged_and_has_the_named_capabilities_only() -> None:
    assert "privileged: false" in DAEMON_SET
    assert "allowPrivilegeEscalation: false" in DAEMON_SET
    assert "readOnlyRootFilesystem: true" in DAEMON_SET
    assert "drop: [ALL]" in DAEMON_SET
    assert re.findall(r"- (SYS_\w+)", DAEMON_SET) == ["SYS_ADMIN", "SYS_PTRACE"]
    assert "hostNetwork" not in DAEMON_SET


def test_the_host_lends_its_cgroups_the_runtimes_folder_and_its_own_state_to_write_and_nothing_else() -> None:
    mounts = re.findall(r"mountPath: (\S+)\n( +readOnly: true)?", DAEMON_SET)
    assert {path for path, read_only in mounts if not read_only} == {
        "/sys/fs/cgroup",
        "/var/run/nri",
        "/run/armistice",
    }


def test_the_lab_calls_it_as_the_chart_does() -> None:
    assert f"{RELEASE}-enforcer" == NAME
    assert "name: {{ $name }}-enforcer" in DAEMON_SET
    assert f"- name: {CONTAINER}\n" in DAEMON_SET
    assert LABELS == {"app.kubernetes.io/name": "armistice", "app.kubernetes.io/component": "enforcer"}


def test_the_public_key_and_no_other_goes_to_the_node_and_nothing_is_pulled() -> None:
    given = values("node1", "the public key")
    assert given["enforcer"]["publicKeys"] == "the public key"
    assert given["image"] == {"pullPolicy": "Never"}
    assert given["enforcer"]["image"] == {"repository": "localhost/armistice-enforcer", "tag": "dev"}
