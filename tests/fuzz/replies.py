"""Reads what the webhook replied, as a stranger would: with json, jsonpatch and cryptography, and no code of its own.

What has to hold (which way each failure goes; the API server's rules):

1. A reply is an AdmissionReview for the uid that was asked about, or HTTP 400 with one sentence.
2. A patch comes to mutating calls only; it applies, and changes our annotations and nothing else.
3. An intent in it is signed, is for this pod, and its numbers are those of :mod:`tests.fuzz.reckoning`.
4. Warnings and audit entries are such as the API server hands on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import jsonpatch
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.fuzz.grammar import INTENT, PLUGINS
from tests.fuzz.reckoning import MOST, Amounts, Box, Reckoning, amount, reckon
from tests.fuzz.target import WrongError

Json = dict[str, Any]

FIELDS = {"uid", "allowed", "status", "patch", "patchType", "warnings", "auditAnnotations"}
OURSELVES = "fault of its own"
"""What a reply says where the webhook caught an exception of its own."""
AUDIT_KEY = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
SIGNED = "armistice.dev/topology-intent\n"
NO_DEVICES = ("cpu", "memory", "ephemeral-storage")
KINDS = ("Pod", "Namespace", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "PodTemplate")


@dataclass(frozen=True, slots=True)
class Placing:
    """What a namespace's pods are told, by its labels: worked out by hand."""

    policy: str
    scope: str = "pod"
    isolation: str = "auto"
    smt: str = "full-cores"
    enforced: bool = True
    """Whether anything may be denied there."""


NOT_ALIGNED = Placing("none", enforced=False)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads replies."""

    public: Ed25519PublicKey
    room: Mapping[str, int]
    """The most millicores, and the most bytes of memory, that a NUMA node of any known machine has."""
    placings: Mapping[str, Placing]
    """By namespace."""
    default: Placing = NOT_ALIGNED
    """Of every other one."""
    exempt: str = ""
    """The user, and the runtime class, whose pods are left alone."""
    required: bool = True
    """Whether validation denies a pod without its intent; not where no API server stands behind the reviews."""

    def read(self, path: str, sound: bool, body: bytes, status: int, answer: bytes) -> tuple[str, Json | None]:
        """The outcome, and the object as it is after the patch, where there is one. Raises WrongError."""
        if status == 400:
            _sentence(sound, answer)
            return "400", None
        if status != 200:
            raise WrongError(f"HTTP {status}: {answer[:200]!r}")
        response = _response(answer)
        request = _request(body)
        if request is None:
            return "200 for what only the webhook can read", None
        if response["uid"] != request.get("uid"):
            raise WrongError(f"another uid: {response['uid']!r} for {request.get('uid')!r}")
        _allowed_or_denied(response)
        _told(response, path)
        patched = self._patched(response, request, path, body)
        if sound:
            self._keeps_the_policy(response, request, path, patched)
        return _outcome(response, request, patched), patched

    def _keeps_the_policy(self, response: Json, request: Json, path: str, patched: Json | None) -> None:
        """Nobody is denied where nothing is enforced; a pod that is aligned gets its intent, and fits somewhere."""
        placing = self.placing(request)
        if not response["allowed"]:
            if not placing.enforced:
                raise WrongError(f"a denial where nothing is enforced: {response['status']['message']}")
            return
        if not _created(request) or _excused(response, request["object"]):
            return
        if not (path.startswith("/mutate") or (placing.enforced and self.required)):
            return
        if placing.policy == "none" or self._exempt(request):
            return
        found = reckon(request["object"])
        if found.placement == "none":
            return
        after = patched or request["object"]
        if INTENT not in (after["metadata"].get("annotations") or {}):
            raise WrongError(f"no intent: for a pod of class {found.placement} in {request['namespace']}")
        self._intent(after, request, fresh=patched is not None)
        too_large = [name for name, most in self.room.items() if _whole(name, found.total) > most]
        if placing.policy == "single-numa-node" and too_large and "unknown" not in str(response.get("warnings")):
            raise WrongError(f"too large: more {too_large} than any NUMA node has, and allowed")

    def _exempt(self, request: Json) -> bool:
        named = request["userInfo"]["username"], request["object"]["spec"].get("runtimeClassName")
        return self.exempt in named

    def placing(self, request: Json) -> Placing:
        """What holds in the namespace that a request is about."""
        return self.placings.get(request.get("namespace") or "default", self.default)

    def _patched(self, response: Json, request: Json, path: str, body: bytes) -> Json | None:
        if "patch" not in response:
            return None
        if not path.startswith("/mutate") or response.get("patchType") != "JSONPatch":
            raise WrongError("a patch where none may be")
        before = request["object"]
        after = _applied(base64.b64decode(response["patch"], validate=True), json.loads(body)["request"]["object"])
        _only_ours(before, after)
        if _created(request) and INTENT in after["metadata"]["annotations"]:
            self._intent(after, request, fresh=True)
        return after

    def _intent(self, pod: Json, request: Json, fresh: bool) -> None:
        """Whether the intent on a new pod is what it has to be; a fresh one was written just now."""
        namespace = request.get("namespace") or "default"
        content = self._opened(pod["metadata"]["annotations"][INTENT])
        try:
            expected = _expected(pod, namespace, self.placing(request), reckon(pod))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WrongError(f"an intent for a pod that makes no sense: {error}") from error
        found = {key: value for key, value in content.items() if key not in ("kid", "pod", "podPrefix")}
        if not _names(content, pod["metadata"], fresh):
            raise WrongError(f"an intent for another pod: {content.get('pod')!r} {content.get('podPrefix')!r}")
        for part in found["containers"]:
            if part["role"] in ("app", "sidecar"):
                part["role"] = "stays"
        for key in expected.keys() | found.keys():
            if expected.get(key) != found.get(key):
                raise WrongError(f"another {key}: {found.get(key)!r}, reckoned {expected.get(key)!r}")

    def _opened(self, text: str) -> Json:
        """The content, if the signature over all the rest of the text is the key's."""
        match = re.search(r'"sig":"([A-Za-z0-9+/]{86}==)",', text)
        if match is None:
            raise WrongError("an intent without a signature")
        try:
            self.public.verify(base64.b64decode(match[1]), (SIGNED + text.replace(match[0], "")).encode())
        except InvalidSignature as error:
            raise WrongError("a signature that does not hold") from error
        content: Json = json.loads(text)
        del content["sig"]
        if content["kid"] != hashlib.sha256(self.public.public_bytes_raw()).hexdigest()[:16]:
            raise WrongError("an intent names another key")
        return content


