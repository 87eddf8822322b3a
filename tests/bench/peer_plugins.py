"""NRI plugins that a node can have in the place of our enforcer: how each is put on it, and taken off again.

nri-plugins' topology-aware policy comes by its own chart with that chart's values; only its image is built here, from
scratch, as there is no registry. The plugin that does nothing is a unit of the node's systemd.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.lab import carry, images
from e2e.lab.enforcer import TOPOLOGIES
from e2e.lab.errors import LabError
from e2e.lab.helm import Release
from e2e.lab.node import Node
from e2e.lab.tools import Tool, go, made
from tests.bench.peers import PEERS

NOOP = Tool("nri-noop", "nri-noop", "./", root=PEERS)

NRI_PLUGINS = "github.com/containers/nri-plugins"
TOPOLOGY_AWARE = Tool("topology-aware", "topology-aware", f"{NRI_PLUGINS}/cmd/plugins/topology-aware", root=PEERS)

IMAGE = "localhost/topology-aware"

NAMESPACE = "kube-system"
"""Where its manual installs it."""

JOINED_WITHIN = 120.0
"""Seconds until the runtime has taken a plugin in; measured 2 and 9."""

Manifest = dict[str, Any]


@contextmanager
def noop(node: Node) -> Iterator[int]:
    """The plugin that does nothing; its process id on the node."""
    program = f"/run/{NOOP.name}"
    run = node.plane.run
    carry.into(run, node.folder / "agent.sock", made(NOOP, run.progress), f"cat >{program} && chmod +x {program}")
    before = _joined(node)
    node.sh(f"systemd-run -q --unit={NOOP.name} {program}")
    try:
        _wait_joined(node, before)
        yield int(node.sh(f"systemctl show -P MainPID {NOOP.name}"))
    finally:
        node.sh(f"systemctl stop {NOOP.name}")


@contextmanager
def topology_aware(node: Node, folder: Path) -> Iterator[int]:
    """nri-plugins' topology-aware policy; its process id on the node."""
    plane = node.plane
    rendered = _rendered(node)
    definitions = [one for one in rendered if one["kind"] == "CustomResourceDefinition"]
    objects = [one for one in rendered if one not in definitions]
    carry.load(plane.run, node.folder / "agent.sock", _image(node, folder))
    before = _joined(node)
    try:
        _define(node, definitions)
        _all(node, objects, "create")
        _wait_joined(node, before)
        yield int(node.sh(f"pgrep -o -x {TOPOLOGY_AWARE.name}"))
    finally:
        _all(node, objects, "delete", "--ignore-not-found", "--wait=false")
        _wait_gone(node)
        plane.kubectl_raw("delete", TOPOLOGIES, node.name, "--ignore-not-found")
        node.sh("rm -rf /var/lib/nri-resource-policy")


def _rendered(node: Node) -> list[Manifest]:
    """What its chart installs, with our image, whose entry point the chart takes for granted."""
    values = {"image": {"name": IMAGE, "tag": "built", "pullPolicy": "Never"}}
    release = Release(node.plane, TOPOLOGY_AWARE.name, NAMESPACE, _chart())
    objects = [one for one in yaml.safe_load_all(release.manifest(values, "--include-crds")) if one]
    for one in objects:
        if one["kind"] == "DaemonSet":
            one["spec"]["template"]["spec"]["containers"][0]["command"] = [f"/bin/{TOPOLOGY_AWARE.name}"]
    return objects


def _chart() -> Path:
    """Its chart, in the source of the version that is built."""
    argv = [go(), "mod", "download", "-json", NRI_PLUGINS]
    done = subprocess.run(argv, cwd=TOPOLOGY_AWARE.folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"go could not download {NRI_PLUGINS}: {done.stderr.strip() or done.stdout.strip()}")
    return Path(json.loads(done.stdout)["Dir"]) / "deployment/helm/topology-aware"


def _image(node: Node, folder: Path) -> Path:
    program = made(TOPOLOGY_AWARE, node.plane.run.progress)
    files = {f"bin/{program.name}": program.read_bytes()}
    archive = folder / f"{program.name}.tar"
    archive.write_bytes(images.archive(images.Image(f"{IMAGE}:built", files, folders=("bin", "tmp"))))
    return archive


def _all(node: Node, objects: list[Manifest], *words: str) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    node.plane.kubectl(*words, "-n", NAMESPACE, "-f", "-", input=json.dumps(listed))


def _define(node: Node, definitions: list[Manifest]) -> None:
    """As helm does: a definition that is there already stays as it is."""
    names = [str(one["metadata"]["name"]) for one in definitions]
    there = node.plane.kubectl("get", "crd", "-o", "name").split()
    missing = [one for one, name in zip(definitions, names, strict=True) if not any(name in line for line in there)]
    _all(node, missing, "create")
    node.plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", *names)


def _joined(node: Node) -> int:
    """How many plugins the runtime has taken in since it started."""
    return int(node.sh("journalctl -q -u containerd -o cat | grep -c 'connected and synchronized' || true"))


def _wait_joined(node: Node, before: int) -> None:
    end = time.monotonic() + JOINED_WITHIN
    while _joined(node) == before:
        if time.monotonic() > end:
            raise LabError(f"the runtime of node {node.name} took no plugin in within {JOINED_WITHIN:.0f} s")
        time.sleep(0.5)


def _wait_gone(node: Node) -> None:
    end = time.monotonic() + JOINED_WITHIN
    while node.agent(f"pgrep -x {TOPOLOGY_AWARE.name}").code == 0:
        if time.monotonic() > end:
            raise LabError(f"{TOPOLOGY_AWARE.name} did not leave node {node.name} within {JOINED_WITHIN:.0f} s")
        time.sleep(0.5)
