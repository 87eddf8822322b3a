"""The story of one review: who it is about, what its namespace asks for, whether it keeps that, what is answered.

Values in, a value out; nothing here waits. Pods get a verdict and an intent, workloads a verdict by their template,
resized pods a verdict, namespaces a reading of their labels. Whatever else comes is let through untouched.

A pod is judged in both phases, and rejected in either: mutation is the earliest that somebody can be told, and only
validation sees the sidecars that were injected after us. Nothing is ever patched in the second, and only the second
writes to the audit log, for an entry may not change between the rounds of the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from shared.defaulting import with_defaults
from shared.demand import PlacementClass, weigh
from shared.documents import parse_documents
from shared.errors import InputError, IntentError
from shared.intent import Intent, make
from shared.pod import Pod
from shared.policy import TopologyPolicy
from shared.seal import ANNOTATION, GENERATED_BASE, KeyRing, SigningKey, open_, seal
from webhook.messages import join, notes, say, whom
from webhook.patch import annotate
from webhook.pod import TEMPLATES, Subject, find_template, parse_pod, subject
from webhook.policy import KNOWN, Assigned, Mode, NamespacePolicy, Policies, strangers
from webhook.review import LONGEST_WARNING, Answer, Metadata, Request, metadata
from webhook.verdict import Bench, Late, Ruling, Verdict, breaks, rule

MIRROR = "kubernetes.io/config.mirror"
"""Marks the API server's image of a static pod: nothing that is changed in it reaches the pod."""

REQUIRED_PLUGINS = "required-plugins.noderesource.dev"
"""NRI's default validator refuses a container while a plugin in this list is absent. A longer key
(``.../container.app``) overrides it for one container."""

PLUGIN = "armistice"
"""The enforcer's name among NRI plugins."""


class Phase(Enum):
    """Which of its two calls the API server makes."""

    MUTATE = "mutate"
    VALIDATE = "validate"


class Kind(Enum):
    """What a review is about, as metrics count it."""

    POD = "pod"
    POD_TEMPLATE = "podtemplate"
    REPLICATION_CONTROLLER = "replicationcontroller"
    DEPLOYMENT = "deployment"
    REPLICA_SET = "replicaset"
    STATEFUL_SET = "statefulset"
    DAEMON_SET = "daemonset"
    JOB = "job"
    CRON_JOB = "cronjob"
    RESIZE = "resize"
    NAMESPACE = "namespace"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Court:
    """What reviews are held against. A value: whoever learns of new nodes makes a new one."""

    policies: Policies
    bench: Bench
    key: SigningKey
    keys: KeyRing
    """Every key whose intents count, our own among them."""
    intent_required: bool = True
    """Whether validation rejects a pod that should have an intent and has none. Off only where no API server stands
    behind the reviews, so that nothing went through mutation before."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, and what there is to count about it."""

    answer: Answer
    kind: Kind = Kind.OTHER
    verdict: Verdict | None = None
    """None where nothing was judged."""
    broken: tuple[Mode, ...] = ()
    """The levels of the namespace that the object breaks."""


@dataclass(frozen=True, slots=True)
class Case:
    """One review on its way."""

    request: Request
    phase: Phase
    court: Court
    late: Late
    kind: Kind
    assigned: Assigned
    subject: Subject

    @property
    def policy(self) -> NamespacePolicy:
        """Of the namespace."""
        return self.assigned.policy

    @property
    def enforced(self) -> bool:
        """Whether anything is rejected here at all."""
        return self.policy.enforce is not TopologyPolicy.NONE

    def decision(self, answer: Answer, judged: Judged | None = None) -> Decision:
        """The answer with what is counted."""
        if judged is None:
            return Decision(answer, self.kind)
        return Decision(answer, self.kind, judged.ruling.verdict, judged.broken)


