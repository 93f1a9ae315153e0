"""Places are counted from the accept on, shared out among clients, and come back however a connection ends."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.http.settings import tls_context
from nvr.net import acceptor as acceptor_module
from nvr.net.acceptor import Acceptor, Places, client_of
from tests.http.test_listener import certificate

REFUSAL = b"no place"
Ended = Callable[[], None]


class Greeter(asyncio.Protocol):
    """Greets, and stays until the client leaves."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


class House:
    def __init__(self, places: Places, acceptor: Acceptor, port: int) -> None:
        self.places, self.acceptor, self.port = places, acceptor, port
        self.open: list[asyncio.StreamWriter] = []

    async def connect(
        self, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if tls is None else "localhost"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname=name, local_addr=(source, 0)
        )
        self.open.append(writer)
        return reader, writer

    async def taken(self, number: int) -> None:
        async with asyncio.timeout(5):
            while self.places.taken != number:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@asynccontextmanager
async def a_house(total: int = 5, per_client: int = 5, tls: ssl.SSLContext | None = None) -> AsyncIterator[House]:
    places = Places(total, per_client)
    acceptor = Acceptor(places, Greeter, REFUSAL)
    house = House(places, acceptor, await acceptor.listen("127.0.0.1", 0, tls))
    try:
        yield house
    finally:
        await acceptor.stop()
        for writer in house.open:
            writer.transport.abort()
        await house.taken(0)


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server and of a client that trusts it."""
    cert, key = certificate(tmp_path)
    return tls_context(cert, key), ssl.create_default_context(cafile=str(cert))


async def test_clients_that_never_make_a_handshake_hold_no_more_than_the_places(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with a_house(5, tls=contexts[0]) as house:
        clients = [await house.connect() for _ in range(60)]
        await house.taken(5)
        async with asyncio.timeout(5):
            for reader, _ in clients[5:]:
                assert await reader.read() == b"", "closed before TLS"
        assert house.acceptor.refused == 55
        assert house.places.taken == 5
        for _, writer in clients[:5]:
            writer.close()
        await house.taken(0)
        assert house.acceptor.failed_handshakes == 5
        reader, _ = await house.connect(contexts[1])
        assert await reader.read(5) == b"hello"
        assert house.places.taken == 1


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_what_is_no_handshake_gives_its_place_back(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], sent: bytes
) -> None:
    async with a_house(1, tls=contexts[0]) as house:
        reader, writer = await house.connect()
        writer.write(sent)
        async with asyncio.timeout(5):
            await reader.read()
        await house.taken(0)
        assert house.acceptor.failed_handshakes == 1


async def test_a_handshake_that_takes_too_long_gives_its_place_back(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor_module, "TLS_HANDSHAKE_S", 0.05)
    async with a_house(1, tls=contexts[0]) as house:
        reader, _ = await house.connect()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        await house.taken(0)


async def test_one_client_cannot_take_all_places() -> None:
    async with a_house(4, 2) as house:
        greedy = [await house.connect() for _ in range(4)]
        async with asyncio.timeout(5):
            for reader, _ in greedy[:2]:
                assert await reader.read(5) == b"hello"
            for reader, _ in greedy[2:]:
                assert (await reader.read()).startswith(REFUSAL)
            reader, _ = await house.connect(source="127.0.0.2")
            assert await reader.read(5) == b"hello"
            greedy[0][1].close()
            await house.taken(2)
            reader, _ = await house.connect()
            assert await reader.read(5) == b"hello"


async def test_a_flood_is_logged_once_until_a_place_is_given_again(caplog: pytest.LogCaptureFixture) -> None:
    async with a_house(1) as house:
        _, first = await house.connect()
        await house.taken(1)
        for _ in range(5):
            reader, _ = await house.connect()
            await reader.read()
        assert caplog.text.count("is refused") == 1
        first.close()
        await house.taken(0)
        reader, _ = await house.connect()
        await reader.read(5)
        reader, _ = await house.connect()
        await reader.read()
        assert caplog.text.count("is refused") == 2


async def test_a_system_without_descriptors_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor_module, "RETRY_S", 0)
    loop = asyncio.get_running_loop()
    accept, faults = loop.sock_accept, [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]

    async def failing(sock: socket.socket) -> tuple[socket.socket, object]:
        if faults:
            raise faults.pop(0)
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", failing)
    async with a_house() as house:
        reader, _ = await house.connect()
        assert await reader.read(5) == b"hello"
    assert caplog.text.count("no connection can be accepted: Too many open files") == 1


async def test_stop_ends_handshakes_and_leaves_served_connections(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with a_house(5, tls=contexts[0]) as house:
        served, _ = await house.connect(contexts[1])
        assert await served.read(5) == b"hello"
        waiting, _ = await house.connect()
        await house.taken(2)
        await house.acceptor.stop()
        async with asyncio.timeout(5):
            assert await waiting.read() == b""
        assert house.places.taken == 1
        with pytest.raises(ConnectionRefusedError):
            await house.connect()


async def test_all_addresses_of_a_host_get_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_STREAM

    async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
        there = [(socket.AF_INET, kind, 6, "", (f"127.0.0.{n}", 0)) for n in (1, 2)]
        return [*there, (socket.AF_INET, kind, 6, "", ("192.0.2.1", 0)), (99, kind, 6, "", ("x", 0))]

    monkeypatch.setattr(loop, "getaddrinfo", resolved)
    acceptor = Acceptor(Places(2, 2), Greeter)
    port = await acceptor.listen("recorder.example", 0, None)
    for host in ("127.0.0.1", "127.0.0.2"):
        with socket.create_connection((host, port), 5):
            pass
    await acceptor.stop()


addresses = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])


@given(st.lists(st.tuples(st.booleans(), addresses), max_size=40))
def test_places_are_what_is_held(steps: list[tuple[bool, str]]) -> None:
    places, held = Places(4, 2), list[tuple[str, Ended]]()
    for takes, address in steps:
        if takes:
            of_client = sum(client_of(a) == client_of(address) for a, _ in held)
            give_back = places.take(address)
            assert (give_back is None) == (len(held) >= 4 or of_client >= 2)
            if give_back is not None:
                held.append((address, give_back))
        elif held:
            _, give_back = held.pop()
            give_back()
            give_back()
        assert places.taken == len(held)


def test_a_client_is_an_address_or_a_network_of_ipv6() -> None:
    assert client_of("192.0.2.1") == "192.0.2.1"
    assert client_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1") != client_of("2001:db8:0:1::1")
    assert client_of("fe80::1%eth0") == "fe80::/64"
