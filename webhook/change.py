"""The smallest change that makes a pod acceptable: whom to cut, in what, from what to what.

The search is made with the real judgement: a caller's ``acceptable`` weighs and places every candidate with the code
that judged the pod. It tries to cut the sidecars; if that cannot help, the app containers; then the init containers;
then all of them. A pod with ``spec.resources`` is cut there, and its containers as far as they no longer fit in it.

In each try everything goes down to its floor first. If even that is not acceptable the try is given up; else each
amount is put back as far as it will go, the heaviest container last, so that it bears the cut and the others keep
theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from shared.demand import CORE, Demand, PlacementClass, Weight, is_eligible, weigh
from shared.kep753 import peak
from shared.pod import Amounts, Container, Pod, is_hugepages, is_pod_level
from shared.quantity import NANO, from_whole, parse, to_whole
from shared.sidecars import Role
from shared.value import value

POD_LEVEL = "spec.resources"
"""Stands where a container's name would, for the pod-level figure; no container can be called so."""

MEBIBYTE = 2**20 * NANO

MOST_KNOBS = 64
"""Amounts that one try may cut: the heaviest containers' first. Nobody follows advice on more."""


@value
class Change:
    """One amount to write differently."""

    container: str
    """A container's name, or :data:`POD_LEVEL`."""
    resource: str
    before: int
    """Millicores, bytes or pieces."""
    after: int


@value
class Knob:
    """One amount that may be cut. Nano-units."""

    container: str
    resource: str
    value: int
    floor: int
    step: int


def smallest_change(
    pod: Pod, demand: Demand, resources: Sequence[str], acceptable: Callable[[Pod], bool], late: Callable[[], bool]
) -> tuple[Change, ...] | None:
    """The changes that make ``acceptable`` true, or None when no cut does, or ``late`` says that time is up."""
    for names in _tries(pod, demand, resources):
        knobs = [knob for resource in resources for knob in _knobs(pod, demand, names, resource)][:MOST_KNOBS]
        changed = _solve(pod, knobs, acceptable, late)
        if changed is not None and weigh(changed).placement is demand.placement:
            return _changes(changed, knobs)
        if late():
            return None
    return None


def _tries(pod: Pod, demand: Demand, resources: Sequence[str]) -> Iterator[list[str]]:
    """Whom to cut together, the first to bear the cut first."""
    by_role = {
        role: [w.name for w in sorted(demand.containers, key=_heaviest(resources)) if w.role is role] for role in Role
    }
    everyone = by_role[Role.SIDECAR] + by_role[Role.APP] + by_role[Role.INIT]
    if any(resource in (pod.requests or {}) for resource in resources):
        yield [*everyone, POD_LEVEL]
        return
    tries = [by_role[Role.SIDECAR], by_role[Role.APP], by_role[Role.INIT], everyone]
    yield from (names for names in tries if names)


def _heaviest(resources: Sequence[str]) -> Callable[[Weight], tuple[int, ...]]:
    return lambda weight: tuple(-weight.requests.get(resource, 0) for resource in resources)


def _knobs(pod: Pod, demand: Demand, names: Sequence[str], resource: str) -> Iterator[Knob]:
    """One knob for each container that asks for the resource. What is passing or beside the point may go without any
    (a container that owns CPUs may not: it would no longer own them); an app keeps at least one step of everything."""
    spared = {w.name for w in demand.containers if w.role is not Role.APP and not w.eligible}
    containers = {container.name: container for container in (*pod.init_containers, *pod.containers)}
    for name in names:
        if name == POD_LEVEL:
            yield from _pod_level_knob(pod, demand, resource)
            continue
        amount = containers[name].requests.get(resource, 0)
        step = _step(resource, whole=resource == "cpu" and is_eligible(containers[name]))
        floor = 0 if name in spared else step
        if amount > floor:
            yield Knob(name, resource, amount, floor, step)


