"""The story of one review: who it is about, what its namespace asks for, whether it keeps that, what is answered.

Values in, a value out; nothing here waits. Pods get a verdict and an intent, workloads a verdict by their template,
resized pods a verdict, namespaces a reading of their labels. Whatever else comes is let through untouched.

A pod is judged in both phases, and rejected in either: mutation is the earliest that somebody can be told, and only
validation sees the sidecars that were injected after us. Nothing is ever patched in the second, and only the second
writes to the audit log, for an entry may not change between the rounds of the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import Enum
from typing import Any, NamedTuple

from shared.defaulting import LimitRange, with_defaults
from shared.demand import PlacementClass
from shared.documents import parse_documents
from shared.errors import InputError, IntentError
from shared.intent import Intent, make
from shared.policy import TopologyPolicy
from shared.seal import ANNOTATION, GENERATED_BASE, PLUGIN, KeyRing, SigningKey, open_, seal
from shared.value import value
from webhook.messages import join, notes, say, whom
from webhook.patch import annotate
from webhook.pod import TEMPLATES, Subject, parse_pod, parse_wish
from webhook.policy import PREFIX, Assigned, Mode, NamespacePolicy, Policies, Rules, strangers
from webhook.review import (
    LONGEST_WARNING,
    Answer,
    Metadata,
    PodObject,
    Raw,
    Request,
    encoded,
    member,
    metadata,
    pod_object,
    pod_template,
)
from webhook.verdict import Bench, Late, Ruling, Verdict, breaks, breaks_unknown, rule

MIRROR = "kubernetes.io/config.mirror"
"""Marks the API server's image of a static pod: nothing that is changed in it reaches the pod."""

REQUIRED_PLUGINS = "required-plugins.noderesource.dev"
"""NRI's default validator refuses a container while a plugin in this list is absent. A longer key
(``.../container.app``) overrides it for one container."""

MOST_ANSWERS = 16
"""Kept with a finding: replicas of a workload have one."""

LONGEST_NAME = 253
"""Characters of a pod's name (RFC 1123 subdomain). The API server has not looked at it yet when it asks us."""


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


Place = tuple[str, str | None, str | None, str, bool]
"""Namespace, name, ``generateName``, key id, and whether there are annotations: all that a new pod's seal depends on,
beside its finding."""


@value
class Finding:
    """A ruling held against the levels of a namespace. It depends on what a pod weighs, not on whose it is."""

    ruling: Ruling
    policy: NamespacePolicy
    broken: tuple[Mode, ...]
    intent: Intent
    """What the node is told: the level that acts may be looser than the strictest, which was judged."""
    silent: bool
    """Whether there is nothing to tell anybody."""
    answers: dict[Place, Answer] = field(default_factory=dict, compare=False)
    """What pods that bring nothing of ours along were answered of late."""

    def breaks(self, mode: Mode) -> bool:
        """Whether this level is broken."""
        return mode in self.broken


