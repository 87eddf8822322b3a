"""What the webhook counts. Labels are closed sets, there from the start at zero; no object's name is among them."""

from __future__ import annotations

from enum import Enum
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from webhook.admission import Decision, Kind, Phase
from webhook.certs import Reload
from webhook.policy import Mode
from webhook.verdict import Verdict

CONTENT_TYPE = CONTENT_TYPE_LATEST

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""

NOT_JUDGED = "none"
"""In place of a verdict."""


class Refused(Enum):
    """Why a request got no review in return."""

    UNREADABLE = "unreadable"
    """400: the request itself is wrong."""
    BUSY = "busy"
    """503: too many are being received."""


class Metrics:
    """One process's metrics in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        reviews = Counter(
            "armistice_reviews",
            "Reviews answered, by the API server's call, what was judged, and how it came out.",
            ("phase", "kind", "verdict", "decision"),
            registry=self._registry,
        )
        broken = Counter(
            "armistice_policy_violations",
            "Objects that broke a level of their namespace, counted when validated.",
            ("mode", "kind", "verdict"),
            registry=self._registry,
        )
        refused = Counter(
            "armistice_requests_refused", "Requests that got no review back.", ("reason",), registry=self._registry
        )
        seconds = Histogram(
            "armistice_review_seconds",
            "From a request's headers to its answer.",
            ("phase",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        reloads = Counter(
            "armistice_certificate_reloads", "Changed certificate files.", ("result",), registry=self._registry
        )
        self._faults = Counter("armistice_faults", "Reviews that met a fault of ours.", registry=self._registry)
        self._not_after = Gauge(
            "armistice_certificate_not_after_seconds", "When the certificate in use ends.", registry=self._registry
        )
        self._in_flight = Gauge("armistice_requests_in_flight", "Bodies being received.", registry=self._registry)
        verdicts = [NOT_JUDGED, *(verdict.value for verdict in Verdict)]
        self._reviews = {
            key: reviews.labels(key[0].value, key[1].value, key[2], "allowed" if key[3] else "denied")
            for key in product(Phase, Kind, verdicts, (True, False))
        }
        self._broken = {
            key: broken.labels(key[0].value, key[1].value, key[2]) for key in product(Mode, Kind, verdicts[1:])
        }
        self._refused = {reason: refused.labels(reason.value) for reason in Refused}
        self._seconds = {phase: seconds.labels(phase.value) for phase in Phase}
        self._reloads = {result: reloads.labels(result.value) for result in (Reload.LOADED, Reload.REFUSED)}

    def decided(self, phase: Phase, decision: Decision, seconds: float) -> None:
        """One review."""
        verdict = NOT_JUDGED if decision.verdict is None else decision.verdict.value
        self._reviews[phase, decision.kind, verdict, decision.answer.allowed].inc()
        if phase is Phase.VALIDATE:
            for mode in decision.broken:
                self._broken[mode, decision.kind, verdict].inc()
        self._seconds[phase].observe(seconds)

    def refused(self, reason: Refused) -> None:
        """One request without a review in return."""
        self._refused[reason].inc()

    def faulted(self) -> None:
        """One fault of ours."""
        self._faults.inc()

    def reloaded(self, result: Reload) -> None:
        """One change of the certificate's files."""
        self._reloads[result].inc()

    def text(self, not_after: float, in_flight: int) -> bytes:
        """All of it, the gauges set from the state as it is now."""
        self._not_after.set(not_after)
        self._in_flight.set(in_flight)
        return generate_latest(self._registry)
