"""The player of one RTSP session: takes units from their source, paces them, gives them RTP time and sends them.

Paced (Rate-Control yes, 8.5.3, 8.6.4): the playing time of a unit is its recorded time without the gaps that nothing
was recorded in, divided by Scale; RTP time follows playing time. Unpaced (Rate-Control no): RTP time follows recorded
time, gaps included, and the transport's back-pressure is the only brake. Live: units are sent as they come, RTP time
follows UTC.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Final, Protocol

from nvr.media.rtcp import SenderReport, SourceDescription
from nvr.model.time import NS, UtcNs, ntp_from_utc, ticks_from_ns
from nvr.replay.clock import Clock
from nvr.replay.reader import UnitSource
from nvr.replay.sender import Buffer, RtpStream
from nvr.replay.unit import Unit

log = logging.getLogger(__name__)

WRITE_BYTES: Final = 64 * 1024
"""Sample data per write. Packing it takes well under a millisecond, so that the loop stays free for others."""
TOGETHER_NS: Final = 5_000_000
"""Units due within this time of each other share one wake-up."""
LATE_NS: Final = NS
"""A player that falls behind by more than this goes on from where it is, instead of flooding its client."""
REPORT_NS: Final = 5 * NS
"""Distance of sender reports (RFC 3550 6.2)."""


class Pacing(Enum):
    PLAYING_TIME = "Rate-Control yes"
    UNTHROTTLED = "Rate-Control no"
    LIVE = "live"


class Transport(Protocol):
    """Takes packets; `send` returns when the client is ready for more."""

    async def send(self, packets: Sequence[Buffer]) -> None:
        """What is handed over counts as sent, also when the wait for the client is cancelled."""

    async def send_report(self, stream: RtpStream, report: bytes) -> None: ...

    def close(self) -> None:
        """The session that it was set up for has ended."""


@dataclass(frozen=True, slots=True)
class Line:
    """From recorded time (gaps left out) to playing time: `playing_ns` at `recorded_ns`, with slope 1 / `scale`."""

    recorded_ns: UtcNs
    playing_ns: int
    scale: Fraction

    def at(self, recorded_ns: UtcNs) -> int:
        elapsed = recorded_ns - self.recorded_ns
        return self.playing_ns + elapsed * self.scale.denominator // self.scale.numerator


@dataclass(slots=True)
class Playback:
    """One position in one source. Survives PAUSE; a PLAY with Range replaces it."""

    source: UnitSource
    start_ns: UtcNs
    """Recorded time of the first unit (Range of the answer to PLAY)."""
    queue: deque[Unit]
    """Taken from the source and not yet sent."""
    position_ns: UtcNs
    """Recorded time of the unit to be sent next; that of the last one sent while `behind`."""
    end_ns: UtcNs | None = None
    """End of a closed range."""
    skipped_ns: int = 0
    exhausted: bool = False
    behind: bool = False
    """Everything taken has been sent, and what comes next is not known yet."""

    async def fill(self) -> bool:
        """See to it that the queue holds the unit to be sent next. False: nothing more will come.

        May be cancelled at any time without losing a unit.
        """
        if not self.queue and not self.exhausted:
            units = await self.source.units()
            self.queue.extend(units)
            self.exhausted = not units
        if self.behind and self.queue:
            self._stand_at(self.queue[0])
            self.behind = False
        return bool(self.queue)

    def take(self) -> Unit:
        """The unit to be sent next; the queue holds one."""
        unit = self.queue.popleft()
        self.behind = not self.queue
        self._stand_at(self.queue[0] if self.queue else unit)
        return unit

    def _stand_at(self, unit: Unit) -> None:
        self.position_ns, self.skipped_ns = unit.decode_ns, unit.skipped_ns


class Player:
    """Sends one PLAY's units until cancelled, paused at its pause point, or out of units. `run` is the task.

    `streams` maps the stream of a unit to its RTP stream. `reference_ns` is the recorded time at which every stream's
    RTP time is its base, for the modes in which RTP time follows recorded time or UTC; it is the same for every PLAY of
    an RTSP session, so that a unit has the same RTP time each time it is sent, in whichever direction (8.6.4).
    """

    def __init__(
        self,
        playback: Playback,
        streams: Mapping[int, RtpStream],
        transport: Transport,
        clock: Clock,
        pacing: Pacing,
        line: Line,
        reference_ns: UtcNs,
        cseq: int | None,
        cname: str,
    ) -> None:
        self.line = line
        self.pause_at_ns: UtcNs | None = None
        self.paused = False
        """The pause point was reached (8.5.1)."""
        self._playback = playback
        self._streams = streams
        self._transport = transport
        self._clock = clock
        self.pacing = pacing
        self._reference_ns = reference_ns
        self._cseq = None if cseq is None else cseq & 0xFF
        self._cname = cname
        self._anchor_ns: int | None = None
        """Monotonic time at which playing time is that of the line's start."""
        self._report_due_ns = 0

    @property
    def playing_ns(self) -> int:
        """Playing time of the unit to be sent next: where the line of a following PLAY goes on."""
        return self.line.at(self._playback.position_ns - self._playback.skipped_ns)

    def rtp_time(self, stream: RtpStream, utc_ns: UtcNs, skipped_ns: int = 0) -> int:
        """RTP time of a moment of the recording in this PLAY."""
        if self.pacing is Pacing.PLAYING_TIME:
            elapsed = self.line.at(utc_ns - skipped_ns)
        else:
            elapsed = utc_ns - self._reference_ns
        return (stream.base_rtp_time + ticks_from_ns(elapsed, stream.clock_rate)) & 0xFFFF_FFFF

    async def run(self) -> None:
        playback = self._playback
        while not self.paused and await playback.fill():
            await self._send_some()

    async def _send_some(self) -> None:
        """Send what is due from the queue, or wait until something is."""
        playback, queue = self._playback, self._playback.queue
        horizon = None
        if self.pacing is Pacing.PLAYING_TIME:
            horizon = await self._wait_until_due(queue[0])
        await self._report()
        out: list[Buffer] = []
        size = 0
        while queue and size < WRITE_BYTES:
            unit = queue[0]
            if self.pause_at_ns is not None and unit.utc_ns >= self.pause_at_ns:
                self.paused = True
                break
            if horizon is not None and self.line.at(unit.decode_ns - unit.skipped_ns) > horizon:
                break
            playback.take()
            size += len(unit.data)
            stream = self._streams.get(unit.stream)
            if stream is not None:
                refused = stream.refused
                stream.append(unit, self.rtp_time(stream, unit.utc_ns, unit.skipped_ns), self._cseq, out)
                if stream.refused > refused and stream.refused.bit_count() == 1:
                    log.warning("%d access units could not be sent: %s", stream.refused, stream.last_refusal)
        if out:
            await self._transport.send(out)

    async def _wait_until_due(self, unit: Unit) -> int:
        """Returns the playing time up to which units may be sent now."""
        due = self.line.at(unit.decode_ns - unit.skipped_ns)
        now = self._clock.monotonic_ns()
        if self._anchor_ns is None or now - self._anchor_ns > due - self.line.playing_ns + LATE_NS:
            self._anchor_ns = now - (due - self.line.playing_ns)
        wait = self._anchor_ns + due - self.line.playing_ns - now
        if wait > 0:
            await self._clock.sleep(wait)
        return due + TOGETHER_NS

    async def _report(self) -> None:
        """Sender reports where their time says something; with Rate-Control no there is none to say (8.11)."""
        now = self._clock.monotonic_ns()
        if self.pacing is Pacing.UNTHROTTLED or now < self._report_due_ns:
            return
        self._report_due_ns = now + REPORT_NS
        utc = self._clock.utc_ns()
        for stream in self._streams.values():
            if self.pacing is Pacing.LIVE:
                elapsed = utc - self._reference_ns
            else:
                assert self._anchor_ns is not None
                elapsed = self.line.playing_ns + now - self._anchor_ns
            rtp_time = (stream.base_rtp_time + ticks_from_ns(elapsed, stream.clock_rate)) & 0xFFFF_FFFF
            report = SenderReport(stream.ssrc, ntp_from_utc(utc), rtp_time, stream.packets, stream.octets & 0xFFFF_FFFF)
            name = SourceDescription.cname(stream.ssrc, self._cname)
            await self._transport.send_report(stream, bytes(report) + bytes(name))
