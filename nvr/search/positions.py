"""FindPTZPosition: where cameras have looked (6.11). Only updates inside the interval count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nvr.model.ptz import PtzFilter
from nvr.model.search import FoundPosition, SearchInterval
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.search.archive import Archive, Walk
from nvr.search.chosen import ChosenRecordings
from nvr.search.edge import LiveEdge
from nvr.search.shares import Share
from nvr.search.steps import SteppedSearch
from nvr.storage.event_rows import Place, PositionRow


class PositionSearch(SteppedSearch[FoundPosition]):
    """With EnterOrExit the updates are found that lie inside the volume when the one before does not, or the other way
    round; in front of the first update of the interval the camera is taken to be outside. So both directions find the
    same.
    """

    def __init__(
        self,
        chosen: ChosenRecordings,
        share: Share,
        interval: SearchInterval,
        wanted: PtzFilter,
        archive: Archive,
        now: Callable[[], UtcNs],
        edge: LiveEdge,
    ) -> None:
        self._wanted = wanted
        self._archive = archive
        self._keys: dict[int, TrackKey] = {}
        self._inside: dict[int, bool] = {}
        """Forward: whether the last update of a track was inside."""
        self._after: Place | None = None
        super().__init__(chosen, share, interval, now, edge)
        self._walk = self._new_walk()

    @property
    def held(self) -> int:
        return super().held + len(self._keys) + self._walk.held

    def let_go(self) -> None:
        super().let_go()
        self._walk = self._new_walk()
        self._keys = {}

    def _new_walk(self) -> Walk[PositionRow]:
        return Walk(self._fetch, lambda row: row.track, self._backward)

    def _fetch(self, numbers: Sequence[int], after: Place | None, each: int) -> list[PositionRow]:
        return self._archive.positions(numbers, self._interval, after, each)

    def _begin_step(self) -> None:
        for number, key in self._archive.position_tracks().items():
            if key.recording in self._chosen.coverages:
                self._keys[number] = key
        self._walk.include(self._keys, self._after)
        self._walk.look_again(self._after)

    def _all(self) -> Iterator[FoundPosition | None]:
        while True:
            first = self._walk.peek()
            if first is not None and not self._backward and first.time_ns > self._latest_ns:
                first = None
            if self._stands_at(None if first is None else first.time_ns):
                yield None
            elif first is not None:
                yield from self._at(first.time_ns)
            else:
                return

    def _at(self, time_ns: UtcNs) -> Iterator[FoundPosition | None]:
        """A track has one update for one time: the last that was recorded."""
        updates: dict[int, PositionRow] = {}
        while (row := self._walk.peek()) is not None and row.time_ns == time_ns:
            row = self._walk.take()
            if self._backward:
                updates.setdefault(row.track, row)
            else:
                updates[row.track] = row
            self._after = row.where
        self._reached_ns = time_ns
        for row in sorted(updates.values(), key=lambda r: r.where, reverse=self._backward):
            yield self._judge(row)

    def _judge(self, row: PositionRow) -> FoundPosition | None:
        key = self._keys.get(row.track)
        if key is None or self._is_gone(row):
            return None
        inside = self._wanted.holds(row.position)
        if self._wanted.enter_or_exit:
            matches = inside is not self._inside_before(row)
            self._inside[row.track] = inside
        else:
            matches = inside
        return FoundPosition(key.recording, key.track, row.time_ns, row.position) if matches else None

    def _inside_before(self, row: PositionRow) -> bool:
        """Whether the update before this one, in the order of the recording, was inside."""
        if not self._backward:
            return self._inside.get(row.track, False)
        # What has gone counts for nothing, as forward: its rows follow its footage a little later.
        while (before := self._walk.next_of(row.track)) is not None and self._is_gone(before):
            if self._coverage(self._keys[row.track]).last_until(before.time_ns) is None:
                return False  # nor is there anything before it
            self._walk.drop(row.track)
        return before is not None and self._wanted.holds(before.position)

    def _is_gone(self, row: PositionRow) -> bool:
        """Whether there is no footage of it any more."""
        return self._coverage(self._keys[row.track]).stretch_at(row.time_ns) is None