class Docket:
    """The findings of late. A workload's pods weigh the same, and come by the hundred."""

    LONGEST = 8192
    """Bytes of a key."""
    WIDEST = 32
    """Containers of a pod whose finding is kept: each adds to the finding and to all of its answers. With both bounds a
    docket stays at 100 MiB, whoever fills it, and far below where pods are ordinary."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._findings: dict[tuple[bytes, int], Finding] = {}

    def __len__(self) -> int:
        return len(self._findings)

    def finding(self, pod: PodObject, policy: NamespacePolicy, bench: Bench, late: Late) -> Finding:
        """The finding on a pod, from those of late or anew. Raises InputError where the pod cannot be read."""
        template = pod.template
        key = weight_key(template), id(policy)  # each finding keeps its policy alive, so that the id stays its own
        known = self._findings.pop(key, None)
        if known is None:
            known = find(template, policy, bench, late)
            too_long = len(key[0]) > self.LONGEST or len(known.ruling.demand.containers) > self.WIDEST
            if too_long or late():  # a search that was broken off may do better next time
                return known
            if len(self._findings) >= self._most:
                del self._findings[next(iter(self._findings))]
        self._findings[key] = known  # now the last to be forgotten
        return known


@value
class Court:
    """What reviews are held against. A value: whoever learns of new nodes or keys makes a new one."""

    policies: Policies
    bench: Bench
    key: SigningKey
    keys: KeyRing
    """Every key whose intents count, our own among them."""
    intent_required: bool = True
    """Whether validation rejects a pod that should have an intent and has none. Off only where no API server stands
    behind the reviews, so that nothing went through mutation before."""
    docket: Docket = field(default_factory=Docket)
    rules: Rules = field(default_factory=Rules)


class Session:
    """The court as it sits: whoever learns something new replaces a part of it."""

    def __init__(self, court: Court) -> None:
        self.court = court

    def learn(self, **parts: Any) -> None:
        """From the next review on it counts. What was found before is forgotten with it."""
        self.court = replace(self.court, docket=Docket(), **parts)


class Decision(NamedTuple):
    """An answer, and what there is to count about it."""

    answer: Answer
    kind: Kind = Kind.OTHER
    verdict: Verdict | None = None
    """None where nothing was judged."""
    broken: tuple[Mode, ...] = ()
    """The levels of the namespace that the object breaks."""


class Case(NamedTuple):
    """One review on its way."""

    request: Request
    phase: Phase
    court: Court
    late: Late
    kind: Kind
    assigned: Assigned
    namespace: str

    @property
    def policy(self) -> NamespacePolicy:
        """Of the namespace."""
        return self.assigned.policy

    @property
    def enforced(self) -> bool:
        """Whether anything is rejected here at all."""
        return self.policy.enforce is not TopologyPolicy.NONE

    def subject(self, meta: Metadata | None) -> Subject:
        """Whom the review is about, as messages call it."""
        name = (meta.name or meta.generate_name) if meta else self.request.name
        return Subject(self.request.kind.kind, self.namespace, name or "")

    def decision(self, answer: Answer, finding: Finding | None = None) -> Decision:
        """The answer with what is counted."""
        if finding is None:
            return Decision(answer, self.kind)
        return Decision(answer, self.kind, finding.ruling.verdict, finding.broken)


ALLOWED = Answer()


def decide(
    request: Request, phase: Phase, court: Court, late: Late, closed: bool = False, existing: tuple[str, ...] = ()
) -> Decision:
    """Answer one review. ``closed`` says that the API server asks about namespaces that enforce only; ``existing`` is
    what there is to say about a namespace's pods (:mod:`webhook.survey`)."""
    kind = kind_of(request)
    if kind is Kind.OTHER:
        return Decision(ALLOWED)
    namespace = request.namespace or "default"
    case = Case(request, phase, court, late, kind, court.policies.of(namespace), namespace)
    if kind is Kind.NAMESPACE:
        return case.decision(_warned(_namespace(case), *existing))
    if case.assigned.exempt:
        return case.decision(_exempt(case, "namespace"))
    if not case.assigned.known:
        return failed(request, court, f"namespace {namespace} is not known here yet; try again in a moment", closed)
    if court.rules.usernames and kind in _PODS and request.user_info.username in court.rules.usernames:
        return case.decision(_exempt(case, "user"))
    try:
        if kind is Kind.POD:
            return _pod(case) if request.operation == "CREATE" else case.decision(_changed_pod(case))
        return _resized(case) if kind is Kind.RESIZE else _workload(case)
    except InputError as error:
        return case.decision(_unreadable(case, error))


_KINDS = {key: Kind(key[1].lower()) for key in TEMPLATES}


def kind_of(request: Request) -> Kind:
    """Which story a review is; OTHER for those that are none of ours."""
    if request.operation not in ("CREATE", "UPDATE"):
        return Kind.OTHER
    group, kind = request.kind.group, request.kind.kind
    if request.sub_resource:
        resized = (group, kind, request.sub_resource) == ("", "Pod", "resize") and request.operation == "UPDATE"
        return Kind.RESIZE if resized else Kind.OTHER
    if (group, kind) == ("", "Namespace"):
        return Kind.NAMESPACE
    return _KINDS.get((group, kind), Kind.OTHER)


_PODS = frozenset({Kind.POD, Kind.RESIZE})


def _exempt(case: Case, dimension: str) -> Answer:
    """What is left alone, and on whose account; the words are Pod Security Admission's."""
    return Answer(audit=_audit(case, {"exempt": dimension}))


