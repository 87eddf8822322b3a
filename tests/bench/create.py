"""What a webhook adds to ``create pod`` at a real API server: nobody is asked, ours, or what others would run instead.

1. A control plane of the lab; on it our chart with one replica of the webhook, and the two peers, each asked about the
   pods of one namespace and of no other. All of them run all the time, so that each case has the same neighbours.
2. Every case is tried once: what its webhook does to a pod has to be seen in it.
3. ``creations`` creates pods in each namespace by turns, with 1, 8 and 32 clients. By the API server's own count each
   pod was one call of each type that is expected of the case, and none in the namespace without a webhook.

Everything shares the machine's cores: API server, etcd, controllers, webhooks and the clients. What a webhook adds is
therefore its waiting time and what its work takes from all the others.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.installed import Installed, publish
from e2e.lab.load import gated
from e2e.lab.namespace import Namespace
from e2e.lab.state import Run
from e2e.lab.tools import made
from e2e.lab.webhook import CASE, ENFORCE
from shared import catalogue
from shared.noderesourcetopology import to_object
from shared.seal import ANNOTATION
from tests.bench import peer_webhooks
from tests.bench.admission import CLIENTS, MACHINE_TYPES, as_node
from tests.bench.creations import Turn, by_round
from tests.bench.report import Figure

NONE, OURS, POD_SECURITY, ANNOTATOR = "no webhook", "armistice", "pod-security-admission", "resource-annotator"

PORTS = {POD_SECURITY: 8443, ANNOTATOR: 8444}
"""Where the peers listen, in a network namespace of the lab's run."""

KINDS = {"admit": "mutating", "validating": "validating"}
"""What the API server's metrics call a type of webhook."""

MEASURED_BY = "as the API server measures it"

PODS = 200
"""Of each turn."""

LONGEST_SECONDS = 180
"""After so long no further round is begun."""

ASKED_WITHIN = 60.0
"""Seconds until the API server asks whom it has just been told of; measured below 1."""


def measure(quick: bool) -> Iterator[Figure]:
    """Milliseconds of a creation in each case, and how many more than without a webhook."""
    try:
        yield from _measured(quick)
    except LabError as error:
        pytest.skip(str(error))


def _measured(quick: bool) -> Iterator[Figure]:
    for peer in (peer_webhooks.POD_SECURITY, peer_webhooks.ANNOTATOR):
        made(peer)
    run = Run.create(f"bench-{os.getpid()}")
    try:
        plane = ControlPlane.start(run)
        cases = [_nobody(plane), _ours(plane), _pod_security(plane), _annotator(plane)]
        for case in cases:
            case.wait_until_asked()
        lines = _creations(plane, cases, 60 if quick else PODS, 1 if quick else 5)
    finally:
        run.down()
    rounds = list(by_round(lines, len(cases)))
    for clients in CLIENTS:
        who = f"{clients} client{'s' if clients > 1 else ''}"
        yield from figures(who, [case.name for case in cases], [each for each in rounds if each[0].clients == clients])


def figures(who: str, names: Sequence[str], rounds: Sequence[Sequence[Turn]]) -> Iterator[Figure]:
    """Of one number of clients; each round has a turn of each case, of which the first is without a webhook."""
    for share in ("p50", "p99"):
        of_cases = [tuple(getattr(turns[place], share) for turns in rounds) for place in range(len(names))]
        for name, values in zip(names, of_cases, strict=True):
            yield Figure("create", f"{who}: create pod, {name}, {share}", "ms", values)
        for name, values in zip(names[1:], of_cases[1:], strict=True):
            more = tuple(value - base for value, base in zip(values, of_cases[0], strict=True))
            yield Figure("create", f"{who}: added by {name}, {share}", "ms", more)
    for place, name in enumerate(names):
        for kind in sorted(rounds[0][place].calls):
            means = tuple(turns[place].calls[kind] for turns in rounds)
            yield Figure("create", f"{who}: a {KINDS[kind]} call to {name}, mean", "ms", means, note=MEASURED_BY)


# Who is asked.


@dataclass(frozen=True, slots=True)
class Case:
    """A namespace, and what is seen on a pod that was created there."""

    name: str
    space: Namespace
    annotation: str = ""
    """What its webhook writes on pods; none for a webhook that writes nothing."""
    warning: str = ""
    """What its webhook warns of."""
    calls: frozenset[str] = frozenset()
    """Types of the calls for each pod, as in KINDS."""

    def wait_until_asked(self) -> None:
        """Until a pod shows what this case's webhook does, and nothing of what the others do. Raises LabError when the
        time is over."""
        end = time.monotonic() + ASKED_WITHIN
        while complaint := self._complaint():
            if time.monotonic() > end:
                raise LabError(f"the webhook of the case {self.name!r} is not asked: {complaint}")
            time.sleep(0.2)

    def _complaint(self) -> str:
        pod = json.dumps(gated("tried", 0, 0))
        create = ("create", "--dry-run=server", "-o", "json", "-n", self.space.name, "-f", "-")
        done = self.space.plane.kubectl_raw(*create, input=pod)
        if done.returncode:
            return done.stderr.strip()
        written = set(json.loads(done.stdout)["metadata"].get("annotations", {}))
        marks = written & {ANNOTATION, peer_webhooks.ANNOTATION}
        if marks == ({self.annotation} - {""}) and (peer_webhooks.WARNING in done.stderr) == bool(self.warning):
            return ""
        return f"the pod has the annotations {sorted(written)}, and is warned of {done.stderr.strip()!r}"


