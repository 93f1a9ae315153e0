"""Which transport a SETUP gets (RFC 2326 12.39; IEC 62676-2-32 8.1): the first one offered that this server has."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from nvr.media.rtsp.transport import PortPair, TransportSpec
from nvr.replay.clock import Clock
from nvr.replay.player import Transport
from nvr.replay.status import RequestRefused
from nvr.replay.stream import ByteStream, InterleavedTransport
from nvr.replay.udp import LOWEST_PORT, Pair, UdpPorts, UdpTransport

INTERLEAVED: Final = "RTP/AVP/TCP"
DATAGRAMS: Final = "RTP/AVP"


@dataclass(frozen=True, slots=True)
class Datagrams:
    """What UDP needs: the ports, and the octets per second that one RTSP session may be sent."""

    ports: UdpPorts
    rate: int


@dataclass(frozen=True, slots=True)
class Way:
    """How one stream will travel. `channels` of interleaved frames, or None where packets are bare.

    `take` makes it so for the stream of an SSRC; until then `give_up` takes everything back.
    """

    transport: Transport
    answer: TransportSpec
    channels: PortPair | None = None
    pair: Pair | None = None

    def take(self, index: int, ssrc: int) -> None:
        """Raises RequestRefused."""
        if self.pair is not None:
            assert isinstance(self.transport, UdpTransport)
            self.transport.add(index, ssrc, self.pair)

    def give_up(self) -> None:
        if self.pair is not None:
            self.pair.close()


class Transports:
    """What SETUPs on one connection may choose from. Without `datagrams` there is no UDP."""

    def __init__(
        self, stream: ByteStream, clock: Clock, heard: Callable[[], None], datagrams: Datagrams | None = None
    ) -> None:
        """`heard` is called for a sign of life that comes beside the connection."""
        self._stream = stream
        self._clock = clock
        self._heard = heard
        self._datagrams = datagrams
        self._interleaved = InterleavedTransport(stream)

    def choose(self, offered: Sequence[TransportSpec], joined: Transport | None, taken: Collection[int]) -> Way:
        """`joined`: that of the RTSP session, all of whose streams travel alike; `taken`: channels in use.

        Raises RequestRefused (461) where nothing offered is there, LimitReached where there are no more ports.
        """
        for spec in offered:
            if not spec.unicast or (spec.mode or "PLAY") != "PLAY":
                continue
            if spec.protocol == INTERLEAVED and joined in (None, self._interleaved):
                channels = _channels(spec.interleaved, taken)
                answer = TransportSpec(INTERLEAVED, interleaved=channels, mode=spec.mode)
                return Way(self._interleaved, answer, channels)
            if spec.protocol == DATAGRAMS and (joined is None or isinstance(joined, UdpTransport)):
                way = self._by_datagrams(spec, joined)
                if way is not None:
                    return way
        names = ", ".join(str(spec) for spec in offered)
        raise RequestRefused(461, f"no transport of {names[:200]!r} is supported here")

    def _by_datagrams(self, spec: TransportSpec, joined: UdpTransport | None) -> Way | None:
        """None where the client asks for what is not done: media go to itself, and to no port of a service."""
        if self._datagrams is None or spec.client_port is None:
            return None
        if min(spec.client_port) < LOWEST_PORT or spec.client_port[0] == spec.client_port[1]:
            return None
        peer = self._stream.peer_address
        if spec.destination is not None and not _same(spec.destination, peer):
            return None
        pair = self._datagrams.ports.open(self._stream.local_address, peer, spec.client_port)
        transport = joined or UdpTransport(self._clock, self._datagrams.rate, self._heard, self._stream.peer)
        answer = TransportSpec(
            DATAGRAMS,
            client_port=spec.client_port,
            server_port=pair.ports,
            source=self._stream.local_address.partition("%")[0],
            mode=spec.mode,
        )
        return Way(transport, answer, pair=pair)


def _same(destination: str, peer: str) -> bool:
    try:
        return ipaddress.ip_address(destination.strip("[]")) == ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False


def _channels(asked: PortPair | None, taken: Collection[int]) -> PortPair:
    """The channels asked for, or the first free pair where none are, or where they are taken."""
    if asked is not None and asked[0] != asked[1] and asked[0] not in taken and asked[1] not in taken:
        return asked
    for first in range(0, 255, 2):
        if first not in taken and first + 1 not in taken:
            return first, first + 1
    raise RequestRefused(461, "all interleaved channels of this connection are taken")
