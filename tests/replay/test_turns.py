"""However much a client sends at once, others have their turn in between: counted in turns of the loop, not in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from nvr.media.rtsp.message import MessageError, MessageParser
from nvr.model.time import NS
from nvr.replay.connection import EVENTS_A_TURN, Connection
from nvr.replay.methods import Surroundings
from nvr.replay.mounts import Mounts
from nvr.replay.stream import RECEIVE_BYTES, SLICE_BYTES, ByteStream, Wire
from nvr.replay.tunnel import TunnelStream
from nvr.replay.websocket import BINARY, PING, FrameReceiver, WebSocketStream
from tests.replay.test_websocket import masked
from tests.support.replay_store import ManualClock, plain_packetizer

TO_GO = b"GET_PARAMETER * RTSP/1.0\nCSeq: 7\n\n"


class Turns:
    """What has been done in each turn of the loop."""

    def __init__(self) -> None:
        self.now = 0
        self.events: Counter[int] = Counter()
        self.fed: Counter[int] = Counter()
        self.taken_apart: Counter[int] = Counter()

    def _next(self) -> None:
        self.now += 1
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def begin(self) -> None:
        self._next()

    def end(self) -> None:
        self._handle.cancel()


@pytest.fixture
async def turns(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Turns]:
    counted = Turns()

    class Counted(MessageParser):
        def feed(self, data: bytes | bytearray | memoryview) -> None:
            counted.fed[counted.now] += len(data)
            super().feed(data)

        def next_event(self):  # type: ignore[no-untyped-def]
            try:
                event = super().next_event()
            except MessageError:
                counted.events[counted.now] += 1
                raise
            counted.events[counted.now] += event is not None
            return event

    take_apart = FrameReceiver.feed

    def counting(self: FrameReceiver, data: bytes) -> bytes:
        counted.taken_apart[counted.now] += len(data)
        return take_apart(self, data)

    monkeypatch.setattr("nvr.replay.connection.MessageParser", Counted)
    monkeypatch.setattr(FrameReceiver, "feed", counting)
    counted.begin()
    yield counted
    counted.end()


async def served(stream: ByteStream) -> None:
    surroundings = Surroundings(
        Mounts(),
        authenticator=None,
        packetizer_for=plain_packetizer(100),
        clock=ManualClock(),
        session_timeout_ns=60 * NS,
        replay_timeout_ns=lambda: 60 * NS,
        maximum_sessions=2,
    )
    await Connection(stream, surroundings, 1 << 16).run()


def wire(data: bytes) -> Wire:
    """A connection whose client has sent `data` and nothing more. What is written to it is not looked at."""
    found = Wire(1 << 16, lambda: None)
    found.data_received(data)
    found.eof_received()
    return found


async def tunnel(data: bytes) -> TunnelStream:
    found = TunnelStream(wire(b""))
    assert len(data) <= RECEIVE_BYTES
    await found.feed(data)
    return found


PIPELINED = {
    "requests": b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n",
    "requests that are refused": b"OPTIONS * RTSP/1.0\n\n",
    "messages that are wrong": b"X * RTSP/1.0\nCSeq: 1\nx\n\n",
    "empty frames": b"$\0\0\0",
}


@pytest.mark.parametrize("what", PIPELINED)
async def test_few_events_are_worked_through_in_a_turn(turns: Turns, what: str) -> None:
    await served(wire(PIPELINED[what] * 400 + TO_GO))
    assert turns.events.total() == 401
    assert max(turns.events.values()) <= EVENTS_A_TURN


async def test_of_what_has_come_one_slice_is_looked_at_in_a_turn(turns: Turns) -> None:
    blank, size = b"\r\n" * 30_000, 60_000 + len(TO_GO)
    frames = masked(BINARY, blank) + masked(BINARY, TO_GO)
    streams: list[Callable[[], ByteStream]] = [lambda: wire(blank + TO_GO), lambda: WebSocketStream(wire(frames))]
    for stream in (*(make() for make in streams), await tunnel(blank + TO_GO)):
        turns.fed.clear()
        turns.events.clear()
        if isinstance(stream, TunnelStream):
            asyncio.get_running_loop().call_later(0, stream.end)
        await served(stream)
        assert (turns.fed.total(), turns.events.total()) == (size, 1)
        assert max(turns.fed.values()) <= SLICE_BYTES


async def test_frames_that_carry_nothing_are_taken_apart_in_slices_as_well(turns: Turns) -> None:
    for frame in (masked(PING, b""), masked(BINARY, b"")):
        turns.taken_apart.clear()
        await served(WebSocketStream(wire(frame * 10_000)))
        assert turns.taken_apart.total() == 60_000
        assert max(turns.taken_apart.values()) <= SLICE_BYTES
