"""The story of one review, without a network: who is told what, who is patched, who is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonpatch
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import catalogue
from shared.demand import PlacementClass
from shared.policy import TopologyPolicy
from shared.seal import ANNOTATION, KeyRing, SigningKey, open_
from tests.support.merging import merging
from tests.support.nodes import expressions, needing, node
from tests.support.reviews import Json, container, generated, pod, request, sharing, workload
from webhook.admission import LONGEST_LISTS, REQUIRED_PLUGINS, Court, Decision, Docket, Kind, Phase, decide, failed
from webhook.nodes import Fleet
from webhook.policy import Mode, NamespacePolicy, Uniform
from webhook.review import Answer, pod_object
from webhook.verdict import Bench, Verdict, never

SINGLE = TopologyPolicy.SINGLE_NUMA_NODE
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OLD_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
KEYS = KeyRing.of([KEY.public, OLD_KEY.public])

ENFORCING = NamespacePolicy(enforce=SINGLE, warn=SINGLE)
WARNING = NamespacePolicy(warn=SINGLE)
AUDITING = NamespacePolicy(audit=SINGLE)
NOTHING = NamespacePolicy()

BENCH = Bench(Fleet.whole([catalogue.machine("azure-nd96isr-h100-v5")]))
"""Two NUMA nodes of 48 CPUs each."""


def court(policy: NamespacePolicy = ENFORCING, **more: Any) -> Court:
    return Court(Uniform(policy), BENCH, KEY, KEYS, **more)


def answered(obj: Json | None, phase: Phase, policy: NamespacePolicy = ENFORCING, **fields: Any) -> Decision:
    return decide(request(obj, **fields), phase, court(policy), never)


def mutated(obj: Json, policy: NamespacePolicy = ENFORCING, **fields: Any) -> Answer:
    return answered(obj, Phase.MUTATE, policy, **fields).answer


def validated(obj: Json, policy: NamespacePolicy = ENFORCING, **fields: Any) -> Answer:
    return answered(obj, Phase.VALIDATE, policy, **fields).answer


def patched(obj: Json, policy: NamespacePolicy = ENFORCING) -> Json:
    """The object as the API server would have it after mutation."""
    patch = mutated(obj, policy).patch
    found: Json = jsonpatch.apply_patch(obj, json.loads(patch)) if patch else obj
    return found


def noted(obj: Json) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("annotations", {})
    return found


TOO_LARGE = pod(container(cpu="60"))
HEAVY = pod(container(cpu="44"), container("istio-proxy", cpu="10"))

DENIED = (
    'Pod "web": sidecars too heavy, asks 54 CPUs, the roomiest NUMA node has 48 CPUs; '
    "istio-proxy asks 10 CPUs and 1 GiB (50.0 %); without its sidecars it fits; "
    "smallest change: istio-proxy cpu from 10 to 4"
)


# New pods.


def test_a_pod_that_fits_gets_its_intent_and_the_plugin_that_it_needs() -> None:
    after = patched(pod(container(), sharing("istio-proxy")))
    intent = open_(noted(after)[ANNOTATION], "demo", "web", ["app", "istio-proxy"], KEYS)
    assert (intent.placement, intent.bubble, intent.slices) == (PlacementClass.EXCLUSIVE, 3, 2)
    assert noted(after)[REQUIRED_PLUGINS] == '["armistice"]'


def test_our_own_output_is_accepted_without_a_new_patch() -> None:
    for obj in (pod(), generated(), pod(annotations={"a": "b"})):
        after = patched(obj)
        assert mutated(after) == Answer()
        assert validated(after) == Answer()


def test_validation_takes_the_intent_of_a_pod_that_got_its_name_since() -> None:
    after = patched(generated())
    after["metadata"]["name"] = "web-x7k2p"
    assert validated(after) == Answer()


def test_reinvocation_after_an_injection_writes_anew_and_says_nothing() -> None:
    after = patched(generated())
    after["spec"]["containers"].append(sharing("istio-proxy"))
    again = mutated(after)
    assert (bool(again.patch), again.warnings) == (True, ())


def test_a_pod_that_breaks_the_policy_is_rejected_in_both_phases() -> None:
    for phase in Phase:
        decision = answered(HEAVY, phase)
        assert not decision.answer.allowed
        assert decision.answer.message == f"{DENIED}; namespace demo enforces single-numa-node"
        assert (decision.kind, decision.verdict) == (Kind.POD, Verdict.SIDECARS_TOO_HEAVY)
        assert decision.broken == (Mode.ENFORCE, Mode.WARN)
        assert decision.answer.patch == b""


def test_a_warning_namespace_is_told_in_pieces_that_survive() -> None:
    answer = mutated(HEAVY, WARNING)
    assert answer.allowed
    assert "; ".join(answer.warnings).replace('; Pod "web": ', "; ") == DENIED
    assert all(len(text) <= 256 and text.startswith('Pod "web": ') for text in answer.warnings)


def test_a_warning_namespace_gets_its_pods_aligned_where_possible_and_none_refused() -> None:
    after = patched(pod(), WARNING)
    intent = open_(noted(after)[ANNOTATION], "demo", "web", None, KEYS)
    assert intent.placing.policy is TopologyPolicy.BEST_EFFORT
    assert REQUIRED_PLUGINS not in noted(after)


def test_an_auditing_namespace_only_watches() -> None:
    assert mutated(HEAVY, AUDITING) == Answer()
    answer = validated(HEAVY, AUDITING)
    assert (answer.allowed, answer.warnings, answer.patch) == (True, (), b"")
    assert answer.audit == {"audit-violations": DENIED, "enforce-policy": "none"}
    assert answered(HEAVY, Phase.VALIDATE, AUDITING).broken == (Mode.AUDIT,)


def test_a_dry_run_leaves_no_trace_in_the_audit_log() -> None:
    assert validated(HEAVY, AUDITING, dryRun=True).audit == {}


def test_a_namespace_that_asks_for_nothing_is_left_alone() -> None:
    for phase in Phase:
        assert answered(HEAVY, phase, NOTHING) == Decision(Answer(), Kind.POD)


@pytest.mark.parametrize("policy", [ENFORCING, NOTHING])
def test_an_exempt_namespace_is_left_alone_whatever_its_pods_say(policy: NamespacePolicy) -> None:
    obj = pod(annotations={ANNOTATION: "typed"})
    assert mutated(obj, policy, namespace="kube-system") == Answer()
    assert validated(HEAVY, policy, namespace="kube-system").audit == {
        "exempt": "namespace",
        "enforce-policy": "none",
    }


def test_a_mirror_pod_is_left_alone() -> None:
    assert mutated(pod(annotations={"kubernetes.io/config.mirror": "x", ANNOTATION: "typed"})) == Answer()


def test_a_best_effort_pod_needs_no_intent() -> None:
    assert mutated(pod(container(resources={}))) == Answer()
    assert validated(pod(container(resources={}))) == Answer()


def test_a_pod_without_any_name_is_the_api_servers_business() -> None:
    obj = pod()
    obj["metadata"] = {}
    assert mutated(obj) == Answer()


def test_an_unknown_topology_is_said_and_refuses_nobody() -> None:
    bare = replace(court(), bench=Bench(Fleet.whole([])))
    decision = decide(request(HEAVY), Phase.MUTATE, bare, never)
    assert decision.answer.allowed
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.answer.warnings == (
        'Pod "web": no eligible node has published a topology, so whether it fits one NUMA node is unknown',
    )
    assert decision.answer.patch


# An intent that somebody typed.


def typed(text: str, **metadata: Any) -> Json:
    return pod(annotations={ANNOTATION: text}, **metadata)


def test_a_typed_intent_is_overruled_with_a_warning() -> None:
    answer = mutated(typed('{"class":"exclusive"}'))
    assert answer.warnings == (
        f'Pod "web": its annotation {ANNOTATION} was replaced, only admission writes it; '
        "the topology intent has version null; known is 1",
    )
    (operation, _) = json.loads(answer.patch)
    assert open_(operation["value"], "demo", "web", ["app"], KEYS).bubble == 2


def test_an_intent_from_another_namespace_is_overruled_with_a_warning() -> None:
    stolen = noted(jsonpatch.apply_patch(pod(), json.loads(mutated(pod(), namespace="prod").patch)))[ANNOTATION]
    assert mutated(typed(stolen)).warnings == (
        f'Pod "web": its annotation {ANNOTATION} was replaced, only admission writes it; '
        'the topology intent is for a pod in namespace "prod"; this one is in "demo"',
    )


def test_an_intent_under_an_older_key_of_ours_is_replaced_silently() -> None:
    old = Court(Uniform(ENFORCING), BENCH, OLD_KEY, KEYS)
    patch = decide(request(pod()), Phase.MUTATE, old, never).answer.patch
    answer = mutated(jsonpatch.apply_patch(pod(), json.loads(patch)))
    assert (bool(answer.patch), answer.warnings) == (True, ())


@pytest.mark.parametrize("policy", [NOTHING, AUDITING])
def test_a_typed_intent_gives_nothing_where_nothing_is_asked(policy: NamespacePolicy) -> None:
    after = patched(typed("mine"), policy)
    intent = open_(noted(after)[ANNOTATION], "demo", "web", ["app"], KEYS)
    assert (intent.placement, intent.bubble) == (PlacementClass.NONE, 0)
    assert mutated(after, policy) == Answer()


PLUGINS = [
    ("a list of others", '["topo"]', '["topo", "armistice"]'),
    ("a list in YAML", "[topo]", '["topo", "armistice"]'),
    ("a list in lines", "- topo\n- armistice", "- topo\n- armistice"),
    ("ours in it already", '["armistice"]', '["armistice"]'),
    ("what is no list", "topo", '["armistice"]'),
    ("a list of something else", "[1]", '["armistice"]'),
    ("nothing", "", '["armistice"]'),
    ("what cannot be read", "[", '["armistice"]'),
    ("a value that is not what its tag says", "[!!bool x]", '["armistice"]'),
    ("without end", "x" * 10_000, '["armistice"]'),
    ("more and more of the same", merging(12), '["armistice"]'),
]


@pytest.mark.parametrize(("what", "given", "kept"), PLUGINS, ids=[row[0] for row in PLUGINS])
def test_a_list_of_plugins_is_merged(what: str, given: str, kept: str) -> None:
    assert noted(patched(pod(annotations={REQUIRED_PLUGINS: given})))[REQUIRED_PLUGINS] == kept


def test_a_list_for_one_container_does_not_let_it_slip_out() -> None:
    for_app = f"{REQUIRED_PLUGINS}/container.app"
    after = noted(patched(pod(annotations={for_app: "[]", f"{REQUIRED_PLUGINS}.else": "[]"})))
    assert after[for_app] == after[REQUIRED_PLUGINS] == '["armistice"]'
    assert after[f"{REQUIRED_PLUGINS}.else"] == "[]"


def test_of_many_lists_only_so_many_characters_are_read() -> None:
    given = {f"{REQUIRED_PLUGINS}/container.c{n:03}": json.dumps(["x" * 1000]) for n in range(200)}
    after = noted(patched(pod(annotations=given)))
    read = [key for key in given if "x" in after[key]]
    assert 0 < sum(len(given[key]) for key in read) <= LONGEST_LISTS
    assert all("armistice" in after[key] for key in given)


# The last look.


def test_a_sidecar_injected_after_us_is_caught() -> None:
    after = patched(pod())
    after["spec"]["containers"].append(sharing("istio-proxy"))
    told = (
        'Pod "web" was changed after its topology intent was written, istio-proxy was added; '
        "Armistice's mutating webhook has to see the pod last: give it a name that sorts last and reinvocationPolicy "
        "IfNeeded, and no other webhook that changes a pod when it is asked a second time"
    )
    assert validated(after) == Answer(
        allowed=False,
        message=f"{told}; namespace demo enforces single-numa-node",
        audit={"audit-violations": told, "enforce-policy": "single-numa-node"},
    )


CHANGES = [
    ("one more CPU", lambda obj: obj["spec"]["containers"][0]["resources"]["limits"].update(cpu="3"), "app asks for"),
    ("a container less", lambda obj: obj["spec"]["containers"].pop(), "istio-proxy was taken away"),
    (
        "two more",
        lambda obj: obj["spec"]["containers"].extend([sharing("a"), sharing("b")]),
        "a and b were added",
    ),
]


@pytest.mark.parametrize(("what", "change", "said"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_change_after_us_is_named(what: str, change: Any, said: str) -> None:
    after = patched(pod(container(), sharing("istio-proxy")))
    change(after)
    assert said in validated(after).message
    told = patched(pod(container(), sharing("istio-proxy")), WARNING)
    change(told)
    answer = validated(told, WARNING)
    assert answer.allowed
    assert said in answer.warnings[-1]


def test_a_forged_intent_is_refused() -> None:
    after = patched(pod())
    after["metadata"]["annotations"][ANNOTATION] = after["metadata"]["annotations"][ANNOTATION].replace(
        '"bubble":2', '"bubble":9'
    )
    assert validated(after).message == (
        f'Pod "web" cannot be aligned: the topology intent does not carry a signature of the key {KEY.id}; '
        f"it was altered afterwards; take the annotation {ANNOTATION} out and apply it again; "
        "namespace demo enforces single-numa-node"
    )


def test_a_pod_that_was_never_mutated_is_refused() -> None:
    assert validated(pod()).message == (
        'Pod "web" has no topology intent, so no node would align it; Armistice\'s mutating webhook was not asked, '
        "or another one took the annotation away; namespace demo enforces single-numa-node"
    )


def test_a_rehearsal_without_a_cluster_asks_for_no_intent() -> None:
    rehearsal = court(intent_required=False)
    assert decide(request(pod()), Phase.VALIDATE, rehearsal, never).answer == Answer()


# Objects that cannot be read.

QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
UNREADABLE = [
    (
        "a quantity that is none",
        pod(container(cpu="two")),
        f"spec.containers[0].resources.limits[cpu]: 'two': {QUANTITY}",
    ),
    (
        "containers that are no list",
        pod() | {"spec": {"containers": 7}},
        "spec.containers: expected array or null, got int",
    ),
    ("no containers", pod() | {"spec": {}}, "spec.containers: required, and missing"),
    ("an object that is none", [], "expected object, got array"),
    (
        "more containers than any node starts",
        pod(*(container(f"c{number}") for number in range(501))),
        "spec has 501 containers; at most 500 are weighed",
    ),
]


@pytest.mark.parametrize(("what", "obj", "said"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_what_cannot_be_read_is_refused_only_where_something_is_enforced(what: str, obj: Any, said: str) -> None:
    fields = {"object": obj, "name": "web"}
    text = f'Pod "web" cannot be weighed: {said}'
    denied = mutated(pod(), ENFORCING, **fields)
    assert (denied.allowed, denied.message) == (False, text)
    assert mutated(pod(), WARNING, **fields) == Answer(warnings=(text,))
    assert mutated(pod(), NOTHING, **fields) == Answer()


# Workloads.

KINDS = [
    ("Deployment", "apps/v1", Kind.DEPLOYMENT),
    ("StatefulSet", "apps/v1", Kind.STATEFUL_SET),
    ("DaemonSet", "apps/v1", Kind.DAEMON_SET),
    ("ReplicaSet", "apps/v1", Kind.REPLICA_SET),
    ("ReplicationController", "v1", Kind.REPLICATION_CONTROLLER),
    ("Job", "batch/v1", Kind.JOB),
    ("CronJob", "batch/v1", Kind.CRON_JOB),
    ("PodTemplate", "v1", Kind.POD_TEMPLATE),
]


@pytest.mark.parametrize(("kind", "version", "label"), KINDS, ids=[row[0] for row in KINDS])
def test_every_workload_is_judged_by_its_template_and_never_patched(kind: str, version: str, label: Kind) -> None:
    good, bad = workload(kind, version, pod()), workload(kind, version, HEAVY)
    for phase in Phase:
        assert answered(good, phase) == Decision(Answer(), label, Verdict.FITS, ())
        decision = answered(bad, phase)
        assert decision.kind is label
        assert decision.answer.message.startswith(f'{kind} "web": sidecars too heavy, asks 54 CPUs, ')
        warned = answered(bad, phase, WARNING).answer
        assert (warned.allowed, warned.patch, bool(warned.warnings)) == (True, b"", True)


def test_what_a_controller_made_of_another_object_is_not_judged_again() -> None:
    owner = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1", "controller": True}]
    assert validated(workload("ReplicaSet", "apps/v1", HEAVY, ownerReferences=owner)) == Answer()
    assert not validated(pod(container(cpu="60"), ownerReferences=owner)).allowed


def test_an_update_counts_only_if_the_template_changed() -> None:
    before, after = workload("Deployment", "apps/v1", HEAVY), workload("Deployment", "apps/v1", HEAVY)
    after["spec"]["replicas"] = 7
    assert validated(after, operation="UPDATE", oldObject=before) == Answer()
    lighter = workload("Deployment", "apps/v1", pod())
    assert not validated(after, operation="UPDATE", oldObject=lighter).allowed
    assert not validated(after, operation="UPDATE", oldObject=None).allowed


def test_a_template_without_requests_gets_them_from_its_limits() -> None:
    assert "asks 60 CPUs" in validated(workload("Job", "batch/v1", TOO_LARGE)).message


# Subresources, other operations, other kinds.


def test_a_resize_is_judged_and_never_patched() -> None:
    fields: dict[str, Any] = {"operation": "UPDATE", "subResource": "resize", "oldObject": patched(pod())}
    decision = answered(TOO_LARGE, Phase.MUTATE, **fields)
    assert decision.kind is Kind.RESIZE
    assert decision.answer.message.startswith('Pod "web": too large, asks 60 CPUs, ')
    grown = mutated(pod(container(cpu="4")), **fields)
    assert grown == Answer(
        warnings=('Pod "web": its exclusive CPUs stay as they were at its start; create it anew to change them',)
    )
    assert mutated(pod(container(memory="2Gi")), **fields) == Answer()


LEFT_ALONE = [
    ("ephemeral containers", {"operation": "UPDATE", "subResource": "ephemeralcontainers"}),
    ("a status", {"operation": "UPDATE", "subResource": "status"}),
    ("a binding", {"operation": "CREATE", "subResource": "binding", "kind": {"kind": "Binding", "version": "v1"}}),
    ("a shell in a pod", {"operation": "CONNECT", "subResource": "exec"}),
    ("a deletion", {"operation": "DELETE", "oldObject": HEAVY, "object": None}),
    ("an operation from the future", {"operation": "RENAME"}),
    ("a kind that makes no pods", {"kind": {"kind": "Service", "version": "v1"}}),
    ("a kind of the same name elsewhere", {"kind": {"group": "example.org", "kind": "Deployment", "version": "v1"}}),
    ("a scale", {"subResource": "scale", "kind": {"group": "autoscaling", "kind": "Scale", "version": "v1"}}),
]


@pytest.mark.parametrize(("what", "fields"), LEFT_ALONE, ids=[row[0] for row in LEFT_ALONE])
def test_everything_else_is_let_through(what: str, fields: dict[str, Any]) -> None:
    for phase in Phase:
        assert answered(HEAVY, phase, **fields) == Decision(Answer(), Kind.OTHER)


def test_an_intent_that_is_changed_later_is_put_back() -> None:
    before = patched(pod())
    after = patched(pod())
    after["metadata"]["annotations"][ANNOTATION] = "mine"
    answer = mutated(after, operation="UPDATE", oldObject=before)
    assert answer.warnings == (
        f'Pod "web": its annotation {ANNOTATION} was put back, it is written once, when the pod is created',
    )
    assert jsonpatch.apply_patch(after, json.loads(answer.patch)) == before
    assert mutated(before, operation="UPDATE", oldObject=before) == Answer()
    assert validated(after, operation="UPDATE", oldObject=before) == Answer()


def test_an_intent_that_is_added_later_gives_nothing() -> None:
    answer = mutated(typed("mine"), operation="UPDATE", oldObject=pod())
    (operation,) = json.loads(answer.patch)
    assert open_(operation["value"], "demo", "web", None, KEYS).placement is PlacementClass.NONE


# Namespaces.


def namespace(name: str = "demo", **labels: str) -> Json:
    given = {f"armistice.dev/{key}": value for key, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": given | {"team": "a"}}}


def test_a_namespace_hears_of_labels_that_cannot_be_read() -> None:
    answer = validated(namespace(enforce="strict", enforced="x"))
    assert (answer.allowed, answer.warnings) == (
        True,
        (
            'namespace label armistice.dev/enforce: "strict" is not one of none, best-effort, restricted, '
            "single-numa-node; until it is put right single-numa-node counts",
            "namespace label armistice.dev/enforced does not exist and has no effect; "
            "did you mean armistice.dev/enforce?",
        ),
    )


def test_a_namespace_hears_of_new_labels_only() -> None:
    bad = namespace(enforce="strict")
    assert validated(bad, operation="UPDATE", oldObject=bad) == Answer()
    assert validated(bad, operation="UPDATE", oldObject=namespace()).warnings
    assert validated(namespace(enforce="restricted")) == Answer()


def test_an_exempt_namespace_hears_that_labels_have_no_effect() -> None:
    answer = validated(namespace("kube-system", enforce="restricted"), namespace="kube-system")
    assert answer.warnings == ("namespace kube-system is exempt; its armistice.dev/ labels have no effect",)


# What goes wrong in here.


def test_a_fault_fails_closed_only_where_something_is_enforced() -> None:
    text = 'Pod "web" was not judged: out of order'
    assert failed(request(pod()), court(), "out of order").answer == Answer(allowed=False, message=text)
    assert failed(request(pod()), court(WARNING), "out of order").answer == Answer(warnings=(text,))
    assert failed(request(namespace()), court(), "out of order").answer.allowed


def test_a_search_that_ran_out_of_time_is_not_remembered() -> None:
    place = court()
    hurried = decide(request(HEAVY), Phase.MUTATE, place, lambda: True).answer.message
    assert "smallest change" not in hurried
    assert "smallest change" in decide(request(HEAVY), Phase.MUTATE, place, never).answer.message


def test_pods_that_weigh_the_same_are_judged_once_and_told_apart() -> None:
    place = court()
    first = decide(request(pod(container(cpu="60"), name="a")), Phase.MUTATE, place, never).answer.message
    second = decide(request(pod(container(cpu="60"), name="b")), Phase.MUTATE, place, never).answer.message
    assert second == first.replace('Pod "a"', 'Pod "b"')
    seals = [decide(request(pod(name=name)), Phase.MUTATE, place, never).answer.patch for name in ("a", "b", "a")]
    assert seals[0] == seals[2] != seals[1]


def test_a_docket_stays_small() -> None:
    docket = Docket(most=8)
    for number in range(30):
        docket.finding(pod_object(request(pod(container(memory=f"{number + 1}Mi")))), ENFORCING, BENCH, never)
        assert len(docket) <= 8


def test_what_a_pod_of_many_containers_comes_to_is_not_kept() -> None:
    docket = Docket()
    for count, kept in ((Docket.WIDEST, 1), (Docket.WIDEST + 1, 1)):
        many = [container(f"c{number}", cpu="100m") for number in range(count)]
        docket.finding(pod_object(request(pod(*many))), ENFORCING, BENCH, never)
        assert len(docket) == kept


def test_a_name_too_long_for_a_pod_is_not_kept() -> None:
    place = court()
    for number in range(3):
        decide(request(pod(name=f"{number}" * 5000)), Phase.MUTATE, place, never)
    decide(request(pod(name="web")), Phase.MUTATE, place, never)
    finding = place.docket.finding(pod_object(request(pod(name="web"))), ENFORCING, BENCH, never)
    assert [name for _, name, *_ in finding.answers] == ["web"]


def meaning(**spec: Any) -> Json:
    """A pod with these fields in its spec."""
    made = pod(container(cpu="60"))
    made["spec"] |= spec
    return made


LARGER = "gcp-a3-highgpu-8g"
"""Two NUMA nodes of 104 CPUs each."""


def mixed() -> Bench:
    """Node ``a`` with NUMA nodes of 48 CPUs, and ``b`` of 104, which has a taint."""
    machines = [replace(BENCH.fleet.everyone.known[0].ledger.layout.machine, name="a"), catalogue.machine(LARGER)]
    nodes = [node("a", labels={"pool": "a"}), node("b", "team=x:NoSchedule", labels={"pool": "b"})]
    return Bench(Fleet.of(nodes, [machines[0], replace(machines[1], name="b")]))


def test_pods_that_weigh_the_same_and_mean_other_nodes_are_judged_apart() -> None:
    place = replace(court(), bench=mixed())
    for obj, allowed in (
        (meaning(), False),
        (meaning(tolerations=[{"key": "team", "operator": "Exists"}]), True),
        (meaning(nodeName="a"), False),
        (meaning(nodeName="b"), True),
        (meaning(nodeSelector={"pool": "a"}), False),
        (meaning(affinity=needing(expressions(("pool", "In", ["a"])))), False),
    ):
        assert decide(request(obj), Phase.MUTATE, place, never).answer.allowed is allowed
    assert len(place.docket) == 6
    again = meaning(tolerations=[{"key": "team", "operator": "Exists"}])
    assert decide(request(again), Phase.MUTATE, place, never).answer.allowed
    assert len(place.docket) == 6


def test_a_pod_that_is_resized_is_held_against_its_own_node() -> None:
    place = replace(court(), bench=mixed())
    for name, allowed in (("a", False), ("b", True)):
        asked = request(meaning(nodeName=name), "UPDATE", subResource="resize", oldObject=pod())
        assert decide(asked, Phase.VALIDATE, place, never).answer.allowed is allowed
