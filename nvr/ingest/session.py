"""A session that plays: packets become units, units get their time, samples go to the tracks that want them.

The drain visits the session; everything that is due by the clock (receiver reports, keep-alives, time-outs) is looked
at in the same visit, so that a recorded camera costs no wake-up of its own.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable

from nvr.ingest.clock import SessionClock, Verdict
from nvr.ingest.connection import CameraConnection
from nvr.ingest.delivery import SampleTap, SessionStream
from nvr.ingest.drain import Drain
from nvr.ingest.handshake import PlayingSession
from nvr.ingest.memory import HeldMemory
from nvr.ingest.pipeline import TrackPipeline
from nvr.ingest.settings import IngestSettings, Times
from nvr.ingest.stream import StreamReceiver
from nvr.ingest.udp import UdpMedia
from nvr.media.rtcp import Bye, ReceiverReport, SenderReport, SourceDescription, iter_compound
from nvr.model.errors import FormatError, SourceError
from nvr.model.receiver import TransportProtocol
from nvr.model.recording import TrackType
from nvr.model.timeline import GapReason

logger = logging.getLogger(__name__)

_LAST_VISITS = 8
"""Turns in which the last bytes of a session are fetched: more than a drain interval of any camera."""
_PLI = struct.Struct(">BBHII")


class NothingOverUdp(SourceError):
    """PLAY was accepted, and no packet has come over UDP: something on the way keeps them back."""


class Session:
    """Owns the connection from PLAY to its end. `closed` tells how it ended."""

    def __init__(
        self,
        settings: IngestSettings,
        times: Times,
        drain: Drain,
        cname: str,
        ssrc: int,
        memory: HeldMemory | None = None,
        label: Callable[[], str] = lambda: "",
    ) -> None:
        """`label` is what log lines call the receiver."""
        self._label = label
        self.clock = SessionClock(settings.clock)
        self.streams: list[SessionStream] = []
        self.closed: asyncio.Future[SourceError] = asyncio.get_running_loop().create_future()
        self.bad_reports = 0
        """RTCP packets that could not be understood."""
        self.overruns = 0
        """Datagrams that this machine has dropped."""
        self._settings = settings
        self._times = times
        self._drain = drain
        self._cname = cname
        self._ssrc = ssrc
        self._memory = HeldMemory() if memory is None else memory
        self._playing: PlayingSession | None = None
        self._began_at = 0
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
        self.streams = [SessionStream(o, self.clock, self._times, self._memory) for o in playing.streams]
        self._by_receiver = {stream.receiver: stream for stream in self.streams}
        self._fed_at = self._began_at = now
        self._next_report = now + self._settings.report_interval_ns
        self._next_keep_alive = now + min(self._settings.keep_alive_ns, playing.timeout_ns // 2)
        playing.connection.on_lost = self.fail
        playing.connection.on_data = self._collect

    def start(self, receive_buffer: int | None) -> None:
        """The session plays: from now on the drain visits it."""
        assert self._playing is not None
        self._fed_at = self._began_at = self._times.monotonic()
        if self._playing.udp is None:
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
            # Interleaved, nobody reads the answer once the session has failed; the closed connection tells the camera.
            if playing.connection.running and (playing.udp is not None or not self.closed.done()):
                await playing.teardown(self._settings.teardown_timeout_ns)
        except SourceError as e:
            logger.info("%s: no answer to TEARDOWN: %s", self._logged, e)
        finally:
            self._drain.remove(self)
            playing.connection.abort()
            if playing.udp is not None:
                playing.udp.close()
            if self._keep_alive is not None:
                self._keep_alive.cancel()
                await asyncio.wait({self._keep_alive})

    def finish(self, reason: GapReason) -> None:
        """No more packets: what is complete is delivered, runs end with this reason."""
        self.fetch_rest()
        for stream in self.streams:
            try:
                stream.finish(reason)
            except Exception:
                logger.exception("%s: what was received last is lost", self._name(stream))

    def fetch_rest(self) -> None:
        """What has come since the last visit of the drain."""
        if self._playing is None or not (self._drained or self._playing.udp is not None):
            return
        buffer = memoryview(bytearray(1 << 19))
        try:
            for _ in range(_LAST_VISITS):
                if not self._fetch(buffer):
                    break
        except SourceError as e:
            logger.debug("%s: at the end: %s", self._logged, e)  # why it ends has been told
        except Exception:
            logger.exception("%s: what was received last is lost", self._logged)

    def _fetch(self, buffer: memoryview) -> bool:
        assert self._playing is not None
        if self._drained:
            return self._playing.connection.drain(buffer)
        if self._playing.udp is not None:
            return self._playing.udp.drain(buffer, self._times.monotonic())
        return False

    @property
    def transport(self) -> TransportProtocol | None:
        """How media come; None until the streams are set up."""
        return None if self._playing is None else self._playing.transport

    @property
    def connection(self) -> CameraConnection | None:
        """What it plays on; None until the streams are set up."""
        return None if self._playing is None else self._playing.connection

    # -- consumers ---------------------------------------------------------------------------------------------------

    @property
    def udp(self) -> UdpMedia | None:
        """The sockets on which it receives, where that is UDP."""
        return None if self._playing is None else self._playing.udp

    def attach(self, stream: SessionStream, sink: TrackPipeline | None, tap: SampleTap | None = None) -> None:
        """Samples that come from now on go to this track or tap."""
        stream.attach(sink, tap)
        if stream.joined:
            self._next_report = min(self._next_report, self._times.monotonic())  # which asks for a key frame
        self._drain.hurry(self)

    def detach(self, stream: SessionStream, sink: TrackPipeline | None, tap: SampleTap | None = None) -> None:
        """The counterpart of `attach`; what has come so far is delivered first."""
        stream.detach(sink, tap)

    # -- the visit of the drain --------------------------------------------------------------------------------------

    @property
    def interval_ns(self) -> int:
        """Short while somebody watches, while arrival times matter because no clock is fixed, and where the receive
        buffer of a UDP socket is too small for more."""
        if self.udp is not None and self.udp.tight:
            return self._settings.live_interval_ns
        for stream in self.streams:
            if stream.taps or (stream.sinks and not stream.clock.fixed):
                return self._settings.live_interval_ns
        return self._settings.drain_interval_ns

    def visit(self, buffer: memoryview) -> bool:
        """Called by the drain."""
        assert self._playing is not None
        try:
            more = self._fetch(buffer)
            self._collect()
            self._tend()
        except SourceError as e:
            self.fail(e)  # what has been completed is delivered by `finish`
            return False
        except Exception as e:
            # A fault of ours that one camera has found ends its session; the drain goes on with the others.
            logger.exception("%s: unexpected fault", self._logged)
            self.fail(SourceError(f"{self._peer}: internal fault: {type(e).__name__}"))
            return False
        return more and not self.closed.done()

    def _collect(self) -> None:
        for stream in self.streams:
            stream.deliver()

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
        stream.deliver()  # these units came before the report
        verdict = self.clock.sender_report(stream.clock, report.ntp, report.rtp_time, self._times.utc())
        if verdict is Verdict.JUMPED:
            stream.end_runs(GapReason.CLOCK_JUMP)
            logger.warning("%s: the camera's clock has jumped; a new run begins", self._name(stream))
        elif verdict is Verdict.FIXED and stream.held:
            stream.release()
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
        now, udp = self._times.monotonic(), self._playing.udp
        if udp is not None:
            udp.punch(self._ssrc)
            self._tell_overruns(udp)
        for stream in self.streams:
            receiver, channel = stream.receiver, stream.offered.rtcp_channel
            if channel is None or receiver.statistics is None:
                continue
            receiver.count()
            packet = bytes(ReceiverReport(self._ssrc, (receiver.statistics.report(now),)))
            packet += bytes(SourceDescription.cname(self._ssrc, self._cname))
            if stream.joined or any(sink.waits_for_clean_point for sink in stream.sinks):
                packet += _PLI.pack(0x81, 206, 2, self._ssrc, receiver.ssrc)
            if udp is not None:
                udp.send_report(receiver, packet)
            else:
                self._playing.connection.send_frame(channel, packet)

    def _tell_overruns(self, udp: UdpMedia) -> None:
        overruns = udp.overruns()
        if overruns > self.overruns:
            logger.warning(
                "%s: %d datagrams were dropped by this machine, because they were not fetched in time: it is too busy, "
                "or net.core.rmem_max too small",
                self._logged,
                overruns - self.overruns,
            )
        self.overruns = overruns

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
        udp = self._playing.udp
        received = self._playing.connection.bytes_received + (udp.bytes_received if udp is not None else 0)
        silence = self._settings.udp_silence_ns
        if udp is not None and now - self._began_at > silence and self._silent(udp):
            raise NothingOverUdp(f"{self._peer} has sent nothing over UDP for {silence / 1e9:g} s")
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

    def _silent(self, udp: UdpMedia) -> bool:
        """Whether nothing at all has come of the pictures, or without those of the sound; of metadata, which may be
        rare, no report either."""
        streams = [s for s in self.streams if s.offered.rtcp_channel is not None]
        for kind in (TrackType.VIDEO, TrackType.AUDIO):
            if of_kind := [s for s in streams if s.info.track_type is kind]:
                return all(s.receiver.packets == 0 for s in of_kind)
        return not udp.bytes_received

    def _watch_own_clock(self, skew: int) -> None:
        """The recorder's own clock was set: what was measured by it is void."""
        before, self._skew = self._skew, skew
        if before is None or abs(skew - before) <= self._settings.clock.jump_ns:
            return
        logger.warning("the clock of this recorder has jumped by %.1f s", (skew - before) / 1e9)
        self.clock.rejudge()
        for stream in self.streams:
            if stream.clock.fixed and not stream.clock.by_reports:
                stream.new_clock(GapReason.CLOCK_JUMP)

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
            logger.info("%s: keep-alive: %s", self._logged, e)
            return
        if answer.status == 454:
            self.fail(SourceError(f"{self._peer} has forgotten the session (454 to {method})"))
        elif not answer.ok and method == "GET_PARAMETER":
            playing.public -= {"GET_PARAMETER"}  # claimed but not served: OPTIONS next time

    @property
    def _peer(self) -> str:
        assert self._playing is not None
        return str(self._playing.connection.endpoint)

    def _name(self, stream: SessionStream) -> str:
        return f"{self._logged}, stream {stream.info.index} ({stream.info.encoding})"

    @property
    def _logged(self) -> str:
        label = self._label()
        return f"receiver {label}, {self._peer}" if label else self._peer
