"""One receiver at work: connects, maps its streams to tracks, loses the connection, tries again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from operator import add, attrgetter
from typing import Protocol

from nvr.ingest.arbiter import SourceStream, map_streams
from nvr.ingest.assignment import Binding
from nvr.ingest.drain import Drain
from nvr.ingest.endpoint import Endpoint
from nvr.ingest.handshake import PlayingSession, open_session
from nvr.ingest.live import LiveOffer, LiveTap
from nvr.ingest.pipeline import Recorder, TrackPipeline
from nvr.ingest.session import SampleTap, Session, SessionStream
from nvr.ingest.settings import IngestSettings, Times
from nvr.media.unit import CodecConfiguration
from nvr.model.errors import SourceError
from nvr.model.job import INCOMPATIBLE_STREAM, RecordingJobState
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverState
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import ReceiverToken, TrackKey

logger = logging.getLogger(__name__)


class Storage(Protocol):
    """What ingest needs of the storage engine."""

    def recorder(self, key: TrackKey, track_type: TrackType) -> Recorder:
        """Where fragments of a track go; never blocks."""

    def configuration(self, key: TrackKey) -> CodecConfiguration | None:
        """That of the newest data in the track; None while it is empty."""


class Watcher(Protocol):
    """Who wants to know how receivers fare (`nvr.events`). Must not block."""

    def receiver_changed(self, token: ReceiverToken, state: ReceiverState) -> None:
        """The connection has another state."""

    def connection_failed(self, token: ReceiverToken) -> None:
        """An attempt to connect has come to nothing."""


@dataclass(frozen=True, slots=True)
class ReceiverCounters:
    """What a receiver has done since the daemon started; for metrics. Bytes are those on the connection."""

    connects: int = 0
    failed_attempts: int = 0
    connections_lost: int = 0
    bytes: int = 0
    packets: int = 0
    lost: int = 0
    duplicates: int = 0
    bad_packets: int = 0
    garbage: int = 0
    """Bytes that were neither RTP nor RTSP."""
    unknown_channels: int = 0
    """Frames on channels that nobody had set up."""
    other_payload_types: int = 0
    """Packets of a payload type that had not been chosen from the description."""
    dropped_units: int = 0
    skipped_samples: int = 0
    fragments: int = 0
    restarts: int = 0
    sender_reports: int = 0
    refused_reports: int = 0
    stray_answers: int = 0
    clock_overruled: bool = False
    """Whether the camera's clock is not believed now."""

    def __add__(self, other: ReceiverCounters) -> ReceiverCounters:
        return ReceiverCounters(*(*map(add, _counts(self), _counts(other)), other.clock_overruled))


_counts = attrgetter(*(n for n in ReceiverCounters.__slots__ if n != "clock_overruled"))
"""In the order of the fields, of which clock_overruled is the last."""


def _pipeline_counters(pipeline: TrackPipeline, overruled: bool) -> ReceiverCounters:
    return ReceiverCounters(skipped_samples=pipeline.skipped, fragments=pipeline.appended, clock_overruled=overruled)


def _offers(session: Session) -> list[LiveOffer]:
    """The streams that can be recorded and watched."""
    offers = []
    for stream in session.streams:
        info, depacketizer = stream.info, stream.receiver.depacketizer
        if info.track_type is not None and stream.offered.problem is None and depacketizer is not None:
            offers.append(LiveOffer(info.index, info.track_type, depacketizer.configuration, stream.frame_rate))
    return offers


def _numbered(tap: LiveTap, index: int) -> SampleTap:
    return lambda sample, configuration: tap.sample(index, sample, configuration)


class BackOff:
    """Pauses between attempts: doubled with every failure up to a maximum, each between 75 % and 125 % of that, so
    that forty cameras behind one switch do not come back in step. Durations in nanoseconds."""

    def __init__(self, first_ns: int, maximum_ns: int, uniform: Callable[[float, float], float]) -> None:
        self._first = first_ns
        self._maximum = maximum_ns
        self._uniform = uniform
        self._failures = 0

    def pause_ns(self) -> int:
        """The pause behind one more failure."""
        pause = min(self._maximum, self._first << min(self._failures, 32))
        self._failures += 1
        return int(pause * self._uniform(0.75, 1.25))

    def reset(self) -> None:
        """A connection has proved good."""
        self._failures = 0


@dataclass(slots=True)
class _Track:
    """A binding, and what has become of it in the present session."""

    binding: Binding
    pipeline: TrackPipeline
    stream: SessionStream | None = None
    error: str | None = None


