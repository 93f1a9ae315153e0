"""Footage in memory for tests of replay: tracks built unit by unit, appended to while they are being played."""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from nvr.media.bmff.fragment import Place
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import TrackKey
from nvr.storage.rows import FragmentRef


@dataclass(frozen=True, slots=True)
class PlainVideo:
    """A codec of bare bytes for tests that look at order and flags, not at pictures."""

    encoding: ClassVar[str] = "X-TEST"
    track_type: ClassVar[TrackType] = TrackType.VIDEO
    clock_rate: int = 90_000
    version: int = 1

    def rtpmap(self) -> str:
        return f"X-TEST/{self.clock_rate}"

    def fmtp(self) -> str | None:
        return None

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PlainAudio(PlainVideo):
    encoding: ClassVar[str] = "X-SOUND"
    track_type: ClassVar[TrackType] = TrackType.AUDIO
    clock_rate: int = 8_000


@dataclass(frozen=True, slots=True)
class PlainMetadata(PlainVideo):
    encoding: ClassVar[str] = "X-SCENE"
    track_type: ClassVar[TrackType] = TrackType.METADATA


@dataclass(frozen=True, slots=True)
class ParameterVideo(PlainVideo):
    """With parameter sets in its fmtp, as H.264 has them; data in sample form."""

    encoding: ClassVar[str] = "X-SETS"
    sets: str = ""

    def fmtp(self) -> str | None:
        return f"packetization-mode=1;sprop-parameter-sets={self.sets}"

    def in_band(self) -> bytes:
        nals = [base64.b64decode(text) for text in self.sets.split(",")]
        return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


class PlainPacketizer:
    """Slices of `maximum` bytes."""

    marker_on_last = True

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        return [(b"", data[i : i + self.maximum]) for i in range(0, len(data), self.maximum)]


def plain_packetizer(maximum: int) -> Callable[[CodecConfiguration], PlainPacketizer]:
    return lambda configuration: PlainPacketizer(maximum)


