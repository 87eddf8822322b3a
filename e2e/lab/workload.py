"""Pods for scenarios: the smallest that hold some CPUs and some memory of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from e2e.lab.images import BUSYBOX

OWN_MEMORY = 8_000_000
"""Bytes of anonymous memory that `HOLD` fills, enough to tell where a container's memory is."""

HOLD = f"x=$(head -c {OWN_MEMORY} /dev/zero | tr '\\0' x); echo holding; while :; do sleep 3600; done"
"""Fills memory and stays. The loop keeps the shell, and so its memory: it would exec a last plain command."""


def holding(mebibytes: int) -> str:
    """A script that fills so much anonymous memory and stays: dd holds one block, which nobody takes off its hands."""
    reader = "{ head -c 1 >/dev/null; echo holding; sleep 2147483647; }"
    return f"dd if=/dev/zero bs={mebibytes}M count=1 2>/dev/null | {reader}"


def container(name: str, script: str, limits: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A container that runs a shell script; with limits it requests the same."""
    sized = {"resources": {"requests": dict(limits), "limits": dict(limits)}} if limits else {}
    image = {"image": BUSYBOX, "imagePullPolicy": "Never"}
    return {"name": name, **image, "command": ["sh", "-c", script], **sized, **more}


def sidecar(name: str, script: str, limits: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A native sidecar: an init container that is restarted always (KEP-753)."""
    return container(name, script, limits, restartPolicy="Always", **more)


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod that ends without grace."""
    body = {"terminationGracePeriodSeconds": 0, "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def pod_resources(**limits: str) -> dict[str, Any]:
    """`spec.resources` (KEP-2837): requests equal to limits."""
    return {"requests": dict(limits), "limits": dict(limits)}


def deployment(name: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """A Deployment of one replica of that pod."""
    labels = {"app": name}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
