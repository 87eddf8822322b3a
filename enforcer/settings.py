"""How one enforcer behaves: read once, from options and the environment, then never changed."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click

from enforcer.errors import SetupError
from shared.cpuset import CpuSet
from shared.errors import InputError
from shared.quantity import parse, to_whole

F = TypeVar("F", bound=Callable[..., Any])

NODE_NAME = "NODE_NAME"
"""Environment variable, set by the DaemonSet from ``spec.nodeName``."""

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LONGEST_NAME = 253
"""Characters of a node's name, as the API server has it (DNS-1123 subdomain)."""


class Cluster(Enum):
    """How the API server is found."""

    SERVICE_ACCOUNT = "service account"
    KUBECONFIG = "kubeconfig"
    NONE = "none"
    """Not at all: no events, no published topology; namespaces stay unknown, which counts as enforcing."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where metrics and health are served."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Every figure with its unit and its reason."""

    node: str
    """The node's name in Kubernetes: what is published and told carries it."""
    keys: Path = Path("/etc/armistice/keys")
    """File or folder of PEM with the webhook's Ed25519 public keys; a ConfigMap's mount in the chart."""
    nri_socket: Path = Path("/var/run/nri/nri.sock")
    """The runtime's own default. Its folder is what a container mounts: the socket is made anew at each start."""
    cgroup_root: Path = Path("/sys/fs/cgroup")
    """Where cgroup v2 is mounted."""
    sysfs_root: Path = Path("/")
    """Folder that holds ``sys/`` and ``proc/`` with the machine's topology."""
    proc: Path = Path("/proc")
    """The host's processes."""
    kubelet: Path = Path("/var/lib/kubelet")
    """The kubelet's folder (``--root-dir``): its state files show whether it pins containers itself."""
    kubelet_config: Path | None = None
    """The kubelet's configuration; None for ``config.yaml`` in its folder, where kubeadm puts it."""
    reserved_cpus: CpuSet | None = None
    """Kept from pods; None takes what the kubelet's configuration says."""
    reserved_memory: int | None = None
    """Bytes kept from pods; None takes what the kubelet's configuration says."""
    state_dir: Path = Path("/run/armistice")
    """For the report that ``armistice proof`` reads. A tmpfs: after a reboot nothing in it would be true."""
    listen: Listen | None = Listen("0.0.0.0", 9465)
    """Metrics and health, for Prometheus and the kubelet's probes, which come from outside the pod; None: nowhere."""
    tick: float = 10.0
    """Seconds between looks at what tells nothing by itself: the key files and the kubelet's. As long as the kubelet's
    own reconcile period."""
    cluster: Cluster = Cluster.SERVICE_ACCOUNT
    kubeconfig: Path | None = None
    """For Cluster.KUBECONFIG."""

    def __post_init__(self) -> None:
        if len(self.node) > _LONGEST_NAME or not _SUBDOMAIN.fullmatch(self.node):
            raise SetupError(
                f"--node {self.node!r} is no name of a node; give what `kubectl get nodes` shows, or set {NODE_NAME}"
            )
        if not 1 <= self.tick <= 3600:
            raise SetupError(f"--tick {self.tick:g}: seconds, from 1 to 3600")
        for option, path in (("--state-dir", self.state_dir), ("--cgroup-root", self.cgroup_root)):
            if not path.is_absolute():
                raise SetupError(f"{option} {path} is not an absolute path; write it from / on")
        if (self.cluster is Cluster.KUBECONFIG) != (self.kubeconfig is not None):
            raise SetupError("the settings name a kubeconfig and another way to the cluster; give one of the two")


_DEFAULTS = Settings("node")


def own_name() -> str:
    """What the kubelet calls its node unless it is told otherwise: the host's name in lower case."""
    return socket.gethostname().lower()


