"""The door for AdmissionReviews (``admission.k8s.io/v1``): bytes in, bytes out.

Nothing unread passes it: what comes in is parsed once, strictly, or refused with a sentence. What goes out is put
together in one place (:func:`reply`), so that ``uid``, ``patch`` and ``patchType`` are never apart.

Of an object only what is declared here is ever made into Python values; the rest (``managedFields`` above all, often
half of the bytes) is skipped over unread. That is most of this webhook's speed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict, TypeVar

import msgspec

from shared.errors import InputError

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"

LONGEST_UID = 256
"""Characters; the API server's have 36."""

LONGEST_WARNING = 256
"""Characters; the API server may cut longer ones (``pkg/endpoints/filters/warning.go``)."""

MOST_WARNINGS = 4000
"""Characters of all warnings together. From 4,096 on the API server drops some, other webhooks' among them."""

LONGEST_MESSAGE = 2000
"""Characters of a denial or an audit entry: it ends up in events and logs."""


class ReviewError(InputError):
    """A request that is no AdmissionReview. The caller is at fault, and nobody's object is concerned."""


# In.


class GroupVersionKind(msgspec.Struct, frozen=True):
    """What kind of object a review is about."""

    kind: str
    group: str = ""
    version: str = ""


Raw = msgspec.Raw
"""JSON that was not read yet."""

NOTHING = Raw(b"null")


class User(msgspec.Struct, frozen=True):
    """Who asks."""

    username: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ``AdmissionRequest`` that is used. The objects are still JSON; ``kind`` says what is in them."""

    uid: str
    kind: GroupVersionKind
    operation: str
    sub_resource: str | None = None
    name: str | None = None
    namespace: str | None = None
    object: Raw = NOTHING
    old_object: Raw = NOTHING
    dry_run: bool | None = None
    user_info: User = User()


class Owner(msgspec.Struct, frozen=True):
    """One entry of ``metadata.ownerReferences``."""

    controller: bool | None = None
    uid: str | None = None


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ``ObjectMeta`` that is used."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    owner_references: list[Owner] | None = None

    @property
    def controlled(self) -> bool:
        """Whether a controller made the object from another one, which was judged itself."""
        return any(owner.controller for owner in self.owner_references or ())


class ContainerShape(TypedDict, total=False):
    """What of a container its weight can depend on; :func:`webhook.pod.parse_pod` reads no more."""

    name: Any
    image: Any
    restartPolicy: Any
    resources: Any


class NodeAffinityShape(TypedDict, total=False):
    """What of a node affinity rules nodes out."""

    requiredDuringSchedulingIgnoredDuringExecution: Any


class AffinityShape(TypedDict, total=False):
    """What of an affinity rules nodes out; other pods come and go."""

    nodeAffinity: NodeAffinityShape | None


class SpecShape(TypedDict, total=False):
    """What of a pod's spec its weight can depend on, and the nodes that count for it;
    :func:`webhook.pod.parse_wish` reads no more of them."""

    containers: list[ContainerShape] | None
    initContainers: list[ContainerShape] | None
    resources: Any
    overhead: Any
    nodeName: Any
    nodeSelector: Any
    affinity: AffinityShape | None
    tolerations: Any
    runtimeClassName: Any


def _weighed(metadata: Metadata | None, spec: SpecShape | None) -> Mapping[str, Any]:
    """What of a pod its weight depends on, in the form of a manifest."""
    return {"metadata": {"annotations": metadata and metadata.annotations}, "spec": spec}


class PodObject(msgspec.Struct, frozen=True):
    """A pod, as far as it is weighed."""

    metadata: Metadata
    spec: SpecShape

    @property
    def template(self) -> Mapping[str, Any]:
        """For :func:`webhook.pod.parse_pod`."""
        return _weighed(self.metadata, self.spec)


class _Template(msgspec.Struct, frozen=True):
    metadata: Metadata | None = None
    spec: SpecShape | None = None


class _PodRequest(Request, frozen=True, rename="camel", kw_only=True):
    object: PodObject  # type: ignore[assignment]


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: Request


class _PodReview(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: _PodRequest


class _Headed(msgspec.Struct, frozen=True):
    metadata: Metadata


_T = TypeVar("_T")

_pod_reviews = msgspec.json.Decoder(_PodReview)
_reviews = msgspec.json.Decoder(_Review)
_pods = msgspec.json.Decoder(PodObject)
_heads = msgspec.json.Decoder(_Headed)
_members = msgspec.json.Decoder(dict[str, Raw])
_templates = msgspec.json.Decoder(_Template)


def parse(body: bytes) -> Request:
    """The request in a review. Raises ReviewError, with a sentence for the caller."""
    if not body:
        raise ReviewError(f"the body is empty; expected an {KIND} of {API_VERSION} as JSON")
    try:
        review = _review(body)
    except msgspec.ValidationError as error:
        raise ReviewError(f"the body is no {KIND}: {_said(error)}") from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ReviewError(f"the body is not JSON: {_said(error)}") from error
    if review.api_version != API_VERSION or review.kind != KIND:
        given = _cut(f"{review.kind} of {review.api_version}", LONGEST_WARNING)
        raise ReviewError(f"the body is an object {given}; expected {KIND} of {API_VERSION}")
    if not 0 < len(review.request.uid) <= LONGEST_UID:
        raise ReviewError(f"request.uid has {len(review.request.uid)} characters; expected 1 to {LONGEST_UID}")
    return review.request


def _review(body: bytes) -> _Review | _PodReview:
    """Most reviews are about pods, which are read in the same pass; where that was wrong they are read again."""
    try:
        review = _pod_reviews.decode(body)
        if review.request.kind.kind == "Pod":
            return review
    except msgspec.ValidationError:
        pass
    return _reviews.decode(body)


def pod_object(request: Request) -> PodObject:
    """The pod that a request is about. Raises InputError naming the field."""
    if isinstance(request.object, PodObject):
        return request.object
    return _decoded(_pods, request.object)


class _Status(TypedDict, total=False):
    phase: Any


class _Existing(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: SpecShape
    status: _Status = {}


class _ListMetadata(msgspec.Struct, frozen=True, rename={"continue_": "continue", "remaining": "remainingItemCount"}):
    continue_: str | None = None
    remaining: int | None = None


class _PodList(msgspec.Struct, frozen=True):
    metadata: _ListMetadata
    items: list[_Existing] | None = None


_pod_lists = msgspec.json.Decoder(_PodList)

ENDED = ("Succeeded", "Failed")
"""Phases of pods that will not run again."""


class PodPage(NamedTuple):
    """One page of a list of pods."""

    pods: tuple[PodObject, ...]
    """Those that have not ended."""
    read: int
    """All that are on it."""
    remaining: int
    """How many are on later pages, as far as the API server says."""
    token: str
    """For the next page; empty after the last."""


def pod_page(body: bytes) -> PodPage:
    """A PodList (``v1``) as it comes from an API server. Raises InputError where it is none."""
    try:
        found = _pod_lists.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"the list of pods cannot be read: {_said(error)}") from error
    items = found.items or []
    alive = tuple(PodObject(item.metadata, item.spec) for item in items if item.status.get("phase") not in ENDED)
    return PodPage(alive, len(items), found.metadata.remaining or 0, found.metadata.continue_ or "")


def metadata(raw: Raw | PodObject) -> Metadata:
    """Any object's metadata. Raises InputError naming the field."""
    if isinstance(raw, PodObject):
        return raw.metadata
    return _decoded(_heads, raw).metadata


