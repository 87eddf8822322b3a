"""Certificates and keys that the webhook keeps in its cluster, at a real API server.

Two replicas with exactly the rights that the chart gives. The mutating configuration calls the one and the validating
the other, both closed: one call that fails is one pod that is refused.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from os import kill
from signal import SIGKILL
from typing import Any

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.namespace import Namespace
from e2e.lab.stream import Seen, Stream
from e2e.lab.trusted import PORTS, Trusted
from e2e.lab.webhook import CASE, ENFORCE
from shared.seal import ANNOTATION, KeyRing, open_
from webhook.certs import Authority, make_authority
from webhook.keys import new_private_pem
from webhook.keys import read as read_key

SINGLE = "single-numa-node"

NAME = "lab-trust"

FLAGS = ("--leaf-life", "30", "--look", "3", "--key-delay", "8", "--certificate-poll", "1")
"""A leaf is renewed every 20 s or less, so that none of what follows happens without one."""

KINDS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")

Manifest = dict[str, Any]


def pod(name: str) -> Manifest:
    """One with a core of its own."""
    amounts = {"cpu": "1", "memory": "64Mi"}
    container = {"name": "app", "image": "localhost/tool:1", "resources": {"requests": amounts, "limits": amounts}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "schedulingGates": [{"name": "lab.armistice.dev/never"}]},
    }


BUSY = 6.0
"""So much longer than on two idle cores everything may take: others may use them too."""


def within(seconds: float, true: Callable[[], bool], what: str) -> float:
    """Wait until it is so, some seconds on idle cores; the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < BUSY * seconds, (
            f"within {BUSY * seconds:g} s it did not come true that {what}"
        )
        time.sleep(0.1)
    took = time.monotonic() - began
    print(f"\n{took:.1f} s until {what}", end="")
    return took


@pytest.fixture(scope="module")
def trusted(plane: ControlPlane) -> Iterator[Trusted]:
    """Configured, and not started."""
    own = Namespace.make(plane)
    trusted = Trusted(plane, NAME, own.name)
    trusted.allow()
    trusted.register()
    yield trusted
    for number in range(len(PORTS)):
        trusted.end(number)
    for kind in KINDS:
        plane.kubectl("delete", kind, trusted.configuration, "--ignore-not-found")
    for kind in ("clusterrole", "clusterrolebinding"):
        plane.kubectl("delete", kind, f"{NAME}-webhook")
    own.drop()


@pytest.fixture
def started(trusted: Trusted, plane: ControlPlane) -> Trusted:
    """Both replicas run and are ready, whatever the scenario before left."""
    trusted.register()
    for number in range(len(PORTS)):
        if plane.run.pid(trusted.process(number)) is None:
            trusted.start(number, *FLAGS)
    trusted.wait_ready(*range(len(PORTS)))
    return trusted


@pytest.fixture
def asked(trusted: Trusted) -> Iterator[Namespace]:
    """A namespace that enforces."""
    namespace = Namespace.make(trusted.plane, {CASE: NAME, ENFORCE: SINGLE})
    yield namespace
    namespace.drop()


def admitted(namespace: Namespace) -> bool:
    """Whether a pod would be."""
    return namespace.create_dry(pod("probe")).returncode == 0


def bundles(trusted: Trusted) -> list[bytes]:
    """Of all webhooks of both configurations."""
    found: list[bytes] = []
    for kind in KINDS:
        configuration = json.loads(trusted.plane.kubectl("get", kind, trusted.configuration, "-o", "json"))
        found += [base64.b64decode(each["clientConfig"].get("caBundle", "")) for each in configuration["webhooks"]]
    return found


def right(trusted: Trusted) -> bool:
    """Whether all of them begin with both authorities. What left lately may linger behind."""
    both = authorities(trusted)
    return all(bundle.startswith(both) for bundle in bundles(trusted))


def stored(trusted: Trusted, kind: str, name: str) -> dict[str, str]:
    """The data of a Secret or ConfigMap."""
    found = json.loads(trusted.plane.kubectl("get", kind, name, "-n", trusted.namespace, "-o", "json"))
    return dict(found["data"])


def authorities(trusted: Trusted) -> bytes:
    """The bundle that the Secret asks for."""
    data = stored(trusted, "secret", f"{NAME}-ca")
    return b"".join(base64.b64decode(data[f"ca-{slot}.crt"]) for slot in (1, 2))


def put(trusted: Trusted, name: str, data: dict[str, bytes]) -> None:
    """What an admin stores in a Secret, instead of what is there."""
    text = {key: base64.b64encode(value).decode() for key, value in data.items()}
    patch = [{"op": "replace", "path": "/data", "value": text}]
    trusted.plane.kubectl("patch", "secret", name, "-n", trusted.namespace, "--type=json", "-p", json.dumps(patch))


