"""The webhook's replicas as processes of a run's namespace, where a cluster has pods.

1. Each has an address of its own, on the namespace's loopback, and listens where its pod would.
2. ``Keeper`` is for them what kubelets and controllers are for pods: it asks each whether it is ready, and writes those
   that are into an EndpointSlice of the Service, by which the API server finds them.
3. A rolling restart goes as a Deployment's: one more until it is ready, then one less. Who leaves is told (SIGTERM) at
   the moment at which it begins to be taken out of the list, not after it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.lab import netns
from e2e.lab.controlplane import ControlPlane
from e2e.lab.errors import LabError

PORT = 8443
"""Where each of them listens."""

PROBE_EVERY = 1.0
"""Seconds between two probes of a replica, as often as a kubelet may at most."""

LISTED_WITHIN = 60.0
"""Seconds until a started replica is ready and listed; measured 2 to 4."""

GRACE = 30.0
"""Seconds that one may take to end, as a pod's."""

Command = Callable[[str], Sequence[str]]
"""The command line of a replica, by its address."""


def address(number: int) -> str:
    """Of a replica, counted from 1."""
    return f"10.0.20.{number}"


@dataclass(slots=True)
class Replicas:
    """Those of one Service."""

    plane: ControlPlane
    namespace: str
    service: str
    command: Command
    environment: Callable[[str], Mapping[str, str]] = lambda name: {}
    """Variables of a replica, by its name."""
    numbers: list[int] = field(default_factory=list)
    """Of those that run and do not leave."""
    last: int = 0

    @property
    def wanted(self) -> Path:
        """What the keeper is to look after."""
        return self.plane.folder / f"{self.service}.wanted"

    def start(self, count: int) -> None:
        """Start the first ones and wait until all of them are listed."""
        self.keep([])
        argv = [sys.executable, "-m", __name__, "--namespace", self.namespace, "--service", self.service]
        argv += ["--wanted", str(self.wanted), "--port", str(PORT), "--server", f"https://127.0.0.1:{self.plane.port}"]
        certificate, key = self.plane.issue(f"{self.service}-keeper", ("system:masters",), client=True)
        argv += ["--ca", str(self.plane.ca_pem), "--cert", str(certificate), "--key", str(key)]
        self.plane.run.spawn(f"{self.service}-keeper", argv)
        for _ in range(count):
            self.add(wait=False)
        self.wait_listed()

    def keep(self, addresses: Sequence[str]) -> None:
        """Tell the keeper whom to look after: nobody else is listed."""
        unfinished = self.wanted.with_suffix(".unfinished")
        unfinished.write_text("".join(f"{one}\n" for one in addresses))
        unfinished.rename(self.wanted)

    def name(self, number: int) -> str:
        """Of a replica's process."""
        return f"{self.service}-{number}"

    def add(self, wait: bool = True) -> int:
        """One more; its number."""
        self.last += 1
        where = address(self.last)
        netns.add_address(self.plane.netns, where)
        name = self.name(self.last)
        self.plane.run.spawn(name, list(self.command(where)), self.environment(name))
        self.numbers.append(self.last)
        self.keep([address(number) for number in self.numbers])
        if wait:
            self.wait_listed()
        return self.last

    def retire(self, number: int) -> None:
        """One less: told to leave and no longer looked after, at the same time. Returns when it is gone."""
        self.numbers.remove(number)
        os.kill(self._alive(number), signal.SIGTERM)
        self.keep([address(one) for one in self.numbers])
        end = time.monotonic() + GRACE
        while self.plane.run.pid(self.name(number)) is not None and self.plane.run.ended(self.name(number)) is None:
            if time.monotonic() > end:
                raise LabError(f"{self.name(number)} did not end within {GRACE:.0f} s; see {self.log(number)}")
            time.sleep(0.05)
        self.plane.run.end(self.name(number))

    def kill(self, number: int) -> None:
        """kill -9. It stays in the list until the keeper asks it and gets no answer, as a pod's would."""
        self.numbers.remove(number)
        os.kill(self._alive(number), signal.SIGKILL)
        self.plane.run.end(self.name(number))

    def pids(self) -> dict[int, int]:
        """The process id of each that runs."""
        return {number: self._alive(number) for number in self.numbers}

    def _alive(self, number: int) -> int:
        pid = self.plane.run.pid(self.name(number))
        if pid is None:
            raise LabError(f"{self.name(number)} has ended by itself; see {self.log(number)}")
        return pid

    def roll(self) -> None:
        """Replace each of them, one after the other."""
        for number in list(self.numbers):
            self.add()
            self.retire(number)

    def stop(self) -> None:
        """End all of them, and the keeper."""
        for number in self.numbers:
            self.plane.run.end(self.name(number))
        self.plane.run.end(f"{self.service}-keeper")

    def log(self, number: int) -> Path:
        """What a replica said."""
        return self.plane.run.logs / f"{self.name(number)}.log"

    def wait_listed(self, seconds: float = LISTED_WITHIN) -> None:
        """Wait until the list is of exactly those that run."""
        wanted = ",".join(sorted(address(number) for number in self.numbers))
        end = time.monotonic() + seconds
        while self._listed() != wanted:
            for number in self.numbers:
                if said := self.plane.run.ended(self.name(number)):
                    raise LabError(f"{self.name(number)} {said}; the whole log is {self.log(number)}")
            if time.monotonic() > end:
                last = self._keepers()[-3:]
                raise LabError(f"not all of {wanted} are ready within {seconds:.0f} s: {' / '.join(last)}")
            time.sleep(0.05)

    def _keepers(self) -> list[str]:
        return (self.plane.run.logs / f"{self.service}-keeper.log").read_text().splitlines()

    def _listed(self) -> str:
        listed = [line for line in self._keepers() if line.startswith("listed ")]
        return listed[-1].removeprefix("listed ") if listed else ""


