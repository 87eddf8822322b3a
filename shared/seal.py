"""How an intent travels: one annotation, signed, that the node either believes to the letter or not at all.

The text is canonical JSON (sorted keys, no spaces, ASCII), so that there is one text for one content: admission that
sees its own work writes nothing new, and any byte that was changed shows. The Ed25519 signature (RFC 8032) covers the
namespace, the pod's name as far as it is known at admission, every container's name and part, and the policy. Neither a
clock nor a uid goes in: the API server calls admission more than once for one pod, and the answers have to be equal.

A pod made from ``generateName`` has no name yet when it is admitted; its intent then names the prefix.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from shared import ed25519
from shared.demand import PlacementClass
from shared.errors import InputError, IntentError
from shared.intent import Intent, Part
from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy
from shared.quantity import MAX_WHOLE
from shared.sidecars import Role

if TYPE_CHECKING:  # the node agent verifies only, and does without the package's memory
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ANNOTATION = "armistice.dev/topology-intent"

PLUGIN = "armistice"
"""The enforcer's name among NRI plugins; the webhook requires it for each pod that it writes an intent on."""

VERSION = 1

LIMIT = 16 * 1024
"""Longest text in bytes. Each container takes about 70, so that it does for more than a hundred with the longest names;
the runtime copies it into the specification of every container of the pod, and the node reads it at each event."""

GENERATED_BASE = 58
"""Characters of ``generateName`` that the API server keeps before its own five (``pkg/storage/names/generate.go``)."""

_DOMAIN = b"armistice.dev/topology-intent\n"
"""Goes before what is signed, so that the key's signatures say nothing about anything else."""

_SPKI = bytes.fromhex("302a300506032b6570032100")
"""What comes before the key in its SubjectPublicKeyInfo: two lengths and the algorithm id-Ed25519 (RFC 8410)."""

_SIGNATURE = 88
"""Characters of a signature: 64 bytes in base64."""

_SEALS_KEPT = 1024
"""Signed texts kept for the next pod of the same template."""


class Refusal(Enum):
    """Why an intent is not believed."""

    TOO_LARGE = "too-large"
    NOT_JSON = "not-json"
    UNKNOWN_VERSION = "unknown-version"
    NOT_CANONICAL = "not-canonical"
    UNKNOWN_KEY = "unknown-key"
    BAD_SIGNATURE = "bad-signature"
    BAD_CONTENT = "bad-content"
    OTHER_NAMESPACE = "other-namespace"
    OTHER_POD = "other-pod"
    OTHER_CONTAINERS = "other-containers"


def _refused(reason: Refusal, text: str) -> IntentError:
    return IntentError(reason.value, f"the topology intent {text}")


# Keys.


def key_id(public: bytes) -> str:
    """The name of a public key of 32 bytes: the first 8 bytes of its SHA-256, in hexadecimal."""
    return hashlib.sha256(public).hexdigest()[:16]


