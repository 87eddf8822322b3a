"""The webhook's TLS certificates: made here where nobody gives any, and replaced without a restart.

A certificate in use is only ever replaced by a pair that has been loaded before, into a context that is thrown away: a
pair that does not match leaves an OpenSSL context broken for every handshake after it. Certificate and key go through
one file of our own, so that a pair that is being replaced cannot be read half old, half new.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from shared.errors import InputError

CA_LIFE = timedelta(days=365)

LEAF_LIFE = timedelta(hours=24)
"""Short, because it is made anew without anybody noticing."""

SKEW = timedelta(hours=1)
"""Certificates begin this long ago: clocks of control planes differ."""

RENEW_AFTER = 2 / 3
"""Part of a certificate's life after which it is replaced; taken from the certificate, so that it suits any life."""


class Span(NamedTuple):
    """From when to when a certificate counts."""

    begin: datetime
    end: datetime

    @property
    def born(self) -> datetime:
        """When it was made: ours say that they began an hour earlier."""
        return self.begin + SKEW if self.begin + SKEW < self.end else self.begin

    def covers(self, now: datetime) -> bool:
        """By the clock, which may have been set back."""
        return self.begin <= now < self.end


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of our own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """What a client has to trust."""
        return pem_of(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """Its secret."""
        return _private_pem(self.key)

    @property
    def id(self) -> str:
        """Its name among all certificates."""
        return fingerprint(self.certificate)

    @property
    def span(self) -> Span:
        """When it counts."""
        return _span(self.certificate)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate and key, as PEM."""

    certificate: bytes
    key: bytes

    @property
    def span(self) -> Span:
        """When it counts."""
        return _span(x509.load_pem_x509_certificate(self.certificate))


def _span(certificate: x509.Certificate) -> Span:
    return Span(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def pem_of(certificate: x509.Certificate) -> bytes:
    """As it travels."""
    return certificate.public_bytes(Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """Its name among all certificates: SHA-256 of the whole, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


@lru_cache(maxsize=8)
def certificates_in(bundle: bytes) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM file that can be read, in its order. Bundles hardly ever change."""
    found = []
    for block in _CERTIFICATE.findall(bundle):
        with suppress(ValueError):
            found.append(x509.load_pem_x509_certificate(block))
    return tuple(found)


def make_authority(now: datetime, life: timedelta = CA_LIFE) -> Authority:
    """A new authority. Its name has its time of birth and some of its key's id in it: no two have the same."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    name = _name(f"armistice CA {now:%Y-%m-%dT%H:%M:%SZ} {identifier.digest.hex()[:8]}")
    builder = _builder(name, name, public, now, life)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    builder = builder.add_extension(identifier, critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def read_authority(certificate: bytes, key: bytes) -> Authority:
    """One that was stored as PEM. Raises InputError where the two are no authority that can sign."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError("its certificate or its key cannot be read as PEM") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise InputError("its key is not one of an elliptic curve")
    if private.public_key() != found.public_key():
        raise InputError("its certificate and its key are no pair")
    if not _may_sign(found):
        raise InputError("its certificate is not one of an authority")
    return Authority(found, private)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        extensions = certificate.extensions
        return (
            extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        )
    except (x509.ExtensionNotFound, ValueError):
        return False


def issue(authority: Authority, names: Sequence[str], now: datetime, life: timedelta = LEAF_LIFE) -> Leaf:
    """A server certificate for DNS names and IP addresses. Clients look at these names only, never at the subject."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    life = min(life, authority.certificate.not_valid_after_utc - now)  # no leaf outlives its authority
    builder = _builder(_name(names[0][:64]), authority.certificate.subject, public, now, life)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = builder.add_extension(issuer, critical=False).sign(authority.key, hashes.SHA256())
    return Leaf(certificate.public_bytes(Encoding.PEM), _private_pem(key))


def refusal(leaf: Leaf, root: x509.Certificate, names: Sequence[str], now: datetime) -> str:
    """Why a client that trusts the root would refuse the leaf under one of the names; empty when none would."""
    certificate = x509.load_pem_x509_certificate(leaf.certificate)
    private = load_pem_private_key(leaf.key, password=None)
    if private.public_key() != certificate.public_key():
        return "its certificate and its key are no pair"
    trusting = PolicyBuilder().store(Store([root])).time(now)
    for name in names:
        subject = _general(name)
        if not isinstance(subject, x509.DNSName | x509.IPAddress):
            return f"{name} is neither a DNS name nor an IP address"
        try:
            trusting.build_server_verifier(subject).verify(certificate, [])
        except VerificationError as error:
            return f"{name}: {error}"
    return ""


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    """With a random serial number: some clients refuse an issuer that uses one twice."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - SKEW).not_valid_after(now + life)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=sign_certificates, crl_sign=sign_certificates, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


class SelfMade:
    """A certificate of our own in a folder, with an authority that dies with the process."""

    def __init__(self, folder: Path, names: Sequence[str], now: datetime) -> None:
        self.ca, self.cert, self.key = folder / "ca.crt", folder / "tls.crt", folder / "tls.key"
        self._names = names
        self._authority = make_authority(now)
        self.ca.write_bytes(self._authority.pem)
        self.renew(now)

    def renew(self, now: datetime) -> None:
        """Write a new certificate; whoever watches the files picks it up."""
        leaf = issue(self._authority, self._names, now)
        _write_private(self.key, leaf.key)
        self.cert.write_bytes(leaf.certificate)
        self._renew_at = now + RENEW_AFTER * LEAF_LIFE

    def renew_in_time(self, now: datetime) -> None:
        """Renew if it is time: by the wall clock, for the monotonic one stands still while a laptop sleeps."""
        if now >= self._renew_at:
            self.renew(now)


def _write_private(path: Path, content: bytes) -> None:
    """A file that only its owner may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


class Reload(Enum):
    """What came of a look at a certificate's source."""

    UNCHANGED = "unchanged"
    LOADED = "loaded"
    REFUSED = "refused"


class Certificate:
    """The live TLS context. Whoever has its certificates made in memory swaps them in here."""

    def __init__(self, content: bytes, source: str) -> None:
        """From PEM with certificate and key. Raises InputError where it is no usable pair."""
        self.context = _server_context()
        self.complaint = ""
        """Why what the source has now is not used; empty when it is."""
        self.not_after = _load(self.context, content, source)
        """When the certificate in use ends."""
        self._swapped = False

    def swap(self, leaf: Leaf) -> None:
        """Present a new one from the next handshake on. Open connections go on with the one before."""
        self.not_after = _load(self.context, leaf.certificate + leaf.key, "the certificate made in memory")
        self._swapped = True

    def ended(self, now: datetime) -> bool:
        """Whether it is past its time. Never where it is made in memory: whoever makes it knows better, and says so."""
        return False

    def check(self, now: datetime) -> Reload:
        """What has happened since the last look."""
        swapped, self._swapped = self._swapped, False
        return Reload.LOADED if swapped else Reload.UNCHANGED


def placeholder(names: Sequence[str], now: datetime) -> Certificate:
    """One that nobody trusts, until there is another: probes look at none, and are answered meanwhile."""
    leaf = issue(make_authority(now), names, now)
    return Certificate(leaf.certificate + leaf.key, "the first certificate")


class CertReloader(Certificate):
    """The live TLS context, and the files that it follows."""

    def __init__(self, cert: Path, key: Path | None, now: datetime) -> None:
        """Load the files. Raises InputError where they are no usable pair."""
        self._cert, self._key = cert, key or cert
        self._seen = self._stamp()
        super().__init__(self._content(now), self._source)

    def ended(self, now: datetime) -> bool:
        """Whether the certificate in use is past its time."""
        return self.not_after <= now

    def check(self, now: datetime) -> Reload:
        """Load the files if they changed. A bad pair is refused, and the one in use stays in use."""
        stamp = self._stamp()
        if stamp == self._seen:
            return Reload.UNCHANGED
        self._seen = stamp
        try:
            self.not_after = _load(self.context, self._content(now), self._source)
        except InputError as error:
            self.complaint = str(error)
            return Reload.REFUSED
        self.complaint = ""
        return Reload.LOADED

    @property
    def _source(self) -> str:
        return f"the certificate {self._cert} and the key {self._key}"

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_stamp_of(path) for path in (self._cert, self._key))

    def _content(self, now: datetime) -> bytes:
        content = b"\n".join(_read(path) for path in dict.fromkeys((self._cert, self._key)))
        not_after = _end_of(content, str(self._cert))
        if not_after <= now:
            raise InputError(f"the certificate {self._cert} ended on {not_after:%Y-%m-%d %H:%M} UTC; renew it")
        return content


def _load(context: ssl.SSLContext, content: bytes, source: str) -> datetime:
    """Into a context that is thrown away, and only then into the live one. Returns when the certificate ends."""
    not_after = _end_of(content, source)
    with _one_file(content) as pair:
        try:
            _load_into(_server_context(), pair)
        except ssl.SSLError as error:
            raise InputError(f"{source} are no pair: {error.reason or error}") from error
        _load_into(context, pair)
    return not_after


@contextmanager
def _one_file(content: bytes) -> Iterator[Path]:
    """A file that only this process can read, in memory where the kernel can: containers may have no place to write."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("armistice")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield Path(f"/proc/self/fd/{descriptor}")
        return
    with tempfile.TemporaryDirectory(prefix="armistice-") as folder:
        path = Path(folder) / "pair.pem"
        _write_private(path, content)
        yield path


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_into(context: ssl.SSLContext, pair: Path) -> None:
    # Without a password OpenSSL would ask for one on the terminal, and wait.
    context.load_cert_chain(pair, password=lambda: "")


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def _end_of(content: bytes, source: str) -> datetime:
    """When the first certificate, the server's own, ends."""
    found = _CERTIFICATE.search(content)
    if found is None:
        raise InputError(f"{source} holds no certificate; expected PEM with BEGIN CERTIFICATE")
    try:
        return x509.load_pem_x509_certificate(found.group()).not_valid_after_utc
    except ValueError as error:
        raise InputError(f"{source} holds a certificate that cannot be read: {error}") from error


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
