"""Builders of tracks: what a camera sent, as fragments, with gaps; and encoded pictures and sound for stock players."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache

from nvr.demo.encoder import VideoEncoder
from nvr.media.codecs.aac import AacConfiguration
from nvr.media.codecs.g711 import PcmuConfiguration
from nvr.media.codecs.h264 import H264Configuration
from nvr.media.codecs.h265 import H265Configuration
from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.storage.track import TrackRecorder
from tests.support.rtp_streams import encode_aac, encode_video, nals_of

START = 1_767_225_600 * NS + 123_456_789
"""2026-01-01T00:00:00.123456789Z: no whole tick of any clock rate."""
CAMERA = TrackKey(RecordingToken("rec-0123456789abcdef0123456789abcdef"), VIDEO001)
PCMU = PcmuConfiguration(8000, 1)

NO_B_FRAMES = "bframes=0:keyint=25:scenecut=0"
B_PYRAMID = "bframes=4:b-adapt=0:b-pyramid=normal:keyint=25:scenecut=0:open-gop=1"


@lru_cache
def encoded_h264(count: int = 75, parameters: str = NO_B_FRAMES) -> tuple[H264Configuration, tuple[Sample, ...]]:
    """Pictures at 25 a second from START on, in decode order, a clean point every second."""
    found = encode_video("libx264", count, {"x264-params": parameters, "preset": "ultrafast"})
    nals = nals_of(found.units[0][1])
    sps = tuple(n for n in nals if n[0] & 31 == 7)
    pps = tuple(n for n in nals if n[0] & 31 == 8)
    clean = [any(n[0] & 31 in (5, 7) for n in nals_of(data)) for _, data in found.units]
    return H264Configuration(sps, pps), _samples(found.units, clean, 90_000)


@lru_cache
def encoded_h265(count: int = 75) -> tuple[H265Configuration, tuple[Sample, ...]]:
    """As `encoded_h264`, with B-frames and open GOPs."""
    options = {"x265-params": "bframes=3:b-adapt=0:keyint=25:scenecut=0:log-level=none", "preset": "ultrafast"}
    found = encode_video("libx265", count, options)
    nals = nals_of(found.units[0][1])
    sets = {kind: tuple(n for n in nals if n[0] >> 1 & 63 == kind) for kind in (32, 33, 34)}
    clean = [any(16 <= n[0] >> 1 & 63 <= 23 for n in nals_of(data)) for _, data in found.units]
    return H265Configuration(sets[32], sets[33], sets[34]), _samples(found.units, clean, 90_000)


@lru_cache
def encoded_aac(seconds: int = 3) -> tuple[AacConfiguration, tuple[Sample, ...]]:
    found = encode_aac(seconds)
    configuration = AacConfiguration(found.extradata, 48_000, 2)
    return configuration, _samples(found.units, [True] * len(found.units), 48_000)


def _samples(units: list[tuple[int, bytes]], clean: list[bool], rate: int) -> tuple[Sample, ...]:
    return tuple(
        Sample(START + ticks * NS // rate, data, is_clean) for (ticks, data), is_clean in zip(units, clean, strict=True)
    )


@lru_cache
def numbered(frames: int, gap_before: int) -> tuple[H264Configuration, tuple[Sample, ...]]:
    """Pictures with their numbers burnt in, ten a second, a clean point every second, a gap of 20 s before one."""
    encoder = VideoEncoder(320, 180, 10)
    samples = []
    for number in range(frames):
        at_ns = START + number * NS // 10 + (20 * NS if number >= gap_before else 0)
        data, clean = encoder.encode(number, at_ns)
        samples.append(Sample(at_ns, data, clean))
    nals = nals_of(samples[0].data)
    sets = {kind: tuple(n for n in nals if n[0] & 31 == kind) for kind in (7, 8)}
    return H264Configuration(sets[7], sets[8]), tuple(samples)


def cut(
    configuration: CodecConfiguration, samples: tuple[Sample, ...], end_ns: UtcNs, *, at: list[int] | None = None
) -> list[Fragment]:
    """Fragments that begin at the clean points, or before the samples with these numbers."""
    starts = at or [i for i, s in enumerate(samples) if s.clean_point]
    parts = [list(samples[a:b]) for a, b in zip(starts, [*starts[1:], len(samples)], strict=True)]
    ends = [min(s.utc_ns for s in part) for part in parts[1:]] + [end_ns]
    return [Fragment(configuration, part, max(end, part[0].utc_ns + 1)) for part, end in zip(parts, ends, strict=True)]


def video() -> H264Configuration:
    """A configuration for samples that nobody decodes."""
    return encoded_h264()[0]


def another_video() -> H264Configuration:
    configuration = video()
    return H264Configuration(configuration.sps, (*configuration.pps, configuration.pps[0][:1] + b"\x52\xca\x80"))


@dataclass
class TrackScript:
    """What one track receives, step by step: fragments, and the ends of runs."""

    configuration: CodecConfiguration
    at_ns: UtcNs = START
    steps: list[Fragment | GapReason] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def with_gop(
        self,
        pictures: int = 10,
        size: int = 300,
        *,
        count: int = 1,
        interval_ns: int = 40_000_000,
        clean: bool = True,
        damaged: int = 0,
        order: list[int] | None = None,
        lost_packets: int = 0,
        dropped_units: int = 0,
    ) -> TrackScript:
        """`count` GOPs, one fragment each. `order` are the places of presentation in decode order; the first
        `damaged` samples are so."""
        for _ in range(count):
            places = order or list(range(pictures))
            samples = [
                Sample(
                    self.at_ns + place * interval_ns,
                    self._random.randbytes(self._random.randint(1, size)),
                    clean and i == 0,
                    i < damaged,
                )
                for i, place in enumerate(places)
            ]
            self.at_ns += len(places) * interval_ns
            self.steps.append(Fragment(self.configuration, samples, self.at_ns, lost_packets, dropped_units))
        return self

    def with_gap(self, seconds: float = 30, reason: GapReason = GapReason.SOURCE_LOST) -> TrackScript:
        self.at_ns += round(seconds * NS)
        self.steps.append(reason)
        return self

    def with_configuration(self, configuration: CodecConfiguration) -> TrackScript:
        self.configuration = configuration
        return self

    @property
    def fragments(self) -> list[Fragment]:
        return [s for s in self.steps if isinstance(s, Fragment)]

    def feed(self, recorder: TrackRecorder) -> list[Fragment]:
        """Plays the script; the fragments that were accepted."""
        accepted = []
        for step in self.steps:
            if isinstance(step, Fragment):
                if recorder.append(step):
                    accepted.append(step)
            else:
                recorder.end_run(step)
        return accepted


def a_track(configuration: CodecConfiguration | None = None, at_ns: UtcNs = START) -> TrackScript:
    return TrackScript(configuration or video(), at_ns)
