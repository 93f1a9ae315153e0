"""The replay client, by the trace of what it sends to a real server and of what it takes from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction

import pytest

from nvr.auth.client import ClientCredentials
from nvr.demo.replay_client import ReplayClient, ReplayedPacket
from nvr.media.rtsp.message import Response
from nvr.media.rtsp.range import ClockRange
from nvr.model.errors import FormatError
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, VIDEO001
from nvr.replay.authentication import DigestAuthenticator
from tests.replay.conftest import PATH, TEN, Accounts, Serve, Served, long_track, sound, worked_example
from tests.support.replay_store import ManualClock

TIMEOUT_NS = 60 * NS


class Trace:
    """One connection of a client, and all that it sent."""

    def __init__(self, client: ReplayClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client = client
        self.sent: list[str] = []
        self.received = b""
        self.packets: list[ReplayedPacket] = []
        self.read_bytes = 4096
        """At most, at a time."""
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> Response:
        """The answer to a request; one that asks for credentials is answered with them."""
        self._send(request)
        while True:
            answer = await self.read()
            if answer is None or answer.cseq != self.client.cseq:
                continue
            if answer.status == 401 and (again := self.client.again(answer, 0)) is not None:
                self._send(again)
                continue
            return answer

    async def read(self) -> Response | None:
        """What comes next; the answer that is in it, if there is one."""
        async with asyncio.timeout(10):
            data = await self._reader.read(self.read_bytes)
        assert data
        self.received += data
        found = self.client.receive(data)
        self.packets += [f for f in found if isinstance(f, ReplayedPacket)]
        return next((f for f in found if isinstance(f, Response)), None)

    def requests(self, method: str) -> list[str]:
        return [request for request in self.sent if request.startswith(f"{method} ")]

    def _send(self, request: bytes) -> None:
        self.sent.append(request.decode())
        self._writer.write(request)


@asynccontextmanager
async def traced(served: Served, credentials: ClientCredentials | None = None) -> AsyncIterator[Trace]:
    base = f"rtsp://127.0.0.1:{served.server.port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    try:
        yield Trace(ReplayClient(base + PATH, credentials), reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.requirement("PB-8.1-04", "PB-8.4-04")
async def test_each_setup_and_play_requires_onvif_replay_and_media_come_by_tcp(serve: Serve) -> None:
    served = await serve(
        {VIDEO001: worked_example(), AUDIO001: sound()}, authenticator=DigestAuthenticator(Accounts(), "nvr")
    )
    async with traced(served, ClientCredentials("watcher", "secret")) as trace:
        client = trace.client
        assert (await trace.ask(client.describe(0))).ok
        for track in (VIDEO001, AUDIO001):
            assert (await trace.ask(client.set_up(f"{client.uri}/{track}", 0))).ok
        backwards = ClockRange(TEN + 66 * NS, TEN)
        for wanted, scale in (
            (ClockRange(TEN), Fraction(1)),
            (backwards, Fraction(-1)),
            (ClockRange(TEN), Fraction(1)),
        ):
            assert (await trace.ask(client.play(wanted, 0, scale))).ok
        assert (await trace.ask(client.tear_down(0))).ok
    set_up, play = trace.requests("SETUP"), trace.requests("PLAY")
    assert (len(set_up), len(play), len(trace.requests("DESCRIBE"))) == (2, 3, 2)
    assert all("\r\nRequire: onvif-replay\r\n" in request for request in set_up + play)
    assert all("\r\nTransport: RTP/AVP/TCP;unicast;interleaved=" in request for request in set_up)
    assert "secret" not in "".join(trace.sent)


@pytest.mark.requirement("PB-8.7-03")
async def test_a_session_is_kept_alive_for_as_long_as_nothing_else_is_asked(serve: Serve) -> None:
    clock = ManualClock()
    served = await serve({VIDEO001: worked_example()}, clock=clock)
    async with traced(served) as trace:
        client = trace.client
        assert (await trace.ask(client.set_up(f"{client.uri}/{VIDEO001}", clock.monotonic_ns()))).ok
        assert client.timeout_ns == TIMEOUT_NS
        asked_ns = clock.monotonic_ns()
        for _ in range(300):
            clock.advance(NS)
            now = clock.monotonic_ns()
            if now >= client.keep_alive_at_ns:
                assert now - asked_ns < TIMEOUT_NS
                asked_ns = now
                assert (await trace.ask(client.keep_alive(now))).ok
        assert len(trace.requests("GET_PARAMETER")) >= 5
        assert all("\r\nSession: " in request for request in trace.requests("GET_PARAMETER"))
        assert (await trace.ask(client.play(ClockRange(TEN), clock.monotonic_ns()))).ok


@pytest.mark.requirement("PB-8.10-04")
async def test_what_is_left_of_the_play_before_is_dropped(serve: Serve) -> None:
    """Of units that take several packets as well, of which only the first names its PLAY."""
    served = await serve({VIDEO001: long_track(200, size=4000)}, payload=1000)
    async with traced(served) as trace:
        client = trace.client
        await trace.ask(client.set_up(f"{client.uri}/{VIDEO001}", 0))
        trace.read_bytes = 100  # a unit is written as a whole: when its first packet is taken, the others have come
        await trace.ask(client.play(ClockRange(TEN), 0))
        while not trace.packets:
            await trace.read()
        trace.packets.clear()
        kept = len(trace.received)
        assert (await trace.ask(client.play(ClockRange(TEN + 150 * NS), 0))).ok
        late = trace.received[kept:].partition(b"RTSP/1.0 200")[0]
        assert late.count(b"." * 900) >= 3
        while len(trace.packets) < 40:
            await trace.read()
    first = trace.packets[0]
    assert first.mark is not None
    assert first.mark.discontinuity
    assert bytes(first.packet.payload).startswith(b"I150")
    numbers = [p.packet.sequence for p in trace.packets]
    assert numbers == [(numbers[0] + i) & 0xFFFF for i in range(len(numbers))]
    assert {p.mark.cseq for p in trace.packets if p.mark is not None} == {client.cseq}
    assert any(p.mark is None for p in trace.packets)


async def test_a_server_that_answers_another_transport_is_refused() -> None:
    client = ReplayClient("rtsp://host/replay/rec-1")
    client.set_up("rtsp://host/replay/rec-1/VIDEO001", 0)
    answer = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: 1\r\nTransport: RTP/AVP;unicast;client_port=5000-5001\r\n\r\n"
    with pytest.raises(FormatError, match="to a SETUP for TCP"):
        client.receive(answer)
