"""How much memory Before asks for, reckoned before it is known what cameras send. Pure rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from nvr.ingest.arbiter import lines_of, takes_part
from nvr.ingest.gate import LATE_NS
from nvr.model.job import RecordingJob
from nvr.model.recording import Recording, TrackType
from nvr.model.time import NS
from nvr.model.tokens import RecordingToken, TrackKey

RATES: Final = {TrackType.VIDEO: 500_000, TrackType.AUDIO: 16_000, TrackType.METADATA: 16_000}
"""Bytes a second that are assumed of a stream: 4 Mbit/s of pictures."""
_GROUP_NS: Final = 2 * NS
"""A group of pictures is held whole."""


def needs_of(recordings: Mapping[RecordingToken, Recording], jobs: Iterable[RecordingJob]) -> dict[TrackKey, int]:
    """Bytes for each track of an active job that waits for events, at the assumed rates."""
    found: dict[TrackKey, int] = {}
    for job in jobs:
        wanted, recording = job.configuration.event_filter, recordings.get(job.configuration.recording)
        if wanted is None or recording is None or not takes_part(job):
            continue
        held_ns = (wanted.before_ns or 0) + LATE_NS + _GROUP_NS
        for source in job.configuration.sources:
            for line in lines_of(job, source, recording):
                track = recording.track(line.destination)
                if track is not None:
                    key, rate = recording.key(track), RATES.get(track.configuration.track_type, 0)
                    found[key] = max(found.get(key, 0), rate * held_ns // NS)
    return found


def excesses(
    needs: Mapping[TrackKey, int], most_bytes: int, limit: int, label: Callable[[TrackKey], str]
) -> Iterator[str]:
    """What the settings cannot hold, one sentence each. A quarter of `limit`, the memory of everything, is left to the
    queues of storage."""
    above = [key for key, need in needs.items() if need > min(most_bytes, limit)]
    if above:
        worst = max(above, key=lambda key: needs[key])
        others = f" (and {len(above) - 1} other tracks)" if len(above) > 1 else ""
        yield (
            f"{label(worst)}{others} needs about {_mib(needs[worst])} MiB for what lies before its events, at 4 Mbit/s "
            f"of pictures, and a track may have {_mib(most_bytes)} MiB (ingest.pipeline.event_buffer): the oldest will "
            "be dropped"
        )
    total = sum(min(need, most_bytes) for need in needs.values())
    if total > limit - limit // 4:
        yield (
            f"{len(needs)} tracks that wait for events need about {_mib(total)} MiB for what lies before these, at "
            f"4 Mbit/s of pictures; storage.memory is {_mib(limit)} MiB, of which a quarter should be left to the "
            "queues of volumes: the oldest of it will be dropped"
        )


def _mib(size: int) -> int:
    return -(-size >> 20)
