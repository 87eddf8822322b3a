"""Settings: what options become, and every slip as a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from enforcer.errors import SetupError
from enforcer.settings import Cluster, Listen, Settings, make, options, own_name
from shared.cpuset import CpuSet
from shared.quantity import FORMAT_ERROR


def parsed(*args: str, **environment: str) -> Settings:
    """What a command with the options makes of a command line."""
    found: list[Settings] = []

    @click.command()
    @options
    def command(**values: Any) -> None:
        found.append(make(**values))

    CliRunner().invoke(command, args, env={"NODE_NAME": None, **environment}, catch_exceptions=False)
    return found[0]


def test_without_options_everything_is_where_a_node_has_it() -> None:
    assert parsed("--node", "worker-1") == Settings("worker-1")


def test_every_option_has_its_field() -> None:
    asked = parsed(
        "--node", "w", "--keys", "/k", "--nri-socket", "/n", "--cgroup-root", "/c", "--sysfs", "/s", "--proc", "/p",
        "--kubelet-dir", "/d", "--kubelet-config", "/y", "--reserved-cpus", "0-1,64", "--reserved-memory", "1Gi",
        "--state-dir", "/t", "--listen", "[::1]:80", "--tick", "30", "--kubeconfig", "/f",
    )  # fmt: skip
    assert asked == Settings(
        node="w", keys=Path("/k"), nri_socket=Path("/n"), cgroup_root=Path("/c"), sysfs_root=Path("/s"),
        proc=Path("/p"), kubelet=Path("/d"), kubelet_config=Path("/y"), reserved_cpus=CpuSet.parse("0-1,64"),
        reserved_memory=1 << 30, state_dir=Path("/t"), listen=Listen("::1", 80), tick=30.0,
        cluster=Cluster.KUBECONFIG, kubeconfig=Path("/f"),
    )  # fmt: skip


def test_the_nodes_name_comes_from_the_daemonset() -> None:
    assert parsed(NODE_NAME="worker-7").node == "worker-7"


def test_an_option_wins_over_the_environment() -> None:
    assert parsed("--node", "mine", NODE_NAME="worker-7").node == "mine"


def test_without_either_it_is_the_hosts() -> None:
    assert parsed().node == own_name()


def test_nothing_may_be_reserved_on_purpose() -> None:
    asked = parsed("--node", "w", "--reserved-cpus", "", "--reserved-memory", "0")
    assert (asked.reserved_cpus, asked.reserved_memory) == (CpuSet(), 0)


def test_metrics_can_be_turned_off() -> None:
    assert parsed("--node", "w", "--listen", "").listen is None


def test_there_may_be_no_cluster() -> None:
    assert parsed("--node", "w", "--no-cluster").cluster is Cluster.NONE


SLIPS = [
    ("a node's name in capitals", ["--node", "Worker_1"],
     "--node 'Worker_1' is no name of a node; give what `kubectl get nodes` shows, or set NODE_NAME"),
    ("a tick that would be a loop", ["--tick", "0"], "--tick 0: seconds, from 1 to 3600"),
    ("a tick that is no number of seconds", ["--tick", "nan"], "--tick nan: seconds, from 1 to 3600"),
    ("CPUs that are no list", ["--reserved-cpus", "two"],
     "--reserved-cpus: 'two' is not a CPU list; write it as 0-3,8"),
    ("memory that is no quantity", ["--reserved-memory", "1GB"],
     f"--reserved-memory '1GB': {FORMAT_ERROR}; write it as 1Gi"),
    ("less memory than none", ["--reserved-memory", "-1Gi"],
     "--reserved-memory -1Gi: must be greater than or equal to 0"),
    ("a port alone", ["--listen", "9465"],
     "--listen '9465' is not of the form HOST:PORT; write it as 0.0.0.0:9465, or '' for nowhere"),
    ("no port", ["--listen", "0.0.0.0:"],
     "--listen '0.0.0.0:' is not of the form HOST:PORT; write it as 0.0.0.0:9465, or '' for nowhere"),
    ("a port too high", ["--listen", "0.0.0.0:65536"],
     "--listen '0.0.0.0:65536' is not of the form HOST:PORT; write it as 0.0.0.0:9465, or '' for nowhere"),
    ("an IPv6 address without brackets", ["--listen", "::1:80"],
     "--listen '::1:80' is not of the form HOST:PORT; write it as 0.0.0.0:9465, or '' for nowhere"),
    ("a relative folder", ["--state-dir", "state"], "--state-dir state is not an absolute path; write it from / on"),
    ("two ways to the cluster", ["--no-cluster", "--kubeconfig", "/f"],
     "--no-cluster and --kubeconfig contradict each other; give one of the two"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "args", "message"), SLIPS, ids=[case for case, *_ in SLIPS])
def test_a_slip_is_one_sentence(case: str, args: list[str], message: str) -> None:
    with pytest.raises(SetupError) as caught:
        parsed("--node", "w", *args)
    assert str(caught.value) == message
