"""``armistice webhook --installation``: what does not go with it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from shared.errors import InputError
from tests.support.reviews import pod, review
from tests.support.stored import stored
from webhook.command.webhook import webhook

NO_NAMESPACE = (
    "--installation armistice: POD_NAMESPACE is not set, so that nobody knows where its Secrets are; "
    "set it to the namespace that Armistice runs in"
)

REFUSED = [
    (
        "no cluster",
        ["--installation", "armistice"],
        {"POD_NAMESPACE": "x"},
        "--installation armistice: its Secrets are in a cluster; give --cluster too",
    ),
    ("no namespace", ["--installation", "armistice", "--cluster"], {}, NO_NAMESPACE),
    (
        "a key from elsewhere",
        ["--installation", "armistice", "--cluster", "--signing-key", "x.pem"],
        {"POD_NAMESPACE": "x"},
        "--installation armistice and --signing-key: the key is kept in the Secret armistice-signing; put it there, "
        "under intent.key, and leave --signing-key out",
    ),
]


@pytest.mark.parametrize(("what", "flags", "environment", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_does_not_go_with_an_installation_is_told(
    what: str, flags: list[str], environment: dict[str, str], said: str
) -> None:
    result = CliRunner(env={"POD_NAMESPACE": None, **environment}).invoke(webhook, flags)
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == said


def get(port: int, path: str, body: bytes | None = None) -> tuple[int, str]:
    """As a kubelet asks: whatever the certificate."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context(), timeout=10)
    try:
        connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@asynccontextmanager
async def command(kubeconfig: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, on a free port; a test that fails leaves none behind."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "webhook.command", "webhook", "--cluster", "--installation", "armistice",
        "--port", "0", "--drain", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": "armistice-system"},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.slow
async def test_a_process_without_its_key_is_alive_and_answers_no_review(tmp_path: Path) -> None:
    async with stored() as server:
        server.refuse = lambda verb, path: 403 if "secrets" in path else 0
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
        context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
        content = {"clusters": [cluster], "contexts": [context], "users": [{"name": "x", "user": {}}]}
        kubeconfig.write_text(json.dumps({**content, "current-context": "x", "kind": "Config", "apiVersion": "v1"}))
        async with command(kubeconfig) as process:
            assert process.stdout
            assert process.stderr
            said = [(await process.stdout.readline()).decode().split(maxsplit=2)[-1].strip() for _ in range(4)]
            assert said[0] == "ConfigMap armistice-system/armistice-keys"
            port = int(said[-1].rpartition(":")[2])
            assert await asyncio.to_thread(get, port, "/healthz") == (200, "ok\n")
            status, text = await asyncio.to_thread(get, port, "/readyz")
            assert (status, text.startswith("not ready: ")) == (503, True)
            answer = await asyncio.to_thread(get, port, "/mutate", json.dumps(review(pod())).encode())
            assert answer == (503, "no review is answered yet: its signing key is not known yet\n")
            _, text = await asyncio.to_thread(get, port, "/metrics")
            assert 'armistice_requests_refused_total{reason="unable"} 1.0' in text
            async with asyncio.timeout(30):
                log = await process.stderr.readuntil(b"403 refused by the test")
            process.send_signal(signal.SIGINT)
            _, rest = await process.communicate()
            assert process.returncode == 0
            assert b"Traceback" not in log + rest