@dataclass(frozen=True, slots=True)
class Judged:
    """A ruling held against the namespace's levels."""

    ruling: Ruling
    broken: tuple[Mode, ...]
    text: str
    """What is wrong; empty when nothing is."""

    def breaks(self, mode: Mode) -> bool:
        """Whether this level is broken."""
        return mode in self.broken


ALLOWED = Answer()


def decide(request: Request, phase: Phase, court: Court, late: Late) -> Decision:
    """Answer one review."""
    kind = kind_of(request)
    if kind is Kind.OTHER:
        return Decision(ALLOWED)
    obj = request.object if isinstance(request.object, dict) else {}
    about = subject(obj, request.namespace or "")
    assigned = court.policies.of(about.namespace)
    case = Case(request, phase, court, late, kind, assigned, about)
    if kind is Kind.NAMESPACE:
        return case.decision(_namespace(case))
    if assigned.exempt:
        return case.decision(Answer(audit=_audit(case, {"exempt": "namespace"})))
    try:
        meta = metadata(obj)
        if kind is Kind.POD:
            return _pod(case, meta) if request.operation == "CREATE" else case.decision(_changed_pod(case, meta))
        return _resized(case, meta) if kind is Kind.RESIZE else _workload(case, meta)
    except InputError as error:
        return case.decision(_unreadable(case, error))


def kind_of(request: Request) -> Kind:
    """Which story a review is; OTHER for those that are none of ours."""
    if request.operation not in ("CREATE", "UPDATE"):
        return Kind.OTHER
    group, kind = request.kind.group, request.kind.kind
    if request.subresource:
        resized = (group, kind, request.subresource) == ("", "Pod", "resize") and request.operation == "UPDATE"
        return Kind.RESIZE if resized else Kind.OTHER
    if (group, kind) == ("", "Namespace"):
        return Kind.NAMESPACE
    return Kind(kind.lower()) if (group, kind) in TEMPLATES else Kind.OTHER


def failed(request: Request, court: Court, reason: str) -> Decision:
    """The answer where we ourselves could not judge: no rejection, unless the namespace enforces."""
    kind = kind_of(request)
    obj = request.object if isinstance(request.object, dict) else {}
    about = subject(obj, request.namespace or "")
    text = f"{whom(about)} was not judged: {reason}"
    assigned = court.policies.of(about.namespace)
    # DESIGN: what enforces fails closed, everything else open.
    if kind in (Kind.OTHER, Kind.NAMESPACE) or assigned.policy.enforce is TopologyPolicy.NONE:
        return Decision(Answer(warnings=(text,)), kind)
    return Decision(Answer(allowed=False, message=text), kind)


# Pods.


def _pod(case: Case, meta: Metadata) -> Decision:
    """A new pod: weighed, judged, and sealed (mutation) or held against its seal (validation)."""
    annotations = meta.annotations or {}
    if MIRROR in annotations:
        return case.decision(ALLOWED)
    if not case.policy.asks:
        return case.decision(_not_for_us(case, meta))
    pod = with_defaults(parse_pod(case.request.object))
    judged = _judge(case, pod)
    if judged.breaks(Mode.ENFORCE):
        return case.decision(_denied(case, judged.text), judged)
    intent = _intent(case, judged.ruling)
    answer = _told(case, judged)
    if case.phase is Phase.MUTATE:
        answer = _sealed(case, meta, intent, answer)
    elif intent.placement is not PlacementClass.NONE:
        answer = _held_against_seal(case, meta, intent, answer)
    return case.decision(answer, judged)


def _judge(case: Case, pod: Pod) -> Judged:
    policy = case.policy
    ruling = rule(pod, case.court.bench, policy.judging, policy.max_sidecar_share, case.late)
    levels = ((Mode.ENFORCE, policy.enforce), (Mode.WARN, policy.warn), (Mode.AUDIT, policy.audit))
    return Judged(ruling, tuple(mode for mode, level in levels if breaks(level, ruling)), say(case.subject, ruling))


