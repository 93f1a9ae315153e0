"""Clients that never come to an end of what they send, or never read what they are sent, have a bound and no more."""

from __future__ import annotations

import asyncio
import base64
import socket
import tracemalloc

import pytest

from nvr.model.tokens import VIDEO001
from nvr.replay.websocket import PATH as WEBSOCKET
from tests.replay.conftest import PATH, Serve, Served, worked_example
from tests.replay.test_http_ports import Open, ports
from tests.support.rtsp_client import until
from tests.support.tunnel_client import get, post

__all__ = ["ports"]

PIECE = 32 * 1024
PIECES = 160
"""Of them a client would like to get rid of 5 MiB."""
BOUND = 1280 * 1024
"""Of one client: asyncio reads 256 KiB at once, which stand as they came, as they are parsed and, of a tunnel, decoded;
and as much waits to be written."""


def head(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode() + b"\r\n\r\n"


def repeated(data: bytes) -> bytes:
    return data * (PIECE // len(data))


UPGRADE = (
    f"GET {WEBSOCKET} HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: rtsp.onvif.org"
)
OPTIONS = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: " + b"y" * 3000 + b"\r\n\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a line": (b"OPTIONS * RTSP/1.0\r\nX: ", b"y" * PIECE),
    "headers": (b"OPTIONS * RTSP/1.0\r\n", repeated(b"X: y\r\n")),
    "a body": (b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4294967296\r\n\r\n", b"z" * PIECE),
    "requests whose answers are not read": (b"", repeated(OPTIONS)),
    "the head of an HTTP request": (b"GET / HTTP/1.1\r\n", repeated(b"X: y\r\n")),
}
IN_A_WEBSOCKET: dict[str, tuple[bytes, bytes]] = {
    "a message in a WebSocket": (head(UPGRADE) + b"\x02\xff" + b"\x7f" + b"\xff" * 7 + b"\0" * 4, b"y" * PIECE),
    "requests in a WebSocket": (
        head(UPGRADE),
        repeated(b"\x82\xfe" + len(OPTIONS).to_bytes(2, "big") + b"\0" * 4 + OPTIONS),
    ),
    "pings": (head(UPGRADE), repeated(b"\x89\xfd\0\0\0\0" + b"p" * 125)),
}
IN_A_POST: dict[str, tuple[str, bytes]] = {
    "a line in a tunnel": ("Content-Length: 32767", base64.b64encode(b"y" * (PIECE // 4 * 3))),
    "requests in a tunnel": ("", base64.b64encode(OPTIONS * 6)),
    "a chunk's head in a tunnel": ("Transfer-Encoding: chunked", b"1" * PIECE),
    "spaces in a tunnel": ("", b" " * PIECE),
}


class Flood:
    """A client that writes whenever the kernel lets it, and never reads. Its own memory is the kernel's."""

    def __init__(self, port: int, first: bytes, piece: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self._piece = piece
        self._rest = memoryview(first)
        self.sent = 0
        self.over = False

    def write(self) -> bool:
        """Whether anything could be written."""
        if self.over:
            return False
        try:
            written = self.socket.send(self._rest or self._piece)
        except BlockingIOError:
            return False
        except ConnectionError:
            self.over = True
            return False
        self._rest = (self._rest or memoryview(self._piece))[written:]
        self.sent += written
        self.over = self.sent >= PIECE * PIECES
        return True


async def begin(port: int, what: str) -> list[Flood]:
    """One client, with one connection or two."""
    if what not in IN_A_POST:
        return [Flood(port, *{**ENDLESS, **IN_A_WEBSOCKET}[what])]
    length, piece = IN_A_POST[what]
    down = Flood(port, head(get("cookie")), b"")
    down.write()
    down.over = True
    while True:  # until the GET has been accepted
        try:
            down.socket.recv(1)
            return [down, Flood(port, head(post("cookie", length)), piece)]
        except BlockingIOError:
            await asyncio.sleep(0.001)


async def flooding(floods: list[Flood]) -> None:
    """Until each has been cut off, held up for good, or has sent all that it wanted to."""
    idle = 0
    while idle < 50 and not all(f.over for f in floods):
        idle = 0 if sum(f.write() for f in floods) else idle + 1
        await asyncio.sleep(0 if idle == 0 else 0.002)


async def flooded(port: int, what: str) -> list[Flood]:
    """Asserts what the server holds of them at most."""
    tracemalloc.start()
    try:
        floods = await begin(port, what)
        before = tracemalloc.get_traced_memory()[0]
        await flooding(floods)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < BOUND, f"{what}: {peak} bytes"
    return floods


async def others_play(served: Served, floods: list[Flood]) -> None:
    client = await served.client()
    await client.set_up(PATH, VIDEO001)
    assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
    assert len(await client.packets(16)) == 16
    for flood in floods:
        flood.socket.close()
    await client.close()
    await until(lambda: served.server.connections == 0)


@pytest.mark.parametrize("what", [*ENDLESS, *IN_A_POST])
async def test_who_never_comes_to_an_end_holds_no_more_than_its_bound_and_nobody_else(serve: Serve, what: str) -> None:
    served = await serve({VIDEO001: worked_example()})
    await others_play(served, await flooded(served.server.port, what))


async def test_nor_does_who_does_so_in_a_web_socket(ports: Open) -> None:
    found = await ports()
    for what in IN_A_WEBSOCKET:
        await others_play(found.served, await flooded(found.http, what))
