"""The web server of a camera, behind which its RTSP server stands: RTSP over HTTP, with the faults of a script."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from dataclasses import dataclass, field
from types import TracebackType

MIME = "application/x-rtsp-tunnelled"


@dataclass
class TunnelGate:
    """GET and POST of one cookie make one connection to `port` on loopback."""

    port: int
    """Of the RTSP server."""
    tls: ssl.SSLContext | None = None
    authorization: str | None = None
    """What the Authorization header must be; anything else is answered with 401 and a Basic challenge."""
    get_answer: bytes = f"HTTP/1.0 200 OK\r\nContent-Type: {MIME}\r\n\r\n".encode()
    post_answer: bytes = b""
    close_posts_behind: int | None = None
    """Requests behind which a POST is closed, as some servers do with each."""
    heads: list[str] = field(default_factory=list)
    """Of every HTTP request, in order."""
    host: str = "127.0.0.1"

    async def __aenter__(self) -> TunnelGate:
        self._gets: dict[str, asyncio.StreamWriter] = {}
        self._backs: dict[str, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self.tls)
        self.own_port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def uri(self, scheme: str = "http") -> str:
        return f"{scheme}://{self.host}:{self.own_port}/stream?profile=1"

    def methods(self) -> list[str]:
        return [head.split(" ", 1)[0] for head in self.heads]

    def hang_up(self) -> None:
        for writer in self._gets.values():
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in head.split("\r\n"))
            }
            if self.authorization is not None and headers.get("authorization") != self.authorization:
                writer.write(b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n')
                return
            cookie = headers["x-sessioncookie"]
            if head.startswith("GET"):
                await self._get(cookie, writer)
            else:
                await self._post(cookie, reader, writer)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError, KeyError):
            pass  # the test has ended, or what it tests has hung up
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _get(self, cookie: str, writer: asyncio.StreamWriter) -> None:
        writer.write(self.get_answer)
        if b" 200" not in self.get_answer.split(b"\n")[0]:
            return
        reader, self._backs[cookie] = await asyncio.open_connection(self.host, self.port)
        self._gets[cookie] = writer
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        finally:
            self._backs[cookie].close()

    async def _post(self, cookie: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.post_answer)
        pending, requests = b"", 0
        while data := await reader.read(65_536):
            pending += data
            whole = len(pending) - len(pending) % 4
            try:
                text = _decoded(pending[:whole])
            except binascii.Error:
                continue
            pending = pending[whole:]
            self._backs[cookie].write(text)
            requests += text.count(b"RTSP/1.0\r\n")
            if self.close_posts_behind is not None and requests >= self.close_posts_behind:
                return


def _decoded(data: bytes) -> bytes:
    """Each message is encoded by itself: padding can stand anywhere between groups of four."""
    return b"".join(base64.b64decode(data[i : i + 4], validate=True) for i in range(0, len(data), 4))
