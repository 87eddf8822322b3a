"""The same reviews against a live process, over TLS and one connection that stays open: what aiohttp and the way of a
body in pieces add, and the process's memory. Its policy is the same for every namespace."""

from __future__ import annotations

import http.client
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fuzz.replies import NOT_ALIGNED, Placing, Reader
from tests.fuzz.reviews import KEY, make, room, taken_apart
from tests.fuzz.target import Target, WrongError
from tests.support.live import JSON, Live, webhook

MACHINE = "azure-nd96isr-h100-v5"
SLOWEST = 10.0
"""Seconds of the clock after which a caller was left hanging: the API server's default timeout."""


class Session:
    """One process, and a client that reads its replies."""

    make = staticmethod(make)

    def __init__(self, live: Live, connection: http.client.HTTPSConnection) -> None:
        self._live, self._connection = live, connection
        single = Placing("single-numa-node")
        self._reader = Reader(KEY.public_key(), room(MACHINE), {"kube-system": NOT_ALIGNED}, single, required=False)

    def memory(self) -> int:
        """Of the webhook's process."""
        return self._live.memory()

    def look(self, data: bytes) -> tuple[str]:
        """Sent, received and read."""
        path, sound, body = taken_apart(data)
        began = time.monotonic()
        status, answer = self._sent(path, body)
        if (taken := time.monotonic() - began) > SLOWEST:
            raise WrongError(f"a caller was left hanging: for {taken:.1f} s")
        outcome, _ = self._reader.read(path, sound, body, status, answer)
        return (outcome,)

    def _sent(self, path: str, body: bytes) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", path, body, JSON)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise WrongError(f"no reply: {error!r}") from error


@contextmanager
def _open() -> Iterator[Session]:
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with webhook("--signing-key", str(key), machine=MACHINE) as live, closing(live.connection()) as connection:
            yield Session(live, connection)


TARGET = Target("live", _open, runs=2_000, full=20_000, seconds=5.0)