def options(command: F) -> F:
    """The enforcer's options; :func:`make` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _path(flag: str, default: Path, text: str) -> Callable[[F], F]:
    return click.option(
        flag, type=click.Path(path_type=Path), default=default, show_default=True, metavar="PATH", help=text
    )


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--node", envvar=NODE_NAME, default="", metavar="NAME", help=f"This node's name [env {NODE_NAME}]."),
    _path("--keys", _DEFAULTS.keys, "File or folder of PEM: the public keys whose intents are believed; watched."),
    _path("--nri-socket", _DEFAULTS.nri_socket, "The runtime's NRI socket."),
    _path("--cgroup-root", _DEFAULTS.cgroup_root, "Where cgroup v2 is mounted."),
    _path("--sysfs", _DEFAULTS.sysfs_root, "Folder that holds sys/ and proc/ of the node."),
    _path("--proc", _DEFAULTS.proc, "The node's /proc."),
    _path("--kubelet-dir", _DEFAULTS.kubelet, "The kubelet's folder."),
    click.option(
        "--kubelet-config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The kubelet's configuration [default: config.yaml in its folder].",
    ),
    click.option("--reserved-cpus", metavar="LIST", help="CPUs kept from pods: 0-1,64 [default: the kubelet's]."),
    click.option("--reserved-memory", metavar="QUANTITY", help="Memory kept from pods: 1Gi [default: the kubelet's]."),
    _path("--state-dir", _DEFAULTS.state_dir, "Folder for the report that `armistice proof` reads."),
    click.option(
        "--listen",
        default="0.0.0.0:9465",
        show_default=True,
        metavar="HOST:PORT",
        help="Metrics and health; '' for off.",
    ),
    click.option("--tick", default=_DEFAULTS.tick, show_default=True, metavar="SECONDS", help="Between slow looks."),
    click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="How to reach the API server [default: the pod's service account].",
    ),
    click.option("--no-cluster", is_flag=True, help="Do without an API server: no events, nothing published."),
)


def make(
    *,
    node: str,
    sysfs: Path,
    kubelet_dir: Path,
    reserved_cpus: str | None,
    reserved_memory: str | None,
    listen: str,
    kubeconfig: Path | None,
    no_cluster: bool,
    **plain: Any,
) -> Settings:
    """The settings from the values of :func:`options`. Raises SetupError that names the option."""
    if no_cluster and kubeconfig is not None:
        raise SetupError("--no-cluster and --kubeconfig contradict each other; give one of the two")
    return Settings(
        node=node or own_name(),
        sysfs_root=sysfs,
        kubelet=kubelet_dir,
        reserved_cpus=None if reserved_cpus is None else _cpus(reserved_cpus),
        reserved_memory=None if reserved_memory is None else _memory(reserved_memory),
        listen=_listen(listen),
        cluster=_cluster(kubeconfig, no_cluster),
        kubeconfig=kubeconfig,
        **plain,
    )


def _cluster(kubeconfig: Path | None, no_cluster: bool) -> Cluster:
    if no_cluster:
        return Cluster.NONE
    return Cluster.SERVICE_ACCOUNT if kubeconfig is None else Cluster.KUBECONFIG


def _cpus(text: str) -> CpuSet:
    try:
        return CpuSet.parse(text)
    except InputError as error:
        raise SetupError(f"--reserved-cpus: {error}") from error


def _memory(text: str) -> int:
    try:
        amount = to_whole("memory", parse(text))
    except InputError as error:
        raise SetupError(f"--reserved-memory {text!r}: {error}; write it as 1Gi") from error
    if amount < 0:
        raise SetupError(f"--reserved-memory {text}: must be greater than or equal to 0")
    return amount


def _listen(text: str) -> Listen | None:
    """``HOST:PORT``, an IPv6 address in brackets; None for the empty text."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address without brackets: which colon is the port's is anybody's guess
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise SetupError(f"--listen {text!r} is not of the form HOST:PORT; write it as 0.0.0.0:9465, or '' for nowhere")
    return Listen(host, int(port))
