"""The index of footage on SQL: one row per track file (see rows.py for what each method owes).

Every page is sought by key, never by OFFSET. The index can be made again from the track files, so a damaged one is
no loss: opening it names the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from nvr.model.errors import OperatorError, StorageError
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.database import Database, DatabaseDamaged, History, Statement, keep_aside
from nvr.storage.findings import Damage
from nvr.storage.footage_statements import (
    BEFORE,
    BEFORE_IN_RUN,
    FILE,
    FORGET_EMPTY,
    RUN_BEHIND,
    RUN_FROM,
    SET_PLACE,
    SHOWN,
    SUM_UP,
    behind,
)
from nvr.storage.rows import FilePlace, FileState, FootageIndex, TrackFileRow
from nvr.storage.schema import damage, runs, track_files

COLUMNS = tuple(column.name for column in track_files.columns)
_ADVICE = "run `nvr catalog rebuild` to make it again from the track files"
BATCH = 500
"""Ids in one statement: databases bound the number of parameters."""
MAX_NS = (1 << 63) - 1
"""The year 2262: what a column holds."""


class SqlFootageIndex(FootageIndex):
    """The index in one database file. Blocking; safe to call from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.broken = ""
        """What `check` has found wrong with the file."""

    @classmethod
    def open(cls, path: Path) -> SqlFootageIndex:
        """Raises OperatorError, also for a damaged file: `nvr catalog rebuild` makes a new one."""
        try:
            return cls(Database(path, History.INDEX, synchronous="NORMAL"))
        except DatabaseDamaged as e:
            raise OperatorError(f"{e}; {_ADVICE}") from e

    @classmethod
    def open_beside(cls, path: Path) -> SqlFootageIndex:
        """For reading only, while a daemon has it open. Raises OperatorError."""
        return cls(Database(path, History.INDEX, synchronous="NORMAL", read_only=True))

    @classmethod
    def open_for_rebuild(cls, path: Path) -> tuple[SqlFootageIndex, Path | None]:
        """As `open`, but a damaged file is kept aside under the name returned, and an empty index takes its place."""
        try:
            return cls(Database(path, History.INDEX, synchronous="NORMAL")), None
        except DatabaseDamaged:
            kept = keep_aside(path)
            return cls(Database(path, History.INDEX, synchronous="NORMAL")), kept

    @property
    def unchecked(self) -> bool:
        """Whether the file was too large to be checked as a whole when it was opened; `check` does it."""
        return self._database.unchecked

    def check(self, going_on: Callable[[], bool]) -> None:
        """Beside the use of the index. Raises OperatorError for a damaged file, StorageError when it cannot be read."""
        try:
            self._database.check(going_on)
        except DatabaseDamaged as e:
            self.broken = f"{e}; {_ADVICE}"
            raise OperatorError(self.broken) from e

    def shut(self) -> None:
        """Closes the database (`close` is the closing of a track file)."""
        self._database.close()

    def insert_open(self, row: TrackFileRow) -> None:
        with self._database.write() as connection:
            connection.execute(sa.insert(track_files), _values(row))

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
        self._update(
            file_id,
            SHOWN,
            state=FileState.CLOSED,
            end_ns=end_ns,
            size=size,
            samples=samples,
            lost_packets=lost_packets,
            dropped_units=dropped_units,
            end_reason=end_reason,
        )

    def reopen(self, file_id: str) -> None:
        self._update(file_id, SHOWN, state=FileState.OPEN)

    def _update(self, file_id: str, states: Sequence[FileState], **values: object) -> None:
        update = sa.update(track_files).where(track_files.c.file_id == file_id, track_files.c.state.in_(states))
        with self._database.write() as connection:
            changed = connection.execute(update.values(**_plain(values))).rowcount
        if changed != 1:
            raise StorageError(f"the index {self._database.path} has no open or closed file {file_id}")

    def forget(self, file_ids: Sequence[str]) -> None:
        with self._database.write() as connection:
            self._forget(connection, file_ids)

    @staticmethod
    def _forget(connection: sa.Connection, file_ids: Sequence[str]) -> None:
        for batch in _batches(file_ids):
            connection.execute(sa.delete(track_files).where(track_files.c.file_id.in_(batch)))
            connection.execute(sa.delete(damage).where(damage.c.file_id.in_(batch)))

    def mark_deleting(self, file_ids: Sequence[str]) -> None:
        # Behind a power cut no row may show a file that has been unlinked.
        with self._database.write(durable=True) as connection:
            for batch in _batches(file_ids):
                update = sa.update(track_files).where(track_files.c.file_id.in_(batch))
                connection.execute(update.values(state=FileState.DELETING.value))

    def open_files(self, volume_id: str) -> list[TrackFileRow]:
        return self._in_state(volume_id, FileState.OPEN)

    def deleting_files(self, volume_id: str) -> list[TrackFileRow]:
        return self._in_state(volume_id, FileState.DELETING)

    def _in_state(self, volume_id: str, state: FileState) -> list[TrackFileRow]:
        c = track_files.c
        # In the order of track_files_by_state: for another one a million rows are walked to find these few.
        query = sa.select(track_files).where(c.volume_id == volume_id, c.state == state.value)
        return self._rows(query.order_by(c.start_ns, c.file_id))

    def file(self, file_id: str) -> TrackFileRow | None:
        rows = self._found(FILE, file_id=file_id)
        return rows[0] if rows else None

    def known(self, file_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        with self._database.read() as connection:
            for batch in _batches(file_ids):
                query = sa.select(track_files.c.file_id).where(track_files.c.file_id.in_(batch))
                found.update(connection.execute(query).scalars())
        return found

    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: tuple[UtcNs, str] | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]:
        c = track_files.c
        from_ns = _within_column(from_ns)
        touches = sa.or_(c.end_ns > from_ns, c.start_ns >= from_ns, c.state == FileState.OPEN.value)
        query = sa.select(track_files).where(_of(key), c.state.in_([s.value for s in SHOWN]), touches)
        if until_ns is not None:
            query = query.where(c.start_ns < _within_column(until_ns))
        return self._rows(behind(query, after).order_by(c.start_ns, c.file_id).limit(limit))

    def files_before(
        self, key: TrackKey, before: tuple[UtcNs, str], *, run_id: str | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        which: dict[str, object] = {**key._asdict(), "start_ns": _within_column(before[0]), "file_id": before[1]}
        if run_id is None:
            return self._found(BEFORE, **which, limit=limit)
        return self._found(BEFORE_IN_RUN, **which, run_id=run_id, limit=limit)

    def files_of_run(
        self, key: TrackKey, run_id: str, from_ns: UtcNs, *, after: tuple[UtcNs, str] | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        which: dict[str, object] = {**key._asdict(), "run_id": run_id, "limit": limit}
        if after is None:
            return self._found(RUN_FROM, **which, from_ns=_within_column(from_ns))
        return self._found(RUN_BEHIND, **which, start_ns=after[0], file_id=after[1])

    def newest(self, key: TrackKey) -> TrackFileRow | None:
        c = track_files.c
        query = sa.select(track_files).where(_of(key), c.state.in_([s.value for s in SHOWN]))
        rows = self._rows(query.order_by(c.start_ns.desc(), c.file_id.desc()).limit(1))
        return rows[0] if rows else None

    def runs(self, key: TrackKey) -> list[Run]:
        return self._runs(runs.c.recording == key.recording, runs.c.track == key.track).get(key, [])

    def all_runs(self) -> dict[TrackKey, list[Run]]:
        return self._runs()

    def _runs(self, *chosen: sa.ColumnElement[bool]) -> dict[TrackKey, list[Run]]:
        c = runs.c
        query = sa.select(c.recording, c.track, c.start_ns, c.end_ns, c.run_id, c.end_reason, c.gap_before)
        by_track: dict[TrackKey, list[_Bounds]] = {}
        with self._database.read() as connection:
            for recording, track, *bounds in connection.execute(query.where(*chosen)):
                key = TrackKey(RecordingToken(recording), TrackToken(track))
                by_track.setdefault(key, []).append(_Bounds(*bounds))
        return {key: _as_runs(bounds) for key, bounds in by_track.items()}

    def oldest(self, volume_id: str, *, after: tuple[UtcNs, str] | None = None, limit: int = 64) -> list[TrackFileRow]:
        c = track_files.c
        query = sa.select(track_files).where(c.volume_id == volume_id, c.state == FileState.CLOSED.value)
        return self._rows(behind(query, after).order_by(c.start_ns, c.file_id).limit(limit))

    def recording_bytes(self, recording: RecordingToken) -> int:
        c = track_files.c
        return self._bytes(c.recording == recording, c.state == FileState.CLOSED.value)

    def volume_bytes(self, volume_id: str) -> int:
        return self._bytes(track_files.c.volume_id == volume_id)

    def _bytes(self, *conditions: sa.ColumnElement[bool]) -> int:
        with self._database.read() as connection:
            return connection.execute(sa.select(sa.func.sum(track_files.c.size)).where(*conditions)).scalar() or 0

    def started_in(self, key: TrackKey, volume_id: str, from_ns: UtcNs, until_ns: UtcNs) -> dict[str, FileState]:
        c = track_files.c
        query = sa.select(c.file_id, c.state).where(
            _of(key), c.volume_id == volume_id, c.start_ns >= from_ns, c.start_ns < until_ns
        )
        with self._database.read() as connection:
            return {file_id: FileState(state) for file_id, state in connection.execute(query)}

    def put(self, row: TrackFileRow) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(track_files).where(track_files.c.file_id == row.file_id))
            connection.execute(sa.insert(track_files), _values(row))

    def places(self, key: TrackKey, stem: str = "") -> list[FilePlace]:
        c = track_files.c
        query = sa.select(c.file_id, c.run_id, c.run_place, c.state, c.gap_before, c.end_reason).where(
            _of(key), c.run_id >= stem, c.run_id <= f"{stem}~", c.state.in_([s.value for s in SHOWN])
        )
        with self._database.read() as connection:
            return [
                FilePlace(file_id, run_id, place, FileState(state), _reason(gap_before), _reason(end_reason))
                for file_id, run_id, place, state, gap_before, end_reason in connection.execute(query)
            ]

    def tell_places(self, places: Sequence[FilePlace], without: Sequence[str] = ()) -> None:
        ids = [p.file_id for p in places]
        with self._database.write() as connection:
            touched = self._runs_of(connection, ids)
            self._forget(connection, without)
            changed = SET_PLACE.run(connection, *(_plain(p._asdict()) for p in places)) if places else 0
            if changed != len(places):
                raise StorageError("files of the run have been closed or deleted meanwhile: try again")
            for recording, track, run_id in sorted(touched | self._runs_of(connection, ids)):
                run = {"recording": recording, "track": track, "run_id": run_id}
                SUM_UP.run(connection, run)
                FORGET_EMPTY.run(connection, run)

    @staticmethod
    def _runs_of(connection: sa.Connection, file_ids: Sequence[str]) -> set[tuple[str, str, str]]:
        c = track_files.c
        query = sa.select(c.recording, c.track, c.run_id).distinct()
        found: set[tuple[str, str, str]] = set()
        for batch in _batches(file_ids):
            found |= {(of, track, run) for of, track, run in connection.execute(query.where(c.file_id.in_(batch)))}
        return found

    def known_damage(self, file_id: str) -> set[Damage]:
        with self._database.read() as connection:
            query = sa.select(damage).where(damage.c.file_id == file_id)
            return {Damage(file_id, at, length) for file_id, at, length in connection.execute(query)}

    def know_damage(self, found: Sequence[Damage]) -> None:
        with self._database.write() as connection:
            for one in found:
                here = sa.and_(damage.c.file_id == one.file_id, damage.c.at == one.offset)
                connection.execute(sa.delete(damage).where(here))
                values = {"file_id": one.file_id, "at": one.offset, "length": one.length}
                connection.execute(sa.insert(damage), values)

    def replace_volume(self, volume_id: str, rows: Sequence[TrackFileRow]) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(track_files).where(track_files.c.volume_id == volume_id))
            for start in range(0, len(rows), BATCH):
                connection.execute(sa.insert(track_files), [_values(row) for row in rows[start : start + BATCH]])

    def _found(self, query: Statement, **values: object) -> list[TrackFileRow]:
        with self._database.read() as connection:
            return [_row_of(*found) for found in query.rows(connection, **values)]

    def _rows(self, query: sa.Select[Any]) -> list[TrackFileRow]:
        with self._database.read() as connection:
            return [_row(found) for found in connection.execute(query).mappings()]


