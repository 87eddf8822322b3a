"""Intents: what was sealed for a pod the node believes to the letter, and nothing else, whoever made it.

An input is an annotation, and the namespace and name of the pod that carries it. What is right is known apart from the
code under test: the seals of the few pods of :data:`SEALED` are listed, and the signature is read once more by the
cryptography package, over the text as it stands.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enforcer.runtime import Sandbox
from enforcer.trust import Belief, believe
from shared.errors import IntentError
from shared.intent import Intent, make
from shared.policy import Placing, TopologyPolicy
from shared.seal import ANNOTATION, KeyRing, Refusal, SigningKey, seal, unverified
from tests.fuzz.mutation import BYTES, ODD_VALUES
from tests.fuzz.target import Target, WrongError, resident
from tests.support.pods import asking, even, pod, weighed

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
KEY = SigningKey(PRIVATE)
STRANGER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"s" * 32))
KEYS = KeyRing.of([KEY.public])

DOMAIN = "armistice.dev/topology-intent\n"
LONGEST_DOUBT = 1024
"""Characters of a reason: it goes into an event, which takes as many."""

PODS = (
    pod(even("app", "2")),
    pod(even("app", "2"), asking("proxy", "500m"), init=(even("setup", "1"), even("log", "1", restartable=True))),
    pod(asking("web", "500m", "64Mi")),
    pod(even("dpdk", "4", hugepages_1Gi="4Gi", hugepages_2Mi="8Mi")),
    pod(*(even(f"{number:03}-{'x' * 59}", "1") for number in range(90))),
)
NAMES = ("web-0", "a", "x" * 253)
PREFIXES = ("web-", "y" * 250)
NAMESPACES = ("shop", "demo", "x" * 63)


@dataclass(frozen=True, slots=True)
class Whose:
    """The pods that an intent is for."""

    namespace: str
    name: str
    """Empty for those that were admitted without one."""
    prefix: str = ""

    def has(self, namespace: str, name: str) -> bool:
        """Whether a pod is one of them."""
        if self.name:
            return (namespace, name) == (self.namespace, self.name)
        start = self.prefix[:58]
        return namespace == self.namespace and name[: len(start)] == start and len(name) > len(start)


def _sealed() -> Iterator[tuple[str, Intent, Whose]]:
    placings = (Placing(), Placing(TopologyPolicy.BEST_EFFORT), Placing(TopologyPolicy.NONE))
    for number, wanted in enumerate(PODS):
        intent = make(weighed(wanted), placings[number % len(placings)])
        for namespace in NAMESPACES:
            for name in NAMES:
                yield seal(intent, namespace, name, "", KEY), intent, Whose(namespace, name)
            for prefix in PREFIXES:
                yield seal(intent, namespace, "", prefix, KEY), intent, Whose(namespace, "", prefix)


SEALED = {text: (intent, whose) for text, intent, whose in _sealed()}
TEXTS = list(SEALED)


# Annotations.


def made(rng: Random) -> bytes:
    """A case: now and then all is well, more often something is not."""
    text = rng.choice(TEXTS)
    _, whose = SEALED[text]
    namespace, name = whose.namespace, whose.name or f"{whose.prefix[:58]}x7k2p"
    draw = rng.random()
    if draw < 0.15:
        namespace = rng.choice(
            (*NAMESPACES, "", namespace.upper(), f"{namespace} ", "shоp")
        )  # the last with a Cyrillic o
        name = rng.choice((*NAMES, "web-", "web-0-", "", f"{name}\u0000", "y" * 58, "y" * 59))
    elif draw < 0.95:
        text = rng.choice(ALTERED)(rng, text)
    return json.dumps({"text": text, "namespace": namespace, "name": name}).encode()


def _byte(rng: Random, text: str) -> str:
    place = rng.randrange(len(text))
    char = rng.choice((chr(rng.randrange(128)), chr(ord(text[place]) ^ 1), "é", "\u200b", "\ud800", "０", "\x00"))
    return rng.choice((text[:place] + char + text[place + 1 :], text[:place] + char + text[place:], text[:place]))


def _bytes(rng: Random, text: str) -> str:
    return rng.choice(BYTES)(rng, text.encode()).decode("utf-8", "replace")


def _reencoded(rng: Random, text: str) -> str:
    """The same content in another form."""
    content = json.loads(text)
    forms: tuple[Callable[[], str], ...] = (
        lambda: json.dumps(content),
        lambda: json.dumps(content, indent=1),
        lambda: json.dumps(dict(reversed(content.items())), separators=(",", ":")),
        lambda: text.replace('"ns"', '"\\u006es"'),
        lambda: re.sub(r'"bubble":(\d+)', r'"bubble":\1.0', text),
        lambda: re.sub(r'"bubble":(\d+)', r'"bubble":\1e0', text),
        lambda: f" {text}",
        lambda: f"{text}\n",
        lambda: f"\ufeff{text}",
        lambda: text.replace('"v":1', '"v":true'),
        lambda: text.replace('"v":1', '"v":1.0'),
    )
    return rng.choice(forms)()


def _doubled(rng: Random, text: str) -> str:
    """A key that comes twice, the other value first or last."""
    content = json.loads(text)
    key = rng.choice(list(content))
    pair = f"{json.dumps(key)}:{json.dumps(rng.choice((*ODD_VALUES, content[key])))}"
    return rng.choice((f"{{{pair},{text[1:]}", f"{text[:-1]},{pair}}}"))


def _field(rng: Random, text: str) -> str:
    """Another value, in the form of a seal, under the old signature."""
    content = json.loads(text)
    _change(rng, content)
    return _canonical(content)


def _change(rng: Random, content: dict[str, Any]) -> None:
    parts = content.get("containers")
    holders = [content, content.get("demand"), *(parts[:3] if isinstance(parts, list) else ())]
    places = [(holder, key) for holder in holders if isinstance(holder, dict) for key in holder]
    holder, key = rng.choice(places)
    draw = rng.random()
    if draw < 0.2:
        del holder[key]
    elif draw < 0.3:
        holder[rng.choice(("x", "slice", "é", "", "memory"))] = holder[key]
    else:
        near = [holder[key] + 1, -holder[key], holder[key] * 2**60] if type(holder[key]) is int else []
        holder[key] = rng.choice((*near, *ODD_VALUES))


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _signature(rng: Random, text: str) -> str:
    """Another signature, or the same written another way."""
    content = json.loads(text)
    raw = base64.b64decode(content["sig"])
    other = json.loads(rng.choice(TEXTS))["sig"]
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = (int.from_bytes(raw[32:], "little") + order).to_bytes(33, "little")[:32]
    forms = (
        content["sig"][:-3] + chr(ord(content["sig"][-3]) ^ 1) + "==", content["sig"].rstrip("="), "", "=" * 88, None,
        base64.b64encode(raw[:63]).decode(), base64.b64encode(raw + b"\x00").decode(), other,
        base64.b64encode(raw[:32] + scalar).decode(), base64.b64encode(bytes(64)).decode(), f"{content['sig']}\n",
    )  # fmt: skip
    content["sig"] = rng.choice(forms)
    return _canonical(content)


def _strangers(rng: Random, text: str) -> str:
    """Signed by somebody else, who calls himself so or by the trusted key's name."""
    content = json.loads(text)
    del content["sig"]
    content["kid"] = rng.choice((STRANGER.id, content["kid"]))
    if rng.random() < 0.5:
        _change(rng, content)
    return _signed(content, Ed25519PrivateKey.from_private_bytes(b"s" * 32))


