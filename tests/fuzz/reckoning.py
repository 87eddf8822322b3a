"""What a pod demands, reckoned a second time: plainly, from its JSON, by Kubernetes' words and ours, in fractions.

Nothing here comes from the product. Sources: ``ParseQuantity`` for amounts, ``DefaultPodLevelResources`` for what is
filled in, KEP-753 for the worst moment, KEP-2837 for ``spec.resources``, ``ComputePodQOS``, and our placement
classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

Json = Mapping[str, Any]
Amounts = dict[str, Fraction]

MOST = 2**63 - 1
"""What any amount is capped at."""

SUFFIXES = {
    **{"": 1, "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)},
    **{suffix: 1000 ** (power + 1) for power, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": 1024 ** (power + 1) for power, suffix in enumerate("KMGTPE")},
}
_WRITTEN = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([a-zA-Z]*|[eE][+-]?[0-9]+)", re.ASCII)
_SPACES = "".join(char for char in map(chr, range(0x10000)) if char.isspace() and (char >= "\x80" or char == " "))


def amount(value: object) -> Fraction:
    """A quantity as JSON carries it. Raises ValueError for what is none."""
    if value is None:
        return Fraction(0)
    text = value.strip(_SPACES) if isinstance(value, str) else repr(value)
    match = _WRITTEN.fullmatch(text)
    if match is None or not text or isinstance(value, bool):
        raise ValueError(f"{value!r} is no quantity")
    sign, whole, decimals, suffix = match[1], match[2], match[3] or "", match[4]
    if not whole and not decimals:
        return Fraction(0)
    scale = SUFFIXES[suffix] if suffix in SUFFIXES else _power_of_ten(suffix)
    exact = Fraction(int(whole + decimals), 10 ** len(decimals)) * scale
    nanos = min(Fraction(ceil(exact * 10**9), 10**9), Fraction(MOST))
    return -nanos if sign == "-" else nanos


def _power_of_ten(suffix: str) -> Fraction:
    if not re.fullmatch(r"[eE][+-]?[0-9]+", suffix):
        raise ValueError(f"{suffix!r} is no suffix")
    return Fraction(10) ** max(-600, min(600, int(suffix[1:])))


def amounts(value: object) -> Amounts:
    """A list of resources. Raises ValueError for what is none, and for less than nothing."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} are no resources")
    found = {name: amount(written) for name, written in value.items()}
    if any(each < 0 for each in found.values()):
        raise ValueError("less than nothing is asked")
    return found


@dataclass(frozen=True, slots=True)
class Box:
    """A container."""

    name: str
    requests: Amounts
    limits: Amounts
    init: bool
    stays: bool
    """An init container with ``restartPolicy: Always``."""

    @property
    def owns(self) -> int:
        """CPUs of its own, where its pod is exclusive."""
        cpu, memory = self.requests.get("cpu", Fraction(0)), self.requests.get("memory", Fraction(0))
        even = self.limits.get("cpu") == cpu and self.limits.get("memory") == memory
        passes = self.init and not self.stays
        return int(cpu) if even and memory > 0 and cpu > 0 and cpu.denominator == 1 and not passes else 0


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What the node has to be told, of a pod whose policy is not ``none``."""

    placement: str
    total: Amounts
    boxes: tuple[Box, ...]
    bubble: int


def reckon(pod: Json) -> Reckoning:
    """Of a pod's JSON. Raises ValueError where it makes no sense."""
    spec = _object(pod.get("spec"))
    boxes = (*_boxes(spec, "initContainers"), *_boxes(spec, "containers"))
    level = _object(spec.get("resources"))
    requests, limits = amounts(level.get("requests")), amounts(level.get("limits"))
    requests, limits = _filled_in(boxes, requests, limits)
    overhead = amounts(spec.get("overhead"))
    total = _worst(boxes, "requests")
    total.update({name: asked for name, asked in requests.items() if _of_pods(name)})
    for name, asked in overhead.items():
        total[name] = total.get(name, Fraction(0)) + asked
    placement = _placement(boxes, requests, limits)
    bubble = _bubble(boxes, requests.get("cpu"), overhead.get("cpu", Fraction(0))) if placement == "exclusive" else 0
    return Reckoning(placement, total, boxes, bubble)


