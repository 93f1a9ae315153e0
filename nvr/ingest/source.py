"""One receiver at work: connects, maps its streams to tracks, loses the connection, tries again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol

from nvr.ingest.arbiter import SourceStream
from nvr.ingest.assignment import Binding
from nvr.ingest.counters import ReceiverCounters
from nvr.ingest.delivery import SampleTap
from nvr.ingest.drain import Drain
from nvr.ingest.endpoint import Endpoint
from nvr.ingest.gate import Gates, NoGates
from nvr.ingest.handshake import PlayingSession, open_session
from nvr.ingest.live import LiveOffer, LiveTap, Watching, offers_of
from nvr.ingest.memory import HeldMemory
from nvr.ingest.session import NothingOverUdp, Session
from nvr.ingest.settings import IngestSettings, Times
from nvr.ingest.tracks import State, Storage, Tracks
from nvr.ingest.trust import Trust
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.errors import CredentialsRefused, SourceError
from nvr.model.job import RecordingJobState
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverState, Reception, TransportProtocol
from nvr.model.recording import TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import ReceiverToken, TrackKey
from nvr.model.waiting import come

logger = logging.getLogger(__name__)


class Watcher(Protocol):
    """Who wants to know how receivers fare (`nvr.events`). Must not block."""

    def receiver_changed(self, token: ReceiverToken, state: ReceiverState) -> None:
        """The connection has another state."""

    def connection_failed(self, token: ReceiverToken) -> None:
        """An attempt to connect has come to nothing."""


class BackOff:
    """Pauses between attempts: doubled with every failure up to a maximum, each between 75 % and 125 % of that, so
    that forty cameras behind one switch do not come back in step; none is above the maximum. In nanoseconds."""

    def __init__(self, first_ns: int, maximum_ns: int, uniform: Callable[[float, float], float]) -> None:
        self._first = first_ns
        self._maximum = maximum_ns
        self._uniform = uniform
        self._failures = 0

    def pause_ns(self) -> int:
        """The pause behind one more failure."""
        pause = min(self._maximum, self._first << min(self._failures, 32))
        self._failures += 1
        return int(pause * self._uniform(0.75, min(1.25, self._maximum / pause)))

    def reset(self) -> None:
        """A connection has proved good."""
        self._failures = 0


class Source:
    """Holds a connection to the receiver's media URI for as long as it lives.

    `silent_udp` outlives it: for each receiver the media URI from which nothing came over UDP, and what is told of it.
    """

    def __init__(
        self,
        receiver: Receiver,
        storage: Storage,
        settings: IngestSettings,
        times: Times,
        drain: Drain,
        *,
        receive_buffer: int | None,
        tls: Callable[[], Awaitable[Trust]],
        on_streams: Callable[[ReceiverToken, Sequence[SourceStream]], None],
        silent_udp: dict[ReceiverToken, tuple[str, str]],
        on_start: Callable[[TrackKey], None] = lambda key: None,
        watcher: Callable[[], Watcher | None] = lambda: None,
        gates: Callable[[], Gates] = NoGates,
        memory: HeldMemory | None = None,
        label: Callable[[], str] | None = None,
    ) -> None:
        """`label` is what log lines call the receiver."""
        self.token = receiver.token
        self.configuration: ReceiverConfiguration = receiver.configuration
        self._label = label or (lambda: str(self.token))
        self._state = ReceiverState.NOT_CONNECTED
        self._watcher = watcher
        self._gates = gates
        self._told: dict[TrackKey, State] = {}
        self.error: str | None = None
        """Why the last attempt failed or the last connection ended; None while connected and before the first."""
        self.remark: str | None = None
        """One sentence where media do not come as the StreamSetup asks for; None while they do."""
        self._memory = HeldMemory() if memory is None else memory
        self._tracks = Tracks(storage, settings.pipeline, on_start, self._memory)
        self._settings = settings
        self._times = times
        self._drain = drain
        self._receive_buffer = receive_buffer
        self._tls = tls
        self._on_streams = on_streams
        self._back_off = BackOff(settings.back_off_ns, settings.back_off_maximum_ns, random.uniform)
        self._refusals = BackOff(settings.refused_back_off_ns, settings.refused_back_off_maximum_ns, random.uniform)
        self._pause_ns = 0
        """Behind the attempt or session that has ended last."""
        self._paused_at: int | None = None
        """Since when the next attempt is waited for."""
        self._sooner: asyncio.TimerHandle | None = None
        self._refused = False
        """The camera has refused the password."""
        self._silent_udp = silent_udp
        self._last_offers: Sequence[LiveOffer] = ()
        self._watching = Watching()
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._end_reason = GapReason.SOURCE_LOST
        self._anew = False
        """The present attempt or session ends because the receiver was configured anew."""
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
        self._tracks.end(reason)
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
        self._in_grace = {k for k in self._tracks.keys if self.track_state(k)[0] is RecordingJobState.ACTIVE}
        self._grace_until = self._times.monotonic() + self._settings.configure_grace_ns
        self.error = None
        self._refused = False
        self._silent_udp.pop(self.token, None)
        self._back_off.reset()
        self._refusals.reset()
        self._wake.set()
        if self._attempt is not None:
            self._anew = True
            self._attempt.cancel()

    def keep_only(self, keys: Collection[TrackKey]) -> None:
        """Let go of all other tracks: somebody else feeds them, or nobody."""
        self._tracks.keep_only(keys)

    def bind(self, bindings: Sequence[Binding]) -> None:
        """The tracks that this receiver feeds from now on. Those that stay are not disturbed."""
        self._tracks.bind(bindings)
        self._listen()

    def _listen(self) -> None:
        """To the metadata streams, recorded or not, where events can make a job record."""
        if self._session is None:
            return
        wanted = self._gates().hears(self.token)
        for stream in self._session.streams:
            listening = self._hear in stream.listeners
            if stream.info.track_type is TrackType.METADATA and listening is not wanted:
                if wanted:
                    stream.listen(self._hear)
                else:
                    stream.ignore(self._hear)

    def _hear(self, sample: Sample, _: CodecConfiguration) -> None:
        self._gates().heard(self.token, sample)

    def records(self, key: TrackKey) -> bool:
        """Whether a run of this track is being recorded by this receiver."""
        return self._tracks.records(key)

    def fetch(self) -> None:
        """Take what has come since the last visit of the drain."""
        if self._session is not None:
            self._session.fetch_rest()

    def tap(self, key: TrackKey, tap: SampleTap) -> Callable[[], None]:
        """Hand every sample of this track's stream to `tap` as it comes, until the returned function is called."""
        return self._tracks.tap(key, tap)

    def watch(self, tap: LiveTap) -> None:
        """Tell `tap` of this receiver's sessions and samples from now on. A failure that lasts is told at once."""
        self._watching.add(tap)
        if self._session is None and self.error is not None:
            tap.lost(self.error)

    def unwatch(self, tap: LiveTap) -> None:
        """The counterpart of `watch`; nothing is told any more."""
        self._watching.remove(tap)

    # -- what is -----------------------------------------------------------------------------------------------------

    def offers(self) -> Sequence[LiveOffer]:
        """What the receiver sends: in the present session, else in the last one; empty where there was none."""
        return self._last_offers if self._session is None else offers_of(self._session)

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
            logger.exception("receiver %s: its state could not be told", self._label())

    def tracks_changed(self) -> bool:
        """Whether a track has another state than when this was asked last."""
        states = {key: self.track_state(key) for key in self._tracks.keys}
        changed = states != self._told
        self._told = states
        return changed

    def held_since(self, key: TrackKey) -> UtcNs | None:
        """As `Tracks.held_since`."""
        return self._tracks.held_since(key)

    def track_state(self, key: TrackKey) -> State:
        """State of a track that this receiver feeds, with an English text for Error (5.19)."""
        if self.state is ReceiverState.CONNECTED:
            state = self._tracks.state(key)
        elif self.error is not None:
            state = RecordingJobState.ERROR, self.error
        else:
            state = RecordingJobState.IDLE, None  # the first attempt is running
        if state[0] is not RecordingJobState.ACTIVE and key in self._in_grace:
            if self._times.monotonic() < self._grace_until:
                return RecordingJobState.ACTIVE, None
            self._in_grace.discard(key)
        return state

    def reception(self) -> Reception:
        """How media come, or when the next attempt is made."""
        session = self._session if self._state is ReceiverState.CONNECTED else None
        return Reception(None if session is None else session.transport, self.remark, self._next_attempt_ns())

    def _next_attempt_ns(self) -> int | None:
        if self._paused_at is None:
            return None
        left_ns = self._paused_at + self._pause_ns - self._times.monotonic()
        if self._sooner is not None:
            left_ns = min(left_ns, int((self._sooner.when() - asyncio.get_running_loop().time()) * NS))
        return max(left_ns, 0)

    @property
    def clock_agrees(self) -> bool | None:
        """Whether the camera's clock is that of the recorder; None while that is not known."""
        clock = None if self._session is None else self._session.clock
        if clock is None or not (clock.agrees or clock.overruled):
            return None
        return clock.agrees

    @property
    def behind_ns(self) -> int:
        """How much later than its time what the camera sends is given to its tracks, by its last report, or because it
        waits for the first one."""
        if self._session is None:
            return 0
        clock = self._session.clock
        waits = any(stream.held for stream in self._session.streams)
        return max(clock.behind_ns, clock.settings.hold_ns if waits else 0)

    def counters(self) -> ReceiverCounters:
        """Since the daemon started."""
        total = self._counted + ReceiverCounters.of_session(self._session)
        return replace(total, skipped_samples=self._tracks.skipped, fragments=self._tracks.fragments)

    # -- connection --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._anew = False
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
        if not self._pause_ns:
            return
        logger.info("receiver %s: next attempt in %.1f s", self._label(), self._pause_ns / NS)
        self._paused_at = self._times.monotonic()
        try:
            await come(self._wake, self._pause_ns / NS)
        finally:
            self._paused_at = None
            if self._sooner is not None:
                self._sooner.cancel()
                self._sooner = None

    def retry(self) -> bool:
        """Somebody waits for this camera: the next attempt comes as soon as the first back-off allows, however often
        this is asked. False where the password was refused: cameras lock accounts."""
        if self._stopping or self._refused:
            return False
        if self._paused_at is not None and self._sooner is None:
            wait_ns = self._paused_at + self._settings.back_off_ns - self._times.monotonic()
            self._sooner = asyncio.get_running_loop().call_later(max(wait_ns, 0) / NS, self._wake.set)
        return True

    async def _connect_and_hold(self) -> None:
        """One attempt, and the session that it gives until that ends. Camera faults end in `error`."""
        self._become(ReceiverState.CONNECTING)
        session = Session(
            self._settings, self._times, self._drain, f"{self.token}@nvr", self._ssrc, self._memory, self._label
        )
        transport = self.configuration.stream_setup.protocol
        if transport is TransportProtocol.UDP and self._silence is not None:
            transport = TransportProtocol.RTSP
        try:
            endpoint = Endpoint.parse(self.configuration.media_uri, tunnel=transport is TransportProtocol.HTTP)
            playing = await open_session(
                endpoint,
                transport,
                self._settings,
                session.on_rtcp,
                lambda p: self._prepared(session, p),
                self._tls,
                self._ssrc,
                self._label,
            )
            await self._hold(session, playing)
        except SourceError as e:
            self._failed(e)
        except asyncio.CancelledError:
            self._become(ReceiverState.NOT_CONNECTED)
            raise
        except Exception as e:
            # A fault of ours that one camera has found must not end the attempts for it, nor disturb others.
            logger.exception("receiver %s: unexpected fault", self._label())
            self._failed(SourceError(f"internal fault: {type(e).__name__}"))
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
        self._tracks.connect(session)
        self._listen()
        self._watching.connected(session)

    def _failed(self, error: SourceError) -> None:
        """An attempt has come to nothing."""
        reason = str(error)
        self._refused = isinstance(error, CredentialsRefused)
        if self._refused:
            self._pause_ns = self._refusals.pause_ns()
            reason += (
                "; it is asked again behind long pauses, because cameras lock accounts behind many refusals, or at "
                "once when the receiver is configured anew"
            )
        else:
            self._pause_ns = self._back_off.pause_ns()
        self._become(ReceiverState.NOT_CONNECTED)
        self._counted += ReceiverCounters(failed_attempts=1)
        if reason != self.error:
            logger.warning("receiver %s: %s", self._label(), reason)
        self.error = reason
        self._watching.lost(reason)
        self._tell(lambda watcher: watcher.connection_failed(self.token))

    async def _hold(self, session: Session, playing: PlayingSession) -> None:
        self._become(ReceiverState.CONNECTED)
        self.error = None
        self._refusals.reset()
        self.remark = playing.remark or self._silence
        endpoint = playing.connection.endpoint
        logger.info("receiver %s: connected to %s, streams: %d", self._label(), endpoint, len(session.streams))
        if self.remark is not None:
            logger.warning("receiver %s: %s", self._label(), self.remark)
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
        self._pause_ns = self._back_off.pause_ns()
        asked = self.configuration.stream_setup.protocol
        if isinstance(lost, NothingOverUdp) and asked is TransportProtocol.UDP and self._settings.transport_fallback:
            told = f"{lost}; media come over TCP until the receiver is configured anew"
            self._silent_udp[self.token] = self.configuration.media_uri, told
            self._pause_ns = 0  # nothing else is wrong with the camera

    @property
    def _silence(self) -> str | None:
        """Why UDP is not tried at this media URI."""
        uri, told = self._silent_udp.get(self.token, ("", None))
        return told if uri == self.configuration.media_uri else None

    def _end_session(self, session: Session, lost: SourceError | None) -> None:
        self._last_offers = offers_of(session)
        reason = GapReason.CONFIGURATION_CHANGED if self._anew and not self._stopping else self._end_reason
        session.finish(reason)
        if self._times.monotonic() - self._connected_at >= self._settings.no_data_timeout_ns:
            self._back_off.reset()  # it has lived longer than one that never sends
        self._counted += ReceiverCounters.of_session(session)
        self._session = None
        self._tracks.disconnect()
        self.remark = None
        self._become(ReceiverState.NOT_CONNECTED)
        if lost is not None:
            self._counted += ReceiverCounters(connections_lost=1)
            self.error = str(lost)
            logger.warning("receiver %s: %s", self._label(), lost)
        self._watching.lost("the connection to the camera has ended" if lost is None else str(lost))
