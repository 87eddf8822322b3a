"""What is known of the cluster: events go in, policies and a fleet come out.

No client, no clock, no wait: :mod:`webhook.cluster.watching` brings the objects, already cut down to what is needed.
A :class:`Table` holds one resource by key. An object that says the same as before (a node's heartbeat, a topology of
which only the free part moved) is known by its fingerprint and costs no more than that; one that cannot be read is
passed over and said, and takes nobody else with it.

What has been known once stays known until the API server says otherwise: an outage forgets nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from sys import intern
from typing import Any, Generic, TypeVar

from shared.defaulting import LimitRange
from shared.errors import InputError
from shared.noderesourcetopology import from_object
from shared.topology import Machine
from webhook.nodes import ClusterNode
from webhook.pod import limit_range
from webhook.policy import EXEMPT, KNOWN, Assigned, Rules, from_labels

V = TypeVar("V")

Object = Mapping[str, Any]

LabelPairs = tuple[tuple[str, str], ...]
"""A namespace's labels of ours, in the order of their keys."""


class Followed(Enum):
    """What is followed. Namespaces first: without them nothing is judged."""

    NAMESPACES = "namespaces"
    LIMIT_RANGES = "limitranges"
    NODES = "nodes"
    TOPOLOGIES = "noderesourcetopologies"


class Relist(Enum):
    """Why a resource was read as a whole."""

    FIRST = "first"
    RESYNC = "resync"
    """It was time: whatever a watch may have lost is put right."""
    GONE = "gone"
    """410: the API server no longer knows what came after the version we have."""
    LOST = "lost"
    """A watch brought what is no event; nothing is taken for granted after that."""


class Trouble(Enum):
    """What went wrong between us and the API server."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    """An HTTP status that is none of success."""
    BROKEN = "broken"
    """An answer that broke off, fell silent, or is not what it should be."""
    FAULT = "fault"
    """Ours."""


@dataclass(slots=True)
class Pulse:
    """How the following of one resource goes."""

    synced: bool = False
    """Whether it was read as a whole at least once."""
    absent: bool = False
    """Whether the API server does not know the resource: its CRD is not installed."""
    heard: float | None = None
    """When the API server last said anything about it, by the monotonic clock."""
    complaint: str = ""
    """Why it cannot be followed at the moment; empty when it can."""
    wanted: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)
    """Set by whoever misses something of it: a pause after a failure then ends early."""
    relists: Counter[Relist] = field(default_factory=Counter)
    troubles: Counter[Trouble] = field(default_factory=Counter)


class Table(Generic[V]):
    """One resource, by key: ``name``, or ``namespace/name``."""

    def __init__(self, read: Callable[[Object], V], changed: Callable[[str], None] = lambda key: None) -> None:
        """``read`` raises InputError for an object that cannot be read; ``changed`` is told each key that changed."""
        self._read = read
        self._changed = changed
        self._prints: dict[str, int] = {}
        self.known: dict[str, V] = {}
        self.unreadable: dict[str, str] = {}
        """Key to what is wrong with the object."""
        self.version = 0
        """Grows with each change of a value."""

    def put(self, obj: Object, fingerprint: int) -> str:
        """An object that is there. Equal fingerprints mean equal objects. Gives what is new to be said about it."""
        key = key_of(obj)
        if self._prints.get(key) == fingerprint:
            return ""
        self._prints[key] = fingerprint
        try:
            value = self._read(obj)
        except InputError as error:
            self._forget(key)
            self.unreadable[key] = str(error)
            return str(error)
        self.unreadable.pop(key, None)
        if key not in self.known or self.known[key] != value:
            self.known[key] = value
            self._note(key)
        return ""

    def drop(self, key: str) -> None:
        """An object that is gone."""
        self._prints.pop(key, None)
        self.unreadable.pop(key, None)
        self._forget(key)

    def keep(self, keys: set[str]) -> None:
        """A whole listing was put: everything else is gone."""
        for key in self._prints.keys() - keys:
            self.drop(key)

    def _forget(self, key: str) -> None:
        if self.known.pop(key, None) is not None:
            self._note(key)

    def _note(self, key: str) -> None:
        self.version += 1
        self._changed(key)


def key_of(obj: Object) -> str:
    """``name``, or ``namespace/name``; empty for an object without a name, which is none."""
    metadata = obj.get("metadata") or {}
    name, namespace = metadata.get("name") or "", metadata.get("namespace")
    return f"{namespace}/{name}" if namespace else str(name)


# Reading objects.


_LONGEST_TEXT = 64
"""Characters of a label's value that are kept: one more than it may have."""


