"""The webhook's TLS certificates: made here where nobody gives any, and reloaded without a restart.

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
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import InputError

CA_LIFE = timedelta(days=365)

LEAF_LIFE = timedelta(hours=24)
"""Short, because it is made anew without anybody noticing."""

SKEW = timedelta(hours=1)
"""Certificates begin this long ago: clocks of control planes differ."""

RENEW_AFTER = 2 / 3
"""Part of a certificate's life after which it is replaced; taken from the certificate, so that it suits any life."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of our own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """What a client has to trust."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate and key, as PEM."""

    certificate: bytes
    key: bytes


def make_authority(now: datetime) -> Authority:
    """A new authority. Its name has its time of birth in it, so that two of them can be told apart in one bundle."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"armistice CA {now:%Y-%m-%dT%H:%M:%SZ}")
    public = key.public_key()
    builder = _builder(name, name, public, now, CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Authority, names: Sequence[str], now: datetime) -> Leaf:
    """A server certificate for DNS names and IP addresses. Clients look at these names only, never at the subject."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    life = min(LEAF_LIFE, authority.certificate.not_valid_after_utc - now)  # no leaf outlives its authority
    builder = _builder(_name(names[0][:64]), authority.certificate.subject, public, now, life)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = builder.add_extension(issuer, critical=False).sign(authority.key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Leaf(certificate.public_bytes(Encoding.PEM), private)


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
    """What came of a look at the files."""

    UNCHANGED = "unchanged"
    LOADED = "loaded"
    REFUSED = "refused"


class CertReloader:
    """The live TLS context, and the files that it follows."""

    def __init__(self, cert: Path, key: Path | None, now: datetime) -> None:
        """Load the files. Raises InputError where they are no usable pair."""
        self._cert, self._key = cert, key or cert
        self.context = _server_context()
        self.complaint = ""
        """Why the files as they are now are not used; empty when they are."""
        self._seen = self._stamp()
        self.not_after = self._load(now)
        """When the certificate in use ends."""

    def check(self, now: datetime) -> Reload:
        """Load the files if they changed. A bad pair is refused, and the one in use stays in use."""
        stamp = self._stamp()
        if stamp == self._seen:
            return Reload.UNCHANGED
        self._seen = stamp
        try:
            self.not_after = self._load(now)
        except InputError as error:
            self.complaint = str(error)
            return Reload.REFUSED
        self.complaint = ""
        return Reload.LOADED

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_stamp_of(path) for path in (self._cert, self._key))

    def _load(self, now: datetime) -> datetime:
        content = b"\n".join(_read(path) for path in dict.fromkeys((self._cert, self._key)))
        not_after = _end_of(content, self._cert)
        if not_after <= now:
            raise InputError(f"the certificate {self._cert} ended on {not_after:%Y-%m-%d %H:%M} UTC; renew it")
        with _one_file(content) as pair:
            try:
                _load_into(_server_context(), pair)
            except ssl.SSLError as error:
                raise InputError(
                    f"the certificate {self._cert} and the key {self._key} are no pair: {error.reason or error}"
                ) from error
            _load_into(self.context, pair)
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


def _end_of(content: bytes, path: Path) -> datetime:
    """When the first certificate, the server's own, ends."""
    found = _CERTIFICATE.search(content)
    if found is None:
        raise InputError(f"{path} holds no certificate; expected PEM with BEGIN CERTIFICATE")
    try:
        return x509.load_pem_x509_certificate(found.group()).not_valid_after_utc
    except ValueError as error:
        raise InputError(f"{path} holds a certificate that cannot be read: {error}") from error


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
