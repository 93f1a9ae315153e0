"""Byte streams that carry RTSP, and RTP interleaved in them (RFC 2326 10.12). Tunnels bring streams of their own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final, Protocol

from nvr.media.rtsp.message import frame_header
from nvr.replay.sender import Buffer, RtpStream

READ_BYTES: Final = 16 * 1024


class ByteStream(Protocol):
    """One connection. `write` never blocks; `drain` waits until the peer has taken enough of what was written."""

    peer: str
    """For the log."""
    peer_address: str
    """Literal IP address of the peer."""
    local_address: str
    """Literal IP address that the peer is connected to."""

    async def read(self) -> bytes:
        """What has come, at least one byte; empty at the end. Raises ConnectionError."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Raises ConnectionError."""

    @property
    def buffered(self) -> int:
        """Bytes written that the peer has not taken yet."""

    async def close(self, deadline_s: float) -> None:
        """Let the peer take what was written, for so long; then cut."""


class TcpStream:
    """RTSP over TCP or TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, write_buffer_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(write_buffer_bytes, write_buffer_bytes // 4)
        peer = writer.get_extra_info("peername")
        self.peer = _shown(peer)
        self.peer_address = str(peer[0]) if isinstance(peer, tuple) else "unknown"
        local = writer.get_extra_info("sockname")
        self.local_address = str(local[0]) if local else "127.0.0.1"

    async def read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except (ssl.SSLError, TimeoutError) as e:
            raise ConnectionError(str(e)) from e

    def write(self, data: bytes) -> None:
        if not self._writer.transport.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    @property
    def buffered(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Cut, whatever is still to be taken."""
        self._writer.transport.abort()

    async def close(self, deadline_s: float) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(deadline_s):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError, ssl.SSLError):
            self._writer.transport.abort()  # the peer does not read any more, or is gone: nothing is left to save


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


def _shown(peer: object) -> str:
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[0], peer[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(peer or "unknown")
