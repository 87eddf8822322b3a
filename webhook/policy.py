"""What a namespace asks for: its labels, read in the manner of Pod Security Admission.

A label that cannot be read never loosens anything: it counts as the strictest value that makes sense, and a warning
says so until it is put right. Which value that is stands beside each label in :data:`LABELS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from itertools import islice
from typing import Any, Protocol, TypeVar

from shared.defaulting import LimitRange
from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy

PREFIX = "armistice.dev/"

ALWAYS_EXEMPT = "kube-system"
"""Whatever runs here the cluster needs to mend itself; together with Armistice's own namespace it is never touched."""


class Mode(Enum):
    """How far the whole process may go, whatever namespaces ask for."""

    ENFORCE = "enforce"
    WARN = "warn"
    AUDIT = "audit"


@dataclass(frozen=True)
class NamespacePolicy:
    """One namespace's policy. As it stands here it asks for nothing."""

    enforce: TopologyPolicy = TopologyPolicy.NONE
    """What breaks it is rejected."""
    warn: TopologyPolicy = TopologyPolicy.NONE
    """What breaks it is told to whoever applies it."""
    audit: TopologyPolicy = TopologyPolicy.NONE
    """What breaks it goes into the audit log and a metric."""
    max_sidecar_share: int | None = None
    """Per cent of the pod's CPU or memory demand, whichever is larger; None for no limit."""
    scope: Scope = Scope.POD
    isolation: Isolation = Isolation.AUTO
    smt: Smt = Smt.FULL_CORES
    unknown_breaks: bool = False
    """Whether a pod of which nobody can say if it fits, for want of a topology, breaks ``enforce``. The cluster's
    affair; no label says it."""

    @cached_property
    def acting(self) -> TopologyPolicy:
        """The level that the node acts on.

        ``enforce``, where there is one. A namespace that only wants to be warned gets its pods aligned where that is
        possible, and none refused. Auditing watches and changes nothing.
        """
        if self.enforce is not TopologyPolicy.NONE:
            return self.enforce
        return TopologyPolicy.NONE if self.warn is TopologyPolicy.NONE else TopologyPolicy.BEST_EFFORT

    @cached_property
    def placing(self) -> Placing:
        """What the node is told."""
        return Placing(self.acting, self.scope, self.isolation, self.smt)

    @cached_property
    def judging(self) -> Placing:
        """What a verdict is asked for: the strictest of the three levels. Each level is then held against it."""
        return Placing(stricter(self.enforce, stricter(self.warn, self.audit)), self.scope, self.isolation, self.smt)

    @cached_property
    def asks(self) -> bool:
        """Whether there is anything to judge."""
        none = TopologyPolicy.NONE
        return self.enforce is not none or self.warn is not none or self.audit is not none

    def under(self, mode: Mode) -> NamespacePolicy:
        """The policy, as far as the process may go: rejections become warnings, and both become audit entries."""
        if mode is Mode.ENFORCE:
            return self
        warn = stricter(self.enforce, self.warn)
        if mode is Mode.WARN:
            return replace(self, enforce=TopologyPolicy.NONE, warn=warn)
        none = TopologyPolicy.NONE
        return replace(self, enforce=none, warn=none, audit=stricter(warn, self.audit))


def stricter(a: TopologyPolicy, b: TopologyPolicy) -> TopologyPolicy:
    """Of two levels the one that admits less."""
    return a if a.strictness >= b.strictness else b


@dataclass(frozen=True, slots=True)
class Label:
    """One label of :data:`PREFIX`."""

    name: str
    field: str
    """Of :class:`NamespacePolicy`."""
    read: Callable[[str], Any]
    """The value, or None for text that is none."""
    expected: str
    strictest: Any
    """What counts while the text cannot be read."""


_E = TypeVar("_E", bound=Enum)


def _choice(name: str, choices: type[_E], strictest: _E) -> Label:
    """A label whose value is a word of a closed set."""
    words = {choice.value: choice for choice in choices}
    return Label(name, name, words.get, f"one of {', '.join(words)}", strictest)


def read_share(text: str) -> int | None:
    """1 to 100, as decimal digits without sign or leading zero; None for anything else."""
    plain = text.isascii() and text.isdigit() and len(text) <= 3 and not text.startswith("0")
    return int(text) if plain and int(text) <= 100 else None


