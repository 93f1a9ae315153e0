"""RTSP clients inside an HTTP tunnel, by hand, and inside a WebSocket, by aiohttp's client."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from tests.support.rtsp_client import TIMEOUT_S, RtspClient

TYPE = "application/x-rtsp-tunnelled"


class HttpLeg:
    """One connection with one HTTP request on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""
        """Of the last answer."""

    @classmethod
    async def open(cls, port: int, head: str, tls: ssl.SSLContext | None = None) -> HttpLeg:
        name = None if tls is None else "localhost"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        return cls(reader, writer)

    async def status(self) -> int:
        """Of the answer, whose head is read to its end."""
        async with asyncio.timeout(TIMEOUT_S):
            self.head = await self.reader.readuntil(b"\r\n\r\n")
        return int(self.head.split()[1])

    async def at_end(self) -> bool:
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read() == b""
        return True

    def close(self) -> None:
        self.writer.close()


def get(cookie: str, path: str = "/replay/rec-1") -> str:
    return f"GET {path} HTTP/1.0\nx-sessioncookie: {cookie}\nAccept: {TYPE}\nPragma: no-cache"


def post(cookie: str, length: str = "Content-Length: 32767", path: str = "/replay/rec-1") -> str:
    head = f"POST {path} HTTP/1.0\nx-sessioncookie: {cookie}\nContent-Type: {TYPE}"
    return f"{head}\n{length}" if length else head


class EncodingWriter:
    """Stands for the writer of an RTSP client: everything goes through `encode` into the POST."""

    def __init__(self, writer: asyncio.StreamWriter, encode: Callable[[bytes], bytes], down: HttpLeg) -> None:
        self._writer = writer
        self._encode = encode
        self._down = down
        self.transport = writer.transport

    def write(self, data: bytes) -> None:
        self._writer.write(self._encode(data))

    def close(self) -> None:
        self._writer.close()
        self._down.close()

    async def wait_closed(self) -> None:
        await self._writer.wait_closed()


@asynccontextmanager
async def tunnel(
    port: int,
    tls: ssl.SSLContext | None = None,
    *,
    cookie: str = "cookie",
    length: str = "Content-Length: 32767",
    encode: Callable[[bytes], bytes] = base64.b64encode,
) -> AsyncIterator[RtspClient]:
    down = await HttpLeg.open(port, get(cookie), tls)
    assert await down.status() == 200
    assert f"\r\ncontent-type: {TYPE}\r\n".encode() in down.head.lower()
    up = await HttpLeg.open(port, post(cookie, length), tls)
    assert await up.status() == 200
    writer = EncodingWriter(up.writer, encode, down)
    client = RtspClient(down.reader, writer, f"rtsp://127.0.0.1:{port}")  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()


class SocketWriter:
    """Stands for the writer of an RTSP client: everything becomes a binary message, in order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.create_task(self._pump())

    def write(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    async def _pump(self) -> None:
        while True:
            await self._socket.send_bytes(await self._queue.get())

    def close(self) -> None:
        self.task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.wait({self.task})


@asynccontextmanager
async def websocket(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[RtspClient]:
    """`url`: ws:// or wss://."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("rtsp.onvif.org",), ssl=True if tls is None else tls) as socket,
    ):
        assert socket.protocol == "rtsp.onvif.org"
        reader = asyncio.StreamReader()

        async def pump() -> None:
            async for message in socket:
                assert message.type is aiohttp.WSMsgType.BINARY
                reader.feed_data(message.data)
            reader.feed_eof()

        task = asyncio.create_task(pump())
        client = RtspClient(reader, SocketWriter(socket), "rtsp://127.0.0.1")  # type: ignore[arg-type]
        try:
            yield client
        finally:
            await client.close()
            await socket.close()
            await task
