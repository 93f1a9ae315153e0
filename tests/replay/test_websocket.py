"""Frames of RFC 6455: what comes out of them, however they are cut, and what breaks them."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.replay.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FRAME_BYTES,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    FrameReceiver,
    WebSocketError,
    close_frame,
    frame,
)


def masked(opcode: int, payload: bytes, *, final: bool = True, mask: bytes | None = None) -> bytes:
    """A frame as a client sends it, written anew from RFC 6455 5.2."""
    mask = os.urandom(4) if mask is None else mask
    head = bytes([opcode | (0x80 if final else 0)])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


@given(
    st.lists(st.lists(st.binary(max_size=150), min_size=1, max_size=3), max_size=4),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_what_went_into_messages_comes_out_however_they_are_cut(messages: list[list[bytes]], cuts: list[int]) -> None:
    """In one frame or in several, with pings between and inside of messages."""
    wire = b""
    pings = 0
    for parts in messages:
        for i, part in enumerate(parts):
            wire += masked(BINARY if i == 0 else CONTINUATION, part, final=i == len(parts) - 1)
            wire += masked(PING, b"%d" % pings)
            pings += 1
    receiver = FrameReceiver()
    places = [0, *sorted(c % (len(wire) + 1) for c in cuts), len(wire)]
    found = b"".join(receiver.feed(wire[a:b]) for a, b in pairwise(places))
    assert found == b"".join(part for parts in messages for part in parts)
    assert receiver.pings == [b"%d" % i for i in range(pings)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_every_length_is_written_and_read(size: int) -> None:
    payload = os.urandom(size)
    written = frame(BINARY, payload)
    assert written[0] == 0x80 | BINARY
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert written[head:] == payload
    assert int.from_bytes(written[2:head], "big") == size if head > 2 else written[1] == size
    assert FrameReceiver().feed(masked(BINARY, payload)) == payload


def test_text_is_read_as_well() -> None:
    assert FrameReceiver().feed(masked(TEXT, b"OPTIONS")) == b"OPTIONS"


def test_behind_close_nothing_is_read() -> None:
    receiver = FrameReceiver()
    assert receiver.feed(masked(BINARY, b"a") + masked(CLOSE, b"\x03\xe8") + masked(BINARY, b"b")) == b"a"
    assert receiver.closed
    assert receiver.feed(masked(BINARY, b"c")) == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"not masked"), PROTOCOL_ERROR),
        (b"\xc2\x80\0\0\0\0", PROTOCOL_ERROR),
        (b"\x83\x80\0\0\0\0", PROTOCOL_ERROR),
        (b"\x8b\x80\0\0\0\0", PROTOCOL_ERROR),
        (masked(CONTINUATION, b"of nothing"), PROTOCOL_ERROR),
        (masked(BINARY, b"a", final=False) + masked(BINARY, b"b"), PROTOCOL_ERROR),
        (masked(PING, b"in pieces", final=False), PROTOCOL_ERROR),
        (masked(PING, b"x" * 126), PROTOCOL_ERROR),
        (b"\x82\xff" + (FRAME_BYTES + 1).to_bytes(8, "big") + b"\0\0\0\0", TOO_BIG),
        (b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0", TOO_BIG),
    ],
    ids=[
        "not masked",
        "reserved bit",
        "unknown opcode",
        "unknown control opcode",
        "continuation of nothing",
        "message inside another",
        "ping in pieces",
        "long ping",
        "long frame",
        "longest frame",
    ],
)
def test_a_broken_frame_is_refused_with_its_code(data: bytes, code: int) -> None:
    with pytest.raises(WebSocketError) as error:
        FrameReceiver().feed(data)
    assert error.value.code == code


def test_control_frames_of_the_server_are_short_and_whole() -> None:
    assert frame(PONG, b"x") == b"\x8a\x01x"
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
