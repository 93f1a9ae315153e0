"""What stands behind the paths of the RTSP server: recordings at /replay/{token}, live sources at /live/{name}.

Receivers stand among the latter by their tokens, see `relay.py`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol, TypeVar

from nvr.media.rtsp.play import Frames
from nvr.media.rtsp.range import ClockRange, NptRange, Range
from nvr.media.unit import CodecConfiguration
from nvr.model.recording import Recording, Track, TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Timeline
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.replay.formats import SoundFormats
from nvr.replay.place import Place, place_of
from nvr.replay.plan import PlanTrack
from nvr.replay.player import Pacing, Playback
from nvr.replay.playing_time import PlayingTime
from nvr.replay.playing_times import PlayingTimes
from nvr.replay.reader import EDGE_POLL_S, FootageStore, PlanReader
from nvr.replay.readers import Readers
from nvr.replay.status import RequestRefused
from nvr.replay.unit import Selection

NS_PER_MS: Final = 1_000_000
ALL_FRAMES: Final = Frames()
ANSWER_S: Final = 8.0
"""How long a request may wait for a disk. It answers in milliseconds, or it hangs."""
AHEAD_NS: Final = 24 * 3600 * NS
"""So far ahead of now an open range may start: it waits for what will be recorded. Beyond it is a mistake."""
SOON_NS: Final = 60 * NS
"""The same for a closed range, whose client expects that there is some footage: only its clock may be ahead of ours."""

ROUNDING_NS: Final = 1000
"""GStreamer reckons in double seconds since 1900, and asks for the beginning of a=range up to so much too late: sound
would lack its first unit."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PlayRequest:
    """What a PLAY asks for (8.5). `range` is None where it has none: go on, or begin at the beginning."""

    range: Range | None = None
    scale: Fraction = Fraction(1)
    """Negative in reverse."""
    scale_given: bool = False
    speed: Fraction = Fraction(1)
    speed_given: bool = False
    rate_control: bool = True
    frames: Frames = ALL_FRAMES
    immediate: bool = False

    @property
    def reverse(self) -> bool:
        return self.scale < 0


