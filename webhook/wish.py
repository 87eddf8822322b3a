"""What a pod says about nodes, and the taints that it may tolerate.

Values that can be compared, so that what was worked out for one pod serves the next. The rules of taints are the
scheduler's (``k8s.io/api/core/v1``, ``toleration.go``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

from shared.value import value

PASSING = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Taints that Kubernetes itself sets while a node is cordoned, not ready, unreachable, under pressure, without network,
being shut down or not set up yet (``well_known_taints.go``). They come and go; nobody keeps pods apart with them."""

NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"
"""The effects that keep a pod off. A pod that names its node passes the scheduler by: the kubelet asks for the second
only (``pkg/kubelet/lifecycle/predicate.go``)."""


@value
class Taint:
    """What keeps pods off a node that do not tolerate it."""

    key: str
    value: str
    effect: str

    @property
    def keeps_off(self) -> bool:
        """Whether it keeps pods off, and for longer than the node happens to be so."""
        return self.effect in (NO_SCHEDULE, NO_EXECUTE) and not self.key.startswith(PASSING)

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class Operator(Enum):
    """Of a requirement in node affinity."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


@value
class Requirement:
    """One entry of ``matchExpressions`` or ``matchFields``."""

    key: str
    operator: Operator | None
    """None for a word that is none: no node meets it."""
    values: tuple[str, ...] = ()


@value
class Term:
    """One entry of ``nodeSelectorTerms``: all its requirements hold. One without any matches no node."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


_CANONICAL = re.compile(r"0|-?[1-9][0-9]*", re.ASCII)
"""An integer as tolerations may write it (``IsDecimalInteger``)."""
INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
"""An integer as ``strconv.ParseInt`` reads it."""


@value
class Toleration:
    """One entry of ``spec.tolerations``."""

    key: str = ""
    """Empty for every key."""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    """Empty for every effect."""

    @property
    def counts(self) -> bool:
        """Whether it can tolerate anything that lasts: the API server gives two to every pod that cannot."""
        return not self.key.startswith(PASSING)

    def tolerates(self, taint: Taint) -> bool:
        """``ToleratesTaint`` of ``k8s.io/api/core/v1``; the two comparisons are alpha from 1.35 on (KEP-5471)."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        match self.operator:
            case "" | "Equal":
                return self.value == taint.value
            case "Exists":
                return True
            case "Lt" | "Gt":
                ours, theirs = number_in(self.value, _CANONICAL), number_in(taint.value, _CANONICAL)
                if ours is None or theirs is None:
                    return False
                return theirs < ours if self.operator == "Lt" else theirs > ours
        return False


def number_in(text: str, pattern: re.Pattern[str]) -> int | None:
    """A 64-bit integer; None for text that is none."""
    if len(text) > 20 or not pattern.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


@value
class Wish:
    """What a pod says about nodes."""

    node: str = ""
    """``spec.nodeName``; empty where the scheduler is to choose."""
    selector: tuple[tuple[str, str], ...] = ()
    """``spec.nodeSelector``, sorted."""
    affinity: tuple[Term, ...] | None = None
    """The terms of the required node affinity, of which one has to hold; None where there is none."""
    tolerations: tuple[Toleration, ...] = ()
    devices: frozenset[str] = frozenset()
    """The extended resources that it asks for: a node without any is as little meant as one without a label."""

    def asking(self, devices: Iterable[str]) -> Wish:
        """The wish of a pod that asks for these extended resources, too."""
        found = frozenset(filter(is_device, devices))
        return replace(self, devices=found) if found else self

    def tolerates(self, taint: Taint) -> bool:
        """Whether a taint does not keep the pod off."""
        if self.node and taint.effect != NO_EXECUTE:
            return True
        return any(toleration.tolerates(taint) for toleration in self.tolerations)


ANYWHERE = Wish()


_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", re.ASCII)


def is_label_value(text: str) -> bool:
    """Whether a label can have this value (``IsValidLabelValue``): a requirement with another one is malformed."""
    return len(text) <= 63 and _LABEL_VALUE.fullmatch(text) is not None


def is_device(resource: str) -> bool:
    """Whether a resource is an extended one: its name has a domain (``IsExtendedResourceName``)."""
    return "/" in resource
