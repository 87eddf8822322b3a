"""A stand-in API server for commands: it lists what a test put there, an object a page, or answers with one status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml


class Server(ThreadingHTTPServer):
    """What a test puts there."""

    def __init__(self) -> None:
        """On a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, list[Any]] = {}
        """Path to objects."""
        self.status: dict[str, int] = {}
        """Path to the status that it is answered with instead."""

    @property
    def address(self) -> str:
        """As a kubeconfig has it."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        status = self.server.status.get(url.path, 200)
        found: Any = {"kind": "Status"}
        if url.path in self.server.objects:
            found = self._page(self.server.objects[url.path], query)
        else:
            folder, _, name = url.path.rpartition("/")
            named = [obj for obj in self.server.objects.get(folder, ()) if obj["metadata"]["name"] == name]
            status, found = (status, named[0]) if named else (404 if status == 200 else status, found)
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self, objects: list[Any], query: dict[str, list[str]]) -> Any:
        selector = query.get("labelSelector", [""])[0]
        key, _, text = selector.partition("=")
        chosen = [o for o in objects if not selector or (o["metadata"].get("labels") or {}).get(key) == text]
        place = int(query.get("continue", ["0"])[0])
        more = {"continue": str(place + 1)} if place + 1 < len(chosen) else {}
        return {"metadata": more, "items": chosen[place : place + 1]}

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test says what went wrong."""


@contextmanager
def serving() -> Iterator[Server]:
    """One that serves until the block ends."""
    with Server() as server:
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
