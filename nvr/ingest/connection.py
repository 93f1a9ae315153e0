"""The RTSP connection to a camera: aiortsp's, with our own framing, credentials and data path.

The only file that imports aiortsp. What it gives: the connection, requests and their answers by CSeq with a time-out,
the retry behind a 401, interleaved sending. What is replaced, because it is not fit for cameras as they are: its parser
(splits, missing reason phrases, Latin-1), its credentials (Digest without qop, Basic preferred), its logging (which
shows Authorization headers), its reader and queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiortsp.rtsp.connection import RTSPConnection
from aiortsp.rtsp.errors import RTSPConnectionError, RTSPResponseError, RTSPTimeoutError

from nvr import __version__
from nvr.auth.client import ClientCredentials
from nvr.ingest.endpoint import Endpoint
from nvr.ingest.interleaved import InterleavedParser
from nvr.ingest.stream import StreamReceiver
from nvr.ingest.trust import Trust, fingerprint_of, shown
from nvr.ingest.tunnel import Tunnel
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Message, Request, Response, frame_header
from nvr.model.errors import SourceError
from nvr.model.time import NS

logger = logging.getLogger(__name__)

CHUNK = 256 * 1024
"""Bytes taken from a socket at once: about 190 packets, well below a millisecond of parsing."""
USER_AGENT = f"nvr/{__version__}"
Address = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class _Answer:
    """A response in the shape that aiortsp's request and error code reads."""

    message: Response

    @property
    def status(self) -> int:
        return self.message.status

    @property
    def status_msg(self) -> str:
        return self.message.reason

    @property
    def headers(self) -> Headers:
        return self.message.headers

    @property
    def content(self) -> str:
        return ""  # bodies of error answers are not quoted: they are the camera's words, of any size