def _intent(case: Case, ruling: Ruling) -> Intent:
    """What the node is told: the level that acts may be looser than the strictest, which was judged."""
    placing = case.policy.placing
    return ruling.intent if ruling.intent.placing == placing else make(ruling.demand, placing)


def _told(case: Case, judged: Judged) -> Answer:
    """What an allowed object's author and the audit log read."""
    policy, ruling = case.policy, judged.ruling
    warned = policy.warn is not TopologyPolicy.NONE or case.enforced
    warnings: list[str] = list(case.assigned.warnings) if warned else []
    if judged.text and (judged.breaks(Mode.WARN) or (warned and ruling.verdict is Verdict.UNKNOWN)):
        warnings += pieces(case.subject, judged.text)
    if warned:
        warnings += notes(case.subject, ruling)
    found = {"audit-violations": judged.text} if judged.breaks(Mode.AUDIT) else {}
    return Answer(warnings=tuple(warnings), audit=_audit(case, found))


def _audit(case: Case, found: Mapping[str, str]) -> Mapping[str, str]:
    if case.phase is Phase.MUTATE or case.request.dry_run:
        return {}
    return {**found, "enforce-policy": case.policy.enforce.value} if found else {}


def _denied(case: Case, text: str) -> Answer:
    reason = f"{text}; namespace {case.subject.namespace} enforces {case.policy.enforce.value}"
    return Answer(
        allowed=False, message=reason, warnings=case.assigned.warnings, audit=_audit(case, {"audit-violations": text})
    )


def _unreadable(case: Case, error: InputError) -> Answer:
    """An object that makes no sense. The API server refuses it itself, but that is not ours to rely on."""
    text = f"{whom(case.subject)} cannot be weighed: {error}"
    if case.enforced:
        return Answer(allowed=False, message=text, audit=_audit(case, {"error": text}))
    if not case.policy.asks:
        return ALLOWED
    return Answer(warnings=(text,), audit=_audit(case, {"error": text}))


def pieces(about: Subject, text: str) -> Iterator[str]:
    """A long message as several warnings, parted between its clauses: a single one could lose its end on the way."""
    lead = f"{whom(about)}: "
    piece = ""
    for clause in text.split("; "):
        if piece and len(piece) + len(clause) + 2 > LONGEST_WARNING:
            yield piece
            piece = lead + clause
        else:
            piece = f"{piece}; {clause}" if piece else clause
    yield piece


# The seal.


def _sealed(case: Case, meta: Metadata, intent: Intent, answer: Answer) -> Answer:
    """The answer with the annotations that make the pod what was judged."""
    annotations = meta.annotations or {}
    if not (meta.name or meta.generate_name):
        return answer  # no pod can be without both: the API server says so
    if intent.placement is PlacementClass.NONE and ANNOTATION not in annotations:
        return answer
    try:
        text = seal(intent, case.subject.namespace, meta.name or "", meta.generate_name or "", case.court.key)
    except IntentError as error:
        if case.enforced:
            return _denied(case, f"{whom(case.subject)} cannot be given exclusive CPUs: {error}")
        return _with_warnings(answer, f"{whom(case.subject)} stays in the node shared pool: {error}")
    wanted = {ANNOTATION: text}
    if case.enforced and intent.placement is not PlacementClass.NONE:
        wanted |= _required_plugins(annotations)
    answer = _with_warnings(answer, *_overruled(case, meta, text))
    return replace(answer, patch=annotate(meta.annotations, wanted))


def _not_for_us(case: Case, meta: Metadata) -> Answer:
    """A pod of a namespace that asks for nothing is left alone, but for an intent that somebody typed."""
    if case.phase is Phase.VALIDATE or ANNOTATION not in (meta.annotations or {}):
        return ALLOWED
    demand = weigh(with_defaults(parse_pod(case.request.object)))
    return _sealed(case, meta, make(demand, case.policy.placing), ALLOWED)