def member(raw: Raw, path: Sequence[str]) -> Raw:
    """What an object has at the end of a way of keys, still as JSON: what lies beside the way is passed over unread.
    Raises InputError where it ends before."""
    for depth, step in enumerate(path, start=1):
        found = _decoded(_members, raw).get(step)
        if found is None or bytes(found) == b"null":
            raise InputError(f"{'.'.join(path[:depth])}: required, and missing")
        raw = found
    return raw


def pod_template(raw: Raw) -> Mapping[str, Any]:
    """A pod template as far as it is weighed, for :func:`webhook.pod.parse_pod`. Raises InputError naming the field."""
    found = _decoded(_templates, raw)
    return _weighed(found.metadata, found.spec)


def _decoded(decoder: msgspec.json.Decoder[_T], raw: Raw) -> _T:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(_said(error)) from error


def _said(error: Exception) -> str:
    """The decoder's complaint, the field first: ``spec.containers: expected array, got str``."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    text = (
        str(error).replace("`", "").replace(" | ", " or ").removeprefix("JSON is malformed: ").removeprefix("Object ")
    )
    what, _, where = text.partition(" - at ")
    place = where.removeprefix("$").removeprefix(".")
    said = f"{what[:1].lower()}{what[1:]}"
    return _cut(f"{place}: {said}" if place else said, LONGEST_WARNING)


# Out.


class Answer(NamedTuple):
    """What the API server is told."""

    allowed: bool = True
    message: str = ""
    """Why it is not allowed."""
    warnings: tuple[str, ...] = ()
    patch: bytes = b""
    """A JSON Patch; empty for none."""
    audit: Mapping[str, str] = MappingProxyType({})
    """Keys without a slash; the API server puts the webhook's name before them."""


encoded = msgspec.json.Encoder().encode
"""A value as JSON."""


def reply(uid: str, answer: Answer) -> bytes:
    """The review that answers a request."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.allowed}
    if not answer.allowed:
        # Code and reason make kubectl print "Error from server (Forbidden)"; without them it is a nameless 400.
        message = _cut(answer.message, LONGEST_MESSAGE)
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    elif answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(answer.patch).decode()
    if answer.warnings:
        response["warnings"] = tidy(answer.warnings)
    if answer.audit:
        response["auditAnnotations"] = {key: _cut(text, LONGEST_MESSAGE) for key, text in answer.audit.items()}
    return encoded({"apiVersion": API_VERSION, "kind": KIND, "response": response})


def tidy(warnings: Iterable[str]) -> list[str]:
    """Warnings as they survive the way to the user: each once, without control characters, none too long."""
    kept: list[str] = []
    room = MOST_WARNINGS
    for warning in warnings:
        text = _cut(warning, LONGEST_WARNING)
        if text not in kept and len(text) <= room:
            kept.append(text)
            room -= len(text)
    return kept


def _cut(text: str, longest: int) -> str:
    text = _line(text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _line(text: str) -> str:
    """On one line: the API server drops a warning with a control character in it without a word."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)
