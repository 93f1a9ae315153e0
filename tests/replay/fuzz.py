"""Random damage to what comes from RTSP clients, for as long as one likes: `python -m tests.replay.fuzz [seconds]`.

One function a parser: it takes any bytes, and raises when the parser does not keep to what it promises.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Sequence

from nvr.media.rtcp import parse_compound
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Interleaved, Limits, MessageError, MessageParser, Request, Response
from nvr.media.rtsp.transport import format_transport, parse_transport
from nvr.model.errors import FormatError
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.replay.clock import SystemClock
from nvr.replay.connection import Connection
from nvr.replay.http_head import HEAD_BYTES, HttpHead, Opening, opening, parse_head
from nvr.replay.methods import Surroundings
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.tunnel import Base64Stream, PostBody
from nvr.replay.websocket import FrameReceiver, WebSocketError
from tests.support.replay_store import MemoryStore, MemoryTrack, plain_packetizer

LIMITS = Limits(line=200, head=600, headers=10, body=100)


def halves(data: bytes) -> tuple[bytes, bytes]:
    middle = data[0] % (len(data) + 1) if data else 0
    return data[:middle], data[middle:]


def fuzz_rtsp(data: bytes) -> None:
    """The same messages whole and in two pieces, and no more kept than the limits allow."""

    def outcome(pieces: Sequence[bytes]) -> tuple[list[bytes], int]:
        parser = MessageParser(LIMITS)
        found: list[bytes] = []
        for piece in pieces:
            parser.feed(piece)
            while True:
                try:
                    event = parser.next_event()
                except MessageError as e:
                    if e.fatal:
                        return found, e.status
                    found.append(str(e).encode())
                    continue
                if event is None:
                    break
                assert isinstance(event, (Request, Response, Interleaved))
                found.append(bytes(event) if isinstance(event, Interleaved) else repr(event).encode())
        return found, 0

    whole, status = outcome([data])
    assert status in (0, 400, 413, 414)
    pieces, status_of_pieces = outcome(halves(data))
    # Which limit a message exceeds first depends on how much of it has come.
    assert (pieces, bool(status_of_pieces)) == (whole, bool(status))


def fuzz_transport(data: bytes) -> None:
    """What is understood is written so that it is understood again; quotes without their like are read, not written."""
    try:
        specs = parse_transport(data.decode("latin-1"))
    except FormatError:
        return
    if b'"' in data:
        return
    again = parse_transport(format_transport(specs))
    assert [(s.protocol, s.unicast, s.client_port, s.interleaved) for s in again] == [
        (s.protocol, s.unicast, s.client_port, s.interleaved) for s in specs
    ]


def fuzz_head(data: bytes) -> None:
    """A decision is never revised by bytes that come later, and is made within the limit."""
    earlier = opening(halves(data)[0], "/socket")
    found = opening(data, "/socket")
    assert earlier in (Opening.UNKNOWN, found) or len(data) >= HEAD_BYTES
    if found in (Opening.DOWN, Opening.UP, Opening.WEBSOCKET):
        head = parse_head(data)
        assert head is not None
        assert head.size <= min(len(data), HEAD_BYTES)


def fuzz_post(data: bytes) -> None:
    """Chunks and base64: as much comes out in two pieces as at once."""

    def outcome(pieces: Sequence[bytes], headers: Headers) -> tuple[bytes, bool]:
        body, base64, found = PostBody(HttpHead("POST", "/", "1.1", headers, 0)), Base64Stream(), b""
        try:
            for piece in pieces:
                found += base64.feed(body.feed(piece))
        except FormatError:
            return b"", True
        assert len(found) <= len(data)
        return found, False

    for headers in (Headers(), Headers([("Content-Length", "7")]), Headers([("Transfer-Encoding", "chunked")])):
        assert outcome([data], headers) == outcome(halves(data), headers)


def fuzz_websocket(data: bytes) -> None:
    """Frames in two pieces give what they give at once."""

    def outcome(pieces: Sequence[bytes]) -> tuple[bytes, bool, int]:
        receiver, found = FrameReceiver(), b""
        try:
            for piece in pieces:
                found += receiver.feed(piece)
        except WebSocketError as e:
            return b"", False, e.code
        return found, receiver.closed, 0

    assert outcome([data]) == outcome(halves(data))


def fuzz_rtcp(data: bytes) -> None:
    try:
        parse_compound(data)
    except FormatError:
        return


class Bytes:
    """A byte stream that gives pieces and keeps what is written."""

    peer, peer_address, local_address, buffered = "fuzz", "127.0.0.1", "127.0.0.1", 0

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.written = bytearray()
        self._pieces = [p for p in pieces if p]

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return self._pieces.pop(0) if self._pieces else b""

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None: ...

    async def close(self, deadline_s: float) -> None: ...


def fuzz_connection(data: bytes) -> None:
    """Every request gets one answer, and none is a fault of ours."""

    async def answers() -> bytes:
        token = RecordingToken("rec-1")
        recording = Recording(token, RecordingConfiguration(), (Track(VIDEO001, TrackConfiguration(TrackType.VIDEO)),))
        track = MemoryTrack().starting_at(0).with_gop(["I0", "P1"]).with_end()
        store = MemoryStore({TrackKey(token, VIDEO001): track})
        mounts = Mounts(RecordingMounts(lambda name: recording if name == token else None, store, 1))
        timeout = 60 * NS
        surroundings = Surroundings(
            mounts,
            authenticator=None,
            packetizer_for=plain_packetizer(100),
            clock=SystemClock(),
            session_timeout_ns=timeout,
            replay_timeout_ns=lambda: timeout,
            maximum_sessions=2,
        )
        stream = Bytes(halves(data))
        try:
            await Connection(stream, surroundings, 1 << 16).run()
        finally:
            mounts.close()
        assert not sum(store.subscriptions.values())
        return bytes(stream.written)

    parser, requests = MessageParser(Limits(line=4096, head=16 * 1024, headers=64, body=16 * 1024)), 0
    parser.feed(data)
    broken = 0
    while True:
        try:
            event = parser.next_event()
        except MessageError as e:
            broken += 1
            if e.fatal:
                break
            continue
        if event is None:
            break
        requests += isinstance(event, Request)
    answered = MessageParser()
    answered.feed(asyncio.run(answers()))
    statuses = [e.status for e in answered.events() if isinstance(e, Response)]
    assert len(statuses) == requests + broken
    assert 500 not in statuses


SEEDS: dict[Callable[[bytes], None], Sequence[bytes]] = {
    fuzz_rtsp: (
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\0\0\4abcd\r\nPLAY rtsp://h/x RTSP/1.0\nCSeq: 2\nRange: npt=0-\n\n",
        b"SET_PARAMETER rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nabcdeRTSP/1.0 200 OK\r\n\r\n",
    ),
    fuzz_transport: (
        b'RTP/AVP;unicast;client_port=5000-5001;mode="PLAY,RECORD",RTP/AVP/TCP;interleaved=0-1;ssrc=1234ABCD',
    ),
    fuzz_head: (
        b"GET /a?b HTTP/1.1\r\nHost: x\r\nx-sessioncookie: 1\r\n\r\n",
        b"GET /socket HTTP/1.1\nUpgrade: websocket\n\n",
        b"POST / HTTP/1.0\r\nX-SESSIONCOOKIE: 2\r\n\r\nT1BUSU9OUw==",
    ),
    fuzz_post: (b"5;a=b\r\nT1BU=\r\n4\r\nT1BU\r\n0\r\n\r\n", b"T1BUSU9OUyAqIFJUU1A=T1BUSQ==\r\nT1BU"),
    fuzz_websocket: (
        b"\x82\x84abcd1234\x89\x81abcd5\x02\x81abcd6\x80\x81abcd7\x88\x80abcd",
        b"\x82\xfe\0\x7eabcd" + b"x" * 126,
    ),
    fuzz_rtcp: (bytes.fromhex("80c90001 00000007 81ca0002 00000007 01016100 81cb0001 00000007".replace(" ", "")),),
    fuzz_connection: (
        b"DESCRIBE rtsp://h/replay/rec-1 RTSP/1.0\r\nCSeq: 1\r\n\r\n"
        b"SETUP rtsp://h/replay/rec-1/VIDEO001 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP\r\n\r\n",
        b"SETUP rtsp://h/replay/rec-1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;client_port=5000\r\n\r\n"
        b"PLAY rtsp://h/replay/rec-1 RTSP/1.0\r\nCSeq: 3\r\nSession: 1\r\nRange: clock=20260101T100000Z-\r\n\r\n",
    ),
}
WORDS = (
    b"\r\n",
    b"\n\n",
    b"$",
    b"\0",
    b"\xff",
    b": ",
    b"-",
    b"=",
    b"4294967296",
    b" RTSP/1.0",
    b"Content-Length: 9\r\n",
    b"no header\r\n",
)


def damaged(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(0, 5)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                del data[at : at + rng.randint(1, 12)]
            case 1:
                data[at:at] = rng.choice(WORDS)
            case 2:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case _:
                data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.randint(1, 60)]
    return bytes(data)


def main(seconds: float) -> None:
    logging.disable(logging.CRITICAL)
    rng, until, count = random.Random(), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for fuzz_one, seeds in SEEDS.items():
            data = damaged(rng, seeds)
            try:
                fuzz_one(data)
            except BaseException:
                print(f"{fuzz_one.__name__}({data!r})")
                raise
            count += 1
    print(f"{count} inputs, no fault")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
