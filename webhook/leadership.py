"""Which replica writes: one holds a Lease and renews it; who sees it unrenewed for long enough takes it over.

It is a matter of order only: every write carries the version that was read, so that two who both take themselves for
the leader do no harm, and one that cannot have a Lease may go without.

``kubernetes.aio.leaderelection`` is not used. As of 37.0 an API server that cannot be reached ends it with an exception
that nobody catches; times without a fraction of a second are written as nothing at all, and local times as UTC; it
measures by the wall clock, so that a clock set forward takes the Lease from whoever holds it; and a leader that leaves
cannot hand it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = dict[str, Any]

DURATION = 15
"""Seconds without a renewal after which others take over; as controllers of Kubernetes have it."""

PERIOD = 5.0
"""Seconds between renewals, and between looks of those who wait."""

GRACE = 10.0
"""Seconds after its last renewal that the holder counts itself as one: it stops before others begin."""

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class Tenure:
    """Who holds the Lease, and since when it has looked like this. The clock of others is not asked."""

    holder: str
    renewed: str
    since: float
    """Seconds of a clock that is never set."""

    @classmethod
    def seen(cls, lease: Mapping[str, Any] | None, before: Tenure | None, at: float) -> Tenure:
        """What a look at the Lease tells."""
        spec = _spec(lease)
        holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
        if before and (before.holder, before.renewed) == (holder, renewed):
            return before
        return cls(holder, renewed, at)

    def open_to(self, identity: str, at: float) -> bool:
        """Whether somebody may take or renew it."""
        return self.holder in ("", identity) or at - self.since >= DURATION


def taken(lease: Mapping[str, Any] | None, bare: Json, identity: str, now: datetime) -> Json:
    """The Lease as its holder writes it, over what was read."""
    before = _spec(lease)
    time = now.strftime(_FORMAT)
    kept = before.get("holderIdentity") == identity
    spec = {
        "holderIdentity": identity,
        "leaseDurationSeconds": DURATION,
        "acquireTime": before.get("acquireTime") if kept else time,
        "renewTime": time,
        "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if kept or lease is None else 1),
    }
    return {**(lease or bare), "spec": spec}


def released(lease: Mapping[str, Any]) -> Json:
    """The Lease as whoever leaves in good order writes it: the next one need not wait."""
    return {**lease, "spec": {**_spec(lease), "holderIdentity": "", "leaseDurationSeconds": 1}}


def _spec(lease: Mapping[str, Any] | None) -> Mapping[str, Any]:
    spec = (lease or {}).get("spec")
    return spec if isinstance(spec, Mapping) else {}
