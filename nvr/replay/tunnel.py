"""RTSP over HTTP (Apple's scheme; IEC 62676-2-32 8.1): a GET that carries what the server sends, and one POST after the
other with what the client sends, in base64. The bodies are sans-I/O; `Tunnels` brings the halves together.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from nvr.media.rtsp.message import MessageError
from nvr.model.errors import FormatError
from nvr.model.time import NS
from nvr.net.acceptor import client_of
from nvr.replay.clock import Clock
from nvr.replay.http_head import COOKIE, HttpHead, answer, refusal
from nvr.replay.stream import RECEIVE_BYTES, SLICE_BYTES, ByteStream, Wire

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/x-rtsp-tunnelled"
ENDLESS: Final = 32_767
"""The length that clients state for a POST that goes on; from here on none is believed."""
PAIR_NS: Final = 10 * NS
"""How long a GET waits for its POST."""
CLOSE_S: Final = 1.0
COOKIE_LENGTH: Final = 256
_HEADERS: Final = ("Connection: close", "Cache-Control: no-store", "Pragma: no-cache", f"Content-Type: {CONTENT_TYPE}")
ACCEPTED: Final = answer("200 OK", *_HEADERS, version="1.0")
"""To both halves. Without a length, as HTTP/1.0 has it: it ends with the connection."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_SEGMENT: Final = re.compile(rb"[^=]*={1,2}|[^=]+")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_CHUNK_LINE: Final = 256


class PostBody:
    """Takes the body of a POST out of its framing; a length that cannot be meant is not kept to."""

    def __init__(self, head: HttpHead) -> None:
        """Raises FormatError."""
        coding = (head.headers.get("Transfer-Encoding") or "").strip().lower()
        if coding not in ("", "identity", "chunked"):
            raise FormatError(f"Transfer-Encoding {coding[:40]!r} is not understood")
        stated = (head.headers.get("Content-Length") or "").strip()
        self.done = False
        """Whether all of it has come."""
        self._chunked = coding == "chunked"
        self._buffer = bytearray()
        self._left: int | None = None
        """Bytes to come of the body, or of the present chunk; None: unknown."""
        if not self._chunked and stated.isascii() and stated.isdigit() and 0 < int(stated[:9]) < ENDLESS:
            self._left = int(stated[:9])

    def feed(self, data: bytes) -> bytes:
        """What of it belongs to the body. Raises FormatError."""
        if self.done:
            return b""
        if not self._chunked:
            if self._left is None:
                return data
            data = data[: self._left]
            self._left -= len(data)
            self.done = not self._left
            return data
        self._buffer += data
        found = bytearray()
        while not self.done:
            if self._left is None:
                if not self._next_chunk():
                    break
                continue
            part = self._buffer[: self._left]
            del self._buffer[: len(part)]
            found += part
            self._left -= len(part)
            if self._left:
                break
            self._left = None
        return bytes(found)

    def _next_chunk(self) -> bool:
        """Whether the line before the next chunk was complete."""
        while self._buffer and self._buffer[0] in b"\r\n":  # the end of the chunk before
            del self._buffer[:1]
        match = _CHUNK.match(self._buffer)
        if match is None:
            if b"\n" in self._buffer or len(self._buffer) > _CHUNK_LINE:
                raise FormatError("the body of a POST has no chunk where one is due")
            return False
        self._left = int(match[1], 16)
        del self._buffer[: match.end()]
        if not self._left:
            self.done = True
            self._buffer.clear()
        return True


