"""The pods that are there already when a namespace's labels become stricter: which of them would break the new policy.

As in Pod Security Admission: the change itself is always allowed, nothing happens to the pods, and whoever makes it is
told whom it would refuse from now on. One pod of each controller comes first, for its others most likely say the same.
The pods are a value that the shell fetched; how far it goes through them, a step a pod, is its affair too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shared.errors import InputError
from webhook.admission import MIRROR, Court, Kind, Phase, class_exempt, find, kind_of, weight_key
from webhook.messages import lead
from webhook.policy import Assigned, Mode, NamespacePolicy
from webhook.printable import printable
from webhook.review import Metadata, PodObject, Request, metadata

MOST_REASONS = 10
"""That are spelled out; all warnings together have to stay below what the API server passes on."""


@dataclass(frozen=True, slots=True)
class Roll:
    """The pods of a namespace, as far as they were read."""

    pods: tuple[PodObject, ...] = ()
    """Those that have not ended."""
    read: int = 0
    """How many were read."""
    total: int = 0
    """How many there are."""
    complaint: str = ""
    """Why they could not be read; empty when they could."""


@dataclass(frozen=True, slots=True)
class Tightening:
    """A change of labels that makes a namespace stricter."""

    namespace: str
    mode: Mode
    """The level that became stricter: what is enforced, or what is warned of."""
    policy: NamespacePolicy
    """The new one."""

    @property
    def level(self) -> str:
        """``enforce=single-numa-node``."""
        level = self.policy.enforce if self.mode is Mode.ENFORCE else self.policy.warn
        return f"{self.mode.value}={level.value}"


def tightening(request: Request, phase: Phase, court: Court) -> Tightening | None:
    """What a review makes stricter; None where it is none of a namespace, or makes nothing stricter."""
    if phase is not Phase.VALIDATE or request.operation != "UPDATE" or kind_of(request) is not Kind.NAMESPACE:
        return None
    try:
        new, old = metadata(request.object), metadata(request.old_object)
    except InputError:
        return None
    after, before = _assigned(new, court), _assigned(old, court)
    if after.exempt:
        return None
    for mode in (Mode.ENFORCE, Mode.WARN):
        if _stricter(mode, after.policy, before.policy):
            return Tightening(new.name or "", mode, after.policy)
    return None


def _assigned(meta: Metadata, court: Court) -> Assigned:
    return court.policies.from_labels(meta.name or "", meta.labels or {})


def _stricter(mode: Mode, after: NamespacePolicy, before: NamespacePolicy) -> bool:
    """Whether a level refuses pods that it did not refuse before. Scope and SMT have no order that holds for every pod:
    any change of them counts."""
    now, then = (p.enforce if mode is Mode.ENFORCE else p.warn for p in (after, before))
    if not now.strictness:
        return False
    shares = (101 if p.max_sidecar_share is None else p.max_sidecar_share for p in (after, before))
    share, old_share = shares
    others = (after.scope, after.smt) != (before.scope, before.smt)
    return now.strictness > then.strictness or share < old_share or others


@dataclass(slots=True)
class Survey:
    """The pods of a namespace held against its new policy, one after the other."""

    change: Tightening
    court: Court
    roll: Roll
    judged: int = 0
    _reasons: dict[bytes, str] = field(default_factory=dict)
    """By what is weighed of a pod; replicas are judged once."""
    _found: dict[str, list[str]] = field(default_factory=dict)
    """Reason to the names of the pods that it holds for."""

    def steps(self) -> Iterator[None]:
        """Judge one pod a step."""
        for pod in _one_of_each_first(self.roll.pods):
            why = self._reason(pod)
            self.judged += 1
            if why:
                self._found.setdefault(why, []).append(pod.metadata.name or "")
            yield

    def _reason(self, pod: PodObject) -> str:
        """Why a pod would break the policy if it were created now, wherever it runs; empty where it would not."""
        # The scheduler wrote the node's name; a pod that is created again may go to another one.
        spec = {key: value for key, value in pod.spec.items() if key != "nodeName"}
        template = {**pod.template, "spec": spec}
        if class_exempt(self.court.rules, spec) or MIRROR in (pod.metadata.annotations or {}):
            return ""
        key = weight_key(template)
        found = self._reasons.get(key)
        if found is None:
            found = self._reasons[key] = self._judged(template)
        return found

    def _judged(self, template: dict[str, object]) -> str:
        try:
            finding = find(template, self.change.policy, self.court.bench, lambda: True)  # no search for a change
        except InputError as error:
            return f"it cannot be weighed: {error}"
        return lead(finding.ruling) if finding.breaks(self.change.mode) else ""

    def warnings(self) -> tuple[str, ...]:
        """What there is to say, as far as it went."""
        return tuple(map(printable, self._warnings()))

    def _warnings(self) -> Iterator[str]:
        change, roll = self.change, self.roll
        where = f"namespace {change.namespace}"
        if roll.complaint:
            yield f"{where}: its pods were not held against its new policy {change.level}: {roll.complaint}"
            return
        checked = roll.read - len(roll.pods) + self.judged
        if checked < roll.total:
            part = f"{checked:,} of {roll.total:,}"
            yield f"{where}: only the first {part} existing pods were held against its new policy"
        groups = sorted((_named(names), why) for why, names in self._found.items())
        if not groups:
            return
        number = sum(map(len, self._found.values()))
        break_it = "existing pod breaks" if number == 1 else "existing pods break"
        yield f"{where}: {number:,} {break_it} its new policy {change.level}; what runs keeps running"
        yield from (f"{who}: {why}" for who, why in groups[:MOST_REASONS])
        more = len(groups) - MOST_REASONS
        if more > 0:
            yield (
                "other pods break it for 1 more reason" if more == 1 else f"other pods break it for {more} more reasons"
            )


def _one_of_each_first(pods: Sequence[PodObject]) -> Iterator[PodObject]:
    """Pods of nobody and the first of each controller, then all others."""
    seen: set[str] = set()
    others: list[PodObject] = []
    for pod in pods:
        owner = next((owner.uid or "" for owner in pod.metadata.owner_references or () if owner.controller), "")
        if owner and owner in seen:
            others.append(pod)
            continue
        seen.add(owner)
        yield pod
    yield from others


def _named(names: Sequence[str]) -> str:
    """``web-1 (and 2 other pods)``, as Pod Security Admission has it."""
    first, *others = sorted(names)
    if not others:
        return first
    return f"{first} (and {len(others):,} other {'pod' if len(others) == 1 else 'pods'})"
