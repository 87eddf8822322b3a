"""How one webhook process behaves: read once, then never changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.errors import InputError

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """Every figure with its unit and its reason."""

    host: str = "127.0.0.1"
    """Address to listen on. A laptop's webhook is nobody else's business; the chart says 0.0.0.0."""
    port: int = 8443
    """0 takes one that is free."""
    cert: Path | None = None
    """PEM file with the certificate chain; None makes a short-lived one."""
    key: Path | None = None
    """PEM file with its key; None where the certificate's file holds it too."""
    longest_body: int = 8 * MEBIBYTE
    """Bytes. The API server takes objects of 3 MiB, and an update's review carries two of them."""
    longest_decision: float = 0.5
    """Seconds of looking for the smallest change, counted from when a body is there. All other reviews wait meanwhile;
    a pod of ordinary size takes a hundredth of it."""
    longest_wait: float = 5.0
    """Seconds for a body to arrive."""
    longest_introduction: float = 0.5
    """Seconds that a review waits for its namespace, of which the API server may have told others first."""
    most_in_flight: int = 256
    """Requests whose bodies are awaited at once; more are turned away, for the API server's failurePolicy to settle."""
    most_waiting_bytes: int = 64 * MEBIBYTE
    """Of those bodies together: what slow callers can make the process hold."""
    keep_alive: float = 300.0
    """Seconds an idle connection stays open. The API server closes it after 90; closing first would fail the call that
    is on its way."""
    drain: float = 10.0
    """Seconds of serving on after SIGTERM, not ready any more: endpoints take that long to reach every API server."""
    certificate_poll: float = 10.0
    """Seconds between looks at the certificate's files."""

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise InputError("--key is given without --cert; name the certificate too, or leave both out")
        if not 0 <= self.port <= 65_535:
            raise InputError(f"--port {self.port}: ports are 0 to 65535")
        if self.drain < 0:
            raise InputError(f"--drain {self.drain:g}: seconds, 0 or more")
