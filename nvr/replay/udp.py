"""RTP and RTCP by UDP to the client of an RTSP connection (RFC 3550, RFC 2326 12.39; IEC 62676-2-32 8.1, 8.5.3)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nvr.media.rtcp import Bye, ReceiverReport, is_receiver_there
from nvr.media.rtsp.transport import PortPair
from nvr.model.errors import LimitReached, SourceError
from nvr.model.time import NS
from nvr.replay.clock import Clock
from nvr.replay.sender import Buffer, RtpStream
from nvr.replay.status import RequestRefused

log = logging.getLogger(__name__)

BURST_BYTES: Final = 32 * 1024
"""What may leave at once. The usual receive buffer of 208 KiB holds some 90 packets of full size, whatever it says."""
OVERHEAD: Final = 28
"""Octets of IPv4 and UDP before each packet."""
ATTEMPTS: Final = 64
"""How many pairs of ports are tried where the system chooses."""
READS: Final = 8
"""Datagrams of a client that are read in one turn of the loop."""
DATAGRAM: Final = 2048
WRITABLE_S: Final = 1.0
"""How long a full send buffer is waited for; then what waits for it is lost, as the network would have lost it."""
ANSWER_NS: Final = 50_000_000
"""What a client may take to read the answer to PLAY, which goes another way than its datagrams."""
UNREACHABLE_NS: Final = 10 * NS
"""So long a client's port may be without anybody behind it."""
CALM_NS: Final = 2 * NS
"""Behind so much time without a refusal the next one counts as the first."""
SEGMENTS: Final = 64
"""Datagrams that the kernel takes in one call, at most."""
UDP_LEVEL: Final = 17
UDP_SEGMENT: Final = 103
"""Option of Linux 4.18: one call sends many datagrams of one length, the last of which may be shorter."""
LOWEST_PORT: Final = 1024
"""Services stand below it: no media are sent there."""


class Unreachable(SourceError):
    """Nobody listens at the client's port any more."""


@dataclass(eq=False, slots=True)
class Pair:
    """The ports of one stream, connected to the client's: the kernel drops what comes from others."""

    rtp: socket.socket
    rtcp: socket.socket
    ports: PortPair
    on_close: Callable[[], None]
    segments: bool = False
    """Whether one call may send several datagrams."""
    closed: bool = field(default=False)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.rtp.close()
            self.rtcp.close()
            self.on_close()


