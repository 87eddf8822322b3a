"""The proof on a model of cgroups and of /proc, and the command around it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from enforcer.cgroup import Cgroups
from enforcer.command import proof
from enforcer.kernel import Level, Support
from enforcer.partition import enclose
from enforcer.processes import Pages, Processes, add_pages, parse_status
from enforcer.promise import ContainerPromise, PodPromise
from enforcer.report import Report, ReportFile
from shared.cpuset import CpuSet
from tests.support.cgroupfs import CgroupFs

cpus = CpuSet.parse
WEB, LOG = "/kubepods/burstable/pod0a", "/kubepods/burstable/pod0b"
APP = ContainerPromise("1", "app", f"{WEB}/1", cpus("4-5"), cpus("0"), owns=True)
PROXY = ContainerPromise("2", "proxy", f"{WEB}/2", cpus("6-7"), cpus("0"))
TAIL = ContainerPromise("3", "tail", f"{LOG}/3", cpus("0-3"), cpus(""))
MIB = 2**20


class Node:
    """A node of eight CPUs and two NUMA nodes, on which everything holds."""

    def __init__(self, root: Path, level: Level = Level.PARTITION) -> None:
        self.root = root
        self.fs = CgroupFs(root / "cgroup", cpus("0-7"), cpus("0-1"))
        self.cgroups = Cgroups(self.fs.root, self.fs.write)
        web = PodPromise("u", "shop", "web", WEB, "exclusive", cpus("4-7"), level, "", (0,), (APP, PROXY))
        log = PodPromise("v", "shop", "log", LOG, "none", containers=(TAIL,))
        ReportFile(root / "run").write(Report("node-1", cpus("0-3"), Support(True), (web, log)))
        for number, container in enumerate((APP, PROXY, TAIL), start=1):
            self.fs.put(container.cgroups_path, [100 * number])
            self.write(container.cgroups_path, "cpuset.cpus", str(container.cpus))
            self.write(container.cgroups_path, "cpuset.mems", str(container.mems or cpus("0-1")))
        if level is not Level.CPUSET:
            enclose(self.cgroups, WEB, web.bubble, level)
        (root / "proc").mkdir()
        (root / "proc/stat").write_text("cpu  1 2\n" + "".join(f"cpu{each} 1 2\n" for each in range(8)) + "intr 1\n")
        self.thread(1, "systemd", "0-3", "0-1")
        self.thread(40, "ksoftirqd/4", "4", "0-1", kernel=True)
        self.thread(100, "app", "4-5", "0")
        self.thread(200, "envoy", "6-7", "0")
        self.thread(300, "tail", "0-3", "0-1")
        self.maps(100, 200 * MIB, 0)

    def write(self, path: str, name: str, text: str) -> None:
        self.fs.write(self.fs.root / path[1:] / name, text)

    def thread(
        self, tid: int, name: str, allowed: str, mems: str, pid: int = 0, state: str = "S", kernel: bool = False
    ) -> None:
        """A thread appears, or changes; without ``pid`` it is a process."""
        text = (
            f"Name:\t{name}\nState:\t{state} (sleeping)\nTgid:\t{pid or tid}\nPid:\t{tid}\n"
            f"PPid:\t{2 if kernel else 1}\nCpus_allowed_list:\t{allowed}\nMems_allowed_list:\t{mems}\n"
        )
        for folder in (self.root / f"proc/{tid}", self.root / f"proc/{pid or tid}/task/{tid}"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "status").write_text(text)

    def end(self, pid: int) -> None:
        """A process goes."""
        shutil.rmtree(self.root / f"proc/{pid}")

    def maps(self, pid: int, near: int, far: int) -> None:
        """A process's heap on NUMA nodes 0 and 1, and a mapped file on node 1."""
        (self.root / f"proc/{pid}/numa_maps").write_text(
            f"55d0 default heap anon={(near + far) // 4096} N0={near // 4096} N1={far // 4096} kernelpagesize_kB=4\n"
            "7f00 default file=/usr/lib/libc.so.6 mapped=512 N1=512 kernelpagesize_kB=4\n"
        )

    def proof(self, *arguments: str) -> Result:
        places = ["--state-dir", str(self.root / "run"), "--cgroup-root", str(self.fs.root)]
        return CliRunner().invoke(proof, [*arguments, *places, "--proc", str(self.root / "proc")])

    def item(self) -> dict[str, object]:
        """The pod ``web``, as programs get it."""
        content = json.loads(self.proof("web", "-o", "json").stdout)
        assert content["version"] == "armistice.dev/v1"
        item: dict[str, object] = content["items"][0]
        return item


