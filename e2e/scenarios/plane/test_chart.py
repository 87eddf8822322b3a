"""The chart: what helm makes of its values, and what the API server says to it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from e2e.conftest import Planes
from e2e.lab.controlplane import ControlPlane
from e2e.lab.helm import CHART, Release
from e2e.lab.tools import KUBERNETES, NEWEST
from e2e.scenarios.plane.charted import (
    NAME,
    NAMESPACE,
    PUBLIC_KEY,
    SETS,
    Manifest,
    apply_stubs,
    delete_stubs,
    objects,
    release,
)
from shared.policy import TopologyPolicy
from tests.support.golden import check_golden

ALL = pytest.mark.parametrize("name", SETS)


@pytest.fixture
def helm(plane: ControlPlane) -> Release:
    """Nothing is installed of it."""
    return release(plane)


def rendered(helm: Release, **given: Any) -> list[Manifest]:
    """The objects that values make."""
    return objects(helm.manifest(given))


def one(found: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only object of a kind (and name)."""
    (single,) = [item for item in found if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    return single


# What is rendered.


@ALL
def test_lint_finds_nothing(helm: Release, name: str) -> None:
    assert "0 chart(s) failed" in helm.helm("lint", "--strict", str(CHART), values=SETS[name])


@ALL
def test_the_rendering_is_the_one_that_was_reviewed(helm: Release, name: str) -> None:
    """The defaults as a whole; of every other set, object by object, what differs from them."""
    text = helm.manifest(SETS[name])
    if name == "defaults":
        check_golden("chart/defaults.yaml", without_script(text))
    else:
        before, after = by_name(rendered(helm)), by_name(objects(text))
        check_golden(f"chart/{name.replace(' ', '-')}.diff", "\n".join(differences(before, after)))


OLDEST = "--kube-version=v1.30.0"
"""What the chart asks for at least. Built from source helm 3 takes a cluster that it cannot ask for one of 1.20."""


@ALL
def test_both_versions_of_helm_make_the_same_of_it(helm: Release, name: str) -> None:
    older = replace(helm, program="helm@3")
    assert "0 chart(s) failed" in older.helm("lint", "--strict", str(CHART), values=SETS[name])
    new, old = (objects(one.manifest(SETS[name], OLDEST)) for one in (helm, older))
    assert by_name(old) == by_name(new)


def by_name(found: list[Manifest]) -> dict[str, str]:
    """Each object's text by its kind and name."""
    return {
        f"{item['kind']} {item['metadata']['name']}": without_script(yaml.safe_dump(item, sort_keys=False, width=1000))
        for item in found
    }


def differences(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """What is gone, what is new, and what is other than before."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, ""), after.get(name, "")
        if not new:
            yield f"--- {name} is gone"
        elif old != new:
            yield f"+++ {name}" + ("" if old else " is new")
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
            yield from [line for line in lines if not line.startswith(("---", "+++", "@@"))]


SCRIPT = (CHART / "files/chores.py").read_text(encoding="utf-8").rstrip().splitlines()


def without_script(text: str) -> str:
    """A rendering without the script that the chart's own pods run, which has tests of its own."""
    lines = [line.rstrip() for line in text.splitlines()]
    for start in reversed([number for number, line in enumerate(lines) if line.lstrip() == SCRIPT[0]]):
        assert [line.strip() for line in lines[start : start + len(SCRIPT)]] == [line.strip() for line in SCRIPT]
        lines[start : start + len(SCRIPT)] = ["(files/chores.py)"]
    return "\n".join(lines)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "nothing to install",
        {"webhook": {"enabled": False}, "enforcer": {"enabled": False}},
        "webhook.enabled and enforcer.enabled are both false, so that nothing is left to install: enable one of the "
        "two",
    ),
    (
        "no replica that could let pods in",
        {"webhook": {"replicas": 0}},
        "webhook.replicas is 0 and webhook.failurePolicy is Fail, so that namespaces that enforce could never create a "
        "pod: set webhook.replicas to 1 or more, or webhook.failurePolicy to Ignore",
    ),
    (
        "defaults that nobody acts on",
        {"webhook": {"enabled": False}, "defaults": {"warn": "restricted"}},
        "defaults.enforce, warn or audit is set and webhook.enabled is false, so that nobody would act on it: set "
        "webhook.enabled to true, or the defaults to none",
    ),
    (
        "a default that enforces, where nothing is enforced or told",
        {"defaults": {"enforce": "restricted"}, "mode": "audit"},
        "defaults.enforce is set and mode is audit, so that nothing would be enforced: set mode to enforce, or "
        "defaults.audit in its place",
    ),
    (
        "nodes that believe nobody",
        {"webhook": {"enabled": False}},
        "enforcer.enabled is true without webhook.enabled, so that no node would know whose intents to believe: set "
        "enforcer.publicKeys to the public key of the webhook that signs, or webhook.enabled to true",
    ),
    (
        "cert-manager without an issuer",
        {"certManager": {"enabled": True}},
        "certManager.enabled needs an issuer: set certManager.issuer.name to one that is there, or "
        "certManager.issuer.create to true",
    ),
    (
        "two issuers",
        {"certManager": {"enabled": True, "issuer": {"create": True, "name": "corporate"}}},
        "certManager.issuer.create is true and certManager.issuer.name is corporate: set one of the two, not both",
    ),
    (
        "a certificate for nobody",
        {"certManager": {"enabled": True}, "webhook": {"enabled": False}, "enforcer": {"publicKeys": PUBLIC_KEY}},
        "certManager.enabled is true and webhook.enabled is false, so that nobody needs a certificate: set one of the "
        "two otherwise",
    ),
    (
        "a network policy that has no effect",
        {"webhook": {"hostNetwork": True, "networkPolicy": {"enabled": True}}},
        "webhook.networkPolicy.enabled has no effect on pods on the nodes' own network: set it or webhook.hostNetwork "
        "to false",
    ),
]


