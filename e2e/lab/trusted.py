"""``armistice webhook --installation`` as processes of the lab, with the rights that the chart gives and no others.

Each replica listens on a port of its own on loopback, and each configuration names one of them by URL: every pod that
is created is asked about at both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError
from e2e.lab.webhook import CASE, ENFORCE

PORTS = (21443, 21444)

READY_WITHIN = 40.0
"""Seconds; measured 2 to 6."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trusted:
    """One installation."""

    plane: ControlPlane
    name: str
    namespace: str

    @property
    def configuration(self) -> str:
        """Both have this name."""
        return f"zz-{self.name}"

    # What the chart would bring.

    def allow(self) -> None:
        """The rights of the webhook, for a user instead of a service account."""
        self._apply(self._rights())

    def register(self) -> None:
        """The two configurations, without a bundle."""
        self._apply(self.configurations())

    def configurations(self) -> list[Manifest]:
        """As they are applied."""
        mutate, validate = (f"https://127.0.0.1:{port}" for port in PORTS)
        return [
            self._configured("Mutating", "pods", f"{mutate}/mutate", {"reinvocationPolicy": "IfNeeded"}),
            self._configured("Validating", "enforce", f"{validate}/validate", {}),
        ]

    def _configured(self, kind: str, name: str, url: str, more: Manifest) -> Manifest:
        webhook = {
            "name": f"{name}.armistice.dev",
            "clientConfig": {"url": url},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "failurePolicy": "Fail",
            "namespaceSelector": {"matchLabels": {CASE: self.name}, "matchExpressions": [_ENFORCING]},
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
            **more,
        }
        labels = {"app.kubernetes.io/name": self.name}
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": self.configuration, "labels": labels},
            "webhooks": [webhook],
        }

    def _rights(self) -> list[Manifest]:
        kinds = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
        everywhere = [
            _rule("", ["namespaces", "nodes", "limitranges"], ["get", "list", "watch"]),
            _rule("topology.node.k8s.io", ["noderesourcetopologies"], ["get", "list", "watch"]),
            _rule("", ["pods"], ["list"]),
            _rule("admissionregistration.k8s.io", kinds, ["get", "watch", "patch"], [self.configuration]),
        ]
        here = [
            _rule("", ["secrets"], ["get", "update"], [f"{self.name}-ca", f"{self.name}-signing"]),
            _rule("", ["secrets", "configmaps"], ["create"]),
            _rule("", ["configmaps"], ["get", "update"], [f"{self.name}-keys"]),
            _rule("coordination.k8s.io", ["leases"], ["get", "update"], [f"{self.name}-webhook"]),
            _rule("coordination.k8s.io", ["leases"], ["create"]),
            _rule("", ["serviceaccounts"], ["get"], [f"{self.name}-webhook"]),
        ]
        return [*self._role("ClusterRole", {}, everywhere), *self._role("Role", {"namespace": self.namespace}, here)]

    def _role(self, kind: str, where: Manifest, rules: list[Manifest]) -> list[Manifest]:
        group = "rbac.authorization.k8s.io"
        metadata = {"name": f"{self.name}-webhook", **where}
        subject = {"kind": "User", "apiGroup": group, "name": self.user}
        head = {"apiVersion": f"{group}/v1", "metadata": metadata}
        reference = {"apiGroup": group, "kind": kind, "name": metadata["name"]}
        return [
            {**head, "kind": kind, "rules": rules},
            {**head, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]},
        ]

    @property
    def user(self) -> str:
        """Whom the processes are to the API server."""
        return f"{self.name}-webhook"

    def _apply(self, items: Sequence[Manifest]) -> None:
        self.plane.kubectl("apply", "-f", "-", input=json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))

    # The processes.

    def process(self, number: int) -> str:
        """The name of a replica's process, and its identity."""
        return f"{self.name}-webhook-{number}"

    def start(self, number: int, *flags: str) -> None:
        """Start a replica; it listens when this returns, and may not be ready yet."""
        name = self.process(number)
        kubeconfig = self.plane.write_kubeconfig(self.plane.folder / f"{name}.kubeconfig", self.user)
        argv = [sys.executable, "-m", "webhook.command", "webhook", "--cluster", "--host", "127.0.0.1", "--drain", "0"]
        argv += ["--port", str(PORTS[number]), "--installation", self.name, *flags]
        environment = {"KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": self.namespace, "POD_NAME": name}
        self.plane.run.spawn(name, argv, environment)
        self._until(lambda: bool(self.ask(number, "/healthz")), f"{name} listens")

    def end(self, number: int) -> None:
        """In good order."""
        self.plane.run.end(self.process(number))

    def wait_ready(self, *numbers: int) -> None:
        """Raises LabError with what is amiss when the time is over."""
        who = " and ".join(self.process(number) for number in numbers)
        self._until(lambda: all(self.ask(number, "/readyz") == "ready" for number in numbers), f"{who} are ready")

    def ask(self, number: int, path: str) -> str:
        """What a replica says there, whoever trusts it; empty where nobody answers."""
        call = (
            "import ssl, sys, urllib.request as r, urllib.error as e\n"
            "try: print(r.urlopen(sys.argv[1], timeout=3, context=ssl._create_unverified_context()).read().decode())\n"
            "except e.HTTPError as error: print(error.read().decode())\n"
            "except OSError: pass\n"
        )
        done = self.plane.run.inside([sys.executable, "-c", call, f"https://127.0.0.1:{PORTS[number]}{path}"])
        return _said(done)

    def metric(self, number: int, series: str) -> float:
        """The value of a series, as it is written in front of it."""
        lines = self.ask(number, "/metrics").splitlines()
        return float(next(line.removeprefix(series) for line in lines if line.startswith(f"{series} ")))

    def log(self, number: int) -> Path:
        """What a replica said."""
        return self.plane.run.logs / f"{self.process(number)}.log"

    def _until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + READY_WITHIN
        while not true():
            if time.monotonic() > end:
                said = " / ".join(self.ask(number, "/readyz") for number in range(len(PORTS)))
                raise LabError(f"within {READY_WITHIN:.0f} s it did not come true that {what}: {said}")
            time.sleep(0.1)


def _said(argv: Sequence[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def _rule(group: str, resources: list[str], verbs: list[str], names: Sequence[str] = ()) -> Manifest:
    named = {"resourceNames": list(names)} if names else {}
    return {"apiGroups": [group], "resources": resources, "verbs": verbs, **named}


_ENFORCING = {"key": ENFORCE, "operator": "Exists"}
