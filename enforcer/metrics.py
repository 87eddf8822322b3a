"""What the enforcer counts, and Prometheus' text of it (exposition format 0.0.4).

Labels are closed sets, there from the start at zero; no object's name is among them. Counters are counted up where
things happen; gauges are what the state shows at the moment somebody asks.

The format is a page long, so it is written here: a client library would cost an eighth of the memory that the enforcer
may take.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from typing import Any

from enforcer.effects import Reason
from enforcer.kernel import Level
from shared.demand import PlacementClass
from shared.ledger import Ledger
from shared.seal import Refusal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5)
"""Seconds. 2 ms is the aim for our own time; after 1.5 s an event is refused."""

OTHER = "other"
"""The label of a word that no closed set has: counted, but not by name."""


class Call(Enum):
    """What the runtime calls us for."""

    SYNCHRONIZE = "Synchronize"
    RUN_SANDBOX = "RunPodSandbox"
    STOP_SANDBOX = "StopPodSandbox"
    REMOVE_SANDBOX = "RemovePodSandbox"
    CREATE = "CreateContainer"
    START = "StartContainer"
    UPDATE = "UpdateContainer"
    STOP = "StopContainer"
    REMOVE = "RemoveContainer"


class Refused(Enum):
    """Why a container was not let in."""

    NO_ROOM = "no-room"
    NOT_TRUSTED = "not-trusted"
    STATIC_KUBELET = "static-kubelet"
    NOT_CONFINED = "not-confined"
    """At its start it would have run elsewhere than promised."""
    OTHER = OTHER


class Drifted(Enum):
    """What of a pod's cgroups was not as promised."""

    PARTITION = "partition"
    BUBBLE = "bubble"
    CPUS = "cpus"
    MEMS = "mems"
    QUOTA = "quota"
    OTHER = OTHER


@dataclass(frozen=True, slots=True)
class Gauges:
    """The state, counted."""

    pods: Mapping[str, int] = field(default_factory=dict)
    """Placement class to pods."""
    misfits: int = 0
    """Pods that wait for room."""
    bubble_cpus: int = 0
    """CPUs that pods own."""
    free_cpus: Mapping[int, int] = field(default_factory=dict)
    """NUMA node to CPUs of the node shared pool."""
    free_memory: Mapping[int, int] = field(default_factory=dict)
    """NUMA node to bytes; nodes whose memory is not known are left out."""
    level: Level = Level.CPUSET
    """The strongest isolation of this node."""
    static_kubelet: bool = False
    tasks: int = 0
    """Of the event loop."""

    @classmethod
    def of(cls, ledger: Ledger, pods: Mapping[str, int], misfits: int, level: Level, static_kubelet: bool) -> Gauges:
        """What the ledger says, beside what only the state knows."""
        sites, books = ledger.layout.sites, ledger.books
        return cls(
            pods=pods,
            misfits=misfits,
            bubble_cpus=sum(len(placement.bubble) for placement in ledger.placements.values()),
            free_cpus={site.id: (ledger.free & site.cpus).bit_count() for site in sites},
            free_memory={
                site.id: book.memory for site, book in zip(sites, books, strict=True) if book.memory is not None
            },
            level=level,
            static_kubelet=static_kubelet,
        )


@dataclass(frozen=True, slots=True)
class _Series:
    """One line: a name's suffix, labels and a value."""

    labels: tuple[tuple[str, str], ...]
    value: float
    suffix: str = ""


