"""The cluster adapter against a stand-in API server on loopback: paging, and each way of going wrong. What a real one
answers is shown in ``e2e/``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import catalogue
from shared.errors import InputError
from shared.noderesourcetopology import to_object
from tests.support.listing import Server, serving, use
from webhook.cluster.listing import NODES, TOPOLOGIES, read_cluster, read_cluster_nodes

NAMES = ("aws-t3.medium", "dgx-h100", "gh200-480gb")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.objects[TOPOLOGIES.path] = [to_object(catalogue.machine(name)) for name in NAMES]
        yield server


def refused() -> str:
    with pytest.raises(InputError) as caught:
        read_cluster()
    return str(caught.value)


def test_every_page_is_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tmp_path, server.address)
    found = read_cluster()
    assert [machine.name for machine in found] == list(NAMES)
    assert [machine.numa_nodes for machine in found[:2]] == [catalogue.machine(name).numa_nodes for name in NAMES[:2]]


def test_nodes_are_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tmp_path, server.address)
    server.objects[NODES.path] = [{"metadata": {"name": name, "labels": {"a": name}}} for name in ("x", "y")]
    assert [(node.name, node.labels) for node in read_cluster_nodes()] == [("x", {"a": "x"}), ("y", {"a": "y"})]
    server.status[NODES.path] = 403
    with pytest.raises(InputError, match="refuses to list Node objects: 403 Forbidden"):
        read_cluster_nodes()


ANSWERS = [
    (
        404,
        "knows no NodeResourceTopology (topology.node.k8s.io/v1alpha2); install its CRD and a publisher (NFD, or "
        "Armistice's enforcer), or use --nodes or --machine",
    ),
    (403, "refuses to list NodeResourceTopology objects: 403 Forbidden"),
    (500, "refuses to list NodeResourceTopology objects: 500 Internal Server Error"),
]


@pytest.mark.parametrize(("status", "told"), ANSWERS)
def test_an_answer_that_is_none(
    status: int, told: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status[TOPOLOGIES.path] = status
    use(monkeypatch, tmp_path, server.address)
    assert refused() == f"--cluster: {server.address} {told}"


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tmp_path, "http://127.0.0.1:1")
    assert refused().startswith("--cluster: http://127.0.0.1:1 cannot be reached: ")


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert refused().startswith(f"--cluster: {tmp_path / 'none'} is no usable kubeconfig: ")


@pytest.mark.parametrize("text", ["just text", "[1, 2", "apiVersion: v1\nkind: Config\n"])
def test_a_file_that_is_no_kubeconfig(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert refused().startswith(f"--cluster: {tmp_path / 'config'} is no usable kubeconfig: ")
