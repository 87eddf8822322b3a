"""Ed25519 signatures (RFC 8032), verified by the OpenSSL that Python itself is linked with.

The cryptography package would do the same, and brings an OpenSSL of its own: 8.6 MiB of memory against 0.5, measured in
the node agent, which verifies a signature per pod and needs nothing else of it. Where Python's OpenSSL cannot be
reached (some builds hide it), the package does it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

PUBLIC, SIGNATURE = 32, 64
"""Bytes of a public key and of a signature (RFC 8032, 5.1.5 and 5.1.6)."""

_ED25519 = 1087
"""``EVP_PKEY_ED25519`` of openssl/evp.h."""

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""From public key, signature and message to whether the key signed the message."""


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the key's owner signed the message. Whatever has the wrong length did not."""
    if len(public) != PUBLIC or len(signature) != SIGNATURE:
        return False
    return _verifier()(public, signature, message)


@lru_cache(maxsize=1)
def _verifier() -> Verify:
    try:
        return by_openssl()
    except (ImportError, AttributeError, OSError):
        return by_package()


def by_openssl() -> Verify:
    """EVP_DigestVerify(3) of the library that ``_hashlib`` is linked with.

    Raises ImportError, OSError or AttributeError where that cannot be reached.
    """
    import _hashlib

    library = ctypes.CDLL(_hashlib.__file__)
    key_from = _function(library, "EVP_PKEY_new_raw_public_key", ctypes.c_void_p, "ipsz")
    key_free = _function(library, "EVP_PKEY_free", None, "p")
    context_new = _function(library, "EVP_MD_CTX_new", ctypes.c_void_p, "")
    context_free = _function(library, "EVP_MD_CTX_free", None, "p")
    begin = _function(library, "EVP_DigestVerifyInit", ctypes.c_int, "ppppp")
    check = _function(library, "EVP_DigestVerify", ctypes.c_int, "pszsz")

    def verified(public: bytes, signature: bytes, message: bytes) -> bool:
        key = key_from(_ED25519, None, public, len(public))
        context = context_new()
        try:
            if not key or not context or begin(context, None, None, None, key) != 1:
                return False  # OpenSSL refuses the key itself
            return bool(check(context, signature, len(signature), message, len(message)) == 1)
        finally:
            context_free(context)
            key_free(key)

    return verified


_TYPES: dict[str, Any] = {"i": ctypes.c_int, "p": ctypes.c_void_p, "s": ctypes.c_char_p, "z": ctypes.c_size_t}


def _function(library: ctypes.CDLL, name: str, result: Any, kinds: str) -> Any:
    """A function of the library, with the types of its arguments, so that no pointer is cut to 32 bits."""
    found = library[name]
    found.restype, found.argtypes = result, [_TYPES[kind] for kind in kinds]
    return found


def by_package() -> Verify:
    """The cryptography package."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    def verified(public: bytes, signature: bytes, message: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    return verified
