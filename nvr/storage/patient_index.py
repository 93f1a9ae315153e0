"""The index of footage for a recorder that goes on while its database cannot be written.

A system disk that is full, fails, hangs or has become read-only stops no recording: what an index says of a
file can be made again from the file. Changes that cannot be written wait in memory and are entered in their order when
they can be; whoever reads meanwhile sees them as if they had been (`nvr.storage.changed_index`). What a crash takes of
them, the next start finds in the files. Only tombstones do not wait: nothing is unlinked before they are on the disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from nvr.model.errors import DatabaseUnavailable, StorageError
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason
from nvr.storage.bounded import BoundedCalls
from nvr.storage.changed_index import SHOWN, ChangedIndex
from nvr.storage.findings import Damage
from nvr.storage.rows import FilePlace, FileState, FootageIndex, TrackFileRow

log = logging.getLogger(__name__)

MOST_WAITING = 20_000
"""Rows that may wait, about 30 MB: half a day of 40 cameras with three tracks and files of five minutes. With more no
new file is begun."""
PATIENCE_S = 2.0


class PatientIndex(ChangedIndex):
    """A `FootageIndex` in front of another one. Safe on any thread; the changes of one file come from one thread."""

    def __init__(self, inner: FootageIndex, most_waiting: int = MOST_WAITING, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: a change that takes longer waits as one that has failed does."""
        self.trouble = ""
        """Why changes wait; empty while none does."""
        self.failures = 0
        """How often the index has ceased to be writable since the start."""
        self._refusal = ""
        super().__init__(inner)
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
        if row is None or row.state not in SHOWN:
            raise StorageError(f"the index has no open or closed file {file_id}")
        return row

    def _enter_first(self) -> None:
        if self._waiting and not self.enter():
            raise DatabaseUnavailable(f"the index of footage cannot be written: {self.trouble}")

    def _changed(self) -> dict[str, TrackFileRow | None]:
        if not self.waiting:
            return {}
        with self._lock:
            return self._aside | self._waiting
