"""NRI's multiplexing: several byte streams over one socket. Bytes in, pieces out; no socket.

A frame is eight bytes of header, big endian: 4 for the connection's id, 4 for the payload's length; then the payload.
Connections are neither opened nor closed. Source: NRI's pkg/net/multiplex/mux.go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from enforcer.errors import ProtocolError

PLUGIN_SERVICE = 1
"""The connection on which the runtime calls us."""
RUNTIME_SERVICE = 2
"""The connection on which we call the runtime."""

_HEADER = struct.Struct(">II")

LARGEST_SENT = 4096 - _HEADER.size
"""Bytes of payload in a frame of ours. The runtime reads with a buffer of 4096 bytes, and a frame that does not fit
ends its connection."""
MOST_FRAMES = 255
"""Frames of ours for one message. The runtime keeps 256 unread frames per connection, and one more ends it."""
LARGEST_READ = (4 << 20) + 10
"""Bytes of payload in a frame of the runtime's: the largest message of ttRPC with its header, ``maxPayloadSize``."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes of one connection: a frame's payload, or a part of it."""

    connection: int
    data: bytes


def frames(connection: int, data: bytes) -> bytes:
    """The next bytes of a connection, cut into frames that the runtime can read."""
    starts = range(0, len(data), LARGEST_SENT)
    return b"".join(_frame(connection, data[start : start + LARGEST_SENT]) for start in starts)


def _frame(connection: int, payload: bytes) -> bytes:
    return _HEADER.pack(connection, len(payload)) + payload


class Splitter:
    """What was read from the socket, told apart by connection.

    Payloads are handed on as they arrive: nothing but a cut header is ever kept.
    """

    def __init__(self) -> None:
        self._header = b""
        """The start of a header whose rest is still to come."""
        self._connection = 0
        self._missing = 0
        """Bytes of the current frame's payload that are still to come."""

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces in the next bytes; raises ProtocolError where they cannot be frames."""
        at = 0
        while at < len(data):
            if not self._missing:
                at = self._read_header(data, at)
            elif taken := data[at : at + self._missing]:
                self._missing -= len(taken)
                at += len(taken)
                yield Piece(self._connection, taken)

    def _read_header(self, data: bytes, at: int) -> int:
        """Take what is missing of a header; where the reading goes on."""
        wanted = _HEADER.size - len(self._header)
        self._header += data[at : at + wanted]
        if len(self._header) == _HEADER.size:
            self._connection, self._missing = _checked(*_HEADER.unpack(self._header))
            self._header = b""
        return min(at + wanted, len(data))


def _checked(connection: int, length: int) -> tuple[int, int]:
    if length > LARGEST_READ:
        raise ProtocolError(
            f"The runtime announced a frame of {length} bytes on connection {connection}; NRI allows {LARGEST_READ}. "
            "What listens on this socket is no NRI, or bytes were lost."
        )
    return connection, length
