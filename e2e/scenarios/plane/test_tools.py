"""Building tools from source: from nothing, and from the cache."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from e2e.lab.cache import VARIABLE
from e2e.lab.errors import LabError
from e2e.lab.progress import Progress
from e2e.lab.tools import TOOLS, Tool, build, build_all, version


def test_tools_have_the_versions_of_their_modules() -> None:
    versions = {name: version(tool) for name, tool in TOOLS.items()}
    assert re.match(r"v1\.35\.", versions["kube-apiserver@1.35"])
    kubernetes = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
    assert {versions[name] for name in kubernetes} == {"v1.37.2"}
    assert re.match(r"v3\.7\.", versions["etcd"])
    assert re.match(r"v4\.", versions["helm"])
    assert re.match(r"v3\.", versions["helm@3"])


def test_staging_modules_have_the_version_of_kubernetes() -> None:
    """Kubernetes' own go.mod points them to a folder that its module does not carry."""
    text = (TOOLS["kubelet"].folder / "go.mod").read_text()
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (k8s\.io/\S+) (v\S+)$", text, re.MULTILINE)
    assert len(replaced) >= 30
    assert {(new == old, tag) for old, new, tag in replaced} == {(True, "v0.37.2")}


def test_unknown_tool() -> None:
    with pytest.raises(LabError) as caught:
        build("kubectx")
    assert str(caught.value) == f"the lab knows no tool 'kubectx'; known: {', '.join(TOOLS)}"


def test_module_without_the_package() -> None:
    with pytest.raises(LabError) as caught:
        version(Tool("kubeadm", "etcd", "k8s.io/kubernetes/cmd/kubeadm"))
    assert str(caught.value).endswith(
        "etcd/go.mod requires no module that holds k8s.io/kubernetes/cmd/kubeadm; add it with `go get -tool`"
    )


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that never built anything. Go makes its module cache read-only, so that a test cannot remove it:
    ``-modcacherw`` is what Go has for that."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("GOCACHE", str(tmp_path / "built"))
    monkeypatch.setenv("GOFLAGS", "-modcacherw")
    return tmp_path


@pytest.mark.slow
def test_cold_build_says_that_it_is_alive_and_is_not_repeated(nothing: Path) -> None:
    """kind, because it is small; the others go the same way."""
    out = io.StringIO()
    build_all(("kind",), Progress(out))
    lines = [re.sub(r"^\[ +[0-9.]+ s\] ", "", line) for line in out.getvalue().splitlines()]
    assert lines[0].startswith("to build from source: kind ")
    assert lines[1] == f"building kind {version(TOOLS['kind'])} from source"
    assert re.fullmatch(r"built kind: [0-9.]+ s", lines[-1])
    path = build("kind")
    made = path.stat().st_mtime_ns
    again = io.StringIO()
    build_all(("kind",), Progress(again))
    assert (again.getvalue(), build("kind"), path.stat().st_mtime_ns) == ("", path, made)


def test_no_network(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "off")
    with pytest.raises(LabError) as caught:
        build("kind", Progress(io.StringIO()))
    message = str(caught.value)
    assert message.startswith("go could not build kind (")
    assert message.endswith("; with a network, `go env GOPROXY` must name a module proxy that can be reached")
    assert "kind.log" in message
