"""What a pod demands, and its QoS class: ours and the reckoning of :mod:`tests.fuzz.reckoning` against Kubernetes' own
defaulting, ``PodRequests`` and ``ComputePodQOS``. This is what makes the reckoning fit to judge intents by.

Known to differ: Kubernetes rounds every single amount up to a thousandth before it adds (README, "Known limits"), so
pods with finer ones are left out. An input has a pod on each line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from random import Random
from typing import Any

from shared.defaulting import with_defaults
from shared.demand import weigh
from shared.errors import InputError
from shared.quantity import NANO
from tests.fuzz.grammar import pod
from tests.fuzz.peer import compared, exact
from tests.fuzz.reckoning import MOST, reckon
from tests.fuzz.target import Target, WrongError
from webhook.pod import parse_pod

BATCH = 50

Amounts = Mapping[str, Fraction]


def make(rng: Random) -> bytes:
    """A batch."""
    return b"\n".join(json.dumps(pod(rng)).encode() for _ in range(BATCH))


def _compared(line: bytes, answer: dict[str, Any]) -> str:
    made = json.loads(line)
    try:
        demand = weigh(with_defaults(parse_pod(made)))
    except InputError:
        return "refused by both" if "error" in answer else "refused here"
    if "error" in answer:
        raise WrongError(f"weighed, and Kubernetes refuses it: {answer['error']}", line)
    theirs = _counted({name: exact(told) for name, told in answer["requests"].items()})
    if any((amount * 1000).denominator != 1 for amount in _every_amount(made)):
        return "finer than a thousandth"
    for whose, amounts in (("we weigh", {name: Fraction(nanos, NANO) for name, nanos in demand.total.items()}),
                           ("the reckoning has", reckon(made).total)):  # fmt: skip
        if (found := _counted(amounts)) != theirs:
            raise WrongError(f"{whose} something else: {found} and Kubernetes {theirs}", line)
    if demand.qos.value != answer["qos"]:
        raise WrongError(f"another QoS class: {demand.qos.value} and {answer['qos']}", line)
    return f"equal, {answer['qos']}, {demand.placement.value}"


def _counted(amounts: Amounts) -> Amounts:
    """What is asked at all; capped, as sums are that leave us."""
    return {name: min(amount, Fraction(MOST)) for name, amount in amounts.items() if amount}


def _every_amount(made: Mapping[str, Any]) -> Iterator[Fraction]:
    weighed = parse_pod(made)
    lists = [weighed.requests or {}, weighed.limits or {}, weighed.overhead]
    for container in (*weighed.containers, *weighed.init_containers):
        lists += [container.requests, container.limits]
    return (Fraction(nanos, NANO) for amounts in lists for nanos in amounts.values())


TARGET = Target(
    "demands", lambda: compared(make, _compared, '{"pod":%s}'), runs=5_000, full=200_000, seconds=5.0, builds=True
)
