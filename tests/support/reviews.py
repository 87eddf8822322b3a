"""Pods and AdmissionReviews: a minimal valid one, and tweaks."""

from __future__ import annotations

import json
from typing import Any

from webhook.review import Request, parse

Json = dict[str, Any]


def container(name: str = "app", cpu: str = "2", memory: str = "1Gi", **more: Any) -> Json:
    """A container that is eligible for CPUs of its own, unless told otherwise."""
    amounts = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"name": name, "image": f"registry.example/{name}:1", "resources": {"limits": amounts}, **more}


def sharing(name: str, cpu: str = "500m", memory: str = "256Mi") -> Json:
    """A container without CPUs of its own."""
    return container(name, resources={"requests": {"cpu": cpu, "memory": memory}})


def pod(*containers: Json, name: str = "web", **metadata: Any) -> Json:
    """A pod with these containers, or the minimal one."""
    spec = {"containers": list(containers or (container(),))}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}


def generated(*containers: Json, prefix: str = "web-") -> Json:
    """A pod as a controller makes it: without a name yet."""
    made = pod(*containers)
    made["metadata"] = {"generateName": prefix}
    return made


def workload(kind: str, api_version: str, made: Json, **metadata: Any) -> Json:
    """An object of a kind that makes such pods."""
    template = {"metadata": {key: v for key, v in made["metadata"].items() if key != "name"}, "spec": made["spec"]}
    head = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "web", **metadata}}
    if kind == "PodTemplate":
        return {**head, "template": template}
    if kind == "CronJob":
        return {**head, "spec": {"jobTemplate": {"spec": {"template": template}}}}
    return {**head, "spec": {"template": template}}


def review(obj: Json | None, operation: str = "CREATE", namespace: str = "demo", **request: Any) -> Json:
    """An AdmissionReview about an object."""
    about = obj or request.get("oldObject") or {}
    group, _, version = str(about.get("apiVersion", "v1")).rpartition("/")
    kind = {"group": group, "version": version, "kind": about.get("kind", "Pod")}
    content = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind,
        "resource": {"group": group, "version": version, "resource": f"{kind['kind'].lower()}s"},
        "name": about.get("metadata", {}).get("name", ""),
        "namespace": namespace,
        "operation": operation,
        "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
        "object": obj,
        "oldObject": None,
        "dryRun": False,
        **request,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": content}


def request(obj: Json | None, operation: str = "CREATE", namespace: str = "demo", **fields: Any) -> Request:
    """The same, through the door."""
    return parse(json.dumps(review(obj, operation, namespace, **fields)).encode())
