"""A node that the enforcer runs on, with the webhook that writes the intents: all of Armistice, on a real kernel."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.lab import armistice
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import Enforcer
from e2e.lab.errors import LabError
from e2e.lab.kubelet import Containerd, KubeletVariant, Runtime
from e2e.lab.namespace import Namespace
from e2e.lab.shapes import Shape
from e2e.lab.webhook import CASE, ENFORCE, Mode, Registration, SigningKey, Webhook
from e2e.lab.workload import HOLD, container, pod, sidecar
from e2e.observe import Sight, look
from e2e.scenarios.nodes.conftest import Cluster, ready_node
from shared.seal import ANNOTATION

SINGLE = "single-numa-node"

ASKED_WITHIN = 30.0
"""Seconds until the API server acts on a new registration; measured below 1."""

GONE_WITHIN = 120.0
"""Seconds until deleted pods have left the node and their CPUs are everybody's again."""

STRAY = "lab-stray"
"""A daemon of the host that was told to run on every CPU before the enforcer came."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Armed:
    """A cluster with one node that binds."""

    cluster: Cluster
    enforcer: Enforcer
    key: SigningKey
    """Signs the intents that the node believes."""
    topology: Path
    """What the node has published, as the webhook reads it."""
    used: list[Namespace] = field(default_factory=list)
    """Namespaces whose pods may still be on the node."""

    @property
    def plane(self) -> ControlPlane:
        """The control plane."""
        return self.cluster.plane

    def namespace(self, labels: Mapping[str, str] | None = None) -> Namespace:
        """A fresh one. Without labels nobody is asked about its pods."""
        self.used.append(Namespace.make(self.plane, labels))
        return self.used[-1]

    def enforced(self, case: str = "auto") -> Namespace:
        """A fresh one whose pods get intents from the webhook of a case."""
        return self.namespace({CASE: case, ENFORCE: SINGLE})

    @contextmanager
    def judged(self, case: str, *flags: str) -> Iterator[None]:
        """A webhook with these flags for the namespaces of a case."""
        name = f"webhook-{case}-{secrets.token_hex(2)}"  # its address is read from its log, which no other may have
        process = Webhook.start(self.plane, name, self.topology, self.key, Mode.ENFORCE, "--drain", "0", *flags)
        registration = Registration(self.plane, case, process.url, process.url)
        registration.apply()
        try:
            probe = Namespace.make(self.plane, {CASE: case, ENFORCE: SINGLE})
            until(lambda: ANNOTATION in intended(probe, bubble("probe", 1)), ASKED_WITHIN, "the webhook is not asked")
            probe.drop()
            yield
        finally:
            registration.delete()
            process.stop()

    def see(self) -> Sight:
        """What the kernel of the node enforces now."""
        return look(self.cluster.node)

    def clear(self) -> None:
        """Delete every pod of the scenario, and hold the node to giving all of their CPUs back to everybody."""
        print(self.enforcer.log(lines=40))  # shown where the scenario has failed
        spaces, self.used[:] = tuple(self.used), []
        for namespace in spaces:
            self.plane.kubectl("delete", "deployments,pods", "--all", "-n", namespace.name, "--wait=false")
        until(lambda: not any(space.list("pods") for space in spaces), GONE_WITHIN, "pods are not deleted")
        every = frozenset(range(self.cluster.node.shape.cpus))
        until(lambda: self.see().groups[""].cpus == every, GONE_WITHIN, "CPUs of deleted pods are not free again")
        for namespace in spaces:
            namespace.drop()


def until(found: Callable[[], object], seconds: float, complaint: str, every: float = 0.5) -> None:
    """Look again until it is so; fails with the complaint, and with the last error where looking failed."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found():
                return
            why = ""
        except (AssertionError, KeyError, LabError) as error:
            why = f": {error}"
        assert time.monotonic() < end, f"{complaint} after {seconds:.0f} s{why}"
        time.sleep(every)


def bubble(name: str, cpus: int, more: str = "500m") -> Manifest:
    """An app with CPUs of its own, a native sidecar, an init container. All of them hold memory."""
    where = "grep Cpus_allowed_list /proc/self/status; echo holding"
    first = container("init", where, {"cpu": "100m", "memory": "8Mi"})
    side = sidecar("side", HOLD, {"cpu": more, "memory": "32Mi"})
    app = container("app", HOLD, {"cpu": str(cpus), "memory": "64Mi"})
    return pod(name, app, initContainers=[first, side])


def alone(name: str, cpus: int, script: str = HOLD, memory: str = "64Mi") -> Manifest:
    """A pod of one container with CPUs of its own."""
    return pod(name, container("app", script, {"cpu": str(cpus), "memory": memory}))


def intended(namespace: Namespace, asked: Manifest) -> Mapping[str, str]:
    """The annotations that admission would give a pod there; the pod is not made."""
    flags = ("--dry-run=server", "-n", namespace.name, "-o", "json", "-f", "-")
    made = json.loads(namespace.plane.kubectl("create", *flags, input=json.dumps(asked)))
    return dict(made["metadata"].get("annotations", {}))


def events(namespace: Namespace, pod: str) -> list[tuple[str, str]]:
    """Reason and text of what a pod was told."""
    return [
        (event.get("reason", ""), event.get("message", ""))
        for event in namespace.list("events")
        if event["involvedObject"]["name"] == pod
    ]


def told(space: Namespace, name: str) -> str:
    """All events of a pod, as one text."""
    return " ".join(text for _, text in events(space, name))


@contextmanager
def armed_node(
    plane: ControlPlane,
    folder: Path,
    shape: Shape,
    containerd: Containerd = Containerd.DEBIAN,
    variant: KubeletVariant = KubeletVariant.NONE,
    runtime: Runtime = Runtime.CRUN,
) -> Iterator[Armed]:
    """A Ready node that binds, with a daemon of the host that was told to run everywhere."""
    images = (armistice.image("enforcer", plane.run.progress),)
    with ready_node(plane, shape, variant, containerd=containerd, images=images, runtime=runtime) as node:
        every = f"0-{shape.cpus - 1}"
        node.sh(f"systemd-run -q --unit={STRAY} taskset -c {every} sh -c 'while :; do sleep 0.2; done'")
        with armistice_on(Cluster(plane, node), folder) as found:
            yield found


@contextmanager
def armistice_on(cluster: Cluster, folder: Path) -> Iterator[Armed]:
    """A Ready node that has the enforcer's image: its enforcer is ready, and a webhook (case ``auto``) knows what the
    node published. Afterwards it is without them again."""
    plane, node = cluster.plane, cluster.node
    key = SigningKey.make(folder)
    enforcer = Enforcer.install(plane, node, key)
    try:
        with plane.run.progress.phase(f"enforcer of {node.name} ready"):
            enforcer.wait_ready()
            topology = enforcer.write_topology(folder / "nodes.json")
        found = Armed(cluster, enforcer, key, topology)
        with found.judged("auto"):
            yield found
    finally:
        enforcer.remove()
