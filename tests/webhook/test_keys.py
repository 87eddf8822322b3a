"""The signing key: a file's, or one of the process's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from shared.errors import InputError
from shared.seal import KeyRing
from webhook.keys import ephemeral, load, public_pem

Private = Ed25519PrivateKey | EllipticCurvePrivateKey

WAY_OUT = "`openssl genpkey -algorithm ed25519 -out FILE` makes one"


def pem(key: Private, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_a_key_comes_from_a_file(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    (tmp_path / "key.pem").write_bytes(pem(private))
    key, believed = load(tmp_path / "key.pem")
    assert key.public == private.public_key().public_bytes_raw()
    assert set(believed.keys) == {key.id}


def test_an_older_public_key_in_the_file_is_believed_too(tmp_path: Path) -> None:
    old, _ = ephemeral()
    (tmp_path / "key.pem").write_bytes(pem(Ed25519PrivateKey.generate()) + public_pem(old))
    key, believed = load(tmp_path / "key.pem")
    assert set(believed.keys) == {key.id, old.id}


def test_every_process_has_another_key_of_its_own() -> None:
    assert ephemeral()[0].id != ephemeral()[0].id


def test_the_public_key_can_be_handed_on() -> None:
    key, believed = ephemeral()
    assert set(KeyRing.from_pem(public_pem(key), "x").keys) == set(believed.keys)


BAD = [
    ("no key in it", b"hello", f"holds no private key in PEM; {WAY_OUT}"),
    (
        "another kind of key",
        pem(generate_private_key(SECP256R1())),
        f"is not an Ed25519 key; {WAY_OUT}",
    ),
    (
        "a password on it",
        pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"x")),
        "is protected by a password; store it without one",
    ),
    (
        "half a key",
        b"-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n",
        f"cannot be read as a private key; {WAY_OUT}",
    ),
]


@pytest.mark.parametrize(("what", "content", "said"), BAD, ids=[row[0] for row in BAD])
def test_a_file_without_a_usable_key_is_told(what: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load(path)
    assert str(error.value) == f"--signing-key {path} {said}"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path / "key.pem")
    assert (
        str(error.value) == f"--signing-key {tmp_path / 'key.pem'} cannot be read: No such file or directory; {WAY_OUT}"
    )
