"""What the webhook seals the enforcer believes: admission on one side, the node on the other, between them only the pod
as the API server keeps it."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enforcer import decisions
from enforcer.effects import Enclose
from enforcer.kernel import Enclosure, Level
from enforcer.runtime import Container, Sandbox
from enforcer.state import State
from enforcer.trust import believe
from shared import catalogue
from shared.ledger import Ledger
from shared.policy import TopologyPolicy
from shared.seal import KeyRing, SigningKey
from tests.support.reviews import Json, container, generated, pod, request, sharing
from webhook.admission import Court, Phase, decide
from webhook.nodes import Fleet
from webhook.policy import NamespacePolicy, Uniform
from webhook.verdict import Bench, never

SINGLE = TopologyPolicy.SINGLE_NUMA_NODE
OLD, NEW = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in (1, 2))
BOTH = KeyRing.of([OLD.public, NEW.public])

NODE = catalogue.machine("azure-nd96isr-h100-v5")
"""Two NUMA nodes of 48 CPUs each."""


def admitted(obj: Json, key: SigningKey = NEW) -> Json:
    """The pod as it is stored after mutation."""
    court = Court(Uniform(NamespacePolicy(enforce=SINGLE, warn=SINGLE)), Bench(Fleet.whole([NODE])), key, BOTH)
    answer = decide(request(obj), Phase.MUTATE, court, never).answer
    assert answer.allowed
    found: Json = jsonpatch.apply_patch(obj, json.loads(answer.patch)) if answer.patch else obj
    return found


def started(obj: Json, name: str = "") -> Sandbox:
    """Its sandbox, as a runtime shows it."""
    meta = obj["metadata"]
    return Sandbox("box", "uid", "demo", name or meta["name"], meta.get("annotations", {}), "/kubepods/poduid", 1)


def bound(box: Sandbox, *names: str) -> dict[str, tuple[int, str, bool]]:
    """What every container gets on the same machine: CPUs counted, memory nodes, whether without quota."""
    step = decisions.reserve(State.fresh(Ledger.of(NODE), Level.PARTITION), box, believe(box, BOTH))
    state = step.state
    for effect in step.effects:
        if isinstance(effect, Enclose):
            state = decisions.enclosed(state, effect, Enclosure(effect.level)).state
    given = {}
    for name in names:
        made = decisions.create(state, box, Container(f"id-{name}", box.id, name))
        assert made.refusal == ""
        assert made.reply.adjustment is not None
        state = made.state
        cpus = sum(1 for _ in made.state.pods["uid"].residents[f"id-{name}"].cpus)
        given[name] = (cpus, made.reply.adjustment.mems, made.reply.adjustment.no_quota)
    return given


def test_an_admitted_pod_gets_on_the_node_what_admission_promised() -> None:
    obj = pod(container(cpu="4"), sharing("istio-proxy"), name="web")
    given = bound(started(admitted(obj)), "istio-proxy", "app")
    assert given == {"app": (4, "0", True), "istio-proxy": (1, "0", False)}


def test_a_pod_that_got_its_name_after_admission_is_known() -> None:
    box = started(admitted(generated(container(cpu="4"))), name="web-x7k2p")
    assert bound(box, "app") == {"app": (4, "0", True)}


def test_a_bound_pod_is_bound() -> None:
    box = started(admitted(pod(sharing("web"))))
    assert bound(box, "web") == {"web": (len(NODE.numa_nodes[0].cpus), "0", False)}


@pytest.mark.parametrize("key", [OLD, NEW])
def test_while_keys_change_both_are_believed(key: SigningKey) -> None:
    belief = believe(started(admitted(pod(), key)), BOTH)
    assert (belief.doubt, belief.intent is not None) == ("", True)


def tweaked(obj: Json, change: Any) -> Json:
    change(obj)
    return obj


def replayed(obj: Json) -> None:
    obj["metadata"]["name"] = "another"


def inflated(obj: Json) -> None:
    notes = obj["metadata"]["annotations"]
    for key in notes:
        notes[key] = notes[key].replace('"bubble":2', '"bubble":40').replace('"slice":2', '"slice":40')


@pytest.mark.parametrize("change", [replayed, inflated])
def test_what_admission_did_not_seal_is_doubted(change: Any) -> None:
    belief = believe(started(tweaked(admitted(pod()), change)), BOTH)
    assert (belief.intent, bool(belief.doubt)) == (None, True)