def test_what_a_person_reads_when_all_holds(tmp_path: Path) -> None:
    result = Node(tmp_path).proof("web")
    assert result.exit_code == 0
    assert result.output == (
        "shop/web: holds\n"
        "  class exclusive, NUMA nodes 0, kept by partition\n"
        "  pod  promised  4-7 root  found  root 4-7 in effect 4-7\n"
        "  app  promised  4-5, memory 0, exclusive  found  4-5, memory 0, no quota\n"
        "    thread 100  app  CPUs 4-5  memory 0\n"
        "    memory: anonymous 200.0 MiB on node 0, 0 KiB on node 1; of files 2.0 MiB on node 1\n"
        "  proxy  promised  6-7, memory 0, shared  found  6-7, memory 0, no quota\n"
        "    thread 200  envoy  CPUs 6-7  memory 0\n"
        "    memory: anonymous none; of files none\n"
        "  kernel threads there, which no cgroup keeps off: 1: ksoftirqd/4 (40)\n"
    )


def test_what_a_program_reads_when_all_holds(tmp_path: Path) -> None:
    node = Node(tmp_path)
    item = node.item()
    containers = item.pop("containers")
    assert isinstance(containers, list)
    assert item == {
        "namespace": "shop", "name": "web", "uid": "u", "holds": True, "differences": [],
        "class": "exclusive", "isolation": "partition", "why_not": "", "numa_nodes": [0],
        "promised": {"cpus": "4-7", "partition": "root"},
        "found": {"cpus": "4-7", "partition": "root", "effective": "4-7"},
        "others": [{"kind": "kernel", "whose": "", "tid": 40, "pid": 40, "name": "ksoftirqd/4", "cpus": "4",
                    "mems": "0-1"}],
    }  # fmt: skip
    assert containers[0] == {
        "name": "app", "id": "1", "exclusive": True,
        "promised": {"cpus": "4-5", "mems": "0"}, "found": {"cpus": "4-5", "mems": "0", "quota": None},
        "threads": [{"tid": 100, "pid": 100, "name": "app", "cpus": "4-5", "mems": "0"}],
        "memory": {"anonymous": {"0": 200 * MIB, "1": 0}, "files": {"1": 2 * MIB}},
    }  # fmt: skip


