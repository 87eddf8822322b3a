"""Frames and messages, cut at every byte, in random parts, too long, and made of garbage."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.errors import ProtocolError
from enforcer.nri.mux import LARGEST_READ, Piece, Splitter, frames
from enforcer.nri.ttrpc import LARGEST, Decoder, Kind, Message, encode

REQUEST = bytes.fromhex("00000003 00000001 01 00") + b"abc"
"""A request on stream 1, as ttRPC's PROTOCOL.md draws it."""
ANSWER = bytes.fromhex("00000000 00000003 02 00")
"""An empty response on stream 3."""


def joined(pieces: list[Piece]) -> dict[int, bytes]:
    """Each connection's bytes."""
    streams: dict[int, bytes] = {}
    for piece in pieces:
        streams[piece.connection] = streams.get(piece.connection, b"") + piece.data
    return streams


def split(parts: list[bytes]) -> dict[int, bytes]:
    """What comes out when the parts are read one after the other."""
    splitter = Splitter()
    return joined([piece for part in parts for piece in splitter.feed(part)])


def decoded(parts: list[bytes]) -> list[Message]:
    decoder = Decoder()
    return [message for part in parts for message in decoder.feed(part)]


FRAMES = [
    ("nothing is no frame", b"", b""),
    ("a short text is one frame", b"hi", bytes.fromhex("00000002 00000002") + b"hi"),
    (
        "4088 bytes are one frame, which fills the runtime's buffer",
        b"x" * 4088,
        bytes.fromhex("00000002 00000ff8") + b"x" * 4088,
    ),
    (
        "one byte more is a second frame",
        b"x" * 4089,
        bytes.fromhex("00000002 00000ff8") + b"x" * 4088 + bytes.fromhex("00000002 00000001") + b"x",
    ),
]


@pytest.mark.parametrize(("what", "data", "sent"), FRAMES, ids=[row[0] for row in FRAMES])
def test_what_is_sent(what: str, data: bytes, sent: bytes) -> None:
    assert frames(2, data) == sent


MESSAGES = [
    ("a request", Message(1, Kind.REQUEST, b"abc"), REQUEST),
    ("an empty response", Message(3, Kind.RESPONSE, b""), ANSWER),
    (
        "the highest stream",
        Message(0xFFFFFFFF, Kind.RESPONSE, b"z"),
        bytes.fromhex("00000001 ffffffff 02 00") + b"z",
    ),
]


@pytest.mark.parametrize(("what", "message", "data"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_a_message_in_bytes(what: str, message: Message, data: bytes) -> None:
    assert encode(message) == data
    assert decoded([data]) == [message]


def test_a_stream_may_be_cut_at_every_byte() -> None:
    stream = frames(1, REQUEST) + frames(9, b"unknown") + frames(2, b"") + frames(1, ANSWER) + frames(2, b"x" * 5000)
    whole = split([stream])
    assert whole == {1: REQUEST + ANSWER, 9: b"unknown", 2: b"x" * 5000}
    for cut in range(len(stream) + 1):
        assert split([stream[:cut], stream[cut:]]) == whole


def test_a_stream_may_come_byte_by_byte() -> None:
    stream = frames(1, REQUEST) + frames(2, ANSWER)
    assert split([bytes([byte]) for byte in stream]) == {1: REQUEST, 2: ANSWER}


def test_messages_may_be_cut_at_every_byte() -> None:
    stream = REQUEST + ANSWER + REQUEST
    for cut in range(len(stream) + 1):
        assert decoded([stream[:cut], stream[cut:]]) == decoded([stream])
    assert len(decoded([stream])) == 3


def test_an_empty_frame_says_nothing() -> None:
    assert split([bytes.fromhex("00000001 00000000"), frames(1, b"x")]) == {1: b"x"}


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=9000))), st.data())
def test_what_was_framed_is_what_comes_out(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frames(connection, part) for connection, part in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert split(parts) == {key: part for key, part in joined([Piece(*one) for one in sent]).items() if part}


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(Kind), st.binary(max_size=300))), st.data())
def test_what_was_encoded_is_what_comes_out(sent: list[tuple[int, Kind, bytes]], data: st.DataObject) -> None:
    messages = [Message(2 * number + 1, kind, part) for number, kind, part in sent]
    stream = b"".join(map(encode, messages))
    cut = data.draw(st.integers(0, len(stream)))
    assert decoded([stream[:cut], stream[cut:]]) == messages


@given(st.lists(st.binary(max_size=60)))
def test_garbage_is_waited_for_or_refused_and_nothing_else(parts: list[bytes]) -> None:
    splitter, decoder = Splitter(), Decoder()
    with suppress(ProtocolError):
        for part in parts:
            for piece in splitter.feed(part):
                list(decoder.feed(piece.data))


def test_the_longest_frame_is_taken_and_one_byte_more_is_not() -> None:
    assert list(Splitter().feed(struct.pack(">II", 1, LARGEST_READ))) == []
    with pytest.raises(ProtocolError) as caught:
        list(Splitter().feed(struct.pack(">II", 1, LARGEST_READ + 1)))
    assert str(caught.value) == (
        "The runtime announced a frame of 4194315 bytes on connection 1; NRI allows 4194314. What listens on this "
        "socket is no NRI, or bytes were lost."
    )


def test_the_longest_message_is_taken_and_one_byte_more_is_not() -> None:
    longest = Message(1, Kind.REQUEST, b"x" * LARGEST)
    assert decoded([encode(longest)]) == [longest]
    with pytest.raises(ProtocolError) as caught:
        list(Decoder().feed(struct.pack(">IIBB", LARGEST + 1, 1, 1, 0)))
    assert str(caught.value) == "The runtime announced a message of 4194305 bytes; ttRPC allows 4194304."


def test_messages_before_a_bad_one_are_not_lost() -> None:
    messages = Decoder().feed(REQUEST + struct.pack(">IIBB", 0, 3, 9, 0))
    assert next(messages).data == b"abc"
    with pytest.raises(ProtocolError):
        next(messages)
