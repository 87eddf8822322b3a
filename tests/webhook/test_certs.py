"""Certificates: our own, and the files of others, followed without a restart."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from shared.errors import InputError
from webhook.certs import CertReloader, Leaf, Reload, SelfMade, issue, make_authority

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMES = ["localhost", "127.0.0.1"]


def leaf_of(content: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(content)


def put(folder: Path, leaf: Leaf) -> tuple[Path, Path]:
    cert, key = folder / "tls.crt", folder / "tls.key"
    cert.write_bytes(leaf.certificate)
    key.write_bytes(leaf.key)
    return cert, key


def test_a_leaf_verifies_against_its_authority() -> None:
    authority = make_authority(NOW)
    leaf = leaf_of(issue(authority, NAMES, NOW).certificate)
    verifier = (
        PolicyBuilder().store(Store([authority.certificate])).time(NOW).build_server_verifier(x509.DNSName("localhost"))
    )
    assert verifier.verify(leaf, []) == [leaf, authority.certificate]


def test_a_leaf_lives_a_day_and_began_an_hour_ago() -> None:
    leaf = leaf_of(issue(make_authority(NOW), NAMES, NOW).certificate)
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (
        NOW - timedelta(hours=1),
        NOW + timedelta(hours=24),
    )


def test_no_leaf_outlives_its_authority() -> None:
    authority = make_authority(NOW)
    leaf = leaf_of(issue(authority, NAMES, NOW + timedelta(days=364, hours=20)).certificate)
    assert leaf.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_no_serial_number_comes_twice() -> None:
    authority = make_authority(NOW)
    numbers = {leaf_of(issue(authority, NAMES, NOW).certificate).serial_number for _ in range(5)}
    assert len(numbers | {authority.certificate.serial_number}) == 6


def test_our_own_pair_is_renewed_at_two_thirds_of_its_life(tmp_path: Path) -> None:
    own = SelfMade(tmp_path, NAMES, NOW)
    first = own.cert.read_bytes()
    own.renew_in_time(NOW + timedelta(hours=15, minutes=59))
    assert own.cert.read_bytes() == first
    own.renew_in_time(NOW + timedelta(hours=16))
    assert leaf_of(own.cert.read_bytes()).not_valid_after_utc == NOW + timedelta(hours=40)
    assert own.key.stat().st_mode & 0o777 == 0o600


def test_files_are_followed(tmp_path: Path) -> None:
    authority = make_authority(NOW)
    reloader = CertReloader(*put(tmp_path, issue(authority, NAMES, NOW)), NOW)
    assert reloader.check(NOW) is Reload.UNCHANGED
    put(tmp_path, issue(authority, NAMES, NOW + timedelta(hours=3)))
    assert reloader.check(NOW) is Reload.LOADED
    assert reloader.not_after == NOW + timedelta(hours=27)
    assert reloader.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_one_file_may_hold_both(tmp_path: Path) -> None:
    leaf = issue(make_authority(NOW), NAMES, NOW)
    (tmp_path / "both.pem").write_bytes(leaf.certificate + leaf.key)
    assert CertReloader(tmp_path / "both.pem", None, NOW).check(NOW) is Reload.UNCHANGED


def test_a_bad_pair_is_refused_and_the_good_one_stays(tmp_path: Path) -> None:
    authority = make_authority(NOW)
    good, other = issue(authority, NAMES, NOW), issue(authority, NAMES, NOW)
    cert, key = put(tmp_path, good)
    reloader = CertReloader(cert, key, NOW)
    for what, content, said in (
        (cert, other.certificate, f"the certificate {cert} and the key {key} are no pair: KEY_VALUES_MISMATCH"),
        (cert, b"", f"{cert} holds no certificate; expected PEM with BEGIN CERTIFICATE"),
        (cert, other.certificate[:200] + other.certificate[-30:], f"{cert} holds a certificate that cannot be read: "),
        (cert, issue(authority, NAMES, NOW - timedelta(days=3)).certificate, f"the certificate {cert} ended on "),
    ):
        what.write_bytes(content)
        assert reloader.check(NOW) is Reload.REFUSED
        assert reloader.complaint.startswith(said)
        assert reloader.check(NOW) is Reload.UNCHANGED, "it is told once"
        assert reloader.not_after == NOW + timedelta(hours=24)
    cert.unlink()
    assert reloader.check(NOW) is Reload.REFUSED
    assert reloader.complaint == f"{cert} cannot be read: No such file or directory"
    put(tmp_path, other)
    assert reloader.check(NOW) is Reload.LOADED
    assert reloader.complaint == ""


def test_a_pair_that_is_no_pair_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        CertReloader(tmp_path / "tls.crt", tmp_path / "tls.key", NOW)
    assert str(error.value) == f"{tmp_path / 'tls.crt'} cannot be read: No such file or directory"