def _object(value: object) -> Json:
    if not isinstance(value, dict | None):
        raise ValueError(f"{value!r} is no object")
    return value or {}


def _boxes(spec: Json, key: str) -> Iterator[Box]:
    listed = spec.get(key) or []
    if not isinstance(listed, list):
        raise ValueError(f"{listed!r} are no containers")
    for item in map(_object, listed):
        resources = _object(item.get("resources"))
        limits = amounts(resources.get("limits"))
        requests = {**limits, **amounts(resources.get("requests"))}
        init = key == "initContainers"
        yield Box(item["name"], requests, limits, init, init and item.get("restartPolicy") == "Always")


def _moments(boxes: tuple[Box, ...]) -> Iterator[list[Box]]:
    """Who runs at the same time: each init container with those that stay from before, then all that stay."""
    staying: list[Box] = []
    for box in boxes:
        if box.init:
            yield [*staying, box]
        if box.stays:
            staying = [*staying, box]
    yield [*staying, *(box for box in boxes if not box.init)]


def _worst(boxes: tuple[Box, ...], which: str) -> Amounts:
    worst: Amounts = {}
    for moment in _moments(boxes):
        for name in {name for box in moment for name in getattr(box, which)}:
            together = sum((getattr(box, which).get(name, Fraction(0)) for box in moment), Fraction(0))
            worst[name] = max(worst.get(name, Fraction(0)), together)
    return worst


def _of_pods(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def _filled_in(boxes: tuple[Box, ...], requests: Amounts, limits: Amounts) -> tuple[Amounts, Amounts]:
    """``spec.resources`` as the API server completes them, in its order (``DefaultPodLevelResources``, 1.37)."""
    if not any(map(_of_pods, (*requests, *limits))):
        return requests, limits
    requests, limits = dict(requests), dict(limits)
    together = _worst(boxes, "limits")
    for name, asked in together.items():
        if name.startswith("hugepages-") and name not in requests:
            limits.setdefault(name, asked)
    for name, asked in (*_worst(boxes, "requests").items(), *limits.items()):
        if name in ("cpu", "memory") or (name in limits and _of_pods(name)):
            requests.setdefault(name, limits[name] if name.startswith("hugepages-") else asked)
    for name in filter(_of_pods, requests):
        if name not in limits and all(name in box.limits for box in boxes):
            limits[name] = max(requests[name], together[name])
    return requests, limits


def _placement(boxes: tuple[Box, ...], requests: Amounts, limits: Amounts) -> str:
    by_pod = any(map(_of_pods, (*requests, *limits)))
    asked = [(requests, limits)] if by_pod else [(box.requests, box.limits) for box in boxes]
    pairs = {(ask.get(name, 0), limit.get(name, 0)) for ask, limit in asked for name in ("cpu", "memory")}
    if pairs == {(0, 0)}:
        return "none"
    guaranteed = all(ask == limit > 0 for ask, limit in pairs)
    return "exclusive" if (guaranteed and by_pod) or any(box.owns for box in boxes) else "bound"


def _bubble(boxes: tuple[Box, ...], by_pod: Fraction | None, overhead: Fraction) -> int:
    """Whole CPUs: what is owned, and what is shared rounded up, at the worst moment; some for whoever shares."""
    staying = [box for box in boxes if box.stays or not box.init]
    owned = sum(box.owns for box in staying)
    least = owned + any(not box.owns for box in staying)
    if by_pod is not None:
        return max(least, ceil(by_pod + overhead))
    return max(least, *(_cpus(moment, overhead) for moment in _moments(boxes) if moment))


def _cpus(moment: list[Box], overhead: Fraction) -> int:
    shared = sum((box.requests.get("cpu", Fraction(0)) for box in moment if not box.owns), overhead)
    return sum(box.owns for box in moment) + ceil(shared)
