"""Normal play time of a recording (RFC 2326 3.6): what plain players seek by, and count their duration in.

It counts what is played: zero is the beginning of the recording, and the time in which no track has footage is left
out, as the player leaves it out. A run that overlaps the one before it, because a clock was set back, counts whole.
Behind the last footage it goes on as the clock does: there the recording may go on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from nvr.model.time import UtcNs
from nvr.model.timeline import Timeline


class Stretch(NamedTuple):
    """Recorded time without a gap or a jump: `length_ns` from `utc_ns` on are played from `npt_ns` on."""

    npt_ns: int
    utc_ns: UtcNs
    length_ns: int


@dataclass(frozen=True, slots=True)
class PlayingTime:
    """`stretches` in the order of play, at least one, each beginning where the one before it ends; none overlap."""

    stretches: tuple[Stretch, ...]

    @classmethod
    def of(cls, timelines: Iterable[Timeline]) -> PlayingTime | None:
        """Of all tracks of a recording together. None where they hold no footage."""
        placed = sorted(run for timeline in timelines for run in _placed(timeline))
        stretches: list[Stretch] = []
        npt_ns = 0
        # The stretch that is being put together: where its time is played, and how much later than recorded.
        start = covered = placed[0][0] if placed else 0
        shift = 0
        for place, end, shifted in placed:
            if end <= covered:
                continue
            if place > covered or shifted != shift:
                if covered > start:
                    stretches.append(Stretch(npt_ns, start - shift, covered - start))
                    npt_ns += covered - start
                start, shift = max(place, covered), shifted
            covered = end
        if covered > start:
            stretches.append(Stretch(npt_ns, start - shift, covered - start))
        return cls(tuple(stretches)) if stretches else None

    @property
    def length_ns(self) -> int:
        """The duration of the recording as it is now."""
        last = self.stretches[-1]
        return last.npt_ns + last.length_ns

    def since(self, earlier: PlayingTime) -> PlayingTime:
        """The same, counted from where `earlier` counts from: what has been deleted since keeps its place."""
        gone_ns = earlier.npt(self.stretches[0].utc_ns)
        if gone_ns == 0:
            return self
        return PlayingTime(tuple(Stretch(npt + gone_ns, utc, length) for npt, utc, length in self.stretches))

    def utc(self, npt_ns: int, *, ending: bool = False) -> UtcNs:
        """The recorded time that is played at `npt_ns`.

        Where a gap is left out it is the time behind the gap; with `ending`, for what ends there, the one before it.
        Before the first footage it is its beginning; behind the last, as much later than its end.
        """
        find = bisect_left if ending else bisect_right
        at = find(self.stretches, npt_ns, key=lambda s: s.npt_ns) - 1
        stretch = self.stretches[max(at, 0)]
        return stretch.utc_ns + max(0, npt_ns - stretch.npt_ns)

    def npt(self, utc_ns: UtcNs) -> int:
        """When a recorded time is played; for one in a gap, when the footage behind the gap is."""
        for stretch in self.stretches:
            if stretch.utc_ns <= utc_ns < stretch.utc_ns + stretch.length_ns:
                return stretch.npt_ns + utc_ns - stretch.utc_ns
        later = next((s for s in self.stretches if s.utc_ns > utc_ns), None)
        if later is not None:
            return later.npt_ns
        end_ns = max(s.utc_ns + s.length_ns for s in self.stretches)
        return self.length_ns + utc_ns - end_ns


def _placed(timeline: Timeline) -> Iterator[tuple[int, int, int]]:
    """The runs of one track where they are played: from, until, and how much later that is than they were recorded.

    One that overlaps the run before it is put behind it, until a gap takes the shift up again.
    """
    end = None
    for run in timeline.runs:
        shift = 0 if end is None or end < run.start_ns else end - run.start_ns
        end = run.end_ns + shift
        yield run.start_ns + shift, end, shift