def _pod_level_knob(pod: Pod, demand: Demand, resource: str) -> Iterator[Knob]:
    """The pod-level figure, down to what its containers need at their floors."""
    amount = (pod.requests or {}).get(resource, 0)
    if not is_pod_level(resource):
        return
    step = _step(resource, whole=resource == "cpu" and amount % CORE == 0)
    if resource == "cpu" and demand.placement is PlacementClass.EXCLUSIVE:
        owners = sum(1 for weight in demand.containers if weight.eligible)
        floor = CORE * (owners + any(w.role is not Role.INIT and not w.eligible for w in demand.containers))
    else:
        floor = step * len(demand.containers)
    if amount > floor:
        yield Knob(POD_LEVEL, resource, amount, floor, step)


def _step(resource: str, whole: bool) -> int:
    if resource == "cpu":
        return CORE if whole else 10**6
    if is_hugepages(resource):
        return parse(resource.removeprefix("hugepages-"))
    return MEBIBYTE if resource == "memory" else NANO


def _solve(pod: Pod, knobs: Sequence[Knob], acceptable: Callable[[Pod], bool], late: Callable[[], bool]) -> Pod | None:
    current = pod
    for knob in knobs:
        current = with_amount(current, knob.container, knob.resource, knob.floor)
    if not knobs or not acceptable(current):
        return None
    for knob in reversed(knobs):
        if late():
            return None
        current = _put_back(current, knob, acceptable)
    return current


def _put_back(pod: Pod, knob: Knob, acceptable: Callable[[Pod], bool]) -> Pod:
    """The knob as far up as is acceptable, the others as they are."""
    full = with_amount(pod, knob.container, knob.resource, knob.value)
    if _valid(full) and acceptable(full):
        return full
    low, high = knob.floor // knob.step, -(-knob.value // knob.step)
    while high - low > 1:
        middle = (low + high) // 2
        candidate = with_amount(pod, knob.container, knob.resource, middle * knob.step)
        if _valid(candidate) and acceptable(candidate):
            low = middle
        else:
            high = middle
    return with_amount(pod, knob.container, knob.resource, max(knob.floor, low * knob.step))


def _valid(pod: Pod) -> bool:
    """The API server's own rule for ``spec.resources``: not less than its containers need together."""
    if not pod.requests:
        return True
    needed = peak([(c.requests, c.restartable) for c in pod.init_containers], [c.requests for c in pod.containers])
    return all(pod.requests[r] >= needed.get(r, 0) for r in pod.requests if is_pod_level(r))


def with_amount(pod: Pod, name: str, resource: str, amount: int) -> Pod:
    """The pod with one request changed, and the limit with it where the two were equal."""
    if name == POD_LEVEL:
        requests, limits = _set(pod.requests or {}, pod.limits or {}, resource, amount)
        return replace(pod, requests=requests, limits=limits)

    def change(container: Container) -> Container:
        if container.name != name:
            return container
        requests, limits = _set(container.requests, container.limits, resource, amount)
        return replace(container, requests=requests, limits=limits)

    return replace(
        pod,
        containers=tuple(change(c) for c in pod.containers),
        init_containers=tuple(change(c) for c in pod.init_containers),
    )


def _set(requests: Amounts, limits: Amounts, resource: str, amount: int) -> tuple[Amounts, Amounts]:
    equal = resource in limits and limits[resource] == requests.get(resource)
    return {**requests, resource: amount}, {**limits, resource: amount} if equal else limits


def _changes(after: Pod, knobs: Sequence[Knob]) -> tuple[Change, ...]:
    found = []
    for knob in knobs:
        amount = amount_of(after, knob.container, knob.resource)
        if amount != knob.value:
            was = to_whole(knob.resource, knob.value)
            found.append(Change(knob.container, knob.resource, was, to_whole(knob.resource, amount)))
    return tuple(found)


def amount_of(pod: Pod, name: str, resource: str) -> int:
    """A request in nano-units."""
    if name == POD_LEVEL:
        return (pod.requests or {}).get(resource, 0)
    everyone = (*pod.init_containers, *pod.containers)
    return next(c.requests.get(resource, 0) for c in everyone if c.name == name)


def apply(pod: Pod, changes: Sequence[Change]) -> Pod:
    """The pod with the changes made."""
    for change in changes:
        pod = with_amount(pod, change.container, change.resource, from_whole(change.resource, change.after))
    return pod
