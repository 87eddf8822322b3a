"""What an admin settles for the whole cluster, as reviews feel it: exemptions, and what is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared import catalogue
from shared.defaulting import LimitRange
from shared.policy import TopologyPolicy
from tests.support.cluster import limit_range, namespace
from tests.support.reviews import Json, container, pod, request, workload
from tests.webhook.test_admission import KEY, KEYS
from webhook.admission import Court, Decision, Kind, Phase, Session, decide, failed, stranger
from webhook.following import View
from webhook.nodes import Fleet
from webhook.pod import limit_range as read_limit_range
from webhook.policy import Assigned, Mode, NamespacePolicy, Rules
from webhook.verdict import Bench, Verdict, never

SINGLE = TopologyPolicy.SINGLE_NUMA_NODE
MACHINES = [catalogue.machine("azure-nd96isr-h100-v5")]
TOO_LARGE = pod(container(cpu="60"))


def court(rules: Rules | None = None, machines: Any = MACHINES, **labels: str) -> Court:
    """One that knows the namespace ``demo``, with these labels; and no other."""
    rules = rules or Rules()
    view = View(rules)
    view.namespaces.put(namespace("demo", **(labels or {"enforce": "single-numa-node"})), 1)
    for pulse in view.pulses.values():
        pulse.synced = True
    return Court(view, Bench(Fleet.whole(machines)), KEY, KEYS, rules=rules)


def ruled(obj: Json, phase: Phase = Phase.VALIDATE, *, closed: bool = False, **more: Any) -> Decision:
    fields = {key: more.pop(key) for key in ("namespace", "userInfo", "operation", "subResource") if key in more}
    return decide(request(obj, **fields), phase, court(**more), never, closed)


# Exemptions.

ROBOT = Rules(usernames=frozenset({"robot"}))
GVISOR = Rules(runtime_classes=frozenset({"gvisor"}))


def of_class(name: str) -> Json:
    made = pod(container(cpu="60"))
    made["spec"]["runtimeClassName"] = name
    return made


EXEMPT = [
    ("a pod of an exempt user", TOO_LARGE, ROBOT, {"userInfo": {"username": "robot"}}, "user"),
    ("a pod of somebody else", TOO_LARGE, ROBOT, {"userInfo": {"username": "robots"}}, ""),
    ("a pod of nobody", TOO_LARGE, ROBOT, {"userInfo": {}}, ""),
    ("a workload of an exempt user, whose pods are a controller's", workload("Deployment", "apps/v1", TOO_LARGE), ROBOT,
     {"userInfo": {"username": "robot"}}, ""),
    ("a pod of an exempt class", of_class("gvisor"), GVISOR, {}, "runtimeClass"),
    ("a pod of another class", of_class("kata"), GVISOR, {}, ""),
    ("a pod without a class", TOO_LARGE, GVISOR, {}, ""),
    ("a workload of an exempt class", workload("Deployment", "apps/v1", of_class("gvisor")), GVISOR, {},
     "runtimeClass"),
    ("a workload of another class", workload("Deployment", "apps/v1", of_class("kata")), GVISOR, {}, ""),
    ("a pod of an exempt class that is resized", of_class("gvisor"), GVISOR,
     {"operation": "UPDATE", "subResource": "resize"}, "runtimeClass"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "obj", "rules", "fields", "dimension"), EXEMPT, ids=[row[0] for row in EXEMPT])
def test_exemptions(what: str, obj: Json, rules: Rules, fields: dict[str, Any], dimension: str) -> None:
    decision = ruled(obj, rules=rules, **fields)
    assert decision.answer.allowed is bool(dimension)
    assert decision.answer.audit.get("exempt", "") == dimension
    assert (decision.verdict is None) is bool(dimension)


def test_an_exempt_pod_gets_no_intent() -> None:
    assert ruled(pod(), Phase.MUTATE, rules=ROBOT, userInfo={"username": "robot"}).answer.patch == b""
    assert ruled(of_class("gvisor"), Phase.MUTATE, rules=GVISOR).answer.patch == b""


# Topologies that nobody published.

REJECT = Rules(NamespacePolicy(unknown_breaks=True))
NO_TOPOLOGY = 'Pod "web": no eligible node has published a topology, so whether it fits one NUMA node is unknown'

UNKNOWN = [
    ("allow, in a namespace that enforces", Rules(), {"enforce": "single-numa-node"}, True),
    ("reject, in a namespace that enforces", REJECT, {"enforce": "single-numa-node"}, False),
    ("reject, in one that enforces restricted", REJECT, {"enforce": "restricted"}, False),
    ("reject, in one that enforces what refuses nothing", REJECT, {"enforce": "best-effort"}, True),
    ("reject, in one that only warns", REJECT, {"warn": "single-numa-node"}, True),
    ("reject, under mode warn", replace(REJECT, mode=Mode.WARN), {"enforce": "single-numa-node"}, True),
]


@pytest.mark.parametrize(("what", "rules", "labels", "allowed"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_an_unknown_topology(what: str, rules: Rules, labels: dict[str, str], allowed: bool) -> None:
    settled: dict[str, Any] = {"rules": rules, "machines": [], **labels}
    decision = ruled(pod(), Phase.MUTATE, **settled)
    assert (decision.answer.allowed, decision.verdict) == (allowed, Verdict.UNKNOWN)
    if allowed:
        assert decision.answer.warnings == (NO_TOPOLOGY,)
    else:
        assert decision.answer.message == f"{NO_TOPOLOGY}; namespace demo enforces {labels['enforce']}"


# Namespaces that are not known.

NOT_JUDGED = 'Pod "web" was not judged: namespace new is not known here yet; try again in a moment'

STRANGERS = [
    ("asked about namespaces that enforce", Rules(), True, False),
    ("asked about any", Rules(), False, True),
    ("asked about any, where the default enforces", Rules(NamespacePolicy(enforce=SINGLE)), False, False),
    ("asked about namespaces that enforce, under mode warn", Rules(mode=Mode.WARN), True, True),
]


@pytest.mark.parametrize(("what", "rules", "closed", "allowed"), STRANGERS, ids=[row[0] for row in STRANGERS])
def test_a_pod_of_a_namespace_that_is_not_known(what: str, rules: Rules, closed: bool, allowed: bool) -> None:
    answer = ruled(pod(), rules=rules, closed=closed, namespace="new").answer
    assert answer.allowed is allowed
    assert (answer.warnings if allowed else (answer.message,)) == (NOT_JUDGED,)


def test_what_is_enforced_in_a_namespace_that_is_known_does_not_depend_on_the_path() -> None:
    assert failed(request(pod()), court(warn="restricted"), "it is a test", closed=True).answer.allowed
    assert not failed(request(pod()), court(enforce="restricted"), "it is a test").answer.allowed


WHO_WAITS = [
    ("a pod of a known namespace", request(pod()), False),
    ("a pod of an unknown one", request(pod(), namespace="new"), True),
    ("a workload of an unknown one", request(workload("Job", "batch/v1", pod()), namespace="new"), True),
    (
        "the namespace itself",
        request({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}, namespace="new"),
        False,
    ),
    ("what is none of ours", request({"apiVersion": "v1", "kind": "Secret"}, namespace="new"), False),
    ("a pod that is deleted", request(pod(), operation="DELETE", namespace="new"), False),
    ("a pod of an exempt namespace", request(pod(), namespace="kube-system"), False),
]


@pytest.mark.parametrize(("what", "asked", "waits"), WHO_WAITS, ids=[row[0] for row in WHO_WAITS])
def test_who_waits_for_its_namespace(what: str, asked: Any, waits: bool) -> None:
    assert stranger(asked, court()) is waits


# LimitRanges.


class Ranged:
    """One namespace, with a LimitRange."""

    def __init__(self, *ranges: LimitRange) -> None:
        self._assigned = Assigned(NamespacePolicy(enforce=SINGLE), ranges=ranges)

    def of(self, namespace: str) -> Assigned:
        return self._assigned

    def from_labels(self, namespace: str, labels: Any) -> Assigned:
        return self._assigned


def test_a_template_gets_what_the_namespace_gives_to_containers_that_say_nothing() -> None:
    silent = pod(container(resources={}))
    ranged = Ranged(read_limit_range(limit_range("demo", "x", cpu="60", memory="1Gi")))
    place = replace(court(), policies=ranged)
    job = decide(request(workload("Job", "batch/v1", silent)), Phase.VALIDATE, place, never)
    assert (job.kind, job.verdict, job.answer.allowed) == (Kind.JOB, Verdict.POD_TOO_LARGE, False)
    # A pod has got it from the API server already.
    assert decide(request(silent), Phase.MUTATE, place, never).verdict is Verdict.FITS


# The court.


def test_what_is_learnt_counts_from_the_next_review_on_and_old_findings_do_not() -> None:
    session = Session(court(machines=[]))
    before = session.court
    assert decide(request(pod()), Phase.MUTATE, before, never).verdict is Verdict.UNKNOWN
    session.learn(bench=Bench(Fleet.whole(MACHINES)))
    assert decide(request(pod()), Phase.MUTATE, session.court, never).verdict is Verdict.FITS
    assert session.court.policies is before.policies
