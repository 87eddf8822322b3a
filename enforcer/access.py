"""How the API server is reached: by the pod's service account, or by a kubeconfig.

Of a kubeconfig the current context counts, with client certificates or a token, in files or in the text. What would
make us start other programs (``exec``) or trust anybody is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from enforcer.errors import SetupError
from enforcer.settings import Cluster, Settings
from shared.documents import read_documents
from shared.errors import InputError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts a pod's token and the cluster's authority."""

HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
"""Environment variables that every container of a cluster has."""

NO_CLUSTER = "give --kubeconfig FILE, or --no-cluster to do without events and published topologies"


@dataclass(frozen=True, slots=True)
class Access:
    """Where, whom to trust, and who we are. Files are read at each call: the kubelet renews them."""

    host: str
    port: int
    prefix: str = ""
    """Goes before every path; empty but behind some proxies."""
    authority: Path | bytes | None = None
    """PEM of the authorities to trust; None for those of the system."""
    token: Path | str = ""
    certificate: Path | bytes | None = None
    """PEM of our client certificate."""
    key: Path | bytes | None = None

    @property
    def server(self) -> str:
        """As a sentence names it."""
        return f"{self._bracketed}:{self.port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def find(settings: Settings, environment: Mapping[str, str]) -> Access | None:
    """The way that the settings name; None where they name none. Raises SetupError where it leads nowhere."""
    if settings.kubeconfig is not None:
        return by_kubeconfig(settings.kubeconfig)
    return None if settings.cluster is Cluster.NONE else by_service_account(environment)


def by_service_account(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """The pod's own way. Raises SetupError outside a cluster."""
    host, port = environment.get(HOST, ""), environment.get(PORT, "443")
    if not host:
        raise SetupError(f"{HOST} is not set, so this is no pod of a cluster; {NO_CLUSTER}")
    if not (port.isascii() and port.isdigit()):
        raise SetupError(f"{PORT} is {port!r}, not a port; {NO_CLUSTER}")
    for name in ("token", "ca.crt"):
        if not (folder / name).is_file():
            raise SetupError(
                f"{folder / name} is missing: the pod has no service account token; "
                "set automountServiceAccountToken, or give --no-cluster"
            )
    return Access(host, int(port), authority=folder / "ca.crt", token=folder / "token")


def by_kubeconfig(path: Path) -> Access:
    """The current context's way. Raises SetupError that names the file."""
    try:
        return _Kubeconfig(path).access()
    except InputError as error:
        text = str(error)
        named = text if text.startswith(str(path)) else f"{path} is no usable kubeconfig: {text}"
        raise SetupError(f"--kubeconfig {named}; {_WAY_OUT}") from error


_WAY_OUT = "`kubectl config view --minify --flatten --raw` prints one with everything in it"


class _Kubeconfig:
    """One file while it is being read."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        documents = read_documents(path)
        self._content = documents[0] if len(documents) == 1 and isinstance(documents[0], dict) else {}

    def access(self) -> Access:
        context = self._named("contexts", "context", self._content.get("current-context"))
        cluster = self._named("clusters", "cluster", context.get("cluster"))
        user = self._named("users", "user", context.get("user"))
        host, port, prefix = _address(cluster)
        _check_user(user)
        return Access(
            host=host,
            port=port,
            prefix=prefix,
            authority=self._pem(cluster, "certificate-authority"),
            token=self._token(user),
            certificate=self._pem(user, "client-certificate"),
            key=self._pem(user, "client-key"),
        )

    def _named(self, plural: str, single: str, name: object) -> Mapping[str, Any]:
        entries = self._content.get(plural)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(single), dict):
                found: Mapping[str, Any] = entry[single]
                return found
        raise InputError(f"it has no {single} called {name!r}")

    def _pem(self, holder: Mapping[str, Any], field: str) -> Path | bytes | None:
        """The text in the file itself wins over the name of a file, as with kubectl."""
        inline, named = holder.get(f"{field}-data"), holder.get(field)
        if inline:
            try:
                return base64.b64decode(str(inline), validate=True)
            except binascii.Error as error:
                raise InputError(f"{field}-data is no Base64") from error
        return self._folder / str(named) if named else None

    def _token(self, user: Mapping[str, Any]) -> Path | str:
        named = user.get("tokenFile")
        return self._folder / str(named) if named else str(user.get("token") or "")


def _address(cluster: Mapping[str, Any]) -> tuple[str, int, str]:
    server = str(cluster.get("server") or "")
    if cluster.get("insecure-skip-tls-verify"):
        raise InputError("it trusts any server (insecure-skip-tls-verify); name its certificate-authority")
    if cluster.get("tls-server-name") or cluster.get("proxy-url"):
        raise InputError("tls-server-name and proxy-url are not supported; reach the server by a name it has")
    try:
        parts = urlsplit(server)
        port = parts.port or 443
    except ValueError as error:
        raise InputError(f"the server {server!r} is no address: {error}") from error
    if parts.scheme != "https" or not parts.hostname:
        raise InputError(f"the server {server!r} is no address of the form https://HOST:PORT")
    return parts.hostname, port, parts.path.rstrip("/")


def _check_user(user: Mapping[str, Any]) -> None:
    for field, about in (("exec", "a program"), ("auth-provider", "a provider"), ("username", "a password")):
        if user.get(field):
            raise InputError(f"its user logs in by {about} ({field}); use a client certificate or a token")
