"""In which order the runs of a track are played, and where play begins in them (IEC 62676-2-32 8.5.5, 8.9).

Runs are played whole, one after the other, in the order of their starts. After a clock was set back runs overlap: then
the later one is played when the one before it has ended, and its times step back. Nothing is left out and nothing comes
twice, and one instant may show two pictures, as it did happen twice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from nvr.media.bmff.fragment import Place
from nvr.model.errors import StorageError
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Run, Timeline
from nvr.replay.unit import Footage, OpenFragment
from nvr.storage.rows import FragmentRef

LONGEST_GROUP_NS: Final = 600 * NS
"""A clean point is looked for this far away."""
REFRESHING_NS: Final = 10 * NS
"""A run of this length without any clean point comes from an encoder that refreshes its picture gradually. It is played
without clean points: to hide it would be worse."""

Unreadable = Callable[[FragmentRef, StorageError], None]
"""Is told of each fragment that could not be read; the plan goes on behind it."""

_T = TypeVar("_T")
Search = Generator[None, None, _T]
"""Looks for something, and returns it. Yields where enough has been read for now: the next step goes on."""


def place(run: Run) -> tuple[UtcNs, str]:
    """The place of a run in the order of play; it does not change while the run grows."""
    return run.start_ns, run.run_id


def next_run(timeline: Timeline, after: Run) -> Run | None:
    runs = timeline.runs
    at = bisect_left(runs, after.start_ns, key=_start)
    behind = [r for r in _while(runs, at, after.start_ns) if place(r) > place(after)]
    if behind:
        return min(behind, key=place)
    at = bisect_right(runs, after.start_ns, key=_start)
    return min(_while(runs, at, runs[at].start_ns), key=place) if at < len(runs) else None


def previous_run(timeline: Timeline, before: Run) -> Run | None:
    runs = timeline.runs
    at = bisect_left(runs, before.start_ns, key=_start)
    ahead = [r for r in _while(runs, at, before.start_ns) if place(r) < place(before)]
    if not ahead and at > 0:
        start_ns = runs[at - 1].start_ns
        ahead = list(_while(runs, bisect_left(runs, start_ns, key=_start), start_ns))
    return max(ahead, key=place, default=None)


def last_run_before(timeline: Timeline, at_ns: UtcNs) -> Run | None:
    """The last run that starts at or before this instant."""
    runs = timeline.runs
    at = bisect_right(runs, at_ns, key=_start) - 1
    if at < 0:
        return None
    start_ns = runs[at].start_ns
    return max(_while(runs, bisect_left(runs, start_ns, key=_start), start_ns), key=place)


def first_run_holding(timeline: Timeline, at_ns: UtcNs) -> Run | None:
    """The first run in the order of play that holds this instant, or None in a gap."""
    return min(timeline.runs_at(at_ns), key=place, default=None)


def first_run_behind(timeline: Timeline, at_ns: UtcNs) -> Run | None:
    """The first run that starts at or after this instant."""
    runs = timeline.runs
    at = bisect_left(runs, at_ns, key=_start)
    return min(_while(runs, at, runs[at].start_ns), key=place) if at < len(runs) else None


def current(timeline: Timeline, run: Run) -> Run | None:
    """The run as it is now; None when it has been deleted. Retention may have moved its start, and pictures that are
    shown before the first one may have."""
    runs = timeline.runs
    at = bisect_left(runs, run.start_ns - REFRESHING_NS, key=_start)
    while at < len(runs) and (runs[at].start_ns <= run.end_ns or run.end_reason is None):
        if runs[at].run_id == run.run_id:
            return runs[at]
        at += 1
    return None


def _start(run: Run) -> UtcNs:
    return run.start_ns


def _while(runs: Sequence[Run], at: int, start_ns: UtcNs) -> Iterator[Run]:
    while at < len(runs) and runs[at].start_ns == start_ns:
        yield runs[at]
        at += 1


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a track begins: the sample at `index` of the fragment `ref` of `run`, which is open already."""

    run: Run
    ref: FragmentRef
    index: int
    fragment: OpenFragment

    @property
    def utc_ns(self) -> UtcNs:
        return self.fragment.places[self.index].utc_ns


