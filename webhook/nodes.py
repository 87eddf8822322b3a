"""Which nodes count for a pod: what it says about nodes, held against the nodes of the cluster as the scheduler would.

The rules are the scheduler's own (``k8s.io/component-helpers``, ``scheduling/corev1``), for what lasts: node name, node
selector, required node affinity, the extended resources that a node has at all, taints. A verdict says whether a pod
could ever fit, so what passes does not count: neither the room that other pods take, nor a node that is cordoned, not
ready or short of something just now (:data:`PASSING`). Else a Deployment applied while its nodes are being drained one
after the other would be told that no node is large enough for it.

Each node is a bit. What a label, a value or a taint says of all nodes is one integer, so that thousands of nodes cost
about as much as ten; what pods asked of late is remembered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import compress
from typing import Any, Generic, TypeVar

from shared.cpuset import EMPTY, CpuSet
from shared.errors import InputError
from shared.intent import Intent, page_size
from shared.inventory import Inventory, Known, Structures
from shared.misfit import hugepages_name
from shared.pod import is_hugepages
from shared.quantity import from_json, to_whole
from shared.topology import Machine
from webhook.wish import INTEGER, Operator, Requirement, Taint, Term, Wish, is_device, is_label_value, number_in

NODE_NAME = "metadata.name"
"""The only field that ``matchFields`` may name."""


# What a node says.


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A Node object, as far as pods are assigned by it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Mapping[str, int]
    """Resource to what the scheduler gives to pods in all: millicores of ``cpu``, whole units of anything else."""

    @classmethod
    def from_object(cls, obj: Mapping[str, Any]) -> ClusterNode:
        """From a Node (``v1``). Raises InputError naming the node and the field."""
        name = _mapping(obj, "metadata").get("name")
        if not isinstance(name, str) or not name:
            raise InputError("a Node has no metadata.name")
        try:
            metadata, spec, status = (_mapping(obj, key) for key in ("metadata", "spec", "status"))
            return cls(
                name,
                {key: str(text) for key, text in _mapping(metadata, "labels").items()},
                _taints(spec.get("taints")),
                dict(_amount(key, amount) for key, amount in _mapping(status, "allocatable").items()),
            )
        except InputError as error:
            raise InputError(f'Node "{name}": {error}') from error


def _mapping(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = holder.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputError(f"{key}: expected an object, found {type(found).__name__}")
    return found


def _taints(found: Any) -> tuple[Taint, ...]:
    if not isinstance(found or [], list) or not all(isinstance(taint, dict) for taint in found or ()):
        raise InputError("spec.taints: expected a list of objects")
    return tuple(Taint(*(str(taint.get(key) or "") for key in ("key", "value", "effect"))) for taint in found or ())


def _amount(resource: str, found: Any) -> tuple[str, int]:
    """Huge pages by one name for each size: ``hugepages-1024Mi`` is ``hugepages-1Gi``."""
    try:
        name = hugepages_name(page_size(resource)) if is_hugepages(resource) else resource
        return name, to_whole(resource, from_json(found))
    except InputError as error:
        raise InputError(f"status.allocatable[{resource}]: {error}") from error


# The answer.


class Constraint(Enum):
    """What rules nodes out, in the order in which it is looked at."""

    NODE = "node name"
    SELECTOR = "node selector"
    AFFINITY = "node affinity"
    DEVICES = "extended resources"
    TAINTS = "taints"


@dataclass(frozen=True, slots=True)
class Limit:
    """A constraint that ruled nodes out."""

    constraint: Constraint
    left: int
    """Nodes that this constraint and those before it allow."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The nodes that count for a pod."""

    inventory: Inventory
    """Those that have published a topology."""
    wish: Wish
    total: int
    """All nodes of the cluster."""
    limits: tuple[Limit, ...] = ()
    """Those constraints that ruled nodes out; empty where every node counts."""

    @property
    def allowed(self) -> int:
        """Nodes that count, whether they have published a topology or not."""
        return self.limits[-1].left if self.limits else self.total


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that would hold a pod and does not count for it."""

    node: str
    constraint: Constraint
    taint: Taint | None = None
    """The first one that is not tolerated, where it is taints."""


# The nodes.


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """What was worked out of late."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: K) -> V | None:
        found = self._found.pop(key, None)
        if found is not None:
            self._found[key] = found  # now the last to be forgotten
        return found

    def put(self, key: K, value: V) -> V:
        if len(self._found) >= self._most:
            del self._found[next(iter(self._found))]
        self._found[key] = value
        return value


