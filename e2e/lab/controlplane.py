"""A real control plane in the run's own network namespace: etcd, API server, controllers, scheduler.

Everything speaks TLS under the lab's own authority and shows a certificate of its own; nothing is switched to insecure.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import kill
from pathlib import Path

from e2e.lab.errors import LabError
from e2e.lab.pki import Authority, key_pair
from e2e.lab.state import Run
from e2e.lab.tools import CONTROL_PLANE, NEWEST, SERVERS, build, build_all, of_version

SERVICES = "10.0.0.0/24"
SERVICE_ADDRESS = "10.0.0.1"
"""Of the service ``kubernetes``: the first of SERVICES."""

NODES = (1, 2)
"""Nodes that the serving certificate is prepared for."""

READY_WITHIN = 60.0
"""Seconds that each daemon may take until it is ready; measured 2 to 5 on 2 idle cores."""

SETTLED_WITHIN = 120.0
"""Seconds until the controllers have taken away the pods of namespaces that were dropped."""

WAY_OUT = "start anew, which takes other ports and an empty folder"

PORTS = range(20000, 32000)
"""Below the kernel's range for outgoing connections, so that none of those can be in the way."""

_DAEMONS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def node_address(n: int) -> str:
    """InternalIP of node ``n``, counted from 1: 10.0.11.15 for the first."""
    return f"10.0.1{n}.15"


