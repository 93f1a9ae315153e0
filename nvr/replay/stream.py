"""Byte streams that carry RTSP, and RTP interleaved in them (RFC 2326 10.12). Tunnels bring streams of their own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from nvr.media.rtsp.message import frame_header
from nvr.replay.sender import Buffer, RtpStream

RECEIVE_BYTES: Final = 64 * 1024
"""What may wait to be read; beyond it the peer is held up."""
SLICE_BYTES: Final = 8 * 1024
"""What is read at once, the head of an HTTP request at least. asyncio delivers up to 256 KiB in one piece: taken apart
in one go, they would keep every other connection waiting."""


class ByteStream(Protocol):
    """One connection. `write` never blocks; `drain` waits until the peer has taken enough of what was written."""

    peer: str
    """For the log."""
    peer_address: str
    """Literal IP address of the peer."""
    local_address: str
    """Literal IP address that the peer is connected to."""

    async def read(self) -> bytes:
        """What has come, at least one byte and at most SLICE_BYTES; empty at the end.

        Whoever reads on and on lets others run between two slices. Raises ConnectionError, MessageError.
        """

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Raises ConnectionError."""

    @property
    def buffered(self) -> int:
        """Bytes written that the peer has not taken yet."""

    async def close(self, deadline_s: float) -> None:
        """Let the peer take what was written, for so long; then cut."""


class Wire(asyncio.Protocol):
    """A TCP or TLS connection as a byte stream, bounded in both directions."""

    def __init__(
        self, write_buffer_bytes: int, ended: Callable[[], None], began: Callable[[Wire], None] = lambda _: None
    ) -> None:
        """`began` is called when the connection is there, `ended` when it is gone."""
        self.peer = self.peer_address = "unknown"
        self.local_address = "127.0.0.1"
        self.secure = False
        """Whether it is TLS."""
        self._write_buffer_bytes = write_buffer_bytes
        self._began, self._ended = began, ended
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._at_end = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._why: BaseException | None = None

    # -- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(self._write_buffer_bytes, self._write_buffer_bytes // 4)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.peer = _shown(peer)
        if isinstance(peer, tuple):
            self.peer_address = str(peer[0])
        if isinstance(local, tuple):
            self.local_address = str(local[0])
        self.secure = transport.get_extra_info("ssl_object") is not None
        self._began(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > RECEIVE_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        self._at_end = True
        self._news.set()
        return not self.secure  # what is written still goes out; TLS has no half-closed connections

    def connection_lost(self, exc: Exception | None) -> None:
        self._at_end, self._why = True, exc
        for event in (self._news, self._writable, self._gone):
            event.set()
        self._ended()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- for who reads and writes

    async def read(self) -> bytes:
        if self._received:
            await asyncio.sleep(0)  # before anything is taken: cancelled here, nothing is lost
        while not self._received and not self._at_end:
            self._news.clear()
            await self._news.wait()
        if not self._received and self._why is not None:
            raise _connection_error(self._why)
        data = bytes(self._received[:SLICE_BYTES])
        del self._received[:SLICE_BYTES]
        if self._transport is not None and not self._at_end and len(self._received) <= RECEIVE_BYTES:
            self._transport.resume_reading()
        return data

    def unread(self, data: bytes) -> None:
        """Have `read` give this first."""
        self._received[:0] = data
        self._news.set()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()
        if self._transport is None or self._transport.is_closing():
            raise _connection_error(self._why)

    @property
    def buffered(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Cut, whatever is still to be taken."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self, deadline_s: float) -> None:
        if self._transport is None:
            return
        if not self._transport.is_closing():  # closed a second time, a TLS transport of asyncio breaks
            self._transport.close()
        try:
            async with asyncio.timeout(deadline_s):
                await self._gone.wait()
        except TimeoutError:
            self._transport.abort()  # the peer does not read any more: nothing is left to save


class InterleavedTransport:
    """RTP and RTCP between the messages of an RTSP connection. The packets come framed from `RtpStream`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def send(self, packets: Sequence[Buffer]) -> None:
        self._stream.write(b"".join(packets))
        await self._stream.drain()

    async def send_report(self, stream: RtpStream, report: bytes) -> None:
        if stream.report_channel is not None:
            self._stream.write(frame_header(stream.report_channel, len(report)) + report)

    async def behind_answer(self) -> None:
        """They stand in the same stream."""

    def close(self) -> None:
        """The connection stays."""


def _connection_error(why: BaseException | None) -> ConnectionError:
    if isinstance(why, ConnectionError):
        return why
    if isinstance(why, (ssl.SSLError, OSError)):
        return ConnectionError(str(why))
    return ConnectionResetError("the connection is closed")


def _shown(peer: object) -> str:
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[0], peer[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(peer or "unknown")
