"""A webhook process over TLS, and a client that speaks to it byte by byte."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Live:
    """One process."""

    process: subprocess.Popen[str]
    said: dict[str, str]
    errors: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.said["ready"]).port or 0

    @property
    def trust(self) -> ssl.SSLContext:
        """What its clients trust."""
        return ssl.create_default_context(cafile=self.said["CA certificate"])

    def connection(self, trust: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        """A connection that stays open."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=trust or self.trust, timeout=20)

    def get(self, path: str) -> tuple[int, str]:
        """One GET on a connection of its own."""
        return self._once("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """One POST on a connection of its own."""
        return self._once("POST", path, body, JSON if headers is None else headers)

    def review(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """The response to a review."""
        status, text = self.post(path, json.dumps(content).encode())
        assert status == 200, text
        response: dict[str, Any] = json.loads(text)["response"]
        return response

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, str]:
        connection = self.connection()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def memory(self) -> int:
        """Resident bytes."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        """What it wrote to standard error."""
        return self.errors.read_text()


@contextmanager
def webhook(
    *arguments: str, machine: str | None = "azure-nd96isr-h100-v5", env: Mapping[str, str] | None = None
) -> Iterator[Live]:
    """A process on a free port, held to end well; ``env`` is added to the environment."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w") as errors:
        command = [sys.executable, "-m", "webhook.command", "webhook", "--port", "0"]
        command += [] if machine is None else ["--machine", machine]
        process = subprocess.Popen(
            [*command, "--drain", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
        )
        assert process.stdout is not None
        said: dict[str, str] = {}
        with process.stdout:
            for line in process.stdout:
                name, _, value = line.strip().partition("  ")
                said[name] = value.strip()
                if name == "ready":
                    break
            live = Live(process, said, Path(folder) / "errors")
            assert "ready" in said, live.log()
            try:
                yield live
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                code = process.wait(20)
        assert code == 0, live.log()
        assert "Traceback" not in live.log(), live.log()
