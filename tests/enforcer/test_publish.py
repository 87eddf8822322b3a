"""The published topology: what the ledger leaves, and when it is written."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from enforcer.apiserver import ApiServer
from enforcer.publish import Pace, Publisher, topology
from shared import catalogue
from shared.cpuset import CpuSet
from shared.demand import PlacementClass
from shared.intent import Intent, Part
from shared.ledger import Ledger
from shared.noderesourcetopology import from_object
from shared.placement import Account, Placement
from shared.policy import Placing
from shared.sidecars import Role
from tests.support.api_server import Answer, Asked, FakeApiServer, api_server, at_work, status, until

GI = 1 << 30
DGX = Ledger.of(catalogue.machine("dgx-h100"), CpuSet.parse("0,112"), 2 * GI)
"""Two NUMA nodes of 56 cores with 112 CPUs; one core and 2 GiB are kept from pods."""


def exclusive(ledger: Ledger, cpus: str, memory: int) -> Ledger:
    """With a pod that owns the CPUs and has the memory of NUMA node 0."""
    bubble = CpuSet.parse(cpus)
    part = Part("app", Role.APP, slice=len(bubble), memory=memory)
    intent = Intent(
        PlacementClass.EXCLUSIVE, Placing(), (part,), cpu=1000 * len(bubble), memory=memory, hugepages={}, devices={},
        bubble=len(bubble),
    )  # fmt: skip
    return ledger.commit(Placement(cpus, intent, (0,), (0,), bubble, {"app": bubble}, (Account(0, memory=memory),)))


def resources(obj: dict[str, Any], zone: int) -> dict[str, tuple[str, str]]:
    """Allocatable and available, by name."""
    return {each["name"]: (each["allocatable"], each["available"]) for each in obj["zones"][zone]["resources"]}


def test_it_says_what_is_left() -> None:
    obj = topology(exclusive(DGX, "1-4,113-116", 3 * GI), "worker-1")
    pages = DGX.layout.machine.numa_nodes[0].pages
    assert pages is not None
    first, second = resources(obj, 0), resources(obj, 1)
    assert first["cpu"] == ("110", "102")
    assert first["memory"] == (str(pages - 2 * GI), str(pages - 5 * GI))
    assert second["cpu"] == ("112", "112")


def test_bound_pods_count_in_thousandths() -> None:
    intent = Intent(PlacementClass.BOUND, Placing(), (), cpu=1500, memory=0, hugepages={}, devices={}, bubble=0)
    bound = Placement("p", intent, (1,), (1,), CpuSet(), {}, (Account(1, bound_cpu=1500),))
    assert resources(topology(DGX.commit(bound), "w"), 1)["cpu"] == ("112", "110500m")


def test_the_scheduler_finds_its_policy_and_the_webhook_its_machine() -> None:
    obj = json.loads(json.dumps(topology(DGX, "worker-1")))
    named = {each["name"]: each["value"] for each in obj["attributes"]}
    assert (named["topologyManagerPolicy"], named["topologyManagerScope"]) == ("single-numa-node", "pod")
    assert obj["topologyPolicies"] == ["SingleNUMANodePodLevel"]
    machine = from_object(obj)
    assert (machine.name, machine.reserved, machine.cores) == (
        "worker-1",
        DGX.layout.reserved,
        DGX.layout.machine.cores,
    )


def test_memory_of_a_gpu_is_nobodys() -> None:
    obj = topology(Ledger.of(catalogue.machine("gh200-480gb")), "w")
    assert resources(obj, 1)["memory"] == ("0", "0")


# --- when it is written -----------------------------------------------------------------------------------------------

PATH = "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies/worker-1"
QUICK = Pace(least=0.05, refresh=30, outage=0.1, refused=0.05)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeApiServer]:
    with api_server(tmp_path) as found:
        found.answer = lambda asked: (200, {"metadata": {"uid": "n1"}})
        yield found


@asynccontextmanager
async def running(fake: FakeApiServer, pace: Pace = QUICK) -> AsyncIterator[Publisher]:
    api = ApiServer(fake.access())
    publisher = Publisher(api, "worker-1", pace)
    with closing(api):
        async with at_work(publisher.run()):
            yield publisher


def writes(fake: FakeApiServer) -> list[Asked]:
    return [asked for asked in fake.asked if asked.method == "PATCH"]


async def test_it_is_applied_as_the_nodes_own(fake: FakeApiServer) -> None:
    async with running(fake) as publisher:
        publisher.offer(DGX)
        await until(lambda: len(writes(fake)) == 1)
    write = writes(fake)[0]
    assert write.path == f"{PATH}?fieldManager=armistice-enforcer"
    assert write.body["metadata"] == {
        "name": "worker-1",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "worker-1", "uid": "n1"}],
    }


def without_nodes(asked: Asked) -> Answer:
    return status(403, "no") if asked.method == "GET" else (200, {})


async def test_without_leave_to_read_nodes_it_has_no_owner(fake: FakeApiServer) -> None:
    fake.answer = without_nodes
    async with running(fake) as publisher:
        publisher.offer(DGX)
        await until(lambda: len(writes(fake)) == 1)
    assert writes(fake)[0].body["metadata"] == {"name": "worker-1"}


async def test_a_burst_is_written_as_its_first_and_its_last(fake: FakeApiServer) -> None:
    one, two = exclusive(DGX, "1,113", 0), exclusive(DGX, "1-2,113-114", 0)
    async with running(fake) as publisher:
        publisher.offer(DGX)
        await until(lambda: len(writes(fake)) == 1)
        publisher.offer(one)
        publisher.offer(two)
        await until(lambda: len(writes(fake)) == 2)
        await asyncio.sleep(0.15)
    assert [resources(each.body, 0)["cpu"][1] for each in writes(fake)] == ["110", "106"]


async def test_another_ledger_that_says_the_same_is_not_written(fake: FakeApiServer) -> None:
    async with running(fake) as publisher:
        publisher.offer(DGX)
        await until(lambda: len(writes(fake)) == 1)
        publisher.offer(exclusive(DGX, "1,113", 0).release("1,113"))
        await asyncio.sleep(0.2)
    assert len(writes(fake)) == 1


async def test_it_is_written_again_now_and_then(fake: FakeApiServer) -> None:
    async with running(fake, Pace(least=0.01, refresh=0.05)) as publisher:
        publisher.offer(DGX)
        await until(lambda: len(writes(fake)) == 3)
    assert len({json.dumps(each.body) for each in writes(fake)}) == 1


OUTAGES: list[tuple[str, Answer, str]] = [
    ("no CRD", status(404, "not found"),
     "404 Not Found: not found; install the CRD of charts/armistice/crds, or the webhook does not know this node"),
    ("no leave", status(403, "forbidden"),
     "403 Forbidden: forbidden; grant the enforcer's service account create and patch on noderesourcetopologies"),
    ("another publisher", status(409, 'conflict with "nfd"'),
     '409 Conflict: conflict with "nfd"; stop the other publisher, or keep the enforcer off this node'),
    ("the API server is not well", status(500, "etcd"), "500 Internal Server Error: etcd"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "answer", "told"), OUTAGES, ids=[case for case, *_ in OUTAGES])
async def test_it_is_tried_again_and_told_once(
    case: str, answer: Answer, told: str, fake: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answer = lambda asked: answer
    with caplog.at_level(logging.WARNING, "armistice.publish"):
        async with running(fake) as publisher:
            publisher.offer(DGX)
            await until(lambda: len(writes(fake)) >= 2)
            fake.answer = lambda asked: (200, {})
            count = len(writes(fake))
            await until(lambda: len(writes(fake)) > count)
    server = f"the API server 127.0.0.1:{fake.port} refuses PATCH {PATH}"
    assert [record.getMessage() for record in caplog.records] == [f"topology not published: error={server}: {told}"]
