"""One stream of a session: its units get their time, and go to the tracks and to who watches. No I/O.

Losses travel with the units: what was missing in front of a unit is told to a track in front of that unit, however long
both have waited for the clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nvr.ingest.arbiter import SourceStream
from nvr.ingest.clock import SessionClock
from nvr.ingest.memory import HeldMemory
from nvr.ingest.offer import OfferedStream
from nvr.ingest.pipeline import TrackPipeline
from nvr.ingest.settings import Times
from nvr.ingest.stream import StreamReceiver
from nvr.media.unit import AccessUnit, CodecConfiguration, Sample
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason

logger = logging.getLogger(__name__)

SampleTap = Callable[[Sample, CodecConfiguration], None]
"""Takes every sample of a stream as it comes: the live edge."""

MAXIMUM_HELD: Final = 16 << 20
"""Bytes of access units that wait for the clock."""
BUSIER: Final = 8
"""So many times its mean rate may a stream have while a loss lasts: with all rates up to 16 Mbit/s, a sequence number
that begins anew anywhere is taken for a loss in one of ten cases at most, and only where RTP time goes on."""
MEASURED_NS: Final = 2 * NS
"""Over less than this no frame rate is told."""


@dataclass(frozen=True, slots=True)
class _Loss:
    """What is missing at this place among the units that wait."""

    packets: int
    units: int


class SessionStream:
    """Where the packets of one stream come in, and where its samples go."""

    def __init__(
        self, offered: OfferedStream, clocks: SessionClock, times: Times, memory: HeldMemory | None = None
    ) -> None:
        """What waits for the clock counts in `memory`."""
        self.offered = offered
        self.clock = clocks.stream(offered.receiver.clock_rate)
        self.sinks: list[TrackPipeline] = []
        self.taps: list[SampleTap] = []
        self.listeners: list[SampleTap] = []
        """As taps, but in no hurry."""
        self.held: list[AccessUnit | _Loss] = []
        """Units that wait for the clock, in decode order, and what was lost between them."""
        self.sender_reports = 0
        self.packets_seen = 0
        self.fed_at = times.monotonic()
        """Monotonic time of the last visit that found packets."""
        self.ended = False
        """The sender has said BYE."""
        self.joined = False
        """Somebody has begun to watch it, and no clean point has come since."""
        self._clocks = clocks
        self._times = times
        self._memory = HeldMemory() if memory is None else memory
        self._held_size = 0
        self._lost_told = 0
        self._dropped_told = 0
        self._counted = 0
        """Units taken since the first visit that found some, without those."""
        self._counted_from = 0
        self._counted_until = 0
        """Monotonic times of the first and the last visit that found units."""
        self._packets_from = 0
        """Monotonic time of the first visit that found packets."""
        self.receiver.is_loss = self._is_loss
        self.receiver.on_hole = self.deliver
        self.receiver.on_restart = self._restarted

    @property
    def info(self) -> SourceStream:
        return self.offered.info

    @property
    def receiver(self) -> StreamReceiver:
        return self.offered.receiver

    @property
    def frame_rate(self) -> float | None:
        """Units a second since the stream is taken; None before there is enough to measure."""
        elapsed = self._counted_until - self._counted_from
        return self._counted * NS / elapsed if elapsed >= MEASURED_NS else None

    @property
    def wanted(self) -> bool:
        return bool(self.sinks or self.taps or self.listeners)

    # -- consumers ---------------------------------------------------------------------------------------------------

    def attach(self, sink: TrackPipeline | None, tap: SampleTap | None) -> None:
        """Samples that come from now on go to this track or tap."""
        receiver = self.receiver
        if not self.wanted:
            self._counted = self._counted_from = self._counted_until = 0
            if self.clock.by_reports:
                self.clock.pause()
            else:
                self._restart_clock()
            self._lost_told, self._dropped_told = receiver.lost, receiver.dropped
            if receiver.depacketizer is not None:
                if receiver.packets:
                    receiver.depacketizer.lost(1)  # packets before were not taken: it joins inside a unit
                receiver.take = True
        if sink is not None:
            self.sinks.append(sink)
        if tap is not None:
            self.taps.append(tap)
            # Who watches waits for a key frame: ask for one.
            self.joined = self.joined or (receiver.packets > 0 and self.info.track_type is TrackType.VIDEO)

    def detach(self, sink: TrackPipeline | None, tap: SampleTap | None) -> None:
        """The counterpart of `attach`; what has come so far is delivered first."""
        if len(self.sinks) + len(self.taps) + len(self.listeners) == 1:
            self.receiver.flush()
        self.deliver()
        if self.held and sink in self.sinks:
            self._release_by_arrival()  # its samples cannot wait any longer
        if sink in self.sinks:
            self.sinks.remove(sink)
        if tap in self.taps:
            self.taps.remove(tap)
        if not self.wanted:
            self.receiver.take = False

    def listen(self, listener: SampleTap) -> None:
        """Samples that come from now on are handed to this one, too, without being fetched any sooner for it."""
        self.attach(None, None)
        self.listeners.append(listener)

    def ignore(self, listener: SampleTap) -> None:
        """The counterpart of `listen`."""
        self.detach(None, None)
        self.listeners.remove(listener)
        if not self.wanted:
            self.receiver.take = False

    def finish(self, reason: GapReason) -> None:
        """No more packets: what is complete is delivered, runs end with this reason."""
        try:
            self.receiver.flush()
            self.deliver()
            if self.held:
                self._release_by_arrival()
        finally:
            for sink in self.sinks:
                sink.end_run(reason)
            self.sinks.clear()  # packets go on coming until the camera has answered TEARDOWN
            self.taps.clear()
            self.listeners.clear()
            self.receiver.take = False

    def end_runs(self, reason: GapReason) -> None:
        for sink in self.sinks:
            sink.end_run(reason)

    # -- units to samples --------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """What the receiver has completed gets its time and goes to the sinks, or waits for a clock."""
        receiver = self.receiver
        if not self._packets_from and receiver.packets:
            self._packets_from = self._times.monotonic()
        if receiver.lost != self._lost_told or receiver.dropped != self._dropped_told:
            self._lost(receiver.lost - self._lost_told, receiver.dropped - self._dropped_told)
            self._lost_told, self._dropped_told = receiver.lost, receiver.dropped
        units = receiver.units
        if not units:
            if self.held and self.clock.hold_expired(self._times.utc()):
                self._release_by_arrival()
            return
        receiver.units = []
        if not self.wanted:
            return
        at = self._times.monotonic()
        if self._counted_from:
            self._counted += len(units)
        else:
            self._counted_from = at
        self._counted_until = at
        if receiver.statistics is not None:
            # The unit that has waited least for this visit. Jitter is still mostly that of the visits: an estimate.
            receiver.statistics.sample(units[-1].rtp_time, at)
        now = self._times.utc()
        for unit in units:
            if not self.clock.continuous(unit.rtp_time, now):
                self.new_clock(GapReason.CLOCK_JUMP)
            self.clock.observe(unit.rtp_time, now)
            if self.clock.fixed:
                if self.held:
                    self.release()
                self._send(unit)
            else:
                self.held.append(unit)
                self._held_size += len(unit.data)
                self._memory.add(len(unit.data))
        if self.held and (self.clock.hold_expired(now) or self._held_size > MAXIMUM_HELD or not self._memory.relieve()):
            self._release_by_arrival()

    def release(self) -> None:
        """The clock is fixed: what has waited for it goes on."""
        held, self.held = self.held, []
        self._memory.give(self._held_size)
        self._held_size = 0
        for item in held:
            if isinstance(item, _Loss):
                self._lost(item.packets, item.units)
            else:
                self._send(item)

    def _lost(self, packets: int, units: int) -> None:
        if self.held:
            self.held.append(_Loss(packets, units))
            return
        for sink in self.sinks:
            sink.lost(packets, units)

    def _send(self, unit: AccessUnit) -> None:
        utc_ns = self.clock.utc(unit.rtp_time)
        sample = Sample(utc_ns, unit.data, unit.clean_point, unit.damaged)
        for sink in self.sinks:
            sink.push(sample, unit.configuration)
        if unit.clean_point:
            self.joined = False
        for tap in self.taps:
            tap(sample, unit.configuration)
        for listener in self.listeners:
            listener(sample, unit.configuration)

    def _release_by_arrival(self) -> None:
        if not self.clock.fixed:
            self.clock.fix_by_arrival()
        self.release()

    def _is_loss(self, rtp_time: int, missing: int) -> bool:
        """Whether a jump of the sequence numbers is a loss: RTP time goes on with the time that has passed, and the
        stream can have had so many packets in it. Else the sender has begun anew (RFC 3550 A.1)."""
        if not self._packets_from or not self.clock.continuous(rtp_time, self._times.utc()):
            return False
        now, passed = self._times.monotonic(), self.clock.passed(rtp_time)
        if passed is None:  # nobody takes its units
            passed = now - self.fed_at
        lived = max(now - self._packets_from, NS)
        return missing <= BUSIER * self.receiver.packets * (max(passed, 0) + NS // 2) // lived

    # -- changes of clock --------------------------------------------------------------------------------------------

    def _restarted(self) -> None:
        """New SSRC or sequence: what was completed belongs to the old source."""
        self.deliver()
        self.new_clock(GapReason.SOURCE_LOST)

    def new_clock(self, reason: GapReason) -> None:
        """RTP times cannot be continued: the run ends, and everything is measured anew."""
        if self.held:
            self._release_by_arrival()
        self.end_runs(reason)
        self._restart_clock()

    def _restart_clock(self) -> None:
        self.clock = self._clocks.stream(self.receiver.clock_rate)