@dataclass
class MemoryTrack:
    """One track. Builder methods return the track; times are UTC ns, durations ns."""

    configuration: CodecConfiguration = field(default_factory=PlainVideo)
    fragments_: list[tuple[FragmentRef, list[Sample]]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    at_ns: UtcNs = 0
    unreadable: set[int] = field(default_factory=set)
    """Offsets of fragments whose reading fails."""
    reads: int = 0
    callbacks: list[Callable[[FragmentRef], None]] = field(default_factory=list)
    file: int = 0

    def starting_at(self, at_ns: UtcNs) -> MemoryTrack:
        self.at_ns = at_ns
        return self

    def with_run(self) -> MemoryTrack:
        self.runs.append(Run(f"run{len(self.runs)}", self.at_ns, self.at_ns))
        return self

    def with_unit_list(self, samples: Sequence[Sample], end_ns: UtcNs) -> MemoryTrack:
        """One fragment of just these samples."""
        if not self.runs or self.runs[-1].end_reason is not None:
            self.with_run()
        run = self.runs[-1]
        first = not any(ref.run_id == run.run_id for ref, _ in self.fragments_)
        start = min(s.utc_ns for s in samples)
        ref = FragmentRef(
            f"file{self.file}", len(self.fragments_), 1, start, end_ns, samples[0].clean_point, len(samples),
            run.run_id, self.configuration, first,
        )  # fmt: skip
        self.fragments_.append((ref, list(samples)))
        self.runs[-1] = replace(run, start_ns=min(run.start_ns, start) if not first else start, end_ns=end_ns)
        self.at_ns = end_ns
        for callback in list(self.callbacks):
            callback(ref)
        return self

    def with_gop(self, names: Sequence[str], every_ns: int = NS, clean: bool = True) -> MemoryTrack:
        """A fragment of one unit per name, in order of presentation; the first is a clean point."""
        samples = [
            Sample(self.at_ns + i * every_ns, name.encode(), (clean and i == 0) or self._audio)
            for i, name in enumerate(names)
        ]
        return self.with_unit_list(samples, self.at_ns + len(names) * every_ns)

    @property
    def _audio(self) -> bool:
        return self.configuration.track_type is not TrackType.VIDEO

    def with_rotation(self) -> MemoryTrack:
        """Another file in the same run."""
        self.file += 1
        return self

    def with_end(self, reason: GapReason = GapReason.JOB_STOPPED) -> MemoryTrack:
        self.runs[-1] = replace(self.runs[-1], end_reason=reason)
        return self

    def with_gap(self, until_ns: UtcNs, reason: GapReason = GapReason.SOURCE_LOST) -> MemoryTrack:
        self.with_end(reason).with_rotation()
        self.at_ns = until_ns
        return self

    def with_configuration(self, configuration: CodecConfiguration) -> MemoryTrack:
        self.configuration = configuration
        return self

    @property
    def timeline(self) -> Timeline:
        return Timeline.of(self.runs)

    # Footage

    def fragments(
        self, from_ns: UtcNs, until_ns: UtcNs | None = None, *, run_id: str | None = None
    ) -> Iterator[FragmentRef]:
        for ref, _ in sorted(self.fragments_, key=lambda pair: pair[0].start_ns):
            if ref.end_ns <= from_ns or (run_id is not None and ref.run_id != run_id):
                continue
            if until_ns is not None and ref.start_ns >= until_ns:
                return
            yield ref

    def fragments_after(self, ref: FragmentRef) -> Iterator[FragmentRef]:
        for other, _ in list(self.fragments_):
            if other.run_id == ref.run_id and other.offset > ref.offset:
                yield other

    def fragments_before(self, until_ns: UtcNs, *, run_id: str | None = None) -> Iterator[FragmentRef]:
        for ref, _ in sorted(self.fragments_, key=lambda pair: pair[0].start_ns, reverse=True):
            if ref.start_ns < until_ns and (run_id is None or ref.run_id == run_id):
                yield ref

    def open(self, ref: FragmentRef) -> MemoryFragment:
        self.reads += 1
        if ref.offset in self.unreadable:
            raise StorageError(f"fragment {ref.offset} does not match its checksum")
        for known, samples in self.fragments_:
            if known == ref:
                return MemoryFragment(samples)
        raise StorageError(f"fragment {ref.offset} is no longer there")


class MemoryFragment:
    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self.places = [Place(s.utc_ns, s.clean_point, s.damaged, 0, len(s.data)) for s in samples]

    def data(self, index: int) -> bytes:
        return self._samples[index].data

    def hold(self) -> None: ...

    def forget(self) -> None: ...


class MemoryStore:
    """The part of the storage engine that replay needs."""

    def __init__(self, tracks: dict[TrackKey, MemoryTrack]) -> None:
        self.tracks = tracks
        self.subscriptions: dict[TrackKey, int] = defaultdict(int)

    def timeline(self, key: TrackKey) -> Timeline:
        return self.tracks[key].timeline if key in self.tracks else Timeline()

    def footage(self, key: TrackKey) -> MemoryTrack:
        return self.tracks[key]

    def on_append(self, key: TrackKey, callback: Callable[[FragmentRef], None]) -> Callable[[], None]:
        callbacks = self.tracks[key].callbacks
        callbacks.append(callback)
        self.subscriptions[key] += 1

        def unsubscribe() -> None:
            callbacks.remove(callback)
            self.subscriptions[key] -= 1

        return unsubscribe


class HandTurnedClock:
    """Time that stands still until somebody sleeps; a sleep passes at once and is remembered."""

    def __init__(self, utc_ns: UtcNs = 1_800_000_000 * NS) -> None:
        self.now_ns = 0
        self.started_utc_ns = utc_ns
        self.slept: list[int] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> UtcNs:
        return self.started_utc_ns + self.now_ns

    async def sleep(self, duration_ns: int) -> None:
        self.slept.append(duration_ns)
        wake = self.now_ns + duration_ns
        await asyncio.sleep(0)
        self.now_ns = max(self.now_ns, wake)


class ManualClock:
    """Time that moves when a test says so."""

    def __init__(self, utc_ns: UtcNs = 1_800_000_000 * NS) -> None:
        self.now_ns = 0
        self.started_utc_ns = utc_ns
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> UtcNs:
        return self.started_utc_ns + self.now_ns

    async def sleep(self, duration_ns: int) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_ns + duration_ns, wake))
        await wake

    def advance(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        due = [s for s in self._sleepers if s[0] <= self.now_ns]
        self._sleepers = [s for s in self._sleepers if s[0] > self.now_ns]
        for _, wake in due:
            if not wake.done():
                wake.set_result(None)
