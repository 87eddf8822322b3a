"""CONTRACT (bodies follow): a real control plane in the run's own network namespace, on loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# from e2e.lab.state import Run   # a run: folder, netns name, spawn(), see below


class Run:  # will live in e2e/lab/state.py
    """One run of the lab: everything that it starts, mounts or writes, so that all of it can be taken away again.

    Everything runs in the run's network namespace; ending a run ends every process in that namespace, kill -9 or not.
    """

    folder: Path
    netns: str

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command, prefixed so that it runs in the run's network namespace (`ip netns exec NS ...`)."""
        raise NotImplementedError

    def spawn(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a daemon in the namespace (argv is NOT yet prefixed); output to folder/logs/NAME.log; own session."""
        raise NotImplementedError

    def end(self, name: str, *, timeout: float = 10) -> None:
        """SIGTERM, then SIGKILL, one daemon by its pid; returns when it is gone."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """A line of progress with the seconds since the start of the run, on stderr."""
        raise NotImplementedError


class ControlPlane:
    """etcd, kube-apiserver, kube-controller-manager and kube-scheduler."""

    run: Run
    folder: Path  # the run's folder; the node puts its disk under folder / "nodes" / NAME
    netns: str
    port: int  # the API server, on 127.0.0.1 inside the namespace, and 10.0.1n.2 for the guest of node n
    ca_pem: Path
    kubeconfig: Path  # admin; works inside the namespace only

    @classmethod
    def start(
        cls, run: Run, *, feature_gates: Mapping[str, bool] | None = None, seed: Path | None = None
    ) -> ControlPlane:
        """Start and wait until /readyz. `seed` is a folder that freeze() wrote: same etcd content, CA, certificates and port."""
        raise NotImplementedError

    def freeze(self, folder: Path) -> None:
        """Copy etcd's data (etcd stopped by SIGSTOP for that moment), the pki folder and the port into `folder` (for snapshots)."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the four processes (Run.down() does it too)."""
        raise NotImplementedError

    def issue(
        self,
        common_name: str,
        organizations: Sequence[str] = (),
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        client: bool = False,
    ) -> tuple[Path, Path]:
        """(certificate, key) PEM files signed by the plane's CA; always usable as a server's, as a client's too if asked."""
        raise NotImplementedError

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Stdout of kubectl as admin; raises LabError with stderr when it fails."""
        raise NotImplementedError

    def kubectl_raw(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same without raising: returncode, stdout, stderr (warnings are on stderr)."""
        raise NotImplementedError

    def inside(self, argv: Sequence[str]) -> list[str]:
        """As Run.inside."""
        raise NotImplementedError

    @staticmethod
    def node_address(n: int) -> str:
        """InternalIP of node n (1-based): 10.0.11.15 for node 1."""
        return f"10.0.1{n}.15"

    @staticmethod
    def host_address(n: int) -> str:
        """Where the guest of node n sees the lab's loopback: 10.0.11.2 for node 1 (in the serving certificate)."""
        return f"10.0.1{n}.2"


# also, e2e/lab/tools.py:  build("kubelet") -> Path   (any of: kube-apiserver kube-controller-manager kube-scheduler
#   kubelet kubectl etcd helm crictl kind); cached under cache_folder() (~/.cache/armistice-lab or $ARMISTICE_LAB_CACHE)
# and e2e/lab/errors.py: class LabError(Exception): one clear sentence with the way out.