def _of_tomorrow(rng: Random, text: str) -> str:
    """Signed by the trusted key, and yet no intent: what another version of us may write."""
    content = json.loads(text)
    del content["sig"]
    for _ in range(rng.randint(1, 2)):
        _change(rng, content)
    return _signed(content, PRIVATE)


def _signed(content: dict[str, Any], key: Ed25519PrivateKey) -> str:
    content.pop("sig", None)
    signature = key.sign((DOMAIN + _canonical(content)).encode())
    return _canonical({**content, "sig": base64.b64encode(signature).decode()})


def _oversized(rng: Random, text: str) -> str:
    return rng.choice((
        text + " " * 20_000, "[" * 16_000, '{"a":' * 3000, "9" * 16_000, '{"v":1' + "0" * 16_000 + "}", "x" * 10**6,
        '"' + "\\u0000" * 2000 + '"', "1e" + "9" * 5000, "-" * 16_384,
    ))  # fmt: skip


ALTERED = (
    _byte, _byte, _bytes, _reencoded, _doubled, _field, _field, _signature, _strangers, _of_tomorrow, _of_tomorrow,
    _oversized,
)  # fmt: skip


# The look.


class Session:
    """What an enforcer with one key believes."""

    make = staticmethod(made)
    memory = staticmethod(resident)

    def look(self, data: bytes) -> tuple[str]:
        """Whether a pod's annotation is believed exactly where it was sealed for it."""
        case = json.loads(data)
        text, namespace, name = case["text"], case["namespace"], case["name"]
        belief = believe(Sandbox("box", "uid", namespace, name, {ANNOTATION: text}), KEYS)
        intent, whose = SEALED.get(text, (None, None))
        if whose is not None and whose.has(namespace, name):
            if belief.intent != intent:
                raise WrongError(f"a seal that is not believed: {belief.doubt}")
            return ("believed",)
        if belief.intent is not None:
            _signed_for(text, namespace, name)
        else:
            _doubted(belief)
        _said(text)
        return (belief.reason or "believed, of another version",)


def _signed_for(text: str, namespace: str, name: str) -> None:
    """What is believed although it is none of the seals: the key signed it, for this pod."""
    match = re.search(r'"sig":"([A-Za-z0-9+/]{86}==)",', text)
    try:
        assert match is not None
        PRIVATE.public_key().verify(base64.b64decode(match[1]), (DOMAIN + text.replace(match[0], "")).encode())
    except (InvalidSignature, AssertionError) as error:
        raise WrongError("believed: and the key did not sign it") from error
    content = json.loads(text)
    if not Whose(content["ns"], content.get("pod", ""), content.get("podPrefix", "")).has(namespace, name):
        raise WrongError("believed: and it is for another pod")


def _doubted(belief: Belief) -> None:
    if belief.reason not in {refusal.value for refusal in Refusal}:
        raise WrongError(f"a doubt without a reason: {belief.reason!r}")
    if not 10 < len(belief.doubt) <= LONGEST_DOUBT or not belief.doubt.isprintable():
        raise WrongError(f"a doubt that no event could carry: {belief.doubt[:300]!r}")


def _said(text: str) -> None:
    """What is read without a key raises no more than the error it has to."""
    try:
        unverified(text)
    except IntentError as error:
        if len(str(error)) > LONGEST_DOUBT:
            raise WrongError(f"a doubt that no event could carry: {str(error)[:300]!r}") from error


@contextmanager
def _open() -> Iterator[Session]:
    yield Session()


TARGET = Target("intents", _open, runs=10_000, full=300_000, seconds=2.0)
