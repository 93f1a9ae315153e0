"""RTP and RTCP over UDP unicast (RFC 3550 11): the sockets of one session, read by the drain.

A datagram is laid into the shared buffer behind the four bytes that would frame it on TCP, and the loop of
interleaved.py goes over all of them at once: losses, reordering and codecs have one way for both transports.
Measured: 1.2 us a datagram for reading from a connected socket, 2.5 where the sender has to be asked for. So a socket
is connected to the camera's port as soon as that is known, and from then on the kernel drops what others send.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nvr.ingest.buffers import grant_receive_buffer
from nvr.ingest.interleaved import InterleavedParser
from nvr.ingest.settings import IngestSettings
from nvr.ingest.stream import StreamReceiver
from nvr.media.rtcp import ReceiverReport
from nvr.media.rtp import HEADER, HEADER_SIZE
from nvr.media.rtsp.message import Message
from nvr.model.errors import SourceError
from nvr.model.time import NS

logger = logging.getLogger(__name__)

BATCH: Final = 256
"""Datagrams that are taken from one socket in one turn: below a millisecond, parsing included."""
ROOM: Final = 1 << 16
"""Bytes that must be free for the next datagram."""
REPORTS: Final = 32
"""RTCP packets that are taken from one socket in a visit."""
PATIENCE_NS: Final = 1 * NS
"""How long packets are left aside that are not as announced: they may be of an older session. Some cameras announce
what is not so, and then behind this time what comes is taken."""
ATTEMPTS: Final = 64
_FRAME: Final = struct.Struct(">BBH")
_SO_MEMINFO: Final = 55
_DROPS: Final = 8
"""Index into SO_MEMINFO (linux/sock_diag.h): datagrams dropped because the receive buffer was full."""

Address = tuple[str, int] | tuple[str, int, int, int]
PortPair = tuple[int, int]


@dataclass(slots=True)
class _Leg:
    """The pair of sockets of one stream."""

    receiver: StreamReceiver
    channel: int
    rtp: socket.socket
    rtcp: socket.socket
    hosts: set[ipaddress.IPv4Address | ipaddress.IPv6Address] = field(default_factory=set)
    """Who may send."""
    server: PortPair | None = None
    """The ports that the camera has announced."""
    ssrc: int | None = None
    to_rtcp: Address | None = None
    connected: bool = False
    sure: bool = False
    """Connected, and nothing of others is left in the socket's queue."""
    others_since: int | None = None
    """Since when only packets come from another port, or with another SSRC, than has been announced."""