class SigningKey:
    """A private key that seals. It remembers its last signatures: one costs more than finding the verdict."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        """The public key, 32 bytes."""
        self.id = key_id(self.public)
        self.sign: Callable[[str], str] = lru_cache(maxsize=_SEALS_KEPT)(self._sign)
        """The signature of a canonical text, as the text says it."""

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"

    def _sign(self, content: str) -> str:
        return base64.b64encode(self._private.sign(_DOMAIN + content.encode())).decode()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every public key that is believed; several while a signing key is being replaced."""

    keys: Mapping[str, bytes]
    """32 bytes each, by key id."""

    @classmethod
    def of(cls, public: Iterable[bytes]) -> KeyRing:
        """From public keys of 32 bytes each. Raises InputError for one that is none."""
        keys = {key_id(raw): raw for raw in public}
        if any(len(raw) != ed25519.PUBLIC for raw in keys.values()):
            raise InputError("an Ed25519 public key has 32 bytes; this one has not")
        return cls(keys)

    @classmethod
    def from_pem(cls, content: bytes, source: str) -> KeyRing:
        """From one or several PEM blocks. Raises InputError with the source's name."""
        blocks = re.findall(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", content, re.DOTALL)
        if not blocks:
            raise InputError(f"{source} holds no public key; expected PEM with BEGIN PUBLIC KEY")
        return cls.of([_raw(block, source) for block in blocks])


def _raw(pem: bytes, source: str) -> bytes:
    """The 32 bytes out of one PEM block: a SubjectPublicKeyInfo, which for Ed25519 has one form only (RFC 8410)."""
    try:
        der = base64.b64decode(b"".join(pem.splitlines()[1:-1]), validate=True)
    except binascii.Error as error:
        raise InputError(f"{source} holds a public key that cannot be read: {error}") from error
    if not der.startswith(_SPKI) or len(der) != len(_SPKI) + ed25519.PUBLIC:
        raise InputError(f"{source} holds a public key that is not Ed25519; intents are signed with Ed25519 only")
    return der.removeprefix(_SPKI)


# Sealing.


def seal(intent: Intent, namespace: str, pod_name: str, generate_name: str, key: SigningKey) -> str:
    """The annotation's text. The same arguments give the same text. Raises IntentError where it would be too long, or
    could not be opened again."""
    whose = f'"pod":{_quoted(pod_name)}' if pod_name else f'"podPrefix":{_quoted(generate_name)}'
    before, after = _written(intent, namespace, whose, key.id)
    if not (namespace and (pod_name or generate_name) and _is_readable(intent)):
        _read(json.loads(f"{before},{after}"))  # says what no node could read, and is not signed
    _check_sums(intent)
    length = len(before) + len(',"sig":"",') + _SIGNATURE + len(after)
    if length > LIMIT:  # before it is signed, for what is signed is remembered
        raise _refused(
            Refusal.TOO_LARGE,
            f"for {len(intent.parts)} containers would have {length} bytes; at most {LIMIT} are allowed",
        )
    return f'{before},"sig":"{key.sign(f"{before},{after}")}",{after}'


def _is_readable(intent: Intent) -> bool:
    """Whether :func:`_read` would find all amounts and names well, at a tenth of its cost."""
    amounts = [intent.cpu, intent.memory, intent.bubble, *intent.hugepages.values(), *intent.devices.values()]
    for part in intent.parts:
        amounts += (part.slice, part.memory, *part.hugepages.values())
    named = all(intent.devices) and all(part.name for part in intent.parts)
    return named and min(amounts) >= 0 and max(amounts) <= MAX_WHOLE


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _written(intent: Intent, namespace: str, whose: str, key: str) -> tuple[str, str]:
    """The canonical text before and after the place of its signature. Written by hand, each key where the order of keys
    has it: that takes a fifth of the time."""
    placing = intent.placing
    containers = ",".join([_written_part(part) for part in intent.parts])
    before = (
        f'{{"bubble":{intent.bubble},"class":"{intent.placement.value}","containers":[{containers}],'
        f'"demand":{_written_demand(intent)},"isolation":"{placing.isolation.value}","kid":"{key}",'
        f'"ns":{_quoted(namespace)},{whose},"policy":"{placing.policy.value}","scope":"{placing.scope.value}"'
    )
    return before, f'"smt":"{placing.smt.value}","v":{VERSION}}}'


_quoted: Callable[[str], str] = json.JSONEncoder().encode
"""A text as canonical JSON has it."""


def _written_demand(intent: Intent) -> str:
    devices = f'"devices":{_canonical(intent.devices)},' if intent.devices else ""
    return f'{{"cpu":{intent.cpu},{devices}{_written_pages(intent.hugepages)}"memory":{intent.memory}}}'


def _written_part(part: Part) -> str:
    """One container; amounts of zero are left out."""
    memory = f'"memory":{part.memory},' if part.memory else ""
    cut = f',"slice":{part.slice}' if part.slice else ""
    pages = _written_pages(part.hugepages)
    return f'{{{pages}{memory}"name":{_quoted(part.name)},"role":"{part.role.value}"{cut}}}'


def _written_pages(pages: Mapping[int, int]) -> str:
    return f'"hugepages":{_canonical({str(size): amount for size, amount in pages.items()})},' if pages else ""


# Opening.


def open_(text: str, namespace: str, pod_name: str, container_names: Iterable[str] | None, keys: KeyRing) -> Intent:
    """The intent, if it was sealed by one of the keys for this pod. Raises IntentError with the reason.

    ``container_names`` is None where they are not known yet: when a sandbox starts, the runtime has not said them.
    """
    content = _verified(text, keys)
    intent = _read(content)
    _check_pod(content, namespace, pod_name)
    if container_names is not None:
        _check_containers(intent, sorted(container_names))
    return intent


def unverified(text: str) -> Intent:
    """What an intent says, whoever wrote it. Only for a pod of which the node itself shows that it was believed when it
    started. Raises IntentError where the text says nothing."""
    content = _decoded(text)
    if content.get("v") != VERSION:
        raise _refused(Refusal.UNKNOWN_VERSION, f"has version {_shown(content.get('v'))}; known is {VERSION}")
    return _read({name: value for name, value in content.items() if name != "sig"})


def _verified(text: str, keys: KeyRing) -> Mapping[str, Any]:
    """The content, after its signature: until then nothing of it but version and key id is looked at."""
    content = _decoded(text)
    version = content.get("v")
    if type(version) is not int or version != VERSION:
        raise _refused(Refusal.UNKNOWN_VERSION, f"has version {_shown(version)}; known is {VERSION}")
    kid = content.get("kid")
    key = keys.keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        known = ", ".join(sorted(keys.keys)) or "none"
        raise _refused(Refusal.UNKNOWN_KEY, f"was signed with the key {_shown(kid)}; known keys: {known}")
    unsigned = {name: value for name, value in content.items() if name != "sig"}
    signature = _signature(content.get("sig"))
    if not ed25519.verify(key, signature, _DOMAIN + _canonical(unsigned).encode()):
        raise _refused(Refusal.BAD_SIGNATURE, f"does not carry a signature of the key {kid}; it was altered afterwards")
    return unsigned


def _decoded(text: str) -> Mapping[str, Any]:
    if len(text) > LIMIT:
        raise _refused(Refusal.TOO_LARGE, f"has {len(text)} characters; at most {LIMIT} are read")
    try:
        content = json.loads(text)
        canonical = isinstance(content, dict) and _canonical(content) == text
    except (ValueError, RecursionError) as error:
        raise _refused(Refusal.NOT_JSON, "is not JSON; it was cut short or typed by hand") from error
    if not isinstance(content, dict):
        raise _refused(Refusal.NOT_JSON, f"is {_shown(content)}, not a JSON object; it was typed by hand")
    if not canonical:
        raise _refused(Refusal.NOT_CANONICAL, "is not in the form it was sealed in; it was altered afterwards")
    return content


def _signature(value: object) -> bytes:
    """Of the many Base64 texts of one signature only the canonical one counts; any other is none."""
    try:
        signature = base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except ValueError:
        return b""
    return signature if base64.b64encode(signature).decode() == value else b""


def _check_pod(content: Mapping[str, Any], namespace: str, pod_name: str) -> None:
    if content["ns"] != namespace:
        theirs, ours = _shown(content["ns"]), _shown(namespace)
        raise _refused(Refusal.OTHER_NAMESPACE, f"is for a pod in namespace {theirs}; this one is in {ours}")
    if "pod" in content:
        fits, whose = content["pod"] == pod_name, f"pod {_shown(content['pod'])}"
    else:
        base = content["podPrefix"][:GENERATED_BASE]
        fits = pod_name.startswith(base) and len(pod_name) > len(base)
        whose = f"pods whose names begin with {_shown(content['podPrefix'])}"
    if not fits:
        raise _refused(Refusal.OTHER_POD, f"is for {whose}; this one is {_shown(pod_name)}")


def _check_containers(intent: Intent, names: list[str]) -> None:
    sealed = sorted(part.name for part in intent.parts)
    if sealed == names:
        return
    added = [name for name in names if name not in sealed]
    gone = [name for name in sealed if name not in names]
    told = [f"{word} {', '.join(which)}" for word, which in (("without", added), ("with", gone)) if which]
    raise _refused(Refusal.OTHER_CONTAINERS, f"was made for other containers: {' and '.join(told)}")


# From JSON to values: what a key of ours has signed, but a later version of us may have written.

_FIELDS = {"v", "kid", "ns", "class", "policy", "scope", "isolation", "smt", "demand", "bubble", "containers"}
_PART_FIELDS = {"name", "role", "slice", "memory", "hugepages"}
_DEMAND_FIELDS = {"cpu", "memory", "hugepages", "devices"}
_PAGE_SIZE = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


def _read(content: Mapping[str, Any]) -> Intent:
    names = content.keys() - {"pod", "podPrefix"}
    if names != _FIELDS or len(content) != len(_FIELDS) + 1:
        odd = sorted(names ^ _FIELDS) or ["pod"]
        raise _refused(Refusal.BAD_CONTENT, f"lacks or has too much: {', '.join(odd)}")
    for field in ("ns", *(content.keys() & {"pod", "podPrefix"})):
        _text(content[field], field)
    demand = _object(content["demand"], "demand", _DEMAND_FIELDS)
    parts = content["containers"]
    if not isinstance(parts, list):
        raise _wrong("containers", parts, "a list")
    intent = Intent(
        placement=_choice(PlacementClass, content["class"], "class"),
        placing=Placing(
            policy=_choice(TopologyPolicy, content["policy"], "policy"),
            scope=_choice(Scope, content["scope"], "scope"),
            isolation=_choice(Isolation, content["isolation"], "isolation"),
            smt=_choice(Smt, content["smt"], "smt"),
        ),
        parts=tuple(_read_part(part, f"containers[{index}]") for index, part in enumerate(parts)),
        cpu=_whole(demand.get("cpu"), "demand.cpu"),
        memory=_whole(demand.get("memory"), "demand.memory"),
        hugepages=_read_pages(demand, "demand"),
        devices=_amounts(demand.get("devices", {}), "demand.devices"),
        bubble=_whole(content["bubble"], "bubble"),
    )
    _check_sums(intent)
    return intent


def _read_part(value: object, where: str) -> Part:
    fields = _object(value, where, _PART_FIELDS)
    return Part(
        name=_text(fields.get("name"), f"{where}.name"),
        role=_choice(Role, fields.get("role"), f"{where}.role"),
        slice=_whole(fields.get("slice", 0), f"{where}.slice"),
        memory=_whole(fields.get("memory", 0), f"{where}.memory"),
        hugepages=_read_pages(fields, where),
    )


def _read_pages(fields: Mapping[str, Any], where: str) -> Mapping[int, int]:
    amounts = _amounts(fields.get("hugepages", {}), f"{where}.hugepages")
    for size in amounts:
        if not _PAGE_SIZE.fullmatch(size):
            raise _wrong(f"{where}.hugepages", size, "a page size in bytes")
    return {int(size): amount for size, amount in amounts.items()}


def _check_sums(intent: Intent) -> None:
    if len({part.name for part in intent.parts}) != len(intent.parts):
        raise _refused(Refusal.BAD_CONTENT, "names a container twice")
    exclusive = intent.placement is PlacementClass.EXCLUSIVE
    if exclusive != (intent.bubble > 0) or intent.slices > intent.bubble:
        raise _refused(
            Refusal.BAD_CONTENT,
            f"has class {intent.placement.value} with a bubble of {intent.bubble} CPUs and slices of {intent.slices}",
        )


_E = TypeVar("_E", bound=Enum)


def _choice(choices: type[_E], value: object, where: str) -> _E:
    for choice in choices:
        if choice.value == value:
            return choice
    raise _wrong(where, value, f"one of {', '.join(choice.value for choice in choices)}")


def _whole(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_WHOLE:
        raise _wrong(where, value, "a whole number from 0 to 2^63-1")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, value, "text that is not empty")
    return value


def _amounts(value: object, where: str) -> Mapping[str, int]:
    fields = _object(value, where, None)
    return {_text(name, where): _whole(amount, f"{where}[{name}]") for name, amount in fields.items()}


def _object(value: object, where: str, known: set[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    if known is not None and value.keys() - known:
        raise _refused(Refusal.BAD_CONTENT, f"has unknown fields: {where}.{', '.join(sorted(value.keys() - known))}")
    return value


def _wrong(where: str, value: object, expected: str) -> IntentError:
    return _refused(Refusal.BAD_CONTENT, f"has {_shown(value)} as {where}; expected {expected}")


def _shown(value: object) -> str:
    """A value in a message: short, and on one line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
