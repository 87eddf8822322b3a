"""The door for AdmissionReviews (``admission.k8s.io/v1``): bytes in, bytes out.

Nothing unread passes it: what comes in is parsed once, strictly, or refused with a sentence. What goes out is put
together in one place (:func:`reply`), so that ``uid``, ``patch`` and ``patchType`` are never apart.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import InputError
from webhook.patch import Operation

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"

LONGEST_WARNING = 256
"""Characters; the API server may cut longer ones (``pkg/endpoints/filters/warning.go``)."""

MOST_WARNINGS = 4000
"""Characters of all warnings together. From 4,096 on the API server drops some, other webhooks' among them."""

LONGEST_MESSAGE = 2000
"""Characters of a denial or an audit entry: it ends up in events and logs."""


class ReviewError(InputError):
    """A request that is no AdmissionReview. The caller is at fault, and nobody's object is concerned."""


class _Door(BaseModel):
    """Strict about types; what is not known is passed over; never changed afterwards."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class GroupVersionKind(_Door):
    """What kind of object a review is about."""

    group: str = ""
    version: str = ""
    kind: str


class Request(_Door):
    """The part of ``AdmissionRequest`` that is used."""

    uid: str = Field(min_length=1, max_length=256)
    kind: GroupVersionKind
    operation: str
    subresource: str | None = Field(default=None, alias="subResource")
    name: str | None = None
    namespace: str | None = None
    object: Any = None
    old: Any = Field(default=None, alias="oldObject")
    dry_run: bool | None = Field(default=None, alias="dryRun")


class _Review(_Door):
    api_version: str = Field(alias="apiVersion")
    kind: str
    request: Request


class Owner(_Door):
    """One entry of ``metadata.ownerReferences``."""

    controller: bool | None = None


class Metadata(_Door):
    """The part of ``ObjectMeta`` that is used."""

    name: str | None = None
    generate_name: str | None = Field(default=None, alias="generateName")
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    owners: list[Owner] | None = Field(default=None, alias="ownerReferences")

    @property
    def controlled(self) -> bool:
        """Whether a controller made the object from another one, which was judged itself."""
        return any(owner.controller for owner in self.owners or ())


class _Object(_Door):
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server is told."""

    allowed: bool = True
    message: str = ""
    """Why it is not allowed."""
    warnings: tuple[str, ...] = ()
    patch: tuple[Operation, ...] = ()
    audit: Mapping[str, str] = field(default_factory=dict)
    """Keys without a slash; the API server puts the webhook's name before them."""


def parse(body: bytes) -> Request:
    """The request in a review. Raises ReviewError, with a sentence for the caller."""
    if not body:
        raise ReviewError(f"the body is empty; expected an {KIND} of {API_VERSION} as JSON")
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ReviewError(f"the body is not JSON: {_line(str(error))}") from error
    try:
        review = _Review.model_validate(content)
    except ValidationError as error:
        raise ReviewError(f"the body is no {KIND}: {_first(error)}") from error
    if review.api_version != API_VERSION or review.kind != KIND:
        given = _cut(f"{review.kind} of {review.api_version}", LONGEST_WARNING)
        raise ReviewError(f"the body is an object {given}; expected {KIND} of {API_VERSION}")
    return review.request


def metadata(obj: Any) -> Metadata:
    """An object's metadata. Raises InputError naming the field."""
    try:
        return _Object.model_validate(obj).metadata
    except ValidationError as error:
        raise InputError(_first(error)) from error


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, on one line, with its place."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    return _cut(f"{place}: {first['msg']}" if place else first["msg"], LONGEST_WARNING)


def reply(uid: str, answer: Answer) -> bytes:
    """The review that answers a request."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.allowed}
    if not answer.allowed:
        # Code and reason make kubectl print "Error from server (Forbidden)"; without them it is a nameless 400.
        message = _cut(answer.message, LONGEST_MESSAGE)
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    elif answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(orjson.dumps(answer.patch)).decode()
    if answer.warnings:
        response["warnings"] = tidy(answer.warnings)
    if answer.audit:
        response["auditAnnotations"] = {key: _cut(text, LONGEST_MESSAGE) for key, text in answer.audit.items()}
    return orjson.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": response})


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