class Course:
    """Finds places in one track of video. Blocking. `spent` tells that enough has been read for now."""

    def __init__(self, footage: Footage, unreadable: Unreadable, spent: Callable[[], bool]) -> None:
        self._footage = footage
        self._unreadable = unreadable
        self._spent = spent

    def open(self, ref: FragmentRef) -> OpenFragment | None:
        """None where the fragment is deleted or cannot be read; the latter is told."""
        try:
            return self._footage.open(ref)
        except StorageError as e:
            self._unreadable(ref, e)
            return None

    def data(self, ref: FragmentRef, fragment: OpenFragment, index: int) -> bytes | memoryview | None:
        """Of one sample; None as in `open`."""
        try:
            return fragment.data(index)
        except StorageError as e:
            self._unreadable(ref, e)
            return None

    def beginning(self, timeline: Timeline, start_ns: UtcNs) -> Search[Beginning | None]:
        """Where forward play begins (8.5.5): in footage the last clean point at or before the start; in a gap, or where
        the run has none that early, the first one behind it. None when nothing follows."""
        run = first_run_holding(timeline, start_ns)
        if run is not None:
            found = yield from self._clean_before(run, start_ns)
            if found is not None:
                return found
        else:
            run = first_run_behind(timeline, start_ns)
        while run is not None:
            if self._spent():
                yield
            found = (yield from self._first_clean(run, start_ns)) or (yield from self._without_clean(run, start_ns))
            if found is not None:
                return found
            run = next_run(timeline, run)
        return None

    def needs_clean(self, run: Run) -> Search[bool]:
        """Whether a run that does not begin with a clean point is played from its first one only: where there is one,
        and where without it nothing can be decoded. Looks over 10 minutes at most."""
        if (yield from self._first_clean(run, run.start_ns)) is not None:
            return True
        return (yield from self._without_clean(run, run.start_ns)) is None

    def _clean_before(self, run: Run, at_ns: UtcNs) -> Search[Beginning | None]:
        for ref in self._footage.fragments_before(at_ns + 1, run_id=run.run_id):
            if self._spent():
                yield
            if ref.start_ns < at_ns - LONGEST_GROUP_NS:
                return None
            fragment = self.open(ref)
            places = fragment.places if fragment is not None else ()
            for index in range(len(places) - 1, -1, -1):
                if places[index].clean_point and places[index].utc_ns <= at_ns:
                    assert fragment is not None
                    return Beginning(run, ref, index, fragment)
        return None

    def _first_clean(self, run: Run, from_ns: UtcNs) -> Search[Beginning | None]:
        """The first clean point of a run at or after an instant."""
        limit_ns: UtcNs | None = None
        for ref in self._footage.fragments(from_ns, run_id=run.run_id):
            limit_ns = ref.start_ns + LONGEST_GROUP_NS if limit_ns is None else limit_ns
            if ref.start_ns >= limit_ns:
                return None
            if self._spent():
                yield
            found = self._first(run, ref, lambda place: place.clean_point and place.utc_ns >= from_ns)
            if found is not None:
                return found
        return None

    def _without_clean(self, run: Run, from_ns: UtcNs) -> Search[Beginning | None]:
        """For a run that has no clean point anywhere near: its first unit at or behind an instant.

        A short run of that kind is the rest of a group whose beginning is lost: it cannot be decoded (8.5.5).
        """
        if run.end_ns - run.start_ns < REFRESHING_NS:
            return None
        for ref in self._footage.fragments(from_ns, run_id=run.run_id):
            if self._spent():
                yield
            found = self._first(run, ref, lambda place: place.utc_ns >= from_ns)
            if found is not None:
                return found
        return None

    def _first(self, run: Run, ref: FragmentRef, wanted: Callable[[Place], bool]) -> Beginning | None:
        fragment = self.open(ref)
        if fragment is not None:
            for index, place in enumerate(fragment.places):
                if wanted(place):
                    return Beginning(run, ref, index, fragment)
        return None
