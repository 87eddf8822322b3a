"""The webhooks that others would run in our place: how they are built, started, and known to have answered.

Both are the peers' own programs, unchanged. ``peers/README.md`` says what each of them does for a review.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from e2e.lab.tools import Tool, made
from tests.bench.peers import PEERS

POD_SECURITY = Tool(
    "pod-security-webhook", "pod-security-admission", "k8s.io/pod-security-admission/cmd/webhook", root=PEERS
)
ANNOTATOR = Tool(
    "resource-annotator",
    "resource-annotator",
    "github.com/containers/nri-plugins/cmd/resource-annotator",
    root=PEERS,
)

ANNOTATION = "noderesource.dev/resources"
"""What the annotator writes on a pod (``AnnotatedResourcesKey`` in nri-plugins' pkg/kubernetes)."""

WARNING = 'would violate PodSecurity "restricted:latest"'
"""How Pod Security Admission's warnings begin (its ``admission.EvaluatePod``)."""

LEVELS: Mapping[str, str] = {"enforce": "privileged", "audit": "restricted", "warn": "restricted"}
"""Allowed and warned of: each pod goes through every check of the strictest level, once for both modes, and none is
refused. Pods with Istio's init container are refused at any other level of ``enforce``."""

POD_SECURITY_ENVIRONMENT: Mapping[str, str] = {"KUBE_FEATURE_WatchListClient": "false"}
"""It lists namespaces before it watches them, which a stand-in API server can serve, too."""


def pod_security(folder: Path, certificate: Path, key: Path, port: int, kubeconfig: Path) -> list[str]:
    """Pod Security Admission's command line; its configuration is written into the folder. Raises LabError where it
    cannot be built."""
    config = folder / "pod-security.json"
    defaults = {**LEVELS, **{f"{mode}-version": "latest" for mode in LEVELS}}
    head = {"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration"}
    config.write_text(json.dumps({**head, "defaults": defaults, "exemptions": {}}))
    options = {
        "config": config,
        "kubeconfig": kubeconfig,
        "tls-cert-file": certificate,
        "tls-private-key-file": key,
        "bind-address": "127.0.0.1",
        "secure-port": port,
    }
    return [str(made(POD_SECURITY)), *(f"--{name}={value}" for name, value in options.items())]


def annotator(certificate: Path, key: Path, port: int) -> list[str]:
    """The annotator's command line. Raises LabError where it cannot be built."""
    return [str(made(ANNOTATOR)), f"-cert-file={certificate}", f"-key-file={key}", f"-port={port}"]
