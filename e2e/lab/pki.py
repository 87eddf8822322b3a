"""The lab's own certificate authority: one P-256 key, and what it signs, in one folder."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATED = timedelta(days=1)
"""A guest's clock may be behind ours, most of all after it was restored from a snapshot."""

LIFETIME = timedelta(days=365)
"""Snapshots carry their certificates with them, so that these must last as long as a cache does."""


class Authority:
    """A certificate authority that lives in a folder: made there on first use, read from there afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.crt"
        key = folder / "ca.key"
        if not self.certificate.exists():
            folder.mkdir(parents=True, exist_ok=True)
            made = _write_key(key)
            self.certificate.write_bytes(_root(made).public_bytes(Encoding.PEM))
        self._key = _read_key(key)
        self._certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def issue(
        self,
        common_name: str,
        organizations: Sequence[str] = (),
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        client: bool = False,
    ) -> tuple[Path, Path]:
        """Certificate and key as PEM files named after ``common_name``; a server's always, and a client's if asked.

        A second call for the same name replaces the files.
        """
        stem = re.sub(r"[^A-Za-z0-9.-]", "-", common_name)
        key_file, certificate_file = self.folder / f"{stem}.key", self.folder / f"{stem}.crt"
        key = _write_key(key_file)
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else [])]
        builder = (
            _builder(_name(common_name, organizations), self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_signed_by(self._certificate), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate_file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return certificate_file, key_file


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Private and public key in PEM without a certificate; service account tokens are signed with one."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    if not private.exists():
        key = _write_key(private)
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def _signed_by(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Which key signed. Python from 3.13 on accepts no certificate without it (RFC 5280, 4.2.1.1)."""
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _root(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("armistice-lab", ())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    return (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
