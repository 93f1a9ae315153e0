"""Many clients that do nothing, half a thing, or the wrong thing: what they hold, and that others do not feel them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from nvr.http.settings import tls_context
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001
from nvr.replay.connection import LIMITS
from nvr.replay.server import RtspSettings
from nvr.replay.stream import RECEIVE_BYTES, Wire
from tests.replay.conftest import PATH, Serve, worked_example
from tests.replay.test_tls import own_certificate
from tests.support.replay_store import ManualClock
from tests.support.rtsp_client import RtspClient, until

HALVES = (
    b"",
    b"GET /",
    b"POST / HTTP/1.1\r\nx-sessioncookie: 1\r\n",
    b"OPTIONS * RTSP/1.0\r\nX: " + b"y" * 3000,
    b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 16000\r\n\r\nhalf",
    b"$\0\xff\xff" + b"z" * 5000,
)


async def test_hundreds_that_never_finish_a_request_are_bounded_and_leave_in_time(serve: Serve) -> None:
    clock = ManualClock()
    limits = RtspSettings(maximum_connections=200, maximum_connections_per_client=150)
    served = await serve({VIDEO001: worked_example()}, clock=clock, settings=limits)
    crowd: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        for i in range(250):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, local_addr=("127.0.0.2", 0))
            crowd.append((reader, writer))
            writer.write(HALVES[i % len(HALVES)])
        await until(lambda: served.server.connections + served.server.refused_connections == 250)
        assert served.server.connections == 150  # another client still has places
        client = await served.client()
        clock.advance(40 * NS)
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        assert len(await client.packets(16)) == 16
        clock.advance(30 * NS)
        await until(lambda: served.server.connections == 1)
        assert (await client.request("TEARDOWN", PATH)).status == 200
    finally:
        for _, writer in crowd:
            writer.transport.abort()


class HeldUp(asyncio.Transport):
    """A transport that only remembers whether it is being read."""

    reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


async def test_a_peer_that_is_not_read_is_held_up() -> None:
    wire, transport = Wire(1 << 16, lambda: None), HeldUp()
    wire.connection_made(transport)
    while transport.reading:
        wire.data_received(b"x" * 10_000)
    came = 0
    while not transport.reading:
        came += len(await wire.read())
    assert 0 < came <= RECEIVE_BYTES + 10_000
    while came % 10_000:
        came += len(await wire.read())
    wire.connection_lost(None)
    assert await wire.read() == b""


def test_a_client_can_have_no_more_kept_than_one_head_and_one_body() -> None:
    assert LIMITS.head + LIMITS.body <= 32 * 1024


async def test_who_makes_no_tls_handshake_loses_its_place(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvr.net.acceptor.TLS_HANDSHAKE_S", 0.05)
    served = await serve({VIDEO001: worked_example()})
    made = await asyncio.to_thread(own_certificate, tmp_path)
    port = await served.server.start("127.0.0.1", 0, tls_context(made.certificate, made.key))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    assert served.server.failed_handshakes == 1
    assert served.server.connections == 0


async def test_media_do_not_leave_in_clear_text_beside_tls(serve: Serve, tmp_path: Path) -> None:
    served = await serve({VIDEO001: worked_example()})
    made = await asyncio.to_thread(own_certificate, tmp_path)
    port = await served.server.start("127.0.0.1", 0, tls_context(made.certificate, made.key))
    trust = ssl.create_default_context(cafile=str(made.certificate))
    reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
    client = RtspClient(reader, writer, f"rtsps://localhost:{port}")
    offer = "RTP/AVP;unicast;client_port=5000-5001"
    assert (await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=offer)).status == 461
    await client.set_up(PATH, VIDEO001)
    assert served.server.udp_streams == 0
    await client.close()
