"""A stream of pods at a real API server, and of handshakes at the webhook beside it: what fails is written down.

Pods are asked for with ``dryRun=All``: every webhook is called, and nothing is stored. A witness connects to every
replica all the while, as an API server would that heard of a bundle some seconds late. Runs as a process of the lab,
inside of a run's namespace, until it is told to end; then it prints one line of JSON.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import signal
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from e2e.lab.controlplane import ControlPlane

THREADS = 3
"""That create pods."""

PAUSE = 0.05
"""Seconds between two of one thread."""

LATE = 3.0
"""Seconds by which the witness's bundle lags behind what the API server stores."""


@dataclass
class Seen:
    """What became of everything."""

    pods: int = 0
    handshakes: int = 0
    certificates: int = 0
    """Different ones that were presented."""
    bundles: int = 0
    """Different ones that were in force."""
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stream:
    """One that runs."""

    plane: ControlPlane
    name: str

    @classmethod
    def start(
        cls, plane: ControlPlane, namespace: str, pod: Mapping[str, Any], ports: Sequence[int], at: str
    ) -> Stream:
        """Into a namespace; the witness looks at the ports, with the bundle of the configuration ``at``."""
        name = f"stream-{time.monotonic_ns()}"
        certificate, key = plane.issue(name, ("system:masters",), client=True)
        template = plane.folder / f"{name}.pod"
        template.write_text(json.dumps(pod))
        argv = [sys.executable, "-m", __name__, "--api", str(plane.port), "--ca", str(plane.ca_pem)]
        argv += ["--cert", str(certificate), "--key", str(key), "--namespace", namespace, "--pod", str(template)]
        argv += ["--ports", ",".join(map(str, ports)), "--configuration", at]
        plane.run.spawn(name, argv)
        return cls(plane, name)

    def end(self) -> Seen:
        """Stop it; what it saw."""
        self.plane.run.end(self.name, timeout=20.0)
        return Seen(**json.loads((self.plane.run.logs / f"{self.name}.log").read_text().splitlines()[-1]))


# The process.


def connect(given: argparse.Namespace) -> http.client.HTTPSConnection:
    """To the API server."""
    trust = ssl.create_default_context(cafile=given.ca)
    trust.load_cert_chain(given.cert, given.key)
    return http.client.HTTPSConnection("127.0.0.1", given.api, context=trust, timeout=15)


def create(given: argparse.Namespace, seen: Seen, over: threading.Event) -> None:
    """Pods, one after the other, on one connection."""
    connection = connect(given)
    body = Path(given.pod).read_text()
    path = f"/api/v1/namespaces/{given.namespace}/pods?dryRun=All"
    while not over.wait(PAUSE):
        began = time.time()
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        seen.pods += 1
        if answer.status != 201:
            seen.failures.append(f"{began:.3f} pod: {answer.status} {text}")
    connection.close()


def witness(given: argparse.Namespace, seen: Seen, over: threading.Event) -> None:
    """Handshakes with every replica, under the bundle of a while ago."""
    connection = connect(given)
    past: deque[tuple[float, bytes]] = deque()
    bundles: set[bytes] = set()
    certificates: set[bytes] = set()
    while not over.wait(PAUSE):
        connection.request("GET", f"/apis/admissionregistration.k8s.io/v1/{given.configuration}")
        found = json.loads(connection.getresponse().read())
        past.append((time.monotonic(), base64.b64decode(found["webhooks"][0]["clientConfig"].get("caBundle", ""))))
        while len(past) > 1 and past[1][0] <= time.monotonic() - LATE:
            past.popleft()
        bundles.add(past[-1][1])
        for port in map(int, given.ports.split(",")):
            try:
                certificates.add(presented(port, past[0][1]))
            except (OSError, ssl.SSLError) as error:
                seen.failures.append(f"{time.time():.3f} handshake with {port}: {error}")
            seen.handshakes += 1
    seen.certificates, seen.bundles = len(certificates), len(bundles)


def presented(port: int, bundle: bytes) -> bytes:
    """The certificate of a handshake that was accepted."""
    trust = ssl.create_default_context(cadata=bundle.decode())
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        trust.wrap_socket(raw, server_hostname="127.0.0.1") as spoken,
    ):
        return spoken.getpeercert(binary_form=True) or b""


def main() -> None:
    """Until SIGTERM."""
    parser = argparse.ArgumentParser()
    for name in ("ca", "cert", "key", "namespace", "pod", "ports", "configuration"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--api", type=int, required=True)
    given = parser.parse_args()
    seen, over = Seen(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())

    def run(one: Callable[[argparse.Namespace, Seen, threading.Event], None]) -> None:
        try:
            one(given, seen, over)
        except Exception as error:
            seen.failures.append(f"{time.time():.3f} {one.__name__} ended: {error!r}")

    threads = [threading.Thread(target=run, args=(one,)) for one in (*(create,) * THREADS, witness)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            with suppress(InterruptedError):
                thread.join(0.1)
    print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    main()
