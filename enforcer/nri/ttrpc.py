"""ttRPC, the small RPC inside each connection. Bytes in, messages out; no socket.

A message is ten bytes of header, big endian: 4 for the length, 4 for the stream, 1 for the kind, 1 for flags; then the
protobuf of a Request or a Response. Source: ttRPC's PROTOCOL.md and channel.go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from enforcer.errors import ProtocolError

_HEADER = struct.Struct(">IIBB")

LARGEST = 4 << 20
"""Bytes of one message without its header; ttRPC's ``messageLengthMax``."""


class Kind(IntEnum):
    """What a message is. The third kind of ttRPC, data of streaming calls, is no part of NRI."""

    REQUEST = 1
    RESPONSE = 2


class Code(IntEnum):
    """How a call ended; gRPC's numbers. The kubelet shows the name beside the text."""

    OK = 0
    DEADLINE_EXCEEDED = 4
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13


@dataclass(frozen=True, slots=True)
class Message:
    """One request or response."""

    stream: int
    """Odd, chosen by who asks; the answer has the same."""
    kind: Kind
    data: bytes
    """The protobuf."""


def encode(message: Message) -> bytes:
    """The message as bytes of its connection."""
    return _HEADER.pack(len(message.data), message.stream, message.kind, 0) + message.data


class Decoder:
    """The bytes of one connection, as messages. It keeps at most one message and what came with it."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that end in the next bytes; raises ProtocolError where they cannot be ttRPC."""
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            length, stream, kind, _flags = _HEADER.unpack_from(self._pending)
            _check(length, stream, kind)
            end = _HEADER.size + length
            if len(self._pending) < end:
                return
            with memoryview(self._pending) as view:  # a slice of the bytearray itself would be one more copy of 4 MiB
                message = Message(stream, Kind(kind), bytes(view[_HEADER.size : end]))
            del self._pending[:end]
            yield message


def _check(length: int, stream: int, kind: int) -> None:
    """The header's own rules, before any of the body is waited for."""
    if length > LARGEST:
        raise ProtocolError(f"The runtime announced a message of {length} bytes; ttRPC allows {LARGEST}.")
    if kind not in (Kind.REQUEST, Kind.RESPONSE):
        raise ProtocolError(f"The runtime sent a message of kind {kind}; NRI has only requests (1) and responses (2).")
    if stream % 2 == 0:
        raise ProtocolError(f"The runtime sent a message on stream {stream}; who asks chooses odd numbers only.")
