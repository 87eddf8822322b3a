"""Which nodes count for a pod: the scheduler's rules, row by row; and what is said where a pod restricts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared import catalogue
from shared.defaulting import with_defaults
from shared.errors import InputError
from shared.inventory import Inventory
from shared.pod import Pod
from shared.policy import Placing
from shared.topology import Machine
from tests.support.nodes import expressions, fields, needing, node, wish
from tests.support.pods import asking, container, even, pod
from webhook.messages import say
from webhook.nodes import ClusterNode, Fleet
from webhook.pod import Subject, parse_wish
from webhook.verdict import Bench, Ruling, Verdict, rule
from webhook.wish import ANYWHERE, Taint, Wish

WEB = Subject("Pod", "default", "web")

SMALL = "aws-t3.medium"
"""1 NUMA node, 1 core of 2 threads, 4 GiB."""
QUARTERS = "gcp-c3-highcpu-176"
"""4 NUMA nodes of 44 CPUs and 88 GiB."""
GPUS = "gcp-a3-highgpu-8g"
"""2 NUMA nodes of 104 CPUs, 936 GiB and 4 GPUs."""


def machine(kind: str, name: str) -> Machine:
    return replace(catalogue.machine(kind), name=name)


FEW = (
    node("a", labels={"disk": "ssd", "generation": "3", "zone": "east"}),
    node("b", labels={"disk": "hdd", "generation": "7", "zone": "west"}),
    node("c", labels={"generation": "old", "zone": "west"}),
    node("d"),
)


def counting(asked: Wish, *nodes: ClusterNode) -> str:
    """The names of the nodes that count, in one word."""
    fleet = Fleet.of(nodes, [machine(SMALL, each.name) for each in nodes])
    return "".join(known.name for known in fleet.inventory_for(asked).known)


SELECTORS: list[tuple[str, dict[str, Any], str]] = [
    ("a pod that says nothing may run anywhere", {}, "abcd"),
    ("an empty selector says nothing", {"nodeSelector": {}}, "abcd"),
    ("null is nothing", {"nodeSelector": None, "affinity": None, "tolerations": None, "nodeName": None}, "abcd"),
    ("a label has to be equal", {"nodeSelector": {"disk": "ssd"}}, "a"),
    ("all labels have to be equal", {"nodeSelector": {"zone": "west", "disk": "hdd"}}, "b"),
    ("a label that no node has leaves none", {"nodeSelector": {"colour": "red"}}, ""),
    ("an empty value is not a missing label", {"nodeSelector": {"disk": ""}}, ""),
    ("In: one of the values", {"affinity": needing(expressions(("disk", "In", ["ssd", "hdd"])))}, "ab"),
    ("In: a node without the label is out", {"affinity": needing(expressions(("disk", "In", ["nvme"])))}, ""),
    ("NotIn: a node without the label is in", {"affinity": needing(expressions(("disk", "NotIn", ["ssd"])))}, "bcd"),
    ("NotIn a label that no node has", {"affinity": needing(expressions(("colour", "NotIn", ["red"])))}, "abcd"),
    ("Exists: whatever the value", {"affinity": needing(expressions(("disk", "Exists", [])))}, "ab"),
    ("DoesNotExist", {"affinity": needing(expressions(("disk", "DoesNotExist", [])))}, "cd"),
    ("Gt: more, as integers", {"affinity": needing(expressions(("generation", "Gt", ["3"])))}, "b"),
    ("Gt: text that is no integer is out", {"affinity": needing(expressions(("generation", "Gt", ["0"])))}, "ab"),
    ("Lt: less, as integers", {"affinity": needing(expressions(("generation", "Lt", ["7"])))}, "a"),
    ("Lt: a node without the label is out", {"affinity": needing(expressions(("generation", "Lt", ["99"])))}, "ab"),
    ("a sign is in no label's value", {"affinity": needing(expressions(("generation", "Gt", ["-1"])))}, ""),
    ("what no label can be is malformed", {"affinity": needing(expressions(("disk", "NotIn", ["s s d"])))}, ""),
    ("nor longer than 63", {"affinity": needing(expressions(("disk", "NotIn", ["s" * 64])))}, ""),
    ("beyond 64 bits is no integer", {"affinity": needing(expressions(("generation", "Lt", [str(2**63)])))}, ""),
    ("requirements of a term are ANDed",
     {"affinity": needing(expressions(("zone", "In", ["west"]), ("disk", "Exists", [])))}, "b"),
    ("terms are ORed",
     {"affinity": needing(expressions(("zone", "In", ["east"])), expressions(("disk", "DoesNotExist", [])))}, "acd"),
    ("an empty term matches no node", {"affinity": needing({})}, ""),
    ("no term at all matches no node", {"affinity": needing()}, ""),
    ("an operator that is none matches no node", {"affinity": needing(expressions(("disk", "in", ["ssd"])))}, ""),
    ("In without values matches no node", {"affinity": needing(expressions(("disk", "In", [])))}, ""),
    ("NotIn without values matches no node", {"affinity": needing(expressions(("disk", "NotIn", [])))}, ""),
    ("Exists with values matches no node", {"affinity": needing(expressions(("disk", "Exists", ["ssd"])))}, ""),
    ("Gt with two values matches no node", {"affinity": needing(expressions(("generation", "Gt", ["1", "2"])))}, ""),
    ("Gt with text matches no node", {"affinity": needing(expressions(("generation", "Gt", ["x"])))}, ""),
    ("a field: the node's name", {"affinity": needing(fields(("metadata.name", "In", ["c"])))}, "c"),
    ("a field: any name but one", {"affinity": needing(fields(("metadata.name", "NotIn", ["c"])))}, "abd"),
    ("a field takes one value", {"affinity": needing(fields(("metadata.name", "In", ["a", "b"])))}, ""),
    ("another field is empty", {"affinity": needing(fields(("metadata.uid", "In", ["1"])))}, ""),
    ("labels and fields of a term are ANDed",
     {"affinity": needing({**expressions(("zone", "In", ["west"])), **fields(("metadata.name", "In", ["b"]))})}, "b"),
    ("selector and affinity are ANDed",
     {"nodeSelector": {"zone": "west"}, "affinity": needing(expressions(("disk", "Exists", [])))}, "b"),
    ("preferences rule nothing out", {"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": []}}]}}},
     "abcd"),
    ("affinity to pods rules nothing out: they come and go", {"affinity": {"podAffinity": {}}}, "abcd"),
    ("a pod may name its node", {"nodeName": "b"}, "b"),
    ("a node that is not there", {"nodeName": "z"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("what", "spec", "names"), SELECTORS, ids=[row[0] for row in SELECTORS])
def test_what_a_pod_says_about_nodes(what: str, spec: dict[str, Any], names: str) -> None:
    assert counting(wish(**spec), *FEW) == names


DEDICATED = "team=db:NoSchedule"

TAINTS: list[tuple[str, str, list[dict[str, str]], bool]] = [
    ("a taint keeps pods off", DEDICATED, [], False),
    ("one that evicts, too", "team=db:NoExecute", [], False),
    ("one that is only a preference does not", "team=db:PreferNoSchedule", [], True),
    ("an effect that is none does not", "team=db:Sometimes", [], True),
    ("Equal: key and value", DEDICATED, [{"key": "team", "operator": "Equal", "value": "db"}], True),
    ("Equal is what is meant where no operator stands", DEDICATED, [{"key": "team", "value": "db"}], True),
    ("Equal: another value", DEDICATED, [{"key": "team", "operator": "Equal", "value": "web"}], False),
    ("Equal without a value is the empty value", DEDICATED, [{"key": "team"}], False),
    ("a taint without a value", "team:NoSchedule", [{"key": "team"}], True),
    ("Exists: whatever the value", DEDICATED, [{"key": "team", "operator": "Exists"}], True),
    ("Exists: another key", DEDICATED, [{"key": "disk", "operator": "Exists"}], False),
    ("Exists without a key tolerates everything", DEDICATED, [{"operator": "Exists"}], True),
    ("the effect has to be the same", DEDICATED, [{"key": "team", "operator": "Exists", "effect": "NoExecute"}], False),
    ("no effect means each", "team=db:NoExecute", [{"key": "team", "operator": "Exists"}], True),
    ("an operator that is none tolerates nothing", DEDICATED, [{"key": "team", "operator": "exists"}], False),
    ("one of several is enough", DEDICATED, [{"key": "x"}, {"key": "team", "operator": "Exists"}], True),
    ("Gt: the taint is more", "sla=95:NoSchedule", [{"key": "sla", "operator": "Gt", "value": "90"}], True),
    ("Gt: the taint is as much", "sla=90:NoSchedule", [{"key": "sla", "operator": "Gt", "value": "90"}], False),
    ("Lt: the taint is less", "sla=-5:NoSchedule", [{"key": "sla", "operator": "Lt", "value": "0"}], True),
    ("Lt: what is no plain integer", "sla=05:NoSchedule", [{"key": "sla", "operator": "Lt", "value": "9"}], False),
    ("a node that is cordoned still counts", "node.kubernetes.io/unschedulable:NoSchedule", [], True),
    ("a node that is not ready still counts", "node.kubernetes.io/not-ready:NoExecute", [], True),
    ("a node under pressure still counts", "node.kubernetes.io/memory-pressure:NoSchedule", [], True),
    ("a node that is being set up still counts",
     "node.cloudprovider.kubernetes.io/uninitialized=true:NoSchedule", [], True),
    ("a control plane's node does not", "node-role.kubernetes.io/control-plane:NoSchedule", [], False),
]  # fmt: skip


@pytest.mark.parametrize(("what", "taint", "tolerations", "counts"), TAINTS, ids=[row[0] for row in TAINTS])
def test_what_a_pod_tolerates(what: str, taint: str, tolerations: list[dict[str, str]], counts: bool) -> None:
    assert counting(wish(tolerations=tolerations), node("a", taint)) == ("a" if counts else "")


def test_every_taint_of_a_node_has_to_be_tolerated() -> None:
    tolerations = [{"key": "team", "operator": "Exists"}]
    assert counting(wish(tolerations=tolerations), node("a", DEDICATED, "gpu:NoSchedule"), node("b", DEDICATED)) == "b"


def test_a_pod_that_names_its_node_passes_the_scheduler_by() -> None:
    assert counting(wish(nodeName="a"), node("a", DEDICATED)) == "a"
    assert counting(wish(nodeName="a"), node("a", "team=db:NoExecute")) == ""


def test_a_node_without_an_extended_resource_is_not_meant() -> None:
    nodes = node("a"), node("b", amounts={"nvidia.com/gpu": 0}), node("c", amounts={"nvidia.com/gpu": 8})
    assert counting(ANYWHERE.asking(["nvidia.com/gpu"]), *nodes) == "c"
    assert counting(ANYWHERE.asking(["hugepages-2Mi"]), *nodes) == "abc"


MALFORMED: list[tuple[str, dict[str, Any], str]] = [
    ("a selector that is text", {"nodeSelector": "x"}, "spec.nodeSelector: expected an object, found text"),
    ("a label that is a number", {"nodeSelector": {"a": 1}}, "spec.nodeSelector[a]: expected text, found a number"),
    ("tolerations that are none", {"tolerations": {}}, "spec.tolerations: expected a list, found an object"),
    ("a toleration that is none", {"tolerations": [1]}, "spec.tolerations[0]: expected an object, found a number"),
    ("a term that is none", {"affinity": needing([])},  # type: ignore[arg-type]
     "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: "
     "expected an object, found a list"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "spec", "told"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_what_cannot_be_read_is_named(what: str, spec: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_wish({"spec": spec})
    assert str(caught.value) == told


def test_equal_wishes_are_equal_and_passing_tolerations_are_no_part_of_them() -> None:
    passing = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]
    one = wish(nodeSelector={"a": "1", "b": "2"}, tolerations=passing)
    assert one == wish(nodeSelector={"b": "2", "a": "1"})
    assert hash(one) == hash(wish(nodeSelector={"b": "2", "a": "1"}))


# Nodes as objects.


def test_a_node_is_read() -> None:
    found = ClusterNode.from_object(
        {
            "metadata": {"name": "a", "labels": {"zone": "east"}},
            "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}], "unschedulable": True},
            "status": {"allocatable": {"cpu": "3920m", "memory": "16Gi", "hugepages-1024Mi": "2Gi", "pods": "110"}},
        }
    )
    amounts = {"cpu": 3920, "memory": 16 * 2**30, "hugepages-1Gi": 2 * 2**30, "pods": 110}
    assert found == ClusterNode("a", {"zone": "east"}, (Taint("gpu", "", "NoSchedule"),), amounts)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({}, "a Node has no metadata.name"),
    ({"metadata": {"name": "a"}, "spec": {"taints": 3}}, 'Node "a": spec.taints: expected a list of objects'),
    ({"metadata": {"name": "a"}, "spec": {"taints": ["x"]}}, 'Node "a": spec.taints: expected a list of objects'),
    ({"metadata": {"name": "a"}, "spec": []}, 'Node "a": spec: expected an object, found list'),
]


@pytest.mark.parametrize(("obj", "told"), BROKEN, ids=[row[1] for row in BROKEN])
def test_a_node_that_cannot_be_read_is_named(obj: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        ClusterNode.from_object(obj)
    assert str(caught.value) == told


# The fleet.


def test_a_topology_without_its_node_does_not_count_and_a_node_may_have_none() -> None:
    fleet = Fleet.of([node("a"), node("b")], [machine(SMALL, "a"), machine(SMALL, "gone")])
    choice = fleet.choose(ANYWHERE)
    assert ([known.name for known in choice.inventory.known], choice.allowed) == (["a"], 2)


def test_where_nothing_is_known_of_nodes_every_machine_counts() -> None:
    fleet = Fleet.whole([machine(SMALL, "a"), machine(QUARTERS, "b")])
    for asked in (ANYWHERE, wish(nodeSelector={"x": "y"}), wish(nodeName="z"), ANYWHERE.asking(["a.b/c"])):
        assert [known.name for known in fleet.inventory_for(asked).known] == ["a", "b"]


def test_pods_that_mean_the_same_nodes_share_an_inventory() -> None:
    fleet = Fleet.of(FEW, [machine(SMALL, each.name) for each in FEW])
    ssd, named = wish(nodeSelector={"disk": "ssd"}), wish(affinity=needing(fields(("metadata.name", "In", ["a"]))))
    assert fleet.choose(ssd) is fleet.choose(replace(ssd))
    assert fleet.inventory_for(ssd) is fleet.inventory_for(named)
    assert fleet.inventory_for(ANYWHERE) is fleet.everyone


def test_what_is_remembered_stays_small() -> None:
    fleet = Fleet.of(FEW, [])
    for number in range(3 * Fleet.MOST_CHOICES):
        fleet.choose(wish(nodeSelector={"x": str(number)}))
    fleet.choose(wish(nodeSelector={"x": "y" * 9000}))
    assert len(fleet._choices) == Fleet.MOST_CHOICES
    assert len(fleet._inventories) <= Fleet.MOST_INVENTORIES


def test_a_new_fleet_takes_over_what_did_not_change() -> None:
    first = Fleet.of(FEW, [machine(SMALL, each.name) for each in FEW])
    nodes = (*FEW[:3], replace(FEW[3], labels={"disk": "ssd"}))
    second = Fleet.of(nodes, [machine(SMALL, "a"), machine(QUARTERS, "b"), *(machine(SMALL, n) for n in "cd")], first)
    before, after = first.everyone.known, second.everyone.known
    assert [a is b for a, b in zip(before, after, strict=True)] == [True, False, True, True]
    chosen = second.inventory_for(wish(nodeSelector={"disk": "ssd"})).known
    assert [known.name for known in chosen] == ["a", "d"]


def test_a_broken_topology_costs_only_its_own_node() -> None:
    broken = replace(machine(SMALL, "a"), reserved=catalogue.machine(SMALL).online)
    fleet = Fleet.of([node("a"), node("b")], [broken, machine(SMALL, "b")])
    assert [known.name for known in fleet.everyone.known] == ["b"]
    assert fleet.unusable == ("machine a: reserving CPUs 0-1 leaves the node shared pool empty",)


# Verdicts by the nodes that count.

MIXED = Fleet.of(
    [
        node("small-1", labels={"pool": "web"}, amounts={"cpu": 1930, "memory": 3 * 2**30}),
        node("small-2", labels={"pool": "web"}, amounts={"cpu": 1930, "memory": 3 * 2**30}),
        node("big-1", DEDICATED, labels={"pool": "hpc"}, amounts={"cpu": 175_000, "memory": 340 * 2**30}),
        node("gpu-1", "gpu:NoSchedule", amounts={"cpu": 207_000, "memory": 1800 * 2**30, "nvidia.com/gpu": 8}),
        node("new-1", labels={"pool": "new"}),
    ],
    [machine(SMALL, "small-1"), machine(SMALL, "small-2"), machine(QUARTERS, "big-1"), machine(GPUS, "gpu-1")],
)

ANY_TAINT = [{"operator": "Exists"}]


def ruled(given: Pod, **spec: Any) -> Ruling:
    return rule(with_defaults(given), Bench(MIXED), Placing(), wish=wish(**spec))


VERDICTS: list[tuple[str, Pod, dict[str, Any], Verdict, str]] = [
    (
        "what fits a large node does not fit where its taint is not tolerated",
        pod(even("app", "40")),
        {},
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 40 CPUs, the roomiest NUMA node has 0 CPUs; held against NUMA node 0 of small-1; '
        "no machine as a whole holds it either; 2 CPUs are free, but only whole cores count, and the node shared pool "
        "keeps its share; all pods of small-1 together may have 1.93 CPUs; "
        "big-1 would hold it, but it does not tolerate the taint team=db:NoSchedule",
    ),
    ("it fits where the taint is tolerated", pod(even("app", "40")), {"tolerations": ANY_TAINT}, Verdict.FITS, ""),
    (
        "a selector says of which nodes the message speaks, and which node it rules out",
        pod(asking("app", "3", "1Gi")),
        {"tolerations": ANY_TAINT, "nodeSelector": {"pool": "web"}},
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 3 CPUs, the roomiest eligible NUMA node has 1.93 CPUs; its node selector allows '
        "2 of 5 nodes; held against NUMA node 0 of small-1; no machine as a whole holds it either; all pods of small-1 "
        "together may have 1.93 CPUs; big-1 would hold it, but its node selector does not allow that node; smallest "
        "change: app cpu from 3 to 1930m",
    ),
    (
        "what the scheduler gives of a node in all is a bound, too: its NUMA node alone would have two CPUs",
        pod(asking("app", "1950m", "1Gi"), asking("istio-proxy", "10m", "1Mi")),
        {"nodeSelector": {"pool": "web"}},
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 1.96 CPUs, the roomiest eligible NUMA node has 1.93 CPUs; its node selector allows '
        "2 of 5 nodes; even without its sidecars it does not fit; held against NUMA node 0 of small-1; no machine as a "
        "whole holds it either; all pods of small-1 together may have 1.93 CPUs; big-1 would hold it, but its node "
        "selector does not allow that node; smallest change: app cpu from 1950m to 1920m",
    ),
    (
        "a request for devices is a selector of its own",
        pod(container("app", {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "8"})),
        {"tolerations": ANY_TAINT},
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 8 nvidia.com/gpu, the roomiest eligible NUMA node has 4; its request for '
        "nvidia.com/gpu allows 1 of 5 nodes; held against NUMA node 0 of gpu-1; it needs at least 2 NUMA nodes; "
        "smallest change: app nvidia.com/gpu from 8 to 4",
    ),
    (
        "a pod that names its node is held against that node",
        pod(even("app", "40")),
        {"nodeName": "small-1"},
        Verdict.POD_TOO_LARGE,
        'Pod "web": too large, asks 40 CPUs, the roomiest eligible NUMA node has 0 CPUs; it is to run on node small-1; '
        "held against NUMA node 0 of small-1; no machine as a whole holds it either; 2 CPUs are free, but only whole "
        "cores count, and the node shared pool keeps its share; all pods of small-1 together may have 1.93 CPUs; "
        "big-1 would hold it, but its node name does not allow that node",
    ),
    (
        "no node has the labels",
        pod(even("app", "40")),
        {"nodeSelector": {"pool": "none"}},
        Verdict.UNKNOWN,
        'Pod "web": none of the 5 nodes has the labels of its node selector; whether it fits one NUMA node is unknown',
    ),
    (
        "selector and affinity each allow nodes, together none",
        pod(even("app", "40")),
        {"nodeSelector": {"pool": "web"}, "affinity": needing(expressions(("pool", "In", ["hpc"])))},
        Verdict.UNKNOWN,
        'Pod "web": none of the 2 nodes that its node selector allows meets its node affinity; '
        "whether it fits one NUMA node is unknown",
    ),
    (
        "the only node that is allowed has a taint",
        pod(even("app", "40")),
        {"nodeSelector": {"pool": "hpc"}},
        Verdict.UNKNOWN,
        'Pod "web": the one node that its node selector allows has a taint that it does not tolerate; '
        "whether it fits one NUMA node is unknown",
    ),
    (
        "a device that no node has",
        pod(container("app", {"cpu": "1", "memory": "1Gi", "example.com/fpga": "1"})),
        {},
        Verdict.UNKNOWN,
        'Pod "web": none of the 5 nodes has example.com/fpga; whether it fits one NUMA node is unknown',
    ),
    (
        "the nodes that are left have published nothing",
        pod(even("app", "40")),
        {"nodeSelector": {"pool": "new"}},
        Verdict.UNKNOWN,
        'Pod "web": the one node that its node selector allows has published no topology; '
        "whether it fits one NUMA node is unknown",
    ),
    (
        "a node that is not there",
        pod(even("app", "40")),
        {"nodeName": "big-2"},
        Verdict.UNKNOWN,
        'Pod "web": there is no node big-2; whether it fits one NUMA node is unknown',
    ),
]


@pytest.mark.parametrize(("what", "given", "spec", "verdict", "message"), VERDICTS, ids=[row[0] for row in VERDICTS])
def test_verdict_by_the_nodes_that_count(
    what: str, given: Pod, spec: dict[str, Any], verdict: Verdict, message: str
) -> None:
    ruling = ruled(given, **spec)
    assert (ruling.verdict, say(WEB, ruling)) == (verdict, message)


def test_the_largest_numa_node_and_those_that_hold_it_are_of_the_nodes_that_count() -> None:
    ruling = ruled(pod(even("app", "40")), tolerations=ANY_TAINT, nodeSelector={"pool": "hpc"})
    assert ruling.largest is not None
    assert (ruling.largest.machine, ruling.largest.cpu) == ("big-1", 44_000)
    assert list(ruling.choice.inventory.holders(ruling.judged)) == ["big-1"]


def test_a_recommended_machine_is_one_that_could_be_bought_not_one_of_the_cluster() -> None:
    upgrades = Inventory.of([catalogue.machine(GPUS)])
    given = with_defaults(pod(asking("app", "60")))
    ruling = rule(given, Bench(MIXED, upgrades), Placing(), wish=wish(nodeSelector={"pool": "web"}))
    assert say(WEB, ruling).endswith("; gcp-a3-highgpu-8g would hold it as it is")