@pytest.mark.parametrize(("what", "given", "sentence"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_can_serve_nobody_is_refused(helm: Release, what: str, given: dict[str, Any], sentence: str) -> None:
    done = helm.helm_raw("template", NAME, str(CHART), values=given)
    assert done.returncode == 1
    assert f": {sentence}\n" in done.stderr


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("a key that there is not", {"webhok": {}}, "webhok"),
    ("a policy that there is not", {"defaults": {"enforce": "strict"}}, "enforce"),
    ("text for a number", {"webhook": {"replicas": "two"}}, "replicas"),
    ("a port that only root may have", {"webhook": {"port": 443}}, "port"),
]


@pytest.mark.parametrize(("what", "given", "named"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_value_is_named(helm: Release, what: str, given: dict[str, Any], named: str) -> None:
    done = helm.helm_raw("template", NAME, str(CHART), values=given)
    assert done.returncode == 1
    assert named in done.stderr


NAMES = [
    ("one that begins with a digit", "1st"),
    ("one that is longer than a Service's may be", "a" * 51),
]


@pytest.mark.parametrize(("what", "name"), NAMES, ids=[row[0] for row in NAMES])
def test_a_name_that_no_service_can_have_is_refused(plane: ControlPlane, what: str, name: str) -> None:
    done = Release(plane, name, NAMESPACE).helm_raw("template", name, str(CHART), values={})
    assert (
        f"{name} can be no part of a Service's name: set fullnameOverride to at most 50 of a-z, 0-9 and -, with a "
        "letter first\n"
    ) in done.stderr


# Which namespaces.


def chosen(found: list[Manifest], labels: dict[str, str]) -> list[str]:
    """The entries of the validating configuration that are asked about pods of a namespace."""
    hooks = one(found, "ValidatingWebhookConfiguration")["webhooks"]
    about_pods = [hook for hook in hooks if hook["rules"][0]["resources"] == ["pods"]]
    return [f"{hook['name']} {hook['failurePolicy']}" for hook in about_pods if selects(hook, labels)]


def selects(hook: Manifest, labels: dict[str, str]) -> bool:
    """As the API server reads a selector."""
    truth = {
        "Exists": lambda key, values: key in labels,
        "DoesNotExist": lambda key, values: key not in labels,
        "NotIn": lambda key, values: labels.get(key) not in values,
    }
    expressions = hook["namespaceSelector"]["matchExpressions"]
    return all(truth[found["operator"]](found["key"], found.get("values")) for found in expressions)


ENFORCE, WARN, AUDIT = ({f"armistice.dev/{name}": "restricted"} for name in ("enforce", "warn", "audit"))
ASKED = {"defaults": {"audit": TopologyPolicy.RESTRICTED.value}}
CALM = {"kubernetes.io/metadata.name": "kube-system"}
OWN = {"kubernetes.io/metadata.name": NAMESPACE}
EXEMPTED = {"kubernetes.io/metadata.name": "monitoring"}

CHOSEN: list[tuple[str, dict[str, Any], dict[str, str], list[str]]] = [
    ("no label", {}, {}, []),
    ("enforce", {}, ENFORCE, ["enforce.armistice.dev Fail"]),
    ("enforce that may fail open", {"webhook": {"failurePolicy": "Ignore"}}, ENFORCE, ["enforce.armistice.dev Ignore"]),
    ("enforce, where only warnings are given", {"mode": "warn"}, ENFORCE, ["enforce.armistice.dev Ignore"]),
    ("warn", {}, WARN, ["warn.armistice.dev Ignore"]),
    ("audit", {}, AUDIT, ["audit.armistice.dev Ignore"]),
    ("all three", {}, {**ENFORCE, **WARN, **AUDIT}, ["enforce.armistice.dev Fail"]),
    ("warn and audit", {}, {**WARN, **AUDIT}, ["warn.armistice.dev Ignore"]),
    ("no label, with a default", ASKED, {}, ["default.armistice.dev Ignore"]),
    ("warn, with a default", ASKED, WARN, ["warn.armistice.dev Ignore"]),
    ("a label in kube-system", ASKED, {**CALM, **ENFORCE}, []),
    ("a label in its own namespace", ASKED, {**OWN, **ENFORCE}, []),
    ("a label in an exempt namespace", {"exempt": {"namespaces": ["monitoring"]}}, {**EXEMPTED, **ENFORCE}, []),
]


@pytest.mark.parametrize(("what", "given", "labels", "entries"), CHOSEN, ids=[row[0] for row in CHOSEN])
def test_which_pods_are_asked_about(
    helm: Release, what: str, given: dict[str, Any], labels: dict[str, str], entries: list[str]
) -> None:
    assert chosen(rendered(helm, **given), labels) == entries


def test_only_pods_of_namespaces_that_enforce_can_be_stopped(helm: Release) -> None:
    for name in SETS:
        hooks = [hook for item in rendered(helm, **SETS[name]) for hook in item.get("webhooks", [])]
        assert {hook["name"] for hook in hooks if hook["failurePolicy"] == "Fail"} <= {"enforce.armistice.dev"}


def test_nothing_is_asked_about_that_could_stop_a_cluster(helm: Release) -> None:
    hooks = [hook for item in rendered(helm, **SETS["everything"]) for hook in item.get("webhooks", [])]
    rules = [rule for hook in hooks for rule in hook["rules"]]
    assert {word for rule in rules for part in rule.values() for word in part if word == "*"} == set()
    asked = {resource for rule in rules for resource in rule["resources"]}
    templates = {"deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs"}
    assert asked == {"pods", "pods/resize", "namespaces", "replicationcontrollers", "podtemplates"} | templates
    assert all("kube-system" in hook["namespaceSelector"]["matchExpressions"][-1]["values"] for hook in hooks)


# Names and rights.


def test_the_names_are_those_that_the_webhook_derives(helm: Release) -> None:
    installation = pytest.importorskip("webhook.installation").Installation.of("numa", {"POD_NAMESPACE": NAMESPACE})
    found = rendered(helm, fullnameOverride="numa")
    role = one(found, "Role")
    named = {name for rule in role["rules"] for name in rule.get("resourceNames", [])}
    made = {installation.authorities, installation.signing, installation.keys, installation.lease}
    assert made <= named
    assert {item["metadata"]["name"] for item in found if "webhooks" in item} == {installation.configuration}
    sources = one(found, "DaemonSet")["spec"]["template"]["spec"]["volumes"][-1]["projected"]["sources"]
    assert [source["configMap"]["name"] for source in sources] == [installation.keys]
    service = one(found, "Service")["metadata"]
    assert f"{service['name']}.{service['namespace']}.svc" == installation.dns_names[0]


def rights(found: list[Manifest], name: str) -> list[str]:
    """Every rule of somebody's roles, as a line."""
    roles = [item for item in found if item["kind"] in ("ClusterRole", "Role") and item["metadata"]["name"] == name]
    return [
        f"{role['kind']}: {','.join(rule['verbs'])} {','.join(rule['resources'])}"
        f"{'.' + rule['apiGroups'][0] if rule['apiGroups'][0] else ''}{named(rule)}"
        for role in roles
        for rule in role["rules"]
    ]


def named(rule: Manifest) -> str:
    return f" {','.join(rule['resourceNames'])}" if "resourceNames" in rule else ""


RIGHTS = {
    "armistice-webhook": [
        "ClusterRole: list,watch namespaces",
        "ClusterRole: list,watch nodes",
        "ClusterRole: list,watch limitranges",
        "ClusterRole: list,watch noderesourcetopologies.topology.node.k8s.io",
        "ClusterRole: list pods",
        "ClusterRole: get,watch,patch mutatingwebhookconfigurations,validatingwebhookconfigurations"
        ".admissionregistration.k8s.io zz-armistice",
        "Role: get,update secrets armistice-ca,armistice-signing",
        "Role: create secrets",
        "Role: get,update configmaps armistice-keys",
        "Role: create configmaps",
        "Role: get,update leases.coordination.k8s.io armistice-webhook",
        "Role: create leases.coordination.k8s.io",
        "Role: get serviceaccounts armistice-webhook",
    ],
    "armistice-enforcer": [
        "ClusterRole: get namespaces",
        "ClusterRole: get nodes",
        "ClusterRole: create events",
        "ClusterRole: create,patch noderesourcetopologies.topology.node.k8s.io",
    ],
    "armistice-test": ["ClusterRole: create namespaces", "ClusterRole: get daemonsets.apps armistice-enforcer"],
    "armistice-cleanup": ["ClusterRole: list,delete noderesourcetopologies.topology.node.k8s.io"],
}
"""All that anybody may do."""


@pytest.mark.parametrize("who", RIGHTS)
def test_who_may_do_what(helm: Release, who: str) -> None:
    assert rights(rendered(helm), who) == RIGHTS[who]


def test_nobody_else_may_do_anything(helm: Release) -> None:
    roles = {item["metadata"]["name"] for item in rendered(helm) if item["kind"] in ("ClusterRole", "Role")}
    assert roles == set(RIGHTS)


def test_with_cert_manager_the_webhook_leaves_configurations_and_authorities_alone(helm: Release) -> None:
    found = rights(rendered(helm, **SETS["cert-manager"]), "armistice-webhook")
    assert not any("admissionregistration" in right or "armistice-ca" in right for right in found)
    assert len(found) == len(RIGHTS["armistice-webhook"]) - 1


# What the API server says.


SECURITY = {"enforce": "privileged", "warn": "restricted"}
"""What the enforcer needs, and what everything else must keep."""


@pytest.fixture(params=[pytest.param(minor, marks=() if minor == NEWEST else pytest.mark.slow) for minor in KUBERNETES])
def room(planes: Planes, request: pytest.FixtureRequest) -> Iterator[Release]:
    """The namespace, as the README has an admin make it, and the kinds of other projects, on each Kubernetes."""
    plane = planes(request.param)
    labels = {f"pod-security.kubernetes.io/{key}": level for key, level in SECURITY.items()}
    metadata = {"name": NAMESPACE, "labels": labels}
    plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
    apply_stubs(plane)
    yield release(plane)
    delete_stubs(plane)
    plane.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


def test_every_object_is_one_that_the_api_server_takes(room: Release) -> None:
    for name in SETS:
        found = rendered(room, **SETS[name])
        # Only this one for real: a pod is taken where its account is there.
        account = one(found, "ServiceAccount", f"{full_name(name)}-test")
        room.plane.kubectl("apply", "-f", "-", input=json.dumps(account))
        flags = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
        every = {"apiVersion": "v1", "kind": "List", "items": found}
        done = room.plane.kubectl_raw("apply", *flags, input=json.dumps(every))
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert done.stdout.count("(server dry run)") == len(found), name
        warned = re.findall(r"^Warning: (.*)$", done.stderr, re.MULTILINE)
        assert [text for text in warned if not expected(text, name)] == [], name


def full_name(name: str) -> str:
    """Of what a set of values makes."""
    return str(SETS[name].get("fullnameOverride", NAME))


def expected(text: str, name: str) -> bool:
    """The enforcer, and a webhook on the nodes' own network, are not what Pod Security calls restricted."""
    on_the_network = name == "host network" and text.endswith(": host namespaces (hostNetwork=true)")
    return on_the_network or (text.startswith("would violate PodSecurity") and '(container "enforcer" ' in text)
