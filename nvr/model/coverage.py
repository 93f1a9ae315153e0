"""When there is data: the runs of a track with what they share joined, and the union of several tracks. Pure.

Runs that touch or overlap are one stretch here, as `Timeline.gaps` has it. The stretch that is still being recorded has
no end yet: its end is `GROWING`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nvr.model.joined import alike
from nvr.model.time import UtcNs
from nvr.model.timeline import Run, Timeline

GROWING: UtcNs = 1 << 63
"""Later than any instant that the recorder knows."""

Stretch: TypeAlias = tuple[UtcNs, UtcNs]
"""First instant, and the end; `GROWING` while data is still being recorded."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Ascending stretches that neither touch nor overlap."""

    starts: tuple[UtcNs, ...] = ()
    ends: tuple[UtcNs, ...] = ()

    @classmethod
    def of(cls, timeline: Timeline) -> Coverage:
        return CoverageOfTrack().of(timeline)

    def stretch_at(self, at_ns: UtcNs) -> Stretch | None:
        """The stretch that holds this instant, its end included: the data ends there, and there is an event of it."""
        i = bisect_right(self.starts, at_ns) - 1
        return (self.starts[i], self.ends[i]) if i >= 0 and at_ns <= self.ends[i] else None

    def has_data_at(self, at_ns: UtcNs) -> bool:
        """As `stretch_at`, without the end."""
        i = bisect_right(self.starts, at_ns) - 1
        return i >= 0 and at_ns < self.ends[i]

    def first_from(self, from_ns: UtcNs) -> Stretch | None:
        """The stretch that holds this instant, or the first one behind it."""
        i = bisect_left(self.ends, from_ns)
        return (self.starts[i], self.ends[i]) if i < len(self.starts) else None

    def last_until(self, until_ns: UtcNs) -> Stretch | None:
        """The stretch that holds this instant, or the last one before it."""
        i = bisect_right(self.starts, until_ns) - 1
        return (self.starts[i], self.ends[i]) if i >= 0 else None


EMPTY = Coverage()


class CoverageOfTrack:
    """The coverage of a timeline that grows at its end and, under a retention time, loses its beginning all the time.
    What has not changed is not joined anew: a camera that comes and goes leaves a hundred thousand runs.
    """

    def __init__(self) -> None:
        self._timeline = Timeline()
        self._coverage = EMPTY
        self._settled = 0
        """So many of the runs are in stretches that no later run can change, given by the next two."""
        self._starts: list[UtcNs] = []
        self._ends: list[UtcNs] = []

    def of(self, timeline: Timeline) -> Coverage:
        runs = timeline.runs
        if runs is self._timeline.runs:
            return self._coverage
        if not self._loses_beginning(timeline):
            self._settled = 0
            self._starts, self._ends = [], []
        starts, ends = self._starts, self._ends
        for i in range(self._settled, len(runs)):
            run = runs[i]
            end_ns = GROWING if run.end_reason is None else run.end_ns
            if ends and run.start_ns <= ends[-1]:
                ends[-1] = max(ends[-1], end_ns)
            else:
                starts.append(run.start_ns)
                ends.append(end_ns)
        self._coverage = Coverage(tuple(starts), tuple(ends))
        self._timeline = timeline
        # The last stretch may still grow or be joined: it is taken back.
        self._settled = len(runs)
        if starts:
            last_ns = starts.pop()
            ends.pop()
            self._settled = bisect_left(runs, last_ns, key=_start)
        return self._coverage

    def _loses_beginning(self, timeline: Timeline) -> bool:
        """Whether the settled runs are those that were there, but for the first ones; takes their stretches away."""
        runs, old, old_reach = timeline.runs, self._timeline.runs, self._timeline.reach
        if not runs or not self._settled:
            return False
        for cut_short in (0, 1):  # whether the first run has lost its beginning
            if len(runs) <= cut_short:
                return False
            gone = bisect_left(old, runs[cut_short].start_ns, key=_start)
            if gone < len(old) and old[gone] is runs[cut_short]:
                break
        else:
            return False
        if gone < cut_short or gone >= self._settled:
            return False
        first, of_gone = runs[0], gone - cut_short
        if cut_short and not _is_rest_of(first, old[of_gone]):
            return False
        if of_gone and old_reach[of_gone - 1] > first.start_ns:
            return False  # one of those that have gone reached over what is left
        if not alike(runs, cut_short, old, gone, self._settled - gone):
            return False
        k = bisect_left(self._ends, first.start_ns)
        if k == len(self._ends):
            return False
        del self._starts[:k], self._ends[:k]
        self._starts[0] = first.start_ns
        self._settled -= of_gone
        return True


def _start(run: Run) -> UtcNs:
    return run.start_ns


def _is_rest_of(rest: Run, run: Run) -> bool:
    return rest.start_ns >= run.start_ns and (rest.end_ns, rest.end_reason) == (run.end_ns, run.end_reason)


def union_forward(tracks: Sequence[Coverage], from_ns: UtcNs) -> Iterator[Stretch]:
    """Stretches in which any of the tracks has data, ascending, from the one that holds `from_ns` or the first behind.

    Each costs a few bisections, however much there is.
    """
    at_ns: UtcNs | None = from_ns
    while at_ns is not None:
        found = [s for track in tracks if (s := track.first_from(at_ns)) is not None]
        if not found:
            return
        start_ns = _earliest(tracks, min(s[0] for s in found))
        end_ns = _latest(tracks, start_ns)
        yield start_ns, end_ns
        at_ns = None if end_ns == GROWING else end_ns + 1


def union_backward(tracks: Sequence[Coverage], from_ns: UtcNs) -> Iterator[Stretch]:
    """As `union_forward`, descending, from the one that holds `from_ns` or the last before it."""
    at_ns = from_ns
    while True:
        found = [s for track in tracks if (s := track.last_until(at_ns)) is not None]
        if not found:
            return
        end_ns = _latest(tracks, max(min(s[1], at_ns) for s in found))
        start_ns = _earliest(tracks, max(s[0] for s in found))
        yield start_ns, end_ns
        at_ns = start_ns - 1


def _earliest(tracks: Sequence[Coverage], at_ns: UtcNs) -> UtcNs:
    """The start of the joined stretch around an instant that has data."""
    while True:
        held = [s[0] for track in tracks if (s := track.stretch_at(at_ns)) is not None]
        earlier = min(held, default=at_ns)
        if earlier >= at_ns:
            return at_ns
        at_ns = earlier


def _latest(tracks: Sequence[Coverage], at_ns: UtcNs) -> UtcNs:
    """The end of the joined stretch around an instant that has data."""
    while True:
        held = [s[1] for track in tracks if (s := track.stretch_at(at_ns)) is not None]
        later = max(held, default=at_ns)
        if later <= at_ns:
            return at_ns
        at_ns = later
        if at_ns == GROWING:
            return at_ns
