"""The control plane itself, as far as scenarios lean on it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from e2e.lab.controlplane import ControlPlane, node_address
from e2e.lab.errors import LabError
from e2e.lab.namespace import Namespace
from e2e.lab.state import Run

INSECURE = ("insecure", "skip-verify", "anonymous-auth=true", "AlwaysAllow", "http://")


def test_nothing_is_switched_to_insecure(plane: ControlPlane) -> None:
    """Read from the kernel: the command lines as they run."""
    for name, pid in plane.run.daemons().items():
        assert pid is not None, f"{name} has ended"
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        assert [word for word in words for bad in INSECURE if bad in word] == []


def test_nobody_without_a_certificate_is_answered(plane: ControlPlane) -> None:
    """Not even whoever stands inside the namespace."""
    argv = [str(plane.kubectl_path), f"--server=https://127.0.0.1:{plane.port}", "get", "namespaces"]
    argv += [f"--certificate-authority={plane.ca_pem}", "--kubeconfig=/dev/null", "--username=x", "--password=y"]
    done = subprocess.run(plane.inside(argv), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Unauthorized" in done.stderr


def test_nobody_outside_the_namespace_is_answered(plane: ControlPlane) -> None:
    argv = [str(plane.kubectl_path), f"--kubeconfig={plane.kubeconfig}", "get", "namespaces"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "was refused" in done.stderr


def test_versions(plane: ControlPlane) -> None:
    """kubectl and API server say what they were built from, which skew checks depend on."""
    found = json.loads(plane.kubectl("version", "-o", "json"))
    assert found["clientVersion"]["gitVersion"] == found["serverVersion"]["gitVersion"] == "v1.37.2"


def test_each_test_has_a_namespace_of_its_own(namespace: Namespace) -> None:
    """It is ready for pods: their service account is there."""
    assert namespace.list("pods") == []
    assert namespace.get("serviceaccount", "default")["metadata"]["name"] == "default"


def test_controllers_and_scheduler_work(namespace: Namespace) -> None:
    """A Deployment gets its pod, and the scheduler says why it stays where it is."""
    namespace.plane.kubectl("create", "deployment", "web", "--image=localhost/pause:1", "-n", namespace.name)
    namespace.wait("--for=create", "pod", "-l", "app=web")
    namespace.wait("--for=jsonpath={.status.conditions[0].reason}=Unschedulable", "pod", "-l", "app=web")


def test_what_kubectl_complains_about_is_in_the_error(plane: ControlPlane) -> None:
    with pytest.raises(LabError) as caught:
        plane.kubectl("get", "pod", "nobody")
    assert str(caught.value) == (
        '`kubectl get pod nobody` failed: Error from server (NotFound): pods "nobody" not found'
    )


def test_addresses_of_nodes() -> None:
    assert (node_address(1), node_address(2)) == ("10.0.11.15", "10.0.12.15")


def test_frozen_plane_goes_on_where_it_was(plane: ControlPlane, namespace: Namespace, tmp_path: Path) -> None:
    """What snapshots of nodes need: the same objects, the same certificates, the same port."""
    namespace.plane.kubectl("create", "configmap", "kept", "-n", namespace.name)
    plane.freeze(tmp_path / "seed")
    plane.kubectl("create", "configmap", "later", "-n", namespace.name)
    run = Run.create(f"thawed-{os.getpid()}")
    try:
        began = time.monotonic()
        thawed = ControlPlane.start(run, seed=tmp_path / "seed")
        seconds = time.monotonic() - began
        assert thawed.port == plane.port
        assert thawed.ca_pem.read_bytes() == plane.ca_pem.read_bytes()
        thawed.kubectl("get", "configmap", "kept", "-n", namespace.name)
        assert thawed.kubectl_raw("get", "configmap", "later", "-n", namespace.name).returncode == 1
        assert seconds < 60
        thawed.stop()
        assert {name: pid for name, pid in run.daemons().items() if pid} == {}
    finally:
        run.down()
    assert plane.kubectl("get", "--raw", "/readyz") == "ok"
