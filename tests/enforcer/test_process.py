"""The process as a person or a DaemonSet starts it: what it says where it cannot serve, what it does until it can."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.fake_runtime import FakeRuntime
from tests.support.node_folder import arguments, make_node

pytestmark = pytest.mark.slow


async def ends(*words: str) -> tuple[int | None, str]:
    """Exit code and standard error of a process that is expected to end by itself."""
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, said.decode()


class Running:
    """A process that is expected to go on, and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.said = ""

    async def says(self, pattern: str) -> str:
        """Wait for a line."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while True:
                line = (await self.process.stderr.readline()).decode()
                self.said += line
                assert line, f"it ended without saying {pattern!r}: {self.said}"
                if re.search(pattern, line):
                    return line

    async def get(self, page: str) -> tuple[int, str]:
        """Status and text of one of its pages."""
        return await asyncio.to_thread(_got, f"http://127.0.0.1:{self.port}{page}")


def _got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@asynccontextmanager
async def running(folder: Path, port: int, *more: str) -> AsyncIterator[Running]:
    words = [*arguments(folder), "--listen", f"127.0.0.1:{port}", *more]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)
    try:
        yield Running(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def port(unused_tcp_port: int) -> int:
    return unused_tcp_port


def hybrid(folder: Path) -> None:
    (folder / "cgroup/cgroup.controllers").unlink()
    (folder / "cgroup/unified").mkdir()


def without_cpuset(folder: Path) -> None:
    (folder / "cgroup/cgroup.controllers").write_text("cpu memory")


def with_a_foreign_key(folder: Path) -> None:
    (folder / "key.pem").write_text("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n")


def with_an_odd_kubelet(folder: Path) -> None:
    (folder / "kubelet").mkdir()
    (folder / "kubelet/config.yaml").write_text("kind: KubeletConfiguration\nreservedSystemCPUs: all\n")


BROKEN: list[tuple[str, Callable[[Path], None], str]] = [
    ("cgroup v1 beside v2", hybrid, "is the hybrid of cgroup v1 and v2, and Armistice needs cgroup v2 alone: boot"),
    ("no cpuset controller", without_cpuset, "has no cpuset controller: build the kernel with CONFIG_CPUSETS"),
    ("a key of another kind", with_a_foreign_key, "that is not Ed25519; intents are signed with Ed25519 only; put the"),
    ("a kubelet's configuration with a slip", with_an_odd_kubelet, "reservedSystemCPUs: .*--kubelet-config"),
]


@pytest.mark.parametrize(("what", "breaks", "said"), BROKEN, ids=[row[0] for row in BROKEN])
async def test_where_it_cannot_serve_it_ends_with_one_sentence(
    tmp_path: Path, what: str, breaks: Callable[[Path], None], said: str
) -> None:
    make_node(tmp_path)
    breaks(tmp_path)
    code, told = await ends(*arguments(tmp_path), "--listen", "")
    last = told.splitlines()[-1]
    assert code == 2, told
    assert "Traceback" not in told
    assert last.startswith("armistice: ")
    assert re.search(said, last), last


async def test_without_a_runtime_it_waits_says_so_once_and_is_not_ready(tmp_path: Path, port: int) -> None:
    make_node(tmp_path)
    async with running(tmp_path, port) as daemon:
        line = await daemon.says("NRI socket")
        assert "containerd before 2.0 has NRI off: set disable = false" in line
        assert (await daemon.get("/healthz"))[0] == 200
        status, text = await daemon.get("/readyz")
        assert (status, text) == (503, "the container runtime has not taken the enforcer in: see its log\n")
        async with FakeRuntime(tmp_path / "nri.sock") as runtime:  # it comes later, as on a node that boots
            await runtime.plugin()
            await daemon.says("Connected to containerd")
            assert (await daemon.get("/readyz"))[0] == 200
            assert "\narmistice_enforcer_nri_connected 1\n" in (await daemon.get("/metrics"))[1]
        assert daemon.said.count("There is no NRI socket") == 1


async def test_it_ends_when_told_and_takes_nothing_back(tmp_path: Path, port: int) -> None:
    make_node(tmp_path)
    async with running(tmp_path, port) as daemon, FakeRuntime(tmp_path / "nri.sock") as runtime:
        await runtime.plugin()
        await daemon.says("Connected to containerd")
        daemon.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(daemon.process.wait(), 10)
        assert daemon.process.returncode == 0


async def test_a_report_that_cannot_be_written_stops_nothing_and_is_written_once_it_can(
    tmp_path: Path, port: int
) -> None:
    make_node(tmp_path)
    (tmp_path / "state").write_text("a file where the folder should be")
    async with running(tmp_path, port, "--tick", "1") as daemon, FakeRuntime(tmp_path / "nri.sock") as runtime:
        await runtime.plugin()
        line = await daemon.says("cannot be written")
        assert "pods are bound all the same" in line
        assert (await daemon.get("/readyz"))[0] == 200
        (tmp_path / "state").unlink()
        async with asyncio.timeout(30):
            while not (tmp_path / "state/report.json").exists():
                await asyncio.sleep(0.1)


async def test_a_port_that_is_taken_is_told(tmp_path: Path, port: int) -> None:
    make_node(tmp_path)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", port):
        code, told = await ends(*arguments(tmp_path), "--listen", f"127.0.0.1:{port}")
    assert code == 2
    assert f"--listen 127.0.0.1:{port} cannot be listened on: " in told.splitlines()[-1]
