"""The keys that are believed: from files and folders, and what a change does to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from enforcer.errors import SetupError
from enforcer.keys import Change, Keys
from shared.seal import key_id

WAY_OUT = "put the webhook's public key there: `openssl pkey -in KEY -pubout` prints it"


def private(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number] * 32))


def pem(number: int) -> bytes:
    return private(number).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def name(number: int) -> str:
    return key_id(private(number).public_key().public_bytes_raw())


def mount(folder: Path, version: str, **files: bytes) -> Path:
    """A ConfigMap's mount, or its next version: links by ``..data`` into a folder of its own."""
    inner = folder / f"..{version}"
    inner.mkdir(parents=True)
    for key, content in files.items():
        (inner / f"{key}.pem").write_bytes(content)
        if not (folder / f"{key}.pem").is_symlink():
            (folder / f"{key}.pem").symlink_to(Path("..data") / f"{key}.pem")
    (folder / "..new").symlink_to(f"..{version}")
    os.replace(folder / "..new", folder / "..data")
    return folder


def test_a_file_may_hold_several_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(pem(1) + pem(2))
    assert set(Keys(file).ring.keys) == {name(1), name(2)}


def test_every_file_of_a_folder_counts_but_hidden_ones(tmp_path: Path) -> None:
    for file, number in (("old.pem", 1), ("new.pem", 2), (".swp", 3)):
        (tmp_path / file).write_bytes(pem(number))
    assert set(Keys(tmp_path).ring.keys) == {name(1), name(2)}


def test_a_configmap_that_changes_is_read_again(tmp_path: Path) -> None:
    keys = Keys(mount(tmp_path / "keys", "1", a=pem(1)))
    assert keys.check() is Change.NONE
    mount(tmp_path / "keys", "2", a=pem(2))
    assert keys.check() is Change.LOADED
    assert set(keys.ring.keys) == {name(2)}
    assert keys.check() is Change.NONE


def test_a_key_that_is_added_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(pem(1))
    keys = Keys(tmp_path)
    (tmp_path / "b.pem").write_bytes(pem(2))
    assert keys.check() is Change.LOADED
    assert set(keys.ring.keys) == {name(1), name(2)}


def test_after_a_bad_change_the_last_good_keys_stay_and_it_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(pem(1))
    keys = Keys(file)
    file.write_bytes(b"oops")
    assert keys.check() is Change.REFUSED
    assert set(keys.ring.keys) == {name(1)}
    assert keys.trouble == (
        f"--keys {file} holds no public key; expected PEM with BEGIN PUBLIC KEY; {WAY_OUT}; "
        f"the keys before stay in use: {name(1)}"
    )
    assert keys.check() is Change.NONE
    file.write_bytes(pem(2))
    assert keys.check() is Change.LOADED
    assert (set(keys.ring.keys), keys.trouble) == ({name(2)}, "")


def test_keys_that_are_taken_away_stay_in_use(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(pem(1))
    keys = Keys(file)
    file.unlink()
    assert keys.check() is Change.REFUSED
    assert set(keys.ring.keys) == {name(1)}


def test_a_key_that_is_away_for_a_moment_is_trouble_for_a_moment(tmp_path: Path) -> None:
    file, aside = tmp_path / "keys.pem", tmp_path / "aside"
    file.write_bytes(pem(1))
    keys = Keys(file)
    file.rename(aside)
    assert keys.check() is Change.REFUSED
    aside.rename(file)
    assert keys.check() is Change.NONE
    assert keys.trouble == ""


def private_pem() -> bytes:
    return private(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def other_kind() -> bytes:
    key = generate_private_key(SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


START = [
    ("no key in it", b"hello", "holds no public key; expected PEM with BEGIN PUBLIC KEY"),
    ("another kind of key", other_kind(),
     "holds a public key that is not Ed25519; intents are signed with Ed25519 only"),
    ("a private key", private_pem(), "holds a private key, which no node may have"),
    ("no file of keys at all", b"x" * (1 << 20) + b"x", "has more than 1048576 bytes, so it is no file of keys"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "content", "text"), START, ids=[case for case, *_ in START])
def test_at_the_start_a_bad_file_is_refused(case: str, content: bytes, text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(content)
    with pytest.raises(SetupError) as caught:
        Keys(file)
    assert str(caught.value) == f"--keys {file} {text}; {WAY_OUT}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        Keys(tmp_path / "none")
    assert str(caught.value) == f"--keys {tmp_path / 'none'} cannot be read: No such file or directory; {WAY_OUT}"


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        Keys(tmp_path)
    assert str(caught.value) == f"--keys {tmp_path} is an empty folder; {WAY_OUT}"
