"""The door for pods: from a decoded JSON or YAML object to the values that are weighed.

Read by hand rather than by a schema library: it is on the path of every admission, and its errors say the field, what
was found and what is wanted in the API server's own manner. Unknown fields are none of our business and passed over;
``null`` counts as absent, as it does there. A path comes as its pieces, which only an error puts together.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from shared.defaulting import LimitRange
from shared.errors import InputError
from shared.intent import page_size
from shared.pod import Amounts, Container, Pod, is_hugepages
from shared.quantity import from_json
from shared.value import value
from webhook.wish import Operator, Requirement, Term, Toleration, Wish

MAX_CONTAINERS = 500
"""Containers of a pod that is read. Far more than any kubelet starts; the bound keeps the time for one pod small."""

TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""API group and kind to the way to what a pod is made from."""


@value
class Subject:
    """Whom a verdict is about."""

    kind: str
    namespace: str
    name: str
    """The name, or ``generateName`` where there is no name yet."""

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"'


def subject(obj: Mapping[str, Any], namespace: str = "") -> Subject:
    """The object's kind, namespace (the given one, its own, or ``default``) and name."""
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name") or metadata.get("generateName") or ""
    own = namespace or metadata.get("namespace") or "default"
    return Subject(str(obj.get("kind") or "Pod"), str(own), str(name))


