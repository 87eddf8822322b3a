"""``armistice webhook`` as a process of the lab, and its registration at the API server, as an admin would make it.

Without a cluster to follow, a webhook process holds one policy for every namespace. Which namespaces it is asked about
is therefore the registration's business: their labels select between a process that enforces and one that warns. One
that follows the cluster reads the labels itself.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from shared.seal import KeyRing

READY_WITHIN = 120.0
"""Seconds; measured 1 to 3, and 30 where a virtual machine has most of both cores."""

CASE = "lab.armistice.dev/case"
"""Label of namespaces: which of the registrations that stand beside each other is asked about them."""

ENFORCE = "armistice.dev/enforce"
WARN = "armistice.dev/warn"

WORKLOADS = (
    ("apps", ("deployments", "daemonsets", "statefulsets", "replicasets")),
    ("batch", ("jobs", "cronjobs")),
    ("", ("replicationcontrollers", "podtemplates")),
)
"""API group and resources of everything that makes pods."""


class Mode(Enum):
    """What the process does about a pod that breaks the policy."""

    ENFORCE = "enforce"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of the lab's own that signs intents."""

    private: Path
    public: Path

    @classmethod
    def make(cls, folder: Path) -> SigningKey:
        """A new one in a folder."""
        made = cls(folder / "intent.key", folder / "intent.pub")
        key = Ed25519PrivateKey.generate()
        made.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        made.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return made

    @property
    def ring(self) -> KeyRing:
        """What a node that has the public key believes."""
        return KeyRing.from_pem(self.public.read_bytes(), str(self.public))


@dataclass(frozen=True, slots=True)
class Webhook:
    """A running webhook process."""

    plane: ControlPlane
    name: str
    url: str
    """Where it is ready, such as https://127.0.0.1:20443."""

    @classmethod
    def start(cls, plane: ControlPlane, name: str, nodes: Path, key: SigningKey, mode: Mode, *flags: str) -> Webhook:
        """Start one and wait until it says that it is ready."""
        certificate, tls_key = plane.issue(name, dns=("localhost",), ips=("127.0.0.1",))
        argv = [sys.executable, "-m", "webhook.command", "webhook", "--port", "0"]
        argv += ["--cert", str(certificate), "--key", str(tls_key), "--signing-key", str(key.private)]
        argv += ["--nodes", str(nodes), "--mode", mode.value, "--verbose", *flags]
        plane.run.spawn(name, argv)
        return cls(plane, name, told(plane, name, "ready "))

    @classmethod
    def follow(cls, plane: ControlPlane, name: str, kubeconfig: Path, key: SigningKey, *flags: str) -> Webhook:
        """Start one that follows the cluster with somebody's rights, and wait until it listens."""
        certificate, tls_key = plane.issue(name, dns=("localhost",), ips=("127.0.0.1",))
        argv = [sys.executable, "-m", "webhook.command", "webhook", "--port", "0", "--cluster", "--verbose"]
        argv += ["--cert", str(certificate), "--key", str(tls_key), "--signing-key", str(key.private), *flags]
        plane.run.spawn(name, argv, {"KUBECONFIG": str(kubeconfig)})
        return cls(plane, name, told(plane, name, "ready "))

    def stop(self) -> None:
        """End it."""
        self.plane.run.end(self.name)


def told(plane: ControlPlane, name: str, lead: str) -> str:
    """What a daemon prints after ``lead``, as soon as it does. Raises LabError when it does not."""
    log = plane.run.logs / f"{name}.log"
    end = time.monotonic() + READY_WITHIN
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if line.startswith(lead):
                return line.removeprefix(lead).strip()
        if said := plane.run.ended(name):
            raise LabError(f"{name} {said}; the whole log is {log}")
        time.sleep(0.05)
    raise LabError(f"{name} was not ready within {READY_WITHIN:.0f} s; see {log}")


@dataclass(frozen=True, slots=True)
class Registration:
    """What the API server is told about one case: who is asked about its namespaces."""

    plane: ControlPlane
    case: str
    enforcing: str
    """URL that is asked about namespaces with the label ``enforce``, without the last part of the path."""
    warning: str
    """The same for namespaces that have only ``warn``."""

    def apply(self) -> None:
        """Register."""
        self.plane.kubectl(
            "apply", "-f", "-", input=json.dumps({"kind": "List", "apiVersion": "v1", "items": self.objects})
        )

    def delete(self) -> None:
        """Take the registration away."""
        for obj in self.objects:
            self.plane.kubectl("delete", obj["kind"], obj["metadata"]["name"], "--ignore-not-found")

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The two configurations."""
        return [
            self._configuration("MutatingWebhookConfiguration", "mutate", [_PODS], reinvocationPolicy="IfNeeded"),
            self._configuration("ValidatingWebhookConfiguration", "validate", [_PODS, *_TEMPLATES]),
        ]

    def _configuration(self, kind: str, path: str, rules: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Pods of namespaces that enforce fail closed; everything else, workloads among it, fails open."""
        pods, others = [rule for rule in rules if rule is _PODS], [rule for rule in rules if rule is not _PODS]
        hooks = [
            self._hook("enforce", f"{self.enforcing}/{path}", pods, "Fail", _LABELLED_ENFORCE),
            self._hook("warn", f"{self.warning}/{path}", rules, "Ignore", _LABELLED_WARN),
        ]
        if others:
            hooks.append(self._hook("templates", f"{self.enforcing}/{path}", others, "Ignore", _LABELLED_ENFORCE))
        for hook in hooks:
            hook.update(more)
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": f"armistice-{self.case}"},
            "webhooks": hooks,
        }

    def _hook(
        self, name: str, url: str, rules: Sequence[dict[str, Any]], failure: str, labelled: list[dict[str, Any]]
    ) -> dict[str, Any]:
        bundle = base64.b64encode(self.plane.ca_pem.read_bytes()).decode()
        return {
            "name": f"{name}.armistice.dev",
            "clientConfig": {"url": url, "caBundle": bundle},
            "rules": rules,
            "failurePolicy": failure,
            "namespaceSelector": {"matchLabels": {CASE: self.case}, "matchExpressions": [*labelled, _NOT_EXEMPT]},
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        }


_PODS = {
    "operations": ["CREATE"],
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["pods"],
    "scope": "Namespaced",
}

_TEMPLATES: list[dict[str, Any]] = [
    {
        "operations": ["CREATE", "UPDATE"],
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": list(resources),
        "scope": "Namespaced",
    }
    for group, resources in WORKLOADS
]

_LABELLED_ENFORCE = [{"key": ENFORCE, "operator": "Exists"}]
_LABELLED_WARN = [{"key": ENFORCE, "operator": "DoesNotExist"}, {"key": WARN, "operator": "Exists"}]
_NOT_EXEMPT = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}
