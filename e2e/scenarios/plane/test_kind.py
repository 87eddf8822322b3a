"""The provider ``kind``: its config before the real ``kind``, its commands before a ``docker`` that writes them down.

Whether nodes come of it, only a machine with Docker and kind's node image can show.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.lab.errors import LabError
from e2e.lab.kind import Cluster, complaint, config, needs_two_numa_nodes, numa_nodes
from e2e.lab.tools import build

INFO = {"CgroupDriver": "systemd", "CgroupVersion": "2", "MemoryLimit": True, "PidsLimit": True, "CPUShares": True}


@dataclass(frozen=True, slots=True)
class Docker:
    """A ``docker`` that answers as little as kind needs, and has no image."""

    folder: Path

    @property
    def asked(self) -> list[str]:
        """The first words of every call."""
        return [line.split("@")[0] for line in (self.folder / "asked").read_text().splitlines()]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    build("kind")
    script = f"""#!/bin/sh
echo "$*" >> {tmp_path}/asked
case "$1" in
  info) echo '{json.dumps(INFO)}' ;;
  -v) echo "Docker version 28.5.0, build 0" ;;
  version) echo 28.5.0 ;;
  inspect) exit 1 ;;
  pull) echo "Error response from daemon: pull access denied for $2" >&2; exit 1 ;;
esac
"""
    (tmp_path / "docker").write_text(script)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Docker(tmp_path)


def test_kind_takes_the_config_and_asks_docker_for_its_node_image(docker: Docker) -> None:
    """That far a machine without the image gets, and its person reads why it gets no further."""
    with pytest.raises(LabError) as caught:
        Cluster.called("scenario").create()
    message = str(caught.value)
    assert message.startswith(
        "`kind create cluster` failed for want of kind's node image "
        "(ERROR: failed to create cluster: failed to pull image"
    )
    assert message.endswith("`docker load` it on this machine, or use --provider local, which needs no image")
    assert "pull kindest/node:v1.37.0" in docker.asked
    assert "ps -a --filter label=io.x-k8s.kind.cluster=armistice-scenario --format {{.Names}}" in docker.asked


@pytest.mark.parametrize(
    ("change", "complained"),
    [
        ({"nodess": []}, "field nodess not found"),
        ({"nodes": [{"role": "boss"}]}, '"boss" is not a valid node role'),
    ],
)
def test_kind_reads_every_word_of_a_config(docker: Docker, change: dict[str, object], complained: str) -> None:
    """So that taking ours means something."""
    path = docker.folder / "config.json"
    path.write_text(json.dumps({**config(), **change}))
    argv = [str(build("kind")), "create", "cluster", "--config", str(path), "--name", "spoiled"]
    argv += ["--kubeconfig", str(docker.folder / "kubeconfig")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert complained in done.stderr


def test_load_and_delete_of_a_cluster_that_is_not_there(docker: Docker) -> None:
    cluster = Cluster.called("scenario")
    archive = docker.folder / "image.tar"
    archive.touch()
    with pytest.raises(LabError, match='no nodes found for cluster "armistice-scenario"'):
        cluster.load(archive)
    cluster.delete()
    assert not cluster.kubeconfig.exists()


def test_shell_in_a_node(docker: Docker) -> None:
    assert Cluster.called("scenario").sh("armistice-scenario-worker", "echo hello") == ""
    assert docker.asked[-1] == "exec armistice-scenario-worker sh -ec echo hello"


def test_no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LabError) as caught:
        Cluster.called("scenario")
    assert str(caught.value) == (
        "--provider kind makes its nodes with Docker and there is no `docker` in PATH; "
        "install Docker, or use --provider local, which needs none"
    )


def test_docker_that_does_not_run() -> None:
    said = (
        "Client: 28\nCannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    )
    assert complaint("docker version", said) == (
        "`docker version` failed because Docker does not run here; start it, or use --provider local"
    )


def test_machine_with_one_numa_node_skips_with_the_reason(tmp_path: Path) -> None:
    """A memory-only node is none that counts here."""
    for node, cpus in {"node0": "0-3\n", "node1": "\n"}.items():
        (tmp_path / "devices/system/node" / node).mkdir(parents=True)
        (tmp_path / "devices/system/node" / node / "cpulist").write_text(cpus)
    reason = "it needs two NUMA nodes, and this machine, which kind's nodes see, has 1"
    assert needs_two_numa_nodes(numa_nodes(tmp_path)) == reason
    assert needs_two_numa_nodes(2) == ""