def stranger(request: Request, court: Court) -> bool:
    """Whether a review cannot be answered because its namespace is not known, which may be a matter of moments."""
    if court.policies.of(request.namespace or "default").known:
        return False
    return kind_of(request) not in (Kind.OTHER, Kind.NAMESPACE)


def failed(request: Request, court: Court, reason: str, closed: bool = False) -> Decision:
    """The answer where we ourselves could not judge: no rejection, unless the namespace enforces."""
    kind = kind_of(request)
    namespace = request.namespace or "default"
    text = f"{whom(Subject(request.kind.kind, namespace, request.name or ''))} was not judged: {reason}"
    assigned = court.policies.of(namespace)
    enforced = assigned.policy.enforce is not TopologyPolicy.NONE
    # Of a namespace that is not known the API server says by the path whether it enforces.
    enforced |= closed and not assigned.known and court.rules.mode is Mode.ENFORCE
    # What enforces fails closed, everything else open.
    if enforced and kind not in (Kind.OTHER, Kind.NAMESPACE):
        return Decision(Answer(allowed=False, message=text), kind)
    return Decision(Answer(warnings=(text,)), kind)


# Pods.


def _pod(case: Case) -> Decision:
    """A new pod: weighed, judged, and sealed (mutation) or held against its seal (validation)."""
    pod = pod_object(case.request)
    meta = pod.metadata
    if meta.annotations and MIRROR in meta.annotations:
        return case.decision(ALLOWED)
    if not case.policy.asks:
        return case.decision(_not_for_us(case, pod))
    if class_exempt(case.court.rules, pod.spec):
        return case.decision(_exempt(case, "runtimeClass"))
    finding = case.court.docket.finding(pod, case.policy, case.court.bench, case.late)
    if finding.broken and finding.breaks(Mode.ENFORCE):
        return case.decision(_denied(case, say(case.subject(meta), finding.ruling)), finding)
    answer = _told(case, meta, finding)
    if case.phase is Phase.MUTATE:
        answer = _sealed(case, meta, finding, answer)
    elif finding.intent.placement is not PlacementClass.NONE:
        answer = _held_against_seal(case, meta, finding.intent, answer)
    return case.decision(answer, finding)


def class_exempt(rules: Rules, spec: Mapping[str, Any]) -> bool:
    """Whether pods of its runtime class are left alone."""
    name = spec.get("runtimeClassName")
    return isinstance(name, str) and name in rules.runtime_classes


_PASSED_OVER = frozenset({ANNOTATION, REQUIRED_PLUGINS})


def weight_key(template: Mapping[str, Any]) -> bytes:
    """Equal for templates that weigh the same and may run on the same nodes: everything in them that
    :func:`webhook.pod.parse_pod` and :func:`webhook.pod.parse_wish` can see."""
    annotations = template["metadata"]["annotations"] or {}
    if not annotations.keys().isdisjoint(_PASSED_OVER):  # ours, which no weight depends on
        annotations = {key: text for key, text in annotations.items() if key not in _PASSED_OVER}
    return encoded((annotations, template["spec"]))


def find(
    template: Mapping[str, Any], policy: NamespacePolicy, bench: Bench, late: Late, ranges: tuple[LimitRange, ...] = ()
) -> Finding:
    """Weigh and judge a template. Raises InputError where it cannot be read.

    ``ranges`` are for templates: pods have got theirs from the API server before it asks.
    """
    _check_size(template)
    pod = with_defaults(parse_pod(template), ranges)
    ruling = rule(pod, bench, policy.judging, policy.max_sidecar_share, late, parse_wish(template))
    levels = ((Mode.ENFORCE, policy.enforce), (Mode.WARN, policy.warn), (Mode.AUDIT, policy.audit))
    broken = tuple(mode for mode, level in levels if breaks(level, ruling))
    if policy.unknown_breaks and ruling.verdict is Verdict.UNKNOWN and breaks_unknown(policy.enforce):
        broken = (Mode.ENFORCE,)
    same = ruling.intent.placing == policy.placing
    intent = ruling.intent if same else make(ruling.demand, policy.placing)
    silent = not (broken or notes(_NOBODY, ruling) or ruling.verdict is Verdict.UNKNOWN)
    return Finding(ruling, policy, broken, intent, silent)


