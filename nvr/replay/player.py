"""The player of one RTSP session: takes units from their source, paces them, gives them RTP time and sends them.

Paced (Rate-Control yes, 8.5.3, 8.6.4): the playing time of a unit is its place on the line of the plan (recorded time
in the direction of play, without the gaps that nothing was recorded in), divided by Scale; RTP time follows playing
time, and so does delivery, faster or slower by Speed. Unpaced (Rate-Control no): RTP time follows recorded time, gaps
included, and the transport's back-pressure is the only brake. Live: units are sent as they come, RTP time follows UTC.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Final, Protocol

from nvr.media.rtcp import SenderReport, SourceDescription
from nvr.media.unit import CodecConfiguration
from nvr.model.time import NS, UtcNs, ntp_from_utc, ticks_from_ns
from nvr.replay.clock import Clock
from nvr.replay.reader import UnitSource
from nvr.replay.sender import Buffer, RtpStream
from nvr.replay.unit import Position, Unit

log = logging.getLogger(__name__)

WRITE_BYTES: Final = 64 * 1024
"""Sample data per write. Packing it takes well under a millisecond, so that the loop stays free for others."""
TURN_NS: Final = 10_000_000
"""Players wake at multiples of this, all of them together, and send what is due up to the next one: never late by
turns, early by less than one. A wake-up of the loop for each unit of each player costs more than its packets do."""
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

    async def behind_answer(self) -> None:
        """Returns when packets will not overtake the answer to PLAY, which has just been written."""

    def close(self) -> None:
        """The session that it was set up for has ended."""


@dataclass(frozen=True, slots=True)
class Line:
    """From places on the line of a plan to playing time: `playing_ns` at `place_ns`, with slope 1 / `scale`, above 0.

    `speed` is by how much delivery is faster than playing (RFC 2326 12.35).
    """

    place_ns: int
    playing_ns: int
    scale: Fraction
    speed: Fraction = Fraction(1)
    _ratios: tuple[int, int, int, int] = field(init=False, repr=False)
    """The parts of both: a fraction computes them anew each time it is asked, several times for each unit."""

    def __post_init__(self) -> None:
        ratios = (*self.scale.as_integer_ratio(), *self.speed.as_integer_ratio())
        object.__setattr__(self, "_ratios", ratios)

    def at(self, place_ns: int) -> int:
        over, by, _, _ = self._ratios
        return self.playing_ns + (place_ns - self.place_ns) * by // over

    def delivery(self, place_ns: int) -> int:
        """Time of delivery since the start of the line."""
        over, by, faster, than = self._ratios
        return (place_ns - self.place_ns) * by // over * than // faster

    def played(self, elapsed_ns: int) -> int:
        """Playing time after so much time of delivery."""
        _, _, faster, than = self._ratios
        return self.playing_ns + elapsed_ns * faster // than


@dataclass(slots=True)
class Playback:
    """One position in one source. Survives PAUSE; a PLAY with Range replaces it."""

    source: UnitSource
    position: Position
    """Of the unit to be sent next; that of the last one sent while `behind`."""
    queue: deque[Unit] = field(default_factory=deque)
    """Taken from the source and not yet sent."""
    end_ns: UtcNs | None = None
    """End of a closed range."""
    start_ns: UtcNs | None = None
    """Start of the range, as it was asked for."""
    reverse: bool = False
    exhausted: bool = False
    behind: bool = False
    """Everything taken has been sent, and what comes next is not known yet."""
    first: Mapping[int, CodecConfiguration] = field(default_factory=dict)
    """Of streams of which nothing has been taken, the configuration of the first unit, where it is known."""

    def next_configurations(self) -> dict[int, CodecConfiguration]:
        """Of each stream, the configuration of what comes next, where it is known. Asked before anything is sent."""
        found, self.first = dict(self.first), {}
        for unit in reversed(self.queue):
            found[unit.stream] = unit.configuration
        return found

    @property
    def ready(self) -> bool:
        """`fill` would find nothing to do."""
        return bool(self.queue) and not self.behind

    async def fill(self) -> bool:
        """See to it that the queue holds the unit to be sent next. False: nothing more will come.

        May be cancelled at any time without losing a unit.
        """
        if not self.queue and not self.exhausted:
            units = await self.source.units()
            self.queue.extend(units)
            self.exhausted = not units
        if self.behind and self.queue:
            self.position = self.queue[0].position
            self.behind = False
        return bool(self.queue)

    def take(self) -> Unit:
        """The unit to be sent next; the queue holds one."""
        unit = self.queue.popleft()
        self.behind = not self.queue
        self.position = (self.queue[0] if self.queue else unit).position
        return unit


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
        """Monotonic time at which delivery is at the line's start."""
        self._report_due_ns = 0

    @property
    def playing_ns(self) -> int:
        """Playing time of the unit to be sent next: where the line of a following PLAY goes on."""
        return self.line.at(self._playback.position.due_ns)

    def rtp_time(self, stream: RtpStream, utc_ns: UtcNs, shown_ns: int, clock_rate: int) -> int:
        """RTP time of a moment of the recording in this PLAY, of which both time and place are given."""
        paced = self.pacing is Pacing.PLAYING_TIME
        elapsed = self.line.at(shown_ns) if paced else utc_ns - self._reference_ns
        return (stream.base_rtp_time + ticks_from_ns(elapsed, clock_rate)) & 0xFFFF_FFFF

    async def run(self) -> None:
        playback = self._playback
        while not self.paused and (playback.ready or await self._comes()):
            await self._send_some()

    async def _comes(self) -> bool:
        """Whether there is a unit to be sent. While it is waited for, at the live edge for long, reports go on."""
        playback = self._playback
        while self._report_due_ns and not playback.queue and not playback.exhausted:
            now = await self._report_in_time(self._clock.monotonic_ns())
            try:
                async with asyncio.timeout((self._report_due_ns - now) / NS) as until_report:
                    return await playback.fill()  # nothing is lost when it is broken off
            except TimeoutError:
                if not until_report.expired():
                    raise  # it is that of a disk
        return await playback.fill()

    async def _send_some(self) -> None:
        """Send what is due from the queue, or wait until something is."""
        playback, queue, line = self._playback, self._playback.queue, self.line
        horizon = None
        if self.pacing is Pacing.PLAYING_TIME:
            horizon = await self._wait_until_due(queue[0])
        else:
            await self._report_in_time(self._clock.monotonic_ns())
        out: list[Buffer] = []
        size = 0
        while queue and size < WRITE_BYTES:
            unit = queue[0]
            if self.pause_at_ns is not None and self._reached(unit, self.pause_at_ns):
                self.paused = True
                break
            if horizon is not None and line.delivery(unit.due_ns) >= horizon:
                break
            playback.take()
            size += len(unit.data)
            stream = self._streams.get(unit.stream)
            if stream is not None:
                refused, clock_rate = stream.refused, stream.clock_rate
                rtp_time = self.rtp_time(stream, unit.utc_ns, unit.shown_ns, unit.configuration.clock_rate)
                stream.append(unit, rtp_time, self._cseq, out)
                if stream.clock_rate != clock_rate:
                    self._report_due_ns = 0  # what the last one has tied is of another clock (RFC 7160 4.1)
                if stream.refused > refused and stream.refused.bit_count() == 1:
                    log.warning("%d access units could not be sent: %s", stream.refused, stream.last_refusal)
        if out:
            await self._transport.send(out)
        if not self._report_due_ns:
            await self._report_in_time(self._clock.monotonic_ns())

    def _reached(self, unit: Unit, at_ns: UtcNs) -> bool:
        """Whether a pause point stands before this unit. In reverse the group that holds the point is sent whole."""
        return unit.reach_ns <= at_ns if self._playback.reverse else unit.utc_ns >= at_ns

    async def _wait_until_due(self, unit: Unit) -> int:
        """Returns the time of delivery before which units may be sent now. Who comes late sends all that is due
        meanwhile in one go, so that many players that are late together need less of what they lack."""
        due = self.line.delivery(unit.due_ns)
        now = self._clock.monotonic_ns()
        if self._anchor_ns is None or now - self._anchor_ns > due + LATE_NS:
            self._anchor_ns = now - due
        turn = (self._anchor_ns + due) // TURN_NS * TURN_NS
        now = await self._report_in_time(now)
        while now < turn:
            await self._clock.sleep(min(turn, self._report_due_ns) - now)
            now = await self._report_in_time(self._clock.monotonic_ns())
        return max(turn, now) + TURN_NS - self._anchor_ns

    async def _report_in_time(self, now: int) -> int:
        """Sender reports, where they are due now; returns the monotonic time."""
        if now >= self._report_due_ns:
            await self._report(now)
        return now

    async def _report(self, now: int) -> None:
        """Sender reports (8.11): the first before the first packet. They tie RTP time to the present; with Rate-Control
        no there is no such tie, and both times are zero."""
        self._report_due_ns = now + REPORT_NS
        utc = self._clock.utc_ns()
        for stream in self._streams.values():
            ntp, rtp_time = 0, 0
            if self.pacing is not Pacing.UNTHROTTLED:
                elapsed = self._played_ns(utc, now)
                ntp = ntp_from_utc(utc)
                rtp_time = (stream.base_rtp_time + ticks_from_ns(elapsed, stream.clock_rate)) & 0xFFFF_FFFF
            report = SenderReport(stream.ssrc, ntp, rtp_time, stream.packets, stream.octets & 0xFFFF_FFFF)
            name = SourceDescription.cname(stream.ssrc, self._cname)
            await self._transport.send_report(stream, bytes(report) + bytes(name))

    def _played_ns(self, utc_ns: UtcNs, monotonic_ns: int) -> int:
        """What RTP time counts, at this moment."""
        if self.pacing is Pacing.LIVE:
            return utc_ns - self._reference_ns
        assert self._anchor_ns is not None
        return self.line.played(monotonic_ns - self._anchor_ns)
