"""The chart as scenarios set it: the main sets of values, and what helm makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.lab.controlplane import ControlPlane
from e2e.lab.helm import Release

NAME = "armistice"
NAMESPACE = "armistice-system"

PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
"""Of RFC 8410's example."""

Manifest = dict[str, Any]

SETS: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "webhook": {"enforcer": {"enabled": False}},
    "enforcer": {"webhook": {"enabled": False}, "enforcer": {"publicKeys": PUBLIC_KEY}},
    "cert-manager": {"certManager": {"enabled": True, "issuer": {"create": True}}},
    "everything": {
        "image": {
            "registry": "registry.example/team/",
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "registry-key"}],
        },
        "defaults": {
            "enforce": "restricted",
            "warn": "single-numa-node",
            "maxSidecarShare": 25,
            "isolation": "partition",
        },
        "exempt": {
            "namespaces": ["monitoring"],
            "usernames": ["system:serviceaccount:ops:installer"],
            "runtimeClasses": ["kata"],
        },
        "unknown": "reject",
        "webhook": {
            "image": {"tag": "1.2.3"},
            "replicas": 3,
            "timeouts": {"mutate": 2, "validate": 4},
            "address": "::",
            "port": 10250,
            "drain": 20,
            "verbose": True,
            "affinity": {"podAntiAffinity": {}},
            "networkPolicy": {"enabled": True, "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        },
        "certManager": {"enabled": True, "issuer": {"name": "corporate", "kind": "ClusterIssuer"}},
        "enforcer": {
            "image": {"digest": f"sha256:{'0' * 64}"},
            "address": "::",
            "reservedCpus": "0-1,64",
            "reservedMemory": "1Gi",
            "publicKeys": PUBLIC_KEY,
            "hostPaths": {"kubelet": "/var/lib/k0s/kubelet", "kubeletConfig": "/etc/kubernetes/kubelet/config.json"},
            "nodeSelector": {"numa": "true"},
            "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}]},
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "host network": {"webhook": {"hostNetwork": True, "replicas": 1}, "mode": "warn"},
}
"""The main sets of values, by what is special about them."""

STUBS: Mapping[str, tuple[str, str]] = {
    "ServiceMonitor": ("monitoring.coreos.com", "servicemonitors"),
    "Certificate": ("cert-manager.io", "certificates"),
    "Issuer": ("cert-manager.io", "issuers"),
}
"""Kinds of other projects: group and plural. Their own definitions would be the better judges, and are not here."""


def release(plane: ControlPlane, chart: Path | None = None) -> Release:
    """The chart's release; ``chart`` for another folder than the checkout's own."""
    return Release(plane, NAME, NAMESPACE) if chart is None else Release(plane, NAME, NAMESPACE, chart)


def objects(rendered: str) -> list[Manifest]:
    """What a rendering holds."""
    return [found for found in yaml.safe_load_all(rendered) if found]


def stub(kind: str) -> Manifest:
    """A definition that takes every object of a kind."""
    group, plural = STUBS[kind]
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def apply_stubs(plane: ControlPlane) -> None:
    """Have the API server know the kinds of other projects."""
    every = {"apiVersion": "v1", "kind": "List", "items": [stub(kind) for kind in STUBS]}
    plane.kubectl("apply", "-f", "-", input=json.dumps(every))
    for group, plural in STUBS.values():
        plane.kubectl("wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=30s")


def delete_stubs(plane: ControlPlane) -> None:
    """And forget them."""
    plane.kubectl("delete", "crd", *(f"{plural}.{group}" for group, plural in STUBS.values()), "--ignore-not-found")


PASSING = ("events", "events.events.k8s.io", "leases.coordination.k8s.io", "pods.metrics.k8s.io")
"""Kinds that come and go with whatever else runs: not what an installation leaves behind."""


def everything_stored(plane: ControlPlane) -> set[str]:
    """Every object that the API server holds, as ``namespace/resource/name``."""
    kinds = plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    asked = ",".join(sorted(set(kinds) - set(PASSING)))
    found = json.loads(plane.kubectl("get", asked, "-A", "-o", "json"))["items"]
    return set(_names(found))


def _names(found: list[Manifest]) -> Iterator[str]:
    for item in found:
        meta = item["metadata"]
        yield f"{meta.get('namespace', '')}/{item['kind']}/{meta['name']}"
