"""RTCP packets (RFC 3550 6.4 to 6.6) and the reception statistics that receiver reports carry (A.1, A.3, A.8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final, TypeAlias

from nvr.model.errors import FormatError
from nvr.model.time import NS, UtcNs, unwrap

SDES_CNAME: Final = 1

_HEAD = Struct(">BBH")
_SSRC = Struct(">I")
_SENDER = Struct(">IQIII")
_BLOCK = Struct(">II I I I I")
_Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """One reception report (6.4.1)."""

    ssrc: int
    """The source that is reported on."""
    fraction_lost: int
    """Loss since the report before, in 1/256."""
    cumulative_lost: int
    """Signed 24 bits: negative where duplicates outnumber losses."""
    highest_sequence: int
    """Extended to 32 bits."""
    jitter: int
    """In units of the RTP clock."""
    last_sr: int = 0
    """Middle 32 bits of the NTP time stamp of the last sender report; 0 before the first."""
    delay_since_last_sr: int = 0
    """In 1/65536 s."""

    def __bytes__(self) -> bytes:
        lost = max(-0x80_0000, min(self.cumulative_lost, 0x7F_FFFF)) & 0xFF_FFFF
        return _BLOCK.pack(
            self.ssrc,
            self.fraction_lost << 24 | lost,
            self.highest_sequence,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        )


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR (6.4.1). Both time stamps are zero where the sender has no wall clock (IEC 62676-2-32 8.11)."""

    PACKET_TYPE: ClassVar[int] = 200
    ssrc: int
    ntp: int
    """64-bit NTP time stamp, 32.32; `nvr.model.time.utc_from_ntp`."""
    rtp_time: int
    packets: int = 0
    octets: int = 0
    """Of payload, without headers and padding."""
    blocks: tuple[ReportBlock, ...] = ()

    def __bytes__(self) -> bytes:
        body = _SENDER.pack(
            self.ssrc, self.ntp, self.rtp_time, self.packets & 0xFFFF_FFFF, self.octets & 0xFFFF_FFFF
        ) + b"".join(map(bytes, self.blocks))
        return _packet(self.PACKET_TYPE, len(self.blocks), body)


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR (6.4.2)."""

    PACKET_TYPE: ClassVar[int] = 201
    ssrc: int
    """Of the one who reports."""
    blocks: tuple[ReportBlock, ...] = ()

    def __bytes__(self) -> bytes:
        return _packet(self.PACKET_TYPE, len(self.blocks), _SSRC.pack(self.ssrc) + b"".join(map(bytes, self.blocks)))


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES (6.5): for each SSRC its items, as pairs of type and bytes."""

    PACKET_TYPE: ClassVar[int] = 202
    chunks: tuple[tuple[int, tuple[tuple[int, bytes], ...]], ...] = ()

    @classmethod
    def cname(cls, ssrc: int, name: str) -> SourceDescription:
        """The item that every compound packet shall have (6.1)."""
        return cls(((ssrc, ((SDES_CNAME, name.encode()),)),))

    def __bytes__(self) -> bytes:
        body = bytearray()
        for ssrc, items in self.chunks:
            body += _SSRC.pack(ssrc)
            for kind, value in items:
                if not 0 < kind < 256 or len(value) > 255:
                    raise ValueError(f"no SDES item has type {kind} and {len(value)} bytes")
                body += bytes((kind, len(value))) + value
            body += bytes(4 - len(body) % 4)  # at least one null ends the list
        return _packet(self.PACKET_TYPE, len(self.chunks), bytes(body))


@dataclass(frozen=True, slots=True)
class Bye:
    """BYE (6.6)."""

    PACKET_TYPE: ClassVar[int] = 203
    ssrcs: tuple[int, ...]
    reason: str = ""

    def __bytes__(self) -> bytes:
        body = b"".join(map(_SSRC.pack, self.ssrcs))
        if self.reason:
            reason = self.reason.encode()
            if len(reason) > 255:
                raise ValueError(f"a BYE has a reason of {len(reason)} bytes")
            body += bytes((len(reason),)) + reason
            body += bytes(-len(body) % 4)
        return _packet(self.PACKET_TYPE, len(self.ssrcs), body)


RtcpPacket: TypeAlias = SenderReport | ReceiverReport | SourceDescription | Bye


