"""The enforcer's metrics: whole families as Prometheus reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from enforcer.effects import Reason
from enforcer.kernel import Level
from enforcer.metrics import Call, Drifted, Gauges, Metrics, Refused
from shared import catalogue
from shared.cpuset import CpuSet
from shared.ledger import Ledger
from shared.seal import Refusal

IDLE = Gauges()
P = "armistice_enforcer_"


def samples(metrics: Metrics, gauges: Gauges = IDLE) -> dict[tuple[str, ...], float]:
    """Every sample, by name and label values, as Prometheus' own parser sees it."""
    families = text_string_to_metric_families(metrics.text(gauges).decode())
    return {
        (sample.name.removeprefix(P), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_everything_is_there_at_zero_from_the_start() -> None:
    found = samples(Metrics("1.2"))
    build = [key for key in found if key[0] == "build_info"]
    assert [key[1] for key in build] == ["1.2"]
    assert all(value == 0 for key, value in found.items() if key not in build and key[0] != "isolation_level")
    for name, words in (
        ("drift_total", Drifted), ("refusals_total", Refused), ("events_total", Reason), ("nri_calls_total", Call),
    ):  # fmt: skip
        assert {key[1] for key in found if key[0] == name} == {word.value for word in words}
    assert {key[1] for key in found if key[0] == "intents_refused_total"} == {*(r.value for r in Refusal), "other"}


def test_a_family_reads_as_prometheus_wants_it() -> None:
    metrics = Metrics()
    metrics.repaired(True)
    assert (
        "# HELP armistice_enforcer_repairs_total Repairs of cgroups.\n"
        "# TYPE armistice_enforcer_repairs_total counter\n"
        'armistice_enforcer_repairs_total{result="done"} 1\n'
        'armistice_enforcer_repairs_total{result="failed"} 0\n'
    ) in metrics.text(IDLE).decode()


def test_each_thing_that_happens_is_counted_once() -> None:
    metrics = Metrics()
    metrics.drifted(Drifted.CPUS)
    metrics.repaired(False)
    metrics.refused(Refused.NO_ROOM)
    metrics.told(Reason.WEAKER)
    metrics.told(Reason.NO_ROOM)
    metrics.doubted("bad-signature")
    metrics.doubted("of a version to come")
    before = samples(Metrics())
    after = samples(metrics)
    assert {key: value for key, value in after.items() if value != before[key]} == {
        ("drift_total", "cpus"): 1,
        ("repairs_total", "failed"): 1,
        ("refusals_total", "no-room"): 1,
        ("events_total", "TopologyWeakerIsolation"): 1,
        ("events_total", "TopologyNoRoom"): 1,
        ("weaker_total",): 1,
        ("intents_refused_total", "bad-signature"): 1,
        ("intents_refused_total", "other"): 1,
    }


def test_calls_fall_into_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.002, 0.0021, 9.0):
        metrics.called(Call.CREATE, seconds)
    found = samples(metrics)
    buckets = {
        key[2]: value for key, value in found.items() if key[:2] == ("nri_call_seconds_bucket", "CreateContainer")
    }
    assert [buckets[bound] for bound in ("0.0005", "0.001", "0.002", "0.005", "1.5", "+Inf")] == [1, 1, 2, 3, 3, 4]
    assert found["nri_call_seconds_count", "CreateContainer"] == found["nri_calls_total", "CreateContainer"] == 4
    assert found["nri_call_seconds_sum", "CreateContainer"] == pytest.approx(9.0045)


def test_gauges_are_the_ledgers() -> None:
    machine = catalogue.machine("dgx-h100")
    ledger = Ledger.of(machine, CpuSet.parse("0-1,112-113"), 1 << 30)
    gauges = Gauges.of(ledger, {"bound": 3}, misfits=2, level=Level.PARTITION, static_kubelet=True)
    found = samples(Metrics(), gauges)
    memory = machine.numa_nodes[0].pages
    assert memory is not None
    expected = {
        ("free_cpus", "0"): 108, ("free_cpus", "1"): 112, ("free_memory_bytes", "0"): memory - (1 << 30),
        ("pods", "exclusive"): 0, ("pods", "bound"): 3, ("misfits",): 2, ("bubble_cpus",): 0, ("kubelet_static",): 1,
        ("isolation_level", "partition"): 1, ("isolation_level", "cpuset"): 0,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_the_connection_is_shown() -> None:
    metrics = Metrics()
    metrics.connected = True
    assert samples(metrics, replace(IDLE, misfits=1))["nri_connected",] == 1


def test_tasks_are_counted() -> None:
    assert samples(Metrics(), replace(IDLE, tasks=9))["tasks",] == 9