MOST_CONTAINERS = 500
"""In one pod. No kubelet starts as many, and weighing takes longer with each."""


def _check_size(template: Mapping[str, Any]) -> None:
    spec = template.get("spec")
    lists = [spec.get(key) for key in ("containers", "initContainers")] if isinstance(spec, dict) else []
    count = sum(len(containers) for containers in lists if isinstance(containers, list))
    if count > MOST_CONTAINERS:
        raise InputError(f"spec has {count} containers; at most {MOST_CONTAINERS} are weighed")


_NOBODY = Subject("", "", "")


def _told(case: Case, meta: Metadata, finding: Finding) -> Answer:
    """What an allowed object's author and the audit log read."""
    if finding.silent and not case.assigned.warnings:
        return ALLOWED
    subject = case.subject(meta)
    text = say(subject, finding.ruling)
    warnings: list[str] = []
    if case.policy.warn is not TopologyPolicy.NONE or case.enforced:
        warnings += case.assigned.warnings
        if finding.breaks(Mode.WARN) or finding.ruling.verdict is Verdict.UNKNOWN:
            warnings += pieces(subject, text)
        warnings += notes(subject, finding.ruling)
    found = {"audit-violations": text} if finding.breaks(Mode.AUDIT) else {}
    return Answer(warnings=tuple(warnings), audit=_audit(case, found))


def _audit(case: Case, found: Mapping[str, str]) -> Mapping[str, str]:
    if not found or case.phase is Phase.MUTATE or case.request.dry_run:
        return {}
    return {**found, "enforce-policy": case.policy.enforce.value}


def _denied(case: Case, text: str) -> Answer:
    reason = f"{text}; namespace {case.namespace} enforces {case.policy.enforce.value}"
    return Answer(
        allowed=False, message=reason, warnings=case.assigned.warnings, audit=_audit(case, {"audit-violations": text})
    )


def _unreadable(case: Case, error: InputError) -> Answer:
    """An object that makes no sense. The API server refuses it itself, but that is not ours to rely on."""
    text = f"{whom(case.subject(None))} cannot be weighed: {error}"
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


def _sealed(case: Case, meta: Metadata, finding: Finding, answer: Answer) -> Answer:
    """The answer with the annotations that make the pod what was judged."""
    annotations = meta.annotations
    if not (meta.name or meta.generate_name):
        return answer  # no pod can be without both: the API server says so
    if answer is not ALLOWED or (annotations and any(key.startswith(_OURS) for key in annotations)):
        return _sealed_anew(case, meta, finding, answer)
    place = case.namespace, meta.name, meta.generate_name, case.court.key.id, annotations is None
    known = finding.answers.get(place)
    if known is None:
        known = _sealed_anew(case, meta, finding, answer)
        if len(finding.answers) >= MOST_ANSWERS:
            finding.answers.clear()
        if len(meta.name or meta.generate_name or "") <= LONGEST_NAME:  # of a longer one no pod will come of
            finding.answers[place] = known
    return known


_OURS = (ANNOTATION, REQUIRED_PLUGINS)
"""How annotations begin that an answer may depend on."""


def _sealed_anew(case: Case, meta: Metadata, finding: Finding, answer: Answer) -> Answer:
    annotations = meta.annotations or {}
    none = finding.intent.placement is PlacementClass.NONE
    if none and ANNOTATION not in annotations:
        return answer
    try:
        text = seal(finding.intent, case.namespace, meta.name or "", meta.generate_name or "", case.court.key)
    except IntentError as error:
        return _without_seal(case, meta, answer, error)
    wanted = {ANNOTATION: text}
    if case.enforced and not none:
        wanted.update(_required_plugins(annotations))
    warnings = tuple(_overruled(case, meta, text)) if ANNOTATION in annotations else ()
    return answer._replace(warnings=answer.warnings + warnings, patch=annotate(meta.annotations, wanted))


def _without_seal(case: Case, meta: Metadata, answer: Answer, error: IntentError) -> Answer:
    if case.enforced:
        return _denied(case, f"{whom(case.subject(meta))} cannot be given CPUs of its own: {error}")
    return _warned(answer, f"{whom(case.subject(meta))} stays in the node shared pool: {error}")


