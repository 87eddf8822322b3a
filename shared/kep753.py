"""The sum over a pod's containers at its worst moment (KEP-753, "Sidecar Containers": resources calculation).

Init containers run one after the other; a restartable one stays from its turn on. So each standard init container
weighs together with the restartable ones *before* it, and the app containers with all of them; the pod needs the
largest.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.pod import Amounts


def peak(init_containers: Iterable[tuple[Amounts, bool]], containers: Iterable[Amounts]) -> dict[str, int]:
    """The largest moment of each resource. Init containers come in their order, with whether they are restartable."""
    staying: dict[str, int] = {}
    worst: dict[str, int] = {}
    for amounts, restartable in init_containers:
        if restartable:
            add(staying, amounts)
            raise_to(worst, staying)
        else:
            raise_to(worst, plus(amounts, staying))
    for amounts in containers:
        add(staying, amounts)
    raise_to(worst, staying)
    return worst


def add(total: dict[str, int], amounts: Amounts) -> None:
    """Add in place."""
    for resource, amount in amounts.items():
        total[resource] = total.get(resource, 0) + amount


def plus(a: Amounts, b: Amounts) -> dict[str, int]:
    """The sum of two."""
    total = dict(a)
    add(total, b)
    return total


def raise_to(worst: dict[str, int], amounts: Amounts) -> None:
    """Keep the larger of each, in place."""
    for resource, amount in amounts.items():
        if amount > worst.get(resource, -1):
            worst[resource] = amount
