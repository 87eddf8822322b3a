"""Whether a namespace enforces: its label, as the webhook reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from enforcer.apiserver import ApiServer
from enforcer.errors import ClusterError
from shared.policy import TopologyPolicy

log = logging.getLogger("armistice.namespaces")

LABEL = "armistice.dev/enforce"

FRESH = 60.0
"""Seconds that an answer is believed. Labels of namespaces change by a person's hand."""

HOLD_OFF = 5.0
"""Seconds before a failed question is asked again: pods are retried more often than an API server comes back."""

MOST_KEPT = 1024
"""Namespaces remembered; the one asked longest ago goes first."""


@dataclass(frozen=True, slots=True)
class _Known:
    """One namespace's last answer."""

    enforces: bool | None
    until: float


class Namespaces:
    """Answers, remembered for a while."""

    def __init__(self, api: ApiServer | None, clock: Callable[[], float] = monotonic) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def ask(self, namespace: str) -> bool | None:
        """Whether the namespace enforces; None while that cannot be found out, which the caller takes for the stricter.

        Without a cluster it is always None.
        """
        known = self._known.get(namespace)
        if known is None or known.until <= self._clock():
            known = await self._asked(namespace)
            self._keep(namespace, known)
        return known.enforces

    async def _asked(self, namespace: str) -> _Known:
        if self._api is None:
            return _Known(None, self._clock() + FRESH)
        try:
            found = await self._api.get(f"/api/v1/namespaces/{namespace}")
        except ClusterError as error:
            log.warning("namespace not known: namespace=%s error=%s", namespace, error)
            return _Known(None, self._clock() + HOLD_OFF)
        return _Known(enforces(found), self._clock() + FRESH)

    def _keep(self, namespace: str, known: _Known) -> None:
        self._known.pop(namespace, None)
        self._known[namespace] = known
        if len(self._known) > MOST_KEPT:
            del self._known[next(iter(self._known))]


def enforces(namespace: Any) -> bool:
    """What the object's label says. A mistyped value counts as the strictest, as at admission; no label as ``none``."""
    metadata = namespace.get("metadata") if isinstance(namespace, dict) else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    level: object = labels.get(LABEL) if isinstance(labels, dict) else None
    return level is not None and level != TopologyPolicy.NONE.value