class Base64Stream:
    """Decodes base64 that comes in any partition. Each message may be padded for itself."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def complete(self) -> bool:
        """Whether nothing is left of a group of four characters."""
        return not self._rest

    def feed(self, data: bytes) -> bytes:
        """Raises FormatError."""
        text = self._rest + data.translate(None, b" \t\r\n")
        whole = len(text) & ~3
        text, self._rest = text[:whole], text[whole:]
        segments = _SEGMENT.findall(text)
        try:
            if any(len(s) % 4 for s in segments):
                raise binascii.Error("padding out of its place")
            return b"".join(binascii.a2b_base64(s, strict_mode=True) for s in segments)
        except binascii.Error as e:
            raise FormatError(f"a tunnel carries what is no base64: {e}") from e


class TunnelStream:
    """The byte stream of one tunnel: reads from its POSTs, writes to its GET."""

    def __init__(self, down: Wire) -> None:
        self.peer = f"{down.peer} (HTTP tunnel)"
        self.peer_address = down.peer_address
        self.local_address = down.local_address
        self._down = down
        self._up: Wire | None = None
        self._received = bytearray()
        self._fault: MessageError | None = None
        self._at_end = False
        self._joined = asyncio.Event()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def read(self) -> bytes:
        if self._received:
            await asyncio.sleep(0)
        while not self._received and not self._at_end:
            if self._fault is not None:
                raise self._fault
            self._news.clear()
            await self._news.wait()
        data = bytes(self._received[:SLICE_BYTES])
        del self._received[:SLICE_BYTES]
        self._room.set()
        return data

    def write(self, data: bytes) -> None:
        self._down.write(data)

    async def drain(self) -> None:
        await self._down.drain()

    @property
    def buffered(self) -> int:
        return self._down.buffered

    async def close(self, deadline_s: float) -> None:
        self.end()
        await self._down.close(deadline_s)

    # -- for the halves

    async def joined(self, clock: Clock) -> bool:
        """Whether a POST has come in time; False as well where the GET has gone meanwhile."""
        waits = {asyncio.ensure_future(w) for w in (self._joined.wait(), clock.sleep(PAIR_NS))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._up is not None and not self._at_end

    async def watch_down(self) -> None:
        """Until the client gives up the GET; what it sends there means nothing."""
        try:
            while await self._down.read():
                pass
        except ConnectionError as e:
            log.debug("%s: %s", self.peer, e)
        self.end()

    def take(self, up: Wire) -> None:
        """A POST, in place of the one before."""
        if self._up is not None:
            self._up.abort()
        self._up = up
        self._joined.set()

    async def feed(self, data: bytes) -> bool:
        """Give the reader what has come; waits while it has too much. False at the end."""
        self._received += data
        self._news.set()
        while len(self._received) > RECEIVE_BYTES and not self._at_end:
            self._room.clear()
            await self._room.wait()
        return not self._at_end

    def fail(self, why: FormatError) -> None:
        """What comes behind this cannot be understood."""
        self._fault = MessageError(str(why))
        self._news.set()

    def end(self) -> None:
        self._at_end = True
        for event in (self._joined, self._news, self._room):
            event.set()
        if self._up is not None:
            self._up.abort()


class Tunnels:
    """The tunnels that are open, by what their halves have in common: cookie, client, and whether TLS protects them."""

    def __init__(self, serve: Callable[[ByteStream], Awaitable[None]], clock: Clock) -> None:
        """`serve` runs an RTSP connection on a byte stream, to its end."""
        self._serve = serve
        self._clock = clock
        self._open: dict[tuple[str, str, bool], TunnelStream] = {}

    async def down(self, head: HttpHead, wire: Wire) -> None:
        """Serve a GET to its end."""
        key = _key(head, wire)
        if key is None or key in self._open:
            await _refuse(wire, "400 Bad Request" if key is None else "409 Conflict")
            return
        stream = self._open[key] = TunnelStream(wire)
        watch = asyncio.create_task(stream.watch_down(), name=f"tunnel {wire.peer}")
        try:
            wire.write(ACCEPTED)
            if await stream.joined(self._clock):
                await self._serve(stream)
            else:
                log.debug("%s: no POST has come", stream.peer)
        finally:
            del self._open[key]
            stream.end()
            watch.cancel()
            await wire.close(CLOSE_S)

    async def up(self, head: HttpHead, wire: Wire) -> None:
        """Serve a POST to its end."""
        key = _key(head, wire)
        stream = None if key is None else self._open.get(key)
        if stream is None:
            await _refuse(wire, "400 Bad Request" if key is None else "404 Not Found")
            return
        try:
            body = PostBody(head)
        except FormatError as e:
            log.debug("%s: %s", wire.peer, e)
            await _refuse(wire, "501 Not Implemented")
            return
        if (head.headers.get("Expect") or "").lower() == "100-continue":
            wire.write(CONTINUE)
        wire.write(ACCEPTED)
        stream.take(wire)
        await self._carry(body, wire, stream)
        await wire.close(CLOSE_S)

    async def _carry(self, body: PostBody, wire: Wire, stream: TunnelStream) -> None:
        base64 = Base64Stream()
        try:
            while not body.done and (data := await wire.read()):
                text = base64.feed(body.feed(data))
                if text and not await stream.feed(text):
                    return
            if not base64.complete:
                raise FormatError("a POST ends within a group of base64 characters")
        except FormatError as e:
            stream.fail(e)
        except ConnectionError as e:
            log.debug("%s: %s", wire.peer, e)


def _key(head: HttpHead, wire: Wire) -> tuple[str, str, bool] | None:
    """None for a cookie that is none."""
    cookie = (head.headers.get(COOKIE) or "").strip()
    if not 0 < len(cookie) <= COOKIE_LENGTH:
        return None
    return cookie, client_of(wire.peer_address), wire.secure


async def _refuse(wire: Wire, status: str) -> None:
    wire.write(refusal(status))
    await wire.close(CLOSE_S)
