"""A small API server on loopback with TLS: it remembers what it was asked, and answers what a test says."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from enforcer.access import Access


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: Any
    token: str
    content_type: str
    client: str
    """Common name of the caller's certificate; empty without one."""


Answer = tuple[int, Any]
"""Status and body: an object, or bytes as they are."""


@dataclass
class FakeApiServer:
    """What the test sees."""

    folder: Path
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], Answer] = lambda asked: (200, {})
    wait: float = 0.0
    """Seconds before each answer."""
    warnings: list[str] = field(default_factory=list)
    """Texts of the ``Warning`` headers that come with each answer."""

    def access(self, token: Path | str = "secret") -> Access:
        """How to reach it with a token."""
        return Access("127.0.0.1", self.port, authority=self.folder / "ca.pem", token=token)


def status(code: int, message: str) -> Answer:
    """A refusal, as an API server words it."""
    return code, {"kind": "Status", "code": code, "message": message}


@contextmanager
def api_server(folder: Path) -> Iterator[FakeApiServer]:
    """One that serves until the block ends."""
    fake = FakeApiServer(folder)
    write_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake)) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # callers may hang up
        fake.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


def _handler(fake: FakeApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            asked = self._asked()
            code, found = fake.answer(asked)  # first: who sees a request in the list may change the next one's answer
            fake.asked.append(asked)
            time.sleep(fake.wait)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            for text in fake.warnings:
                self.send_header("Warning", f"299 - {json.dumps(text)}")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _asked(self) -> Asked:
            content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            shown = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
            subject: Any = (shown or {}).get("subject", ())
            return Asked(
                method=self.command,
                path=self.path,
                body=json.loads(content) if content else None,
                token=self.headers.get("Authorization", "").removeprefix("Bearer "),
                content_type=self.headers.get("Content-Type", ""),
                client=next((pair[0][1] for pair in subject if pair[0][0] == "commonName"), ""),
            )

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test says what went wrong."""

    return Handler


def write_certificates(folder: Path) -> None:
    """``ca.pem``; ``server.pem`` and ``client.pem`` with their keys."""
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = _name("test authority")
    root = _builder(issuer, issuer, authority).add_extension(x509.BasicConstraints(True, None), True)
    root = root.add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
    (folder / "ca.pem").write_bytes(root.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    for who in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = _builder(_name(who), issuer, key).add_extension(names, False).sign(authority, hashes.SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{who}.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + private)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )


@asynccontextmanager
async def at_work(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A task that never ends by itself, for as long as the test is inside."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is so; TimeoutError after 30 s."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)
