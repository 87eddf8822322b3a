"""What is known of a cluster, without one: objects in, policies and versions out."""

from __future__ import annotations

from typing import Any

import pytest

from shared.policy import TopologyPolicy
from tests.support.cluster import Manifest, limit_range, namespace, node, topology
from webhook.following import Followed, Pulse, Table, View, key_of
from webhook.policy import Mode, NamespacePolicy, Rules

SINGLE, RESTRICTED, NONE = TopologyPolicy.SINGLE_NUMA_NODE, TopologyPolicy.RESTRICTED, TopologyPolicy.NONE


def put(table: Table[Any], *objects: Manifest) -> list[str]:
    """Tell a table of objects; what there is to be said about them."""
    return [table.put(obj, hash(str(obj))) for obj in objects]


def view(*namespaces: Manifest, rules: Rules | None = None) -> View:
    """One that has read everything, and knows these namespaces."""
    made = View(rules or Rules())
    put(made.namespaces, *namespaces)
    for pulse in made.pulses.values():
        pulse.synced = True
    return made


# Policies.


def test_a_namespace_has_the_policy_of_its_labels_over_the_defaults() -> None:
    known = view(
        namespace("plain"), namespace("strict", enforce="restricted"), rules=Rules(NamespacePolicy(warn=SINGLE))
    )
    assert known.of("plain").policy == NamespacePolicy(warn=SINGLE)
    assert known.of("strict").policy == NamespacePolicy(enforce=RESTRICTED, warn=SINGLE)


def test_a_mistyped_label_counts_as_the_strictest_and_is_said() -> None:
    found = view(namespace("a", enforce="singel")).of("a")
    assert found.policy.enforce is SINGLE
    assert found.warnings == (
        'namespace label armistice.dev/enforce: "singel" is not one of none, best-effort, restricted, '
        "single-numa-node; until it is put right single-numa-node counts",
    )


def test_a_policy_is_the_same_object_until_it_changes() -> None:
    known = view(namespace("a", enforce="restricted"), namespace("b", enforce="restricted"))
    before = known.of("a")
    assert known.of("a") is before
    assert known.of("b").policy is before.policy
    changed = namespace("a", enforce="restricted")
    changed["metadata"]["labels"]["team"] = "x"
    put(known.namespaces, changed)
    assert known.of("a") is before
    put(known.namespaces, namespace("a", enforce="none"))
    assert known.of("a").policy.enforce is NONE
    put(known.namespaces, namespace("a", enforce="restricted"))
    assert known.of("a").policy is before.policy


def test_a_limit_range_comes_and_goes_and_leaves_the_policy_the_same_object() -> None:
    known = view(namespace("a", warn="restricted"), namespace("b"))
    before = known.of("a")
    put(known.limit_ranges, limit_range("a", "y", cpu="3"), limit_range("a", "x", cpu="2"), limit_range("b", "x"))
    assert [found.default for found in known.of("a").ranges] == [{"cpu": 2 * 10**9}, {"cpu": 3 * 10**9}]
    assert known.of("a").policy is before.policy
    known.limit_ranges.drop("a/x")
    known.limit_ranges.drop("a/y")
    assert known.of("a") is before


@pytest.mark.parametrize("name", ["kube-system", "own"])
def test_an_exempt_namespace_is_exempt_whatever_its_labels_say_and_before_it_is_known(name: str) -> None:
    rules = Rules(exempt=frozenset({"kube-system", "own"}))
    assert view(namespace(name, enforce="restricted"), rules=rules).of(name).exempt
    assert View(rules).of(name).exempt


def test_the_mode_is_the_most_that_is_done() -> None:
    found = view(namespace("a", enforce="restricted"), rules=Rules(mode=Mode.WARN)).of("a")
    assert found.policy == NamespacePolicy(warn=RESTRICTED)


UNKNOWN = [
    ("one that nobody told of", view(namespace("a"))),
    ("one that is gone", view()),
    ("any, before everything was read", View(Rules())),
]