class _Bounds(NamedTuple):
    """One run as the rows tell it, in the order in which runs follow each other."""

    start_ns: UtcNs
    end_ns: UtcNs
    run_id: str
    end_reason: str | None
    gap_before: str | None


def _as_runs(bounds: list[_Bounds]) -> list[Run]:
    bounds.sort(key=lambda b: b[:3])
    found = []
    for i, b in enumerate(bounds):
        following = bounds[i + 1].gap_before if i + 1 < len(bounds) else None
        found.append(Run(b.run_id, b.start_ns, b.end_ns, GapReason(b.end_reason or following or GapReason.UNKNOWN)))
    return found


def _of(key: TrackKey) -> sa.ColumnElement[bool]:
    return sa.and_(track_files.c.recording == key.recording, track_files.c.track == key.track)


def _within_column(at_ns: UtcNs) -> UtcNs:
    """Clients may ask for the year 9999."""
    return max(-MAX_NS, min(at_ns, MAX_NS))


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Enumerations as the plain text that stands in the database."""
    return {name: value.value if isinstance(value, FileState | GapReason) else value for name, value in values.items()}


def _values(row: TrackFileRow) -> dict[str, object]:
    return _plain({name: getattr(row, name) for name in COLUMNS})


def _row(found: sa.RowMapping) -> TrackFileRow:
    values = dict(found)
    for name in ("gap_before", "end_reason"):
        values[name] = None if values[name] is None else GapReason(values[name])
    return TrackFileRow(**{**values, "state": FileState(values["state"])})


def _reason(text: str | None) -> GapReason | None:
    return None if text is None else GapReason(text)


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]


def _row_of(*values: Any) -> TrackFileRow:
    """From all columns, in their order."""
    row = dict(zip(COLUMNS, values, strict=True))
    for name in ("gap_before", "end_reason"):
        row[name] = None if row[name] is None else GapReason(row[name])
    return TrackFileRow(**{**row, "state": FileState(row["state"])})