class Register:
    """Every node as a bit: what labels, names, devices and taints say of all of them."""

    def __init__(self, nodes: tuple[ClusterNode, ...]) -> None:
        self.nodes = nodes
        self.everyone = (1 << len(nodes)) - 1
        self._by_key: dict[str, Mapping[str, int]] = {}
        self._numbers: dict[str, tuple[list[int], list[int]]] = {}

    @cached_property
    def names(self) -> Mapping[str, int]:
        """Name to bit."""
        return {node.name: 1 << place for place, node in enumerate(self.nodes)}

    @cached_property
    def taints(self) -> Mapping[Taint, int]:
        """Every taint that keeps pods off for longer than a while, and the nodes that have it."""
        found = ((taint, place) for place, node in enumerate(self.nodes) for taint in node.taints)
        return _masks((taint, place) for taint, place in found if taint.keeps_off)

    @cached_property
    def devices(self) -> Mapping[str, int]:
        """Every extended resource, and the nodes that have some of it."""
        amounts = ((place, *item) for place, node in enumerate(self.nodes) for item in node.allocatable.items())
        return _masks((name, place) for place, name, amount in amounts if amount and is_device(name))

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset().union(*(node.labels for node in self.nodes))

    def values(self, key: str) -> Mapping[str, int]:
        """Every value of a label, and the nodes that have it."""
        if key not in self._keys:
            return {}
        found = self._by_key.get(key)
        if found is None:
            labels = ((node.labels.get(key), place) for place, node in enumerate(self.nodes))
            found = self._by_key[key] = _masks((text, place) for text, place in labels if text is not None)
        return found

    def having(self, key: str) -> int:
        """The nodes that have a label."""
        return _either(self.values(key).values())

    def beyond(self, key: str, number: int, above: bool) -> int:
        """The nodes whose label is an integer above or below a number."""
        numbers, below = self._ordered(key)
        if above:
            return below[-1] & ~below[bisect_right(numbers, number)]
        return below[bisect_left(numbers, number)]

    def _ordered(self, key: str) -> tuple[list[int], list[int]]:
        """The integers among a label's values in order, and for each the nodes with a smaller one; all of them last."""
        found = self._numbers.get(key)
        if found is None:
            values = ((number_in(text, INTEGER), mask) for text, mask in self.values(key).items())
            pairs = sorted((number, mask) for number, mask in values if number is not None)
            below = [0]
            for _, mask in pairs:
                below.append(below[-1] | mask)
            found = [number for number, _ in pairs], below
            if key in self._keys:
                self._numbers[key] = found
        return found


def _masks(found: Iterable[tuple[K, int]]) -> dict[K, int]:
    masks: dict[K, int] = {}
    for key, place in found:
        masks[key] = masks.get(key, 0) | 1 << place
    return masks


