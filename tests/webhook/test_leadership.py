"""Who writes: a Lease as a value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from webhook.leadership import Tenure, released, taken

Json = dict[str, Any]

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
BARE: Json = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "armistice-webhook"}}


def held(holder: str, renewed: str = "2026-03-01T11:59:58.000000Z") -> Json:
    spec = {"holderIdentity": holder, "renewTime": renewed, "acquireTime": "2026-03-01T10:00:00.000000Z"}
    return {**BARE, "metadata": {"name": "armistice-webhook", "resourceVersion": "7"}, "spec": spec}


LOOKS = [
    ("nobody has it yet", None, 0.0, True),
    ("it was handed on", held(""), 0.0, True),
    ("it is mine", held("me"), 0.0, True),
    ("it is somebody's", held("other"), 0.0, False),
    ("it is somebody's, who has not renewed it for 14.9 s", held("other"), 14.9, False),
    ("it is somebody's, who has not renewed it for 15 s", held("other"), 15.0, True),
    ("it holds nothing that can be read", {**BARE, "spec": None}, 0.0, True),
]


@pytest.mark.parametrize(("what", "lease", "later", "mine"), LOOKS, ids=[row[0] for row in LOOKS])
def test_when_somebody_may_take_it(what: str, lease: Json | None, later: float, mine: bool) -> None:
    first = Tenure.seen(lease, None, 100.0)
    assert Tenure.seen(lease, first, 100.0 + later).open_to("me", 100.0 + later) is mine


def test_a_renewal_starts_the_time_anew_whatever_its_clock_says() -> None:
    tenure = Tenure.seen(held("other"), None, 100.0)
    tenure = Tenure.seen(held("other", "1999-01-01T00:00:00.000000Z"), tenure, 114.0)
    assert not tenure.open_to("me", 128.0)
    assert tenure.open_to("me", 129.0)


def test_it_is_made_taken_renewed_and_handed_on() -> None:
    made = taken(None, BARE, "me", NOW)
    assert made["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-03-01T12:00:00.000000Z",
        "renewTime": "2026-03-01T12:00:00.000000Z",
        "leaseTransitions": 0,
    }
    renewed = taken(made, BARE, "me", NOW.replace(second=5))
    assert renewed["spec"] == {**made["spec"], "renewTime": "2026-03-01T12:00:05.000000Z"}
    over = taken(held("other"), BARE, "me", NOW)
    assert over["spec"] == {**made["spec"], "leaseTransitions": 1}
    assert over["metadata"]["resourceVersion"] == "7"
    assert released(over)["spec"] == {**over["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
