"""What is counted, and how it reads."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isnan

from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import topology
from webhook.admission import Decision, Kind, Phase
from webhook.authority import Slot
from webhook.bundles import Configuration
from webhook.certs import Reload
from webhook.figures import Figures, Work
from webhook.following import Followed, Relist, Trouble, View
from webhook.metrics import BUCKETS, ClusterMetrics, KeeperMetrics, Metrics, Refused
from webhook.policy import Mode, Rules
from webhook.review import Answer
from webhook.verdict import Verdict


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every series by name and label values, these in the order of their labels' names."""
    text = metrics.text(not_after=1e9, in_flight=3, tasks=7).decode()
    return {
        (sample.name, tuple(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_series_is_there_at_zero() -> None:
    found = samples(Metrics())
    ours = {key: value for key, value in found.items() if key[0].startswith("armistice")}
    assert {name for name, _ in ours} == {
        "armistice_reviews_total",
        "armistice_policy_violations_total",
        "armistice_requests_refused_total",
        "armistice_certificate_reloads_total",
        "armistice_faults_total",
        "armistice_review_seconds_bucket",
        "armistice_review_seconds_count",
        "armistice_review_seconds_sum",
        "armistice_certificate_not_after_seconds",
        "armistice_requests_in_flight",
        "armistice_tasks",
    }
    assert len([key for key in ours if key[0] == "armistice_reviews_total"]) == 2 * 12 * 6 * 2
    assert {value for (name, _), value in ours.items() if name.endswith(("_total", "_count"))} == {0.0}
    assert ours["armistice_certificate_not_after_seconds", ()] == 1e9
    assert ours["armistice_requests_in_flight", ()] == 3
    assert ours["armistice_tasks", ()] == 7


def test_what_happens_is_counted_once() -> None:
    metrics = Metrics()
    denied = Decision(Answer(allowed=False), Kind.POD, Verdict.POD_TOO_LARGE, (Mode.ENFORCE, Mode.WARN))
    metrics.decided(Phase.MUTATE, denied, 0.0004)
    metrics.decided(Phase.VALIDATE, denied, 0.02)
    metrics.decided(Phase.VALIDATE, Decision(Answer()), 9.0)
    metrics.refused(Refused.UNREADABLE)
    metrics.reloaded(Reload.LOADED)
    metrics.faulted()
    found = {key: value for key, value in samples(metrics).items() if value and key[0].startswith("armistice")}
    expected: dict[tuple[str, tuple[str, ...]], float] = {
        ("armistice_reviews_total", ("denied", "pod", "mutate", "pod-too-large")): 1,
        ("armistice_reviews_total", ("denied", "pod", "validate", "pod-too-large")): 1,
        ("armistice_reviews_total", ("allowed", "other", "validate", "none")): 1,
        ("armistice_policy_violations_total", ("pod", "enforce", "pod-too-large")): 1,
        ("armistice_policy_violations_total", ("pod", "warn", "pod-too-large")): 1,
        ("armistice_requests_refused_total", ("unreadable",)): 1,
        ("armistice_certificate_reloads_total", ("loaded",)): 1,
        ("armistice_faults_total", ()): 1,
        ("armistice_review_seconds_count", ("mutate",)): 1,
        ("armistice_review_seconds_count", ("validate",)): 2,
        ("armistice_review_seconds_sum", ("mutate",)): 0.0004,
        ("armistice_review_seconds_sum", ("validate",)): 9.02,
        **{("armistice_review_seconds_bucket", (bound, "mutate")): 1 for bound in [*map(str, BUCKETS), "+Inf"]},
        **{
            ("armistice_review_seconds_bucket", (bound, "validate")): 1
            for bound in ("0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5")
        },
        ("armistice_review_seconds_bucket", ("+Inf", "validate")): 2,
        ("armistice_certificate_not_after_seconds", ()): 1e9,
        ("armistice_requests_in_flight", ()): 3,
        ("armistice_tasks", ()): 7,
    }
    assert found == expected


CLUSTER = {
    "armistice_cluster_objects",
    "armistice_cluster_unreadable_objects",
    "armistice_cluster_synced",
    "armistice_cluster_absent",
    "armistice_cluster_silent_seconds",
    "armistice_cluster_relists_total",
    "armistice_cluster_errors_total",
}


def test_a_cluster_s_series_are_there_before_anything_was_read() -> None:
    found = samples(Metrics((ClusterMetrics(View(Rules())),)))
    ours = {key: value for key, value in found.items() if key[0].startswith("armistice_cluster_")}
    assert {name for name, _ in ours} == CLUSTER
    assert len(ours) == 4 * (5 + len(Relist) + len(Trouble))
    silent = {key: value for key, value in ours.items() if key[0] == "armistice_cluster_silent_seconds"}
    assert all(isnan(value) for value in silent.values())
    assert {value for key, value in ours.items() if key not in silent} == {0.0}


def test_how_a_cluster_is_followed_is_told_by_resource() -> None:
    view = View(Rules())
    view.topologies.put(topology("n1"), 1)
    view.topologies.put({**topology("n2"), "zones": []}, 2)
    pulse = view.pulses[Followed.TOPOLOGIES]
    pulse.synced, pulse.heard = True, 100.0
    pulse.relists[Relist.GONE] += 2
    pulse.troubles[Trouble.BROKEN] += 3
    found = samples(Metrics((ClusterMetrics(view, lambda: 107.5),)))
    ours = {key: value for key, value in found.items() if key[0] in CLUSTER and value and not isnan(value)}
    resource = "noderesourcetopologies"
    assert ours == {
        ("armistice_cluster_objects", (resource,)): 1,
        ("armistice_cluster_unreadable_objects", (resource,)): 1,
        ("armistice_cluster_synced", (resource,)): 1,
        ("armistice_cluster_silent_seconds", (resource,)): 7.5,
        ("armistice_cluster_relists_total", ("gone", resource)): 2,
        ("armistice_cluster_errors_total", ("broken", resource)): 3,
    }


def test_what_the_keeper_knows_is_shown_and_everything_is_there_at_zero() -> None:
    figures = Figures()
    metrics = Metrics((KeeperMetrics(lambda: figures),))
    names = {
        "armistice_authority_not_after_seconds": ["ca-1", "ca-2"],
        "armistice_webhook_configuration_present": ["mutating", "validating"],
        "armistice_bundle_repairs_total": ["mutating", "validating"],
        "armistice_write_conflicts_total": [work.value for work in Work],
    }
    expected: dict[tuple[str, tuple[str, ...]], float]
    expected = {(name, (label,)): 0.0 for name, labels in names.items() for label in labels}
    expected |= {(f"armistice_{name}", ()): 0.0 for name in ("trust_synced_seconds", "leader", "public_keys")}
    assert expected.items() <= samples(metrics).items()
    figures.ends[Slot.FIRST] = figures.synced = datetime(2026, 3, 1, tzinfo=UTC)
    figures.conflicts[Work.LEASE] += 2
    figures.repairs[Configuration.MUTATING] += 1
    figures.present[Configuration.VALIDATING] = figures.leading = True
    figures.public_keys = 3
    found = samples(metrics)
    changed = {key: found[key] for key, before in expected.items() if found[key] != before}
    assert changed == {
        ("armistice_authority_not_after_seconds", ("ca-1",)): 1772323200.0,
        ("armistice_trust_synced_seconds", ()): 1772323200.0,
        ("armistice_write_conflicts_total", ("lease",)): 2.0,
        ("armistice_bundle_repairs_total", ("mutating",)): 1.0,
        ("armistice_webhook_configuration_present", ("validating",)): 1.0,
        ("armistice_leader", ()): 1.0,
        ("armistice_public_keys", ()): 3.0,
    }
