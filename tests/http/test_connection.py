"""What follows a refused request is not kept, and a refusal alone does not end the connection."""

from __future__ import annotations

import asyncio
import re
import socket

from nvr.http.connection import Connection, Connections
from tests.support.rtsp_client import until
from tests.support.soap_http import DEVICE, SOAP_TYPE, a_device, envelope

PING = envelope("<tds:GetSystemDateAndTime/>")


class Inner(asyncio.Protocol):
    def __init__(self) -> None:
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data


def test_the_rest_of_a_refused_body_is_dropped() -> None:
    inner = Inner()
    connection = Connection(inner, 10, {})
    connection.data_received(b"header")
    connection.drop_rest()
    connection.data_received(b"body")
    assert inner.got == b"header"


async def test_a_refused_request_whose_body_has_come_leaves_the_connection_open() -> None:
    async with a_device() as device:
        host, _, port = device.base.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for content_type, status in ((b"text/plain", b"415"), (SOAP_TYPE.encode(), b"200"), (b"text/plain", b"415")):
            head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (DEVICE.encode(), content_type, len(PING)) + PING)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.split()[1] == status
            length = re.search(rb"Content-Length: (\d+)", answer)
            await reader.readexactly(int(length[1]) if length else 0)
        writer.close()


async def test_a_body_that_is_too_long_is_answered_and_then_closed() -> None:
    async with a_device() as device:
        host, _, port = device.base.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {DEVICE} HTTP/1.1\r\nHost: x\r\nContent-Type: {SOAP_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode() + b"50000\r\n" + b" " * 0x50000 + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.write(b"no chunk at all" * 10_000)
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert (await device.post(PING)).status == 200


async def test_a_peer_whose_host_is_gone_is_noticed_within_half_a_minute() -> None:
    loop = asyncio.get_running_loop()
    connections: Connections = {}
    server = await loop.create_server(lambda: Connection(Inner(), 10, connections), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await until(lambda: bool(connections))
        (connection,) = connections.values()
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        idle, interval, probes = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert idle + interval * probes <= 30
        connection._transport.abort()
        writer.close()