class UdpMedia:
    """Opened before SETUP, closed with the session. `peer` and `local` are addresses of the RTSP connection."""

    def __init__(
        self,
        local: Address,
        peer: Address,
        settings: IngestSettings,
        on_rtcp: Callable[[StreamReceiver, bytes], None],
    ) -> None:
        self.bytes_received = 0
        self.foreign = 0
        """Datagrams of other senders, or from another port of the camera than the one that is listened to."""
        self.bad = 0
        """Datagrams that are no RTP."""
        self.unreachable = 0
        """Reports that nobody took at the camera, by its ICMP answers."""
        self._local = local
        self._peer = peer
        self._settings = settings
        self._on_rtcp = on_rtcp
        self._family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        self._parser = InterleavedParser(_no_message, on_rtcp)
        self._legs: list[_Leg] = []
        self._granted: int | None = None
        self._turn = 0

    # -- set up ------------------------------------------------------------------------------------------------------

    def open(self, receiver: StreamReceiver) -> PortPair:
        """Ports for one more stream, an even one and the next (RFC 3550 11). Raises SourceError where none is free."""
        rtp, rtcp = self._pair()
        receiver.reorder(self._settings.reorder_window, self._settings.reorder_hold_ns)
        leg = _Leg(receiver, len(self._legs), rtp, rtcp)
        leg.hosts.add(_ip(self._peer[0]))
        granted = grant_receive_buffer(rtp, self._settings.udp_receive_buffer_bytes)
        self._granted = granted if self._granted is None else min(granted, self._granted)
        self._parser.channels[leg.channel] = receiver
        self._legs.append(leg)
        return rtp.getsockname()[1], rtcp.getsockname()[1]

    def answered(
        self, receiver: StreamReceiver, server: PortPair | None, source: str | None, ssrc: int | None, ours: int
    ) -> None:
        """SETUP of this stream has been answered: where packets come from. `ours` is the SSRC of our reports."""
        leg = self._leg(receiver)
        leg.server, leg.ssrc = server, ssrc
        if source is not None:
            try:
                leg.hosts.add(_ip(source))
            except ValueError:
                logger.info(
                    "the source %r of a transport is no address; packets of %s are taken", source, self._peer[0]
                )
        if server is not None:
            leg.to_rtcp = self._at(server[1])
        self._punch(leg, ours)

    def punch(self, ours: int) -> None:
        """Once more where nothing has come: a firewall on the way may have opened since."""
        for leg in self._legs:
            if not leg.receiver.packets:
                self._punch(leg, ours)

    def _punch(self, leg: _Leg, ours: int) -> None:
        """Packets of ours open the way back through firewalls and address translation; servers ignore them."""
        if leg.server is None:
            return
        self._send(leg.rtp, HEADER.pack(0x80, leg.receiver.payload_type, 0, 0, ours), self._at(leg.server[0]))
        self._send(leg.rtcp, bytes(ReceiverReport(ours)), self._at(leg.server[1]))

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        first, last = self._settings.udp_first_port, self._settings.udp_last_port
        choices = [0] * ATTEMPTS
        if first:
            choices = list(range(first + first % 2, last, 2))
            start = random.randrange(len(choices))
            choices = choices[start:] + choices[:start]
        for port in choices:
            rtp = self._bound(port)
            if rtp is None:
                continue
            number = rtp.getsockname()[1]
            rtcp = self._bound(number + 1) if number % 2 == 0 else None
            if rtcp is not None:
                return rtp, rtcp
            rtp.close()
        where = f"between {first} and {last} (udp_first_port, udp_last_port)" if first else "on this machine"
        raise SourceError(f"no pair of UDP ports is free {where}")

    def _bound(self, port: int) -> socket.socket | None:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind((self._local[0], port, *self._local[2:]))
        except OSError:
            sock.close()
            return None
        return sock

    def close(self) -> None:
        for leg in self._legs:
            leg.rtp.close()
            leg.rtcp.close()
        self._legs.clear()

    # -- what comes --------------------------------------------------------------------------------------------------

    @property
    def tight(self) -> bool:
        """Whether the kernel has granted less than half of the receive buffer that was asked for."""
        return self._granted is not None and self._granted < self._settings.udp_receive_buffer_bytes // 2

    def overruns(self) -> int:
        """Datagrams that the kernel has dropped because they were not fetched in time; asks the kernel."""
        total = 0
        for leg in self._legs:
            try:
                told = leg.rtp.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
            except OSError:
                return 0  # not this kernel: losses are counted by sequence numbers in any case
            if len(told) == 4 * (_DROPS + 1):
                total += struct.unpack_from("=I", told, 4 * _DROPS)[0]
        return total

    def drain(self, buffer: memoryview, now_ns: int) -> bool:
        """Take what has come, at most a batch of each stream. True: there may be more. Raises SourceError."""
        more = False
        for leg in self._legs:
            leg.receiver.now_ns = now_ns
            try:
                end, full = self._fill_connected(leg, buffer) if leg.sure else self._fill(leg, buffer, now_ns)
            except OSError as e:
                raise SourceError(f"the UDP sockets towards {self._peer[0]} fail: {e.strerror or e}") from e
            if end:
                self.bytes_received += end
                self._parser.parse(buffer, end)
            more = more or full
        if not more:  # a packet that is late by less than one batch is not late
            for leg in self._legs:
                leg.receiver.due(now_ns)
        self._take_reports()
        return more

    def _fill_connected(self, leg: _Leg, buffer: memoryview) -> tuple[int, bool]:
        """Datagrams from the one sender, framed one behind the other: (end of them, whether there may be more)."""
        receive, frame, channel = leg.rtp.recv_into, _FRAME.pack_into, leg.channel
        at, limit = 0, len(buffer) - ROOM
        for _ in range(BATCH):
            try:
                got = receive(buffer[at + 4 :])
            except BlockingIOError:
                return at, False
            except ConnectionRefusedError:
                self.unreachable += 1
                continue
            if got < HEADER_SIZE or buffer[at + 4] & 0xC0 != 0x80:
                self.bad += 1
                continue
            frame(buffer, at, 0x24, channel, got)
            at += 4 + got
            if at > limit:
                break
        return at, True

    def _fill(self, leg: _Leg, buffer: memoryview, now_ns: int) -> tuple[int, bool]:
        """The same while the sender is not settled."""
        at, limit = 0, len(buffer) - ROOM
        for _ in range(BATCH):
            try:
                got, sender = leg.rtp.recvfrom_into(buffer[at + 4 :])
            except BlockingIOError:
                leg.sure = leg.connected
                return at, False
            except ConnectionRefusedError:
                self.unreachable += 1
                continue
            if got < HEADER_SIZE or buffer[at + 4] & 0xC0 != 0x80:
                self.bad += 1
                continue
            if not self._accepts(leg, sender, buffer[at + 4 : at + 4 + got], now_ns):
                self.foreign += 1
                continue
            _FRAME.pack_into(buffer, at, 0x24, leg.channel, got)
            at += 4 + got
            if at > limit:
                break
        return at, True

    def _accepts(self, leg: _Leg, sender: Address, packet: memoryview, now_ns: int) -> bool:
        """Whether this is the camera's packet; the first one settles the port."""
        if leg.connected:
            return bool(sender[:2] == leg.rtp.getpeername()[:2])
        if _ip(sender[0]) not in leg.hosts:
            return False
        _, second, _, _, ssrc = HEADER.unpack_from(packet)
        if second & 0x7F != leg.receiver.payload_type:
            return False
        announced = leg.server is None or sender[1] == leg.server[0]
        if not announced or (leg.ssrc is not None and ssrc != leg.ssrc):
            if leg.others_since is None:
                leg.others_since = now_ns
            if now_ns - leg.others_since < PATIENCE_NS:
                return False
        leg.rtp.connect(sender)
        leg.connected = True
        if leg.to_rtcp is None:
            leg.to_rtcp = (sender[0], sender[1] + 1, *sender[2:])
        return True

    def _take_reports(self) -> None:
        for leg in self._legs:
            for _ in range(REPORTS):
                try:
                    data, sender = leg.rtcp.recvfrom(ROOM)
                except (BlockingIOError, ConnectionRefusedError):
                    break
                if _ip(sender[0]) not in leg.hosts:
                    self.foreign += 1
                    continue
                self.bytes_received += len(data)
                self._on_rtcp(leg.receiver, data)

    # -- what goes ---------------------------------------------------------------------------------------------------

    def send_report(self, receiver: StreamReceiver, packet: bytes) -> None:
        """An RTCP packet to the camera, where it is known where to."""
        leg = self._leg(receiver)
        if leg.to_rtcp is not None:
            self._send(leg.rtcp, packet, leg.to_rtcp)

    def _send(self, sock: socket.socket, packet: bytes, to: Address) -> None:
        try:
            sock.sendto(packet, to)
        except OSError as e:  # a report that is lost is followed by the next one; whether packets come decides
            self.unreachable += 1
            logger.debug("a packet to %s port %d was not sent: %s", to[0], to[1], e)

    def _at(self, port: int) -> Address:
        return (self._peer[0], port, *self._peer[2:])

    def _leg(self, receiver: StreamReceiver) -> _Leg:
        return next(leg for leg in self._legs if leg.receiver is receiver)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Without the scope of a link-local address. Raises ValueError."""
    return ipaddress.ip_address(host.partition("%")[0])


def _no_message(message: Message) -> None:
    raise AssertionError("every datagram is framed: no message is looked for")
