"""RTSP over HTTP (ONVIF Streaming, "RTP/RTSP/HTTP/TCP"; Apple's tunnelling of RTSP): two HTTP connections.

What the camera sends is the endless body of the answer to a GET, as it would stand on an RTSP connection. What we send
goes base64-encoded into the endless body of a POST. A cookie tells the camera that both belong together.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nvr.auth.client import ClientCredentials
from nvr.ingest.endpoint import Endpoint
from nvr.model.errors import CredentialsRefused, SourceError

MIME: Final = "application/x-rtsp-tunnelled"
BODY_LENGTH: Final = 32_767
"""What everybody announces for the POST. Servers read on beyond it, as the protocol has no way to say "endless"."""
MAXIMUM_HEAD: Final = 16 * 1024


def _is_status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdigit()


@dataclass(frozen=True, slots=True)
class _Head:
    """The status line and headers of an HTTP answer."""

    status: int
    reason: str
    challenges: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes, peer: Endpoint) -> _Head:
        first, *rest = data.decode("latin-1").split("\n")
        parts = first.strip().split(None, 2)
        if len(parts) < 2 or not parts[0].upper().startswith("HTTP/") or not _is_status(parts[1]):
            raise SourceError(f"{peer} does not speak HTTP on this port: it answered {first.strip()[:60]!r}")
        named = (line.partition(":") for line in rest)
        challenges = tuple(v.strip() for n, _, v in named if n.strip().lower() == "www-authenticate")
        return cls(int(parts[1]), parts[2][:80] if len(parts) > 2 else "", challenges)


class _Get(asyncio.Protocol):
    """The GET until its answer has a head; what follows that is for the RTSP connection."""

    def __init__(self, request: bytes, peer: Endpoint) -> None:
        self.head: asyncio.Future[_Head] = asyncio.get_running_loop().create_future()
        self.rest = b""
        self._request = request
        self._peer = peer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.rest += data
        for blank in (b"\r\n\r\n", b"\n\n"):
            head, found, rest = self.rest.partition(blank)
            if found:
                self.rest = rest
                if self._transport is not None:
                    self._transport.pause_reading()  # until the RTSP connection takes over
                self._settle(head)
                return
        if len(self.rest) > MAXIMUM_HEAD:
            self._fail(SourceError(f"{self._peer} answered the GET of the HTTP tunnel with an endless head"))

    def _settle(self, head: bytes) -> None:
        try:
            found = _Head.parse(head, self._peer)
        except SourceError as e:
            self._fail(e)
        else:
            if not self.head.done():
                self.head.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(SourceError(f"{self._peer} closed the connection instead of answering the GET of the HTTP tunnel"))

    def _fail(self, error: SourceError) -> None:
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # nobody may be left to ask


class _Post(asyncio.Protocol):
    """The POST. It is answered at its end, or never; only a refusal says anything."""

    def __init__(self, peer: Endpoint, on_refused: Callable[[SourceError], None]) -> None:
        self._peer = peer
        self._on_refused = on_refused
        self._answer = b""

    def data_received(self, data: bytes) -> None:
        self._answer = (self._answer + data)[:MAXIMUM_HEAD]
        line, found, _ = self._answer.partition(b"\n")
        if not found:
            return
        try:
            head = _Head.parse(line, self._peer)
        except SourceError as e:
            self._on_refused(e)
            return
        if head.status >= 400:
            self._on_refused(
                SourceError(
                    f"{self._peer} answered the POST of the HTTP tunnel with {head.status} {head.reason}".strip()
                )
            )


class Tunnel:
    """Both connections. `write` is what an RTSP connection writes to."""

    def __init__(
        self, endpoint: Endpoint, tls: ssl.SSLContext | None, on_refused: Callable[[SourceError], None]
    ) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._on_refused = on_refused
        self._cookie = secrets.token_hex(11)
        self._credentials: ClientCredentials | None = None
        if endpoint.username is not None:
            self._credentials = ClientCredentials(endpoint.username, endpoint.password)
        self._post: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiting = bytearray()
        """What is to go to the camera while a new POST is opened."""

    async def open(self) -> tuple[asyncio.Transport, bytes]:
        """The transport on which the camera sends, with reading paused, and what has come on it already.

        Raises SourceError, OSError and ssl errors of the connection.
        """
        get, transport = await self._get()
        head = get.head.result()
        if head.status == 401 and self._credentials is not None and self._credentials.challenged(head.challenges):
            transport.abort()  # many cameras close behind a refusal: begin anew
            get, transport = await self._get()
            head = get.head.result()
        if not 200 <= head.status < 300:
            transport.abort()
            raise self._refused(head)
        try:
            self._post = await self._open_post()
        except BaseException:
            transport.abort()
            raise
        return transport, get.rest

    def _refused(self, head: _Head) -> SourceError:
        if head.status == 401:
            if self._credentials is None:
                return SourceError(f"{self._endpoint} asks for a user name and password, the media URI has none")
            return CredentialsRefused(f"{self._endpoint} refuses the user name or password (401 to the HTTP tunnel)")
        answer = f"{head.status} {head.reason}".strip()
        return SourceError(f"{self._endpoint} answered the GET of the HTTP tunnel with {answer}")

    def write(self, data: bytes) -> None:
        """To the camera. A POST that has ended is followed by another."""
        encoded = base64.b64encode(data)
        if self._post is not None and not self._post.is_closing():
            self._post.write(encoded)
            return
        self._waiting += encoded
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._reopen())

    def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._post is not None:
            self._post.abort()

    async def _reopen(self) -> None:
        try:
            async with asyncio.timeout(10):  # wait_for might lose the cancellation by `close`, and the POST stay open
                self._post = await self._open_post()
        except (OSError, TimeoutError) as e:
            self._on_refused(SourceError(f"{self._endpoint} does not take another POST of the HTTP tunnel: {e}"))
            return
        self._post.write(bytes(self._waiting))
        self._waiting.clear()

    async def _get(self) -> tuple[_Get, asyncio.Transport]:
        get = _Get(self._request("GET", f"Accept: {MIME}"), self._endpoint)
        transport, _ = await self._connect(lambda: get)
        try:
            await get.head
        except BaseException:
            transport.abort()
            raise
        return get, transport

    async def _open_post(self) -> asyncio.Transport:
        post = _Post(self._endpoint, self._on_refused)
        transport, _ = await self._connect(lambda: post)
        transport.write(
            self._request(
                "POST",
                f"Content-Type: {MIME}",
                f"Content-Length: {BODY_LENGTH}",
                "Expires: Sun, 9 Jan 1972 00:00:00 GMT",  # as the description of the protocol has it
            )
        )
        return transport

    async def _connect(
        self, factory: Callable[[], asyncio.BaseProtocol]
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        endpoint = self._endpoint
        return await asyncio.get_running_loop().create_connection(factory, endpoint.host, endpoint.port, ssl=self._tls)

    def _request(self, method: str, *headers: str) -> bytes:
        path = self._endpoint.path
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._endpoint}",
            f"x-sessioncookie: {self._cookie}",
            *headers,
            "Pragma: no-cache",
            "Cache-Control: no-cache",
        ]
        if self._credentials is not None and (value := self._credentials.authorization(method, path)) is not None:
            lines.append(f"Authorization: {value}")
        return "\r\n".join((*lines, "", "")).encode()