def _either(masks: Iterable[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def meeting(register: Register, requirement: Requirement) -> int:
    """The nodes that meet a requirement on labels (``labels.Requirement.Matches``); none where it is malformed."""
    key, values, everyone = requirement.key, requirement.values, register.everyone
    if not all(map(is_label_value, values)):
        return 0
    match requirement.operator:
        case Operator.IN if values:
            return _either(register.values(key).get(value, 0) for value in values)
        case Operator.NOT_IN if values:
            return everyone & ~_either(register.values(key).get(value, 0) for value in values)
        case Operator.EXISTS if not values:
            return register.having(key)
        case Operator.DOES_NOT_EXIST if not values:
            return everyone & ~register.having(key)
        case Operator.GT | Operator.LT if len(values) == 1:
            number = number_in(values[0], INTEGER)
            above = requirement.operator is Operator.GT
            return 0 if number is None else register.beyond(key, number, above)
    return 0


def named(register: Register, requirement: Requirement) -> int:
    """The nodes that meet a requirement on fields: the name is the only one there is, the others are empty."""
    if len(requirement.values) != 1 or requirement.operator not in (Operator.IN, Operator.NOT_IN):
        return 0
    (value,) = requirement.values
    found = 0 if value else register.everyone
    if requirement.key == NODE_NAME:
        found = register.names.get(value, 0)
    return found if requirement.operator is Operator.IN else register.everyone & ~found


def matching(register: Register, term: Term) -> int:
    """The nodes that one term allows."""
    if not (term.labels or term.fields):
        return 0
    found = register.everyone
    for requirement in term.labels:
        found &= meeting(register, requirement)
    for requirement in term.fields:
        found &= named(register, requirement)
    return found


def _allowed(register: Register, wish: Wish) -> Iterator[tuple[Constraint, int]]:
    """Each constraint that a pod has, and the nodes that it allows."""
    if wish.node:
        yield Constraint.NODE, register.names.get(wish.node, 0)
    if wish.selector:
        selected = register.everyone
        for key, text in wish.selector:
            selected &= register.values(key).get(text, 0)
        yield Constraint.SELECTOR, selected
    if wish.affinity is not None:
        yield Constraint.AFFINITY, _either(matching(register, term) for term in wish.affinity)
    for device in sorted(wish.devices):
        yield Constraint.DEVICES, register.devices.get(device, 0)
    if register.taints:
        refusing = (mask for taint, mask in register.taints.items() if not wish.tolerates(taint))
        yield Constraint.TAINTS, register.everyone & ~_either(refusing)


class Fleet:
    """The nodes of a cluster and what they published. A value, but for what it remembers of its own answers."""

    MOST_CHOICES, MOST_INVENTORIES = 256, 64
    """That are remembered. One of 5,000 nodes takes about 100 KB."""

    LONGEST = 8192
    """Characters of a wish that is remembered; with it the memory stays small, whoever fills it."""

    def __init__(self, known: Sequence[Known], register: Register | None, unusable: tuple[str, ...] = ()) -> None:
        """``register`` is None where nothing is known of Nodes."""
        self._by_name = {each.name: each for each in known}
        self._register = register
        self._choices: _Recent[Wish, Choice] = _Recent(self.MOST_CHOICES)
        self._inventories: _Recent[int, Inventory] = _Recent(self.MOST_INVENTORIES)
        self.everyone = Inventory.holding(known)
        """Every node that has published a topology."""
        self.unusable = unusable
        """What is wrong with topologies that nothing can be placed on, a sentence each. Their nodes count as such that
        have published none: a broken node must not cost the others their verdicts."""

    @classmethod
    def of(
        cls,
        nodes: Iterable[ClusterNode],
        machines: Iterable[Machine],
        before: Fleet | None = None,
        reserved: CpuSet = EMPTY,
        reserved_memory: int = 0,
    ) -> Fleet:
        """From Nodes and the topologies they published; a topology without its Node does not count. What an earlier
        fleet (of the same reservation) knows already is taken over from it, so that a change of one node is cheap."""
        nodes = tuple(nodes)
        published = {machine.name: machine for machine in machines}
        old = before._by_name if before is not None else {}
        met: Structures = {known.structure: known.structure for known in old.values()}
        known: list[Known] = []
        unusable: list[str] = []
        for node in nodes:
            machine, same, allocatable = published.get(node.name), old.get(node.name), _counted(node)
            if machine is None:
                continue
            if same is not None and _is(same, machine, allocatable):
                known.append(same)
                continue
            try:
                known.append(Known.of(machine, reserved, reserved_memory, allocatable, met))
            except InputError as error:
                unusable.append(str(error))
        register = before._register if before is not None else None
        if register is None or register.nodes != nodes:
            register = Register(nodes)
        return cls(known, register, tuple(unusable))

    @classmethod
    def whole(cls, machines: Iterable[Machine], reserved: CpuSet = EMPTY, reserved_memory: int = 0) -> Fleet:
        """Where nothing is known of Nodes: every machine counts for every pod. Raises InputError where a reservation
        cannot be."""
        met: Structures = {}
        return cls([Known.of(machine, reserved, reserved_memory, met=met) for machine in machines], None)

    def inventory_for(self, wish: Wish) -> Inventory:
        """The nodes that count for a pod and have published a topology."""
        return self.choose(wish).inventory

    def choose(self, wish: Wish) -> Choice:
        """The nodes that count for a pod, and what ruled out the others."""
        found = self._choices.get(wish)
        if found is None:
            found = self._chosen(wish)
            if len(repr(wish)) <= self.LONGEST:
                self._choices.put(wish, found)
        return found

    def _chosen(self, wish: Wish) -> Choice:
        register = self._register
        if register is None:
            return Choice(self.everyone, wish, len(self.everyone.known))
        mask, limits = register.everyone, []
        for constraint, allowed in _allowed(register, wish):
            if mask & ~allowed:
                mask &= allowed
                limits.append(Limit(constraint, mask.bit_count()))
            if not mask:
                break
        return Choice(self._inventory(mask), wish, len(register.nodes), tuple(limits))

    def _inventory(self, mask: int) -> Inventory:
        assert self._register is not None
        if mask == self._register.everyone:
            return self.everyone
        found = self._inventories.get(mask)
        if found is None:
            chosen = compress(self._register.nodes, map(int, f"{mask:b}"[::-1]))
            known = (self._by_name.get(node.name) for node in chosen)
            found = self._inventories.put(mask, Inventory.holding(each for each in known if each is not None))
        return found

    def elsewhere(self, choice: Choice, intent: Intent) -> Refusal | None:
        """A node that would hold a pod which none of those holds that count for it."""
        holder = self.everyone.holder(intent) if choice.limits else None
        if holder is None or self._register is None:
            return None
        bit = self._register.names[holder.name]
        constraint = next((c for c, allowed in _allowed(self._register, choice.wish) if not bit & allowed), None)
        if constraint is None:
            return None
        taints = self._register.nodes[bit.bit_length() - 1].taints if constraint is Constraint.TAINTS else ()
        return Refusal(
            holder.name, constraint, next((t for t in taints if t.keeps_off and not choice.wish.tolerates(t)), None)
        )


def _counted(node: ClusterNode) -> Mapping[str, int] | None:
    """What of a node's allocatable amounts a pod is held against; None while it says nothing, which passes."""
    names = (name for name in node.allocatable if name in ("cpu", "memory") or is_device(name) or is_hugepages(name))
    return {name: node.allocatable[name] for name in names} or None


def _is(known: Known, machine: Machine, allocatable: Mapping[str, int] | None) -> bool:
    return known.ledger.layout.machine == machine and known.allocatable == allocatable