class CameraConnection(RTSPConnection):  # type: ignore[misc]
    """One TCP or TLS connection, or an HTTP tunnel. Errors are SourceError and name the peer."""

    def __init__(
        self, endpoint: Endpoint, on_rtcp: Callable[[StreamReceiver, bytes], None], trust: Trust | None = None
    ) -> None:
        super().__init__(endpoint.host, endpoint.port, logger=logger, ssl=None if trust is None else trust.context)
        self.endpoint = endpoint
        self._trust = trust
        self._tunnel: Tunnel | None = None
        self.on_rtcp = on_rtcp
        self.parser = InterleavedParser(self._on_message, on_rtcp)
        self.on_lost: Callable[[SourceError], None] = lambda error: None
        """Called once when the connection ends, whoever ended it."""
        self.on_data: Callable[[], None] = lambda: None
        """Called when bytes that came by themselves (not by `drain`) have been parsed."""
        self.bytes_received = 0
        self.stray_answers = 0
        """Answers whose CSeq belongs to no request that waits."""
        self._last_stray: int | None = None
        self._fd = -1
        self._tail = b""
        self._lost = False
        self._auth = _Credentials(endpoint) if endpoint.username is not None else None
        # aiortsp leaves the outcome in a future that nobody may ever ask.
        self.result.add_done_callback(lambda f: f.cancelled() or f.exception())

    # -- connection --------------------------------------------------------------------------------------------------

    async def open(self, timeout_ns: int) -> None:
        """Connect, and for rtsps shake hands. Raises SourceError."""
        self.default_timeout = timeout_ns / NS
        try:
            await self.prepare()
        except RTSPConnectionError as e:
            cause = e.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError) and self._trust is not None:
                await self._open_by_fingerprint(self._trust, cause)
            elif isinstance(cause, TimeoutError):
                raise SourceError(f"{self.endpoint} did not accept a connection within {timeout_ns // NS} s") from e
            else:
                raise SourceError(f"cannot connect to {self.endpoint}: {_reason(cause)}") from e
        except ValueError as e:
            raise SourceError(f"cannot connect to {self.endpoint}: {e}") from e

    async def _open_by_fingerprint(self, trust: Trust, why: ssl.SSLCertVerificationError) -> None:
        """The certificate could not be verified: it may be one that the operator has named. Nothing but the handshake
        is exchanged before that is known."""
        try:
            async with asyncio.timeout(self.default_timeout):
                _, writer = await asyncio.open_connection(self.host, self.port, ssl=trust.unverified)
        except (OSError, TimeoutError) as e:
            raise SourceError(f"cannot connect to {self.endpoint}: {_reason(e)}") from e
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
        finally:
            writer.transport.abort()
        found = fingerprint_of(certificate)
        if found not in trust.fingerprints:
            raise SourceError(
                f"cannot connect to {self.endpoint}: {_reason(why)}; if it is the camera's, trust it with "
                f'tls_fingerprints = ["{shown(found)}"]'
            ) from why
        self.ssl = trust.pinned(certificate)
        try:
            await self.prepare()
        except RTSPConnectionError as e:
            raise SourceError(f"cannot connect to {self.endpoint}: {_reason(e.__cause__)}") from e

    async def prepare(self) -> None:
        """As in aiortsp, or through an HTTP tunnel. Raises RTSPConnectionError."""
        if not self.endpoint.tunnel:
            await super().prepare()
            return
        tunnel = Tunnel(self.endpoint, self.ssl, self._fail)
        try:
            async with asyncio.timeout(self.default_timeout):
                transport, rest = await tunnel.open()
        except (TimeoutError, OSError) as e:
            tunnel.close()
            raise RTSPConnectionError(f"no tunnel to {self.endpoint}") from e
        except BaseException:
            tunnel.close()
            raise
        self._tunnel = tunnel
        transport.set_protocol(self)
        self.connection_made(transport)
        if rest:
            self.data_received(rest)
        if self._transport is not None:
            transport.resume_reading()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._fd = -1
        if self._tunnel is not None:
            self._tunnel.close()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio.Protocol."""
        self._fd = -1
        self._transport = None
        if self._tunnel is not None:
            self._tunnel.close()
        reason = f"broke the connection: {_reason(exc)}" if exc is not None else "closed the connection"
        self._ended(SourceError(f"{self.endpoint} {reason}"))

    def _ended(self, error: SourceError) -> None:
        if self._lost:
            return
        self._lost = True
        if not self.result.done():
            self.result.set_result("ok")
        for waiting in list(self.active_requests.values()):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()
        self.on_lost(error)

    # -- bytes in ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol: the handshake, and everything on TLS."""
        buffer = self._tail + data if self._tail else data
        self.bytes_received += len(data)
        try:
            used = self.parser.parse(memoryview(buffer), len(buffer))
        except SourceError as e:
            self._fail(e)
            return
        self._tail = buffer[used:]
        self.on_data()

    def eof_received(self) -> bool | None:
        """asyncio.Protocol: no half-closed connections."""
        return False

    def take_over(self, receive_buffer: int | None) -> bool:
        """From now on bytes are fetched by `drain`, not on every wake-up. False on TLS, where that cannot be."""
        transport = self._transport
        if transport is None or self.ssl is not None:
            return False
        sock = transport.get_extra_info("socket")
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        transport.pause_reading()
        self._fd = sock.fileno()
        return True

    def drain(self, buffer: memoryview) -> bool:
        """Fetch what has come, at most CHUNK bytes, and parse it. True: there may be more. Raises SourceError.

        `buffer` is shared by all connections and free again when this returns.
        """
        if self._fd < 0:
            return False
        held = len(self._tail)
        buffer[:held] = self._tail
        try:
            got = os.readv(self._fd, [buffer[held : held + CHUNK]])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as e:
            raise SourceError(f"{self.endpoint} broke the connection: {_reason(e)}") from e
        if got == 0:
            raise SourceError(f"{self.endpoint} closed the connection")
        self.bytes_received += got
        end = held + got
        used = self.parser.parse(buffer, end)
        self._tail = bytes(buffer[used:end])
        return got == CHUNK

    def _fail(self, error: SourceError) -> None:
        self._ended(error)
        self.abort()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Request):
            self._answer(message)
            return
        cseq = message.cseq
        if cseq is None and len(self.active_requests) == 1:
            cseq = next(iter(self.active_requests))  # left out, and only one request can be meant
        waiting = self.active_requests.get(cseq)
        if waiting is None or waiting.done():
            self.stray_answers += 1
            self._last_stray = cseq
            return
        if message.status >= 200:  # 1xx only says that the answer will take time
            waiting.set_result(_Answer(message))

    def _answer(self, request: Request) -> None:
        """Requests from the camera: keep-alives are answered, the rest is refused (RFC 2326 10.1, 11.3.14)."""
        status = 200 if request.method in ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER") else 551
        headers = Headers()
        if (cseq := request.headers.get("CSeq")) is not None:
            headers.add("CSeq", cseq)
        if (session := request.headers.get("Session")) is not None:
            headers.add("Session", session)
        self._write(bytes(Response(status, headers)))

    async def request(
        self, method: str, uri: str, headers: dict[str, str] | None = None, *, timeout_ns: int
    ) -> Response:
        """One request and its answer, whatever its status; a 401 has then been tried with our credentials.

        Raises SourceError when no answer comes.
        """
        if self._transport is None:
            raise SourceError(f"{self.endpoint} closed the connection")
        strays = self.stray_answers
        try:
            answer: _Answer = await self.send_request(method, uri, dict(headers or {}), timeout=timeout_ns / NS)
        except RTSPResponseError as e:
            return _message_of(e)
        except RTSPTimeoutError as e:
            hint = ""
            if self.stray_answers > strays:
                hint = f"; it answered with CSeq {self._last_stray}, which was not asked"
            raise SourceError(f"{self.endpoint} did not answer {method} within {timeout_ns / NS:g} s{hint}") from e
        return answer.message

    def send_message(self, msg: str, cseq: int, headers: dict[str, str], body: bytes | None = None) -> None:
        """As in aiortsp, without its log line, which shows credentials."""
        if self._transport is None:
            raise SourceError(f"{self.endpoint} closed the connection")
        lines = [msg, f"CSeq: {cseq}", *(f"{k}: {v}" for k, v in headers.items()), f"User-Agent: {USER_AGENT}"]
        self._write("\r\n".join((*lines, "", "")).encode() + (body or b""))

    def send_frame(self, channel: int, data: bytes) -> None:
        """An interleaved packet to the camera; dropped silently where the connection is already gone."""
        self._write(frame_header(channel, len(data)) + data)

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._tunnel is not None:
            self._tunnel.write(data)
        else:
            self._transport.write(data)

    @property
    def addresses(self) -> tuple[Address, Address]:
        """Our own and the camera's, as sockets have them. Raises SourceError behind the end of the connection."""
        transport = self._transport
        if transport is None:
            raise SourceError(f"{self.endpoint} closed the connection")
        return transport.get_extra_info("sockname"), transport.get_extra_info("peername")

    def handle_401(self, resp: _Answer) -> bool:
        """Whether the request is to be sent again with credentials."""
        return self._auth is not None and self._auth.client.challenged(resp.headers.get_all("WWW-Authenticate"))

    def handle_ok(self, resp: _Answer) -> None:
        """The credentials were good enough: a later 401 means a new nonce, not a wrong password."""
        if self._auth is not None:
            self._auth.client.accepted()


class _Credentials:
    """What aiortsp calls an Auth: it adds the Authorization header to every request."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.client = ClientCredentials(endpoint.username or "", endpoint.password)

    def make_auth(self, method: str, url: str, headers: dict[str, str]) -> None:
        """Called by aiortsp for every request, also the repeated one."""
        value = self.client.authorization(method, url)
        if value is None:
            headers.pop("Authorization", None)
        else:
            headers["Authorization"] = value


def _message_of(error: Any) -> Response:
    answer: _Answer = error.response
    return answer.message


def _reason(cause: BaseException | None) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE"):
        return "it does not speak TLS on this port"
    if isinstance(cause, OSError) and cause.strerror:
        # asyncio says "Connect call failed (address)" for whatever the system has said.
        if cause.errno is not None and cause.strerror.startswith("Connect call failed"):
            return os.strerror(cause.errno)
        return cause.strerror
    return str(cause) or type(cause).__name__