def _overruled(case: Case, meta: Metadata, text: str) -> Iterator[str]:
    """A warning where the pod came with an intent that is not ours."""
    found = (meta.annotations or {}).get(ANNOTATION)
    if found is None or found == text:
        return
    try:
        # Ours, but of an earlier round: a sidecar was injected since, or the key was replaced.
        open_(found, case.subject.namespace, _stand_in(meta), None, case.court.keys)
    except IntentError as error:
        yield f"{whom(case.subject)}: its annotation {ANNOTATION} was replaced, only admission writes it; {error}"


def _stand_in(meta: Metadata) -> str:
    """The pod's name, or one as the API server will make it."""
    return meta.name or f"{(meta.generate_name or '')[:GENERATED_BASE]}-----"


def _held_against_seal(case: Case, meta: Metadata, intent: Intent, answer: Answer) -> Answer:
    """Whether the pod still is what was sealed: the last look, after every other webhook."""
    text = (meta.annotations or {}).get(ANNOTATION)
    if text is None and not case.court.intent_required:
        return answer
    complaint = _complaint(case, meta, intent, text)
    if not complaint:
        return answer
    if case.enforced:
        return _denied(case, complaint)
    return _with_warnings(answer, complaint)


def _complaint(case: Case, meta: Metadata, intent: Intent, text: str | None) -> str:
    """What is wrong with a pod's seal, and the way out; empty when nothing is."""
    if text is None:
        return (
            f"{whom(case.subject)} has no topology intent, so no node would align it; Armistice's mutating webhook "
            "was not asked, or another one took the annotation away"
        )
    try:
        found = open_(text, case.subject.namespace, meta.name or _stand_in(meta), None, case.court.keys)
    except IntentError as error:
        return f"{whom(case.subject)} cannot be aligned: {error}; remove the annotation {ANNOTATION} and apply it again"
    if found == intent:
        return ""
    return (
        f"{whom(case.subject)} was changed after its topology intent was written, {_difference(found, intent)}; "
        "give Armistice's mutating webhook reinvocationPolicy IfNeeded and a name that sorts last"
    )


def _difference(sealed: Intent, final: Intent) -> str:
    before, after = ({part.name: part for part in intent.parts} for intent in (sealed, final))
    added = [name for name in after if name not in before]
    if added:
        return f"{join(added)} {'was' if len(added) == 1 else 'were'} added"
    gone = [name for name in before if name not in after]
    if gone:
        return f"{join(gone)} {'was' if len(gone) == 1 else 'were'} taken away"
    other = [name for name in after if after[name] != before[name]]
    return f"{join(other)} asks for something else" if len(other) == 1 else "its containers or policy differ"


def _with_warnings(answer: Answer, *warnings: str) -> Answer:
    return replace(answer, warnings=(*answer.warnings, *warnings)) if warnings else answer