def _nobody(plane: ControlPlane) -> Case:
    return Case(NONE, Namespace.make(plane))


def _ours(plane: ControlPlane) -> Case:
    """The chart, with one process in the place of its pods; it is asked twice about a pod, as the chart says."""
    installed = Installed.install(plane)
    for number, kind in enumerate(MACHINE_TYPES):
        machine = as_node(catalogue.machine(kind), number)
        publish(plane, to_object(machine), {"cpu": "128", "memory": "256Gi"})
    installed.replicas().start(1)
    return Case(OURS, Namespace.make(plane, {ENFORCE: "single-numa-node"}), ANNOTATION, calls=frozenset(KINDS))


def _pod_security(plane: ControlPlane) -> Case:
    certificate, key = _certificate(plane, POD_SECURITY)
    command = peer_webhooks.pod_security(plane.folder, certificate, key, PORTS[POD_SECURITY], plane.kubeconfig)
    plane.run.spawn(POD_SECURITY, command, peer_webhooks.POD_SECURITY_ENVIRONMENT)
    space = _register(plane, POD_SECURITY, "ValidatingWebhookConfiguration")
    return Case(POD_SECURITY, space, warning=peer_webhooks.WARNING, calls=frozenset({"validating"}))


def _annotator(plane: ControlPlane) -> Case:
    command = peer_webhooks.annotator(*_certificate(plane, ANNOTATOR), PORTS[ANNOTATOR])
    plane.run.spawn(ANNOTATOR, command)
    space = _register(plane, ANNOTATOR, "MutatingWebhookConfiguration")
    return Case(ANNOTATOR, space, peer_webhooks.ANNOTATION, calls=frozenset({"admit"}))


def _certificate(plane: ControlPlane, name: str) -> tuple[Path, Path]:
    return plane.issue(name, dns=("localhost",), ips=("127.0.0.1",))


def _register(plane: ControlPlane, name: str, kind: str) -> Namespace:
    """Have a peer asked about the pods of a new namespace, and fail closed as its own registration does."""
    hook = {
        "name": f"{name}.bench.armistice.dev",
        "clientConfig": {
            "url": f"https://127.0.0.1:{PORTS[name]}/",
            "caBundle": base64.b64encode(plane.ca_pem.read_bytes()).decode(),
        },
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "failurePolicy": "Fail",
        "namespaceSelector": {"matchLabels": {CASE: name}},
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "admissionReviewVersions": ["v1"],
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
    plane.kubectl("create", "-f", "-", input=json.dumps({**head, "webhooks": [hook]}))
    return Namespace.make(plane, {CASE: name})


# The creations.


def _creations(plane: ControlPlane, cases: Sequence[Case], pods: int, rounds: int) -> list[str]:
    """What the process that creates has printed. Raises RuntimeError unless every pod of ours, and no other, has an
    intent, and each case's webhook was called as it should be."""
    certificate, key = plane.issue("bench-creations", ("system:masters",), client=True)
    options: Mapping[str, object] = {
        "server": f"https://127.0.0.1:{plane.port}",
        "ca": plane.ca_pem,
        "cert": certificate,
        "key": key,
        "namespaces": ",".join(case.space.name for case in cases),
        "clients": ",".join(map(str, CLIENTS)),
        "pods": pods,
        "rounds": rounds,
        "seconds": LONGEST_SECONDS,
    }
    argv = [sys.executable, "-m", "tests.bench.creations", *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(plane.inside(argv), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the creation of pods failed: {done.stderr.strip().splitlines()[-1:]}")
    lines = done.stdout.splitlines()
    by_space = {case.space.name: case for case in cases}
    for turn in (Turn(**json.loads(line)) for line in lines):
        case = by_space[turn.namespace]
        if turn.sealed != (pods if case.annotation == ANNOTATION else 0):
            raise RuntimeError(f"{turn.sealed} of {pods} pods in the case {case.name!r} have an intent")
        if turn.calls.keys() != case.calls:
            raise RuntimeError(f"in the case {case.name!r} webhooks were called so: {turn.calls}")
    return lines
