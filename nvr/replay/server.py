"""The RTSP server: a listener, its connections, and their end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nvr.media.codecs import packetizer_for
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Response
from nvr.model.errors import OperatorError
from nvr.model.time import NS
from nvr.replay.authentication import Authenticator
from nvr.replay.clock import Clock, SystemClock
from nvr.replay.connection import Connection
from nvr.replay.methods import Surroundings
from nvr.replay.mounts import Mounts
from nvr.replay.sender import Origin, PacketizerFactory
from nvr.replay.stream import TcpStream

log = logging.getLogger(__name__)

STOP_S: Final = 3.0
"""Deadline of `stop`. Connections get one second of it to take their last answer."""
CLOSE_S: Final = 1.0
"""How long `stop` waits behind that for listeners to be told the end of their connections."""
TLS_HANDSHAKE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class RtspSettings:
    """Limits and times of the RTSP server."""

    session_timeout_ns: int = 60 * NS
    """Whole seconds. Stated in Session headers; a silent client's sessions end after it (RFC 2326 12.37)."""
    maximum_connections: int = 512
    maximum_sessions: int = 16
    """RTSP sessions per connection."""
    write_buffer_bytes: int = 256 * 1024
    """What waits in memory for one client to take it."""
    maximum_payload: int = 1400
    """Bytes of payload of an RTP packet."""

    def __post_init__(self) -> None:
        if self.session_timeout_ns < NS or self.session_timeout_ns % NS:
            raise ValueError("session_timeout must be a whole number of seconds, and at least one")
        if self.maximum_connections < 1 or self.maximum_sessions < 1:
            raise ValueError("maximum_connections and maximum_sessions must be at least 1")
        if not 256 <= self.maximum_payload <= 65_000:
            raise ValueError("maximum_payload must lie between 256 and 65000 bytes")
        if self.write_buffer_bytes < 64 * 1024:
            raise ValueError("write_buffer must be at least 64KiB")


class RtspServer:
    """Serves mounts over RTSP. Without an authenticator everybody may watch: that is for cameras of a demonstration."""

    def __init__(
        self,
        mounts: Mounts,
        authenticator: Authenticator | None = None,
        settings: RtspSettings = RtspSettings(),
        *,
        packetizers: PacketizerFactory | None = None,
        clock: Clock | None = None,
        origin: Callable[[], Origin] = Origin.random,
    ) -> None:
        self.mounts = mounts
        self.refused_connections = 0
        """Connections turned away because there were too many."""
        self._settings = settings
        self._surroundings = Surroundings(
            mounts,
            authenticator,
            packetizers or _packetizers(settings.maximum_payload),
            clock or SystemClock(),
            settings.session_timeout_ns,
            settings.maximum_sessions,
            origin,
        )
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.Task[None], TcpStream] = {}

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def port(self) -> int:
        """The TCP port that was listened on first; where `start` was given 0, the one that was free."""
        return _port(self._servers[0])

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, with `tls` for RTSPS; may be called for several addresses. The answer is the port.

        Raises OperatorError when the address cannot be used.
        """
        handshake_s = None if tls is None else TLS_HANDSHAKE_S
        try:
            server = await asyncio.start_server(
                self._on_connection, host, port, ssl=tls, ssl_handshake_timeout=handshake_s
            )
        except OSError as e:
            name, setting = ("RTSP", "--rtsp") if tls is None else ("RTSPS", "listen.rtsps")
            raise OperatorError(
                f"{name} cannot listen on {host}:{port}: {e.strerror or e}; choose another {setting}"
            ) from e
        self._servers.append(server)
        return _port(server)

    async def stop(self) -> None:
        """Take no more connections, end those there are, and stop reading footage."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=STOP_S)
            if late:
                log.error("%d RTSP connections do not end and are cut off", len(late))
            for task in late:
                self._connections[task].abort()
        await asyncio.sleep(0)  # transports tell their loss in the next turn of the loop
        servers, self._servers = self._servers, []
        # From CPython 3.12 on it waits for open connections, those included that are still at their TLS handshake.
        closing = [asyncio.ensure_future(server.wait_closed()) for server in servers]
        if closing:
            _, waiting = await asyncio.wait(closing, timeout=CLOSE_S)
            for task in waiting:
                task.cancel()
        self.mounts.close()

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine, so that no connection can come into being unseen while the server stops."""
        if not any(server.is_serving() for server in self._servers):
            writer.transport.abort()
            return
        stream = TcpStream(reader, writer, self._settings.write_buffer_bytes)
        if len(self._connections) < self._settings.maximum_connections:
            work = Connection(stream, self._surroundings, self._settings.write_buffer_bytes).run()
        else:
            work = self._turn_away(stream)
        task = asyncio.create_task(work, name=f"rtsp {stream.peer}")
        self._connections[task] = stream
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).abort()  # no-op unless the task was cancelled before it began

    async def _turn_away(self, stream: TcpStream) -> None:
        self.refused_connections += 1
        if self.refused_connections.bit_count() == 1:
            log.warning("%s: turned away, %d connections are open", stream.peer, len(self._connections) - 1)
        stream.write(bytes(Response(503, Headers())))
        await stream.close(1.0)


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def _packetizers(maximum_payload: int) -> PacketizerFactory:
    return lambda configuration: packetizer_for(configuration, maximum_payload)