def _not_for_us(case: Case, pod: PodObject) -> Answer:
    """A pod of a namespace that asks for nothing is left alone, but for an intent that somebody typed."""
    if case.phase is Phase.VALIDATE or ANNOTATION not in (pod.metadata.annotations or {}):
        return ALLOWED
    finding = case.court.docket.finding(pod, case.policy, case.court.bench, case.late)
    return _sealed(case, pod.metadata, finding, ALLOWED)


def _overruled(case: Case, meta: Metadata, text: str) -> Iterator[str]:
    """A warning where the pod came with an intent that is not ours."""
    found = (meta.annotations or {}).get(ANNOTATION)
    if found is None or found == text:
        return
    try:
        # Ours, but of an earlier round: a sidecar was injected since, or the key was replaced.
        open_(found, case.namespace, _final_name(meta), None, case.court.keys)
    except IntentError as error:
        subject = whom(case.subject(meta))
        yield f"{subject}: its annotation {ANNOTATION} was replaced, only admission writes it; {error}"


def _final_name(meta: Metadata) -> str:
    """The pod's name, or one such as the API server will make."""
    return meta.name or f"{(meta.generate_name or '')[:GENERATED_BASE]}-----"


def _held_against_seal(case: Case, meta: Metadata, intent: Intent, answer: Answer) -> Answer:
    """Whether the pod still is what was sealed: the last look, after every other webhook."""
    text = (meta.annotations or {}).get(ANNOTATION)
    if text is None and not case.court.intent_required:
        return answer
    complaint = _complaint(case, meta, intent, text)
    if not complaint:
        return answer
    return _denied(case, complaint) if case.enforced else _warned(answer, complaint)


