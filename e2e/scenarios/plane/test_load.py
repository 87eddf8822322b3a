"""Pods are created without a pause while everything around the webhook changes: none is lost, none refused wrongly.

1. A run without the webhook, for its figures.
2. The chart, and two replicas of the webhook. A steady load of pods in namespaces that enforce, and meanwhile: rolling
   restarts, a rotation of the authority that signed the certificates in use, an outage of the API server.
3. Every pod must be stored with an intent that the published key has signed, and nobody may have been refused.
4. Two shorter loads, while etcd stands still and while a replica is killed: there the API server and the Service owe
   refusals, and what is stored has to be right all the same.

Small by default. The full size takes five minutes, and a machine that has two cores for it::

    ARMISTICE_LAB_PODS=10000 ARMISTICE_LAB_RATE=100 pytest e2e/scenarios/plane/test_load.py
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509

from e2e.faults import by_hand
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE, RELEASE
from e2e.lab.installed import CONFIGURATION, SWITCH_OFF, Installed, publish, withdraw
from e2e.lab.load import Report
from e2e.lab.namespace import Namespace
from e2e.lab.replicas import PORT, Replicas, address
from e2e.lab.webhook import ENFORCE
from e2e.scenarios.plane.test_webhook import SINGLE, pod, published, wait_until
from shared.errors import IntentError
from shared.seal import ANNOTATION, KeyRing, open_

pytestmark = pytest.mark.slow

PODS = int(os.environ.get("ARMISTICE_LAB_PODS", "1000"))
RATE = int(os.environ.get("ARMISTICE_LAB_RATE", "33"))
"""Pods a second."""

FULL = PODS >= 10_000
"""Whether it is the long run: three rolling restarts with the chart's own drain, and 20 s without an API server."""

ROLLS, OUTAGE = (3, 20.0) if FULL else (1, 5.0)
DRAIN = {} if FULL else {"webhook": {"drain": 3}}
COMPARED = PODS if FULL else PODS // 4
"""Pods of the run without the webhook."""

HEAVY, FITS = pod("heavy", "3", "2"), pod("fits", "1", "500m")
"""One breaks the policy on the node that is published, one does not."""

CONNECTIONS = 32
SPACES = 4
CALM = 3.0
"""Seconds of load before, between and after what happens."""

PAUSE = 8.0
"""Seconds that etcd stands still: longer than it gives a write of its own, shorter than the API server waits."""

FEW = 200
"""Pods of a load that goes on for as long as something happens."""

UNLISTED_WITHIN = 6.0
"""Seconds from the first pod that is refused for a dead replica to the last. The keeper asks once a second."""

UNANSWERED = ("failed calling webhook", "has no topology intent")
"""How a pod is refused that only the dead replica was asked about: nobody answers the last question; or nobody answered
the first, which costs nothing by itself, and who answers the last sees that the intent is missing."""

WITHIN = 90.0
"""Seconds that anything may take. The longest is until a certificate of the other authority is in use: replicas look at
the Secret once a minute, or when the configurations change, and an authority has to be trusted for 10 s first."""


@dataclass(slots=True)
class Run:
    """One load."""

    plane: ControlPlane
    name: str
    folder: Path
    spaces: list[Namespace]

    @classmethod
    def start(cls, plane: ControlPlane, name: str, folder: Path, pods: int) -> Run:
        """Begin; it goes on until ``end``. A replica that was cut off hears of namespaces half a minute later at most:
        that is waited for, and so are the first pods."""
        spaces = [Namespace.make(plane, {ENFORCE: SINGLE}) for _ in range(SPACES)]
        wait(
            lambda: all(space.create_dry(FITS).returncode == 0 for space in spaces * 2), "not all namespaces are known"
        )
        run = cls(plane, name, folder, spaces)
        certificate, key = plane.issue(f"load-{name}", ("system:masters",), client=True)
        options = {
            "server": f"https://127.0.0.1:{plane.port}",
            "ca": plane.ca_pem,
            "cert": certificate,
            "key": key,
            "namespaces": ",".join(space.name for space in spaces),
            "report": run.report,
            "until": run.told,
            "pods": pods,
            "rate": RATE,
            "connections": CONNECTIONS,
        }
        argv = [sys.executable, "-m", "e2e.lab.load", *(f"--{option}={value}" for option, value in options.items())]
        plane.run.spawn(f"load-{name}", argv)
        wait(lambda: all(space.list("pods") for space in spaces), "the load does not begin")
        return run

    @property
    def report(self) -> Path:
        """Where it writes what became of every pod."""
        return self.folder / f"{self.name}.json"

    @property
    def told(self) -> Path:
        """Whose presence lets it end."""
        return self.folder / f"{self.name}.told"

    def end(self, look: Callable[[], None] = lambda: None) -> Report:
        """Let it end, and wait for that; ``look`` is called before its pods are taken away."""
        self.told.touch()
        end = time.monotonic() + 60 + 3 * PODS / RATE
        while not self.report.exists():
            said = self.plane.run.ended(f"load-{self.name}")
            assert not said or self.report.exists(), f"the load {said}"
            assert time.monotonic() < end, "the load does not end"
            time.sleep(0.2)
        self.plane.run.end(f"load-{self.name}")
        look()
        for space in self.spaces:
            space.drop()
        return Report.read(self.report)