def stream(trusted: Trusted, namespace: Namespace) -> Stream:
    at = f"mutatingwebhookconfigurations/{trusted.configuration}"
    return Stream.start(trusted.plane, namespace.name, pod("stream"), PORTS, at)


def unharmed(seen: Seen, pods: int) -> Seen:
    """Nothing failed of so many at least."""
    print(f"\n{seen.pods} pods, {seen.handshakes} handshakes", end="")
    print(f", {seen.certificates} leaves, {seen.bundles} bundles", end="")
    assert seen.failures == []
    assert seen.pods >= pods
    assert seen.handshakes >= pods / 10
    return seen


def reloads(trusted: Trusted) -> list[float]:
    """How many leaves each replica has loaded."""
    series = 'armistice_certificate_reloads_total{result="loaded"}'
    return [trusted.metric(number, series) for number in range(len(PORTS))]


def renewed(trusted: Trusted, before: list[float], times: int = 1) -> None:
    """Each replica has loaded so many leaves more."""
    within(
        60,
        lambda: all(now >= was + times for now, was in zip(reloads(trusted), before, strict=True)),
        f"each replica has a new leaf, {times} times",
    )


# The scenarios, in the order in which an installation lives through them.


def test_from_nothing_to_the_first_admitted_pod(trusted: Trusted, asked: Namespace) -> None:
    """The configurations are there first: until somebody is behind them, a namespace that enforces gets no pods."""
    assert bundles(trusted) == [b"", b""]
    assert not admitted(asked)
    began = time.monotonic()
    for number in range(len(PORTS)):
        trusted.start(number, *FLAGS)
    within(40, lambda: admitted(asked), "a pod is admitted")
    print(f"\n{time.monotonic() - began:.1f} s from the start of the processes to the first pod", end="")
    trusted.wait_ready(*range(len(PORTS)))
    assert bundles(trusted) == [authorities(trusted)] * 2
    assert asked.apply(pod("first")).returncode == 0
    text = asked.get("pod", "first")["metadata"]["annotations"][ANNOTATION]
    ring = KeyRing.from_pem(stored(trusted, "configmap", f"{NAME}-keys")["intent.pub"].encode(), "the ConfigMap")
    assert open_(text, asked.name, "first", ["app"], ring)


def test_two_replicas_have_one_of_everything(started: Trusted) -> None:
    leaders = [started.metric(number, "armistice_leader") for number in range(len(PORTS))]
    assert sorted(leaders) == [0.0, 1.0]
    made = [line for number in range(len(PORTS)) for line in started.log(number).read_text().splitlines()]
    for what in ("authority made", "signing key made"):
        assert len([line for line in made if what in line]) == 1, what


def test_leaves_are_renewed_and_no_call_fails(started: Trusted, asked: Namespace) -> None:
    flow = stream(started, asked)
    before = reloads(started)
    renewed(started, before, times=2)
    seen = unharmed(flow.end(), pods=200)
    assert seen.certificates >= 4


def test_a_bundle_that_somebody_takes_away_is_back_in_seconds(started: Trusted, asked: Namespace) -> None:
    for configuration in started.configurations():
        started.plane.kubectl("replace", "-f", "-", input=json.dumps(configuration))
    within(5, lambda: right(started), "the bundles that kubectl replace took are back")
    wrong = base64.b64encode(make_authority(datetime.now(UTC)).pem).decode()
    patch = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": wrong}]
    started.plane.kubectl("patch", KINDS[1], started.configuration, "--type=json", "-p", json.dumps(patch))
    within(5, lambda: right(started), "a bundle of somebody else is put right")
    within(5, lambda: admitted(asked), "a pod is admitted")


def test_an_authority_that_somebody_takes_away_is_made_anew_and_no_call_fails(
    started: Trusted, asked: Namespace
) -> None:
    flow = stream(started, asked)
    old = stored(started, "secret", f"{NAME}-ca")
    patch = json.dumps([{"op": "remove", "path": f"/data/ca-1.{what}"} for what in ("crt", "key")])
    started.plane.kubectl("patch", "secret", f"{NAME}-ca", "-n", started.namespace, "--type=json", "-p", patch)
    within(15, lambda: "ca-1.crt" in stored(started, "secret", f"{NAME}-ca"), "the slot is filled again")
    before = reloads(started)
    renewed(started, before)
    unharmed(flow.end(), pods=100)
    new = stored(started, "secret", f"{NAME}-ca")
    assert new["ca-2.crt"] == old["ca-2.crt"]
    assert new["ca-1.crt"] != old["ca-1.crt"]


