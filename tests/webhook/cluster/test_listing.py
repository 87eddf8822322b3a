"""The cluster adapter against a stand-in API server on loopback. It knows one path: what a real one answers is shown in
``e2e/``; here it is paging, and each way of going wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from shared import catalogue
from shared.errors import InputError
from shared.noderesourcetopology import to_object
from webhook.cluster.listing import read_cluster

PATH = "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies"
NAMES = ("aws-t3.medium", "dgx-h100", "gh200-480gb")


class Server(ThreadingHTTPServer):
    """Gives one object a page; or one status for everything."""

    status = 200


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        query = urlsplit(self.path)
        place = int(parse_qs(query.query).get("continue", ["0"])[0])
        assert query.path == PATH
        more = {"continue": str(place + 1)} if place + 1 < len(NAMES) else {}
        page = {"metadata": more, "items": [to_object(catalogue.machine(NAMES[place]))]}
        body = json.dumps(page if self.server.status == 200 else {"kind": "Status"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test says what went wrong."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str) -> None:
    """A kubeconfig that leads to the URL."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": url}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "users": [{"name": "a", "user": {}}],
    }
    (folder / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def refused() -> str:
    with pytest.raises(InputError) as caught:
        read_cluster()
    return str(caught.value)


def test_every_page_is_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tmp_path, address(server))
    found = read_cluster()
    assert [machine.name for machine in found] == list(NAMES)
    assert [machine.numa_nodes for machine in found[:2]] == [catalogue.machine(name).numa_nodes for name in NAMES[:2]]


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
    server.status = status
    use(monkeypatch, tmp_path, address(server))
    assert refused() == f"--cluster: {address(server)} {told}"


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