class Metrics:
    """One process's metrics."""

    def __init__(self, version: str = "") -> None:
        self._version = version
        self._drifts: Counter[Drifted] = Counter()
        self._repairs: Counter[bool] = Counter()
        self._refusals: Counter[Refused] = Counter()
        self._events: Counter[Reason] = Counter()
        self._doubts: Counter[str] = Counter()
        self._weaker = 0
        self._slots = {call: [0] * (len(BUCKETS) + 1) for call in Call}
        self._seconds = dict.fromkeys(Call, 0.0)
        self.connected = False
        """Whether the runtime's NRI has us now."""

    def called(self, call: Call, seconds: float) -> None:
        """One event of the runtime, and our own time for it."""
        self._slots[call][bisect_left(BUCKETS, seconds)] += 1
        self._seconds[call] += seconds

    def refused(self, reason: Refused) -> None:
        """A container was not let in."""
        self._refusals[reason] += 1

    def doubted(self, reason: str) -> None:
        """An intent was not believed, for the ``reason`` of its IntentError."""
        self._doubts[reason if reason in _DOUBTS else OTHER] += 1

    def drifted(self, what: Drifted) -> None:
        """A cgroup was not as promised."""
        self._drifts[what] += 1

    def repaired(self, done: bool) -> None:
        """A repair was tried."""
        self._repairs[done] += 1

    def told(self, reason: Reason) -> None:
        """An event about a pod, however many of its kind are then held back."""
        self._events[reason] += 1
        self._weaker += reason is Reason.WEAKER

    def text(self, gauges: Gauges) -> bytes:
        """All of it, the gauges as they are now."""
        return "".join(line for family in (*self._gauges(gauges), *self._counters()) for line in family).encode()

    def _gauges(self, now: Gauges) -> Iterator[Iterator[str]]:
        version = (("version", self._version), ("python", sys.version.split()[0]))
        yield _family("build_info", "gauge", "The enforcer's version.", [_Series(version, 1)])
        yield _plain("nri_connected", "gauge", "Whether the runtime has the enforcer as a plugin.", self.connected)
        yield _by(
            "pods",
            "gauge",
            "Pods the enforcer knows.",
            "class",
            {c.value: now.pods.get(c.value, 0) for c in PlacementClass},
        )
        yield _plain("misfits", "gauge", "Pods that wait for room on this node.", now.misfits)
        yield _plain("bubble_cpus", "gauge", "CPUs that pods own.", now.bubble_cpus)
        yield _by("free_cpus", "gauge", "CPUs of the node shared pool.", "numa_node", now.free_cpus)
        yield _by("free_memory_bytes", "gauge", "Memory that is promised to nobody.", "numa_node", now.free_memory)
        levels = {level.value: level is now.level for level in Level}
        yield _by("isolation_level", "gauge", "1 for the strongest isolation that this node has.", "level", levels)
        yield _plain("kubelet_static", "gauge", "Whether the kubelet pins containers itself.", now.static_kubelet)
        yield _plain("tasks", "gauge", "Tasks of the event loop.", now.tasks)

    def _counters(self) -> Iterator[Iterator[str]]:
        yield _counts("drift_total", "Cgroups found other than promised.", "what", Drifted, self._drifts)
        repairs = {"done": self._repairs[True], "failed": self._repairs[False]}
        yield _by("repairs_total", "counter", "Repairs of cgroups.", "result", repairs)
        yield _counts("refusals_total", "Containers that were not let in.", "reason", Refused, self._refusals)
        yield _counts("events_total", "Events about pods.", "reason", Reason, self._events)
        yield _plain("weaker_total", "counter", "Pods kept by less than was asked for.", self._weaker)
        doubts = {word: self._doubts[word] for word in (*sorted(_DOUBTS), OTHER)}
        yield _by("intents_refused_total", "counter", "Intents that were not believed.", "reason", doubts)
        calls = {call.value: sum(slots) for call, slots in self._slots.items()}
        yield _by("nri_calls_total", "counter", "Events of the runtime.", "event", calls)
        yield _family("nri_call_seconds", "histogram", "Our own time for an event.", self._histogram())

    def _histogram(self) -> Iterator[_Series]:
        for call, slots in self._slots.items():
            event = ("event", call.value)
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], accumulate(slots), strict=True):
                yield _Series((event, ("le", bound)), count, "_bucket")
            yield _Series((event,), self._seconds[call], "_sum")
            yield _Series((event,), sum(slots), "_count")


_DOUBTS = frozenset(refusal.value for refusal in Refusal)


def _plain(name: str, kind: str, about: str, value: float) -> Iterator[str]:
    return _family(name, kind, about, [_Series((), value)])


def _by(name: str, kind: str, about: str, label: str, values: Mapping[str, float] | Mapping[int, int]) -> Iterator[str]:
    return _family(name, kind, about, [_Series(((label, str(word)),), value) for word, value in values.items()])


def _counts(name: str, about: str, label: str, words: type[Enum], counted: Mapping[Any, int]) -> Iterator[str]:
    return _by(name, "counter", about, label, {word.value: counted[word] for word in words})


def _family(name: str, kind: str, about: str, series: Iterable[_Series]) -> Iterator[str]:
    full = f"armistice_enforcer_{name}"
    yield f"# HELP {full} {about}\n# TYPE {full} {kind}\n"
    for each in series:
        labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in each.labels)
        yield (
            f"{full}{each.suffix}{{{labels}}} {_number(each.value)}\n" if labels else f"{full} {_number(each.value)}\n"
        )


def _number(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
