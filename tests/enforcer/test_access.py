"""Ways to the API server: a pod's own, and kubeconfigs of every kind."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from enforcer.access import Access, by_kubeconfig, by_service_account, find
from enforcer.errors import SetupError
from enforcer.settings import Cluster, Settings

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


def account(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).write_text("x")
    return folder


def test_a_pod_finds_its_cluster(tmp_path: Path) -> None:
    folder = account(tmp_path, "token", "ca.crt")
    assert by_service_account(IN_CLUSTER, folder) == Access(
        "10.0.0.1", 6443, authority=folder / "ca.crt", token=folder / "token"
    )


def test_the_settings_name_the_way(tmp_path: Path) -> None:
    path = written(tmp_path, kubeconfig({}, {"token": "t"}))
    named = find(Settings("w", cluster=Cluster.KUBECONFIG, kubeconfig=path), {})
    assert named is not None
    assert named.token == "t"
    assert find(Settings("w", cluster=Cluster.NONE), IN_CLUSTER) is None
    with pytest.raises(SetupError, match="KUBERNETES_SERVICE_HOST is not set"):
        find(Settings("w"), {})


def test_an_ipv6_cluster_is_named_with_brackets() -> None:
    assert Access("fd00::1", 443).server == "[fd00::1]:443"


OUTSIDE: list[tuple[str, dict[str, str], tuple[str, ...], str]] = [
    ("no cluster", {}, (),
     "KUBERNETES_SERVICE_HOST is not set, so this is no pod of a cluster; give --kubeconfig FILE, or --no-cluster to "
     "do without events and published topologies"),
    ("a port that is none", {**IN_CLUSTER, "KUBERNETES_SERVICE_PORT": "tcp://10.0.0.1:443"}, (),
     "KUBERNETES_SERVICE_PORT is 'tcp://10.0.0.1:443', not a port; give --kubeconfig FILE, or --no-cluster to do "
     "without events and published topologies"),
    ("no token", IN_CLUSTER, ("ca.crt",),
     "{folder}/token is missing: the pod has no service account token; set automountServiceAccountToken, or give "
     "--no-cluster"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "environment", "files", "text"), OUTSIDE, ids=[case for case, *_ in OUTSIDE])
def test_a_pod_without_a_way(
    case: str, environment: dict[str, str], files: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    with pytest.raises(SetupError) as caught:
        by_service_account(environment, account(tmp_path, *files))
    assert str(caught.value) == text.format(folder=tmp_path)


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
        **changes,
    }


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "config"
    path.write_text(yaml.safe_dump(content))
    return path


def data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_everything_in_the_file(tmp_path: Path) -> None:
    user = {"client-certificate-data": data("cert"), "client-key-data": data("key"), "client-key": "not/this"}
    path = written(tmp_path, kubeconfig({"certificate-authority-data": data("ca")}, user))
    assert by_kubeconfig(path) == Access("10.0.0.1", 6443, authority=b"ca", certificate=b"cert", key=b"key")


def test_files_are_looked_for_beside_it(tmp_path: Path) -> None:
    cluster = {"server": "https://api.example/k8s/", "certificate-authority": "pki/ca.pem"}
    path = written(tmp_path, kubeconfig(cluster, {"tokenFile": "/var/token"}))
    assert by_kubeconfig(path) == Access(
        "api.example", 443, "/k8s", authority=tmp_path / "pki" / "ca.pem", token=Path("/var/token")
    )


def test_a_token_in_the_file(tmp_path: Path) -> None:
    assert by_kubeconfig(written(tmp_path, kubeconfig({}, {"token": "t"}))).token == "t"


WAY_OUT = "`kubectl config view --minify --flatten --raw` prints one with everything in it"
UNUSABLE = [
    ("no such context", kubeconfig({}, {}, **{"current-context": "there"}), "it has no context called 'there'"),
    ("no such user", kubeconfig({}, {}, users=None), "it has no user called 'u'"),
    ("a login by a program", kubeconfig({}, {"exec": {"command": "aws"}}),
     "its user logs in by a program (exec); use a client certificate or a token"),
    ("plain HTTP", kubeconfig({"server": "http://10.0.0.1"}, {}),
     "the server 'http://10.0.0.1' is no address of the form https://HOST:PORT"),
    ("a port that is none", kubeconfig({"server": "https://a:b"}, {}),
     "the server 'https://a:b' is no address: Port could not be cast to integer value as 'b'"),
    ("anybody is trusted", kubeconfig({"insecure-skip-tls-verify": True}, {}),
     "it trusts any server (insecure-skip-tls-verify); name its certificate-authority"),
    ("another name of the server", kubeconfig({"tls-server-name": "x"}, {}),
     "tls-server-name and proxy-url are not supported; reach the server by a name it has"),
    ("Base64 that is none", kubeconfig({"certificate-authority-data": "%"}, {}),
     "certificate-authority-data is no Base64"),
    ("no kubeconfig at all", {"kind": "Pod"}, "it has no context called None"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "content", "text"), UNUSABLE, ids=[case for case, *_ in UNUSABLE])
def test_an_unusable_kubeconfig_is_one_sentence(case: str, content: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(SetupError) as caught:
        by_kubeconfig(path)
    assert str(caught.value) == f"--kubeconfig {path} is no usable kubeconfig: {text}; {WAY_OUT}"


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        by_kubeconfig(tmp_path / "none")
    assert str(caught.value) == (
        f"--kubeconfig {tmp_path / 'none'} cannot be read: No such file or directory; {WAY_OUT}"
    )
