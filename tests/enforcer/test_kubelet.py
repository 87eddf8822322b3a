"""The kubelet's files: who pins containers, and what is kept from pods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enforcer.errors import SetupError
from enforcer.kubelet import Config, CpuManager, Kubelet, MemoryManager, Reservation, read_config, read_policy, reserve
from shared import catalogue
from shared.cpuset import CpuSet

STATES: list[tuple[str, str, CpuManager]] = [
    ("the default", '{"policyName":"none","defaultCpuSet":"","checksum":1}', CpuManager.NONE),
    ("containers are pinned",
     '{"policyName":"static","defaultCpuSet":"0-3","entries":{"u":{"c":"4-5"}},"podEntries":{},"checksum":1}',
     CpuManager.STATIC),
    ("the fourth form", json.dumps({"policyName": "none", "data": '{"policyName":"static"}', "dataChecksum": 1}),
     CpuManager.STATIC),
    ("the fourth form without data", '{"policyName":"static","data":""}', CpuManager.STATIC),
    ("a policy to come", '{"policyName":"dynamic"}', CpuManager.UNKNOWN),
    ("cut short", '{"policyName":"sta', CpuManager.UNKNOWN),
    ("data cut short", '{"policyName":"none","data":"{"}', CpuManager.UNKNOWN),
    ("not an object", "[]", CpuManager.UNKNOWN),
    ("empty", "", CpuManager.UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("case", "content", "policy"), STATES, ids=[case for case, *_ in STATES])
def test_a_state_file_names_the_policy(case: str, content: str, policy: CpuManager, tmp_path: Path) -> None:
    (tmp_path / "state").write_text(content)
    assert read_policy(tmp_path / "state", CpuManager, CpuManager.UNKNOWN) is policy


def test_a_change_is_noticed_and_a_file_that_is_gone_is_none(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path)
    assert (kubelet.cpu_manager, kubelet.memory_manager) == (CpuManager.UNKNOWN, MemoryManager.UNKNOWN)
    state = tmp_path / "cpu_manager_state"
    state.write_text('{"policyName":"none"}')
    assert (kubelet.check(), kubelet.cpu_manager) == (True, CpuManager.NONE)
    assert kubelet.check() is False
    state.unlink()
    assert (kubelet.check(), kubelet.cpu_manager) == (False, CpuManager.NONE)
    state.write_text('{"policyName":"static"}')
    (tmp_path / "memory_manager_state").write_text('{"policyName":"Static"}')
    assert kubelet.check() is True
    assert (kubelet.cpu_manager, kubelet.memory_manager) == (CpuManager.STATIC, MemoryManager.STATIC)


# --- the configuration ------------------------------------------------------------------------------------------------

MI = 1 << 20
GI = 1 << 30


def configured(folder: Path, **fields: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(json.dumps({"kind": "KubeletConfiguration", **fields}))
    return path


CONFIGS: list[tuple[str, dict[str, Any], Config]] = [
    ("nothing is said", {}, Config(memory=100 * MI)),
    ("amounts", {"kubeReserved": {"cpu": "300m", "memory": "1Gi"}, "systemReserved": {"cpu": 1, "memory": "512Mi"}},
     Config(millicores=1300, memory=GI + 612 * MI)),
    ("CPUs by name", {"reservedSystemCPUs": "0,56"}, Config(cpus=CpuSet.parse("0,56"), memory=100 * MI)),
    ("memory to keep free", {"evictionHard": {"memory.available": "1Gi"}}, Config(memory=GI)),
    ("memory to keep free, as a part", {"evictionHard": {"memory.available": "2.5%"}}, Config(eviction_per_cent=2.5)),
    ("no memory to keep free", {"evictionHard": {"memory.available": "0"}}, Config()),
    ("other signals only", {"evictionHard": {"nodefs.available": "10%"}}, Config(memory=100 * MI)),
    ("memory of each NUMA node",
     {"reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}, {"numaNode": 1, "limits": {"memory": "2Gi"}}]},
     Config(memory=3 * GI)),
]  # fmt: skip


@pytest.mark.parametrize(("case", "fields", "config"), CONFIGS, ids=[case for case, *_ in CONFIGS])
def test_a_configuration_keeps_things(case: str, fields: dict[str, Any], config: Config, tmp_path: Path) -> None:
    assert read_config(configured(tmp_path, **fields)) == config


def test_no_configuration(tmp_path: Path) -> None:
    assert read_config(tmp_path / "config.yaml") is None


GARBAGE: list[tuple[str, dict[str, Any], str]] = [
    ("another kind", {"kind": "Pod"}, "it is no KubeletConfiguration"),
    ("CPUs that are no list", {"reservedSystemCPUs": "a"},
     "reservedSystemCPUs: 'a' is not a CPU list; write it as 0-3,8"),
    ("an amount that is none", {"kubeReserved": {"cpu": "ten"}},
     "cpu 'ten': quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
    ("a part that is none", {"evictionHard": {"memory.available": "x%"}},
     "evictionHard memory.available: 'x%' is no part of the memory"),
    ("more than all", {"evictionHard": {"memory.available": "101%"}},
     "evictionHard memory.available: '101%' is no part of the memory"),
    ("a list of nothing", {"reservedMemory": [1]}, "reservedMemory is no list of objects"),
    ("amounts as a text", {"kubeReserved": "1Gi"}, "kubeReserved is no object"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "fields", "text"), GARBAGE, ids=[case for case, *_ in GARBAGE])
def test_a_configuration_that_cannot_be_used(case: str, fields: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = configured(tmp_path, **fields)
    with pytest.raises(SetupError) as caught:
        read_config(path)
    assert str(caught.value) == (
        f"the kubelet's configuration {path} cannot be used: {text}; name another with --kubelet-config, or give "
        "--reserved-cpus and --reserved-memory"
    )


# --- the reservation --------------------------------------------------------------------------------------------------

KUBELET = "the kubelet's configuration"
DEFAULT = "a default, as no kubelet's configuration is there"
DGX = catalogue.machine("dgx-h100")
"""Two NUMA nodes of 56 cores; CPU N and N+112 are siblings."""

RESERVATIONS: list[tuple[str, Config | None, str | None, int | None, str, int, str]] = [
    ("nothing is known: one core", None, None, None, "0,112", 0, DEFAULT),
    ("the kubelet reserves no CPU: one core", Config(memory=GI), None, None, "0,112", GI, KUBELET),
    ("its CPUs by name", Config(cpus=CpuSet.parse("4,9999"), millicores=9000), None, None, "4", 0, KUBELET),
    ("two CPUs are one core", Config(millicores=1500), None, None, "0,112", 0, KUBELET),
    ("three CPUs are two cores", Config(millicores=2001), None, None, "0-1,112-113", 0, KUBELET),
    ("the settings win", Config(millicores=2001, memory=GI), "5", 7, "5", 7, "the settings"),
    ("the settings say none", Config(millicores=2001, memory=GI), "", 0, "", 0, "the settings"),
    ("the settings name CPUs only", Config(memory=GI), "5", None, "5", GI,
     "CPUs: the settings; memory: the kubelet's configuration"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "config", "cpus", "memory", "kept", "kept_memory", "source"),
    RESERVATIONS,
    ids=[r[0] for r in RESERVATIONS],
)
def test_what_is_kept_from_pods(
    case: str, config: Config | None, cpus: str | None, memory: int | None, kept: str, kept_memory: int, source: str
) -> None:
    given = None if cpus is None else CpuSet.parse(cpus)
    assert reserve(DGX, config, given, memory) == Reservation(CpuSet.parse(kept), kept_memory, source)


def test_a_part_of_the_memory_is_of_the_machines() -> None:
    total = sum(node.memory or 0 for node in DGX.numa_nodes)
    assert reserve(DGX, Config(eviction_per_cent=5.0), None, None).memory == int(total * 0.05)


def test_a_machine_of_one_core_keeps_it_for_pods() -> None:
    assert not reserve(catalogue.machine("aws-t3.medium"), None, None, None).cpus