def endpoint_slice(namespace: str, service: str, addresses: Sequence[str], port: int = PORT) -> dict[str, Any]:
    """The list of those that are ready, beside the one that the controllers keep of the Service's pods."""
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "lab"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-lab", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
    }


# The keeper, as a process of its own.


@dataclass(slots=True)
class Keeper:
    """Looks after those that a file names."""

    namespace: str
    service: str
    wanted: Path
    port: int
    server: str
    trust: ssl.SSLContext
    """With the client certificate that the API server knows."""
    listed: tuple[str, ...] | None = None
    told: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Until killed."""
        while True:
            began = time.monotonic()
            ready = tuple(sorted(one for one in self.wanted.read_text().split() if self._ready(one)))
            if ready != self.listed and self._write(ready):
                self.listed = ready
                print(f"listed {','.join(ready)}", flush=True)
            self._wait(began)

    def _wait(self, began: float) -> None:
        """Until the next probe, or until the file says something else."""
        before = self.wanted.stat().st_mtime_ns
        while time.monotonic() - began < PROBE_EVERY and self.wanted.stat().st_mtime_ns == before:
            time.sleep(0.02)

    def _ready(self, replica: str) -> bool:
        # A kubelet looks at no certificate either.
        status, text = _asked(replica, self.port, "GET", "/readyz", ssl._create_unverified_context())
        if text != self.told.get(replica):
            self.told[replica] = text
            print(f"{time.time():.1f} {replica}: {text}", flush=True)
        return status == 200

    def _write(self, ready: Sequence[str]) -> bool:
        name = f"{self.service}-lab"
        path = (
            f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices/{name}?fieldManager=lab&force=true"
        )
        host, _, port = self.server.removeprefix("https://").partition(":")
        body = json.dumps(endpoint_slice(self.namespace, self.service, ready, self.port))
        status, text = _asked(host, int(port), "PATCH", path, self.trust, body)
        if status not in (200, 201):
            print(f"not written: {text}", flush=True)
        return status in (200, 201)


def _asked(
    host: str, port: int, method: str, path: str, trust: ssl.SSLContext, body: str | None = None
) -> tuple[int, str]:
    """Status and text; 0 and the reason where there is no answer."""
    connection = http.client.HTTPSConnection(host, port, context=trust, timeout=1 if body is None else 5)
    try:
        connection.request(method, path, body, {"Content-Type": "application/apply-patch+yaml"} if body else {})
        response = connection.getresponse()
        return response.status, response.read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        with suppress(OSError):
            connection.close()


def main() -> None:
    """Keep, until killed."""
    parser = argparse.ArgumentParser()
    for name in ("namespace", "service", "server", "ca", "cert", "key"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--wanted", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    trust = ssl.create_default_context(cafile=given.ca)
    trust.load_cert_chain(given.cert, given.key)
    socket.setdefaulttimeout(5)
    Keeper(given.namespace, given.service, given.wanted, given.port, given.server, trust).run()


if __name__ == "__main__":
    main()
