"""Reviews by a grammar: every field that is weighed, in every form that the API server could send, and some it never
would. Each is JSON that makes sense as a review; whether the pod in it does is another matter."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.support.merging import merging
from tests.support.reviews import review, workload

Json = dict[str, Any]

INTENT = "armistice.dev/topology-intent"
PLUGINS = "required-plugins.noderesource.dev"

NAMESPACES = ("strict", "loose", "spread", "warned", "audited", "shares", "ranged", "typo", "plain", "kube-system", "?")
WEIGHTS = (8, 4, 4, 6, 1, 3, 2, 2, 1, 1, 1)
"""Each with labels of its own (:mod:`tests.fuzz.reviews`); the last is not known."""

NAMES = (
    "app", "web", "db", "istio-proxy", "linkerd-proxy", "agent", "kube-rbac-proxy-main", "init", "setup", "telemetry",
    "a", "x" * 63, "app-2", "vault-agent", "fluentbit", "logs", "é", "app.1", "0",
)  # fmt: skip
IMAGES = ("", "app:1", "docker.io/kserve/agent:v1", "x/kserve/router@sha256:00", "reg:5000/fluentbit", "logcollector:2")

CPUS = ("1", "2", "4", "250m", "500m", "1500m", "0.5", "3", "100m", "2.0", "2000m", "0", "1", "2", "10m", "48")
MEMORIES = ("1Gi", "256Mi", "512Mi", "2Gi", "64Mi", "1G", "1.5Gi", "0", "1024Mi", "4Gi", "128Gi", "600Gi", "123456789")
PAGES = ("2Mi", "1Gi", "4Mi", "512Mi", "0", "16Gi")
COUNTS = ("1", "2", "4", "8", "0", "16")
ODD: tuple[Any, ...] = (
    "1n", "1u", "999999n", "9223372036854775807", "9223372036854775808", "8Ei", "10E", "1e3", "1E-3", "12e30", ".5",
    "1.", "+2", "0.000000001", "1e-400", "1e400", "-0", 2, 0, 0.1, 1.5, 1e22, 10**30, None, "4.2k", "1Pi", "1k", "",
    " 2 ", "-1", "abc", "1.2.3", "0x1", "1e", "９", "1_0", True, [], {}, "1Ki1", "1" * 300,
)  # fmt: skip
"""Amounts that nobody writes; the last third is none."""

DEVICES = ("nvidia.com/gpu", "rdma/hca", "vendor.example/é", "ephemeral-storage", "storage", "x")
HUGEPAGES = ("hugepages-2Mi", "hugepages-1Gi", "hugepages-1024Mi", "hugepages-64Ki")
ODD_RESOURCES = ("hugepages-", "hugepages-0", "hugepages-x", "hugepages-1m", "", "cpu ", "requests.cpu", "CPU")


def some(rng: Random, chance: float) -> bool:
    """True with a chance."""
    return rng.random() < chance


def quantity(rng: Random, sane: tuple[str, ...]) -> Any:
    """An amount, nearly always a sane one."""
    return rng.choice(ODD) if some(rng, 0.02) else rng.choice(sane)


def resources(rng: Random, even: float = 0.4) -> Json:
    """Of a container, or of a pod; with a chance requests equal limits."""
    limits = _amounts(rng)
    if some(rng, even):
        return {"limits": limits} if some(rng, 0.5) else {"limits": limits, "requests": dict(limits)}
    found: Json = {}
    if some(rng, 0.8):
        found["requests"] = _amounts(rng)
    if some(rng, 0.4):
        found["limits"] = limits
    return found


def _amounts(rng: Random) -> Json:
    found: Json = {}
    if some(rng, 0.85):
        found["cpu"] = quantity(rng, CPUS)
    if some(rng, 0.85):
        found["memory"] = quantity(rng, MEMORIES)
    if some(rng, 0.1):
        found[rng.choice(HUGEPAGES)] = quantity(rng, PAGES)
    if some(rng, 0.1):
        found[rng.choice(DEVICES)] = quantity(rng, COUNTS)
    if some(rng, 0.003):
        found[rng.choice(ODD_RESOURCES)] = quantity(rng, COUNTS)
    return found


def containers(rng: Random, least: int, init: bool, taken: set[str]) -> list[Json]:
    """A list of containers, now and then a very long one."""
    many = rng.choice((30, 120, 499, 501)) if some(rng, 0.001) else 0
    return [_container(rng, init, taken) for _ in range(many or least + min(int(rng.expovariate(1.0)), 5))]


def _container(rng: Random, init: bool, taken: set[str]) -> Json:
    name = rng.choice(NAMES)
    while name in taken and not some(rng, 0.005):
        name = f"{name[:40]}-{len(taken)}"
    taken.add(name)
    made: Json = {"name": name, "image": rng.choice(IMAGES)}
    if some(rng, 0.95):
        made["resources"] = resources(rng)
    if init and some(rng, 0.45):
        made["restartPolicy"] = "Always"
    elif some(rng, 0.03):
        made["restartPolicy"] = rng.choice(("Never", "OnFailure", "Always", ""))
    if some(rng, 0.1):
        made["env"] = [{"name": "A", "value": "x" * rng.choice((1, 50, 2000))}]
    return made


def pod(rng: Random) -> Json:
    """A pod as it stands before mutation."""
    taken: set[str] = set()
    spec: Json = {"containers": containers(rng, 1, False, taken)}
    if some(rng, 0.35):
        spec["initContainers"] = containers(rng, 1, True, taken)
    if some(rng, 0.15):
        spec["resources"] = _level(rng)
    if some(rng, 0.1):
        spec["overhead"] = {"cpu": quantity(rng, CPUS), "memory": quantity(rng, MEMORIES)}
    if some(rng, 0.1):
        spec["runtimeClassName"] = rng.choice(("gvisor", "kata", "kata", "", "exempt"))
    _nodes(rng, spec)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(rng, sorted(taken)), "spec": spec}


def _level(rng: Random) -> Json:
    """``spec.resources``, of what may stand there."""
    found = resources(rng, even=0.6)
    for amounts in found.values():
        for name in [name for name in amounts if name not in ("cpu", "memory", *HUGEPAGES)]:
            del amounts[name]
    return found


def _nodes(rng: Random, spec: Json) -> None:
    """What the pod says about nodes."""
    if some(rng, 0.05):
        spec["nodeSelector"] = {rng.choice(("disk", "zone", "none")): rng.choice(("fast", "a", ""))}
    if some(rng, 0.05):
        spec["nodeName"] = rng.choice(("node-a", "node-b", "nowhere", ""))
    if some(rng, 0.05):
        terms = [_term(rng) for _ in range(rng.randint(0, 3))]
        required = {"nodeSelectorTerms": terms}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    if some(rng, 0.1):
        keys, effects = ("dedicated", "", None), ("NoSchedule", "NoExecute", "PreferNoSchedule", "", None)
        spec["tolerations"] = [
            {"key": rng.choice(keys), "operator": rng.choice(("Exists", "Equal", "", "Lt")), "value": "db",
             "effect": rng.choice(effects)}
            for _ in range(rng.randint(0, 3))
        ]  # fmt: skip


def _term(rng: Random) -> Json:
    operators = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Odd")
    key, values = rng.choice(("zone", "disk", "cores")), [rng.choice(("a", "fast", "8", "x")) for _ in range(2)]
    matched = [{"key": key, "operator": rng.choice(operators), "values": values[: rng.randint(0, 2)]}]
    field = [{"key": "metadata.name", "operator": "In", "values": [rng.choice(("node-a", "nowhere"))]}]
    return rng.choice(({"matchExpressions": matched}, {"matchFields": field}, {}))


def metadata(rng: Random, names: list[str]) -> Json:
    """Of a pod: a name or the start of one, annotations of ours and of others."""
    found: Json = {}
    if some(rng, 0.5):
        found["name"] = rng.choice(("web-0", "a", "x" * 253, "web.é", "no name, \t or is it"))
    elif some(rng, 0.98):
        found["generateName"] = rng.choice(("web-", "a", "y" * 250, "web-7c9d5b-"))
    if some(rng, 0.6):
        found["annotations"] = _annotations(rng, names)
    elif some(rng, 0.2):
        found["annotations"] = rng.choice(({}, None))
    if some(rng, 0.3):
        found["labels"] = {"app": "web"}
    if some(rng, 0.3):
        found["ownerReferences"] = [{"kind": "ReplicaSet", "controller": rng.choice((True, False, None)), "uid": "u"}]
    if some(rng, 0.2):
        found["managedFields"] = [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:x": {}}}}] * rng.randint(1, 4)
    return found


_LISTS = (
    '["other"]', "[armistice]", '["armistice"]', "", "{a: b}", "[[[[", "- a\n- b", "&a [*a]", "[1, 2]", "[!!bool x]",
    "[!!timestamp x]", "[!!int '']", merging(8),
)  # fmt: skip
"""Of plugins that have to be there: lists in JSON and YAML, what is none, and one that comes to nine times as much with
each merge."""


def _annotations(rng: Random, names: list[str]) -> Json:
    found: Json = {}
    if some(rng, 0.3):
        chosen = rng.sample(names, min(len(names), rng.randint(1, 3)))
        found["armistice.dev/sidecars"] = rng.choice((",", " , ")).join(chosen)
    if some(rng, 0.1):
        found["kubectl.kubernetes.io/default-container"] = rng.choice(names)
    if some(rng, 0.1):
        found[INTENT] = rng.choice(('{"v":1}', "", "x" * 20_000, "{}", '{"v":1,"kid":"00"}', "[" * 3000, "\u0000"))
    if some(rng, 0.1):
        found[PLUGINS + rng.choice(("", "/container.app", "x", "/"))] = rng.choice(_LISTS)
    if some(rng, 0.02):
        found["kubernetes.io/config.mirror"] = "x"
    if some(rng, 0.3):
        found[rng.choice(("a/b", "~0/~1", "é", "", "a" * 300))] = rng.choice(("c", "", "x" * 1000, "\u2028"))
    return found


WORKLOADS = (
    ("Deployment", "apps/v1"), ("StatefulSet", "apps/v1"), ("DaemonSet", "apps/v1"), ("ReplicaSet", "apps/v1"),
    ("Job", "batch/v1"), ("CronJob", "batch/v1"), ("PodTemplate", "v1"), ("ReplicationController", "v1"),
)  # fmt: skip


def sound(rng: Random) -> Json:
    """One review that has to be answered as a review."""
    more = _about_request(rng)
    draw = rng.random()
    if draw < 0.7:
        return review(pod(rng), **more)
    if draw < 0.78:
        kind, version = rng.choice(WORKLOADS)
        made = workload(kind, version, pod(rng))
        if some(rng, 0.3):
            return review(made, "UPDATE", oldObject=rng.choice((made, workload(kind, version, pod(rng)))), **more)
        return review(made, **more)
    if draw < 0.84:
        return review(pod(rng), "UPDATE", subResource="resize", oldObject=pod(rng), **more)
    if draw < 0.92:
        return review(pod(rng), "UPDATE", oldObject=pod(rng), **more)
    if draw < 0.97:
        return review(_namespace(rng), rng.choice(("CREATE", "UPDATE")), oldObject=_namespace(rng), **more)
    return rng.choice(_others)(rng, more)


def _about_request(rng: Random) -> Json:
    user = rng.choice(("jane", "system:serviceaccount:kube-system:replicaset-controller"))
    user = "exempt" if some(rng, 0.02) else user
    return {
        "namespace": rng.choices(NAMESPACES, WEIGHTS)[0],
        "uid": f"{rng.getrandbits(64):016x}",
        "userInfo": {"username": user},
        "dryRun": rng.choice((False, False, True, None)),
    }


def _namespace(rng: Random) -> Json:
    words = ("none", "best-effort", "restricted", "single-numa-node", "Strict", "", "é" * 40)
    keys = ("enforce", "warn", "audit", "scope", "smt", "isolation", "enforc", "max-sidecar-share")
    labels = {f"armistice.dev/{rng.choice(keys)}": rng.choice((*words, "20", "101")) for _ in range(rng.randint(0, 4))}
    head = {"name": rng.choice(NAMESPACES), "labels": rng.choice((labels, labels, None))}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": head}


_others = (
    lambda rng, more: review(None, "DELETE", oldObject=pod(rng), **more),
    lambda rng, more: review(pod(rng), "CONNECT", subResource="exec", **more),
    lambda rng, more: review(pod(rng), "UPDATE", subResource="ephemeralcontainers", oldObject=None, **more),
    lambda rng, more: review({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}, **more),
    lambda rng, more: review({"apiVersion": "x.dev/v1", "kind": "Pod", "metadata": {}}, **more),
)
