"""Which nodes count for a pod: what it says about nodes, held against the nodes of the cluster as the scheduler would.

The rules are the scheduler's own (``k8s.io/component-helpers``, ``scheduling/corev1``), for what lasts: node name, node
selector, required node affinity, extended resources, taints. What passes does not count: a cordoned or unready node
still says whether a pod could ever fit (:data:`PASSING`). Room that other pods take does not count either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InputError
from shared.inventory import Inventory
from shared.quantity import from_json, to_whole
from shared.topology import Machine


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods off a node that do not tolerate it."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A Node object, as far as pods are assigned by it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool
    """Cordoned."""
    allocatable: Mapping[str, int]
    """Resource to what the scheduler gives to pods in all: millicores of ``cpu``, whole units of anything else."""

    @classmethod
    def from_object(cls, obj: Mapping[str, Any]) -> ClusterNode:
        """From a Node (``v1``). Raises InputError naming the node and the field."""
        metadata, spec, status = (_mapping(obj, key) for key in ("metadata", "spec", "status"))
        name = metadata.get("name")
        if not isinstance(name, str) or not name:
            raise InputError("a Node has no metadata.name")
        try:
            return cls(
                name,
                {key: str(text) for key, text in _mapping(metadata, "labels").items()},
                tuple(_taint(taint) for taint in spec.get("taints") or ()),
                spec.get("unschedulable") is True,
                {key: to_whole(key, from_json(amount)) for key, amount in _mapping(status, "allocatable").items()},
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


def _taint(found: Any) -> Taint:
    if not isinstance(found, dict):
        raise InputError(f"spec.taints: expected an object, found {type(found).__name__}")
    key, value, effect = (str(found.get(name) or "") for name in ("key", "value", "effect"))
    return Taint(key, value, effect)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pod says about nodes."""


class Fleet:
    """The nodes of a cluster and what they published, arranged by what pods may ask of them."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    @classmethod
    def of(cls, nodes: Iterable[ClusterNode], machines: Iterable[Machine], before: Fleet | None = None) -> Fleet:
        """From Nodes and the topologies they published. What did not change since an earlier fleet is taken over from
        it, which makes a change of one node cheap."""
        names = {node.name for node in nodes}
        return cls(Inventory.of(machine for machine in machines if machine.name in names))

    @classmethod
    def whole(cls, machines: Iterable[Machine]) -> Fleet:
        """Where nothing is known of Nodes: every machine counts for every pod."""
        return cls(Inventory.of(machines))

    def inventory_for(self, wish: Wish) -> Inventory:
        """The nodes that count for a pod and have published a topology."""
        return self._inventory
