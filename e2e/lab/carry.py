"""Files into a running guest: served in the run's namespace, fetched by the guest, gone from the air again."""

from __future__ import annotations

import random
import secrets
import sys
from pathlib import Path

from e2e.lab import console
from e2e.lab.controlplane import PORTS
from e2e.lab.errors import LabError
from e2e.lab.state import Run

SECONDS = 300.0
"""What a fetch may take; measured 6 for 54 MB with containerd's import."""


def load(run: Run, agent: Path, archive: Path) -> None:
    """Give the guest's containerd the images of an OCI archive."""
    into(run, agent, archive, "ctr -n k8s.io images import --all-platforms --local - >/dev/null")


def into(run: Run, agent: Path, file: Path, command: str) -> None:
    """Run a shell command in the guest with the file as its standard input. Raises LabError when it fails."""
    port = random.choice(PORTS)
    server = f"carry-{secrets.token_hex(2)}"
    served = ["-m", "http.server", str(port), "--directory", str(file.parent)]
    run.spawn(server, [sys.executable, *served])
    try:
        fetch = f"busybox wget -q -O - http://$GATEWAY:{port}/{file.name} | {{ {command}; }}"
        done = console.run_in_guest(agent, f"{_patiently(port)}; {fetch}", SECONDS)
    finally:
        run.end(server)
    if done.code:
        raise LabError(f"{file.name} did not get into the guest: {done.stderr.strip() or f'exit code {done.code}'}")


def _patiently(port: int) -> str:
    """Wait in the guest until the server listens."""
    return f". /etc/lab/node.env; for i in $(seq 50); do busybox nc -z $GATEWAY {port} && break; sleep 0.1; done"