def _required_plugins(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """The lists of plugins without which the pod's containers do not start, ours in each of them."""
    keys = {REQUIRED_PLUGINS, *(key for key in annotations if key.startswith(f"{REQUIRED_PLUGINS}/"))}
    return {key: _with_plugin(annotations.get(key)) for key in sorted(keys)}


def _with_plugin(text: str | None) -> str:
    """A list with our plugin added; one that already has it stays as it is, one that cannot be read is replaced."""
    names = _plugin_names(text)
    if text is not None and names is not None and PLUGIN in names:
        return text
    return json.dumps([*(names or ()), PLUGIN])


def _plugin_names(text: str | None) -> list[str] | None:
    """The validator reads YAML, of which JSON is a part."""
    if not text or len(text) > LONGEST_WARNING * 16:
        return None
    try:
        found = parse_documents(text, REQUIRED_PLUGINS)
    except InputError:
        return None
    names = found[0] if len(found) == 1 else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


# Pods that are there already.


def _changed_pod(case: Case, meta: Metadata) -> Answer:
    """An intent is written once, with the pod: whoever changes it later has it put back."""
    if case.phase is Phase.VALIDATE:
        return ALLOWED
    old, new = _old_annotations(case).get(ANNOTATION), (meta.annotations or {}).get(ANNOTATION)
    if old == new or MIRROR in (meta.annotations or {}):
        return ALLOWED
    if old is None:  # there is nothing to put back, and a patch must not remove: an intent that gives nothing
        nothing = Intent(PlacementClass.NONE, case.policy.placing, ())
        old = seal(nothing, case.subject.namespace, meta.name or "", meta.generate_name or "", case.court.key)
    warning = f"{whom(case.subject)}: its annotation {ANNOTATION} was put back, it is written once, at creation"
    return Answer(warnings=(warning,), patch=annotate(meta.annotations, {ANNOTATION: old}))


def _old_annotations(case: Case) -> Mapping[str, str]:
    try:
        return metadata(case.request.old).annotations or {}
    except InputError:
        return {}


def _resized(case: Case, meta: Metadata) -> Decision:
    """New amounts for a running pod. They are judged; metadata does not survive this call, so nothing is sealed."""
    if not case.policy.asks:
        return case.decision(ALLOWED)
    judged = _judge(case, with_defaults(parse_pod(case.request.object)))
    if judged.breaks(Mode.ENFORCE):
        return case.decision(_denied(case, judged.text), judged)
    answer = _told(case, judged)
    text = _old_annotations(case).get(ANNOTATION)
    if text is not None:
        answer = _with_warnings(answer, *_stale(case, meta, text, judged.ruling))
    return case.decision(answer, judged)


def _stale(case: Case, meta: Metadata, text: str, ruling: Ruling) -> Iterator[str]:
    try:
        sealed = open_(text, case.subject.namespace, meta.name or "", None, case.court.keys)
    except IntentError:
        return
    now = make(ruling.demand, sealed.placing)
    if (now.bubble, [p.slice for p in now.parts]) != (sealed.bubble, [p.slice for p in sealed.parts]):
        yield f"{whom(case.subject)}: its exclusive CPUs stay as they were at its start; create it anew to change them"


# Workloads.


def _workload(case: Case, meta: Metadata) -> Decision:
    """What makes pods, judged by its template: its author is the one who can be told in time."""
    if meta.controlled or not case.policy.asks:
        return case.decision(ALLOWED)
    template = find_template(case.request.object)
    if template is None or (case.request.operation == "UPDATE" and _unchanged(case.request.old, template)):
        return case.decision(ALLOWED)
    judged = _judge(case, with_defaults(parse_pod(template)))
    if judged.breaks(Mode.ENFORCE):
        return case.decision(_denied(case, judged.text), judged)
    return case.decision(_told(case, judged), judged)


def _unchanged(old: Any, template: Mapping[str, Any]) -> bool:
    try:
        return isinstance(old, dict) and find_template(old) == template
    except (InputError, RecursionError):
        return False


# Namespaces.


def _namespace(case: Case) -> Answer:
    """A namespace whose labels of ours are new: what cannot be read in them is said at once. Never a rejection."""
    try:
        meta = metadata(case.request.object)
    except InputError:
        return ALLOWED
    labels = {key: text for key, text in (meta.labels or {}).items() if key in KNOWN or strangers({key: text})}
    if not labels or labels.items() <= _old_labels(case).items():
        return ALLOWED
    name = meta.name or case.request.name or ""
    assigned = case.court.policies.from_labels(name, labels)
    if assigned.exempt:
        return Answer(warnings=(f"namespace {name} is exempt; its armistice.dev labels have no effect",))
    return Answer(warnings=(*assigned.warnings, *strangers(labels)))


def _old_labels(case: Case) -> Mapping[str, str]:
    try:
        return metadata(case.request.old).labels or {}
    except InputError:
        return {}
