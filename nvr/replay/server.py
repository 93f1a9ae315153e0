"""The RTSP server: its listeners, its connections, and their end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Final

from nvr.media.codecs import packetizer_for
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Response
from nvr.model.errors import OperatorError
from nvr.model.time import NS
from nvr.net.acceptor import Acceptor, Places
from nvr.replay.authentication import Authenticator
from nvr.replay.clock import Clock, SystemClock
from nvr.replay.connection import CLOSE_S, Connection
from nvr.replay.front import Front
from nvr.replay.http_head import Opening, refusal
from nvr.replay.live import BUDGET_BYTES
from nvr.replay.methods import Surroundings
from nvr.replay.mounts import Mounts
from nvr.replay.sender import Origin, PacketizerFactory
from nvr.replay.stream import ByteStream, Wire
from nvr.replay.transports import Datagrams
from nvr.replay.udp import UdpPorts

log = logging.getLogger(__name__)

STOP_S: Final = 3.0
"""Deadline of `stop`. Connections get one second of it to take their last answer."""
REFUSAL: Final = bytes(Response(503, Headers()))
"""To a client for whom there is no place."""


@dataclass(frozen=True, slots=True)
class RtspSettings:
    """Limits and times of the RTSP server."""

    session_timeout_ns: int = 60 * NS
    """Whole seconds. Stated in Session headers; a silent client's sessions end after it (RFC 2326 12.37)."""
    maximum_connections: int = 512
    """Open at once over all addresses, TLS handshakes and tunnels included."""
    maximum_connections_per_client: int = 256
    """How many of them one IPv4 address, or one IPv6 network of 64 bits, may hold."""
    maximum_sessions: int = 16
    """RTSP sessions per connection."""
    write_buffer_bytes: int = 256 * 1024
    """What waits in memory for one client to take it."""
    live_buffer_bytes: int = BUDGET_BYTES
    """What waits in memory for all viewers of live streams together; the slowest loses first."""
    maximum_payload: int = 1400
    """Bytes of payload of an RTP packet. Beyond some 1400 the network cuts datagrams into pieces."""
    maximum_udp_streams: int = 256
    """Each takes two ports of the host."""
    udp_ports: tuple[int, ...] = ()
    """The first and the last port for UDP; empty: the system chooses."""
    udp_rate_bytes: int = 12_500_000
    """Per second. No RTSP session is sent more by UDP, so that receivers can follow (IEC 62676-2-32 8.5.3)."""

    def __post_init__(self) -> None:
        if self.session_timeout_ns < NS or self.session_timeout_ns % NS:
            raise ValueError("session_timeout must be a whole number of seconds, and at least one")
        for name in ("connections", "connections_per_client", "sessions"):
            if getattr(self, f"maximum_{name}") < 1:
                raise ValueError(f"maximum_{name} must be at least 1")
        if not 256 <= self.maximum_payload <= 65_000:
            raise ValueError("maximum_payload must lie between 256 and 65000 bytes")
        if self.write_buffer_bytes < 64 * 1024:
            raise ValueError("write_buffer must be at least 64KiB")
        if self.live_buffer_bytes < 1 << 20:
            raise ValueError("live_buffer must be at least 1MiB")
        if self.maximum_udp_streams < 0 or self.udp_rate_bytes < 100_000:
            raise ValueError("maximum_udp_streams must not be below 0, and udp_rate must be at least 100kB")
        if self.udp_ports and not (len(self.udp_ports) == 2 and 1024 <= self.udp_ports[0] < self.udp_ports[1] < 65536):
            raise ValueError("udp_ports must be the first and the last of a range between 1024 and 65535")
        if self.udp_ports and self.udp_ports[0] + self.udp_ports[0] % 2 >= self.udp_ports[1]:
            raise ValueError("udp_ports must be a range that holds an even port and the next")


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
        replay_timeout_ns: Callable[[], int] | None = None,
    ) -> None:
        """`replay_timeout_ns`: what sessions of replay get that are set up now; without it that of the settings."""
        self.mounts = mounts
        self.refused_requests = 0
        """Answered with an error, the 401 aside that begins every login."""
        self._settings = settings
        self._surroundings = Surroundings(
            mounts,
            authenticator,
            packetizers or _packetizers(settings.maximum_payload),
            clock or SystemClock(),
            settings.session_timeout_ns,
            replay_timeout_ns or (lambda: settings.session_timeout_ns),
            settings.maximum_sessions,
            origin,
            self._count_refusal,
        )
        self._datagrams = Datagrams(UdpPorts(settings.maximum_udp_streams, settings.udp_ports), settings.udp_rate_bytes)
        self._places = Places(settings.maximum_connections, settings.maximum_connections_per_client)
        self._acceptor = Acceptor(self._places, self._wire, REFUSAL)
        self._front = Front(self._rtsp, self._surroundings.clock, settings.session_timeout_ns)
        self._turned_away = 0
        self._ports: list[int] = []
        self._connections: dict[asyncio.Task[None], Wire] = {}
        self._open: set[Connection] = set()

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def refused_connections(self) -> int:
        """Connections turned away because there were too many, in all or of one client."""
        return self._acceptor.refused + self._turned_away

    @property
    def failed_handshakes(self) -> int:
        """TLS connections that never came about."""
        return self._acceptor.failed_handshakes

    @property
    def udp_streams(self) -> int:
        """Streams that are set up for UDP now."""
        return self._datagrams.ports.taken

    @property
    def udp_ports(self) -> UdpPorts:
        """What streams by UDP share."""
        return self._datagrams.ports

    @property
    def port(self) -> int:
        """The TCP port that was listened on first; where `start` was given 0, the one that was free."""
        return self._ports[0]

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, with `tls` for RTSPS; may be called for several addresses. The answer is the port.

        Raises OperatorError when the address cannot be used.
        """
        try:
            port = await self._acceptor.listen(host, port, tls)
        except OSError as e:
            name, setting = ("RTSP", "--rtsp") if tls is None else ("RTSPS", "listen.rtsps")
            raise OperatorError(
                f"{name} cannot listen on {host}:{port}: {e.strerror or e}; choose another {setting}"
            ) from e
        self._ports.append(port)
        return port

    async def stop(self) -> None:
        """Take no more connections, end those there are, and stop reading footage."""
        await self._acceptor.stop()
        for task in self._connections:
            task.cancel()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=STOP_S)
            if late:
                log.error("%d RTSP connections do not end and are cut off", len(late))
            for task in late:
                self._connections[task].abort()
        await asyncio.sleep(0)  # transports tell their loss in the next turn of the loop
        self.mounts.close()

    def _wire(self, ended: Callable[[], None]) -> Wire:
        return Wire(self._settings.write_buffer_bytes, ended, self._begin)

    def _begin(self, wire: Wire) -> None:
        """Not a coroutine, so that no connection can come into being unseen while the server stops."""
        self._run(wire, self._serve(wire))

    def _run(self, wire: Wire, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work, name=f"rtsp {wire.peer}")
        self._connections[task] = wire
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).abort()  # no-op unless the task was cancelled before it began

    async def _serve(self, wire: Wire) -> None:
        found = await self._front.look(wire)
        if found is Opening.UNKNOWN:
            log.debug("%s: has not said what it wants, the connection ends", wire.peer)
        elif found is Opening.OTHER:
            # Who has asked for TLS is not sent media in clear text beside it.
            await self._rtsp(wire, None if wire.secure else self._datagrams)
        else:
            await self._front.tunnel(wire)

    async def _rtsp(self, stream: ByteStream, datagrams: Datagrams | None = None) -> None:
        connection = Connection(stream, self._surroundings, self._settings.write_buffer_bytes, datagrams)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.remove(connection)

    def end_of(self, users: Collection[str]) -> None:
        """Ends every connection on which one of these users has logged in: the account is gone, or another."""
        for connection in self._open:
            connection.end_of(users)

    def _count_refusal(self) -> None:
        self.refused_requests += 1

    # -- what comes in by the HTTP ports

    def opens_tunnel(self, data: bytes | bytearray) -> bool | None:
        """Whether a connection that begins with `data` opens a tunnel or a WebSocket. None: more bytes are needed."""
        return self._front.opens_tunnel(data)

    def adopt(self, transport: asyncio.Transport, data: bytes, ended: Callable[[], None]) -> None:
        """Serve a connection of another listener, which has begun with `data`, to its end, and call `ended` then."""
        peer = transport.get_extra_info("peername")
        give_back = self._places.take(str(peer[0]) if isinstance(peer, tuple) else "unknown")

        def gone() -> None:
            if give_back is not None:
                give_back()
            ended()

        wire = Wire(self._settings.write_buffer_bytes, gone)
        transport.set_protocol(wire)
        wire.connection_made(transport)
        wire.data_received(data)
        self._run(wire, self._turn_away(wire) if give_back is None else self._front.tunnel(wire))

    async def _turn_away(self, wire: Wire) -> None:
        self._turned_away += 1
        wire.write(refusal("503 Service Unavailable"))
        await wire.close(CLOSE_S)


def _packetizers(maximum_payload: int) -> PacketizerFactory:
    return lambda configuration: packetizer_for(configuration, maximum_payload)