LABELS: tuple[Label, ...] = (
    _choice("enforce", TopologyPolicy, TopologyPolicy.SINGLE_NUMA_NODE),
    # Pod Security Admission lets a mistyped warn or audit fall to the loosest level. Here it falls to the strictest:
    # the worst that comes of it is a warning too many, and the pod's author learns of the mistake from it.
    _choice("warn", TopologyPolicy, TopologyPolicy.SINGLE_NUMA_NODE),
    _choice("audit", TopologyPolicy, TopologyPolicy.SINGLE_NUMA_NODE),
    # 1: any higher limit might be looser than the one that was meant.
    Label("max-sidecar-share", "max_sidecar_share", read_share, "a number from 1 to 100", 1),
    _choice("scope", Scope, Scope.POD),
    # The default, not a stricter word: "partition" refuses nodes that cannot do it, and "isolated" stops the load
    # balancing that most workloads need. Neither may come from a slip of the finger; "auto" isolates as well as it can.
    _choice("isolation", Isolation, Isolation.AUTO),
    _choice("smt", Smt, Smt.FULL_CORES),
)

KNOWN = {PREFIX + label.name: label for label in LABELS}

MOST_UNKNOWN = 20
"""Labels that do not exist of which a warning speaks; looking for what each may have meant takes time."""


def from_labels(labels: Mapping[str, str], defaults: NamespacePolicy) -> tuple[NamespacePolicy, tuple[str, ...]]:
    """A namespace's policy, and what there is to say about labels that cannot be read."""
    found: dict[str, Any] = {}
    warnings: list[str] = []
    for key, label in KNOWN.items():
        if key in labels:
            value = label.read(labels[key])
            if value is None:
                value = label.strictest
                warnings.append(_mistyped(key, labels[key], label))
            found[label.field] = value
    if "warn" not in found:  # as in Pod Security Admission: whoever is rejected is also told, templates included
        found["warn"] = stricter(found.get("enforce", defaults.enforce), defaults.warn)
    return replace(defaults, **found), tuple(warnings)


def _mistyped(key: str, text: str, label: Label) -> str:
    word = label.strictest.value if isinstance(label.strictest, Enum) else label.strictest
    return f'namespace label {key}: "{text}" is not {label.expected}; until it is put right {word} counts'


def strangers(labels: Mapping[str, str]) -> tuple[str, ...]:
    """A warning for each label with our prefix that does not exist: most likely one that was mistyped. The first
    :data:`MOST_UNKNOWN`."""
    unknown = (key for key in labels if key.startswith(PREFIX) and key not in KNOWN)
    names = [label.name for label in LABELS]
    found = []
    for key in islice(unknown, MOST_UNKNOWN):
        near = difflib.get_close_matches(key.removeprefix(PREFIX), names, n=1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known are {', '.join(names)}"
        found.append(f"namespace label {key} does not exist and has no effect; {hint}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Assigned:
    """What holds for one namespace."""

    policy: NamespacePolicy
    warnings: tuple[str, ...] = ()
    """About its labels."""
    exempt: bool = False
    known: bool = True
    """Whether the namespace is known at all. Where it is not, the policy is the cluster's default, a guess."""
    ranges: tuple[LimitRange, ...] = ()
    """What the API server will fill in where a template says nothing."""


EXEMPT = Assigned(NamespacePolicy(), exempt=True)


@dataclass(frozen=True, slots=True)
class Rules:
    """What an admin settled for the whole cluster."""

    defaults: NamespacePolicy = field(default_factory=NamespacePolicy)
    """Where a namespace's labels say nothing."""
    exempt: frozenset[str] = frozenset({ALWAYS_EXEMPT})
    """Namespaces that are left alone."""
    usernames: frozenset[str] = frozenset()
    """Who makes pods that are left alone. A template's pods are made by a controller, so theirs are judged."""
    runtime_classes: frozenset[str] = frozenset()
    """Pods of these, and templates of such pods, are left alone."""
    mode: Mode = Mode.ENFORCE
    """The most that is done."""


class Policies(Protocol):
    """Where policies come from. It answers from what it already knows: a review waits for nobody."""

    def of(self, namespace: str) -> Assigned:
        """What holds for a namespace; the same object until it changes."""
        ...

    def from_labels(self, namespace: str, labels: Mapping[str, str]) -> Assigned:
        """What would hold for a namespace if it had these labels."""
        ...


@dataclass(frozen=True)
class Uniform:
    """One policy for every namespace but the exempt ones: what there is without a cluster to ask."""

    policy: NamespacePolicy
    exempt: frozenset[str] = frozenset({ALWAYS_EXEMPT})
    mode: Mode = Mode.ENFORCE

    def of(self, namespace: str) -> Assigned:
        """The one policy, or none."""
        return EXEMPT if namespace in self.exempt else self._assigned

    @cached_property
    def _assigned(self) -> Assigned:
        return Assigned(self.policy.under(self.mode))

    def from_labels(self, namespace: str, labels: Mapping[str, str]) -> Assigned:
        """The labels are read, so that their author hears of mistakes."""
        if namespace in self.exempt:
            return EXEMPT
        policy, warnings = from_labels(labels, self.policy)
        return Assigned(policy.under(self.mode), warnings)
