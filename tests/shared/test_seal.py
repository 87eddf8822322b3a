"""The intent's annotation: what goes in comes out, and nothing else does."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from shared.demand import PlacementClass
from shared.errors import InputError, IntentError
from shared.intent import Intent, Part
from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy
from shared.seal import LIMIT, KeyRing, Refusal, SigningKey, key_id, open_, seal, unverified
from shared.sidecars import Role

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
KEYS = KeyRing.of([KEY.public])

INTENT = Intent(
    PlacementClass.EXCLUSIVE,
    Placing(),
    (
        Part("init", Role.INIT, memory=2**27),
        Part("proxy", Role.SIDECAR, memory=2**27),
        Part("app", Role.APP, slice=3, memory=2**31, hugepages={2**21: 2**30}),
    ),
    cpu=3100,
    memory=2281701376,
    hugepages={2**21: 2**30},
    devices={"nvidia.com/gpu": 1},
    bubble=4,
)

TEXT = seal(INTENT, "demo", "web-0", "", KEY)


def test_the_text_is_canonical_and_complete() -> None:
    assert (
        '{"bubble":4,"class":"exclusive","containers":['
        '{"memory":134217728,"name":"init","role":"init"},'
        '{"memory":134217728,"name":"proxy","role":"sidecar"},'
        '{"hugepages":{"2097152":1073741824},"memory":2147483648,"name":"app","role":"app","slice":3}],'
        '"demand":{"cpu":3100,"devices":{"nvidia.com/gpu":1},"hugepages":{"2097152":1073741824},"memory":2281701376},'
        f'"isolation":"auto","kid":"{KEY.id}","ns":"demo","pod":"web-0","policy":"single-numa-node","scope":"pod",'
        f'"sig":"{json.loads(TEXT)["sig"]}","smt":"full-cores","v":1}}'
    ) == TEXT


def test_the_same_is_sealed_the_same() -> None:
    fresh = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    assert seal(INTENT, "demo", "web-0", "", fresh) == TEXT
    assert seal(INTENT, "demo", "web-0", "web-", KEY) == TEXT, "a name makes generateName meaningless"


def test_it_opens_for_its_own_pod() -> None:
    assert open_(TEXT, "demo", "web-0", ["app", "init", "proxy"], KEYS) == INTENT
    assert open_(TEXT, "demo", "web-0", None, KEYS) == INTENT


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)
amounts = st.integers(0, 2**63 - 1)
pages = st.dictionaries(st.sampled_from([2**21, 2**30]), amounts)


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    slices = st.integers(0, 400)
    exclusive = draw(st.booleans())
    parts = tuple(
        Part(name, draw(st.sampled_from(Role)), draw(slices) if exclusive else 0, draw(amounts), draw(pages))
        for name in draw(st.lists(names, unique=True, max_size=6))
    )
    taken = sum(part.slice for part in parts)
    return Intent(
        PlacementClass.EXCLUSIVE if exclusive else draw(st.sampled_from([PlacementClass.BOUND, PlacementClass.NONE])),
        Placing(
            draw(st.sampled_from(TopologyPolicy)), draw(st.sampled_from(Scope)), draw(st.sampled_from(Isolation)),
            draw(st.sampled_from(Smt)),
        ),
        parts,
        draw(amounts), draw(amounts), draw(pages), draw(st.dictionaries(names, amounts, max_size=3)),
        taken + draw(st.integers(1, 9)) if exclusive else 0,
    )  # fmt: skip


@given(intents(), names, names)
def test_whatever_is_sealed_opens_as_it_was(intent: Intent, namespace: str, pod: str) -> None:
    text = seal(intent, namespace, pod, "", KEY)
    assert open_(text, namespace, pod, [part.name for part in intent.parts], KEYS) == intent


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8"))
def test_any_changed_character_is_refused(place: int, char: str) -> None:
    if TEXT[place] != char:
        with pytest.raises(IntentError):
            open_(TEXT[:place] + char + TEXT[place + 1 :], "demo", "web-0", None, KEYS)


@given(st.integers(0, len(TEXT) - 1))
def test_any_cut_is_refused(length: int) -> None:
    with pytest.raises(IntentError):
        open_(TEXT[:length], "demo", "web-0", None, KEYS)


@given(st.integers(0, len(TEXT)), st.sampled_from([" ", "\n", "0", '"', "}", ","]))
def test_anything_added_is_refused(place: int, char: str) -> None:
    with pytest.raises(IntentError):
        open_(TEXT[:place] + char + TEXT[place:], "demo", "web-0", None, KEYS)


def forged(**changes: Any) -> str:
    """A text with other content, properly signed: what a later version of us might write."""
    content = {key: value for key, value in (json.loads(TEXT) | changes).items() if value is not None and key != "sig"}
    return canonical({**content, "sig": KEY.sign(canonical(content))})


def canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def resigned_base64() -> str:
    """The same signature in another Base64 text: the last character before the padding has bits that nobody reads."""
    signature = json.loads(TEXT)["sig"]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = signature[:-3] + letters[letters.index(signature[-3]) ^ 1] + "=="
    assert base64.b64decode(twin) == base64.b64decode(signature)
    return TEXT.replace(signature, twin)


HEAD = "the topology intent "
REFUSED: list[tuple[str, Callable[[], str], Refusal, str]] = [
    ("too long", lambda: "x" * (LIMIT + 1), Refusal.TOO_LARGE, "has 16385 characters; at most 16384 are read"),
    ("no JSON", lambda: "exclusive please", Refusal.NOT_JSON, "is not JSON; it was cut short or typed by hand"),
    ("cut short", lambda: TEXT[:-1], Refusal.NOT_JSON, "is not JSON; it was cut short or typed by hand"),
    ("nested deeply", lambda: "[" * 9000, Refusal.NOT_JSON, "is not JSON; it was cut short or typed by hand"),
    ("a huge number", lambda: "1" * 9000, Refusal.NOT_JSON, "is not JSON; it was cut short or typed by hand"),
    ("no number", lambda: '{"v":NaN}', Refusal.NOT_JSON, "is not JSON; it was cut short or typed by hand"),
    ("a list", lambda: "[1]", Refusal.NOT_JSON, "is [1], not a JSON object; it was typed by hand"),
    (
        "another form",
        lambda: TEXT.replace(",", ", "),
        Refusal.NOT_CANONICAL,
        "is not in the form it was sealed in; it was altered afterwards",
    ),
    (
        "a key twice",
        lambda: TEXT.replace('"v":1', '"v":1,"v":1'),
        Refusal.NOT_CANONICAL,
        "is not in the form it was sealed in; it was altered afterwards",
    ),
    ("a later version", lambda: forged(v=2), Refusal.UNKNOWN_VERSION, "has version 2; known is 1"),
    ("a version that is true", lambda: forged(v=True), Refusal.UNKNOWN_VERSION, "has version true; known is 1"),
    ("no version", lambda: "{}", Refusal.UNKNOWN_VERSION, "has version null; known is 1"),
    (
        "an unknown key",
        lambda: seal(INTENT, "demo", "web-0", "", OTHER),
        Refusal.UNKNOWN_KEY,
        f'was signed with the key "{OTHER.id}"; known keys: {KEY.id}',
    ),
    (
        "a key that is no name",
        lambda: TEXT.replace(f'"{KEY.id}"', "7"),
        Refusal.UNKNOWN_KEY,
        f"was signed with the key 7; known keys: {KEY.id}",
    ),
    (
        "one CPU more",
        lambda: TEXT.replace('"slice":3', '"slice":4'),
        Refusal.BAD_SIGNATURE,
        f"does not carry a signature of the key {KEY.id}; it was altered afterwards",
    ),
    (
        "the key of one for the signature of another",
        lambda: seal(INTENT, "demo", "web-0", "", OTHER).replace(OTHER.id, KEY.id),
        Refusal.BAD_SIGNATURE,
        f"does not carry a signature of the key {KEY.id}; it was altered afterwards",
    ),
    (
        "a twin of the signature",
        resigned_base64,
        Refusal.BAD_SIGNATURE,
        f"does not carry a signature of the key {KEY.id}; it was altered afterwards",
    ),
    (
        "another namespace",
        lambda: seal(INTENT, "prod", "web-0", "", KEY),
        Refusal.OTHER_NAMESPACE,
        'is for a pod in namespace "prod"; this one is in "demo"',
    ),
    (
        "another pod",
        lambda: seal(INTENT, "demo", "web-1", "", KEY),
        Refusal.OTHER_POD,
        'is for pod "web-1"; this one is "web-0"',
    ),
    (
        "another workload's pods",
        lambda: seal(INTENT, "demo", "", "db-", KEY),
        Refusal.OTHER_POD,
        'is for pods whose names begin with "db-"; this one is "web-0"',
    ),
    (
        "a field too few",
        lambda: forged(smt=None),
        Refusal.BAD_CONTENT,
        "lacks or has too much: smt",
    ),
    ("a field too much", lambda: forged(colour="red"), Refusal.BAD_CONTENT, "lacks or has too much: colour"),
    ("both names", lambda: forged(podPrefix="web-"), Refusal.BAD_CONTENT, "lacks or has too much: pod"),
    (
        "a negative number",
        lambda: forged(bubble=-4),
        Refusal.BAD_CONTENT,
        "has -4 as bubble; expected a whole number from 0 to 2^63-1",
    ),
    (
        "a number beyond 64 bits",
        lambda: forged(demand={"cpu": 2**63, "memory": 1}),
        Refusal.BAD_CONTENT,
        "has 9223372036854775808 as demand.cpu; expected a whole number from 0 to 2^63-1",
    ),
    (
        "a fraction",
        lambda: forged(bubble=4.0),
        Refusal.BAD_CONTENT,
        "has 4.0 as bubble; expected a whole number from 0 to 2^63-1",
    ),
    (
        "text for a number",
        lambda: forged(bubble="4"),
        Refusal.BAD_CONTENT,
        'has "4" as bubble; expected a whole number from 0 to 2^63-1',
    ),
    (
        "an unknown class",
        lambda: forged(**{"class": "royal"}),
        Refusal.BAD_CONTENT,
        'has "royal" as class; expected one of exclusive, bound, none',
    ),
    (
        "containers that are no list",
        lambda: forged(containers={}),
        Refusal.BAD_CONTENT,
        "has {} as containers; expected a list",
    ),
    (
        "a container that is no object",
        lambda: forged(containers=["app"]),
        Refusal.BAD_CONTENT,
        'has "app" as containers[0]; expected an object',
    ),
    (
        "a container without a name",
        lambda: forged(containers=[{"role": "app"}]),
        Refusal.BAD_CONTENT,
        "has null as containers[0].name; expected text that is not empty",
    ),
    (
        "a container twice",
        lambda: forged(containers=[{"name": "a", "role": "app"}, {"name": "a", "role": "app"}]),
        Refusal.BAD_CONTENT,
        "names a container twice",
    ),
    (
        "a page size that is none",
        lambda: forged(demand={"cpu": 1, "memory": 1, "hugepages": {"2Mi": 1}}),
        Refusal.BAD_CONTENT,
        'has "2Mi" as demand.hugepages; expected a page size in bytes',
    ),
    (
        "more slices than bubble",
        lambda: forged(bubble=2),
        Refusal.BAD_CONTENT,
        "has class exclusive with a bubble of 2 CPUs and slices of 3",
    ),
    (
        "a bubble for a class that has none",
        lambda: forged(**{"class": "bound"}),
        Refusal.BAD_CONTENT,
        "has class bound with a bubble of 4 CPUs and slices of 3",
    ),
]


@pytest.mark.parametrize(("what", "text", "reason", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_not_ours_is_refused_with_the_reason(
    what: str, text: Callable[[], str], reason: Refusal, said: str
) -> None:
    with pytest.raises(IntentError) as refused:
        open_(text(), "demo", "web-0", None, KEYS)
    assert (str(refused.value), refused.value.reason) == (HEAD + said, reason.value)


CONTAINERS = [
    ("one more", ["init", "proxy", "app", "istio"], "without istio"),
    ("one fewer", ["init", "app"], "with proxy"),
    ("another", ["init", "proxy", "main"], "without main and with app"),
]


@pytest.mark.parametrize(("what", "given", "said"), CONTAINERS, ids=[row[0] for row in CONTAINERS])
def test_other_containers_are_refused(what: str, given: list[str], said: str) -> None:
    with pytest.raises(IntentError) as refused:
        open_(TEXT, "demo", "web-0", given, KEYS)
    assert str(refused.value) == f"{HEAD}was made for other containers: {said}"
    assert refused.value.reason == Refusal.OTHER_CONTAINERS.value


def test_a_prefix_is_good_for_every_name_made_of_it() -> None:
    text = seal(INTENT, "demo", "", "web-", KEY)
    assert open_(text, "demo", "web-x7k2p", None, KEYS) == INTENT
    with pytest.raises(IntentError, match='this one is "web-"'):
        open_(text, "demo", "web-", None, KEYS)


def test_a_long_prefix_is_cut_as_the_api_server_cuts_it() -> None:
    text = seal(INTENT, "demo", "", "w" * 70, KEY)
    assert open_(text, "demo", "w" * 58 + "x7k2p", None, KEYS) == INTENT


def test_several_keys_are_believed_at_once() -> None:
    both = KeyRing.of([KEY.public, OTHER.public])
    assert open_(TEXT, "demo", "web-0", None, both) == INTENT
    assert open_(seal(INTENT, "demo", "web-0", "", OTHER), "demo", "web-0", None, both) == INTENT


def test_too_many_containers_are_not_sealed() -> None:
    parts = tuple(Part(f"container-{number:04}", Role.APP) for number in range(600))
    with pytest.raises(IntentError) as refused:
        seal(replace(INTENT, parts=parts), "demo", "web-0", "", KEY)
    assert refused.value.reason == Refusal.TOO_LARGE.value
    assert str(refused.value).startswith(f"{HEAD}for 600 containers would have ")


def test_the_longest_text_has_the_limit_and_what_is_longer_is_not_signed() -> None:
    def named(length: int) -> Intent:
        return replace(INTENT, parts=(Part("x" * length, Role.APP),))

    fits = LIMIT - len(seal(named(1), "demo", "web-0", "", KEY)) + 1
    assert len(seal(named(fits), "demo", "web-0", "", KEY)) == LIMIT
    signed: list[str] = []
    key = SigningKey(Ed25519PrivateKey.generate())
    key.sign = lambda text: signed.append(text) or ""  # type: ignore[func-returns-value]
    with pytest.raises(IntentError, match=f"would have {LIMIT + 1} bytes"):
        seal(named(fits + 1), "demo", "web-0", "", key)
    assert signed == []


WHOLE = "expected a whole number from 0 to 2^63-1"
UNBELIEVABLE = [
    ("more CPUs than 64 bits count", replace(INTENT, bubble=2**63), f"has {2**63} as bubble; {WHOLE}"),
    (
        "huge pages whose names together come to more",
        replace(INTENT, hugepages={2**30: 2**63}),
        f"has {2**63} as demand.hugepages[1073741824]; {WHOLE}",
    ),
    (
        "a device without a name",
        replace(INTENT, devices={"": 1}),
        'has "" as demand.devices; expected text that is not empty',
    ),
]


@pytest.mark.parametrize(("what", "intent", "said"), UNBELIEVABLE, ids=[row[0] for row in UNBELIEVABLE])
def test_what_no_node_would_believe_is_not_sealed(what: str, intent: Intent, said: str) -> None:
    with pytest.raises(IntentError) as caught:
        seal(intent, "demo", "web-0", "", KEY)
    assert (caught.value.reason, str(caught.value)) == ("bad-content", f"the topology intent {said}")


def test_a_hundred_containers_with_the_longest_names_are_sealed() -> None:
    parts = tuple(Part(f"{number:03}".ljust(63, "x"), Role.SIDECAR, memory=2**31) for number in range(100))
    assert len(seal(replace(INTENT, parts=parts), "demo", "web-0", "", KEY)) < LIMIT


def test_public_keys_are_read_from_pem() -> None:
    pem = b"".join(
        Ed25519PrivateKey.from_private_bytes(bytes([n] * 32))
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for n in (1, 2)
    )
    assert len(KeyRing.from_pem(pem, "keys.pem").keys) == 2


def _curve() -> bytes:
    public = generate_private_key(SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


PEMS = [
    ("nothing", b"", "keys.pem holds no public key; expected PEM with BEGIN PUBLIC KEY"),
    (
        "another kind of key",
        _curve(),
        "keys.pem holds a public key that is not Ed25519; intents are signed with Ed25519 only",
    ),
]


@pytest.mark.parametrize(("what", "pem", "said"), PEMS, ids=[row[0] for row in PEMS])
def test_a_file_without_keys_is_told(what: str, pem: bytes, said: str) -> None:
    with pytest.raises(InputError) as error:
        KeyRing.from_pem(pem, "keys.pem")
    assert str(error.value) == said


def test_the_key_id_is_of_the_public_key() -> None:
    assert key_id(bytes(32)) == "66687aadf862bd77"
    assert repr(KEY) == f"SigningKey({KEY.id})"


def test_verifying_needs_no_private_key_code() -> None:
    code = "import shared.seal, sys; print('webhook.keys' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# Read without a key.


def test_without_a_key_it_says_what_it_says() -> None:
    assert unverified(TEXT) == INTENT
    assert unverified(TEXT.replace('"pod":"web-0"', '"pod":"other"')) == INTENT  # whose it is, is not its question


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "the topology intent is not JSON; it was cut short or typed by hand"),
        (TEXT.replace('"v":1', '"v":2'), "the topology intent has version 2; known is 1"),
        (
            TEXT.replace('"bubble":4', '"bubble":2'),
            "the topology intent has class exclusive with a bubble of 2 CPUs and slices of 3",
        ),
    ],
)
def test_without_a_key_nonsense_is_nonsense_still(text: str, said: str) -> None:
    with pytest.raises(IntentError) as refused:
        unverified(text)
    assert str(refused.value) == said
