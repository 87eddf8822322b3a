"""helm install, upgrade, rollback and uninstall at a real API server, by both versions of helm that people have.

There is no node: what the webhook does to its objects is done here by hand, in the same way.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.helm import CHART, Release
from e2e.scenarios.plane.charted import NAME, NAMESPACE, everything_stored, release

PROGRAMS = ("helm", "helm@3")

NO_NODES = "--no-hooks"
"""The sweep of published topologies is a Job, and there is no node to run it."""

COLLECTED_WITHIN = 60.0
"""Seconds until the garbage collector has taken what nobody owns any more; measured below 2."""

BUNDLE = "QnVuZGxl"

BOTH = "mutatingwebhookconfigurations,validatingwebhookconfigurations"
OURS = "app.kubernetes.io/name=armistice"

KEPT = {
    "/Namespace/armistice-system",
    "armistice-system/ServiceAccount/default",
    "armistice-system/ConfigMap/kube-root-ca.crt",
    "/CustomResourceDefinition/noderesourcetopologies.topology.node.k8s.io",
    "/APIService/v1alpha2.topology.node.k8s.io",
}
"""The namespace with what every one has, and the CRD, which others may use: an uninstall leaves them."""

MADE = ("secret/armistice-ca", "secret/armistice-signing", "configmap/armistice-keys", "lease/armistice-webhook")
"""What the webhook makes for itself."""


@pytest.fixture(params=PROGRAMS)
def helm(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Release]:
    """Nothing is installed of it, before and after."""
    made = replace(release(plane), program=request.param)
    yield made
    made.helm_raw("uninstall", NAME, NO_NODES, "--ignore-not-found")
    plane.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


def configurations(plane: ControlPlane) -> list[dict[str, Any]]:
    """Both, or none."""
    kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations"
    return list(
        json.loads(plane.kubectl("get", kinds, "-l", "app.kubernetes.io/name=armistice", "-o", "json"))["items"]
    )


def bundles(plane: ControlPlane) -> set[str]:
    """Of all their entries; an empty text for none."""
    return {hook["clientConfig"].get("caBundle", "") for item in configurations(plane) for hook in item["webhooks"]}


def write_bundles(plane: ControlPlane) -> None:
    """As the webhook does: patched into what is there."""
    for item in configurations(plane):
        paths = [f"/webhooks/{number}/clientConfig/caBundle" for number in range(len(item["webhooks"]))]
        patch = [{"op": "add", "path": path, "value": BUNDLE} for path in paths]
        plane.kubectl("patch", item["kind"], item["metadata"]["name"], "--type=json", "-p", json.dumps(patch))


def make_own(plane: ControlPlane) -> None:
    """What the webhook makes for itself, owned by its account."""
    account = f"{NAME}-webhook"
    uid = plane.kubectl("get", "serviceaccount", account, "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ServiceAccount", "name": account, "uid": uid}
    kinds = {"secret": "v1", "configmap": "v1", "lease": "coordination.k8s.io/v1"}
    items = [
        {
            "apiVersion": kinds[kind],
            "kind": kind.capitalize().replace("map", "Map"),
            "metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": [owner]},
        }
        for kind, name in (made.split("/") for made in MADE)
    ]
    plane.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def left_by(plane: ControlPlane, before: set[str]) -> set[str]:
    """What is there that was not there before, once the garbage is collected."""
    end = time.monotonic() + COLLECTED_WITHIN
    while (left := everything_stored(plane) - before - KEPT) and time.monotonic() < end:
        time.sleep(0.5)
    return left


def uids(plane: ControlPlane) -> dict[str, str]:
    """Of what the webhook made: the same while nobody takes them away and makes them anew."""
    found = json.loads(plane.kubectl("get", *MADE, "-n", NAMESPACE, "-o", "json"))["items"]
    return {item["metadata"]["name"] + item["kind"]: item["metadata"]["uid"] for item in found}


def older(folder: Path) -> Path:
    """A chart of the version before: with one entry less, and a setting that there is no more."""
    chart = folder / "armistice"
    shutil.copytree(CHART, chart)
    about = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(about.replace("version: 0.1.0", "version: 0.0.9", 1))
    path = chart / "templates/webhook/validatingwebhookconfiguration.yaml"
    whole = path.read_text()
    start, end = whole.index("  - name: namespaces.armistice.dev"), whole.rindex("{{- end }}")
    path.write_text(whole[:start] + whole[end:])
    return chart


def test_a_whole_life_leaves_nothing_behind(plane: ControlPlane, helm: Release, tmp_path: Path) -> None:
    before = everything_stored(plane)
    earlier = replace(helm, chart=older(tmp_path))

    told = earlier.install({})
    assert "kubectl label namespace NAMESPACE armistice.dev/warn=single-numa-node" in told
    assert bundles(plane) == {""}, "nobody but the webhook writes them"
    entries = [len(item["webhooks"]) for item in configurations(plane)]
    make_own(plane)
    write_bundles(plane)
    made = uids(plane)

    helm.upgrade({"webhook": {"replicas": 3}})
    assert [len(item["webhooks"]) for item in configurations(plane)] == [entries[0], entries[1] + 1]
    assert bundles(plane) == {BUNDLE, ""}, "those that were there keep theirs; the new one waits for the webhook"
    write_bundles(plane)

    helm.upgrade({"defaults": {"warn": "restricted"}})
    assert [len(item["webhooks"]) for item in configurations(plane)] == [entries[0] + 1, entries[1] + 3]
    helm.helm("rollback", NAME, "2")
    assert [len(item["webhooks"]) for item in configurations(plane)] == [entries[0], entries[1] + 1]
    assert bundles(plane) == {BUNDLE}
    replicas = plane.kubectl("get", f"deployment/{NAME}-webhook", "-n", NAMESPACE, "-o", "jsonpath={.spec.replicas}")
    assert replicas == "3"
    assert uids(plane) == made, "neither an upgrade nor a rollback makes keys anew"

    helm.uninstall(NO_NODES)
    assert configurations(plane) == []
    assert left_by(plane, before) == set()


def test_switched_off_in_an_emergency_it_stays_off_until_the_next_upgrade(plane: ControlPlane, helm: Release) -> None:
    helm.install({})
    plane.kubectl("delete", BOTH, "-l", OURS)
    assert configurations(plane) == []
    helm.upgrade({})
    assert [item["metadata"]["name"] for item in configurations(plane)] == [f"zz-{NAME}"] * 2


def test_a_key_that_an_admin_made_outlives_the_installation(plane: ControlPlane, helm: Release) -> None:
    plane.kubectl("create", "namespace", NAMESPACE)
    plane.kubectl("create", "secret", "generic", f"{NAME}-signing", "-n", NAMESPACE, "--from-literal=intent.key=own")
    before = everything_stored(plane)
    helm.install({})
    helm.uninstall(NO_NODES)
    assert left_by(plane, before) == set()
    assert plane.kubectl("get", f"secret/{NAME}-signing", "-n", NAMESPACE, "-o", "name")


def test_a_crd_that_is_there_stays_as_it_is(plane: ControlPlane, helm: Release) -> None:
    crd = "crd/noderesourcetopologies.topology.node.k8s.io"
    plane.kubectl("apply", "-f", str(CHART / "crds/noderesourcetopologies.yaml"))
    plane.kubectl("label", crd, "installed-by=nfd", "--overwrite")
    version = plane.kubectl("get", crd, "-o", "jsonpath={.spec.versions[*].name}")
    helm.install({})
    helm.uninstall(NO_NODES)
    assert plane.kubectl("get", crd, "-o", "jsonpath={.metadata.labels.installed-by}") == "nfd"
    assert plane.kubectl("get", crd, "-o", "jsonpath={.spec.versions[*].name}") == version
