"""The chart on a control plane, installed by helm as an admin would.

Without a node there are no pods: processes of the run's namespace stand in for the webhook's, with the arguments, the
settings and the service account that the chart gives those (``lab/replicas``). The Service that the API server asks,
the configurations that say when, and the rights are the chart's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE, RELEASE
from e2e.lab.helm import DELETED_WITHIN, Release
from e2e.lab.replicas import Replicas

SERVICE = f"{RELEASE}-webhook"
"""The webhook's Service, Deployment and service account."""

CONFIGURATION = f"zz-{RELEASE}"
"""Both webhook configurations."""

SWITCH_OFF = (
    "delete",
    "mutatingwebhookconfigurations,validatingwebhookconfigurations",
    "-l",
    "app.kubernetes.io/name=armistice",
)
"""What kubectl is told to switch everything off, as documented."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Installed:
    """The release, and what stands in for its pods."""

    release: Release

    @classmethod
    def install(cls, plane: ControlPlane, values: Values | None = None) -> Installed:
        """Without pods. The chart itself would not do that: namespaces that enforce would wait for ever."""
        found = cls(Release(plane, RELEASE, NAMESPACE))
        found.release.install(merged(ALONE, values or {}))
        found._scale_down()
        return found

    def upgrade(self, values: Values | None = None) -> None:
        """`helm upgrade`, which brings back whatever was deleted of it; without pods again."""
        self.release.upgrade(merged(ALONE, values or {}))
        self._scale_down()

    def _scale_down(self) -> None:
        self.plane.kubectl("scale", "deployment", SERVICE, "--replicas=0", "-n", NAMESPACE)

    def configurations(self) -> list[str]:
        """Names of the webhook configurations that are there."""
        names = "jsonpath={.items[*].metadata.name}"
        return self.plane.kubectl("get", *SWITCH_OFF[1:], "-o", names).split()

    @property
    def plane(self) -> ControlPlane:
        """The control plane."""
        return self.release.plane

    def uninstall(self) -> None:
        """Take it away, its namespace too, and wait until that has gone; fails where it is not there any more."""
        self.release.uninstall("--no-hooks")
        self.plane.kubectl("delete", "namespace", NAMESPACE, f"--timeout={DELETED_WITHIN:.0f}s")

    def replicas(self, *flags: str) -> Replicas:
        """Processes in the place of its pods, with more flags than the chart gives those; none runs yet."""
        settings = self.plane.folder / "webhook-config.yaml"
        settings.write_text(self.get("configmap", f"{RELEASE}-config")["data"]["config.yaml"])
        arguments = self.get("deployment", SERVICE)["spec"]["template"]["spec"]["containers"][0]["args"]
        return Replicas(
            self.plane,
            NAMESPACE,
            SERVICE,
            lambda where: [*here(arguments, where, settings), *flags],
            lambda name: {"POD_NAMESPACE": NAMESPACE, "POD_NAME": name, "KUBECONFIG": str(self.account(SERVICE))},
        )

    def account(self, name: str) -> Path:
        """A kubeconfig of a service account of the chart's, with a token of its own."""
        token = self.plane.kubectl("create", "token", name, "-n", NAMESPACE, "--duration=24h").strip()
        cluster = {"server": f"https://127.0.0.1:{self.plane.port}", "certificate-authority": str(self.plane.ca_pem)}
        path = self.plane.folder / f"{name}.kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "lab", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
        return path

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object of its namespace."""
        return dict(json.loads(self.plane.kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json")))


ALONE: Values = {"enforcer": {"enabled": False}}
"""The webhook without nodes."""


def here(arguments: Sequence[str], where: str, settings: Path) -> list[str]:
    """A container's arguments as the command line of a process that listens at an address of its own."""
    own = {"--host": where, "--config": str(settings)}
    words = [word.partition("=")[0] for word in arguments]
    told = [f"{name}={own[name]}" if name in own else word for name, word in zip(words, arguments, strict=True)]
    return [sys.executable, "-m", "webhook.command", *told]


def merged(one: Values, other: Values) -> dict[str, Any]:
    """Values over values, as helm lays them."""
    both = {key: merged(one[key], other[key]) for key in one.keys() & other.keys() if isinstance(other[key], Mapping)}
    return {**one, **other, **both}


def publish(plane: ControlPlane, topology: Mapping[str, Any], allocatable: Mapping[str, str]) -> None:
    """A node that no machine stands behind, and the topology that it would publish."""
    name = topology["metadata"]["name"]
    amounts = {"pods": "110", **allocatable}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": amounts, "allocatable": amounts},
    }
    for one in (node, {"topologyPolicies": ["None"], **topology}):
        plane.kubectl("create", "-f", "-", input=json.dumps(one))


def withdraw(plane: ControlPlane, name: str) -> None:
    """Take a node and its topology away, as far as they are there: the next who publishes finds the name free."""
    plane.kubectl("delete", "node", name, "--ignore-not-found")
    plane.kubectl_raw("delete", "noderesourcetopologies", name)  # which the CRD may have taken along
