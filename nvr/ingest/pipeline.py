"""From samples to fragments: one track of one recording. Sans-I/O; the track's recorder takes what comes out.

A fragment is a group of pictures, or about two seconds of it, or of sound or metadata. It is handed over when the
sample that follows it is known, because that sample's time is where the fragment ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.recording import TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason


class Recorder(Protocol):
    """What storage offers for one track."""

    def append(self, fragment: Fragment) -> bool:
        """False: not taken (queue full); storage has counted and logged it and ended the run."""

    def end_run(self, reason: GapReason) -> None:
        """The next append starts a new run."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Soft limits of a fragment and patience with streams; nanoseconds and bytes."""

    span_ns: int = 2 * NS
    size_bytes: int = 1 << 20
    event_buffer_bytes: int = 64 << 20
    """What may wait in memory for an event, for each track of a job that records while events last."""
    short_span_ns: int = 400_000_000
    """Groups of pictures shorter than this share a fragment (all-intra streams)."""
    hole_ns: int = 2 * NS
    """A hole as long as this ends the run: behind lost packets always, without any where the stream has been steady."""
    clean_point_wait_ns: int = 5 * NS
    """How long the first run of a connection waits for a picture that decoding can start with. Behind it everything is
    kept: streams with gradual refresh have no such picture."""

    def __post_init__(self) -> None:
        for name in ("span_ns", "size_bytes", "event_buffer_bytes", "hole_ns"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.short_span_ns < 0 or self.clean_point_wait_ns < 0:
            raise ValueError("short_span and clean_point_wait must not be below 0")


STALL: Final = 8
"""A step this many times as long as the one before it is a stall, not the pace of a slow stream."""
_GOES_ON: Final = (GapReason.CLOCK_JUMP, GapReason.PACKET_LOSS)
"""Behind these the stream itself goes on: what follows refers to pictures of the run before."""


class TrackPipeline:
    """Cuts the samples of one stream into fragments and appends them to a track."""

    def __init__(
        self,
        recorder: Recorder,
        track_type: TrackType,
        settings: PipelineSettings | None = None,
        *,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_start` is called each time a run begins, before its first sample is taken."""
        self._on_start = on_start
        self.skipped = 0
        """Samples in front of the first clean point of a connection."""
        self.appended = 0
        """Fragments that storage has taken."""
        self.refused = False
        """Whether storage refused the last fragment."""
        self.in_run = False
        """Whether a run has begun and not ended."""
        self._recorder = recorder
        self._video = track_type is TrackType.VIDEO
        self._steady = track_type in (TrackType.VIDEO, TrackType.AUDIO)
        """Metadata come when something happens: their pauses are no holes."""
        self._settings = settings or PipelineSettings()
        self._samples: list[Sample] = []
        self._configuration: CodecConfiguration | None = None
        self._size = 0
        self._start: UtcNs = 0
        self._latest: UtcNs = 0
        self._duration = 40_000_000 if self._video else 20_000_000
        """Of the last sample of a run, whose successor is unknown: the last step that was seen."""
        self._step: int | None = None
        """The last step forward in time, whatever its length; None before the second sample of a connection."""
        self._goes_on = False
        """The run has ended, and the next sample begins another, clean point or not."""
        self._waiting_since: UtcNs | None = None
        self._mark_damaged = False
        self._lost = 0
        self._dropped = 0
        self._lost_since_sample = False

    @property
    def waits_for_clean_point(self) -> bool:
        """Whether a key frame would help: the run cannot start without one."""
        return self._waiting_since is not None and not self.in_run

    @property
    def held_since(self) -> UtcNs | None:
        """The first instant of what waits here for the end of its fragment; None where nothing does."""
        return min(sample.utc_ns for sample in self._samples) if self._samples else None

    def lost(self, packets: int, dropped_units: int) -> None:
        """Packets were lost and units dropped between the last sample and the next; they count in their fragment."""
        self._lost += packets
        self._dropped += dropped_units
        if packets or dropped_units:
            self._lost_since_sample = True

    def push(self, sample: Sample, configuration: CodecConfiguration) -> None:
        """The next sample in decode order."""
        if configuration is not self._configuration:
            if self.in_run and configuration != self._configuration:
                self.end_run(GapReason.CONFIGURATION_CHANGED, sample.utc_ns)
            self._configuration = configuration
        if self.in_run:
            self._look_for_hole(sample.utc_ns - self._latest)
        if not self.in_run and not self._may_start(sample):
            self.skipped += 1
            return
        self._lost_since_sample = False
        if self._samples:
            step = sample.utc_ns - self._latest
            if self._steady and 0 < step <= NS:  # a document lasts no time: the next one says nothing about it
                self._duration = step
            span = sample.utc_ns - self._start
            if (
                span >= self._settings.span_ns
                or self._size + len(sample.data) > self._settings.size_bytes
                or (self._video and sample.clean_point and span >= self._settings.short_span_ns)
            ):
                self._close(max(sample.utc_ns, self._latest + 1))
        if self._mark_damaged:
            if sample.clean_point:
                self._mark_damaged = False
            elif not sample.damaged:
                sample = Sample(sample.utc_ns, sample.data, False, True)  # other tracks may hold the one given
        if not self._samples:
            self._start = self._latest = sample.utc_ns
        elif sample.utc_ns > self._latest:
            self._latest = sample.utc_ns
        self._samples.append(sample)
        self._size += len(sample.data)

    def _look_for_hole(self, step: int) -> None:
        """End the run where the time that has passed is a hole: nothing may look recorded that is not."""
        if step <= 0:
            return
        if step >= self._settings.hole_ns:
            if self._lost_since_sample:
                self.end_run(GapReason.PACKET_LOSS)
            elif self._steady and self._step is not None and step >= STALL * self._step:
                self.end_run(GapReason.SOURCE_LOST)
                self._goes_on = True
        self._step = step

    def idle(self, now_ns: UtcNs) -> None:
        """Time has passed. A sparse stream (metadata) hands over what is older than twice the span of a fragment."""
        if self._samples and not self._video and now_ns - self._latest >= 2 * self._settings.span_ns:
            self._close(self._latest + self._duration)

    def end_run(self, reason: GapReason, next_ns: UtcNs | None = None) -> None:
        """Hand over what is pending and end the run; the next sample starts another.

        `next_ns` is the time of the sample that follows without a gap, if there is one.
        """
        if not self.in_run:
            self._waiting_since = None
            self._goes_on = self._goes_on and reason in _GOES_ON
            return
        if self._samples:
            end = self._latest + self._duration
            if next_ns is not None and self._latest < next_ns:
                end = min(next_ns, self._latest + self._settings.hole_ns)
            self._close(end)
        self.in_run = False
        self._waiting_since = None
        self._mark_damaged = False
        self._goes_on = reason in _GOES_ON
        if not self._goes_on:
            self._step = None
        self._recorder.end_run(reason)

    def _may_start(self, sample: Sample) -> bool:
        if not sample.clean_point and not self._goes_on:
            if self._waiting_since is None or sample.utc_ns < self._waiting_since:
                self._waiting_since = sample.utc_ns
            if sample.utc_ns - self._waiting_since < self._settings.clean_point_wait_ns:
                return False
        # Kept, and marked up to the next clean point: what it refers to is not in its run.
        self._mark_damaged = not sample.clean_point
        self.in_run = True
        self._goes_on = False
        self._waiting_since = None
        self._on_start()
        return True

    def _close(self, end_ns: UtcNs) -> None:
        assert self._configuration is not None
        fragment = Fragment(self._configuration, self._samples, end_ns, self._lost, self._dropped)
        self._samples = []
        self._size = self._lost = self._dropped = 0
        if self._recorder.append(fragment):
            self.appended += 1
            self.refused = False
        else:
            # Storage has begun a new run: what follows up to the next clean point lacks what it refers to.
            self.refused = True
            self._mark_damaged = self._video
