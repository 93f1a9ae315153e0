"""The runs of one track in their order, as they come, grow, end and go.

What happens all the time costs the same however many there are: a run comes at the end or grows there, and the first
ones go or lose their beginning. A camera that comes and goes leaves a hundred thousand runs, and is asked for them
between any two fragments. Everything else (a clock that was set back, what recovery has found) has them sorted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

from nvr.model.joined import Joined
from nvr.model.time import UtcNs
from nvr.model.timeline import Run, Timeline, in_order


class Runs:
    """Belongs to the event loop; the timelines that it makes may go anywhere.

    In order they are `_first`, `_settled` from `_low` on, and `_last`. `_settled` is only ever appended to, so that
    timelines made of it stay as they are.
    """

    def __init__(self) -> None:
        self._known: dict[str, Run] = {}
        self._open: set[str] = set()
        """Ids of the runs that have not ended."""
        self._first: tuple[Run, ...] = ()
        """The first run, where it has lost its beginning: instead of the one at `_low - 1`."""
        self._settled: list[Run] = []
        self._reach: list[UtcNs] = []
        """See `Timeline.reach`, for `_settled`."""
        self._low = 0
        self._last: tuple[Run, ...] = ()
        self._sorted = True
        self._timeline: Timeline | None = None

    def get(self, run_id: str) -> Run | None:
        return self._known.get(run_id)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._known

    def __len__(self) -> int:
        return len(self._known)

    def timeline(self) -> Timeline:
        """The same object until something changes."""
        if self._timeline is None:
            if not self._sorted:
                self._sort()
            low, high = self._low, len(self._settled)
            first, last = [r.end_ns for r in self._first], [self._reached(r) for r in self._last]
            runs = Joined(
                (self._first, 0, len(self._first)), (self._settled, low, high), (self._last, 0, len(self._last))
            )
            reach = Joined((first, 0, len(first)), (self._reach, low, high), (last, 0, len(last)))
            self._timeline = Timeline(runs, reach, bool(self._open))
        return self._timeline

    def put(self, run: Run) -> None:
        """A run has come, grown or ended, whatever was known of it."""
        known = self._known.get(run.run_id)
        self._known[run.run_id] = run
        self._timeline = None
        if run.end_reason is None:
            self._open.add(run.run_id)
        else:
            self._open.discard(run.run_id)
        if not self._sorted:
            return
        last = self._last[0] if self._last else None
        if known is None and (last is None or last.start_ns < run.start_ns):
            if last is not None:
                self._settle(last)
            self._last = (run,)
        elif last is not None and known is last and run.start_ns == last.start_ns:
            self._last = (run,)
        else:
            self._sorted = False

    def replace(self, runs: Iterable[Run]) -> None:
        """These are all."""
        self._known = {r.run_id: r for r in runs}
        self._open = {r.run_id for r in self._known.values() if r.end_reason is None}
        self._sorted, self._timeline = False, None

    def cut(self, runs: Mapping[str, Run | None]) -> None:
        """Runs have lost their beginning, or are gone (None). At no cost where they are the first ones."""
        left = {run_id for run_id in runs if run_id in self._known}
        while left and self._sorted and (first := self._earliest()) is not None and first.run_id in left:
            left.discard(first.run_id)
            self._drop_first(runs[first.run_id])
        if left:
            self._sorted = False
        for run_id, run in runs.items():
            if run_id in self._known:
                if run is None:
                    del self._known[run_id]
                    self._open.discard(run_id)
                else:
                    self._known[run_id] = run
        self._timeline = None

    def _earliest(self) -> Run | None:
        if self._first:
            return self._first[0]
        if self._low < len(self._settled):
            return self._settled[self._low]
        return self._last[0] if self._last else None

    def _drop_first(self, instead: Run | None) -> None:
        """Takes the first run away, and puts what is left of it in its place."""
        new = () if instead is None else (instead,)
        if self._first:
            self._first = new
        elif self._low < len(self._settled):
            self._low += 1
            self._first = new
        else:
            self._last = new
            return
        following = self._settled[self._low] if self._low < len(self._settled) else next(iter(self._last), None)
        if following is None:
            return
        # One that reached over others was not the last to end: what is behind it is another sum of ends.
        reaches = self._low < len(self._settled) and instead is None and self._reach[self._low] != following.end_ns
        if reaches or (instead is not None and in_order(instead) > in_order(following)):
            self._sorted = False

    def _reached(self, last: Run) -> UtcNs:
        """The latest end, where this is the last run."""
        if self._low < len(self._settled):
            return max(last.end_ns, self._reach[-1])
        return max([last.end_ns, *(r.end_ns for r in self._first)])

    def _settle(self, run: Run) -> None:
        self._reach.append(self._reached(run))
        self._settled.append(run)

    def _sort(self) -> None:
        runs = sorted(self._known.values(), key=in_order)
        self._first, self._low = (), 0
        self._settled, self._last = runs[:-1], tuple(runs[-1:])
        self._reach = list(accumulate((r.end_ns for r in self._settled), max))
        self._sorted = True
