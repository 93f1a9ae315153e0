"""A session that plays: packets become units, units get their time, samples go to the tracks that want them.

The drain visits the session; everything that is due by the clock (receiver reports, keep-alives, time-outs) is looked
at in the same visit, so that a recorded camera costs no wake-up of its own.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nvr.ingest.arbiter import SourceStream
from nvr.ingest.clock import SessionClock, StreamClock, Verdict
from nvr.ingest.connection import CameraConnection
from nvr.ingest.drain import Drain
from nvr.ingest.handshake import OfferedStream, PlayingSession
from nvr.ingest.pipeline import TrackPipeline
from nvr.ingest.settings import IngestSettings, Times
from nvr.ingest.stream import StreamReceiver
from nvr.media.rtcp import Bye, ReceiverReport, SenderReport, SourceDescription, iter_compound
from nvr.media.unit import AccessUnit, CodecConfiguration, Sample
from nvr.model.errors import FormatError, SourceError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason

logger = logging.getLogger(__name__)

SampleTap = Callable[[Sample, CodecConfiguration], None]
"""Takes every sample of a stream as it comes: the live edge."""

MAXIMUM_HELD: Final = 16 << 20
"""Bytes of access units that wait for the clock."""
MEASURED_NS: Final = 2 * NS
"""Over less than this no frame rate is told."""
_PLI = struct.Struct(">BBHII")


@dataclass(slots=True, eq=False)
class SessionStream:
    """One stream of a session: where its packets come in and where its samples go."""

    offered: OfferedStream
    clock: StreamClock
    sinks: list[TrackPipeline] = field(default_factory=list)
    taps: list[SampleTap] = field(default_factory=list)
    held: list[AccessUnit] = field(default_factory=list)
    """Units that wait for the clock, in decode order."""
    held_size: int = 0
    sender_reports: int = 0
    lost_told: int = 0
    dropped_told: int = 0
    packets_seen: int = 0
    fed_at: int = 0
    """Monotonic time of the last visit that found packets."""
    ended: bool = False
    joined: bool = False
    """Somebody has begun to watch it, and no clean point has come since."""
    counted: int = 0
    """Units taken since the first visit that found some, without those."""
    counted_from: int = 0
    counted_until: int = 0
    """Monotonic times of the first and the last visit that found units."""

    @property
    def frame_rate(self) -> float | None:
        """Units a second since the stream is taken; None before there is enough to measure."""
        elapsed = self.counted_until - self.counted_from
        return self.counted * NS / elapsed if elapsed >= MEASURED_NS else None

    @property
    def info(self) -> SourceStream:
        return self.offered.info

    @property
    def receiver(self) -> StreamReceiver:
        return self.offered.receiver

    @property
    def wanted(self) -> bool:
        return bool(self.sinks or self.taps)


class Session:
    """Owns the connection from PLAY to its end. `closed` tells how it ended."""

    def __init__(self, settings: IngestSettings, times: Times, drain: Drain, cname: str, ssrc: int) -> None:
        self.clock = SessionClock(settings.clock)
        self.streams: list[SessionStream] = []
        self.closed: asyncio.Future[SourceError] = asyncio.get_running_loop().create_future()
        self.bad_reports = 0
        """RTCP packets that could not be understood."""
        self._settings = settings
        self._times = times
        self._drain = drain
        self._cname = cname
        self._ssrc = ssrc
        self._playing: PlayingSession | None = None
        self._by_receiver: dict[StreamReceiver, SessionStream] = {}
        self._drained = False
        self._keep_alive: asyncio.Task[None] | None = None
        self._next_keep_alive = 0
        self._next_report = 0
        self._fed_at = 0
        self._received = 0
        self._skew: int | None = None
        self._judgement: str | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def prepare(self, playing: PlayingSession) -> None:
        """The streams are set up; the first packets come with the answer to PLAY."""
        self._playing = playing
        now = self._times.monotonic()
        self.streams = [SessionStream(o, self.clock.stream(o.receiver.clock_rate), fed_at=now) for o in playing.streams]
        for stream in self.streams:
            self._by_receiver[stream.receiver] = stream
            stream.receiver.on_hole = lambda s=stream: self._deliver(s)  # type: ignore[misc]
            stream.receiver.on_restart = lambda s=stream: self._restarted(s)  # type: ignore[misc]
        self._fed_at = now
        self._next_report = now + self._settings.report_interval_ns
        self._next_keep_alive = now + min(self._settings.keep_alive_ns, playing.timeout_ns // 2)
        playing.connection.on_lost = self.fail
        playing.connection.on_data = self._collect

    def start(self, receive_buffer: int | None) -> None:
        """The session plays: from now on the drain visits it."""
        assert self._playing is not None
        self._drained = self._playing.connection.take_over(receive_buffer)
        self._drain.add(self)

    def fail(self, error: SourceError) -> None:
        """The session has ended; the first reason counts."""
        if not self.closed.done():
            self.closed.set_result(error)
        self._drain.remove(self)

    async def stop(self) -> None:
        """TEARDOWN with a deadline, and close. Samples must not be wanted any more."""
        playing = self._playing
        if playing is None:
            return
        try:
            if playing.connection.running and not self.closed.done():
                await playing.teardown(self._settings.teardown_timeout_ns)
        except SourceError as e:
            logger.info("%s: no answer to TEARDOWN: %s", playing.connection.endpoint, e)
        finally:
            self._drain.remove(self)
            playing.connection.abort()
            if self._keep_alive is not None:
                self._keep_alive.cancel()
                await asyncio.wait({self._keep_alive})

    def finish(self, reason: GapReason) -> None:
        """No more packets: what is complete is delivered, runs end with this reason."""
        for stream in self.streams:
            try:
                self._flush(stream)
            except Exception:
                logger.exception("%s: what was received last is lost", self._name(stream))
            for sink in stream.sinks:
                sink.end_run(reason)
            stream.sinks.clear()  # packets go on coming until the camera has answered TEARDOWN
            stream.taps.clear()
            stream.receiver.take = False

    def _flush(self, stream: SessionStream) -> None:
        if stream.receiver.depacketizer is not None and stream.receiver.take:
            stream.receiver.units.extend(stream.receiver.depacketizer.flush())
        self._deliver(stream)
        if stream.held:
            self._release_by_arrival(stream)

    @property
    def connection(self) -> CameraConnection | None:
        """What it plays on; None until the streams are set up."""
        return None if self._playing is None else self._playing.connection

    # -- consumers ---------------------------------------------------------------------------------------------------

    def attach(self, stream: SessionStream, sink: TrackPipeline | None, tap: SampleTap | None = None) -> None:
        """Samples that come from now on go to this track or tap."""
        if not stream.wanted:
            stream.counted = stream.counted_from = stream.counted_until = 0
            if stream.clock.by_reports:
                stream.clock.pause()
            else:
                self._restart_clock(stream)
            stream.lost_told, stream.dropped_told = stream.receiver.order.lost, stream.receiver.dropped
            if stream.receiver.depacketizer is not None:
                if stream.receiver.packets:
                    stream.receiver.depacketizer.lost(1)  # packets before were not taken: it joins inside a unit
                stream.receiver.take = True
        if sink is not None:
            stream.sinks.append(sink)
        if tap is not None:
            stream.taps.append(tap)
            if stream.receiver.packets and stream.info.track_type is TrackType.VIDEO:
                stream.joined = True  # who watches waits for a key frame: ask for one now
                self._next_report = min(self._next_report, self._times.monotonic())
        self._drain.hurry(self)

    def detach(self, stream: SessionStream, sink: TrackPipeline | None, tap: SampleTap | None = None) -> None:
        """The counterpart of `attach`; what has come so far is delivered first."""
        if len(stream.sinks) + len(stream.taps) == 1 and stream.receiver.depacketizer is not None:
            stream.receiver.units.extend(stream.receiver.depacketizer.flush())
        self._deliver(stream)
        if stream.held and sink in stream.sinks:
            self._release_by_arrival(stream)  # its samples cannot wait any longer
        if sink in stream.sinks:
            stream.sinks.remove(sink)
        if tap in stream.taps:
            stream.taps.remove(tap)
        if not stream.wanted:
            stream.receiver.take = False

    # -- the visit of the drain --------------------------------------------------------------------------------------

    @property
    def interval_ns(self) -> int:
        """Short while somebody watches, or while arrival times matter because no clock is fixed."""
        for stream in self.streams:
            if stream.taps or (stream.sinks and not stream.clock.fixed):
                return self._settings.live_interval_ns
        return self._settings.drain_interval_ns

    def visit(self, buffer: memoryview) -> bool:
        """Called by the drain."""
        assert self._playing is not None
        more = False
        try:
            if self._drained:
                more = self._playing.connection.drain(buffer)
            self._collect()
            self._tend()
        except SourceError as e:
            self.fail(e)  # what has been completed is delivered by `finish`
            return False
        except Exception as e:
            # A fault of ours that one camera has found ends its session; the drain goes on with the others.
            logger.exception("%s: unexpected fault", self._peer)
            self.fail(SourceError(f"{self._peer}: internal fault: {type(e).__name__}"))
            return False
        return more and not self.closed.done()

    def _collect(self) -> None:
        for stream in self.streams:
            self._deliver(stream)

    def _deliver(self, stream: SessionStream) -> None:
        """What the receiver has completed gets its time and goes to the sinks."""
        receiver = stream.receiver
        if receiver.order.lost != stream.lost_told or receiver.dropped != stream.dropped_told:
            for sink in stream.sinks:
                sink.lost(receiver.order.lost - stream.lost_told, receiver.dropped - stream.dropped_told)
            stream.lost_told, stream.dropped_told = receiver.order.lost, receiver.dropped
        units = receiver.units
        if not units:
            if stream.held and stream.clock.hold_expired(self._times.utc()):
                self._release_by_arrival(stream)
            return
        receiver.units = []
        if not stream.wanted:
            return
        at = self._times.monotonic()
        if stream.counted_from:
            stream.counted += len(units)
        else:
            stream.counted_from = at
        stream.counted_until = at
        if receiver.statistics is not None:
            # The unit that has waited least for this visit. Jitter is still mostly that of the visits: an estimate.
            receiver.statistics.sample(units[-1].rtp_time, at)
        now = self._times.utc()
        for unit in units:
            if not stream.clock.continuous(unit.rtp_time, now):
                self._new_clock(stream, GapReason.CLOCK_JUMP)
            stream.clock.observe(unit.rtp_time, now)
            if stream.clock.fixed:
                if stream.held:
                    self._release(stream)
                self._send(stream, unit)
            else:
                stream.held.append(unit)
                stream.held_size += len(unit.data)
        if stream.held and (stream.clock.hold_expired(now) or stream.held_size > MAXIMUM_HELD):
            self._release_by_arrival(stream)

    def _send(self, stream: SessionStream, unit: AccessUnit) -> None:
        utc_ns = stream.clock.utc(unit.rtp_time)
        sample = Sample(utc_ns, unit.data, unit.clean_point, unit.damaged)
        for sink in stream.sinks:
            sink.push(sample, unit.configuration)
        if unit.clean_point:
            stream.joined = False
        for tap in stream.taps:
            tap(sample, unit.configuration)

    def _release(self, stream: SessionStream) -> None:
        held, stream.held, stream.held_size = stream.held, [], 0
        for unit in held:
            self._send(stream, unit)

    def _release_by_arrival(self, stream: SessionStream) -> None:
        if not stream.clock.fixed:
            stream.clock.fix_by_arrival()
        self._release(stream)

    # -- reports -----------------------------------------------------------------------------------------------------

    def on_rtcp(self, receiver: StreamReceiver, data: bytes) -> None:
        """A compound packet has come for this stream."""
        stream = self._by_receiver.get(receiver)
        if stream is None:
            return
        try:
            for packet in iter_compound(data):
                if isinstance(packet, SenderReport):
                    self._sender_report(stream, packet)
                elif isinstance(packet, Bye):
                    self._bye(stream, packet)
        except FormatError:
            self.bad_reports += 1

    def _sender_report(self, stream: SessionStream, report: SenderReport) -> None:
        stream.sender_reports += 1
        receiver = stream.receiver
        if receiver.statistics is not None and report.ssrc == receiver.ssrc:
            receiver.statistics.sender_report(report, self._times.monotonic())
        if receiver.ssrc >= 0 and report.ssrc != receiver.ssrc:
            self.clock.refused_reports += 1  # of a source that is not ours (RFC 3550 8.2)
            return
        self._deliver(stream)  # these units came before the report
        verdict = self.clock.sender_report(stream.clock, report.ntp, report.rtp_time, self._times.utc())
        if verdict is Verdict.JUMPED:
            for sink in stream.sinks:
                sink.end_run(GapReason.CLOCK_JUMP)
            logger.warning("%s: the camera's clock has jumped; a new run begins", self._name(stream))
        elif verdict is Verdict.FIXED and stream.held:
            self._release(stream)
        if self.clock.judgement is None and self._judgement is not None:
            logger.info("%s: the camera's clock is right again", self._name(stream))
        elif self.clock.judgement is not None and self._judgement is None:
            logger.warning("%s: %s", self._name(stream), self.clock.judgement)
        self._judgement = self.clock.judgement

    def _bye(self, stream: SessionStream, bye: Bye) -> None:
        if stream.receiver.ssrc not in bye.ssrcs:
            return
        stream.ended = True
        if all(s.ended for s in self.streams if s.receiver.packets):
            reason = f" ({bye.reason})" if bye.reason else ""
            raise SourceError(f"{self._peer} has ended the stream with BYE{reason}")

    def _report(self) -> None:
        """A receiver report for every stream on its own RTCP channel (RFC 3550 6.1: with SDES), and a PLI where a run
        or somebody who watches waits for a picture that decoding can start with (IEC 62676-2-32 10.2)."""
        assert self._playing is not None
        now = self._times.monotonic()
        for stream in self.streams:
            receiver, channel = stream.receiver, stream.offered.rtcp_channel
            if channel is None or receiver.statistics is None:
                continue
            receiver.count()
            packet = bytes(ReceiverReport(self._ssrc, (receiver.statistics.report(now),)))
            packet += bytes(SourceDescription.cname(self._ssrc, self._cname))
            if stream.joined or any(sink.waits_for_clean_point for sink in stream.sinks):
                packet += _PLI.pack(0x81, 206, 2, self._ssrc, receiver.ssrc)
            self._playing.connection.send_frame(channel, packet)

    # -- what is due by the clock ------------------------------------------------------------------------------------

    def _tend(self) -> None:
        now = self._times.monotonic()
        self._watch_data(now)
        utc = self._times.utc()
        self._watch_own_clock(utc - now)
        for stream in self.streams:
            if stream.info.track_type is TrackType.METADATA and stream.clock.fixed:
                for sink in stream.sinks:
                    sink.idle(utc)
        if now >= self._next_report:
            self._next_report = now + self._settings.report_interval_ns
            self._report()
        if now >= self._next_keep_alive:
            assert self._playing is not None
            self._next_keep_alive = now + min(self._settings.keep_alive_ns, self._playing.timeout_ns // 2)
            if self._keep_alive is None or self._keep_alive.done():
                self._keep_alive = asyncio.get_running_loop().create_task(self._send_keep_alive())

    def _watch_data(self, now: int) -> None:
        assert self._playing is not None
        limit = self._settings.no_data_timeout_ns
        received = self._playing.connection.bytes_received
        if received != self._received:
            self._received, self._fed_at = received, now  # reports and answers tell as well that somebody is there
        for stream in self.streams:
            if stream.receiver.packets != stream.packets_seen:
                stream.packets_seen = stream.receiver.packets
                stream.receiver.count()
                stream.fed_at = now
                stream.ended = False
            elif stream.sinks and stream.info.track_type is TrackType.VIDEO and now - stream.fed_at > limit:
                # Sound may pause and metadata be rare, but a camera without pictures is broken.
                raise SourceError(f"{self._peer} has sent no video for {limit / 1e9:g} s")
        if all(s.info.track_type is TrackType.METADATA for s in self.streams if s.offered.rtcp_channel is not None):
            limit = max(limit, 2 * self._settings.keep_alive_ns)  # nothing may happen for long; keep-alives tell
        if now - self._fed_at > limit:
            raise SourceError(f"{self._peer} has sent nothing for {limit / 1e9:g} s")

    def _watch_own_clock(self, skew: int) -> None:
        """The recorder's own clock was set: what was measured by it is void."""
        before, self._skew = self._skew, skew
        if before is None or abs(skew - before) <= self._settings.clock.jump_ns:
            return
        logger.warning("the clock of this recorder has jumped by %.1f s", (skew - before) / 1e9)
        self.clock.rejudge()
        for stream in self.streams:
            if stream.clock.fixed and not stream.clock.by_reports:
                self._new_clock(stream, GapReason.CLOCK_JUMP)

    async def _send_keep_alive(self) -> None:
        assert self._playing is not None
        playing = self._playing
        method = "GET_PARAMETER" if "GET_PARAMETER" in playing.public else "OPTIONS"
        try:
            answer = await playing.connection.request(
                method, playing.uri, playing.headers(), timeout_ns=self._settings.request_timeout_ns
            )
        except SourceError as e:
            # Some cameras never answer a keep-alive while they stream. Whether packets come decides, not this.
            logger.info("keep-alive: %s", e)
            return
        if answer.status == 454:
            self.fail(SourceError(f"{self._peer} has forgotten the session (454 to {method})"))
        elif not answer.ok and method == "GET_PARAMETER":
            playing.public -= {"GET_PARAMETER"}  # claimed but not served: OPTIONS next time

    # -- changes of clock --------------------------------------------------------------------------------------------

    def _restarted(self, stream: SessionStream) -> None:
        """New SSRC or sequence: what was completed belongs to the old source."""
        self._deliver(stream)
        self._new_clock(stream, GapReason.SOURCE_LOST)

    def _new_clock(self, stream: SessionStream, reason: GapReason) -> None:
        if stream.held:
            self._release_by_arrival(stream)
        for sink in stream.sinks:
            sink.end_run(reason)
        self._restart_clock(stream)

    def _restart_clock(self, stream: SessionStream) -> None:
        stream.clock = self.clock.stream(stream.receiver.clock_rate)

    @property
    def _peer(self) -> str:
        assert self._playing is not None
        return str(self._playing.connection.endpoint)

    def _name(self, stream: SessionStream) -> str:
        return f"{self._peer}, stream {stream.info.index} ({stream.info.encoding})"
