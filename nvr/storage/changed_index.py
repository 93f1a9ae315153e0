"""Reading an index of footage of which some rows are others than those that stand in it, as if they were there.

Rows are few that differ, and held in memory; each answer of the index is mended by them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.findings import Damage
from nvr.storage.rows import FilePlace, FileState, FootageIndex, TrackFileRow, place_of

SHOWN = (FileState.OPEN, FileState.CLOSED)
_AFTER_ALL_NS = (1 << 63) - 1
_BEFORE_ALL_NS = -(1 << 62)

Place: TypeAlias = tuple[UtcNs, str]


class ChangedIndex:
    """The questions of a `FootageIndex`, with the answers that it would give if the rows were as they shall be. Safe on
    any thread."""

    def __init__(self, inner: FootageIndex) -> None:
        self._inner = inner

    @abstractmethod
    def _changed(self) -> dict[str, TrackFileRow | None]:
        """The files whose row is another than in the index; None: no row."""

    def open_files(self, volume_id: str) -> list[TrackFileRow]:
        changed = self._changed()
        mine = _rows(changed, lambda r: r.volume_id == volume_id and r.state is FileState.OPEN)
        return sorted([*_without(self._inner.open_files(volume_id), changed), *mine], key=_place)

    def deleting_files(self, volume_id: str) -> list[TrackFileRow]:
        changed = self._changed()
        mine = _rows(changed, lambda r: r.volume_id == volume_id and r.state is FileState.DELETING)
        return sorted([*_without(self._inner.deleting_files(volume_id), changed), *mine], key=_place)

    def file(self, file_id: str) -> TrackFileRow | None:
        changed = self._changed()
        return changed[file_id] if file_id in changed else self._inner.file(file_id)

    def known(self, file_ids: Sequence[str]) -> set[str]:
        changed = self._changed()
        known = {i for i in self._inner.known(file_ids) if i not in changed}
        return known | {i for i in file_ids if changed.get(i) is not None}

    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: Place | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]:
        def touches(r: TrackFileRow) -> bool:
            begins = until_ns is None or r.start_ns < until_ns
            reaches = r.state is FileState.OPEN or r.end_ns > from_ns or r.start_ns >= from_ns
            return r.key == key and r.state in SHOWN and begins and reaches

        return self._page(
            lambda at: self._inner.files(key, from_ns, until_ns, after=at, limit=limit), touches, after, limit
        )

    def files_before(
        self, key: TrackKey, before: Place, *, run_id: str | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        def belongs(r: TrackFileRow) -> bool:
            return r.key == key and r.state in SHOWN and run_id in (None, r.run_id)

        return self._page(
            lambda at: self._inner.files_before(key, at or before, run_id=run_id, limit=limit),
            belongs,
            before,
            limit,
            descending=True,
        )

    def files_of_run(
        self, key: TrackKey, run_id: str, from_ns: UtcNs, *, after: Place | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        def belongs(r: TrackFileRow) -> bool:
            return r.key == key and r.state in SHOWN and r.run_id == run_id

        return self._page(
            lambda at: self._inner.files_of_run(key, run_id, from_ns, after=at, limit=limit), belongs, after, limit
        )

    def newest(self, key: TrackKey) -> TrackFileRow | None:
        if not self._changed():
            return self._inner.newest(key)
        return next(iter(self.files_before(key, (_AFTER_ALL_NS, ""), limit=1)), None)

    def runs(self, key: TrackKey) -> list[Run]:
        changed = self._changed()
        return self._with_changed_runs(key, self._inner.runs(key), changed)

    def all_runs(self) -> dict[TrackKey, list[Run]]:
        changed = self._changed()
        found = self._inner.all_runs()
        for key in {row.key for row in changed.values() if row is not None}:
            runs = self._with_changed_runs(key, found.pop(key, []), changed)
            if runs:
                found[key] = runs
        return found

    def oldest(self, volume_id: str, *, after: Place | None = None, limit: int = 64) -> list[TrackFileRow]:
        def belongs(r: TrackFileRow) -> bool:
            return r.volume_id == volume_id and r.state is FileState.CLOSED

        return self._page(lambda at: self._inner.oldest(volume_id, after=at, limit=limit), belongs, after, limit)

    def recording_bytes(self, recording: RecordingToken) -> int:
        mine = _rows(self._changed(), lambda r: r.recording == recording and r.state is FileState.CLOSED)
        return self._inner.recording_bytes(recording) + sum(r.size for r in mine)

    def volume_bytes(self, volume_id: str) -> int:
        mine = _rows(self._changed(), lambda r: r.volume_id == volume_id)
        return self._inner.volume_bytes(volume_id) + sum(r.size for r in mine)

    def started_in(self, key: TrackKey, volume_id: str, from_ns: UtcNs, until_ns: UtcNs) -> dict[str, FileState]:
        changed = self._changed()
        inner = self._inner.started_in(key, volume_id, from_ns, until_ns).items()
        mine = _rows(changed, lambda r: (r.key, r.volume_id) == (key, volume_id) and from_ns <= r.start_ns < until_ns)
        return {i: s for i, s in inner if i not in changed} | {r.file_id: r.state for r in mine}

    def places(self, key: TrackKey, stem: str = "") -> list[FilePlace]:
        changed = self._changed()
        mine = _rows(changed, lambda r: r.key == key and r.state in SHOWN and r.run_id.startswith(stem))
        return [*(p for p in self._inner.places(key, stem) if p.file_id not in changed), *map(place_of, mine)]

    def known_damage(self, file_id: str) -> set[Damage]:
        return self._inner.known_damage(file_id)

    def _page(
        self,
        fetch: Callable[[Place | None], list[TrackFileRow]],
        belongs: Callable[[TrackFileRow], bool],
        after: Place | None,
        limit: int,
        *,
        descending: bool = False,
    ) -> list[TrackFileRow]:
        """A page of the rows behind `after` in their order, those that wait among them."""
        changed = self._changed()
        mine = _rows(changed, belongs)
        while True:
            inner = fetch(after)
            if not changed:
                return inner
            end = _place(inner[-1]) if len(inner) >= limit else None
            between = [r for r in mine if _behind(_place(r), after, descending) and not _behind_end(r, end, descending)]
            page = sorted([*_without(inner, changed), *between], key=_place, reverse=descending)
            if page or end is None:
                return page[:limit]
            after = end

    def _with_changed_runs(
        self, key: TrackKey, known: Iterable[Run], changed: Mapping[str, TrackFileRow | None]
    ) -> list[Run]:
        """Runs of which rows wait are made of their rows; where one ended without a reason, its successor knows it."""
        rows = _rows(changed, lambda r: r.key == key)
        runs = {run.run_id: run for run in known}
        gaps: dict[str, GapReason | None] = {}
        for run_id in {r.run_id for r in rows}:
            runs.pop(run_id, None)
            files = [r for r in self._run(key, run_id) if r.state is FileState.CLOSED]
            if files:
                last = max(files, key=lambda r: r.run_place)
                start_ns, end_ns = min(r.start_ns for r in files), max(r.end_ns for r in files)
                runs[run_id] = Run(run_id, start_ns, end_ns, last.end_reason or GapReason.UNKNOWN)
                gaps[run_id] = next((r.gap_before for r in files if r.gap_before is not None), None)
        ordered = sorted(runs.values(), key=lambda r: (r.start_ns, r.end_ns, r.run_id))
        for i, following in enumerate(ordered[1:]):
            if ordered[i].end_reason is GapReason.UNKNOWN:
                ordered[i] = replace(ordered[i], end_reason=gaps.get(following.run_id) or GapReason.UNKNOWN)
        return ordered

    def _run(self, key: TrackKey, run_id: str) -> Iterable[TrackFileRow]:
        after: Place | None = None
        while page := self.files_of_run(key, run_id, _BEFORE_ALL_NS, after=after):
            yield from page
            after = _place(page[-1])


def _place(row: TrackFileRow) -> Place:
    return row.start_ns, row.file_id


def _rows(changed: Mapping[str, TrackFileRow | None], chosen: Callable[[TrackFileRow], bool]) -> list[TrackFileRow]:
    return [row for row in changed.values() if row is not None and chosen(row)]


def _without(rows: Iterable[TrackFileRow], changed: Collection[str]) -> list[TrackFileRow]:
    return [row for row in rows if row.file_id not in changed]


def _behind(place: Place, after: Place | None, descending: bool) -> bool:
    return after is None or (place < after if descending else place > after)


def _behind_end(row: TrackFileRow, end: Place | None, descending: bool) -> bool:
    return end is not None and _behind(_place(row), end, descending)
