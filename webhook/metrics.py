"""What the webhook counts. Labels are closed sets, there from the start at zero; no object's name is among them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import accumulate, product
from time import monotonic

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from webhook.admission import Decision, Kind, Phase
from webhook.authority import Slot
from webhook.bundles import Configuration
from webhook.certs import Reload
from webhook.figures import Figures, Work
from webhook.following import Followed, Relist, Trouble, View
from webhook.policy import Mode
from webhook.verdict import Verdict

CONTENT_TYPE = CONTENT_TYPE_LATEST

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""


class Refused(Enum):
    """Why a request got no review in return."""

    UNREADABLE = "unreadable"
    """400: the request itself is wrong."""
    BUSY = "busy"
    """503: too many are being received."""
    UNABLE = "unable"
    """503: the key that signs intents is not known yet."""


class Metrics(Collector):
    """One process's metrics. A review costs a few additions; families are made of them when somebody asks."""

    def __init__(self, more: Iterable[Collector] = ()) -> None:
        """``more`` is said beside it."""
        self._reviews: Counter[tuple[Phase, Kind, Verdict | None, bool]] = Counter()
        self._broken: Counter[tuple[Mode, Kind, Verdict | None]] = Counter()
        self._refused: Counter[Refused] = Counter()
        self._reloads: Counter[Reload] = Counter()
        self._faults = 0
        self._slots = {phase: [0] * (len(BUCKETS) + 1) for phase in Phase}
        self._seconds = dict.fromkeys(Phase, 0.0)
        self._gauges = (0.0, 0, 0)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in more:
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def decided(self, phase: Phase, decision: Decision, seconds: float) -> None:
        """One review."""
        answer, kind, verdict, broken = decision
        self._reviews[phase, kind, verdict, answer.allowed] += 1
        if broken and phase is Phase.VALIDATE:
            self._broken.update((mode, kind, verdict) for mode in broken)
        self._slots[phase][bisect_left(BUCKETS, seconds)] += 1
        self._seconds[phase] += seconds

    def refused(self, reason: Refused) -> None:
        """One request without a review in return."""
        self._refused[reason] += 1

    def faulted(self) -> None:
        """One fault of ours."""
        self._faults += 1

    def reloaded(self, result: Reload) -> None:
        """One change of the certificate's files."""
        self._reloads[result] += 1

    def text(self, not_after: float, in_flight: int, tasks: int) -> bytes:
        """All of it, the gauges as they are now."""
        self._gauges = not_after, in_flight, tasks
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every series of every family, those at zero too."""
        yield self._family_of_reviews()
        yield self._family_of_violations()
        yield _family(
            "armistice_requests_refused", "Requests that got no review back.", "reason",
            {reason.value: self._refused[reason] for reason in Refused},
        )  # fmt: skip
        yield _family(
            "armistice_certificate_reloads", "Changed certificate files.", "result",
            {result.value: self._reloads[result] for result in (Reload.LOADED, Reload.REFUSED)},
        )  # fmt: skip
        yield CounterMetricFamily("armistice_faults", "Reviews that met a fault of ours.", value=self._faults)
        yield self._histogram()
        not_after, in_flight, tasks = self._gauges
        yield GaugeMetricFamily(
            "armistice_certificate_not_after_seconds", "When the certificate in use ends.", value=not_after
        )
        yield GaugeMetricFamily("armistice_requests_in_flight", "Bodies that are being received.", value=in_flight)
        yield GaugeMetricFamily("armistice_tasks", "Tasks of the event loop, one of each connection.", value=tasks)

    def _family_of_reviews(self) -> Metric:
        family = CounterMetricFamily(
            "armistice_reviews",
            "Reviews answered, by the API server's call, what was judged, and how it came out.",
            labels=("phase", "kind", "verdict", "decision"),
        )
        for phase, kind, verdict, allowed in product(Phase, Kind, (None, *Verdict), (True, False)):
            labels = (phase.value, kind.value, _word(verdict), "allowed" if allowed else "denied")
            family.add_metric(labels, self._reviews[phase, kind, verdict, allowed])
        return family

    def _family_of_violations(self) -> Metric:
        family = CounterMetricFamily(
            "armistice_policy_violations",
            "Objects that broke a level of their namespace, counted when validated.",
            labels=("mode", "kind", "verdict"),
        )
        for mode, kind, verdict in product(Mode, Kind, Verdict):
            family.add_metric((mode.value, kind.value, verdict.value), self._broken[mode, kind, verdict])
        return family

    def _histogram(self) -> Metric:
        family = HistogramMetricFamily(
            "armistice_review_seconds", "From a request's headers to its answer.", labels=("phase",)
        )
        for phase, slots in self._slots.items():
            bounds = [*map(str, BUCKETS), "+Inf"]
            buckets = list(zip(bounds, accumulate(slots), strict=True))
            family.add_metric((phase.value,), buckets, self._seconds[phase])
        return family


class KeeperMetrics(Collector):
    """What there is to watch of the certificates and keys that the process keeps. Times are seconds since 1970."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Every series, those without a value yet at zero."""
        figures = self._figures()
        ends = {slot.value: figures.ends[slot].timestamp() if slot in figures.ends else 0.0 for slot in Slot}
        yield _gauges("armistice_authority_not_after_seconds", "When each certificate authority ends.", "slot", ends)
        present = {one.value: float(figures.present.get(one, False)) for one in Configuration}
        yield _gauges(
            "armistice_webhook_configuration_present", "Whether the API server asks at all.", "configuration", present
        )
        synced = figures.synced.timestamp() if figures.synced else 0.0
        for name, text, value in (
            ("armistice_trust_synced_seconds", "When certificates and keys were last seen in order.", synced),
            ("armistice_leader", "Whether this replica writes.", float(figures.leading)),
            ("armistice_public_keys", "Public keys that nodes believe.", float(figures.public_keys)),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield _family(
            "armistice_write_conflicts", "Writes that another replica, or a person, was faster with.", "object",
            {work.value: figures.conflicts[work] for work in Work},
        )  # fmt: skip
        yield _family(
            "armistice_bundle_repairs", "Configurations that were given the caBundle.", "configuration",
            {one.value: figures.repairs[one] for one in Configuration},
        )  # fmt: skip


class ClusterMetrics(Collector):
    """How the following of a cluster goes, by resource."""

    def __init__(self, view: View, clock: Callable[[], float] = monotonic) -> None:
        self._view = view
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Every series of every family, those at zero too."""
        tables, pulses = self._view.tables, self._view.pulses
        yield self._gauge(
            "armistice_cluster_objects", "Objects that are known.", lambda followed: len(tables[followed].known)
        )
        yield self._gauge(
            "armistice_cluster_unreadable_objects",
            "Objects that cannot be read, and are passed over; the log names them.",
            lambda followed: len(tables[followed].unreadable),
        )
        yield self._gauge(
            "armistice_cluster_synced",
            "Whether the resource was read as a whole at least once.",
            lambda followed: int(pulses[followed].synced),
        )
        yield self._gauge(
            "armistice_cluster_absent",
            "Whether the API server does not know the resource: its CRD is not installed.",
            lambda followed: int(pulses[followed].absent),
        )
        yield self._gauge(
            "armistice_cluster_silent_seconds",
            "Since the API server last said anything about the resource; a bookmark counts, and comes every minute.",
            self._silence,
        )
        yield self._counter("armistice_cluster_relists", "Readings as a whole, by reason.", "reason", Relist)
        yield self._counter("armistice_cluster_errors", "What went wrong while following.", "reason", Trouble)

    def _silence(self, followed: Followed) -> float:
        """NaN before the first word."""
        heard = self._view.pulses[followed].heard
        return float("nan") if heard is None else max(0.0, self._clock() - heard)

    def _gauge(self, name: str, text: str, value: Callable[[Followed], float]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=("resource",))
        for followed in Followed:
            family.add_metric((followed.value,), value(followed))
        return family

    def _counter(self, name: str, text: str, label: str, reasons: type[Relist] | type[Trouble]) -> Metric:
        family = CounterMetricFamily(name, text, labels=("resource", label))
        for followed, reason in product(Followed, reasons):
            pulse = self._view.pulses[followed]
            counted = pulse.relists if isinstance(reason, Relist) else pulse.troubles
            family.add_metric((followed.value, reason.value), counted[reason])  # type: ignore[index]
        return family


def _word(verdict: Verdict | None) -> str:
    return "none" if verdict is None else verdict.value


def _gauges(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for word, value in values.items():
        family.add_metric((word,), value)
    return family


def _family(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for word, value in values.items():
        family.add_metric((word,), value)
    return family
