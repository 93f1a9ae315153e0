"""One RTP stream on its way in: sequence numbers, losses, the depacketizer, counters. Sans-I/O.

The attributes without a leading underscore that the loop of interleaved.py reads are its working set: it handles a
packet that is in order itself and calls `irregular` for every other one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nvr.media.rtcp import ReceptionStatistics
from nvr.media.rtp import HEADER, HEADER_SIZE, payload_bounds
from nvr.model.errors import FormatError

if TYPE_CHECKING:
    from nvr.media.unit import AccessUnit, Depacketizer

MAX_DROPOUT = 3000
"""A step forward beyond this is a restart, not a loss (RFC 3550 A.1)."""
MAX_MISORDER = 100
"""A step back within this is a late or repeated packet (RFC 3550 A.1)."""


class StreamReceiver:
    """Takes the packets of one stream in the order in which they come, gives access units."""

    __slots__ = (
        "_counted",
        "_probe",
        "bad_packets",
        "clock_rate",
        "depacketizer",
        "duplicates",
        "expected",
        "lost",
        "octets",
        "on_restart",
        "other_payload_types",
        "packets",
        "payload_type",
        "restarts",
        "ssrc",
        "statistics",
        "take",
        "units",
    )

    def __init__(self, payload_type: int, clock_rate: int, depacketizer: Depacketizer | None) -> None:
        self.payload_type = payload_type
        self.clock_rate = clock_rate
        self.depacketizer = depacketizer
        self.expected = -1
        """The sequence number that comes next; -1 before the first packet."""
        self.ssrc = -1
        self.packets = 0
        self.octets = 0
        """RTP packets with their headers."""
        self.lost = 0
        self.duplicates = 0
        """Repeated packets, and those that came later than TCP can explain."""
        self.bad_packets = 0
        self.other_payload_types = 0
        self.restarts = 0
        """New SSRCs and jumps of the sequence number."""
        self.units: list[AccessUnit] = []
        """What has been completed since the last collection."""
        self.take = False
        """Whether anybody wants the units; without consumers packets are only counted."""
        self.on_restart: Callable[[], None] = lambda: None
        """Called between the last unit of the old source and the first of the new one."""
        self.statistics: ReceptionStatistics | None = None
        self._counted = 0
        self._probe = -1

    @property
    def dropped(self) -> int:
        """Access units dropped since the start."""
        return self.depacketizer.dropped if self.depacketizer is not None else 0

    def count(self) -> None:
        """Bring the statistics for receiver reports up to the packets counted; once a drain."""
        if self.statistics is not None and self.packets > self._counted:
            self.statistics.received((self.expected - 1) & 0xFFFF, self.packets - self._counted)
            self._counted = self.packets

    def irregular(self, view: memoryview, start: int, end: int) -> None:
        """A packet, `view[start:end]`, that is not the next plain one of the source."""
        if end - start < HEADER_SIZE:
            self.bad_packets += 1
            return
        _, second, sequence, rtp_time, ssrc = HEADER.unpack_from(view, start)
        if second & 0x7F != self.payload_type:
            self.other_payload_types += 1
            self._skip(sequence, ssrc)
            return
        try:
            payload_start, payload_end = payload_bounds(view, start, end)
        except FormatError:
            self.bad_packets += 1
            return
        if not self._in_order(sequence, ssrc):
            return
        self.packets += 1
        self.octets += end - start
        if self.take and self.depacketizer is not None and payload_end > payload_start:
            units = self.depacketizer.push(view, payload_start, payload_end, rtp_time, second > 127)
            if units:
                self.units.extend(units)

    def _skip(self, sequence: int, ssrc: int) -> None:
        """A packet of a payload type that was not chosen (comfort noise, redundancy) takes a sequence number."""
        if ssrc == self.ssrc and sequence == self.expected:
            self.expected = (sequence + 1) & 0xFFFF

    def _in_order(self, sequence: int, ssrc: int) -> bool:
        if ssrc != self.ssrc or self.expected < 0:
            self._restart(sequence, ssrc)
            return True
        step = (sequence - self.expected) & 0xFFFF
        if step == 0:
            pass
        elif step < MAX_DROPOUT:
            self.lost += step
            if self.depacketizer is not None and self.take:
                self.depacketizer.lost(step)
        elif step > 0xFFFF - MAX_MISORDER:
            self.duplicates += 1
            return False
        elif sequence == self._probe:  # two in a row: the source has begun to count anew
            self._restart(sequence, ssrc)
            return True
        else:
            self._probe = (sequence + 1) & 0xFFFF
            self.bad_packets += 1
            return False
        self._probe = -1
        self.expected = (sequence + 1) & 0xFFFF
        return True

    def _restart(self, sequence: int, ssrc: int) -> None:
        if self.expected >= 0:
            self.restarts += 1
            self.count()
            if self.depacketizer is not None:
                if self.take:
                    self.units.extend(self.depacketizer.flush())
                self.depacketizer.lost(1)  # how many is unknown; what it had begun is not whole
            self.on_restart()
        self.ssrc = ssrc
        self._probe = -1
        self.expected = (sequence + 1) & 0xFFFF
        self.statistics = ReceptionStatistics(ssrc, self.clock_rate)
        self.statistics.start(sequence)
        self._counted = self.packets
