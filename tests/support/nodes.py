"""Nodes of a cluster in few words, and what pods say about them."""

from __future__ import annotations

from typing import Any

from webhook.nodes import ClusterNode
from webhook.pod import parse_wish
from webhook.wish import Taint, Wish


def node(
    name: str, *taints: str, labels: dict[str, str] | None = None, amounts: dict[str, int] | None = None
) -> ClusterNode:
    """A node; a taint is written as ``kubectl taint`` writes it: ``key=value:Effect``. ``amounts`` are
    allocatable. It has its hostname label."""
    own = {"kubernetes.io/hostname": name, **(labels or {})}
    return ClusterNode(name, own, tuple(map(taint, taints)), amounts or {})


def taint(text: str) -> Taint:
    """``key=value:Effect``, or ``key:Effect``."""
    name, _, effect = text.rpartition(":")
    key, _, value = name.partition("=")
    return Taint(key, value, effect)


def wish(**spec: Any) -> Wish:
    """What a pod with these fields in its spec says about nodes."""
    return parse_wish({"spec": spec})


def needing(*terms: dict[str, Any]) -> dict[str, Any]:
    """``spec.affinity`` with these terms of a required node affinity."""
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expressions(*found: tuple[str, str, list[str]]) -> dict[str, Any]:
    """A term with requirements on labels: key, operator, values."""
    return {"matchExpressions": [_requirement(*each) for each in found]}


def fields(*found: tuple[str, str, list[str]]) -> dict[str, Any]:
    """A term with requirements on fields."""
    return {"matchFields": [_requirement(*each) for each in found]}


def _requirement(key: str, operator: str, values: list[str]) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": values}