def is_rtcp(buffer: _Buffer, start: int, end: int) -> bool:
    """Whether a packet on a channel shared with RTP is RTCP (RFC 5761 4: types 192 to 223)."""
    return end - start >= 4 and buffer[start] >> 6 == 2 and 192 <= buffer[start + 1] <= 223


def is_receiver_there(data: _Buffer) -> bool:
    """Whether this is RTCP of a receiver that goes on receiving: a report or a description, and no BYE."""
    if not is_rtcp(data, 0, len(data)):
        return False
    try:
        packets = parse_compound(data)
    except FormatError:
        return False
    return bool(packets) and not any(isinstance(packet, Bye) for packet in packets)


def parse_compound(data: _Buffer) -> list[RtcpPacket]:
    """The packets of a compound packet; types that are not known are left out. Raises FormatError."""
    return list(iter_compound(data))


def iter_compound(data: _Buffer) -> Iterator[RtcpPacket]:
    """As `parse_compound`, one by one: a sender report before a broken packet is delivered before the FormatError.

    The rule that a compound packet begins with a report (6.1) is not enforced: reduced-size RTCP (RFC 5506) is legal.
    """
    view, position = memoryview(data), 0
    while position < len(view):
        if len(view) - position < 4:
            raise FormatError(f"{len(view) - position} bytes at {position} of an RTCP packet are no header")
        first, kind, words = _HEAD.unpack_from(view, position)
        end = position + 4 + 4 * words
        if first >> 6 != 2:
            raise FormatError(f"an RTCP packet at {position} has version {first >> 6}")
        if end > len(view):
            raise FormatError(
                f"an RTCP packet of type {kind} at {position} claims {4 + 4 * words} of {len(view)} bytes"
            )
        body = view[position + 4 : end]
        if first & 0x20:
            padding = body[-1] if len(body) else 0
            if not 0 < padding <= len(body):
                raise FormatError(f"an RTCP packet of type {kind} at {position} claims {padding} bytes of padding")
            body = body[: len(body) - padding]
        count = first & 0x1F
        if kind == SenderReport.PACKET_TYPE:
            yield _sender_report(body, count)
        elif kind == ReceiverReport.PACKET_TYPE:
            yield _receiver_report(body, count)
        elif kind == SourceDescription.PACKET_TYPE:
            yield _source_description(body, count)
        elif kind == Bye.PACKET_TYPE:
            yield _bye(body, count)
        position = end


