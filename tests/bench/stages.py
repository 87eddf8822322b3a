"""Where a new pod's time goes: each stage of a decision by itself, in this process, without HTTP and TLS.

A stage is timed over all pods at once, with what the stage before it made of them, so that its own code is warm. The
whole decision is timed one pod after the other, as they come; what it takes beyond the stages' sum is the way from one
to the next, and that no stage finds the processor's caches as the pod before left them.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from time import thread_time
from typing import Any

from shared import catalogue
from shared.defaulting import with_defaults
from shared.demand import weigh
from shared.intent import make
from shared.policy import TopologyPolicy
from shared.seal import seal
from tests.bench.admission import MACHINE_TYPES, NODES, as_node
from tests.bench.report import Figure
from tests.bench.reviews import reviews
from webhook import keys
from webhook.admission import Court, Phase, decide, find, weight_key
from webhook.nodes import Fleet
from webhook.patch import annotate
from webhook.pod import parse_pod, parse_wish
from webhook.policy import NamespacePolicy, Uniform
from webhook.review import parse, pod_object, reply
from webhook.verdict import Bench, never

PODS = 2048

LEVEL = TopologyPolicy.SINGLE_NUMA_NODE
POLICY = NamespacePolicy(enforce=LEVEL, warn=LEVEL)
"""As ``armistice webhook`` has it without flags."""


def measure(quick: bool) -> Iterator[Figure]:
    """A row for each stage, then what is between them, then the whole."""
    types = [catalogue.machine(name) for name in MACHINE_TYPES]
    fleet = Fleet.whole([as_node(types[index % len(types)], index) for index in range(NODES[0])])
    bodies = reviews(PODS)
    gc.collect()
    gc.freeze()  # as the webhook does before it serves
    rounds = [_round(fleet, bodies) for _ in range(2 if quick else 9)]
    for stage in rounds[0]:
        yield Figure("stages", stage, "us", tuple(found[stage] for found in rounds))


def _round(fleet: Fleet, bodies: Sequence[bytes]) -> dict[str, float]:
    """Microseconds of processor time for one pod, by stage."""
    found: dict[str, float] = {}

    def stage(name: str, act: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        began = thread_time()
        made = list(map(act, *columns))
        found[name] = 1e6 * (thread_time() - began) / len(made)
        return made

    bench = Bench(fleet)
    requests = stage("read the review", parse, bodies)
    pods = [pod_object(request) for request in requests]
    templates = [pod.template for pod in pods]
    stage("look it up among the findings of late", weight_key, templates)
    weighed = stage("read the pod", lambda template: with_defaults(parse_pod(template)), templates)
    wishes = stage("read what it says about nodes", parse_wish, templates)
    demands = stage("weigh it", weigh, weighed)
    intents = stage("make its intent", lambda demand: make(demand, POLICY.judging), demands)
    stage(
        "find a node that holds it", lambda wish, intent: fleet.choose(wish).inventory.holder(intent), wishes, intents
    )
    findings = stage("whole finding", lambda template: find(template, POLICY, bench, never), templates)
    key, ring = keys.ephemeral()
    spaces, names = [request.namespace for request in requests], [pod.metadata.name or "" for pod in pods]
    texts = stage("whole seal", lambda f, space, name: seal(f.intent, space, name, "x-", key), findings, spaces, names)
    stage("sign", keys.ephemeral()[0].sign, [_SIGNATURE.sub("", text) for text in texts])
    stage("patch", lambda pod, text: annotate(pod.metadata.annotations, {"intent": text}), pods, texts)
    court = Court(Uniform(POLICY), bench, keys.ephemeral()[0], ring)
    decisions = [decide(request, Phase.MUTATE, court, never) for request in requests]
    stage("reply", lambda request, decision: reply(request.uid, decision.answer), requests, decisions)
    court = Court(Uniform(POLICY), bench, keys.ephemeral()[0], ring)
    stage("the whole decision", lambda body: _decided(body, court), bodies)
    return _told(found)


def _decided(body: bytes, court: Court) -> bytes:
    request = parse(body)
    return reply(request.uid, decide(request, Phase.MUTATE, court, never).answer)


_SIGNATURE = re.compile('"sig":"[^"]*",')
"""What a sealed text has more than what is signed."""

OF_A_FINDING = (
    "read the pod",
    "read what it says about nodes",
    "weigh it",
    "make its intent",
    "find a node that holds it",
)


def _told(found: dict[str, float]) -> dict[str, float]:
    """The stages so that they add up to the whole."""
    whole, finding, sealing = (found.pop(name) for name in ("the whole decision", "whole finding", "whole seal"))
    found["judge by the policy"] = finding - sum(found[name] for name in OF_A_FINDING)
    found["write the intent"] = sealing - found["sign"]
    found["between the stages"] = whole - sum(found.values())
    return {**found, "the whole decision": whole}
