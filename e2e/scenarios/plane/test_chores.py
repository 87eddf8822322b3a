"""The chart at work, with two processes in the place of the webhook's pods.

What `helm test` asks and what is swept after an uninstall, each with the rights that the chart gives it; and that
nothing which the webhook made stays behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAMESPACE, RELEASE, TOPOLOGIES
from e2e.lab.helm import CHART
from e2e.lab.installed import SWITCH_OFF, Installed
from e2e.lab.replicas import Replicas
from e2e.scenarios.plane.charted import everything_stored, objects
from e2e.scenarios.plane.test_installing import left_by
from e2e.scenarios.plane.test_webhook import published

pytestmark = pytest.mark.slow

LISTED = f"{NAMESPACE}/EndpointSlice/{RELEASE}-webhook-lab"
"""The lab's own list of what stands in for pods."""

CHORES = (CHART / "files/chores.py").read_text(encoding="utf-8")
HOOKS = ("test", "cleanup")
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")


@dataclass(frozen=True, slots=True)
class House:
    """The chart with all of it, and its chores."""

    installed: Installed
    replicas: Replicas
    folder: Path

    @property
    def plane(self) -> ControlPlane:
        """The control plane."""
        return self.installed.plane

    def do(self, chore: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As its pod would, with that one's account."""
        account = self.folder / chore
        account.mkdir(exist_ok=True)
        name = f"{RELEASE}-{HOOKS[chore == 'sweep']}"
        (account / "token").write_text(self.plane.kubectl("create", "token", name, "-n", NAMESPACE))
        (account / "ca.crt").write_bytes(self.plane.ca_pem.read_bytes())
        server = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.plane.port)}
        settings = {"ACCOUNT": str(account), "PATIENCE": "0", **server, **environment}
        argv = self.plane.inside([sys.executable, "-c", CHORES, chore])
        return subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def before(plane: ControlPlane) -> set[str]:
    """What there was before."""
    return everything_stored(plane)


@pytest.fixture(scope="module")
def house(plane: ControlPlane, before: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Installed, ready, and with the rights that helm would give for a moment."""
    installed = Installed.install(plane, {"enforcer": {"enabled": True}})
    made = House(installed, installed.replicas(), tmp_path_factory.mktemp("chores"))
    hooks = [item for item in objects(installed.release.manifest({})) if item["kind"] in RIGHTS and is_hook(item)]
    plane.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": hooks}))
    made.replicas.start(2)
    yield made
    made.replicas.stop()
    installed.release.helm_raw("uninstall", RELEASE, "--no-hooks", "--ignore-not-found")
    plane.kubectl("delete", "clusterrole,clusterrolebinding", *(f"{RELEASE}-{hook}" for hook in HOOKS))
    plane.kubectl("delete", "namespace", NAMESPACE)
    plane.wait_settled()


def is_hook(item: dict[str, object]) -> bool:
    """Whether helm makes it for a moment only."""
    metadata = item["metadata"]
    assert isinstance(metadata, dict)
    return "helm.sh/hook" in metadata.get("annotations", {})


def test_helm_test_hears_the_webhook_through_the_api_server(house: House) -> None:
    done = house.do("ask", WEBHOOK=f"{RELEASE}-webhook")
    assert (done.returncode, done.stdout) == (0, f"{RELEASE}-webhook: ok\n"), done.stderr


def test_helm_test_fails_where_no_enforcer_runs(house: House) -> None:
    done = house.do("ask", ENFORCER=f"{RELEASE}-enforcer", NAMESPACE=NAMESPACE)
    assert done.returncode == 1
    assert done.stderr.startswith("armistice: the enforcer is ready on 0 of 0 nodes")


def test_the_sweep_takes_what_our_enforcers_published_and_nothing_else(house: House) -> None:
    topology = {**published(), "topologyPolicies": []}
    for name, manager in (("ours", "armistice-enforcer"), ("theirs", "nfd-topology-updater")):
        named = json.dumps({**topology, "metadata": {"name": name}})
        house.plane.kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", input=named)
    assert house.do("sweep").stdout == "topologies deleted: 1\n"
    assert house.plane.kubectl("get", TOPOLOGIES, "-o", "jsonpath={.items[*].metadata.name}") == "theirs"
    house.plane.kubectl("delete", TOPOLOGIES, "theirs")
    assert house.do("sweep").stdout == "topologies deleted: 0\n"


def test_helm_test_fails_where_all_is_switched_off(house: House) -> None:
    house.plane.kubectl(*SWITCH_OFF)
    done = house.do("ask", WEBHOOK=f"{RELEASE}-webhook")
    assert done.returncode == 1
    assert "without a word of Armistice" in done.stderr
    house.installed.release.upgrade({})


def test_what_the_webhook_made_goes_with_the_chart(house: House, before: set[str]) -> None:
    """Last of all: the processes run on, as pods do while they leave, and lose their rights with the rest."""
    made = {f"Secret/{RELEASE}-ca", f"Secret/{RELEASE}-signing", f"ConfigMap/{RELEASE}-keys"}
    there = everything_stored(house.plane)
    assert {f"{NAMESPACE}/{name}" for name in made} <= there
    house.installed.release.uninstall("--no-hooks")
    hooks = {name for name in there if name.rpartition("/")[2] in {f"{RELEASE}-{hook}" for hook in HOOKS}}
    assert left_by(house.plane, before | hooks | {LISTED}) == set()
    house.plane.kubectl("wait", "--for=delete", f"lease/{RELEASE}-webhook", "-n", NAMESPACE, "--timeout=30s")
