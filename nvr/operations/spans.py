"""When a track was recorded and when not, and why not: its timeline as a row of spans without a hole between them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from nvr.model.errors import BadConfiguration, UnknownToken
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.operations.control_socket import Row
from nvr.operations.dispatch import Handler
from nvr.operations.footage import Footage
from nvr.operations.known_cameras import KnownCameras

PAGE = 250
"""Spans in one answer of a running recorder: about a millisecond of its loop."""


@dataclass(frozen=True, slots=True)
class Span:
    """[start_ns, end_ns). `reason` is that of a gap, None where footage is. `lasts`: it goes on at its end."""

    start_ns: UtcNs
    end_ns: UtcNs
    reason: GapReason | None
    lasts: bool = False


def spans(timeline: Timeline, from_ns: UtcNs, until_ns: UtcNs) -> Iterator[Span]:
    """What of [from_ns, until_ns) is recorded and what is not, from the first footage on: before it nothing is known.

    Each span begins where the one before it ends. Runs that touch or overlap are one. Costs a bisection and what is
    taken of it, however many runs there are.
    """

    def cut(start_ns: UtcNs, end_ns: UtcNs, reason: GapReason | None, lasts: bool = False) -> Iterator[Span]:
        start_ns, within_ns = max(start_ns, from_ns), min(end_ns, until_ns)
        if start_ns < within_ns:
            yield Span(start_ns, within_ns, reason, lasts and end_ns <= until_ns)

    def why(run: Run) -> GapReason:
        return run.end_reason or GapReason.UNKNOWN

    runs = timeline.runs
    first = bisect_right(timeline.reach, from_ns)
    last = _furthest(timeline, first - 1) if first else None  # of the runs so far, the one that ends last
    begin_ns: UtcNs | None = None
    for i in range(first, len(runs)):
        run = runs[i]
        if last is not None and run.start_ns > last.end_ns:
            if begin_ns is not None:
                yield from cut(begin_ns, last.end_ns, None)
            yield from cut(last.end_ns, run.start_ns, why(last))
            begin_ns = None
        begin_ns = run.start_ns if begin_ns is None else begin_ns
        if begin_ns >= until_ns:
            return
        if last is None or run.end_ns >= last.end_ns:
            last = run
    if last is None:
        return
    if begin_ns is not None:
        yield from cut(begin_ns, last.end_ns, None, lasts=timeline.recording)
    if not timeline.recording:
        yield from cut(last.end_ns, until_ns, why(last), lasts=True)


def _furthest(timeline: Timeline, place: int) -> Run:
    """Of the runs up to this place the one that ends last: it need not be the last to begin."""
    while timeline.runs[place].end_ns != timeline.reach[place]:
        place -= 1
    return timeline.runs[place]


class SpanOperations:
    """`nvr gaps`, in pages."""

    def __init__(self, cameras: KnownCameras, footage: Footage, utc: Callable[[], UtcNs] = time.time_ns) -> None:
        self._cameras = cameras
        self._footage = footage
        self._utc = utc

    def handlers(self) -> Mapping[str, Handler]:
        return {"tracks": self.tracks, "spans": self.spans}

    async def tracks(self, camera: str = "") -> list[Row]:
        """The tracks of one recording, or of all, with the name of their camera; and which have footage
        that a killed recorder has left, and that is not told before it has been examined. Raises Refused."""
        recordings = [self._cameras.find(camera)] if camera else self._cameras.recordings()
        return [
            {
                "recording": r.token,
                "name": r.configuration.source.name,
                "track": t.token,
                "awaits": "yes" if self._footage.awaits(r.key(t)) else "",
            }
            for r in recordings
            for t in r.tracks
        ]

    async def spans(self, recording: str, track: str, since_ns: str, until_ns: str = "") -> list[Row]:
        """One page of the spans of a track; the next begins where the last span of this one ends. An empty `until_ns`
        is now. Raises Refused."""
        found = self._cameras.recording(recording)
        if found.track(track) is None:
            raise UnknownToken("Track", track)
        timeline = self._footage.timeline(TrackKey(RecordingToken(recording), TrackToken(track)))
        try:
            # What is being recorded may reach beyond now: the last sample lasts for a while.
            until = int(until_ns) if until_ns else max(self._utc(), timeline.latest or 0)
            page = islice(spans(timeline, int(since_ns), until), PAGE)
        except ValueError as e:
            raise BadConfiguration(f"spans: {e}") from None
        return [
            {
                "start_ns": str(span.start_ns),
                "end_ns": str(span.end_ns),
                "reason": span.reason or "",
                "lasts": "yes" if span.lasts else "",
            }
            for span in page
        ]
