"""Nobody gets cores of their own by typing an annotation: what is not sealed for this very pod is refused, and said.

No webhook is asked about the namespaces here, though one of them carries the label ``enforce``: what is typed stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from e2e.assertions import assert_disjoint
from e2e.lab.namespace import Namespace
from e2e.lab.webhook import ENFORCE, SigningKey
from e2e.scenarios.enforcer.armed import SINGLE, Armed, alone, events, intended, until
from e2e.scenarios.enforcer.bound import exclusive_cpus
from shared import seal
from shared.seal import ANNOTATION

pytestmark = pytest.mark.slow

REFUSED = "TopologyIntentRefused"
"""The event's reason."""

TOLD_WITHIN = 60.0
"""Seconds until the event is there."""

Manifest = dict[str, Any]


def genuine(armed: Armed, pod: str) -> str:
    """An intent that the webhook sealed for a pod of that name in another namespace."""
    return intended(armed.enforced(), alone(pod, 1))[ANNOTATION]


def forged(armed: Armed, space: Namespace, pod: str) -> str:
    """Right in every respect, but sealed with a key that nobody gave the node."""
    folder = armed.topology.parent / "forger"
    folder.mkdir(exist_ok=True)
    return sealed_by(SigningKey.make(folder), armed, space, pod)


def sealed_by(key: SigningKey, armed: Armed, space: Namespace, pod: str) -> str:
    """The intent of a pod of one CPU in a namespace, sealed with a key of choice by the project's own code."""
    text = genuine(armed, pod)
    intent = seal.open_(text, json.loads(text)["ns"], pod, None, armed.key.ring)
    private = load_pem_private_key(key.private.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    return seal.seal(intent, space.name, pod, "", seal.SigningKey(private))


def altered(armed: Armed, space: Namespace, pod: str) -> str:
    """Sealed for this very pod; then somebody typed another number."""
    return sealed_by(armed.key, armed, space, pod).replace('"bubble":1', '"bubble":2')


def replayed(armed: Armed, space: Namespace, pod: str) -> str:
    """Genuine to the last byte, for a pod of the same name in another namespace."""
    return genuine(armed, pod)


def of_another_pod(armed: Armed, space: Namespace, pod: str) -> str:
    """Genuine, of the same namespace, for another pod."""
    return sealed_by(armed.key, armed, space, "the-other-one")


CHEATS: Mapping[str, tuple[Callable[[Armed, Namespace, str], str], str]] = {
    "forged": (forged, "was signed with the key"),
    "altered": (altered, "it was altered afterwards"),
    "replayed": (replayed, "is for a pod in namespace"),
    "of-another-pod": (of_another_pod, 'is for pod "the-other-one"'),
}
"""Way of cheating to the annotation that it makes, and what the event says of it."""


def typed(name: str, annotation: str) -> Manifest:
    """A pod of one CPU with an intent of the user's own."""
    made = alone(name, 1)
    made["metadata"]["annotations"] = {ANNOTATION: annotation}
    return made


def assert_told(space: Namespace, pod: str, why: str) -> None:
    """An event on the pod says why its intent is not believed."""

    def told() -> bool:
        return any(reason == REFUSED and why in text for reason, text in events(space, pod))

    until(told, TOLD_WITHIN, f"no event {REFUSED} on pod {pod} says that its intent {why}")


def test_an_intent_sealed_for_the_pod_is_believed_however_it_came(armed: Armed) -> None:
    """The one that the others differ from, each in one respect."""
    space = armed.namespace()
    armed.cluster.runs(space, typed("honest", sealed_by(armed.key, armed, space, "honest")))
    exclusive_cpus(armed, space, "honest", 1)


def test_cheated_intents_get_no_cores_and_each_is_told_why(armed: Armed) -> None:
    space = armed.namespace()
    for name, (cheat, _) in CHEATS.items():
        assert space.apply(typed(name, cheat(armed, space, name))).returncode == 0
    for name, (_, why) in CHEATS.items():
        assert_told(space, name, why)
        space.wait("--for=condition=Ready", f"pod/{name}")
    every = frozenset(range(armed.cluster.node.shape.cpus))
    assert armed.see().groups[""].cpus == every, "somebody got a partition"
    pools = {name: armed.cluster.see(space, name)[1]["app"].cpus for name in CHEATS}
    assert len(set(pools.values())) == 1, f"they share one pool, and do not: {pools}"


def test_where_the_namespace_enforces_no_container_of_a_cheat_is_created(armed: Armed) -> None:
    space = armed.namespace({ENFORCE: SINGLE})
    assert space.apply(typed("forged", forged(armed, space, "forged"))).returncode == 0
    assert_told(space, "forged", "was signed with the key")
    until(lambda: waiting(space, "forged") == "CreateContainerError", TOLD_WITHIN, "its container was created")


def waiting(space: Namespace, pod: str) -> str:
    """Why the pod's app container does not run."""
    (status,) = space.get("pod", pod)["status"]["containerStatuses"]
    return str(status["state"].get("waiting", {}).get("reason", ""))


def test_a_pod_beside_a_cheat_keeps_its_cores(armed: Armed, enforced: Namespace) -> None:
    armed.cluster.runs(enforced, alone("own", 3))
    before = exclusive_cpus(armed, enforced, "own", 3)
    space = armed.namespace()
    armed.cluster.runs(space, typed("forged", forged(armed, space, "forged")))
    assert exclusive_cpus(armed, enforced, "own", 3) == before
    _, cheat = armed.cluster.see(space, "forged")
    assert_disjoint({"the pod of its own": before, "the cheat": cheat["app"].cpus})