class Source:
    """Holds a connection to the receiver's media URI for as long as it lives."""

    def __init__(
        self,
        receiver: Receiver,
        storage: Storage,
        settings: IngestSettings,
        times: Times,
        drain: Drain,
        *,
        receive_buffer: int | None,
        tls: Callable[[], Awaitable[ssl.SSLContext]],
        on_streams: Callable[[ReceiverToken, Sequence[SourceStream]], None],
        watcher: Callable[[], Watcher | None] = lambda: None,
    ) -> None:
        self.token = receiver.token
        self.configuration: ReceiverConfiguration = receiver.configuration
        self._state = ReceiverState.NOT_CONNECTED
        self._watcher = watcher
        self._told: dict[TrackKey, tuple[RecordingJobState, str | None]] = {}
        self.error: str | None = None
        """Why the last attempt failed or the last connection ended; None while connected and before the first."""
        self._storage = storage
        self._settings = settings
        self._times = times
        self._drain = drain
        self._receive_buffer = receive_buffer
        self._tls = tls
        self._on_streams = on_streams
        self._back_off = BackOff(settings.back_off_ns, settings.back_off_maximum_ns, random.uniform)
        self._tracks: dict[TrackKey, _Track] = {}
        self._taps: dict[TrackKey, list[SampleTap]] = {}
        self._last_offers: Sequence[LiveOffer] = ()
        self._live: dict[LiveTap, dict[int, SampleTap]] = {}
        """Who watches all streams, with what is attached to each stream of the present session, by its index."""
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._end_reason = GapReason.SOURCE_LOST
        self._grace_until = 0
        self._in_grace: set[TrackKey] = set()
        self._connected_at = 0
        self._counted = ReceiverCounters()
        self._ssrc = random.getrandbits(32)

    # -- what shall be -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"receiver {self.token}")

    async def stop(self, reason: GapReason) -> None:
        """End runs with this reason, end the session at the camera (with a deadline) and the task."""
        self._stopping = True
        self._end_reason = reason
        self._end_tracks(reason)
        self._wake.set()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})
            self._task.result()

    def reconfigure(self, configuration: ReceiverConfiguration) -> None:
        """Connect anew where other parameters ask for it. Tracks that are Active stay so for a few seconds (5.19)."""
        known, self.configuration = self.configuration, configuration
        if (known.media_uri, known.stream_setup) == (configuration.media_uri, configuration.stream_setup):
            return
        self._last_offers = ()
        self._in_grace = {k for k in self._tracks if self.track_state(k)[0] is RecordingJobState.ACTIVE}
        self._grace_until = self._times.monotonic() + self._settings.configure_grace_ns
        self.error = None
        self._back_off.reset()
        self._wake.set()
        if self._attempt is not None:
            self._attempt.cancel()

    def keep_only(self, keys: Collection[TrackKey]) -> None:
        """Let go of all other tracks: somebody else feeds them, or nobody."""
        for key in [k for k in self._tracks if k not in keys]:
            track = self._tracks.pop(key)
            self._unplug(track)
            track.pipeline.end_run(GapReason.JOB_STOPPED)
            self._counted += _pipeline_counters(track.pipeline, False)

    def bind(self, bindings: Sequence[Binding]) -> None:
        """The tracks that this receiver feeds from now on. Those that stay are not disturbed."""
        wanted = {b.key: b for b in bindings}
        self.keep_only(wanted)
        for key, binding in wanted.items():
            known = self._tracks.get(key)
            if known is None:
                recorder = self._storage.recorder(key, binding.track_type)
                pipeline = TrackPipeline(recorder, binding.track_type, self._settings.pipeline)
                self._tracks[key] = _Track(binding, pipeline)
            else:
                known.binding = binding
        self._plug()

    def tap(self, key: TrackKey, tap: SampleTap) -> Callable[[], None]:
        """Hand every sample of this track's stream to `tap` as it comes, until the returned function is called."""
        self._taps.setdefault(key, []).append(tap)
        track = self._tracks.get(key)
        if track is not None and track.stream is not None and self._session is not None:
            self._session.attach(track.stream, None, tap)

        def remove() -> None:
            taps = self._taps.get(key, [])
            if tap in taps:
                taps.remove(tap)
                at = self._tracks.get(key)
                if at is not None and at.stream is not None and self._session is not None:
                    self._session.detach(at.stream, None, tap)

        return remove

    def watch(self, tap: LiveTap) -> None:
        """Tell `tap` of this receiver's sessions and samples from now on. A failure that lasts is told at once."""
        self._live[tap] = {}
        if self._session is not None:
            self._plug_live(tap, self._session)
        elif self.error is not None:
            tap.lost(self.error)

    def unwatch(self, tap: LiveTap) -> None:
        """The counterpart of `watch`; nothing is told any more."""
        attached = self._live.pop(tap, {})
        if self._session is not None:
            for index, sample_tap in attached.items():
                self._session.detach(self._session.streams[index], None, sample_tap)

    def _plug_live(self, tap: LiveTap, session: Session) -> None:
        offers = _offers(session)
        attached = self._live[tap] = {o.index: _numbered(tap, o.index) for o in offers}
        for index, sample_tap in attached.items():
            session.attach(session.streams[index], None, sample_tap)
        tap.connected(offers)

    def _tell_lost(self, reason: str) -> None:
        for tap in list(self._live):
            self._live[tap] = {}
            tap.lost(reason)

    # -- what is -----------------------------------------------------------------------------------------------------

    def offers(self) -> Sequence[LiveOffer]:
        """What the receiver sends: in the present session, else in the last one; empty where there was none."""
        return self._last_offers if self._session is None else _offers(self._session)

    @property
    def state(self) -> ReceiverState:
        return self._state

    def _become(self, state: ReceiverState) -> None:
        if state is self._state:
            return
        self._state = state
        self._tell(lambda watcher: watcher.receiver_changed(self.token, state))

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        watcher = self._watcher()
        if watcher is None:
            return
        try:
            what(watcher)
        except Exception:  # who is told of a connection must not end it
            logger.exception("receiver %s: its state could not be told", self.token)

    def tracks_changed(self) -> bool:
        """Whether a track has another state than when this was asked last."""
        states = {key: self.track_state(key) for key in self._tracks}
        changed = states != self._told
        self._told = states
        return changed

    def track_state(self, key: TrackKey) -> tuple[RecordingJobState, str | None]:
        """State of a track that this receiver feeds, with an English text for Error (5.19)."""
        track = self._tracks[key]
        if self.state is ReceiverState.CONNECTED:
            state = self._state_connected(track)
        elif self.error is not None:
            state = RecordingJobState.ERROR, self.error
        else:
            state = RecordingJobState.IDLE, None  # the first attempt is running
        if state[0] is not RecordingJobState.ACTIVE and key in self._in_grace:
            if self._times.monotonic() < self._grace_until:
                return RecordingJobState.ACTIVE, None
            self._in_grace.discard(key)
        return state

    def _state_connected(self, track: _Track) -> tuple[RecordingJobState, str | None]:
        if track.error is not None:
            return RecordingJobState.ERROR, track.error
        stream = track.stream
        if stream is None:
            return RecordingJobState.IDLE, None  # the camera has no such stream
        if track.pipeline.refused:
            return RecordingJobState.ERROR, "the storage does not take the data"
        # Metadata may be rare: there the accepted PLAY has to do. Pictures and sound have to come.
        flows = stream.receiver.packets > 0 or track.binding.track_type is TrackType.METADATA
        return (RecordingJobState.ACTIVE if flows else RecordingJobState.IDLE), None

    def counters(self) -> ReceiverCounters:
        """Since the daemon started."""
        total = self._counted + self._session_counters()
        pipelines = [track.pipeline for track in self._tracks.values()]
        return replace(
            total,
            skipped_samples=total.skipped_samples + sum(p.skipped for p in pipelines),
            fragments=total.fragments + sum(p.appended for p in pipelines),
        )

    # -- connection --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._attempt = asyncio.get_running_loop().create_task(self._connect_and_hold())
            try:
                await asyncio.wait({self._attempt})
            except asyncio.CancelledError:
                self._attempt.cancel()
                await asyncio.wait({self._attempt})
                raise
            if self._stopping:
                break
            if not self._attempt.cancelled():
                self._attempt.result()
                await self._pause()
        self._become(ReceiverState.NOT_CONNECTED)

    async def _pause(self) -> None:
        pause_ns = self._back_off.pause_ns()
        logger.info("receiver %s: next attempt in %.1f s", self.token, pause_ns / NS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause_ns / NS)

    async def _connect_and_hold(self) -> None:
        """One attempt, and the session that it gives until that ends. Camera faults end in `error`."""
        self._become(ReceiverState.CONNECTING)
        session = Session(self._settings, self._times, self._drain, f"{self.token}@nvr", self._ssrc)
        try:
            endpoint = Endpoint.parse(self.configuration.media_uri)
            playing = await open_session(
                endpoint, self._settings, session.on_rtcp, lambda p: self._prepared(session, p), self._tls
            )
            await self._hold(session, playing.connection.endpoint)
        except SourceError as e:
            self._failed(str(e))
        except asyncio.CancelledError:
            self._become(ReceiverState.NOT_CONNECTED)
            raise
        except Exception as e:
            # A fault of ours that one camera has found must not end the attempts for it, nor disturb others.
            logger.exception("receiver %s: unexpected fault", self.token)
            self._failed(f"internal fault: {type(e).__name__}")
        finally:
            if self._session is session:
                self._end_session(session, None)

    def _prepared(self, session: Session, playing: PlayingSession) -> None:
        """The streams are known and set up, PLAY comes next: the first packets, often the only key frame for seconds,
        can come together with its answer and must find their tracks."""
        session.prepare(playing)
        self._session = session
        self._connected_at = self._times.monotonic()
        self._on_streams(self.token, [s.info for s in session.streams])
        self._plug()
        for tap in list(self._live):
            self._plug_live(tap, session)

    def _failed(self, reason: str) -> None:
        self._become(ReceiverState.NOT_CONNECTED)
        self._counted += ReceiverCounters(failed_attempts=1)
        if reason != self.error:
            logger.warning("receiver %s: %s", self.token, reason)
        self.error = reason
        self._tell_lost(reason)
        self._tell(lambda watcher: watcher.connection_failed(self.token))

    async def _hold(self, session: Session, endpoint: Endpoint) -> None:
        self._become(ReceiverState.CONNECTED)
        self.error = None
        logger.info("receiver %s: connected to %s, %d streams", self.token, endpoint, len(session.streams))
        self._counted += ReceiverCounters(connects=1)
        lost: SourceError | None = None
        try:
            session.start(self._receive_buffer)
            lost = await asyncio.shield(session.closed)
        finally:
            try:
                self._end_session(session, lost)
            finally:
                await session.stop()

    def _end_session(self, session: Session, lost: SourceError | None) -> None:
        self._last_offers = _offers(session)
        session.finish(self._end_reason)
        if self._times.monotonic() - self._connected_at >= self._settings.no_data_timeout_ns:
            self._back_off.reset()  # it has lived longer than one that never sends
        self._counted = self._counted + self._session_counters()
        self._session = None
        for track in self._tracks.values():
            track.stream = None
        self._become(ReceiverState.NOT_CONNECTED)
        if lost is not None:
            self._counted += ReceiverCounters(connections_lost=1)
            self.error = str(lost)
            logger.warning("receiver %s: %s", self.token, lost)
        self._tell_lost("the connection to the camera has ended" if lost is None else str(lost))

    # -- tracks ------------------------------------------------------------------------------------------------------

    def _plug(self) -> None:
        """Give every track the stream that its line of the mapping means."""
        session = self._session
        if session is None:
            return
        offered = [s.info for s in session.streams]
        for key, track in self._tracks.items():
            binding = track.binding
            info = map_streams(binding.lines, offered)[binding.line]
            stream = None if info is None else session.streams[info.index]
            track.error = None if stream is None else self._misfit(binding, stream)
            if track.error is not None:
                stream = None
            if stream is track.stream:
                continue
            self._unplug(track)
            track.pipeline.end_run(GapReason.JOB_STOPPED)
            if stream is not None:
                track.stream = stream
                session.attach(stream, track.pipeline)
                for tap in self._taps.get(key, ()):
                    session.attach(stream, None, tap)

    def _misfit(self, binding: Binding, stream: SessionStream) -> str | None:
        info = stream.info
        if info.track_type is not binding.track_type:
            return f"stream {info.index} ({info.encoding}) does not fit into a track of type {binding.track_type}"
        held = self._storage.configuration(binding.key)
        if held is not None and held.encoding != info.encoding:
            return INCOMPATIBLE_STREAM
        if not info.supported:
            return f"streams of encoding {info.encoding} cannot be recorded: {stream.offered.problem}"
        return stream.offered.problem

    def _unplug(self, track: _Track) -> None:
        if track.stream is not None and self._session is not None:
            self._session.detach(track.stream, track.pipeline)
            for tap in self._taps.get(track.binding.key, ()):
                self._session.detach(track.stream, None, tap)
        track.stream = None

    def _end_tracks(self, reason: GapReason) -> None:
        for track in self._tracks.values():
            self._unplug(track)
            track.pipeline.end_run(reason)

    def _session_counters(self) -> ReceiverCounters:
        session = self._session
        if session is None or session.connection is None:
            return ReceiverCounters()
        connection = session.connection
        receivers = [s.receiver for s in session.streams]
        return ReceiverCounters(
            bytes=connection.bytes_received,
            garbage=connection.parser.garbage,
            stray_answers=connection.stray_answers,
            unknown_channels=connection.parser.unknown_channels,
            other_payload_types=sum(r.other_payload_types for r in receivers),
            packets=sum(r.packets for r in receivers),
            lost=sum(r.order.lost for r in receivers),
            duplicates=sum(r.order.duplicates + r.order.late for r in receivers),
            bad_packets=sum(r.bad_packets + r.order.strays for r in receivers) + session.bad_reports,
            dropped_units=sum(r.dropped for r in receivers),
            restarts=sum(r.order.restarts for r in receivers),
            sender_reports=sum(s.sender_reports for s in session.streams),
            refused_reports=session.clock.refused_reports,
            clock_overruled=session.clock.overruled,
        )