def test_yaml_says_the_same_as_json(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert yaml.safe_load(node.proof("-o", "yaml").stdout) == json.loads(node.proof("-o", "json").stdout)


def test_without_a_name_every_pod_is_proved(tmp_path: Path) -> None:
    items = json.loads(Node(tmp_path).proof("-o", "json").stdout)["items"]
    assert [item["name"] for item in items] == ["web", "log"]
    assert all(item["holds"] for item in items)


def test_an_enforcer_without_pods_says_so(tmp_path: Path) -> None:
    node = Node(tmp_path)
    ReportFile(tmp_path / "run").write(Report("node-1", cpus("0-7"), Support(True)))
    assert node.proof().output == "The enforcer of this node has promised nothing to any pod.\n"


def widen(node: Node) -> None:
    node.write(APP.cgroups_path, "cpuset.cpus", "4-7")


def unpin(node: Node) -> None:
    node.thread(101, "worker", "4-6", "0", pid=100)
    node.fs.put(APP.cgroups_path, [100, 101])


def far_thread(node: Node) -> None:
    node.thread(100, "app", "4-5", "0-1")


def far_memory(node: Node) -> None:
    node.maps(100, 190 * MIB, 10 * MIB)


def intrude(node: Node) -> None:
    node.thread(500, "sshd", "0-7", "0-1")


def neighbour(node: Node) -> None:
    node.thread(300, "tail", "0-4", "0-1")


def crowd(node: Node) -> None:
    for tid in range(500, 507):
        node.thread(tid, "irqd", "7", "0-1")


def end_partition(node: Node) -> None:
    node.write(WEB, "cpuset.cpus.partition", "member")


def throttle(node: Node) -> None:
    node.write(APP.cgroups_path, "cpu.max", "50000 100000")


def vanish(node: Node) -> None:
    node.fs.remove(WEB)
    node.end(100)
    node.end(200)


BROKEN = [
    ("a cpuset widened by hand", widen, ["container app may run on 4-7, and was promised 4-5"]),
    ("a thread that may run beyond the slice", unpin,
     ["container app: 1 thread may run outside of 4-5: worker (101) on 4-6"]),
    ("a thread that may take memory from afar", far_thread,
     ["container app: 1 thread may take memory outside of NUMA nodes 0: app (100) on 0-1"]),
    ("memory that lies afar", far_memory,
     ["container app: 10.0 MiB of 200.0 MiB anonymous memory lie outside of NUMA nodes 0"]),
    ("a host daemon on the pod's CPUs", intrude,
     ["1 thread of others may run on the pod's own CPUs 4-7: sshd (500) on 0-7"]),
    ("another pod's container on the pod's CPUs", neighbour,
     ["1 thread of others may run on the pod's own CPUs 4-7: shop/log container tail on 0-4"]),
    ("many at once", crowd,
     ["7 threads of others may run on the pod's own CPUs 4-7: irqd (500) on 7, irqd (501) on 7, irqd (502) on 7, "
      "irqd (503) on 7, irqd (504) on 7 and 2 more"]),
    ("no partition any more", end_partition, ["the pod's cgroup is member, and was promised to be root"]),
    ("a quota on a slice", throttle,
     ["container app is throttled at 50000 microseconds per period, and was promised no quota"]),
    ("no cgroup at all", vanish, [f"the pod's cgroup {WEB} does not exist"]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "harm", "told"), BROKEN, ids=[row[0] for row in BROKEN])
def test_what_does_not_hold_is_told_and_fails(
    tmp_path: Path, what: str, harm: Callable[[Node], None], told: Sequence[str]
) -> None:
    node = Node(tmp_path)
    harm(node)
    result = node.proof("web")
    assert result.exit_code == 1
    assert result.output.startswith("shop/web: DOES NOT HOLD\n")
    assert node.item()["differences"] == told


def little_memory_afar(node: Node) -> None:
    node.maps(100, 199 * MIB, MIB)


def dead(node: Node) -> None:
    node.thread(500, "gone", "0-7", "0-1", state="Z")


def pinned(node: Node) -> None:
    node.thread(100, "app", "5", "0")


def offline(node: Node) -> None:
    stat = node.root / "proc/stat"
    stat.write_text(stat.read_text().replace("cpu5 1 2\n", ""))
    node.fs.plug(cpus("5"))
    node.thread(100, "app", "4", "0")


def init_done(node: Node) -> None:
    node.fs.remove(PROXY.cgroups_path)
    node.end(200)


HOLDING = [
    ("a few pages from before the process was bound", little_memory_afar),
    ("a dead task", dead),
    ("a thread that pins itself within the slice", pinned),
    ("a CPU that is offline", offline),
    ("a container that does not run", init_done),
]


@pytest.mark.parametrize(("what", "change"), HOLDING, ids=[row[0] for row in HOLDING])
def test_what_makes_no_difference(tmp_path: Path, what: str, change: Callable[[Node], None]) -> None:
    node = Node(tmp_path)
    change(node)
    assert node.item()["differences"] == []


def test_cpusets_alone_promise_nothing_of_host_daemons_but_name_them(tmp_path: Path) -> None:
    node = Node(tmp_path, Level.CPUSET)
    intrude(node)
    result = node.proof("web")
    assert result.exit_code == 0
    assert "  other tasks that may run on the pod's own CPUs: 1: sshd (500)\n" in result.output


def test_cpusets_alone_keep_other_containers_off(tmp_path: Path) -> None:
    node = Node(tmp_path, Level.CPUSET)
    neighbour(node)
    assert node.item()["differences"] == [
        "1 thread of others may run on the pod's own CPUs 4-7: shop/log container tail on 0-4"
    ]


def test_a_pod_that_nothing_was_promised_to(tmp_path: Path) -> None:
    result = Node(tmp_path).proof("db", "-n", "shop")
    assert result.exit_code == 2
    assert result.output == (
        "Error: the enforcer of node-1 has promised nothing to pod shop/db; it knows: shop/web, shop/log\n"
    )


def test_processes_of_another_namespace_are_no_proof(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.fs.put(APP.cgroups_path, [0])
    result = node.proof("web")
    assert result.exit_code == 2
    assert result.output == (
        f"Error: {node.fs.root}{APP.cgroups_path}/cgroup.threads hides its threads: run this with the node's process "
        "ids (hostPID)\n"
    )


def test_a_foreign_proc_is_no_proof(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.fs.put(APP.cgroups_path, [77])
    result = node.proof("web")
    assert result.exit_code == 2
    assert result.output == (
        f"Error: no thread of {node.fs.root}{APP.cgroups_path} is in {tmp_path}/proc: name the node's /proc with "
        "--proc\n"
    )


def test_no_proc_at_all_is_told(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "proc/stat").unlink()
    result = node.proof("web")
    assert result.exit_code == 2
    assert result.output == f"Error: {tmp_path}/proc/stat names no CPU: name the node's /proc with --proc\n"


def test_no_report_and_no_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(proof, ["web", "--state-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert result.output == (
        f"Error: {tmp_path}/report.json is not there: run this on a node whose enforcer runs, or name the enforcer's "
        "folder with --state-dir\n"
    )


KUBECTL = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
"get pod web --namespace shop --output json"|"get pod web --output json")
  echo '{{"metadata": {{"namespace": "shop"}}, "spec": {{"nodeName": "node-7"}}}}' ;;
"get pod late "*) echo '{{"metadata": {{"namespace": "shop"}}, "spec": {{}}}}' ;;
"get pod lone "*) echo '{{"metadata": {{"namespace": "shop"}}, "spec": {{"nodeName": "node-8"}}}}' ;;
"get pod odd "*) echo 'hello' ;;
"get pod "*) echo 'Error from server (NotFound): pods "'$3'" not found' >&2; exit 1 ;;
*spec.nodeName=node-7*) echo '{{"items": [{{"metadata": {{"namespace": "guard", "name": "enforcer-x"}}}}]}}' ;;
*spec.nodeName=node-8*) echo '{{"items": []}}' ;;
exec*) exit {code} ;;
esac
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that knows some pods; the answer is where it logs what it is asked."""
    log = tmp_path / "log"
    script = tmp_path / "kubectl"
    script.write_text(KUBECTL.format(log=log, code=1))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return log


def away(*arguments: str) -> Result:
    return CliRunner().invoke(proof, [*arguments, "--state-dir", "/nowhere"])


@pytest.mark.parametrize("arguments", [("web", "-n", "shop"), ("web",), ("web", "--remote")])
def test_away_from_the_node_the_enforcer_there_is_asked(kubectl: Path, arguments: tuple[str, ...]) -> None:
    assert away(*arguments, "-o", "json").exit_code == 1
    assert kubectl.read_text().splitlines()[-1] == (
        "exec --namespace guard enforcer-x --container enforcer -- python -m enforcer proof web --namespace shop "
        "--output json"
    )


AWAY = [
    ("no name", [], "there is no report in /nowhere, so this is no node: name a pod, as in 'armistice proof web'"),
    ("a pod that is on no node", ["late"],
     "pod shop/late is on no node yet: see 'kubectl describe pod late -n shop'"),
    ("a node without the enforcer", ["lone"],
     "no enforcer runs on node node-8: install the chart with the enforcer, and see that its DaemonSet tolerates the "
     "node's taints"),
    ("no such pod", ["none"],
     "'{kubectl} get pod none' failed: Error from server (NotFound): pods \"none\" not found"),
    ("an answer that is none", ["odd"], "'{kubectl} get pod odd' answered with no JSON: use kubectl 1.24 or newer"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "arguments", "told"), AWAY, ids=[row[0] for row in AWAY])
def test_away_from_the_node_each_failure_says_the_way_out(
    kubectl: Path, what: str, arguments: list[str], told: str
) -> None:
    result = away(*arguments)
    assert result.exit_code == 2
    assert result.output == f"Error: {told.format(kubectl=kubectl.parent / 'kubectl')}\n"


def test_pages_are_counted_by_their_size() -> None:
    total = Pages()
    lines = [
        "1 default huge anon=3 N0=2 N1=1 kernelpagesize_kB=2048",
        "2 default stack anon=1 N1=1 kernelpagesize_kB=4",
    ]
    add_pages(total, [*lines, "3 default file=/x N0=7 kernelpagesize_kB=4", "4 default"])
    assert total == Pages({0: 4 * MIB, 1: 2 * MIB + 4096}, {0: 7 * 4096})


def test_a_kernel_thread_is_known_by_its_own_line_or_by_its_parent() -> None:
    text = "Name:\tx\nState:\tS\nTgid:\t9\nPid:\t9\nPPid:\t2\nCpus_allowed_list:\t0\nMems_allowed_list:\t0\n"
    threads = [parse_status(each) for each in (text, text + "Kthread:\t0\n", text + "Kthread:\t1\n")]
    assert [thread.kernel for thread in threads if thread] == [True, False, True]


@pytest.mark.parametrize("length", range(0, 90, 5))
def test_half_a_status_is_no_thread(length: int) -> None:
    text = "Name:\tx\nState:\tS\nTgid:\t9\nPid:\t9\nPPid:\t2\nCpus_allowed_list:\t0\nMems_allowed_list:\t0\n"
    assert parse_status(text[: min(length, len(text) - 4)]) is None


def test_this_machines_own_proc_is_read() -> None:
    processes = Processes(Path("/proc"))
    own = processes.thread(os.getpid())
    assert own is not None
    assert own.cpus == CpuSet.of(os.sched_getaffinity(0))
    assert own.cpus <= processes.online()
    assert own in list(processes.threads())
    if Path("/proc/self/numa_maps").exists():
        assert sum(processes.pages([os.getpid()]).anonymous.values()) > MIB