def host_address(n: int) -> str:
    """Where the guest of node ``n`` sees the run's namespace: 10.0.11.2 for the first."""
    return f"10.0.1{n}.2"


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports in the namespace, random for each plane."""

    api: int
    etcd: int
    peer: int
    controllers: int
    scheduler: int

    @classmethod
    def random(cls) -> Ports:
        """Five different ports."""
        return cls(*random.sample(PORTS, 5))


@dataclass(slots=True)
class ControlPlane:
    """A running control plane; ``start`` makes it, ``attach`` finds one that another process has started."""

    run: Run
    ports: Ports
    authority: Authority
    kubectl_path: Path

    @classmethod
    def start(
        cls,
        run: Run,
        feature_gates: Mapping[str, bool] | None = None,
        seed: Path | None = None,
        ports: Ports | None = None,
        kubernetes: str = NEWEST,
    ) -> ControlPlane:
        """Start and wait until all of it is ready. ``seed`` is a folder of ``freeze``: same content, CA and ports."""
        servers = {name: of_version(name, kubernetes) for name in SERVERS}
        build_all(tuple(servers.get(name, name) for name in CONTROL_PLANE), run.progress)
        if seed is not None:
            for part in ("etcd", "pki"):
                shutil.copytree(seed / part, run.folder / part)
            shutil.copy(seed / "ports.json", run.folder / "ports.json")
        else:
            (run.folder / "ports.json").write_text(json.dumps(_fields(ports or Ports.random())))
        plane = cls.attach(run)
        with run.progress.phase("control plane ready"):
            plane._write_credentials()
            plane._start_all(servers, feature_gates or {})
        return plane

    @classmethod
    def attach(cls, run: Run) -> ControlPlane:
        """The control plane in a run's folder."""
        try:
            ports = Ports(**json.loads((run.folder / "ports.json").read_text()))
        except FileNotFoundError as error:
            raise LabError(f"the run {run.name!r} has no control plane; see `python -m e2e status`") from error
        return cls(run, ports, Authority(run.folder / "pki"), build("kubectl"))

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @property
    def netns(self) -> str:
        """Name of the network namespace."""
        return self.run.netns

    @property
    def port(self) -> int:
        """The API server's, on 127.0.0.1 in the namespace and on ``host_address(n)`` for a guest."""
        return self.ports.api

    @property
    def ca_pem(self) -> Path:
        """Certificate of the authority that everything here is signed by."""
        return self.authority.certificate

    @property
    def kubeconfig(self) -> Path:
        """The admin's; of use inside the namespace only."""
        return self.folder / "admin.kubeconfig"

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command, to run in the namespace."""
        return self.run.inside(argv)

    def issue(
        self,
        common_name: str,
        organizations: Sequence[str] = (),
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        client: bool = False,
    ) -> tuple[Path, Path]:
        """Certificate and key, signed by the lab's authority."""
        return self.authority.issue(common_name, organizations, dns, ips, client)

    def write_kubeconfig(self, path: Path, user: str, groups: Sequence[str] = (), server: str = "127.0.0.1") -> Path:
        """A kubeconfig with everything in it, for ``user`` as the certificate's name, with the server seen there."""
        certificate, key = self.issue(user, groups, client=True)
        return self._kubeconfig(path, certificate, key, server)

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """What kubectl prints on standard output, as admin. Raises LabError with what it says when it fails."""
        done = self.kubectl_raw(*args, input=input)
        if done.returncode != 0:
            raise LabError(f"`kubectl {' '.join(args)}` failed: {done.stderr.strip()}")
        return done.stdout

    def kubectl_raw(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same with status and standard error, where warnings are."""
        argv = [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", *args]
        return subprocess.run(
            self.inside(argv),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            check=False,
        )

    def wait_settled(self) -> None:
        """Wait until no pod is left that waits for a node: it would be the first on whichever comes next, and take CPUs
        that others count on. Raises LabError naming those that stay."""
        columns = 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\\n"}{end}'
        end = time.monotonic() + SETTLED_WITHIN
        while waiting := self.kubectl("get", "pods", "-A", "--field-selector=spec.nodeName=", "-o", columns).split():
            if time.monotonic() > end:
                raise LabError(f"pods of earlier scenarios still wait for a node: {', '.join(waiting[:5])}")
            time.sleep(0.2)

    def freeze(self, folder: Path) -> None:
        """Copy what a later ``start(seed=folder)`` needs; etcd stands still for the moment of the copy."""
        folder.mkdir(parents=True, exist_ok=True)
        with self.paused("etcd"):
            shutil.copytree(self.folder / "etcd", folder / "etcd")
        shutil.copytree(self.folder / "pki", folder / "pki")
        shutil.copy(self.folder / "ports.json", folder / "ports.json")

    def stop(self) -> None:
        """End the four daemons, those that need others first."""
        for name in reversed(_DAEMONS):
            self.run.end(name)

    def outage(self, seconds: float) -> None:
        """No API server for so long: killed, and started again as it was. Returns when it is ready."""
        name = "kube-apiserver"
        pid = self._alive(name)
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        kill(pid, signal.SIGKILL)
        self.run.end(name)
        time.sleep(seconds)
        self.run.spawn(name, argv)
        self._wait(name, self._api_ready)

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """A daemon stands still (SIGSTOP) meanwhile; whoever speaks to it waits."""
        pid = self._alive(name)
        kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            kill(pid, signal.SIGCONT)

    def _alive(self, name: str) -> int:
        pid = self.run.pid(name)
        if pid is None:
            raise LabError(f"{name} of the run {self.run.name!r} does not run; see {self.run.logs / name}.log")
        return pid

    # Starting.

    def _write_credentials(self) -> None:
        """Certificates and kubeconfigs that are not there yet; those of a seed stay, for its nodes know them."""
        if not (self.authority.folder / "kube-apiserver.crt").exists():
            local = ("127.0.0.1", SERVICE_ADDRESS)
            guests = [host_address(n) for n in NODES]
            names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
            self.issue("kube-apiserver", dns=names, ips=(*local, *guests))
            for name in ("etcd", "kube-controller-manager-serving", "kube-scheduler-serving"):
                self.issue(name, dns=("localhost",), ips=local, client=True)
            self.issue("etcd-client", client=True)
            self.issue("kubelet-client", ("system:masters",), client=True)
            key_pair(self.authority.folder, "service-accounts")
        self.write_kubeconfig(self.kubeconfig, "admin", ("system:masters",))
        for name in ("kube-controller-manager", "kube-scheduler"):
            self.write_kubeconfig(self.folder / f"{name}.kubeconfig", f"system:{name}")

    def _kubeconfig(self, path: Path, certificate: Path, key: Path, server: str) -> Path:
        cluster = {"server": f"https://{server}:{self.port}", "certificate-authority": str(self.ca_pem)}
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "lab",
                    "clusters": [{"name": "lab", "cluster": cluster}],
                    "users": [{"name": "lab", "user": user}],
                    "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
                },
                indent=1,
            )
        )
        return path

    def _start_all(self, servers: Mapping[str, str], feature_gates: Mapping[str, bool]) -> None:
        gates = [f"--feature-gates={','.join(f'{k}={str(v).lower()}' for k, v in feature_gates.items())}"]
        common = gates if feature_gates else []
        flags = {
            "kube-apiserver": self._api_server_flags(),
            "kube-controller-manager": self._controller_flags(),
            "kube-scheduler": self._scheduler_flags(),
        }
        self.run.spawn("etcd", [str(build("etcd")), *self._etcd_flags()])
        for name, tool in servers.items():
            self.run.spawn(name, [str(build(tool)), *flags[name], *common])
            if name == "kube-apiserver":
                self._wait(name, self._api_ready)
        self._wait("kube-controller-manager", self._accounts_ready)

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + READY_WITHIN
        while not ready():
            for name in _DAEMONS:
                log = self.run.logs / f"{name}.log"
                if said := self.run.ended(name):
                    raise LabError(f"{name} {said}; the whole log is {log}; {WAY_OUT}")
            if time.monotonic() > end:
                raise LabError(f"{what} was not ready within {READY_WITHIN:.0f} s; see {self.run.logs / what}.log")
            time.sleep(0.1)

    def _api_ready(self) -> bool:
        done = self.kubectl_raw("get", "--raw", "/readyz", "--request-timeout=2s")
        return done.returncode == 0 and done.stdout.strip() == "ok"

    def _accounts_ready(self) -> bool:
        """Without the namespace's service account no pod is accepted; the controllers make it last of what we need."""
        return self.kubectl_raw("get", "serviceaccount", "default", "-n", "default", "-o", "name").returncode == 0

    # Flags.

    def _pki(self, name: str) -> str:
        return str(self.authority.folder / name)

    def _etcd_flags(self) -> list[str]:
        client, peer = f"https://127.0.0.1:{self.ports.etcd}", f"https://127.0.0.1:{self.ports.peer}"
        certificate, key, ca = self._pki("etcd.crt"), self._pki("etcd.key"), str(self.ca_pem)
        return [
            "--name=lab",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",  # nobody needs this data after a power cut
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
            *(f"--{what}cert-file={certificate}" for what in ("", "peer-")),
            *(f"--{what}key-file={key}" for what in ("", "peer-")),
            *(f"--{what}trusted-ca-file={ca}" for what in ("", "peer-")),
            "--client-cert-auth",
            "--peer-client-cert-auth",
            "--log-level=warn",
        ]

    def _api_server_flags(self) -> list[str]:
        ca = str(self.ca_pem)
        return [
            f"--secure-port={self.port}",
            "--bind-address=0.0.0.0",  # of the namespace: its loopback, and the cables to its nodes
            f"--advertise-address={host_address(1)}",
            "--endpoint-reconciler-type=none",
            "--enable-aggregator-routing=true",  # to the pods behind a webhook's Service; there is no kube-proxy here
            f"--tls-cert-file={self._pki('kube-apiserver.crt')}",
            f"--tls-private-key-file={self._pki('kube-apiserver.key')}",
            f"--client-ca-file={ca}",
            "--anonymous-auth=false",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--etcd-servers=https://127.0.0.1:{self.ports.etcd}",
            f"--etcd-cafile={ca}",
            f"--etcd-certfile={self._pki('etcd-client.crt')}",
            f"--etcd-keyfile={self._pki('etcd-client.key')}",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._pki('service-accounts.pub')}",
            f"--service-account-signing-key-file={self._pki('service-accounts.key')}",
            f"--kubelet-certificate-authority={ca}",
            f"--kubelet-client-certificate={self._pki('kubelet-client.crt')}",
            f"--kubelet-client-key={self._pki('kubelet-client.key')}",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _controller_flags(self) -> list[str]:
        return [
            *self._client_flags("kube-controller-manager", self.ports.controllers),
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._pki('service-accounts.key')}",
            f"--root-ca-file={self.ca_pem}",
            f"--cluster-signing-cert-file={self.ca_pem}",
            f"--cluster-signing-key-file={self._pki('ca.key')}",
        ]

    def _scheduler_flags(self) -> list[str]:
        return self._client_flags("kube-scheduler", self.ports.scheduler)

    def _client_flags(self, name: str, port: int) -> list[str]:
        kubeconfig = self.folder / f"{name}.kubeconfig"
        return [
            *(f"--{use}kubeconfig={kubeconfig}" for use in ("", "authentication-", "authorization-")),
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={self._pki(f'{name}-serving.crt')}",
            f"--tls-private-key-file={self._pki(f'{name}-serving.key')}",
            "--leader-elect=false",
        ]


def _fields(ports: Ports) -> Mapping[str, int]:
    return {name: getattr(ports, name) for name in Ports.__slots__}
