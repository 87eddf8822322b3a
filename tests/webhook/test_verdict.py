"""Verdicts with their whole messages, and the smallest change, each verified by judging the changed pod."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared import catalogue
from shared.defaulting import with_defaults
from shared.inventory import Inventory
from shared.pod import Pod
from shared.policy import Placing, Scope, Smt, TopologyPolicy
from tests.support.pods import asking, container, even, pod
from webhook.change import POD_LEVEL, apply
from webhook.messages import notes, say
from webhook.nodes import Fleet
from webhook.pod import Subject
from webhook.verdict import Bench, Ruling, Verdict, breaks, rule

WEB = Subject("Pod", "default", "web")

SMALL = "aws-t3.medium"
"""1 NUMA node, 1 core of 2 threads, 4 GiB."""
GPUS = "gcp-a3-highgpu-8g"
"""2 NUMA nodes of 104 CPUs, 936 GiB and 4 GPUs."""
QUARTERS = "gcp-c3-highcpu-176"
"""4 NUMA nodes of 44 CPUs and 88 GiB."""


def bench(*machines: str) -> Bench:
    return Bench(Fleet.whole([catalogue.machine(name) for name in machines]))


def ruled(given: Pod, *machines: str, max_share: int | None = None, placing: Placing | None = None) -> Ruling:
    return rule(with_defaults(given), bench(*machines), placing or Placing(), max_share)


MESSAGES: list[tuple[str, Pod, tuple[str, ...], int | None, Verdict, str]] = [
    ("a pod that fits says nothing", pod(even("app", "4")), (QUARTERS,), None, Verdict.FITS, ""),
    (
        "a heavy sidecar is named with its weight and the cut",
        pod(even("app", "40", "32Gi"), init=(asking("proxy", "5500m", "1Gi", restartable=True),)),
        (QUARTERS,),
        None,
        Verdict.SIDECARS_TOO_HEAVY,
        'Pod "web": sidecars too heavy, asks 46 CPUs, the roomiest NUMA node has 44 CPUs; proxy asks 5.5 CPUs and '
        "1 GiB (12.1 %); without its sidecars it fits; smallest change: proxy cpu from 5500m to 4",
    ),
    (
        "the heaviest of several sidecars bears the cut",
        pod(
            even("app", "40", "32Gi"),
            init=(asking("a", "1", "1Gi", restartable=True), asking("b", "4", "1Gi", restartable=True)),
        ),
        (QUARTERS,),
        None,
        Verdict.SIDECARS_TOO_HEAVY,
        'Pod "web": sidecars too heavy, asks 45 CPUs, the roomiest NUMA node has 44 CPUs; b asks 4 CPUs and 1 GiB '
        "(8.9 %) and a asks 1 CPU and 1 GiB (2.9 %); without its sidecars it fits; smallest change: b cpu from 4 to 3",
    ),
    (
        "an exclusive sidecar is cut by whole CPUs",
        pod(even("app", "40", "32Gi"), init=(even("dpdk", "6", "1Gi", restartable=True),)),
        (QUARTERS,),
        None,
        Verdict.SIDECARS_TOO_HEAVY,
        'Pod "web": sidecars too heavy, asks 46 CPUs, the roomiest NUMA node has 44 CPUs; dpdk asks 6 CPUs and '
        "1 GiB (13.0 %); without its sidecars it fits; smallest change: dpdk cpu from 6 to 4",
    ),
    (
        "memory alone can be too much",
        pod(asking("app", "1", "4Gi"), asking("istio-proxy", "100m", "100Mi")),
        (SMALL,),
        None,
        Verdict.SIDECARS_TOO_HEAVY,
        'Pod "web": sidecars too heavy, asks 4.098 GiB, the roomiest NUMA node has 4 GiB; istio-proxy asks 100m '
        "CPU and 100 MiB (9.1 %); without its sidecars it fits; smallest change: istio-proxy memory from 100Mi to 0",
    ),
    (
        "an app that no NUMA node holds is told how many it needs",
        pod(asking("app", "60", "32Gi")),
        (QUARTERS,),
        None,
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 60 CPUs, the roomiest NUMA node has 44 CPUs; held against NUMA node 0 of '
        "gcp-c3-highcpu-176; it needs at least 2 NUMA nodes; smallest change: app cpu from 60 to 44",
    ),
    (
        "devices count together with CPUs: four GPUs a NUMA node",
        pod(container("app", {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "8"})),
        (GPUS,),
        None,
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 8 nvidia.com/gpu, the roomiest NUMA node has 4; held against '
        "NUMA node 0 of gcp-a3-highgpu-8g; it needs at least 2 NUMA nodes; smallest change: app nvidia.com/gpu from "
        "8 to 4",
    ),
    (
        "a machine without the device is not mended by asking for none",
        pod(container("app", {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"})),
        (SMALL,),
        None,
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 1 nvidia.com/gpu, the roomiest NUMA node has 0; held against '
        "NUMA node 0 of aws-t3.medium; no machine as a whole holds it either",
    ),
    (
        "the last core stays in the node shared pool, and that is said",
        pod(even("app", "1")),
        (SMALL,),
        None,
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 1 CPU, the roomiest NUMA node has 0 CPUs; held against NUMA node 0 of '
        "aws-t3.medium; no machine as a whole holds it either; 2 CPUs are free, but only whole cores count, "
        "and the node shared pool keeps its share",
    ),
    (
        "a share over the limit",
        pod(asking("app", "1", "2Gi"), asking("istio-proxy", "1", "1Gi")),
        (QUARTERS,),
        25,
        Verdict.SIDECARS_TOO_HEAVY,
        'Pod "web": sidecars too heavy, they take 50.0 % of its CPU, over the 25 % allowed; istio-proxy asks 1 CPU and '
        "1 GiB (50.0 %); smallest change: istio-proxy cpu from 1 to 333m and istio-proxy memory from 1Gi to 682Mi",
    ),
    (
        "spec.resources that leave a shared container without a CPU",
        pod(
            even("app", "4"),
            container("log"),
            requests={"cpu": "4", "memory": "8Gi"},
            limits={"cpu": "4", "memory": "8Gi"},
        ),
        (QUARTERS,),
        None,
        Verdict.UNEVEN,
        'Pod "web": no CPU is left for log, spec.resources asks 4 CPUs and its slices take all of them; smallest '
        "change: spec.resources cpu from 4 to 5",
    ),
    (
        "spec.resources are cut together with the containers that no longer fit in them",
        pod(
            even("app", "40", "32Gi"),
            init=(asking("proxy", "6", "1Gi", restartable=True),),
            requests={"cpu": "46", "memory": "40Gi"},
            limits={"cpu": "46", "memory": "40Gi"},
        ),
        (QUARTERS,),
        None,
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 46 CPUs, the roomiest NUMA node has 44 CPUs; even without its sidecars it does '
        "not fit; held against NUMA node 0 of gcp-c3-highcpu-176; it needs at least 2 NUMA nodes; smallest change: "
        "proxy cpu from 6 to 4 and spec.resources cpu from 46 to 44",
    ),
    (
        "an init container can be what is too large",
        pod(asking("app", "1", "1Gi"), init=(asking("load", "50", "1Gi"),)),
        (QUARTERS,),
        None,
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 50 CPUs, the roomiest NUMA node has 44 CPUs; held against NUMA node 0 of '
        "gcp-c3-highcpu-176; it needs at least 2 NUMA nodes; smallest change: load cpu from 50 to 44",
    ),
    (
        "no node has published its topology",
        pod(even("app", "4")),
        (),
        None,
        Verdict.UNKNOWN,
        'Pod "web": no eligible node has published a topology, so whether it fits one NUMA node is unknown',
    ),
]


@pytest.mark.parametrize(
    ("what", "given", "machines", "max_share", "verdict", "message"), MESSAGES, ids=[row[0] for row in MESSAGES]
)
def test_verdict_and_message(
    what: str, given: Pod, machines: tuple[str, ...], max_share: int | None, verdict: Verdict, message: str
) -> None:
    ruling = ruled(given, *machines, max_share=max_share)
    assert (ruling.verdict, say(WEB, ruling)) == (verdict, message)


@pytest.mark.parametrize("row", [row for row in MESSAGES if "smallest change" in row[5]], ids=lambda row: str(row[0]))
def test_the_smallest_change_makes_it_fit_and_a_smaller_one_does_not(
    row: tuple[str, Pod, tuple[str, ...], int | None, Verdict, str],
) -> None:
    _, given, machines, max_share, _, _ = row
    defaulted = with_defaults(given)
    ruling = rule(defaulted, bench(*machines), Placing(), max_share)
    assert ruling.change
    after = apply(defaulted, ruling.change)
    assert rule(after, bench(*machines), Placing(), max_share).verdict is Verdict.FITS
    bound = [c for c in ruling.change if c.container == POD_LEVEL] or ruling.change  # the others follow from it
    for change in bound:
        step = {"cpu": 1, "memory": 2**20}.get(change.resource, 1)
        towards = step if change.before > change.after else -1000  # raised by a whole CPU: less would be rounded up
        nearly = apply(defaulted, [replace(c, after=c.after + towards) if c is change else c for c in ruling.change])
        assert rule(nearly, bench(*machines), Placing(), max_share).verdict is not Verdict.FITS


def test_several_kinds_of_machine_are_considered() -> None:
    assert ruled(pod(even("app", "60")), SMALL, QUARTERS).verdict is Verdict.POD_TOO_LARGE
    assert ruled(pod(even("app", "60")), SMALL, QUARTERS, GPUS).verdict is Verdict.FITS


def test_the_largest_numa_node_is_that_of_all_machines() -> None:
    largest = ruled(pod(even("app", "1")), SMALL, GPUS).largest
    assert largest is not None
    assert (largest.machine, largest.node, largest.cpu, largest.memory) == (GPUS, 0, 104_000, 1_005_022_347_264)


def test_the_cheapest_machine_that_would_hold_it_is_named() -> None:
    upgrades = Inventory.of([catalogue.machine(QUARTERS), catalogue.machine(GPUS)])
    ruling = rule(with_defaults(pod(asking("app", "60"))), Bench(bench(SMALL).fleet, upgrades), Placing())
    assert say(WEB, ruling).endswith("; gcp-a3-highgpu-8g would hold it as it is")


def test_scope_container_aligns_each_container_by_itself() -> None:
    two = pod(even("a", "40", "32Gi"), even("b", "40", "32Gi"))
    assert ruled(two, QUARTERS).verdict is Verdict.POD_TOO_LARGE
    assert ruled(two, QUARTERS, placing=Placing(scope=Scope.CONTAINER)).verdict is Verdict.FITS


def test_shared_smt_needs_no_whole_cores() -> None:
    assert ruled(pod(even("app", "1")), SMALL, placing=Placing(smt=Smt.SHARE)).verdict is Verdict.FITS


LEVELS = [
    ("nothing breaks none", TopologyPolicy.NONE, pod(asking("app", "60")), None, False),
    (
        "too large for one NUMA node breaks single-numa-node",
        TopologyPolicy.SINGLE_NUMA_NODE,
        pod(asking("app", "60")),
        None,
        True,
    ),
    (
        "what needs two NUMA nodes anyway keeps restricted",
        TopologyPolicy.RESTRICTED,
        pod(asking("app", "60")),
        None,
        False,
    ),
    ("what no machine holds breaks restricted", TopologyPolicy.RESTRICTED, pod(asking("app", "600")), None, True),
    ("best-effort is not broken by size", TopologyPolicy.BEST_EFFORT, pod(asking("app", "600")), None, False),
    (
        "a share over the limit breaks best-effort too",
        TopologyPolicy.BEST_EFFORT,
        pod(asking("app", "1"), asking("istio-proxy", "1")),
        25,
        True,
    ),
    ("a pod that fits breaks nothing", TopologyPolicy.SINGLE_NUMA_NODE, pod(even("app", "4")), None, False),
]


@pytest.mark.parametrize(("what", "level", "given", "max_share", "broken"), LEVELS, ids=[row[0] for row in LEVELS])
def test_what_breaks_a_level(what: str, level: TopologyPolicy, given: Pod, max_share: int | None, broken: bool) -> None:
    assert breaks(level, ruled(given, QUARTERS, max_share=max_share, placing=Placing(policy=level))) is broken


def test_an_unknown_topology_breaks_nothing() -> None:
    assert not breaks(TopologyPolicy.SINGLE_NUMA_NODE, ruled(pod(even("app", "4"))))


def test_policy_none_asks_nothing_even_of_a_giant() -> None:
    giant = ruled(pod(asking("app", "600")), SMALL, placing=Placing(policy=TopologyPolicy.NONE))
    assert (giant.verdict, say(WEB, giant)) == (Verdict.FITS, "")


NOTES = [
    (
        "more CPUs than the scheduler counts",
        pod(even("app", "4"), container("log")),
        'Pod "web": it will own 5 CPUs while the scheduler counts 4 CPUs; let its shared containers request their CPUs',
    ),
    (
        "a pod-level figure that is rounded up",
        pod(container("app"), requests={"cpu": "2500m", "memory": "1Gi"}, limits={"cpu": "2500m", "memory": "1Gi"}),
        'Pod "web": spec.resources asks 2.5 CPUs, and 3 CPUs will be its own; CPUs are owned whole',
    ),
    (
        "a sidecar that is no container",
        pod(asking("app", "1"), annotations={"armistice.dev/sidecars": "lgo"}),
        'Pod "web": the annotation armistice.dev/sidecars names lgo, which is no container of it',
    ),
]


@pytest.mark.parametrize(("what", "given", "note"), NOTES, ids=[row[0] for row in NOTES])
def test_a_note_where_nothing_is_wrong(what: str, given: Pod, note: str) -> None:
    ruling = ruled(given, QUARTERS)
    assert (ruling.verdict, notes(WEB, ruling)) == (Verdict.FITS, (note,))


def test_a_long_name_loses_its_middle_so_that_the_numbers_come_early() -> None:
    long = Subject("Deployment", "default", "a-very-long-name-that-some-generator-made-up-" + "x" * 100 + "-7d9f8")
    lead = say(long, ruled(pod(asking("app", "60")), QUARTERS)).partition(";")[0]
    assert lead == (
        'Deployment "a-very-long-name-that...xxxxxxxxxxxxxxxx-7d9f8": too large, asks 60 CPUs, the roomiest '
        "NUMA node has "
        "44 CPUs"
    )
    assert len(lead) <= 120


def test_a_search_that_runs_out_of_time_gives_no_change() -> None:
    ruling = rule(with_defaults(pod(asking("app", "60"))), bench(QUARTERS), Placing(), late=lambda: True)
    assert (ruling.verdict, ruling.change) == (Verdict.POD_TOO_LARGE, None)
