"""The HTTP and HTTPS ports beside SOAP: tunnels and WebSockets are taken out before aiohttp sees them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nvr.http.listener import Address, Listener
from nvr.http.settings import HttpSettings, tls_context
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001
from nvr.replay.authentication import DigestAuthenticator
from nvr.replay.server import RtspSettings
from nvr.replay.websocket import PATH as SOCKET_PATH
from nvr.soap.wsdl import Contract, contract_directory
from tests.replay.conftest import PATH, Accounts, Serve, Served, worked_example
from tests.replay.test_tls import own_certificate
from tests.support.rtsp_client import RtspClient, until
from tests.support.soap_http import DEVICE, SOAP_TYPE, SimulatedClock, a_soap, envelope
from tests.support.tunnel_client import HttpLeg, get, post, tunnel, websocket

PING = envelope("<tds:GetSystemDateAndTime/>")


class Ports:
    """A served recording, and the ports at which it is to be had by HTTP."""

    def __init__(self, served: Served, http: int, https: int, trust: ssl.SSLContext) -> None:
        self.served, self.http, self.https, self.trust = served, http, https, trust

    async def ping(self) -> int:
        """A SOAP request on a connection of its own."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.http}{DEVICE}", data=PING, headers={"Content-Type": SOAP_TYPE}
            ) as response,
        ):
            return response.status


Open = Callable[..., Coroutine[Any, Any, Ports]]


@pytest.fixture
async def ports(serve: Serve, tmp_path: Path) -> AsyncIterator[Open]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            settings: HttpSettings | None = None, limits: RtspSettings | None = None, **arguments: Any
        ) -> Ports:
            served = await serve({VIDEO001: worked_example()}, settings=limits or RtspSettings(), **arguments)
            made = await asyncio.to_thread(own_certificate, tmp_path)
            listener = Listener(
                settings or HttpSettings(),
                a_soap(SimulatedClock()),
                Contract(contract_directory()),
                tls=tls_context(made.certificate, made.key),
                tunnels=served.server,
            )
            bound = await listener.start([Address("127.0.0.1", 0), Address("127.0.0.1", 0, tls=True)])
            stack.push_async_callback(listener.stop)
            trust = ssl.create_default_context(cafile=str(made.certificate))
            return Ports(served, bound[0].port, bound[1].port, trust)

        yield start


async def replayed(client: RtspClient) -> int:
    """A session from its beginning to its end; how many packets have come."""
    await client.set_up(PATH, VIDEO001)
    assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
    packets = await client.packets(16)
    assert b"".join(p.payload for p in packets).startswith(b"I0....P1P2I3....")
    assert (await client.request("TEARDOWN", PATH)).status == 200
    return len(packets)


@pytest.mark.requirement("PB-8.1-01", "PB-8.1-14", "PB-8.1-17")
async def test_the_http_tunnel_runs_on_the_http_and_the_https_port_beside_soap(ports: Open) -> None:
    found = await ports(authenticator=DigestAuthenticator(Accounts(), "nvr"))
    async with tunnel(found.http) as plain, tunnel(found.https, found.trust) as secure:
        for client in (plain, secure):
            client.credentials = "watcher", "secret"
            assert await replayed(client) == 16
        assert await found.ping() == 200
    await until(lambda: found.served.server.connections == 0)


@pytest.mark.requirement("PB-8.1-18", "PB-8.1-19", "PB-8.1-20", "PB-8.1-21")
async def test_a_websocket_carries_rtsp_on_both_ports_and_asks_for_digest_inside(ports: Open) -> None:
    found = await ports(authenticator=DigestAuthenticator(Accounts(), "nvr"))
    async with (
        websocket(f"ws://127.0.0.1:{found.http}{SOCKET_PATH}") as plain,
        websocket(f"wss://localhost:{found.https}{SOCKET_PATH}", found.trust) as secure,
    ):
        for client in (plain, secure):
            assert (await client.request("DESCRIBE", PATH)).status == 401
            client.credentials = "watcher", "secret"
            assert await replayed(client) == 16
    await until(lambda: found.served.server.connections == 0)


