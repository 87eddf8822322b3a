"""The public keys whose intents are believed: PEM in a file, or in the files of a folder.

A ConfigMap's mount is a folder of links into a hidden folder that the kubelet swaps in one step; hidden names are
passed over, and what counts as a change is the file behind the link.

At the start keys that cannot be read end the process: pods with an intent wait then, all others run. Later the last
good keys stay, and :attr:`Keys.trouble` says so: a slip in a ConfigMap must not turn every new pod away.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TypeAlias

from enforcer.errors import SetupError
from shared.errors import InputError
from shared.seal import KeyRing

WAY_OUT = "put the webhook's public key there: `openssl pkey -in KEY -pubout` prints it"

LARGEST = 1 << 20
"""Bytes of one file that are read. A ConfigMap as a whole has at most as many; a key has 113."""

Mark: TypeAlias = tuple[tuple[str, int, int, int, int], ...]
"""Each file's name, device, inode, time of its last change in nanoseconds, and length."""


class Change(Enum):
    """What a look at the files showed."""

    NONE = "none"
    LOADED = "loaded"
    REFUSED = "refused"
    """They changed and cannot be used. The keys before stand."""


class Keys:
    """The keys in use."""

    def __init__(self, path: Path) -> None:
        """Raises SetupError when there is no key to begin with."""
        self._path = path
        self._mark = _marked(path)
        self.ring: KeyRing = read(path)
        """What is believed now."""
        self.trouble = ""
        """Why the newest files are not in use; empty while they are."""

    def check(self) -> Change:
        """Read the files again if they changed. Costs one look at each file where they did not."""
        try:
            mark = _marked(self._path)  # before reading: what changes in between shows at the next look
            if mark == self._mark:
                self.trouble = ""  # whatever it was, the files in use are back
                return Change.NONE
            ring = read(self._path)
        except SetupError as error:
            return self._refuse(str(error))
        self._mark, self.ring, self.trouble = mark, ring, ""
        return Change.LOADED

    def _refuse(self, text: str) -> Change:
        """Told once for each text, however often one looks."""
        known = ", ".join(sorted(self.ring.keys))
        trouble = f"{text}; the keys before stay in use: {known}"
        if trouble == self.trouble:
            return Change.NONE
        self.trouble = trouble
        return Change.REFUSED


def read(path: Path) -> KeyRing:
    """Every key of the file or folder. Raises SetupError that names the file."""
    keys = {name: key for file in _files(path) for name, key in _ring(file).keys.items()}
    if not keys:
        raise SetupError(f"--keys {path} is an empty folder; {WAY_OUT}")
    return KeyRing(keys)


def _ring(file: Path) -> KeyRing:
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise _unreadable(file, error) from error
    if len(content) > LARGEST:
        raise SetupError(f"--keys {file} has more than {LARGEST} bytes, so it is no file of keys; {WAY_OUT}")
    if b"PRIVATE KEY-----" in content:
        raise SetupError(f"--keys {file} holds a private key, which no node may have; {WAY_OUT}")
    try:
        return KeyRing.from_pem(content, f"--keys {file}")
    except InputError as error:
        raise SetupError(f"{error}; {WAY_OUT}") from error


def _files(path: Path) -> list[Path]:
    """The file itself, or a folder's files that are not hidden, by name."""
    try:
        if not path.is_dir():
            return [path]
        return sorted(file for file in path.iterdir() if not file.name.startswith(".") and not file.is_dir())
    except OSError as error:
        raise _unreadable(path, error) from error


def _marked(path: Path) -> Mark:
    mark = []
    for file in _files(path):
        try:
            seen = file.stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        mark.append((file.name, seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size))
    return tuple(mark)


def _unreadable(path: Path, error: OSError) -> SetupError:
    return SetupError(f"--keys {path} cannot be read: {error.strerror}; {WAY_OUT}")
