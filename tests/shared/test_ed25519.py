"""Both ways to verify, on the vectors of RFC 8032, 7.1, and on what was changed by one bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.ed25519 import Verify, by_openssl, by_package, verify

VECTORS = [
    (
        "test 1: the empty message",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        "",
    ),
    (
        "test 2: one byte",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        "72",
    ),
    (
        "test 3: two bytes",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        "af82",
    ),
]

WAYS = [pytest.param(by_openssl, id="OpenSSL"), pytest.param(by_package, id="cryptography")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("_", "public", "signature", "message"), VECTORS, ids=[row[0] for row in VECTORS])
def test_the_vectors_hold_and_no_changed_bit_passes(
    way: Callable[[], Verify], _: str, public: str, signature: str, message: str
) -> None:
    check = way()
    key, sealed, text = (bytes.fromhex(each) for each in (public, signature, message))
    assert check(key, sealed, text)
    assert not check(key, sealed, text + b"\0")
    for place in range(0, 512, 7):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        assert not check(key, bytes(changed), text), place
    assert not check(bytes(32), sealed, text)


@pytest.mark.parametrize(
    ("what", "public", "signature"),
    [("a short key", bytes(31), bytes(64)), ("a long signature", bytes(32), bytes(65)), ("none", bytes(32), b"")],
)
def test_what_has_the_wrong_length_is_no_signature(what: str, public: bytes, signature: bytes) -> None:
    assert not verify(public, signature, b"")