class UdpPorts:
    """Pairs of server ports. `taken` are in use now."""

    def __init__(self, maximum_streams: int, ports: tuple[int, ...] = ()) -> None:
        """`ports`: the first and the last that may be used; empty where the system chooses."""
        self.taken = 0
        self.maximum = maximum_streams
        self._first, self._last = ports or (0, 0)
        self._next = self._first + self._first % 2

    def open(self, local_address: str, peer_address: str, client: PortPair) -> Pair:
        """A pair at the local address, connected to the client. Raises LimitReached, RequestRefused (461, 503)."""
        if self.taken >= self.maximum:
            raise LimitReached("UDP stream", self.maximum)
        try:
            found = socket.getaddrinfo(local_address, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
            peer = socket.getaddrinfo(peer_address, 0, found[0], type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
            rtp, rtcp, ports = self._bind(found[0], found[4])
        except OSError as e:
            raise RequestRefused(503, f"no UDP ports at {local_address} for {peer_address}: {e}") from e
        try:
            for sock, port in zip((rtp, rtcp), client, strict=True):
                sock.connect((peer[4][0], port, *peer[4][2:]))
        except BaseException as e:
            rtp.close()
            rtcp.close()
            if not isinstance(e, OSError):
                raise
            raise RequestRefused(461, f"UDP to {peer_address}, ports {client[0]}-{client[1]}: {e}") from e
        self.taken += 1
        return Pair(rtp, rtcp, ports, self._give_back, _cuts_segments(rtp))

    def _give_back(self) -> None:
        self.taken -= 1

    def _bind(self, family: int, address: tuple[object, ...]) -> tuple[socket.socket, socket.socket, PortPair]:
        """RTP has the even port, RTCP the odd one above it (RFC 3550 11). Raises OSError."""
        for port in self._candidates():
            rtp = _bound(family, address, port)
            if rtp is None:
                continue
            first = int(rtp.getsockname()[1])
            rtcp = _bound(family, address, first + 1) if first % 2 == 0 else None
            if rtcp is not None:
                return rtp, rtcp, (first, first + 1)
            rtp.close()
        raise OSError(errno.EADDRINUSE, "all of them are taken")

    def _candidates(self) -> Sequence[int]:
        """Ports for RTP in the order in which they are tried; those used last come last."""
        if not self._last:
            return (0,) * ATTEMPTS
        even = range(self._first + self._first % 2, self._last, 2)
        start = even.index(self._next) if self._next in even else 0
        order = [*even[start:], *even[:start]]
        self._next = order[1] if len(order) > 1 else order[0]
        return order


def _cuts_segments(sock: socket.socket) -> bool:
    """Asked of the kernel: one that does not know the option would send a single long datagram."""
    if sys.platform != "linux":
        return False
    try:
        sock.getsockopt(UDP_LEVEL, UDP_SEGMENT)
    except OSError:
        return False
    return True


def _bound(family: int, address: tuple[object, ...], port: int) -> socket.socket | None:
    """None where the port is taken. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((address[0], port, *address[2:]))
    except OSError as e:
        sock.close()
        if e.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return sock


class UdpTransport:
    """The datagrams of one RTSP session, at a bounded rate for all its streams. `RtpStream` gives bare packets."""

    def __init__(self, clock: Clock, rate: int, heard: Callable[[], None], peer: str) -> None:
        """`rate` in octets per second; `heard` is called for each RTCP packet of the client."""
        self.lost = 0
        """Packets that the system would not take."""
        self._clock = clock
        self._rate = rate
        self._heard = heard
        self._peer = peer
        self._pairs: dict[int, tuple[bytes, Pair]] = {}
        self._by_ssrc: dict[bytes, Pair] = {}
        self._credit = BURST_BYTES
        self._filled_ns = clock.monotonic_ns()
        self._refused_since_ns: int | None = None
        self._refused_ns = 0

    def add(self, index: int, ssrc: int, pair: Pair) -> None:
        """From now on the stream of this SSRC goes out here, in place of what `index` was before."""
        key = ssrc.to_bytes(4, "big")
        if any(known == key for i, (known, _) in self._pairs.items() if i != index):
            pair.close()
            raise RequestRefused(503, "two streams of a session have drawn the same SSRC")
        self._drop(index)
        self._pairs[index] = key, pair
        self._by_ssrc[key] = pair
        asyncio.get_running_loop().add_reader(pair.rtcp, self._read, pair)

    def close(self) -> None:
        """Tell the client of the end (RFC 3550 6.6), and give the ports back."""
        for key, pair in self._pairs.values():
            ssrc = int.from_bytes(key, "big")
            with contextlib.suppress(Unreachable):  # nobody is there to be told
                self._put_one(pair.rtcp, bytes(ReceiverReport(ssrc, ())) + bytes(Bye((ssrc,))))
        for index in list(self._pairs):
            self._drop(index)

    async def send(self, packets: Sequence[Buffer]) -> None:
        """Raises Unreachable. Cancelled in the middle of a burst, it sends the rest first, at the same rate: what has
        got its sequence number goes out.
        """
        done = self._send_now(packets, 0)
        if done == len(packets):
            return
        rest = asyncio.ensure_future(self._send_rest(packets, done))
        try:
            await asyncio.shield(rest)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({rest})
            except asyncio.CancelledError:
                rest.cancel()  # whoever waits for this session waits no longer: what is left is lost
                raise
            if not rest.cancelled() and (error := rest.exception()) is not None:
                log.info("%s: %s", self._peer, error)
            raise

    async def send_report(self, stream: RtpStream, report: bytes) -> None:
        pair = self._by_ssrc.get(stream.ssrc.to_bytes(4, "big"))
        if pair is not None:
            self._put_one(pair.rtcp, report)  # RTCP may be lost

    async def behind_answer(self) -> None:
        """GStreamer's jitter buffer forgets what came before rtspsrc has read the answer, takes the unit behind it for
        the first, and the time from RTP-Info to there for time played in none: it thinks that the end has come."""
        await self._clock.sleep(ANSWER_NS)

    async def _send_rest(self, packets: Sequence[Buffer], done: int) -> None:
        while done < len(packets):
            if self._credit <= 0:
                await self._clock.sleep((BURST_BYTES - self._credit) * NS // self._rate)
            elif not await self._until_writable(packets[done]):
                # All of them, and not one a wait: PAUSE and TEARDOWN are answered when this is over.
                self._lose("its send buffer stays full", len(packets) - done)
                return
            done = self._send_now(packets, done)

    def _send_now(self, packets: Sequence[Buffer], done: int) -> int:
        """Send from the packet number `done` on while there is credit; the answer is the number of the next one."""
        self._fill()
        while done < len(packets) and self._credit > 0:
            pair = self._by_ssrc.get(bytes(packets[done][8:12]))
            count = 1 if pair is None else self._alike(packets, done, pair)
            if pair is not None:
                count = self._put(pair, packets[done : done + count])
                if not count:
                    break
            self._credit -= sum(map(len, packets[done : done + count])) + count * OVERHEAD
            done += count
        return done

    def _alike(self, packets: Sequence[Buffer], done: int, pair: Pair) -> int:
        """How many packets from number `done` on one call can send: those of one length, and one that is shorter."""
        size, left = len(packets[done]), self._credit
        if not pair.segments:
            return 1
        ssrc, count = packets[done][8:12], 0
        for packet in packets[done : done + SEGMENTS]:
            if len(packet) > size or packet[8:12] != ssrc or left <= 0:
                break
            left -= len(packet) + OVERHEAD
            count += 1
            if len(packet) < size:
                break
        return count

    def _fill(self) -> None:
        now = self._clock.monotonic_ns()
        self._credit = min(BURST_BYTES, self._credit + (now - self._filled_ns) * self._rate // NS)
        self._filled_ns = now

    def _put(self, pair: Pair, packets: Sequence[Buffer]) -> int:
        """How many packets are gone, or lost; 0 where the system takes none now. Raises Unreachable."""
        if len(packets) > 1:
            length = len(packets[0]).to_bytes(2, sys.byteorder)
            try:
                pair.rtp.sendmsg(packets, [(UDP_LEVEL, UDP_SEGMENT, length)])
                return len(packets)
            except BlockingIOError:
                return 0
            except ConnectionRefusedError:
                self._unreachable()
            except OSError as e:  # the way to this client cannot have it (an interface without checksums, a small MTU)
                log.debug("%s: one datagram a call from now on: %s", self._peer, e)
                pair.segments = False
        return int(self._put_one(pair.rtp, packets[0]))

    def _put_one(self, sock: socket.socket, packet: Buffer) -> bool:
        """As `_put`."""
        try:
            try:
                sock.send(packet)
            except ConnectionRefusedError:  # it tells of a packet before this one, and has kept this one from leaving
                self._unreachable()
                sock.send(packet)
        except BlockingIOError:
            return False
        except OSError as e:
            self._lose(str(e))
        return True

    async def _until_writable(self, packet: Buffer) -> bool:
        """Whether the socket for this packet takes something; False behind the longest wait."""
        pair = self._by_ssrc.get(bytes(packet[8:12]))
        if pair is None or pair.closed:
            return True
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(pair.rtp, ready.set)
        try:
            async with asyncio.timeout(WRITABLE_S):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            if not pair.closed:
                loop.remove_writer(pair.rtp)
        return True

    def _lose(self, why: str, packets: int = 1) -> None:
        before, self.lost = self.lost, self.lost + packets
        if before.bit_length() != self.lost.bit_length():
            log.info("%s: %d datagrams are lost: %s", self._peer, self.lost, why)

    def _unreachable(self) -> None:
        """Raises Unreachable where it has lasted."""
        now = self._clock.monotonic_ns()
        if self._refused_since_ns is None or now - self._refused_ns > CALM_NS:
            self._refused_since_ns = now
        self._refused_ns = now
        if now - self._refused_since_ns >= UNREACHABLE_NS:
            raise Unreachable(f"{self._peer}: nobody has listened at the client's UDP port for a while")

    def _read(self, pair: Pair) -> None:
        for _ in range(READS):
            try:
                data = pair.rtcp.recv(DATAGRAM)
            except BlockingIOError:
                return
            except OSError as e:  # an ICMP error for a report of ours; media tell whether it lasts
                log.debug("%s: RTCP: %s", self._peer, e)
                continue
            if is_receiver_there(data):
                self._refused_since_ns = None
                self._heard()
            else:
                log.debug("%s: %s is no report of a receiver", self._peer, data[:16].hex(" "))

    def _drop(self, index: int) -> None:
        found = self._pairs.pop(index, None)
        if found is None:
            return
        key, pair = found
        del self._by_ssrc[key]
        loop = asyncio.get_running_loop()
        loop.remove_reader(pair.rtcp)
        loop.remove_writer(pair.rtp)
        pair.close()
