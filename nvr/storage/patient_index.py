"""The index of footage for a recorder that goes on while its database cannot be written.

A system disk that is full, fails, hangs or has become read-only stops no recording: what an index says of a
file can be made again from the file. Changes that cannot be written wait in memory and are entered in their order when
they can be; whoever reads meanwhile sees them as if they had been. What a crash takes of them, the next start finds in
the files. Only tombstones do not wait: nothing is unlinked before they are on the disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from nvr.model.errors import DatabaseUnavailable, StorageError
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.bounded import BoundedCalls
from nvr.storage.findings import Damage
from nvr.storage.rows import FilePlace, FileState, FootageIndex, TrackFileRow, place_of

log = logging.getLogger(__name__)

MOST_WAITING = 20_000
"""Rows that may wait, about 30 MB: half a day of 40 cameras with three tracks and files of five minutes. With more no
new file is begun."""
PATIENCE_S = 2.0
_AFTER_ALL_NS = (1 << 63) - 1
_BEFORE_ALL_NS = -(1 << 62)
_SHOWN = (FileState.OPEN, FileState.CLOSED)

Place: TypeAlias = tuple[UtcNs, str]


class PatientIndex:
    """A `FootageIndex` in front of another one. Safe on any thread; the changes of one file come from one thread."""

    def __init__(self, inner: FootageIndex, most_waiting: int = MOST_WAITING, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: a change that takes longer waits as one that has failed does."""
        self.trouble = ""
        """Why changes wait; empty while none does."""
        self.failures = 0
        """How often the index has ceased to be writable since the start."""
        self._refusal = ""
        self._inner = inner
        self._bounded = BoundedCalls("the index of footage", patience_s)
        self._most = most_waiting
        self._lock = threading.Lock()
        self._entering = threading.Lock()
        self._waiting: dict[str, TrackFileRow | None] = {}
        """What files shall have for a row, in the order of their first change that waits; None: no row."""
        self._aside: dict[str, TrackFileRow | None] = {}
        """Of what waited, what the database does not take though it can be written: shown, and not tried again before
        it changes, so that nothing waits behind it."""
        self._open: dict[str, TrackFileRow] = {}
        """Rows of files that this process has begun and not closed: what a change of one is made of."""

    @property
    def waiting(self) -> int:
        """Rows that wait to be written."""
        return len(self._waiting) + len(self._aside)

    @property
    def full(self) -> bool:
        """So many wait that no new file is begun."""
        return self.waiting >= self._most

    def waits(self, file_id: str) -> bool:
        """Whether what the database says of this file is not what it shall say."""
        with self._lock:
            return file_id in self._waiting or file_id in self._aside

    def enter(self) -> bool:
        """Blocking: writes what waits. Whether the database could be written, so that nothing waits for it any more."""
        with self._entering:
            entered = 0
            while (first := self._first()) is not None:
                file_id, row = first
                try:
                    if row is None:
                        self._bounded.call(partial(self._inner.forget, [file_id]))
                    else:
                        self._bounded.call(partial(self._inner.put, row))
                except DatabaseUnavailable as e:
                    self.trouble = str(e)
                    return False
                except StorageError as e:
                    refused, self._refusal = True, str(e)
                    what = file_id if row is None else row.path
                    log.error(
                        "the index of footage does not take the row of %s: %s. The next start tries anew", what, e
                    )
                else:
                    refused, entered = False, entered + 1
                with self._lock:
                    if self._waiting[file_id] is row:  # else it has changed once more meanwhile
                        del self._waiting[file_id]
                        if refused:
                            self._aside[file_id] = row
            if entered:
                log.warning("the index of footage can be written again: %d rows that waited are in it", entered)
            with self._lock:
                if not self._waiting:
                    self.trouble = self._refusal if self._aside else ""
            return True

    def _first(self) -> tuple[str, TrackFileRow | None] | None:
        with self._lock:
            return next(iter(self._waiting.items()), None)

    # Changes

    def insert_open(self, row: TrackFileRow) -> None:
        self._change(lambda: self._inner.insert_open(row), {row.file_id: row}, new=True)
        self._open[row.file_id] = row

    def close(
        self,
        file_id: str,
        *,
        end_ns: UtcNs,
        size: int,
        samples: int,
        lost_packets: int,
        dropped_units: int,
        end_reason: GapReason | None,
    ) -> None:
        def write() -> None:
            self._inner.close(
                file_id,
                end_ns=end_ns,
                size=size,
                samples=samples,
                lost_packets=lost_packets,
                dropped_units=dropped_units,
                end_reason=end_reason,
            )

        def closed() -> TrackFileRow:
            return replace(
                self._row(file_id),
                state=FileState.CLOSED,
                end_ns=end_ns,
                size=size,
                samples=samples,
                lost_packets=lost_packets,
                dropped_units=dropped_units,
                end_reason=end_reason,
            )

        self._change(write, lambda: {file_id: closed()})
        self._open.pop(file_id, None)

    def reopen(self, file_id: str) -> None:
        self._change(
            lambda: self._inner.reopen(file_id), lambda: {file_id: replace(self._row(file_id), state=FileState.OPEN)}
        )

    def forget(self, file_ids: Sequence[str]) -> None:
        self._change(lambda: self._inner.forget(file_ids), dict.fromkeys(file_ids))
        for file_id in file_ids:
            self._open.pop(file_id, None)

    def put(self, row: TrackFileRow) -> None:
        self._change(lambda: self._inner.put(row), {row.file_id: row}, new=True)

    def mark_deleting(self, file_ids: Sequence[str]) -> None:
        self._enter_first()
        self._inner.mark_deleting(file_ids)
        with self._lock:
            for file_id in file_ids:
                self._open.pop(file_id, None)
                for rows in (self._waiting, self._aside):
                    row = rows.get(file_id)
                    if row is not None:  # changed just now, or refused
                        rows[file_id] = replace(row, state=FileState.DELETING)

    def know_damage(self, found: Sequence[Damage]) -> None:
        self._inner.know_damage(found)

    def tell_places(self, places: Sequence[FilePlace], without: Sequence[str] = ()) -> None:
        self._enter_first()
        self._inner.tell_places(places, without)
        with self._lock:
            for file_id in without:
                self._open.pop(file_id, None)
            for place in places:
                if (row := self._open.get(place.file_id)) is not None:
                    self._open[place.file_id] = replace(row, **place._asdict())

    def replace_volume(self, volume_id: str, rows: Sequence[TrackFileRow]) -> None:
        self._enter_first()
        self._inner.replace_volume(volume_id, rows)
        with self._lock:
            self._aside = {i: r for i, r in self._aside.items() if r is not None and r.volume_id != volume_id}

    def _change(
        self,
        write: Callable[[], None],
        rows: Mapping[str, TrackFileRow | None] | Callable[[], Mapping[str, TrackFileRow | None]],
        *,
        new: bool = False,
    ) -> None:
        """Writes it, or lets it wait: also where others wait, as they come first."""
        cause, again = self.trouble, False
        if self._aside:
            found = rows() if callable(rows) else rows
            with self._lock:
                again = any(file_id in self._aside for file_id in found)
        if not self._waiting and not again:
            try:
                self._bounded.call(write)
                return
            except DatabaseUnavailable as e:
                cause = str(e)
        found = rows() if callable(rows) else rows
        with self._lock:
            if new and self.full:
                raise DatabaseUnavailable(f"{len(self._waiting)} rows wait already: {cause}")
            if not self._waiting and not again:
                self.failures += 1
                self.trouble = cause
                log.error(
                    "the index of footage cannot be written, what it shall say waits in memory, and recording goes "
                    "on: %s",
                    cause,
                )
            for file_id in found:
                self._aside.pop(file_id, None)
            self._waiting.update(found)

    def _row(self, file_id: str) -> TrackFileRow:
        changed = self._changed()
        row = changed[file_id] if file_id in changed else self._open.get(file_id) or self._inner.file(file_id)
        if row is None or row.state not in _SHOWN:
            raise StorageError(f"the index has no open or closed file {file_id}")
        return row

    def _enter_first(self) -> None:
        if self._waiting and not self.enter():
            raise DatabaseUnavailable(f"the index of footage cannot be written: {self.trouble}")

    # Reading

    def _changed(self) -> dict[str, TrackFileRow | None]:
        if not self.waiting:
            return {}
        with self._lock:
            return self._aside | self._waiting

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
            return r.key == key and r.state in _SHOWN and begins and reaches

        return self._page(
            lambda at: self._inner.files(key, from_ns, until_ns, after=at, limit=limit), touches, after, limit
        )

    def files_before(
        self, key: TrackKey, before: Place, *, run_id: str | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        def belongs(r: TrackFileRow) -> bool:
            return r.key == key and r.state in _SHOWN and run_id in (None, r.run_id)

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
            return r.key == key and r.state in _SHOWN and r.run_id == run_id

        return self._page(
            lambda at: self._inner.files_of_run(key, run_id, from_ns, after=at, limit=limit), belongs, after, limit
        )

    def newest(self, key: TrackKey) -> TrackFileRow | None:
        if not self.waiting:
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
        mine = _rows(changed, lambda r: r.key == key and r.state in _SHOWN and r.run_id.startswith(stem))
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
