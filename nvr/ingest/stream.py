"""One RTP stream on its way in: order, losses, the depacketizer, counters. Sans-I/O.

The loop of interleaved.py handles a packet that is the next plain one of its source itself, and calls `irregular` for
every other one. It reads and writes `order.in_order`, `packets`, `octets` and `units`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nvr.media.codecs.jpeg_depacketizer import JpegDepacketizer
from nvr.media.codecs.nal import NalDepacketizer
from nvr.media.rtcp import ReceptionStatistics
from nvr.media.rtp import EXTENSION_BIT, HEADER, HEADER_SIZE, extension_of, payload_bounds
from nvr.media.sequence import MAX_DROPOUT, SequenceOrder
from nvr.model.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvr.media.sequence import Release
    from nvr.media.unit import AccessUnit, Depacketizer


class StreamReceiver:
    """Takes the packets of one stream as they come, gives access units."""

    __slots__ = (
        "_counted",
        "_extended",
        "bad_packets",
        "clock_rate",
        "depacketizer",
        "fragments",
        "is_loss",
        "lost",
        "now_ns",
        "octets",
        "on_hole",
        "on_restart",
        "order",
        "other_payload_types",
        "packets",
        "payload_type",
        "statistics",
        "take",
        "units",
    )

    def __init__(self, payload_type: int, clock_rate: int, depacketizer: Depacketizer | None) -> None:
        self.payload_type = payload_type
        self.clock_rate = clock_rate
        self.depacketizer = depacketizer
        self.fragments = depacketizer if isinstance(depacketizer, NalDepacketizer) else None
        """The depacketizer, where it takes the middle of a fragmented NAL unit many packets at once."""
        self._extended = depacketizer if isinstance(depacketizer, JpegDepacketizer) else None
        """The depacketizer, where header extensions have a meaning for it. Packets that have one are never plain."""
        self.order: SequenceOrder[bytes] = SequenceOrder()
        """Window 0: TCP keeps the order, so every hole is a loss at once. See `reorder`."""
        self.now_ns = 0
        """Of a monotonic clock, set by whoever hands packets in where there is a window."""
        self.lost = 0
        """Packets missing in front of what has been taken so far."""
        self.packets = 0
        self.octets = 0
        """RTP packets with their headers."""
        self.bad_packets = 0
        self.other_payload_types = 0
        self.units: list[AccessUnit] = []
        """What has been completed since the last collection."""
        self.take = False
        """Whether anybody wants the units; without consumers packets are only counted."""
        self.on_hole: Callable[[], None] = lambda: None
        """Called in front of a hole, while `units` holds what was completed before it and `lost` does not yet have what
        is missing there."""
        self.on_restart: Callable[[], None] = lambda: None
        """Called between the last unit of the old source and the first of the new one."""
        self.is_loss: Callable[[int, int], bool] = lambda rtp_time, missing: False
        """Whether so many packets (MAX_DROPOUT or more) can be missing in front of one with this RTP time; if not, the
        source has restarted."""
        self.order.is_loss = self._is_loss
        self.statistics: ReceptionStatistics | None = None
        """None before the first packet."""
        self._counted = 0

    @property
    def ssrc(self) -> int:
        """Of the source; -1 before the first packet."""
        return self.order.ssrc

    @property
    def dropped(self) -> int:
        """Access units dropped since the start."""
        return self.depacketizer.dropped if self.depacketizer is not None else 0

    def count(self) -> None:
        """Bring the statistics for receiver reports up to the packets counted; once a drain."""
        if self.statistics is not None and self.packets > self._counted and self.order.in_order >= 0:
            self.statistics.received((self.order.in_order - 1) & 0xFFFF, self.packets - self._counted)
            self._counted = self.packets

    def irregular(self, view: memoryview, start: int, end: int) -> None:
        """A packet, `view[start:end]`, that is not the next plain one of the source."""
        if end - start < HEADER_SIZE:
            self.bad_packets += 1
            return
        _, second, sequence, _, ssrc = HEADER.unpack_from(view, start)
        order = self.order
        if second & 0x7F != self.payload_type:
            # Comfort noise, redundancy: not what was chosen from the description, but it takes a sequence number.
            self.other_payload_types += 1
            if ssrc == order.ssrc and sequence == order.in_order:
                order.in_order = (sequence + 1) & 0xFFFF
            return
        try:
            payload_bounds(view, start, end)
        except FormatError:
            self.bad_packets += 1
            return
        if ssrc == order.ssrc and sequence == order.in_order:
            order.in_order = (sequence + 1) & 0xFFFF
            self._take(view, start, end)
            return
        self._released(order.push(sequence, ssrc, bytes(view[start:end]), self.now_ns))

    def reorder(self, window: int, hold_ns: int) -> None:
        """The transport does not keep the order (UDP): wait for late packets. Called before the first packet."""
        self.order = SequenceOrder(window, hold_ns)
        self.order.is_loss = self._is_loss

    def due(self, now_ns: int) -> None:
        """Time has passed: what has waited long enough for a late packet waits no more."""
        if self.order.waiting:
            self._released(self.order.due(now_ns))

    def flush(self) -> None:
        """No packet comes any more: nothing waits for a late one, and no unit for its successor.

        A single packet that fits nowhere is not taken for the beginning of another source.
        """
        self._released(self.order.give_up())
        if self.depacketizer is not None and self.take:
            self.units.extend(self.depacketizer.flush())

    def _released(self, releases: Sequence[Release[bytes]]) -> None:
        for release in releases:
            if release.restart:
                self._restart()
            if release.restart or self.statistics is None:
                self.statistics = ReceptionStatistics(self.order.ssrc, self.clock_rate)
                self.statistics.start(release.sequence)
                self._counted = self.packets
            if release.lost:
                if self.units:
                    self.on_hole()
                self.lost += release.lost
                if release.lost >= MAX_DROPOUT:
                    self.statistics.skip(release.lost)
                if self.depacketizer is not None and self.take:
                    self.depacketizer.lost(release.lost)
            self._take(memoryview(release.item), 0, len(release.item))

    def _is_loss(self, packet: bytes, missing: int) -> bool:
        _, _, _, rtp_time, _ = HEADER.unpack_from(packet)
        return self.is_loss(rtp_time, missing)

    def _take(self, view: memoryview, start: int, end: int) -> None:
        self.packets += 1
        self.octets += end - start
        payload_start, payload_end = payload_bounds(view, start, end)
        extended = False
        if self._extended is not None and view[start] & EXTENSION_BIT and self.take:
            self._extended.extension(*extension_of(view, start))
            extended = True
        if self.take and self.depacketizer is not None and (payload_end > payload_start or extended):
            _, second, _, rtp_time, _ = HEADER.unpack_from(view, start)
            units = self.depacketizer.push(view, payload_start, payload_end, rtp_time, second > 127)
            if units:
                self.units.extend(units)

    def _restart(self) -> None:
        if self.depacketizer is not None and self.take:
            self.units.extend(self.depacketizer.flush())
            self.depacketizer.lost(1)  # how many is unknown; what it had begun is not whole
        self.on_restart()
