"""What the chart's pods do: ``helm test`` asks and can fail, the sweep after an uninstall takes what is ours only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import Answer, Asked, FakeApiServer, api_server, status
from tests.support.chart import CHART

CHORES = (CHART / "files/chores.py").read_text(encoding="utf-8")

TOPOLOGIES = "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies"

MISTYPED = 'namespace label armistice.dev/enforce: "helm-test" is not one of none, best-effort'


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeApiServer]:
    with api_server(tmp_path) as server:
        (tmp_path / "token").write_text("secret\n")
        (tmp_path / "ca.crt").write_bytes((tmp_path / "ca.pem").read_bytes())
        yield server


def do(fake: FakeApiServer, chore: str, **environment: str) -> tuple[int, str]:
    """Do a chore as the pod does; its exit code and all it said."""
    place = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(fake.port)}
    done = subprocess.run(
        [sys.executable, "-c", CHORES, chore],
        env={**os.environ, **place, "ACCOUNT": str(fake.folder), "PATIENCE": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_script_survives_the_kubelet_and_runs_on_python_alone() -> None:
    assert "$(" not in CHORES, "the kubelet would replace it"
    imported = {line.split()[1].partition(".")[0] for line in CHORES.splitlines() if line.startswith("import ")}
    assert imported <= sys.stdlib_module_names


def test_an_api_server_that_passes_on_our_warning_is_enough(fake: FakeApiServer) -> None:
    fake.warnings = [MISTYPED]
    assert do(fake, "ask", WEBHOOK="armistice-webhook") == (0, "armistice-webhook: ok\n")
    (asked,) = fake.asked
    assert (asked.method, asked.path, asked.token) == ("POST", "/api/v1/namespaces?dryRun=All", "secret")
    assert asked.body["metadata"]["labels"] == {"armistice.dev/enforce": "helm-test"}


@pytest.mark.parametrize("warnings", [[], ["somebody else's"]], ids=["silence", "another's warning"])
def test_an_api_server_without_our_warning_has_not_asked_us(fake: FakeApiServer, warnings: list[str]) -> None:
    fake.warnings = warnings
    assert do(fake, "ask", WEBHOOK="armistice-webhook") == (
        1,
        "armistice: the API server took a namespace with a mistyped label armistice.dev/enforce without a word of "
        "Armistice: it does not reach the webhook, or the configurations are gone; see the webhook's log, and "
        "`helm upgrade` brings them back\n",
    )


def enforcers(ready: int, wanted: int) -> Answer:
    return 200, {"status": {"numberReady": ready, "desiredNumberScheduled": wanted}}


READY = [
    ("every node has one", 3, 3, 0),
    ("one of them is not ready", 2, 3, 1),
    ("no node takes any", 0, 0, 1),
]


@pytest.mark.parametrize(("what", "ready", "wanted", "code"), READY, ids=[row[0] for row in READY])
def test_the_enforcer_is_there_where_it_should_be(
    fake: FakeApiServer, what: str, ready: int, wanted: int, code: int
) -> None:
    fake.answer = lambda asked: enforcers(ready, wanted)
    found = do(fake, "ask", ENFORCER="armistice-enforcer", NAMESPACE="armistice-system")
    assert found[0] == code
    assert (f"ready on {ready} of {wanted} nodes" in found[1]) == bool(code)
    assert fake.asked[0].path == "/apis/apps/v1/namespaces/armistice-system/daemonsets/armistice-enforcer"


def test_a_refusal_of_the_api_server_is_a_sentence(fake: FakeApiServer) -> None:
    fake.answer = lambda asked: status(403, "namespaces is forbidden")
    code, said = do(fake, "ask", WEBHOOK="armistice-webhook")
    assert code == 1
    assert said.startswith("armistice: the API server refuses POST /api/v1/namespaces?dryRun=All: 403 ")
    assert "namespaces is forbidden" in said
    assert "Traceback" not in said


def test_what_is_still_starting_is_given_time(fake: FakeApiServer) -> None:
    fake.answer = lambda asked: enforcers(len(fake.asked), 1)
    words = {"ENFORCER": "armistice-enforcer", "NAMESPACE": "armistice-system", "PATIENCE": "30"}
    assert do(fake, "ask", **words)[0] == 0
    assert len(fake.asked) == 2


def topology(name: str, *managers: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "managedFields": [{"manager": manager} for manager in managers]}}


def test_the_sweep_takes_ours_from_every_page_and_leaves_others(fake: FakeApiServer) -> None:
    pages = {
        "": ([topology("node1", "armistice-enforcer"), topology("node2", "nfd-topology-updater")], "more"),
        "more": ([topology("node3", "kubectl", "armistice-enforcer"), {"metadata": {"name": "node4"}}], ""),
    }

    def answer(asked: Asked) -> Answer:
        if asked.method == "DELETE":
            return status(404, "gone") if asked.path.endswith("node3") else (200, {})
        items, more = pages[asked.path.partition("continue=")[2]]
        return 200, {"items": items, "metadata": {"continue": more}}

    fake.answer = answer
    assert do(fake, "sweep") == (0, "topologies deleted: 2\n")
    deleted = [asked.path for asked in fake.asked if asked.method == "DELETE"]
    assert deleted == [f"{TOPOLOGIES}/node1", f"{TOPOLOGIES}/node3"]


def test_a_cluster_without_the_crd_has_nothing_to_sweep(fake: FakeApiServer) -> None:
    fake.answer = lambda asked: status(404, "the server could not find the requested resource")
    assert do(fake, "sweep") == (0, "topologies deleted: 0\n")
