"""The process that follows a cluster, from the stand-in API server to the answer over TLS."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.support.cluster import (
    NAMESPACES,
    NODES,
    TOPOLOGIES,
    Cluster,
    Shelf,
    cluster,
    namespace,
    node,
    plain,
    topology,
)
from tests.support.live import Live, webhook
from tests.support.reviews import container, pod, review
from webhook.command.__main__ import run

SWITCH_OFF = "/validate/switch-off-by/kubectl-delete-validatingwebhookconfiguration-zz-armistice"

LARGE = pod(container(cpu="6"))
"""Too large for a NUMA node of 4 CPUs, not for one of 8."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster and the webhook that follows it. Calls are made elsewhere, for the cluster is served by this loop."""

    cluster: Cluster
    live: Live

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(self.live.get, path)

    async def asked(self, obj: dict[str, Any], namespace: str = "demo", path: str = "/mutate") -> dict[str, Any]:
        return await asyncio.to_thread(self.live.review, path, review(obj, namespace=namespace))

    async def allowed(self, obj: dict[str, Any], namespace: str = "demo", path: str = "/mutate") -> bool:
        allowed: bool = (await self.asked(obj, namespace, path))["allowed"]
        return allowed

    async def ready(self) -> None:
        async with asyncio.timeout(20):
            while (await self.get("/readyz"))[0] != 200:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def place(folder: Path, *flags: str, ready: bool = True) -> AsyncIterator[Place]:
    """A cluster of one node with 4 CPUs in each NUMA node; ``demo`` enforces."""
    async with cluster() as server:
        server.put(NAMESPACES, namespace("demo", enforce="single-numa-node"), namespace("plain"))
        server.put(NODES, node("n1"))
        server.put(TOPOLOGIES, topology("n1"))
        async with process(server, folder, *flags) as live:
            it = Place(server, live)
            if ready:
                await it.ready()
            yield it


@asynccontextmanager
async def process(server: Cluster, folder: Path, *flags: str) -> AsyncIterator[Live]:
    kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
    made = webhook("--cluster", *(flags or ("--policy", "none")), machine=None, env={"KUBECONFIG": str(kubeconfig)})
    live = await asyncio.to_thread(made.__enter__)
    try:
        yield live
    finally:
        await asyncio.to_thread(made.__exit__, None, None, None)


async def within(seconds: float, true: Callable[[], Any]) -> None:
    end = monotonic() + seconds
    while not await true():
        assert monotonic() < end, "it never came true"
        await asyncio.sleep(0.05)


