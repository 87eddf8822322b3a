"""The key that signs intents: from a PEM file, or one that lives as long as the process."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared.errors import InputError
from shared.seal import KeyRing, SigningKey

WAY_OUT = "`openssl genpkey -algorithm ed25519 -out FILE` makes one"

_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


def ephemeral() -> tuple[SigningKey, KeyRing]:
    """A key that nobody else knows, and that is gone with the process."""
    key = SigningKey(Ed25519PrivateKey.generate())
    return key, KeyRing.of([key.public])


def load(path: Path) -> tuple[SigningKey, KeyRing]:
    """The private key in a PEM file, and every key that is believed: it, and the public keys in the same file.

    To replace a key, put the new one first and keep the old one's public part until no pod of its time is left.
    Raises InputError naming the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"--signing-key {path} cannot be read: {error.strerror}; {WAY_OUT}") from error
    return read(content, f"--signing-key {path}")


def read(content: bytes, source: str) -> tuple[SigningKey, KeyRing]:
    """The same from PEM. Raises InputError naming the source."""
    found = _PRIVATE.search(content)
    if found is None:
        raise InputError(f"{source} holds no private key in PEM; {WAY_OUT}")
    key = SigningKey(_private(found.group(), source))
    believed = [key.public]
    if b"BEGIN PUBLIC KEY" in content:
        believed += list(KeyRing.from_pem(content, source).keys.values())
    return key, KeyRing.of(believed)


def _private(pem: bytes, source: str) -> Ed25519PrivateKey:
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise InputError(f"{source} is protected by a password; store it without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{source} cannot be read as a private key; {WAY_OUT}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(f"{source} is not an Ed25519 key; {WAY_OUT}")
    return private


def new_private_pem() -> bytes:
    """A new private key, as it is stored."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: SigningKey) -> bytes:
    """The public key as a node gets it."""
    return pem_of(key.public)


def pem_of(raw: bytes) -> bytes:
    """A public key of 32 bytes as a node gets it."""
    public = Ed25519PublicKey.from_public_bytes(raw)
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