def _sentence(sound: bool, answer: bytes) -> None:
    text = answer.decode()
    if not text.endswith("\n") or text.count("\n") != 1 or not 10 < len(text) < 500:
        raise WrongError(f"a 400 without a sentence: {text[:300]!r}")
    if sound:
        raise WrongError(f"a 400 for a review: {text}")


def _response(answer: bytes) -> Json:
    content = json.loads(answer)
    response = content.get("response")
    head = (content.get("apiVersion"), content.get("kind"))
    if head != ("admission.k8s.io/v1", "AdmissionReview") or not isinstance(response, dict):
        raise WrongError(f"no review: {answer[:200]!r}")
    if not response.keys() <= FIELDS or not isinstance(response.get("allowed"), bool):
        raise WrongError(f"no answer: {answer[:200]!r}")
    if OURSELVES in answer.decode():
        raise WrongError(f"a fault of the webhook's: {answer[:300]!r}")
    return response


def _request(body: bytes) -> Json | None:
    """What was asked; None where Python's json cannot read it: a number beyond a float, odd bytes in a part that is
    skipped."""
    try:
        request: Json = json.loads(body)["request"]
    except (ValueError, RecursionError):
        return None
    return {"subResource": None, **request}


def _created(request: Json) -> bool:
    return (request["kind"]["kind"], request["operation"]) == ("Pod", "CREATE") and not request["subResource"]


EXCUSES = ("was not judged", "cannot be weighed", "stays in the node shared pool")


def _excused(response: Json, pod: Json) -> bool:
    """Whether a new pod needs no intent: it is exempt, static, without any name, or the reply says why it has none."""
    meta = pod["metadata"]
    static = "kubernetes.io/config.mirror" in (meta.get("annotations") or {})
    nameless = not (meta.get("name") or meta.get("generateName"))
    said = " ".join(response.get("warnings", []))
    exempt = "exempt" in response.get("auditAnnotations", {})
    return static or nameless or exempt or any(excuse in said for excuse in EXCUSES)


def _allowed_or_denied(response: Json) -> None:
    if response["allowed"]:
        if "status" in response:
            raise WrongError("a status for what is allowed")
        return
    status = response["status"]
    if (status["code"], status["reason"]) != (403, "Forbidden") or not 10 < len(status["message"]) <= 2000:
        raise WrongError(f"a denial without a reason: {status!r}")
    if "patch" in response:
        raise WrongError("a patch for what is denied")