@pytest.mark.parametrize(("what", "known"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_a_namespace_that_is_not_known(what: str, known: View) -> None:
    put(known.namespaces, namespace("gone", enforce="restricted"))
    known.of("gone")
    known.namespaces.drop("gone")
    assert (known.of("gone").known, known.of("gone").policy) == (False, NamespacePolicy())


def test_what_would_hold_under_other_labels() -> None:
    known = view(namespace("a"), rules=Rules(exempt=frozenset({"kube-system"})))
    assert known.from_labels("a", {"armistice.dev/warn": "restricted", "team": "x"}).policy.warn is RESTRICTED
    assert known.from_labels("kube-system", {"armistice.dev/warn": "restricted"}).exempt


# Nodes.


def test_only_what_changed_makes_a_new_version() -> None:
    known = view()
    woken: list[int] = []
    known.wake = lambda: woken.append(known.fleet_version)
    put(known.nodes, node("n1"), node("n1"), node("n1", heartbeat=9))
    put(known.topologies, topology("n1"), topology("n1", free=1))
    assert (known.fleet_version, len(woken)) == (2, 2)
    put(known.nodes, node("n1", labels={"pool": "gpu"}))
    put(known.topologies, topology("n1", cpus=6))
    assert known.fleet_version == 4
    known.nodes.drop("n1")
    known.nodes.drop("n1")
    assert (known.fleet_version, len(woken)) == (5, 5)


def test_topologies_of_one_type_share_their_parts_and_differ_in_their_name() -> None:
    known = view()
    put(known.topologies, topology("n1"), topology("n2"), topology("n3", memory="4Gi"))
    one, two, three = known.topologies.known.values()
    assert [machine.name for machine in (one, two, three)] == ["n1", "n2", "n3"]
    assert one.cores is two.cores
    assert one.numa_nodes != three.numa_nodes


def test_what_was_readable_and_is_not_any_more_is_not_known_any_more() -> None:
    known = view()
    assert put(known.topologies, topology("n1")) == [""]
    (told,) = put(known.topologies, {**topology("n1"), "zones": []})
    assert told.startswith("NodeResourceTopology n1: no zone of type Node")
    assert (known.topologies.known, known.topologies.unreadable) == ({}, {"n1": told})
    assert put(known.topologies, {**topology("n1"), "zones": []}) == [""]  # it was said
    put(known.topologies, topology("n1"))
    assert (set(known.topologies.known), known.topologies.unreadable) == ({"n1"}, {})


def test_a_whole_listing_is_all_there_is() -> None:
    known = view(namespace("a"), namespace("b"))
    known.of("a")
    known.namespaces.keep({"b"})
    assert (set(known.namespaces.known), known.of("a").known) == ({"b"}, False)


KEYS = [
    ("a name", {"metadata": {"name": "a"}}, "a"),
    ("a name in a namespace", {"metadata": {"name": "a", "namespace": "b"}}, "b/a"),
    ("no name", {"metadata": {}}, ""),
    ("no metadata", {}, ""),
]


@pytest.mark.parametrize(("what", "obj", "key"), KEYS, ids=[row[0] for row in KEYS])
def test_keys(what: str, obj: Manifest, key: str) -> None:
    assert key_of(obj) == key


# Readiness.


def synced(*missing: Followed, complaint: str = "") -> View:
    made = view()
    for followed in missing:
        made.pulses[followed].synced = False
        made.pulses[followed].complaint = complaint
    return made


UNREADY = [
    ("everything read", synced(), ""),
    ("an outage later on", view(), ""),
    (
        "two things missing",
        synced(Followed.NODES, Followed.NAMESPACES),
        "the cluster's namespaces, nodes are not read yet",
    ),
    (
        "a reason",
        synced(Followed.NODES, complaint="https://api refuses: 403 Forbidden"),
        "the cluster's nodes are not read yet: https://api refuses: 403 Forbidden",
    ),
]
UNREADY[1][1].pulses[Followed.NODES].complaint = "https://api cannot be reached"


@pytest.mark.parametrize(("what", "known", "told"), UNREADY, ids=[row[0] for row in UNREADY])
def test_what_is_missing(what: str, known: View, told: str) -> None:
    assert known.unready() == told


def test_a_pulse_begins_with_nothing() -> None:
    assert Pulse() == Pulse(synced=False, absent=False, heard=None, complaint="")