def _complaint(case: Case, meta: Metadata, intent: Intent, text: str | None) -> str:
    """What is wrong with a pod's seal, and the way out; empty when nothing is."""
    subject = whom(case.subject(meta))
    if text is None:
        return (
            f"{subject} has no topology intent, so no node would align it; Armistice's mutating webhook was not asked, "
            "or another one took the annotation away"
        )
    try:
        found = open_(text, case.namespace, _final_name(meta), None, case.court.keys)
    except IntentError as error:
        return f"{subject} cannot be aligned: {error}; take the annotation {ANNOTATION} out and apply it again"
    if found == intent:
        return ""
    return (
        f"{subject} was changed after its topology intent was written, {_difference(found, intent)}; "
        "Armistice's mutating webhook has to see the pod last: give it a name that sorts last and reinvocationPolicy "
        "IfNeeded, and no other webhook that changes a pod when it is asked a second time"
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
    return f"{join(other)} asks for something else" if len(other) == 1 else "its containers or its policy differ"


def _warned(answer: Answer, *warnings: str) -> Answer:
    return answer._replace(warnings=answer.warnings + warnings)


_ALONE = json.dumps([PLUGIN])


def _required_plugins(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """The lists of plugins without which the pod's containers do not start, ours in each of them."""
    found, left = {REQUIRED_PLUGINS: _ALONE}, LONGEST_LISTS
    for key, text in annotations.items():
        if key.startswith(REQUIRED_PLUGINS) and key[len(REQUIRED_PLUGINS) :][:1] in ("", "/"):
            left -= len(text)
            found[key] = _with_plugin(text) if left >= 0 else _ALONE
    return found


def _with_plugin(text: str) -> str:
    """A list with our plugin added; one that already has it stays as it is, one that cannot be read is replaced."""
    names = _plugin_names(text)
    return text if PLUGIN in names else json.dumps([*names, PLUGIN])


LONGEST_LISTS = 8192
"""Characters of a pod's lists of plugins that are read, of all of them together: it takes some ten milliseconds."""


def _plugin_names(text: str) -> list[str]:
    """The validator reads YAML, of which JSON is a part."""
    try:
        found = parse_documents(text, REQUIRED_PLUGINS)
    except InputError:
        return []
    names = found[0] if len(found) == 1 else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


# Pods that are there already.


def _changed_pod(case: Case) -> Answer:
    """An intent is written once, with the pod: whoever changes it later has it put back."""
    if case.phase is Phase.VALIDATE:
        return ALLOWED
    meta = metadata(case.request.object)
    annotations = meta.annotations or {}
    old = _old(case).annotations or {}
    if old.get(ANNOTATION) == annotations.get(ANNOTATION) or MIRROR in annotations:
        return ALLOWED
    before = old.get(ANNOTATION)
    if before is None:  # there is nothing to put back, and a patch must not remove: an intent that gives nothing
        nothing = Intent(PlacementClass.NONE, case.policy.placing, ())
        before = seal(nothing, case.namespace, meta.name or "", meta.generate_name or "", case.court.key)
    subject = whom(case.subject(meta))
    warning = f"{subject}: its annotation {ANNOTATION} was put back, it is written once, when the pod is created"
    return Answer(warnings=(warning,), patch=annotate(meta.annotations, {ANNOTATION: before}))


def _old(case: Case) -> Metadata:
    """The metadata before an update; empty where it cannot be read."""
    try:
        return metadata(case.request.old_object)
    except InputError:
        return Metadata()


def _resized(case: Case) -> Decision:
    """New amounts for a running pod. They are judged; metadata does not survive this call, so nothing is sealed."""
    if not case.policy.asks:
        return case.decision(ALLOWED)
    pod = pod_object(case.request)
    meta = pod.metadata
    if class_exempt(case.court.rules, pod.spec):
        return case.decision(_exempt(case, "runtimeClass"))
    finding = case.court.docket.finding(pod, case.policy, case.court.bench, case.late)
    if finding.breaks(Mode.ENFORCE):
        return case.decision(_denied(case, say(case.subject(meta), finding.ruling)), finding)
    answer = _told(case, meta, finding)
    text = (_old(case).annotations or {}).get(ANNOTATION)
    if text is not None:
        answer = _warned(answer, *_stale(case, meta, text, finding.ruling))
    return case.decision(answer, finding)


def _stale(case: Case, meta: Metadata, text: str, ruling: Ruling) -> Iterator[str]:
    try:
        sealed = open_(text, case.namespace, meta.name or "", None, case.court.keys)
    except IntentError:
        return
    now = make(ruling.demand, sealed.placing)
    if (now.bubble, [part.slice for part in now.parts]) != (sealed.bubble, [part.slice for part in sealed.parts]):
        subject = whom(case.subject(meta))
        yield f"{subject}: its exclusive CPUs stay as they were at its start; create it anew to change them"


# Workloads.


def _workload(case: Case) -> Decision:
    """What makes pods, judged by its template: its author is the one who can be told in time."""
    meta = metadata(case.request.object)
    if meta.controlled or not case.policy.asks:
        return case.decision(ALLOWED)
    path = TEMPLATES[case.request.kind.group, case.request.kind.kind]
    written = member(case.request.object, path)
    if case.request.operation == "UPDATE" and _unchanged(case.request.old_object, path, written):
        return case.decision(ALLOWED)
    asked = pod_template(written)
    if asked["spec"] and class_exempt(case.court.rules, asked["spec"]):
        return case.decision(_exempt(case, "runtimeClass"))
    finding = find(asked, case.policy, case.court.bench, case.late, case.assigned.ranges)
    if finding.breaks(Mode.ENFORCE):
        return case.decision(_denied(case, say(case.subject(meta), finding.ruling)), finding)
    return case.decision(_told(case, meta, finding), finding)


def _unchanged(old: Raw, path: Sequence[str], written: Raw) -> bool:
    """Whether the template is what it was: the API server writes both with the same encoder."""
    try:
        return bytes(member(old, path)) == bytes(written)
    except InputError:
        return False


# Namespaces.


def _namespace(case: Case) -> Answer:
    """A namespace whose labels of ours are new: what cannot be read in them is said at once. Never a rejection."""
    try:
        meta = metadata(case.request.object)
    except InputError:
        return ALLOWED
    labels = {key: text for key, text in (meta.labels or {}).items() if key.startswith(PREFIX)}
    if labels.items() <= (_old(case).labels or {}).items():
        return ALLOWED
    name = meta.name or case.request.name or ""
    assigned = case.court.policies.from_labels(name, labels)
    if assigned.exempt:
        return Answer(warnings=(f"namespace {name} is exempt; its {PREFIX} labels have no effect",))
    return Answer(warnings=(*assigned.warnings, *strangers(labels)))