def _told(response: Json, path: str) -> None:
    warnings = response.get("warnings", [])
    if any(not 0 < len(warning) <= 256 or not warning.isprintable() for warning in warnings):
        raise WrongError(f"a warning that would be cut or lost: {warnings!r}")
    if sum(map(len, warnings)) > 4096 or len(set(warnings)) < len(warnings):
        raise WrongError(f"warnings that would be dropped: {warnings!r}")
    audit = response.get("auditAnnotations", {})
    if any(not AUDIT_KEY.fullmatch(key) or not isinstance(text, str) for key, text in audit.items()):
        raise WrongError(f"an audit entry that would be dropped: {audit!r}")
    if audit and path.startswith("/mutate") and audit.keys() != {"exempt"}:
        raise WrongError(f"an audit entry from the mutating call: {audit!r}")


def _applied(patch: bytes, obj: Json) -> Json:
    """The object, changed in place."""
    operations = json.loads(patch)
    if not operations or any(operation.keys() != {"op", "path", "value"} for operation in operations):
        raise WrongError(f"a patch of nothing, or of something else: {patch[:200]!r}")
    if any(operation["op"] != "add" for operation in operations):
        raise WrongError(f"a patch that may fail: {patch[:200]!r}")
    after: Json = jsonpatch.JsonPatch(operations).apply(obj, in_place=True)
    return after


def _only_ours(before: Json, after: Json) -> None:
    old, new = before["metadata"].get("annotations") or {}, after["metadata"]["annotations"]
    strange = [key for key in new if new[key] != old.get(key) and not (key == INTENT or key.startswith(PLUGINS))]
    if strange or old.keys() - new.keys():
        raise WrongError(f"an annotation that is not ours was changed: {strange} {old.keys() - new.keys()}")
    rest, same = ({**each, "metadata": {**each["metadata"], "annotations": None}} for each in (after, before))
    if rest != same:
        raise WrongError("a patch changes more than annotations")


def _outcome(response: Json, request: Json, patched: Json | None) -> str:
    kind = request["kind"]["kind"]
    words = [kind if kind in KINDS else "other", "allowed" if response["allowed"] else "denied"]
    words += [word for word in ("warnings", "auditAnnotations") if response.get(word)]
    return " ".join([*words, "patched"] if patched is not None else words)


# What an intent has to say.


def _expected(pod: Json, namespace: str, placing: Placing, found: Reckoning) -> Json:
    placement = found.placement if placing.policy != "none" else "none"
    exclusive = placement == "exclusive"
    return {
        "v": 1,
        "ns": namespace,
        "class": placement,
        "policy": placing.policy,
        "scope": placing.scope,
        "isolation": placing.isolation,
        "smt": placing.smt,
        "demand": _demand(found.total),
        "bubble": found.bubble if exclusive else 0,
        "containers": [_part(box, exclusive) for box in found.boxes],
    }


def _names(content: Json, meta: Json, fresh: bool) -> bool:
    """Whether an intent is for this pod: by its name, or while it had none, by the start of it."""
    name = meta.get("name") or ""
    if "pod" in content:
        return "podPrefix" not in content and content["pod"] == name
    prefix = meta["generateName"]
    named = bool(name) and not fresh and name.startswith(prefix[:58]) and len(name) > len(prefix[:58])
    return bool(content["podPrefix"] == prefix and (not name or named))


def _demand(total: Amounts) -> Json:
    devices = {name: _whole(name, total) for name in total if name not in NO_DEVICES and not _pages(name)}
    said: Json = {"cpu": _whole("cpu", total), "memory": _whole("memory", total)}
    if hugepages := _hugepages(total):
        said["hugepages"] = hugepages
    if devices := {name: count for name, count in devices.items() if count}:
        said["devices"] = devices
    return said


def _part(box: Box, exclusive: bool) -> Json:
    role = "init" if box.init and not box.stays else "stays"
    said: Json = {"name": box.name, "role": role}
    if exclusive and box.owns:
        said["slice"] = box.owns
    if memory := _whole("memory", box.requests):
        said["memory"] = memory
    if hugepages := _hugepages(box.requests):
        said["hugepages"] = hugepages
    return said


def _whole(name: str, amounts: Amounts) -> int:
    return min(MOST, ceil(amounts.get(name, 0) * (1000 if name == "cpu" else 1)))


def _pages(name: str) -> bool:
    return name.startswith("hugepages-")


def _hugepages(amounts: Amounts) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in amounts:
        if _pages(name) and (bytes_ := _whole(name, amounts)):
            size = str(ceil(amount(name.removeprefix("hugepages-"))))
            found[size] = found.get(size, 0) + bytes_
    return found
