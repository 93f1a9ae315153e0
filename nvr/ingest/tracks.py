"""The tracks that one receiver feeds: which stream of its session goes to which, and in which state each is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from nvr.ingest.arbiter import map_streams
from nvr.ingest.assignment import Binding
from nvr.ingest.delivery import SampleTap, SessionStream
from nvr.ingest.gated import GatedRecorder, StoredTrack
from nvr.ingest.memory import HeldMemory
from nvr.ingest.pipeline import PipelineSettings, Recorder, TrackPipeline
from nvr.ingest.session import Session
from nvr.media.unit import CodecConfiguration
from nvr.model.job import INCOMPATIBLE_STREAM, RecordingJobState
from nvr.model.recording import TrackType
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey

State = tuple[RecordingJobState, str | None]
"""Of a track, with an English text for Error (5.19)."""


_MOMENT_S = 0.1
"""Between two bursts of what has waited for an event: ten times a MiB a second are enough, and bearable."""


class Storage(Protocol):
    """What ingest needs of the storage engine."""

    def recorder(self, key: TrackKey, track_type: TrackType) -> StoredTrack:
        """Where fragments of a track go; never blocks."""

    def configuration(self, key: TrackKey) -> CodecConfiguration | None:
        """That of the newest data in the track; None while it is empty."""


@dataclass(slots=True)
class _Track:
    """A binding, and what has become of it in the present session."""

    binding: Binding
    pipeline: TrackPipeline
    gated: GatedRecorder | None = None
    """What stands in front of storage where the job records while events last."""
    stream: SessionStream | None = None
    error: str | None = None


def _same_line(one: Binding, other: Binding) -> bool:
    """Whether both mean the same stream of a receiver."""
    return one.lines[one.line] == other.lines[other.line]


def _a_moment_later(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(_MOMENT_S, callback)


class Tracks:
    """`on_start` is called with a track right before its first sample is recorded by this receiver."""

    def __init__(
        self,
        storage: Storage,
        settings: PipelineSettings,
        on_start: Callable[[TrackKey], None] = lambda key: None,
        memory: HeldMemory | None = None,
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._on_start = on_start
        self._memory = HeldMemory() if memory is None else memory
        self._session: Session | None = None
        self._tracks: dict[TrackKey, _Track] = {}
        self._taps: dict[TrackKey, list[SampleTap]] = {}
        self._past_skipped = 0
        self._past_fragments = 0

    @property
    def keys(self) -> Sequence[TrackKey]:
        return tuple(self._tracks)

    # -- what shall be -----------------------------------------------------------------------------------------------

    def keep_only(self, keys: Collection[TrackKey]) -> None:
        """Let go of all other tracks: somebody else feeds them, or nobody."""
        for key in [k for k in self._tracks if k not in keys]:
            self._let_go(key)

    def _let_go(self, key: TrackKey) -> None:
        track = self._tracks.pop(key)
        self._unplug(track)
        track.pipeline.end_run(GapReason.JOB_STOPPED)
        if track.gated is not None:
            track.gated.close()
        self._past_skipped += track.pipeline.skipped
        self._past_fragments += track.pipeline.appended

    def bind(self, bindings: Sequence[Binding]) -> None:
        """The tracks that are fed from now on. Those that stay are not disturbed."""
        wanted = {b.key: b for b in bindings}
        self.keep_only(wanted)
        for key, binding in wanted.items():
            known = self._tracks.get(key)
            if known is not None and known.binding.gate is not binding.gate:
                if known.gated is None and not binding.waits and _same_line(known.binding, binding):
                    binding = replace(binding, gate=None)  # an event wants what is recorded anyway: no break
                else:
                    self._let_go(key)
                    known = None
            if known is None:
                self._tracks[key] = self._take(binding)
            else:
                known.binding = binding
        self._plug()

    def _take(self, binding: Binding) -> _Track:
        stored = self._storage.recorder(binding.key, binding.track_type)
        recorder: Recorder = stored
        gated = None
        if binding.gate is not None:
            recorder = gated = GatedRecorder(
                binding.key,
                stored,
                binding.gate,
                self._settings.event_buffer_bytes,
                self._memory,
                _a_moment_later,
            )
        on_start = partial(self._on_start, binding.key)
        pipeline = TrackPipeline(recorder, binding.track_type, self._settings, on_start=on_start)
        return _Track(binding, pipeline, gated)

    def end(self, reason: GapReason) -> None:
        """No track gets anything any more."""
        for track in self._tracks.values():
            self._unplug(track)
            track.pipeline.end_run(reason)

    # -- sessions ----------------------------------------------------------------------------------------------------

    def connect(self, session: Session) -> None:
        """Its streams are known: they go to the tracks."""
        self._session = session
        self._plug()

    def disconnect(self) -> None:
        """The session is finished."""
        self._session = None
        for track in self._tracks.values():
            track.stream = None

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

    # -- what is -----------------------------------------------------------------------------------------------------

    def state(self, key: TrackKey) -> State:
        """Of a track while the receiver is connected."""
        track = self._tracks[key]
        if track.error is not None:
            return RecordingJobState.ERROR, track.error
        stream = track.stream
        if stream is None:
            return RecordingJobState.IDLE, None  # the camera has no such stream
        if track.pipeline.refused:
            return RecordingJobState.ERROR, "the storage does not take the data"
        if track.gated is not None and not track.gated.recording:
            return RecordingJobState.IDLE, None  # it waits for an event
        # Metadata may be rare: there the accepted PLAY has to do. Pictures and sound have to come.
        flows = stream.receiver.packets > 0 or track.binding.track_type is TrackType.METADATA
        return (RecordingJobState.ACTIVE if flows else RecordingJobState.IDLE), None

    def records(self, key: TrackKey) -> bool:
        """Whether a run of this track is being recorded."""
        track = self._tracks.get(key)
        return track is not None and track.pipeline.in_run

    def held_since(self, key: TrackKey) -> UtcNs | None:
        """The first instant of what has come of this track and has not been handed to storage; None where nothing
        waits, or waits for an event."""
        track = self._tracks.get(key)
        if track is None or (track.gated is not None and not track.gated.recording):
            return None
        return track.pipeline.held_since

    @property
    def skipped(self) -> int:
        """Samples in front of a first clean point, of all tracks since the start."""
        return self._past_skipped + sum(t.pipeline.skipped for t in self._tracks.values())

    @property
    def fragments(self) -> int:
        """Fragments that storage has taken, of all tracks since the start."""
        return self._past_fragments + sum(t.pipeline.appended for t in self._tracks.values())

    # -- streams to tracks -------------------------------------------------------------------------------------------

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
        # A track has one encoding. Sound may change its rate and channels: replay has a payload type for each.
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