@dataclass(frozen=True, slots=True)
class PresentedStream:
    """One m= section. `name` is its relative control."""

    name: str
    configuration: CodecConfiguration
    """That of its beginning."""
    onvif_track: str | None = None
    number: int = 0
    """Its own among the streams of the path, shown or not: the payload type follows from it."""
    sound: int = 0
    """Its number among the streams of sound."""
    others: tuple[CodecConfiguration, ...] = ()
    """Further formats of sound, of which nothing in band tells, in the order in which they appear."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """What DESCRIBE shows and SETUP chooses from. `reference_ns`: see Player; `ranges` are the values of a=range."""

    streams: tuple[PresentedStream, ...]
    reference_ns: UtcNs
    ranges: tuple[str, ...] = ()
    extension: bool = False
    """Whether packets carry the replay extension."""
    playing_time: PlayingTime | None = None
    """As it is now. None for a live source."""
    numbers: int = 0
    """How many streams the path has, shown or not."""


class Mount(Protocol):
    """One path."""

    async def present(self) -> Presentation:
        """Raises RequestRefused or another NvrError."""

    def check(self, presentation: Presentation, streams: Sequence[int], request: PlayRequest) -> None:
        """Asked for every PLAY, whether it begins, goes on or waits. Raises RequestRefused for what cannot be played as
        it is asked for: it is never replaced by something else (8.5.1, 8.5.4)."""

    async def play(
        self, presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool
    ) -> Playback:
        """A position to play `streams` (indexes into the presentation) from. `jump`: something was sent before.

        Raises RequestRefused where `check` would, and for a range that cannot be played.
        """

    def pacing(self, request: PlayRequest) -> Pacing: ...

    def playing_time(self, presentation: Presentation) -> PlayingTime | None:
        """That of all tracks presented, with what has been recorded and deleted since. None where there is none."""


class RecordingMount:
    """Replay of one recording. It follows from recording, footage and request."""

    def __init__(
        self,
        recording: Recording,
        store: FootageStore,
        readers: Readers,
        formats: SoundFormats,
        edge_poll_s: float,
        utc_ns: Callable[[], UtcNs],
        times: PlayingTimes,
    ) -> None:
        self._times = times
        self._utc_ns = utc_ns
        self._formats = formats
        self._recording = recording
        self._store = store
        self._readers = readers
        self._edge_poll_s = edge_poll_s

    async def present(self) -> Presentation:
        """Only tracks with footage, each as it was when its footage began: what has changed since is sent in band, or
        stands beside it as a further format."""
        with_footage = [
            (number, track, timeline)
            for number, track in enumerate(self._recording.tracks)
            if (timeline := self._store.timeline(self._recording.key(track))).runs
        ]
        presented = await self._read(lambda: [self._stream(*found) for found in with_footage])
        streams = [stream for stream in presented if stream is not None]
        if not streams:
            raise RequestRefused(404, f"recording {self._recording.token} holds no footage yet")
        earliest, latest = self._span(self._keys(streams))
        playing_time = await self._times.of(self._keys(streams), self._timelines(streams), self._read)
        if earliest is None or playing_time is None:
            raise RequestRefused(404, f"recording {self._recording.token} holds no footage any more")
        # The order matters: FFmpeg takes the last of them (and a nonsense duration from a clock alone), GStreamer the
        # first. The duration is stated of what is still being recorded as well: without it FFmpeg does not seek.
        ranges = str(ClockRange(earliest, latest)), str(NptRange(0, playing_time.length_ns))
        for stream, key in zip(streams, self._keys(streams), strict=True):
            if stream.configuration.track_type is TrackType.AUDIO:
                self._formats.look_on(key, self._store, self._readers)
        numbers = len(self._recording.tracks)
        return Presentation(tuple(streams), earliest, ranges, True, playing_time, numbers)

    def _keys(self, streams: Sequence[PresentedStream]) -> list[TrackKey]:
        return [TrackKey(self._recording.token, TrackToken(s.name)) for s in streams]

    def _timelines(self, streams: Sequence[PresentedStream]) -> list[Timeline]:
        return [self._store.timeline(key) for key in self._keys(streams)]

    def _stream(self, number: int, track: Track, timeline: Timeline) -> PresentedStream | None:
        """Blocking."""
        key = self._recording.key(track)
        footage = self._store.footage(key)
        first = next(iter(footage.fragments(timeline.runs[0].start_ns)), None)
        if first is None:
            return None
        configuration = first.configuration
        others: tuple[CodecConfiguration, ...] = ()
        if configuration.track_type is TrackType.AUDIO:
            self._formats.look(key, timeline, footage)
            own = configuration.rtpmap(), configuration.fmtp()
            others = tuple(c for c in self._formats.found(key, timeline) if (c.rtpmap(), c.fmtp()) != own)
        sounds = [t for t in self._recording.tracks[:number] if t.configuration.track_type is TrackType.AUDIO]
        return PresentedStream(track.token, configuration, track.token, number, len(sounds), others)

    async def _read(self, call: Callable[[], _T]) -> _T:
        """Raises RequestRefused (503) when the disk does not answer: the request must be answered."""
        return await _in_time(self._readers.run(self._recording.token, call, request=True), self._recording.token)

    def _span(self, keys: Sequence[TrackKey]) -> tuple[UtcNs | None, UtcNs | None]:
        """Earliest and latest time of these tracks; no latest while one of them is being recorded."""
        timelines = [self._store.timeline(key) for key in keys]
        earliest = min((t.earliest for t in timelines if t.earliest is not None), default=None)
        latest = max((t.latest for t in timelines if t.latest is not None), default=None)
        return earliest, None if any(t.recording for t in timelines) else latest

    async def play(
        self, presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool
    ) -> Playback:
        self.check(presentation, streams, request)
        kinds = {i: presentation.streams[i].configuration.track_type for i in streams}
        keys = dict(zip(streams, self._keys([presentation.streams[i] for i in streams]), strict=True))
        tracks = [PlanTrack(i, self._store.footage(key), kinds[i]) for i, key in keys.items()]
        part = [key for i, key in keys.items() if not (request.reverse and kinds[i] is TrackType.AUDIO)]
        playing_time = None
        if isinstance(request.range, NptRange):
            playing_time = self.playing_time(presentation)
        selection = self._selection(part, request, jump, playing_time)
        opening = PlanReader.open(self._store, list(keys.values()), tracks, selection, self._readers, self._edge_poll_s)
        reader = await _in_time(opening, self._recording.token)
        if reader.hopeless:
            reader.close()
            raise RequestRefused(457, f"{self._recording.token} has no footage in the range asked for")
        return Playback(
            reader,
            reader.start,
            end_ns=selection.end_ns,
            start_ns=selection.start_ns,
            reverse=request.reverse,
            first=reader.first,
        )

    def check(self, presentation: Presentation, streams: Sequence[int], request: PlayRequest) -> None:
        if abs(request.scale) != 1 and not request.rate_control:
            raise RequestRefused(451, "with Rate-Control: no, Scale gives the direction only")
        kinds = [presentation.streams[i].configuration.track_type for i in streams]
        if request.reverse and all(kind is TrackType.AUDIO for kind in kinds):
            raise RequestRefused(456, "sound is not replayed in reverse, and nothing else is set up")

    def _selection(
        self, keys: Sequence[TrackKey], request: PlayRequest, jump: bool, playing_time: PlayingTime | None
    ) -> Selection:
        earliest, latest = self._span(keys)
        if earliest is None:
            raise RequestRefused(457, f"{self._recording.token} has no footage any more")
        newest = max((t for t in (self._store.timeline(key).latest for key in keys) if t is not None), default=earliest)
        beginning = newest if request.reverse else earliest
        start_ns, end_ns = beginning, None
        match request.range:
            case ClockRange(start, end):
                start_ns, end_ns = beginning if start is None else start, end
            case NptRange(start, end, now) if playing_time is not None:
                if now:  # the newest unit that is there: its clean point begins the stream
                    start_ns = newest - 1
                elif start is not None:
                    start_ns = playing_time.utc(start, ending=request.reverse)
                end_ns = None if end is None else playing_time.utc(end, ending=not request.reverse)
        if request.reverse:
            if end_ns is not None and end_ns >= start_ns:
                raise RequestRefused(457, "the range ends after it starts, and Scale asks for reverse replay")
            if start_ns < earliest:
                raise RequestRefused(
                    457, "the range starts before the first footage, and Scale asks for reverse replay"
                )
        else:
            if 0 < start_ns - earliest < ROUNDING_NS:
                start_ns = earliest
            if end_ns is not None and end_ns <= start_ns:
                raise RequestRefused(457, "the range ends before it starts, and Scale asks for forward replay")
            if end_ns is not None and end_ns <= earliest:
                raise RequestRefused(457, "the range ends before the first footage")
            if latest is not None and start_ns >= latest:
                raise RequestRefused(457, "the range starts behind the last footage, and nothing is being recorded")
            ahead_ns = start_ns - max(newest, self._utc_ns())
            if ahead_ns > AHEAD_NS:
                raise RequestRefused(457, "the range starts more than a day from now")
            if end_ns is not None and ahead_ns > SOON_NS:
                raise RequestRefused(457, "the whole range lies ahead: nothing of it has been recorded yet")
        # It is given in milliseconds, and distances are compared as such: where the seconds of a camera come out a
        # microsecond short, 4000 means every fourth of them, and not every fifth.
        interval_ns = max(0, request.frames.interval_ms * NS_PER_MS - NS_PER_MS // 2)
        at_once = self.pacing(request) is Pacing.UNTHROTTLED
        return Selection(start_ns, end_ns, jump, request.frames.which, interval_ns, request.reverse, at_once)

    def pacing(self, request: PlayRequest) -> Pacing:
        return Pacing.PLAYING_TIME if request.rate_control else Pacing.UNTHROTTLED

    def playing_time(self, presentation: Presentation) -> PlayingTime | None:
        known = presentation.playing_time
        return None if known is None else known.extended(self._timelines(presentation.streams))


async def _in_time(reading: Awaitable[_T], token: RecordingToken) -> _T:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await reading
    except TimeoutError:
        raise RequestRefused(503, f"the disk with the footage of {token} does not answer") from None


class RecordingMounts:
    """All recordings, each as it is when it is asked for. `reader_threads` do the reading of all players together."""

    def __init__(
        self,
        find: Callable[[str], Recording | None],
        store: FootageStore,
        reader_threads: int = 4,
        edge_poll_s: float = EDGE_POLL_S,
        utc_ns: Callable[[], UtcNs] = time.time_ns,
    ) -> None:
        self._utc_ns = utc_ns
        self._find = find
        self._store = store
        self._readers = Readers(reader_threads)
        self._times = PlayingTimes()
        self._formats = SoundFormats()
        self._edge_poll_s = edge_poll_s

    def mount(self, token: str) -> RecordingMount | None:
        recording = self._find(token)
        if recording is None:
            return None
        return RecordingMount(
            recording, self._store, self._readers, self._formats, self._edge_poll_s, self._utc_ns, self._times
        )

    def close(self) -> None:
        """Reads that are under way finish; nobody waits for them."""
        self._formats.close()
        self._readers.close()


class Family(Protocol):
    """Mounts that come and go with what they show."""

    def mount(self, token: str) -> Mount | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """What a request URI names."""

    place: Place
    mount: Mount


class Mounts:
    """The paths of a server: /replay/{recording token} and /live/{name}, each with /{stream} behind it."""

    def __init__(
        self,
        recordings: Family | None = None,
        live: Mapping[str, Mount] | None = None,
        receivers: Family | None = None,
    ) -> None:
        """`receivers` are live mounts as well, by their tokens; `live` comes first."""
        self._recordings = recordings
        self._live = dict(live or {})
        self._receivers = receivers

    def add_live(self, name: str, mount: Mount) -> None:
        """Raises ValueError for a name that cannot stand in a path."""
        if not re.fullmatch(r"[A-Za-z0-9._~-]+", name):
            raise ValueError(f"{name!r} cannot be the name of a live mount")
        self._live[name] = mount

    def remove_live(self, name: str) -> None:
        """New requests do not find it any more; who watches goes on watching."""
        self._live.pop(name, None)

    def find(self, uri: str) -> Target:
        """Raises RequestRefused (404, or 400 for what is no RTSP URI)."""
        place = place_of(uri)
        mount: Mount | None = None
        if place.kind == "replay" and self._recordings is not None:
            mount = self._recordings.mount(place.name)
        elif place.kind == "live":
            mount = self._live.get(place.name)
            if mount is None and self._receivers is not None:
                mount = self._receivers.mount(place.name)
        if mount is None:
            raise RequestRefused(404, f"nothing is at {place.path[:80]!r}")
        return Target(place, mount)

    def close(self) -> None:
        for family in (self._recordings, self._receivers):
            if family is not None:
                family.close()