@pytest.fixture(scope="module")
def compared(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The same load on the same machine without the webhook."""
    run = Run.start(plane, "without", tmp_path_factory.mktemp("load"), COMPARED)
    report = run.end()
    plane.wait_settled()
    return report


@pytest.fixture(scope="module")
def replicas(plane: ControlPlane, compared: Report) -> Iterator[tuple[Installed, Replicas]]:
    """The chart with two replicas, which know a node and are asked."""
    installed = Installed.install(plane, DRAIN)
    found = installed.replicas()
    try:
        publish(plane, published(), {"cpu": "8", "memory": "4Gi"})
        found.start(2)
        wait_until_asked(plane)
        yield installed, found
    finally:
        found.stop()
        withdraw(plane, published()["metadata"]["name"])
        installed.uninstall()
        plane.wait_settled()


def wait_until_asked(plane: ControlPlane) -> None:
    """Until a pod that breaks the policy is refused."""
    probe = Namespace.make(plane, {ENFORCE: SINGLE})
    wait_until(lambda: "denied the request" in probe.create_dry(HEAVY).stderr)
    probe.drop()


@pytest.mark.fault("api-server-killed")
def test_no_admission_is_lost_or_wrongly_refused(
    plane: ControlPlane,
    compared: Report,
    replicas: tuple[Installed, Replicas],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    installed, processes = replicas
    run = Run.start(plane, "with", tmp_path, PODS)
    for happens in (*[processes.roll] * (ROLLS - 1), lambda: rotate(installed, processes), processes.roll):
        time.sleep(CALM)
        happens()
    time.sleep(CALM)
    plane.outage(OUTAGE)
    time.sleep(CALM)
    report = run.end()

    record_property("pods_with_webhook", report.figures())
    record_property("pods_without_webhook", compared.figures())
    assert len(report.made) >= PODS
    assert report.refused == ()
    assert len(report.away) >= 1, "the API server was never away"
    assert unsealed(answered(report), ring(installed)) == []


@by_hand
@pytest.mark.fault("etcd-paused")
def test_while_etcd_stands_still_nothing_is_stored_unsealed_and_afterwards_all_is_as_before(
    plane: ControlPlane,
    replicas: tuple[Installed, Replicas],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    installed, processes = replicas
    before, stored = processes.pids(), list[Stored]()
    later = Namespace.make(plane)
    run = Run.start(plane, "paused", tmp_path, FEW)
    time.sleep(CALM)
    with plane.paused("etcd"):
        time.sleep(PAUSE)
    time.sleep(CALM)
    report = run.end(lambda: stored.extend(stored_by(run)))

    record_property("pods_while_etcd_stood_still", report.figures())
    assert longest_gap(report) >= PAUSE - 1, "pods were stored all the while: etcd was not away"
    # The API server may well refuse some, for etcd did not answer in time; it must not be in our name.
    assert [failure for failure in report.refused if "armistice" in failure.text] == []
    assert unsealed([*stored, *answered(report)], ring(installed)) == []
    assert len(stored) + len(report.made) >= FEW
    plane.kubectl("label", "namespace", later.name, f"{ENFORCE}={SINGLE}")
    wait_until(lambda: all("sidecars too heavy" in later.create_dry(HEAVY).stderr for _ in range(4)))
    later.drop()
    assert processes.pids() == before, "a replica was restarted"


@pytest.mark.fault("webhook-killed")
def test_a_replica_that_is_killed_costs_refusals_for_seconds_and_nothing_is_stored_unsealed(
    plane: ControlPlane,
    replicas: tuple[Installed, Replicas],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    installed, processes = replicas
    stored = list[Stored]()
    run = Run.start(plane, "killed", tmp_path, FEW)
    time.sleep(CALM)
    processes.kill(processes.numbers[0])
    processes.wait_listed()
    time.sleep(UNLISTED_WITHIN)
    processes.add()
    time.sleep(CALM)
    report = run.end(lambda: stored.extend(stored_by(run)))

    moments = [failure.at for failure in report.refused]
    record_property("pods_while_a_replica_was_killed", report.figures())
    assert [failure for failure in report.refused if not any(text in failure.text for text in UNANSWERED)] == []
    assert not moments or max(moments) - min(moments) <= UNLISTED_WITHIN, moments
    assert max(made.at for made in report.made) > UNLISTED_WITHIN + max(moments, default=0.0), "it did not go on"
    assert unsealed([*stored, *answered(report)], ring(installed)) == []
    assert len(report.made) >= FEW


def test_switched_off_by_the_emergency_command_it_stays_off_with_replicas_that_run_and_with_new_ones(
    plane: ControlPlane, replicas: tuple[Installed, Replicas]
) -> None:
    installed, processes = replicas
    plane.kubectl(*SWITCH_OFF)
    processes.retire(processes.numbers[0])
    processes.add()
    time.sleep(CALM)
    assert installed.configurations() == []
    space = Namespace.make(plane, {ENFORCE: SINGLE})
    assert space.apply(HEAVY).stderr == ""
    space.drop()
    installed.upgrade(DRAIN)
    wait_until_asked(plane)


def ring(installed: Installed) -> KeyRing:
    """The public keys that nodes believe."""
    text = installed.get("configmap", f"{RELEASE}-keys")["data"]["intent.pub"]
    return KeyRing.from_pem(text.encode(), "the published keys")


@dataclass(frozen=True, slots=True)
class Stored:
    """A pod as the API server has it."""

    namespace: str
    name: str
    intent: str
    """Empty where it has none."""


def stored_by(run: Run) -> list[Stored]:
    """Every pod of the load that is there now, however its creation was answered."""
    return [
        Stored(space.name, found["metadata"]["name"], found["metadata"].get("annotations", {}).get(ANNOTATION, ""))
        for space in run.spaces
        for found in space.list("pods")
    ]


def answered(report: Report) -> list[Stored]:
    """The pods that were answered with what was stored; some of them are deleted by now."""
    return [Stored(made.namespace, made.name, made.intent) for made in report.made]


def unsealed(pods: Iterable[Stored], keys: KeyRing) -> list[str]:
    """Those without an intent that a node would believe."""
    found = []
    for each in pods:
        try:
            open_(each.intent, each.namespace, each.name, ["app", "side"], keys)
        except IntentError as error:
            found.append(f"{each.namespace}/{each.name}: {error}")
    return found


def longest_gap(report: Report) -> float:
    """The longest time, in seconds, without a pod that was stored."""
    moments = sorted(made.at for made in report.made)
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


# The rotation.


def rotate(installed: Installed, processes: Replicas) -> None:
    """Take away the authority that signed what the replicas show, as whoever fears for its key would; returns when all
    of them show a certificate of another one, and a new one is in its place."""
    plane, name = installed.plane, f"{RELEASE}-ca"
    before = {issuer(plane, number) for number in processes.numbers}
    data = {field: base64.b64decode(text) for field, text in installed.get("secret", name)["data"].items()}
    slots = [field for field, text in data.items() if field.endswith(".crt") and subject(text) in before]
    assert slots, f"none of the authorities in the Secret signed what is in use: {before}"
    (slot,) = slots
    gone = [{"op": "remove", "path": f"/data/{field}"} for field in (slot, slot.replace(".crt", ".key"))]
    plane.kubectl("patch", "secret", name, "-n", NAMESPACE, "--type=json", "-p", json.dumps(gone))
    touch(plane)
    wait(lambda: not before & {issuer(plane, number) for number in processes.numbers}, "the old one is still in use")
    wait(lambda: slot in installed.get("secret", name)["data"], "no new authority is in the place of the old")


def touch(plane: ControlPlane) -> None:
    """Replicas look at once when a configuration changes."""
    words = ("annotate", "--overwrite", f"lab.armistice.dev/touched={time.time()}")
    plane.kubectl(words[0], "validatingwebhookconfiguration", CONFIGURATION, *words[1:])


def subject(pem: bytes) -> str:
    """Whom a certificate names."""
    return x509.load_pem_x509_certificate(pem).subject.rfc4514_string()


def issuer(plane: ControlPlane, number: int) -> str:
    """Who signed the certificate that a replica shows."""
    ask = f"import ssl; print(ssl.get_server_certificate(('{address(number)}', {PORT})))"
    done = subprocess.run(plane.inside([sys.executable, "-c", ask]), capture_output=True, check=True)
    return x509.load_pem_x509_certificate(done.stdout).issuer.rfc4514_string()


def wait(happened: Callable[[], bool], complaint: str) -> None:
    """Until it is so, or the test fails."""
    end = time.monotonic() + WITHIN
    while not happened():
        assert time.monotonic() < end, complaint
        time.sleep(0.5)