def our_labels(obj: Object) -> LabelPairs:
    """A namespace's labels that the policy depends on. Of a text that is too long for a label the beginning: it is no
    value of any of them, and whoever sends it must not have it remembered."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    if not isinstance(labels, dict):
        raise InputError(f"metadata.labels: expected an object, found {type(labels).__name__}")
    return tuple(sorted((key, str(labels[key])[:_LONGEST_TEXT]) for key in KNOWN if key in labels))


def node(obj: Object) -> ClusterNode:
    """A node. Label texts are the same on most nodes of a cluster, and kept once."""
    found = ClusterNode.from_object(obj)
    return replace(found, labels={intern(key): intern(text) for key, text in found.labels.items()})


class Topologies:
    """Reads NodeResourceTopology objects. Nodes of one type publish the same but for the name; it is read once."""

    MOST_TYPES = 1024

    def __init__(self) -> None:
        self._types: dict[int, Machine] = {}

    def read(self, obj: Object) -> Machine:
        """The machine that an object describes. Raises InputError."""
        content = hash(repr((obj.get("apiVersion"), obj.get("kind"), obj.get("attributes"), obj.get("zones"))))
        machine = self._types.get(content)
        if machine is not None and key_of(obj):
            return replace(machine, name=key_of(obj))
        machine = from_object(dict(obj))
        if len(self._types) >= self.MOST_TYPES:
            self._types.clear()
        self._types[content] = machine
        return machine


# What comes out.


class View:
    """Everything that is known of one cluster. It is a :class:`webhook.policy.Policies`."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._assigned: dict[str, Assigned] = {}
        self._ranges: dict[str, set[str]] = {}
        self._unknown = Assigned(rules.defaults.under(rules.mode), known=False)
        self._policy = lru_cache(maxsize=1024)(self._read_policy)
        self.namespaces: Table[LabelPairs] = Table(our_labels, self._forget)
        self.limit_ranges: Table[LimitRange] = Table(limit_range, self._index_range)
        self.nodes: Table[ClusterNode] = Table(node, self._nodes_changed)
        self.topologies: Table[Machine] = Table(Topologies().read, self._nodes_changed)
        self.wake: Callable[[], None] = lambda: None
        """Called when there is reason to make a new fleet."""
        self.tables: Mapping[Followed, Table[Any]] = {
            Followed.NAMESPACES: self.namespaces,
            Followed.LIMIT_RANGES: self.limit_ranges,
            Followed.NODES: self.nodes,
            Followed.TOPOLOGIES: self.topologies,
        }
        self.pulses: Mapping[Followed, Pulse] = {followed: Pulse() for followed in Followed}

    # Readiness.

    @property
    def synced(self) -> bool:
        """Whether everything was read at least once."""
        return all(pulse.synced for pulse in self.pulses.values())

    def unready(self) -> str:
        """What is missing, in words; empty when nothing is. An outage later on does not make it unready."""
        missing = {followed.value: pulse.complaint for followed, pulse in self.pulses.items() if not pulse.synced}
        if not missing:
            return ""
        reason = next((f": {complaint}" for complaint in missing.values() if complaint), "")
        return f"the cluster's {', '.join(missing)} are not read yet{reason}"

    # Policies.

    def of(self, namespace: str) -> Assigned:
        """What holds for a namespace, the same object until it changes."""
        return self._assigned.get(namespace) or self._assign(namespace)

    def _assign(self, namespace: str) -> Assigned:
        if namespace in self._rules.exempt:
            return EXEMPT
        labels = self.namespaces.known.get(namespace)
        if labels is None or not self.synced:
            self.pulses[Followed.NAMESPACES].wanted.set()
            return self._unknown
        found = self._policy(labels)
        if keys := self._ranges.get(namespace):
            found = replace(found, ranges=tuple(self.limit_ranges.known[key] for key in sorted(keys)))
        self._assigned[namespace] = found
        return found

    def from_labels(self, namespace: str, labels: Mapping[str, str]) -> Assigned:
        """What would hold for a namespace if it had these labels."""
        if namespace in self._rules.exempt:
            return EXEMPT
        return self._policy(our_labels({"metadata": {"labels": dict(labels)}}))

    def _read_policy(self, labels: LabelPairs) -> Assigned:
        policy, warnings = from_labels(dict(labels), self._rules.defaults)
        return Assigned(policy.under(self._rules.mode), warnings)

    def _index_range(self, key: str) -> None:
        """Keep the LimitRanges of a namespace findable."""
        namespace = key.partition("/")[0]
        keys = self._ranges.setdefault(namespace, set())
        (keys.add if key in self.limit_ranges.known else keys.discard)(key)
        if not keys:
            del self._ranges[namespace]
        self._forget(namespace)

    def _forget(self, namespace: str) -> None:
        self._assigned.pop(namespace, None)

    # Nodes.

    def _nodes_changed(self, _: str) -> None:
        self.wake()

    @property
    def fleet_version(self) -> int:
        """Grows with each change of what a fleet is made from."""
        return self.nodes.version + self.topologies.version

    def nodes_and_machines(self) -> tuple[tuple[ClusterNode, ...], tuple[Machine, ...]]:
        """What a fleet is made from, as it is now: a fleet may be made from it elsewhere meanwhile."""
        return tuple(self.nodes.known.values()), tuple(self.topologies.known.values())