def test_authorities_near_their_end_give_way_one_by_one_and_no_call_fails(started: Trusted, asked: Namespace) -> None:
    """One that retired long ago, beside one in the middle of its life."""
    now = datetime.now(UTC)
    retired, standing = make_authority(now - timedelta(days=300)), make_authority(now - timedelta(days=100))
    flow = stream(started, asked)
    before = reloads(started)
    put(started, f"{NAME}-ca", {**slot(1, retired), **slot(2, standing)})

    def replaced() -> bool:
        data = stored(started, "secret", f"{NAME}-ca")
        return base64.b64decode(data["ca-1.crt"]) != retired.pem

    within(15, replaced, "the one that retired is replaced")
    renewed(started, before)
    unharmed(flow.end(), pods=100)
    assert base64.b64decode(stored(started, "secret", f"{NAME}-ca")["ca-2.crt"]) == standing.pem


def slot(number: int, authority: Authority) -> dict[str, bytes]:
    return {f"ca-{number}.crt": authority.pem, f"ca-{number}.key": authority.key_pem}


def test_a_new_signing_key_is_published_before_it_signs(started: Trusted, asked: Namespace) -> None:
    def signer() -> str:
        done = asked.plane.kubectl_raw(
            "create", "--dry-run=server", "-n", asked.name, "-o", "json", "-f", "-", input=json.dumps(pod("probe"))
        )
        assert done.returncode == 0, done.stderr
        return str(json.loads(json.loads(done.stdout)["metadata"]["annotations"][ANNOTATION])["kid"])

    def believed() -> set[str]:
        text = stored(started, "configmap", f"{NAME}-keys")["intent.pub"]
        return set(KeyRing.from_pem(text.encode(), "the ConfigMap").keys)

    old = signer()
    assert believed() == {old}
    content = new_private_pem()
    new = read_key(content, "a test")[0].id
    put(started, f"{NAME}-signing", {"intent.key": content})
    within(15, lambda: believed() == {old, new}, "both public keys are published")
    assert signer() == old
    took = within(30, lambda: signer() == new, "the new key signs")
    assert took > 5
    within(10, lambda: all(signer() == new for _ in range(5)), "every replica signs with it")
    assert believed() == {old, new}


@pytest.mark.fault("webhook-killed")
def test_a_leader_that_is_killed_is_not_missed(started: Trusted, asked: Namespace) -> None:
    lease = json.loads(started.plane.kubectl("get", "lease", f"{NAME}-webhook", "-n", started.namespace, "-o", "json"))
    names = [started.process(number) for number in range(len(PORTS))]
    leader = names.index(lease["spec"]["holderIdentity"])
    kill(started.plane.run.pid(names[leader]) or 0, SIGKILL)
    started.plane.run.end(names[leader])
    started.plane.kubectl("replace", "-f", "-", input=json.dumps(started.configurations()[0]))
    within(10, lambda: right(started), "the other replica puts the bundle right")
    within(25, lambda: started.metric(1 - leader, "armistice_leader") == 1.0, "the other replica leads")
    started.start(leader, *FLAGS)
    started.wait_ready(leader)
    within(5, lambda: admitted(asked), "a pod is admitted")


def test_with_certificates_from_files_the_key_is_kept_and_no_bundle_is_touched(started: Trusted) -> None:
    """As with cert-manager."""
    for number in range(len(PORTS)):
        started.end(number)
    certificate, key = started.plane.issue("by-hand", dns=("localhost",), ips=("127.0.0.1",))
    started.plane.kubectl("replace", "-f", "-", input=json.dumps(started.configurations()[0]))
    started.start(0, *FLAGS, "--cert", str(certificate), "--key", str(key))
    started.wait_ready(0)
    time.sleep(7)
    assert b"" in bundles(started)
    assert started.metric(0, "armistice_public_keys") >= 1
    started.end(0)


def test_switched_off_it_stays_off(started: Trusted, asked: Namespace) -> None:
    """The emergency command; then a restart, as pods of a Deployment would have it."""
    kinds = ",".join(f"{kind}s" for kind in KINDS)
    started.plane.kubectl("delete", kinds, "-l", f"app.kubernetes.io/name={NAME}")
    within(10, lambda: admitted(asked), "a pod is admitted without being asked about")
    started.end(0)
    started.start(0, *FLAGS)
    started.wait_ready(0, 1)
    time.sleep(6)
    assert started.plane.kubectl("get", kinds, "-o", "name") == ""
    assert "absent: switched off" in started.log(1).read_text()
    assert started.metric(1, 'armistice_webhook_configuration_present{configuration="mutating"}') == 0.0
    started.register()
    within(10, lambda: right(started), "the configurations are trusted when they are back")
    assert asked.apply(pod("again")).returncode == 0
    assert ANNOTATION in asked.get("pod", "again")["metadata"]["annotations"]
