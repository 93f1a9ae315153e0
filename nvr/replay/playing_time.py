"""Normal play time of a recording (RFC 2326 3.6): what plain players seek by, and count their duration in.

It counts what is played: zero is the beginning of the recording, and the time in which no track has footage is left
out, as the player leaves it out. A run that overlaps the one before it, because a clock was set back, counts whole.
Behind the last footage it goes on as the clock does: there the recording may go on.

To count is a walk over all runs, for a thread; to go on counting and to ask are a few bisections, for the loop.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from nvr.model.joined import Joined
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Run, Timeline, in_order

SETTLED_NS: Final = 60 * NS
"""What lies so far behind the newest footage does not change any more, but for what is deleted: all tracks have written
what they have of that time."""

REORDERED_NS: Final = 10 * NS
"""So much earlier a run may begin than was known."""

MANY_RUNS: Final = 256
"""More than so many are counted on a thread."""


class Stretch(NamedTuple):
    """Recorded time without a gap or a jump: `length_ns` from `utc_ns` on are played from `npt_ns` on."""

    npt_ns: int
    utc_ns: UtcNs
    length_ns: int

    @property
    def end_ns(self) -> UtcNs:
        return self.utc_ns + self.length_ns


class _Resume(NamedTuple):
    """Where counting goes on in one track: at the first of these runs, as they were known. Before it footage is placed
    up to `end_ns`, None where there is none."""

    runs: tuple[Run, ...] = ()
    end_ns: int | None = None


class _Placed(NamedTuple):
    """One run: where it is played, up to where, and how much later that is than it was recorded."""

    place: int
    end: int
    shift: int
    track: int
    number: int
    """Of the run among those that are counted now."""
    before_ns: int | None
    """Up to where footage is placed before it."""


class _Count(NamedTuple):
    """How far was counted: `stretches` of them are whole, and play `npt_ns`. The one that is being put together is
    played from `start` up to `covered`, so much later than recorded as `shift`."""

    stretches: int
    npt_ns: int
    start: int
    covered: int
    shift: int
    tracks: tuple[_Resume, ...]


class PlayingTime:
    """`stretches` in the order of play, at least one, each beginning where the one before it ends. Immutable."""

    def __init__(
        self,
        stretches: Sequence[Stretch],
        reach: Sequence[UtcNs],
        stepped: int,
        begin_ns: UtcNs,
        count: _Count,
        marks: Sequence[tuple[UtcNs | None, int]],
    ) -> None:
        """Made by `of`. `reach`: for each stretch the latest end of it and those before it; `stepped`: from which
        stretch on none begins before that any more; `begin_ns`: the first instant that there is now; `marks`: see
        `_marks`."""
        self.stretches = stretches
        self._reach = reach
        self._stepped = stepped
        self._begin_ns = begin_ns
        self._count = count
        self._marks = marks

    @classmethod
    def of(cls, timelines: Sequence[Timeline]) -> PlayingTime | None:
        """Of all tracks of a recording together. None where they hold no footage."""
        begin_ns = _begin(timelines)
        if begin_ns is None:
            return None
        nothing = _Count(0, 0, begin_ns, begin_ns, 0, tuple(_Resume() for _ in timelines))
        stretches, count = _counted(nothing, timelines)
        reach, stepped = _reach(stretches, None)
        return cls(stretches, reach, stepped, begin_ns, count, _marks(count, timelines)) if stretches else None

    def extended(self, timelines: Sequence[Timeline]) -> PlayingTime:
        """With what has been recorded since; `timelines` are those of the same tracks. What has been counted keeps its
        place, whatever has been deleted since."""
        begin_ns = _begin(timelines)
        if begin_ns is None:
            return self
        stretches, count = _counted(self._count, timelines)
        kept = self._count.stretches
        reach, stepped = _reach(stretches, self._reach[kept - 1] if kept else None)
        return PlayingTime(
            Joined((self.stretches, 0, kept), (stretches, 0, len(stretches))),
            Joined((self._reach, 0, kept), (reach, 0, len(reach))),
            kept + stepped if stepped else min(self._stepped, kept),
            begin_ns,
            count,
            _marks(count, timelines),
        )

    def continues(self, timelines: Sequence[Timeline]) -> bool:
        """Whether to go on counting gives what counting from the beginning would, and costs little: nothing has been
        deleted or found before what is still counted, and not much has come since."""
        if self._begin_ns != _begin(timelines):
            return False
        marks = _marks(self._count, timelines)
        return marks == self._marks and all(
            len(t.runs) - before <= MANY_RUNS for t, (_, before) in zip(timelines, marks, strict=True)
        )

    @property
    def length_ns(self) -> int:
        """The duration of the recording as it is now."""
        last = self.stretches[-1]
        return last.npt_ns + last.length_ns

    def utc(self, npt_ns: int, *, ending: bool = False) -> UtcNs:
        """The recorded time that is played at `npt_ns`.

        Where a gap is left out it is the time behind the gap; with `ending`, for what ends there, the one before it.
        Before the first footage it is its beginning; behind the last, as much later than its end.
        """
        find = bisect_left if ending else bisect_right
        at = find(self.stretches, npt_ns, key=lambda s: s.npt_ns) - 1
        stretch = self.stretches[max(at, 0)]
        return max(stretch.utc_ns + max(0, npt_ns - stretch.npt_ns), self._begin_ns)

    def npt(self, utc_ns: UtcNs) -> int:
        """When a recorded time is played; for one in a gap, when the footage behind the gap is."""
        at = bisect_right(self._reach, utc_ns)
        if at == len(self.stretches):
            return self.length_ns + utc_ns - self._reach[-1]
        first = self.stretches[at]  # that ends behind it
        if first.utc_ns > utc_ns:
            for stretch in self.stretches[at + 1 : self._stepped]:
                if stretch.utc_ns <= utc_ns < stretch.end_ns:
                    return stretch.npt_ns + utc_ns - stretch.utc_ns
        return first.npt_ns + max(0, utc_ns - first.utc_ns)


def _begin(timelines: Sequence[Timeline]) -> UtcNs | None:
    return min((t.earliest for t in timelines if t.earliest is not None), default=None)


def _marks(count: _Count, timelines: Sequence[Timeline]) -> list[tuple[UtcNs | None, int]]:
    """Of each track the first instant, and how many runs stand before those that are still counted."""
    return [
        (timeline.earliest, bisect_left(timeline.runs, known.runs[0].start_ns, key=_start)) if known.runs else (None, 0)
        for timeline, known in zip(timelines, count.tracks, strict=True)
    ]


def _counted(count: _Count, timelines: Sequence[Timeline]) -> tuple[list[Stretch], _Count]:
    """Goes on counting. The stretches that follow those that were whole, the last as it is now; and from where on to
    count again when there is more."""
    whole, npt_ns, start, covered, shift, tracks = count
    runs = [_now(timeline, known.runs) for timeline, known in zip(timelines, tracks, strict=True)]
    placed = sorted(item for number, known in enumerate(tracks) for item in _placed(number, runs[number], known.end_ns))
    settled = max((item.end for item in placed), default=covered) - SETTLED_NS
    last: dict[int, _Placed] = {}
    made: list[Stretch] = []
    kept: _Count | None = None

    def so_far() -> _Count:
        resumes = (
            _Resume(tuple(runs[t][i.number :]), i.before_ns)
            if (i := last.get(t))
            else _Resume(tuple(runs[t]), k.end_ns)
            for t, k in enumerate(tracks)
        )
        return _Count(whole + len(made), npt_ns, start, covered, shift, tuple(resumes))

    for item in placed:
        if kept is None and item.place >= settled:
            kept = so_far()
        last[item.track] = item
        if item.end <= covered:
            continue
        if item.place > covered or item.shift != shift:
            if covered > start:
                made.append(Stretch(npt_ns, start - shift, covered - start))
                npt_ns += covered - start
            start, shift = max(item.place, covered), item.shift
        covered = item.end
    kept = kept or so_far()
    if covered > start:
        made.append(Stretch(npt_ns, start - shift, covered - start))
    return made, kept


def _now(timeline: Timeline, known: Sequence[Run]) -> list[Run]:
    """The runs from the first of those known on, as they are now. What has been deleted of them is still counted."""
    runs = timeline.runs
    if not known:
        return list(runs)
    at = bisect_left(runs, known[0].start_ns, key=_start)
    # Of a run that is being recorded a picture may come that is shown before its first one.
    earlier = bisect_left(runs, known[0].start_ns - REORDERED_NS, key=_start)
    at = next((i for i in range(earlier, at) if runs[i].run_id == known[0].run_id), at)
    found = {run.run_id: run for run in known}
    for run in runs[at:]:
        before = found.get(run.run_id, run)
        found[run.run_id] = Run(run.run_id, min(run.start_ns, before.start_ns), run.end_ns)
    return sorted(found.values(), key=in_order)


def _placed(track: int, runs: Iterable[Run], end: int | None) -> Iterator[_Placed]:
    """Where the runs of one track are played. One that overlaps the run before it is put behind it, until a gap takes
    the shift up again."""
    for number, run in enumerate(runs):
        before, shift = end, 0 if end is None or end < run.start_ns else end - run.start_ns
        end = run.end_ns + shift
        yield _Placed(run.start_ns + shift, end, shift, track, number, before)


def _reach(stretches: Sequence[Stretch], before_ns: UtcNs | None) -> tuple[list[UtcNs], int]:
    """For each stretch the latest end of it and those before it, and behind which of them none begins before that."""
    reach: list[UtcNs] = []
    stepped = 0
    for i, stretch in enumerate(stretches):
        if before_ns is not None and stretch.utc_ns < before_ns:
            stepped = i + 1
        before_ns = stretch.end_ns if before_ns is None else max(before_ns, stretch.end_ns)
        reach.append(before_ns)
    return reach, stepped


def _start(run: Run) -> UtcNs:
    return run.start_ns