async def test_a_cluster_is_followed(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        assert it.live.said["nodes"] == "the cluster"
        assert it.live.said["policy"] == "none, mode enforce, where a namespace's labels say nothing"
        assert not await it.allowed(LARGE)
        assert await it.allowed(LARGE, "plain")
        # A label, a topology, and a node change while it runs.
        it.cluster.put(NAMESPACES, namespace("plain", enforce="single-numa-node"))
        await within(5, lambda: refused(it, LARGE, "plain"))
        it.cluster.put(TOPOLOGIES, topology("n1", cpus=8))
        await within(5, lambda: it.allowed(LARGE, "plain"))
        it.cluster.delete(NODES, "n1")
        await within(5, lambda: unknown(it))
        status, text = await it.get("/metrics")
        assert status == 200
        for line in (
            'armistice_cluster_objects{resource="namespaces"} 2.0',
            'armistice_cluster_objects{resource="nodes"} 0.0',
            'armistice_cluster_synced{resource="limitranges"} 1.0',
            'armistice_cluster_relists_total{reason="first",resource="namespaces"} 1.0',
            'armistice_cluster_errors_total{reason="refused",resource="nodes"} 0.0',
        ):
            assert line in text


async def test_the_nodes_that_count_are_chosen_by_pod(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        large = node("n2")
        large["spec"] = {"taints": [{"key": "team", "value": "hpc", "effect": "NoSchedule"}]}
        it.cluster.put(TOPOLOGIES, topology("n2", cpus=8))
        it.cluster.put(NODES, large)
        tolerating = json.loads(json.dumps(LARGE))
        tolerating["spec"]["tolerations"] = [{"key": "team", "operator": "Exists"}]
        await within(5, lambda: it.allowed(tolerating))
        message = (await it.asked(LARGE))["status"]["message"]
        assert "; n2 would hold it, but it does not tolerate the taint team=hpc:NoSchedule; " in message


async def test_a_namespace_that_becomes_stricter_is_told_of_its_pods(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        path = f"{NAMESPACES}/plain/pods"
        it.cluster.shelves[path] = Shelf()
        it.cluster.put(path, pod(name="small"), *(pod(container(cpu="6"), name=f"large-{n}") for n in range(3)))
        before, after = namespace("plain"), namespace("plain", enforce="single-numa-node")
        change = review({**after, "apiVersion": "v1", "kind": "Namespace"}, "UPDATE", "plain", oldObject=before)
        answer = await asyncio.to_thread(it.live.review, "/validate?timeout=5s", change)
        assert answer["allowed"]
        assert answer["warnings"] == [
            "namespace plain: 3 existing pods break its new policy enforce=single-numa-node; what runs keeps running",
            "large-0 (and 2 other pods): too large, asks 6 CPUs, the roomiest NUMA node has 4 CPUs",
        ]
        it.cluster.answer = lambda asked: plain(403, {}) if asked.path == path else None
        answer = await asyncio.to_thread(it.live.review, "/validate?timeout=5s", change)
        assert (answer["allowed"], answer["warnings"]) == (
            True,
            [
                "namespace plain: its pods were not held against its new policy enforce=single-numa-node: the API "
                "server refuses to list them: 403 Said"
            ],
        )


async def says(it: Place, told: str) -> bool:
    return await it.get("/readyz") == (503, told)


async def refused(it: Place, obj: dict[str, Any], namespace: str) -> bool:
    return not await it.allowed(obj, namespace)


async def unknown(it: Place) -> bool:
    warnings = (await it.asked(pod())).get("warnings", [])
    return any("so whether it fits one NUMA node is unknown" in warning for warning in warnings)


async def test_an_outage_changes_no_answer(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        await it.cluster.stop()
        await asyncio.sleep(1.5)
        assert (await it.get("/readyz"))[0] == 200
        assert (await it.allowed(LARGE), await it.allowed(pod()), await it.allowed(LARGE, "plain")) == (
            False,
            True,
            True,
        )
        it.cluster.put(NAMESPACES, namespace("plain", enforce="single-numa-node"))
        await it.cluster.start()
        await within(20, lambda: refused(it, LARGE, "plain"))


async def test_it_is_not_ready_before_everything_was_read_and_says_what_is_missing(tmp_path: Path) -> None:
    async with cluster() as server:
        server.answer = lambda asked: plain(403, {}) if asked.path == NODES else None
        async with process(server, tmp_path) as live:
            it = Place(server, live)
            host = f"http://127.0.0.1:{server.port}"
            told = f"not ready: the cluster's nodes are not read yet: {host} refuses: 403 Said\n"
            await within(10, lambda: says(it, told))
            # Asked all the same: what enforces is refused, everything else let through.
            assert await it.allowed(pod())
            assert not await it.allowed(pod(), path=SWITCH_OFF)
            server.answer = lambda asked: None
            await it.ready()


async def test_a_namespace_that_is_new_is_waited_for(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        call = asyncio.create_task(it.asked(LARGE, "new"))
        await asyncio.sleep(0.15)
        it.cluster.put(NAMESPACES, namespace("new", enforce="single-numa-node"))
        answer = await call
        assert (answer["allowed"], answer["status"]["message"].partition(":")[0]) == (False, 'Pod "web"')
        assert "namespace new enforces single-numa-node" in answer["status"]["message"]


async def test_a_namespace_that_is_never_heard_of_is_refused_where_it_enforces_and_let_through_elsewhere(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as it:
        began = monotonic()
        answer = await it.asked(pod(), "new", SWITCH_OFF)
        assert 0.4 < monotonic() - began < 3
        told = 'Pod "web" was not judged: namespace new is not known here yet; try again in a moment'
        assert (answer["allowed"], answer["status"]["message"]) == (False, told)
        answer = await it.asked(pod(), "new", "/validate/warn")
        assert (answer["allowed"], answer["warnings"]) == (True, [told])
        answer = await it.asked({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "newer"}}, "newer")
        assert answer["allowed"]


async def test_the_config_file_settles_what_labels_do_not(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("defaults: {enforce: single-numa-node}\nexempt: {namespaces: [demo], usernames: [john]}\n")
    async with place(tmp_path, "--config", str(config)) as it:
        assert it.live.said["policy"].startswith("single-numa-node, mode enforce")
        assert await it.allowed(LARGE)
        assert not await it.allowed(LARGE, "plain")
        assert (await asyncio.to_thread(it.live.review, "/mutate", by_john()))["allowed"]


def by_john() -> dict[str, Any]:
    return review(LARGE, namespace="plain", userInfo={"username": "john"})


PATHS = [
    ("/mutate/anything", 200),
    ("/validate/anything/at/all", 200),
    (SWITCH_OFF, 200),
    ("/validated", 404),
    ("/metrics/x", 404),
]


async def test_paths_that_say_more_than_which_call_it_is(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        for path, status in PATHS:
            found = await asyncio.to_thread(it.live.post, path, json.dumps(review(pod())).encode())
            assert found[0] == status, path


TWICE = [
    (
        ["--cluster", "--nodes", "x.yaml"],
        "--cluster and --nodes: nodes and what they reserve come from the cluster; leave --nodes out",
    ),
    (
        ["--cluster", "--reserved-cpus", "0"],
        "--cluster and --reserved-cpus: nodes and what they reserve come from the cluster; leave --reserved-cpus out",
    ),
    (
        ["--config", "c.yaml", "--policy", "none"],
        "--config and --policy: both say the policy; write it into c.yaml and leave --policy out",
    ),
    (
        ["--config", "c.yaml", "--mode", "warn"],
        "--config and --mode: both say the policy; write it into c.yaml and leave --mode out",
    ),
    (["--cluster", "--config", "none.yaml"], "none.yaml cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("flags", "told"), TWICE, ids=[" ".join(row[0]) for row in TWICE])
def test_flags_that_are_refused(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["webhook", *flags]) == 2
    assert capsys.readouterr().err == f"armistice: {told}\n"


def test_without_a_kubeconfig_it_says_so(tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    done = subprocess.run(
        [sys.executable, "-m", "webhook.command", "webhook", "--cluster", "--port", "0"],
        env={**os.environ, "KUBECONFIG": str(nowhere)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    told = f"--cluster: {nowhere} is no usable kubeconfig: it is not there; set KUBECONFIG"
    assert done.stderr == f"armistice: {told}\n"