def template_path(obj: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The way to the pod or pod template in an object; None for a kind that holds none."""
    group, slash, _ = str(obj.get("apiVersion", "")).rpartition("/")
    return TEMPLATES.get((group if slash else "", str(obj.get("kind"))))


def find_template(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The pod itself, or the template that an object makes pods from; None for a kind that holds none.

    Raises InputError where the kind should have one and has not.
    """
    path = template_path(obj)
    if path is None:
        return None
    found: Any = obj
    for depth, step in enumerate(path, start=1):
        where = ".".join(path[:depth])
        if found.get(step) is None:
            raise InputError(f"{where}: required, and missing")
        found = _mapping(found[step], where)
    return found  # type: ignore[no-any-return]


def parse_pod(template: Mapping[str, Any]) -> Pod:
    """A pod, or a template's content, as values. Raises InputError naming the field."""
    metadata = _mapping(template.get("metadata"), "metadata")
    spec = _mapping(template.get("spec"), "spec")
    resources = spec.get("resources")
    level = _mapping(resources, "spec.resources")
    pod = Pod(
        containers=_containers(spec, "containers"),
        init_containers=_containers(spec, "initContainers"),
        requests=_amounts(level.get("requests"), "spec.resources.requests") if level else None,
        limits=_amounts(level.get("limits"), "spec.resources.limits") if level else None,
        overhead=_amounts(spec.get("overhead"), "spec.overhead"),
        annotations=_annotations(metadata),
    )
    _check_names(pod)
    return pod


def _check_names(pod: Pod) -> None:
    if not pod.containers:
        raise InputError("spec.containers: required, and missing")
    count = len(pod.init_containers) + len(pod.containers)
    if count > MAX_CONTAINERS:
        raise InputError(f"spec: {count} containers are more than the {MAX_CONTAINERS} that are judged")
    seen: set[str] = set()
    for container in (*pod.init_containers, *pod.containers):
        if container.name in seen:
            raise InputError(f'container name "{container.name}": used twice; names are unique in a pod')
        seen.add(container.name)


def _containers(spec: Mapping[str, Any], key: str) -> tuple[Container, ...]:
    found = spec.get(key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InputError(f"spec.{key}: expected a list, found {_kind(found)}")
    return tuple([_container(item, f"spec.{key}[{index}]", key) for index, item in enumerate(found)])


def _container(item: Any, path: str, key: str) -> Container:
    fields = _mapping(item, path)
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}.name: required, and missing")
    resources = _mapping(fields.get("resources"), path, ".resources")
    return Container(
        name=name,
        requests=_amounts(resources.get("requests"), path, ".resources.requests"),
        limits=_amounts(resources.get("limits"), path, ".resources.limits"),
        restartable=key == "initContainers" and fields.get("restartPolicy") == "Always",
        image=str(fields.get("image") or ""),
    )


def _amounts(found: Any, *path: str) -> Amounts:
    if found is None:
        return {}
    return {name: _amount(name, value, path) for name, value in _mapping(found, *path).items()}


def _amount(name: str, value: Any, path: tuple[str, ...]) -> int:
    try:
        if isinstance(value, str) and len(name) + len(value) <= LONGEST_USUAL:
            return _usual_amount(name, value)
        return _read_amount(name, value)
    except InputError as error:
        raise InputError(f"{''.join(path)}[{name}]: {_shown(value)}: {error}") from error


def _read_amount(name: str, value: Any) -> int:
    amount = from_json(value)
    if is_hugepages(name) and page_size(name) <= 0:
        raise InputError("the page size must be a positive quantity, as in hugepages-2Mi")
    if amount < 0:
        raise InputError("must be greater than or equal to 0")
    return amount


LONGEST_USUAL = 64
"""Characters of a resource and its amount that are remembered together: pods repeat the same few."""

_usual_amount = lru_cache(maxsize=4096)(_read_amount)


def _annotations(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    found = _mapping(metadata.get("annotations"), "metadata.annotations")
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _mapping(found: Any, *path: str) -> Mapping[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputError(f"{''.join(path)}: expected an object, found {_kind(found)}")
    for key in found:
        if not isinstance(key, str):
            raise InputError(f"{''.join(path)}: expected text as a key, found {_shown(key)}")
    return found


# What it says about nodes.


def parse_wish(template: Mapping[str, Any]) -> Wish:
    """What a pod, or a template's content, says about nodes. Raises InputError naming the field."""
    spec = _mapping(template.get("spec"), "spec")
    selector = _mapping(spec.get("nodeSelector"), "spec.nodeSelector")
    tolerations = [_toleration(item, path) for item, path in _items(spec, "tolerations", "spec")]
    return Wish(
        node=_text(spec.get("nodeName"), "spec.nodeName"),
        selector=tuple(sorted((key, _text(value, "spec.nodeSelector[", key, "]")) for key, value in selector.items())),
        affinity=_affinity(spec),
        tolerations=tuple(toleration for toleration in tolerations if toleration.counts),
    )


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _affinity(spec: Mapping[str, Any]) -> tuple[Term, ...] | None:
    affinity = _mapping(spec.get("affinity"), "spec.affinity")
    node = _mapping(affinity.get("nodeAffinity"), "spec.affinity.nodeAffinity")
    path = f"spec.affinity.nodeAffinity.{REQUIRED}"
    if node.get(REQUIRED) is None:
        return None
    return tuple(
        _term(item, where) for item, where in _items(_mapping(node[REQUIRED], path), "nodeSelectorTerms", path)
    )


def _term(item: Any, path: str) -> Term:
    fields = _mapping(item, path)
    labels, others = (
        tuple(_requirement(each, where) for each, where in _items(fields, key, path))
        for key in ("matchExpressions", "matchFields")
    )
    return Term(labels, others)


_OPERATORS = {operator.value: operator for operator in Operator}


def _requirement(item: Any, path: str) -> Requirement:
    fields = _mapping(item, path)
    values = tuple(_text(value, where) for value, where in _items(fields, "values", path))
    operator = _OPERATORS.get(_text(fields.get("operator"), path, ".operator"))
    return Requirement(_text(fields.get("key"), path, ".key"), operator, values)


def _toleration(item: Any, path: str) -> Toleration:
    fields = _mapping(item, path)
    return Toleration(*[_text(fields.get(key), path, ".", key) for key in ("key", "operator", "value", "effect")])


def _items(holder: Mapping[str, Any], key: str, path: str) -> Iterator[tuple[Any, str]]:
    """The entries of a list, each with its place."""
    found = holder.get(key)
    if found is not None and not isinstance(found, list):
        raise InputError(f"{path}.{key}: expected a list, found {_kind(found)}")
    return ((item, f"{path}.{key}[{index}]") for index, item in enumerate(found or ()))


def _text(found: Any, *path: str) -> str:
    """Text; nothing is empty text."""
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InputError(f"{''.join(path)}: expected text, found {_kind(found)}")
    return found


_KINDS = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def _kind(found: object) -> str:
    return _KINDS.get(type(found), type(found).__name__)


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = 60
_BRIEF.maxlevel = 1


def _shown(found: object) -> str:
    """A value as an error may repeat it: on one line, and not too long, however large it is."""
    return " ".join(_BRIEF.repr(found).split())


def limit_range(obj: Mapping[str, Any]) -> LimitRange:
    """What a LimitRange object gives to containers. Of several ``type: Container`` items a later one overrides."""
    spec = _mapping(obj.get("spec"), "spec")
    limits = spec.get("limits")
    if limits is not None and not isinstance(limits, list):
        raise InputError(f"spec.limits: expected a list, found {_kind(limits)}")
    found = LimitRange()
    for index, item in enumerate(limits or []):
        path = f"spec.limits[{index}]"
        fields = _mapping(item, path)
        if fields.get("type") == "Container":
            keys = ("default", "defaultRequest", "max", "min")
            one = LimitRange.of(*(_amounts(fields.get(key), path, ".", key) for key in keys))
            found = LimitRange({**found.default, **one.default}, {**found.default_request, **one.default_request})
    return found