@pytest.mark.requirement("PB-8.1-19")
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": ""}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": "keep-alive"}, 426),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": "?"}, 400),
        ({"Sec-WebSocket-Protocol": "chat"}, 400),
        ({}, 101),
    ],
)
async def test_a_handshake_that_does_not_fit_is_refused_with_what_would(
    ports: Open, change: dict[str, str], status: int
) -> None:
    headers = {
        "Host": "x",
        "Upgrade": "WebSocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "chat, rtsp.onvif.org",
    } | change
    lines = "\n".join(f"{name}: {value}" for name, value in headers.items())
    leg = await HttpLeg.open((await ports()).http, f"GET {SOCKET_PATH} HTTP/1.1\n{lines}")
    head = (await leg.reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith(f"HTTP/1.1 {status} ")
    if status == 101:
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert "Sec-WebSocket-Protocol: rtsp.onvif.org\r\n" in head
    elif status == 426 and "Sec-WebSocket-Version" in change:
        assert "Sec-WebSocket-Version: 13\r\n" in head
    leg.close()


async def test_a_frame_that_breaks_the_rules_is_told_with_its_code_and_ends_it(ports: Open) -> None:
    found = await ports()
    head = f"GET {SOCKET_PATH} HTTP/1.1\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: rtsp.onvif.org"
    leg = await HttpLeg.open(found.http, f"{head}\n{key}")
    assert await leg.status() == 101
    leg.writer.write(b"\x89\x82\0\0\0\0hi" + b"\x82\x01x")  # a ping, and a frame that is not masked
    async with asyncio.timeout(10):
        assert await leg.reader.read() == b"\x8a\x02hi" + b"\x88\x02\x03\xea"
    leg.close()
    await until(lambda: found.served.server.connections == 0)


async def test_halves_of_different_security_do_not_join(ports: Open) -> None:
    found = await ports()
    async with tunnel(found.https, found.trust, cookie="secret"):
        leg = await HttpLeg.open(found.http, post("secret"))
        assert await leg.status() == 404
        leg.close()


async def test_a_head_that_comes_byte_by_byte_reaches_whom_it_is_for(ports: Open) -> None:
    found = await ports()
    soap = f"POST {DEVICE} HTTP/1.1\r\nHost: x\r\nContent-Type: {SOAP_TYPE}\r\nContent-Length: {len(PING)}\r\n\r\n"
    requests = (soap.encode() + PING, (get("c").replace("\n", "\r\n") + "\r\n\r\n").encode())
    for request, answer in zip(requests, (b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"), strict=True):
        reader, writer = await asyncio.open_connection("127.0.0.1", found.http)
        for at in range(len(request)):
            writer.write(request[at : at + 1])
            if at % 50 == 0:
                await writer.drain()
        assert (await reader.readline()).strip() == answer
        writer.close()


async def test_a_connection_that_never_says_what_it_wants_ends(ports: Open) -> None:
    found = await ports(HttpSettings(idle_ns=NS // 20))
    for half in (b"", b"GET /", b"POST / HTTP/1.1\r\nx-sessioncookie: 1\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", found.http)
        writer.write(half)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_a_tunnel_without_a_place_is_refused_and_soap_is_not(ports: Open) -> None:
    found = await ports(limits=RtspSettings(maximum_connections=1))
    async with tunnel_get(found.http, "a"):
        second = await HttpLeg.open(found.http, get("b"))
        assert await second.status() == 503
        second.close()
        assert await found.ping() == 200
    assert found.served.server.refused_connections == 1


@contextlib.asynccontextmanager
async def tunnel_get(port: int, cookie: str) -> AsyncIterator[HttpLeg]:
    leg = await HttpLeg.open(port, get(cookie))
    assert await leg.status() == 200
    yield leg
    leg.close()


async def test_rtsp_itself_is_not_spoken_on_an_http_port(ports: Open) -> None:
    found = await ports()
    reader, writer = await asyncio.open_connection("127.0.0.1", found.http)
    writer.write(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.")
    writer.close()


async def test_a_listener_that_stops_cuts_what_it_has_not_given_away(ports: Open, serve: Serve) -> None:
    served = await serve({VIDEO001: worked_example()})
    listener = Listener(HttpSettings(), a_soap(SimulatedClock()), Contract(contract_directory()), tunnels=served.server)
    (address,) = await listener.start([Address("127.0.0.1", 0)])
    undecided, undecided_writer = await asyncio.open_connection("127.0.0.1", address.port)
    undecided_writer.write(b"GET /")
    async with tunnel(address.port) as client:
        await listener.stop()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await undecided.read() == b""
        assert await replayed(client) == 16  # a tunnel is the RTSP server's, and ends with it
    undecided_writer.close()