def _packet(kind: int, count: int, body: bytes) -> bytes:
    if count > 31 or len(body) % 4:
        raise ValueError(f"no RTCP packet has {count} items and {len(body)} bytes")
    return _HEAD.pack(0x80 | count, kind, len(body) // 4) + body


def _blocks(body: memoryview, position: int, count: int, kind: str) -> tuple[ReportBlock, ...]:
    if len(body) < position + count * _BLOCK.size:
        raise FormatError(f"{kind} with {count} report blocks has only {len(body)} bytes")
    blocks = []
    for _ in range(count):
        ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(body, position)
        lost = loss & 0xFF_FFFF
        blocks.append(ReportBlock(ssrc, loss >> 24, lost - ((lost & 0x80_0000) << 1), highest, jitter, last, delay))
        position += _BLOCK.size
    return tuple(blocks)


def _sender_report(body: memoryview, count: int) -> SenderReport:
    if len(body) < _SENDER.size:
        raise FormatError(f"a sender report has only {len(body)} bytes")
    ssrc, ntp, rtp_time, packets, octets = _SENDER.unpack_from(body)
    return SenderReport(ssrc, ntp, rtp_time, packets, octets, _blocks(body, _SENDER.size, count, "a sender report"))


def _receiver_report(body: memoryview, count: int) -> ReceiverReport:
    if len(body) < 4:
        raise FormatError(f"a receiver report has only {len(body)} bytes")
    return ReceiverReport(_SSRC.unpack_from(body)[0], _blocks(body, 4, count, "a receiver report"))


def _source_description(body: memoryview, count: int) -> SourceDescription:
    chunks: list[tuple[int, tuple[tuple[int, bytes], ...]]] = []
    position = 0
    for _ in range(count):
        if position + 4 > len(body):
            raise FormatError(f"a source description ends before chunk {len(chunks) + 1} of {count}")
        ssrc = _SSRC.unpack_from(body, position)[0]
        position += 4
        items = []
        while position < len(body) and body[position]:
            size = body[position + 1] if position + 1 < len(body) else len(body)
            if position + 2 + size > len(body):
                raise FormatError(f"an item of type {body[position]} runs out of its source description")
            items.append((body[position], bytes(body[position + 2 : position + 2 + size])))
            position += 2 + size
        # Senders exist that leave out the null behind the last item where it ends on a word: nothing is lost by it.
        position += 4 - position % 4
        chunks.append((ssrc, tuple(items)))
    return SourceDescription(tuple(chunks))


def _bye(body: memoryview, count: int) -> Bye:
    if len(body) < 4 * count:
        raise FormatError(f"a BYE of {count} sources has only {len(body)} bytes")
    ssrcs = tuple(_SSRC.unpack_from(body, 4 * i)[0] for i in range(count))
    rest = body[4 * count :]
    if not len(rest):
        return Bye(ssrcs)
    if len(rest) < 1 + rest[0]:
        raise FormatError(f"the reason of a BYE claims {rest[0]} of {len(rest) - 1} bytes")
    return Bye(ssrcs, bytes(rest[1 : 1 + rest[0]]).decode("utf-8", "replace"))


class ReceptionStatistics:
    """What one receiver report block says about one source (RFC 3550 A.1, A.3, A.8).

    Fed by the drain, not by the packet: `received` once a drain with the number of packets and the last sequence
    number, `sample` for the first packet of a drain or for marker packets. Jitter is therefore that of the samples,
    an estimate.
    """

    def __init__(self, ssrc: int, clock_rate: int) -> None:
        self.ssrc = ssrc
        self.clock_rate = clock_rate
        self._base = -1
        self._highest = -1
        self._received = 0
        self._expected_before = 0
        self._received_before = 0
        self._transit: int | None = None
        self._jitter_16 = 0  # scaled by 16, as in A.8
        self._last_sr = 0
        self._last_sr_ns = 0

    @property
    def highest_sequence(self) -> int:
        """Extended by the number of wraps; -1 before the first packet."""
        return self._highest

    def start(self, sequence: int) -> None:
        """The first packet, or a restart of the source, has this sequence number; counting begins anew with it.

        Without this call the first packet fed to `received` is taken for the last of `packets` in order.
        """
        self._base = sequence
        self._highest = sequence - 1
        self._received = self._expected_before = self._received_before = 0
        self._transit = None

    def skip(self, packets: int) -> None:
        """So many packets are missing behind those that `received` was told of: too many for sequence numbers to tell
        (half their circle)."""
        self._highest += packets

    def received(self, sequence: int, packets: int = 1) -> None:
        """`packets` have come since the last call; the last in order has this 16-bit sequence number."""
        if self._base < 0:
            self.start((sequence - packets + 1) & 0xFFFF)
        self._received += packets
        self._highest = max(self._highest, unwrap(sequence, self._highest, 16))

    def sample(self, rtp_time: int, arrival_ns: int) -> None:
        """A packet with this RTP time stamp came at this moment of a monotonic clock."""
        arrival = arrival_ns * self.clock_rate // NS
        transit = (arrival - rtp_time) & 0xFFFF_FFFF
        if self._transit is not None:
            distance = abs(unwrap(transit - self._transit, 0))
            self._jitter_16 += distance - ((self._jitter_16 + 8) >> 4)
        self._transit = transit

    def sender_report(self, report: SenderReport, arrival_ns: int) -> None:
        """`arrival_ns` on the monotonic clock of `sample` and `report`."""
        self._last_sr = report.ntp >> 16 & 0xFFFF_FFFF
        self._last_sr_ns = arrival_ns

    def report(self, now_ns: UtcNs) -> ReportBlock:
        """The block for now; the interval for `fraction_lost` begins anew."""
        expected = self._highest - self._base + 1 if self._base >= 0 else 0
        interval_expected = expected - self._expected_before
        interval_lost = interval_expected - (self._received - self._received_before)
        self._expected_before, self._received_before = expected, self._received
        fraction = interval_lost * 256 // interval_expected if interval_expected > 0 and interval_lost > 0 else 0
        delay = (now_ns - self._last_sr_ns) * 65_536 // NS if self._last_sr else 0
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=min(fraction, 255),
            cumulative_lost=max(-0x80_0000, min(expected - self._received, 0x7F_FFFF)),
            highest_sequence=max(self._highest, 0) & 0xFFFF_FFFF,
            jitter=min(self._jitter_16 >> 4, 0xFFFF_FFFF),
            last_sr=self._last_sr,
            delay_since_last_sr=max(0, min(delay, 0xFFFF_FFFF)),
        )
