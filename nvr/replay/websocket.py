"""RTSP over WebSocket (RFC 6455; IEC 62676-2-32 8.1; ONVIF Streaming 7): handshake and frames sans-I/O, and the stream.

Nothing is asked of the frames but their framing: RTSP has its own messages, which may begin and end anywhere in them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import struct
from typing import Final

from nvr.replay.http_head import HttpHead, answer, refusal
from nvr.replay.stream import Wire

log = logging.getLogger(__name__)

PATH: Final = "/rtsp-websocket"
PROTOCOL: Final = "rtsp.onvif.org"
VERSION: Final = "13"
FRAME_BYTES: Final = 1 << 20
"""Longest frame of a client. No request is nearly as long."""
PONG_BYTES: Final = 64 * 1024
"""Pings of a client that has so much to read are not answered."""

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_LENGTH_16: Final = struct.Struct(">BBH")
_LENGTH_64: Final = struct.Struct(">BBQ")


class HandshakeRefused(Exception):
    """`answer` is the HTTP answer that says so."""

    def __init__(self, why: str, status: str, *headers: str) -> None:
        super().__init__(why)
        self.answer = refusal(status, *headers)


class WebSocketError(ConnectionError):
    """A client breaks the framing. `code` is that of the close frame (RFC 6455 7.4.1)."""

    def __init__(self, why: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(why)
        self.code = code


def accept(head: HttpHead) -> bytes:
    """The answer that opens the WebSocket (RFC 6455 4.2). Raises HandshakeRefused."""
    headers = head.headers
    if "websocket" not in _tokens(headers.get_all("Upgrade")) or "upgrade" not in _tokens(
        headers.get_all("Connection")
    ):
        raise HandshakeRefused("no WebSocket is asked for", "426 Upgrade Required", "Upgrade: websocket")
    if headers.get("Sec-WebSocket-Version") != VERSION:
        raise HandshakeRefused(
            "another version of WebSocket", "426 Upgrade Required", f"Sec-WebSocket-Version: {VERSION}"
        )
    key = headers.get("Sec-WebSocket-Key") or ""
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise HandshakeRefused("Sec-WebSocket-Key has not 16 bytes", "400 Bad Request")
    except (binascii.Error, ValueError) as e:
        raise HandshakeRefused(f"Sec-WebSocket-Key is no base64: {e}", "400 Bad Request") from e
    if PROTOCOL not in _tokens(headers.get_all("Sec-WebSocket-Protocol")):
        raise HandshakeRefused(f"the sub-protocol {PROTOCOL} is not offered", "400 Bad Request")
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return answer(
        "101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        f"Sec-WebSocket-Protocol: {PROTOCOL}",
    )


def _tokens(values: list[str]) -> set[str]:
    return {token.strip().lower() for value in values for token in value.split(",")}


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole message in one frame, not masked, as a server sends it (RFC 6455 5.2)."""
    size, first = len(payload), _FINAL | opcode
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return _LENGTH_16.pack(first, 126, size) + payload
    return _LENGTH_64.pack(first, 127, size) + payload


def close_frame(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big"))


class FrameReceiver:
    """Takes the frames of a client apart. Payload comes out as it comes in, whether its frame is complete or not."""

    def __init__(self) -> None:
        self.pings: list[bytes] = []
        """Payloads of pings not answered yet; who answers them takes them out."""
        self.closed = False
        """Whether the client has said that it ends the connection."""
        self._buffer = bytearray()
        self._left = 0
        """Bytes to come of a data frame."""
        self._mask = b""
        self._turn = 0
        self._in_message = False

    def feed(self, data: bytes) -> bytes:
        """The payload of data frames. Raises WebSocketError."""
        self._buffer += data
        found = bytearray()
        while not self.closed:
            if self._left:
                part = bytes(self._buffer[: self._left])
                if not part:
                    break
                del self._buffer[: len(part)]
                self._left -= len(part)
                found += _unmasked(part, self._mask[self._turn :] + self._mask[: self._turn])
                self._turn = (self._turn + len(part)) % 4
            elif not self._next_frame():
                break
        return bytes(found)

    def _next_frame(self) -> bool:
        """Whether the head of the next frame, and a control frame as a whole, was there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        first, second = buffer[0], buffer[1]
        opcode, size, at = first & 15, second & 0x7F, 2
        final = bool(first & _FINAL)
        if first & 0x70:
            raise WebSocketError("a frame has reserved bits set, and no extension was agreed upon")
        if not second & _MASKED:
            raise WebSocketError("a frame of a client is not masked")
        if opcode >= CLOSE:
            if opcode > PONG or not final or size > 125:
                raise WebSocketError(f"a control frame of type {opcode} is unknown, too long, or in pieces")
        elif opcode > BINARY or (opcode == CONTINUATION) != self._in_message:
            raise WebSocketError(f"a frame of type {opcode} is unknown or out of its place")
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < at + width:
                return False
            size = int.from_bytes(buffer[at : at + width], "big")
            at += width
        if size > FRAME_BYTES:
            raise WebSocketError(f"a frame of {size} bytes exceeds {FRAME_BYTES}", TOO_BIG)
        end = at + 4
        if len(buffer) < (end + size if opcode >= CLOSE else end):
            return False
        mask = bytes(buffer[at:end])
        if opcode >= CLOSE:
            payload = _unmasked(bytes(buffer[end : end + size]), mask)
            del buffer[: end + size]
            self.closed = opcode == CLOSE
            if opcode == PING:
                self.pings.append(payload)
            return True
        del buffer[:end]
        self._left, self._mask, self._turn = size, mask, 0
        self._in_message = not final
        return True


def _unmasked(data: bytes, mask: bytes) -> bytes:
    """RFC 6455 5.3, in one operation on long numbers."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class WebSocketStream:
    """A byte stream whose every `write` is a binary message."""

    def __init__(self, wire: Wire) -> None:
        self.peer = f"{wire.peer} (WebSocket)"
        self.peer_address = wire.peer_address
        self.local_address = wire.local_address
        self._wire = wire
        self._receiver = FrameReceiver()
        self._said_goodbye = False

    async def read(self) -> bytes:
        while not self._receiver.closed and (data := await self._wire.read()):
            try:
                payload = self._receiver.feed(data)
            except WebSocketError as e:
                self._answer_ping()
                self._goodbye(e.code)
                raise
            self._answer_ping()
            if payload:
                return payload
        return b""

    def write(self, data: bytes) -> None:
        if not self._said_goodbye:
            self._wire.write(frame(BINARY, data))

    async def drain(self) -> None:
        await self._wire.drain()

    @property
    def buffered(self) -> int:
        return self._wire.buffered

    async def close(self, deadline_s: float) -> None:
        self._goodbye(NORMAL)
        await self._wire.close(deadline_s)

    def _answer_ping(self) -> None:
        """The last one will do (RFC 6455 5.5.3)."""
        if self._receiver.pings and self._wire.buffered < PONG_BYTES and not self._said_goodbye:
            self._wire.write(frame(PONG, self._receiver.pings[-1]))
        self._receiver.pings.clear()

    def _goodbye(self, code: int) -> None:
        if not self._said_goodbye:
            self._said_goodbye = True
            self._wire.write(close_frame(code))
