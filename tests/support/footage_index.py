"""An index of footage in memory, by the letter of `nvr.storage.rows.FootageIndex`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from nvr.model.errors import DatabaseUnavailable, StorageError
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.findings import Damage
from nvr.storage.rows import REACHING_OVER, FilePlace, FileState, TrackFileRow, place_of

SHOWN = (FileState.OPEN, FileState.CLOSED)


class IndexInMemory:
    """Rows survive as long as this object: a restart of the engine is a new engine on the same index."""

    def __init__(self) -> None:
        self.rows: dict[str, TrackFileRow] = {}
        self.damaged: set[Damage] = set()
        self.failures = 0
        """So many changes from now on fail with StorageError."""
        self.fail_at: str | None = None
        """Every call of this method fails with StorageError."""
        self._lock = threading.Lock()

    def insert_open(self, row: TrackFileRow) -> None:
        self._change("insert_open")
        assert row.state is FileState.OPEN
        assert row.file_id not in self.rows
        with self._lock:
            self.rows[row.file_id] = row

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
        self._change("close")
        with self._lock:
            self.rows[file_id] = replace(
                self.rows[file_id],
                state=FileState.CLOSED,
                end_ns=end_ns,
                size=size,
                samples=samples,
                lost_packets=lost_packets,
                dropped_units=dropped_units,
                end_reason=end_reason,
            )

    def reopen(self, file_id: str) -> None:
        self._change("reopen")
        with self._lock:
            self.rows[file_id] = replace(self.rows[file_id], state=FileState.OPEN)

    def forget(self, file_ids: Sequence[str]) -> None:
        self._change("forget")
        with self._lock:
            for file_id in file_ids:
                self.rows.pop(file_id, None)

    def mark_deleting(self, file_ids: Sequence[str]) -> None:
        self._change("mark_deleting")
        with self._lock:
            for file_id in file_ids:
                if file_id in self.rows:
                    self.rows[file_id] = replace(self.rows[file_id], state=FileState.DELETING)

    def open_files(self, volume_id: str) -> list[TrackFileRow]:
        return [r for r in self._all() if r.volume_id == volume_id and r.state is FileState.OPEN]

    def deleting_files(self, volume_id: str) -> list[TrackFileRow]:
        return [r for r in self._all() if r.volume_id == volume_id and r.state is FileState.DELETING]

    def file(self, file_id: str) -> TrackFileRow | None:
        return self.rows.get(file_id)

    def known(self, file_ids: Sequence[str]) -> set[str]:
        return {f for f in file_ids if f in self.rows}

    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: tuple[UtcNs, str] | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]:
        found = [
            r
            for r in self._shown(key)
            if (r.state is FileState.OPEN or r.end_ns > from_ns or r.start_ns >= from_ns)
            and (until_ns is None or r.start_ns < until_ns)
            and (after is None or (r.start_ns, r.file_id) > after)
        ]
        return found[:limit]

    def files_before(
        self, key: TrackKey, before: tuple[UtcNs, str], *, run_id: str | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        rows = self._shown(key) if run_id is None else self._of_run(key, run_id)
        return [r for r in rows if (r.start_ns, r.file_id) < before][::-1][:limit]

    def files_of_run(
        self, key: TrackKey, run_id: str, from_ns: UtcNs, *, after: tuple[UtcNs, str] | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        rows = self._of_run(key, run_id)
        if after is not None:
            return [r for r in rows if (r.start_ns, r.file_id) > after][:limit]
        before = [r.start_ns for r in rows if r.start_ns <= from_ns][-REACHING_OVER:]
        return [r for r in rows if r.start_ns >= min(before, default=from_ns)][:limit]

    def newest(self, key: TrackKey) -> TrackFileRow | None:
        return next(reversed(self._shown(key)), None)

    def runs(self, key: TrackKey) -> list[Run]:
        groups: dict[str, list[TrackFileRow]] = {}
        for row in self._shown(key):
            if row.state is FileState.CLOSED:
                groups.setdefault(row.run_id, []).append(row)
        ordered = sorted(groups.values(), key=lambda rows: (rows[0].start_ns, max(r.end_ns for r in rows)))
        runs = []
        for i, rows in enumerate(ordered):
            reason = max(rows, key=lambda r: r.run_place).end_reason
            if reason is None and i + 1 < len(ordered):
                reason = min(ordered[i + 1], key=lambda r: r.run_place).gap_before
            end = max(r.end_ns for r in rows)
            runs.append(Run(rows[0].run_id, rows[0].start_ns, end, reason or GapReason.UNKNOWN))
        return runs

    def oldest(self, volume_id: str, *, after: tuple[UtcNs, str] | None = None, limit: int = 64) -> list[TrackFileRow]:
        rows = [r for r in self._all() if r.volume_id == volume_id and r.state is FileState.CLOSED]
        rows.sort(key=lambda r: (r.start_ns, r.file_id))
        return [r for r in rows if after is None or (r.start_ns, r.file_id) > after][:limit]

    def recording_bytes(self, recording: RecordingToken) -> int:
        return sum(r.size for r in self._all() if r.recording == recording and r.state is FileState.CLOSED)

    def volume_bytes(self, volume_id: str) -> int:
        return sum(r.size for r in self._all() if r.volume_id == volume_id)

    def all_runs(self) -> dict[TrackKey, list[Run]]:
        keys = {r.key for r in self._all() if r.state is FileState.CLOSED}
        return {key: self.runs(key) for key in sorted(keys)}

    def started_in(self, key: TrackKey, volume_id: str, from_ns: UtcNs, until_ns: UtcNs) -> dict[str, FileState]:
        rows = (r for r in self._all() if r.key == key and r.volume_id == volume_id)
        return {r.file_id: r.state for r in rows if from_ns <= r.start_ns < until_ns}

    def put(self, row: TrackFileRow) -> None:
        self._change("put")
        with self._lock:
            self.rows[row.file_id] = row

    def places(self, key: TrackKey, stem: str = "") -> list[FilePlace]:
        return [place_of(r) for r in self._shown(key) if r.run_id.startswith(stem)]

    def tell_places(self, places: Sequence[FilePlace], without: Sequence[str] = ()) -> None:
        self._change("tell_places")
        with self._lock:
            if any(p.file_id not in self.rows or self.rows[p.file_id].state is not p.state for p in places):
                raise StorageError("files of the run have been closed or deleted meanwhile: try again")
            for file_id in without:
                self.rows.pop(file_id, None)
            for place in places:
                self.rows[place.file_id] = replace(self.rows[place.file_id], **place._asdict())

    def known_damage(self, file_id: str) -> set[Damage]:
        return {d for d in self.damaged if d.file_id == file_id}

    def know_damage(self, found: Sequence[Damage]) -> None:
        self._change("know_damage")
        self.damaged |= set(found)

    def replace_volume(self, volume_id: str, rows: Sequence[TrackFileRow]) -> None:
        self._change("replace_volume")
        with self._lock:
            self.rows = {f: r for f, r in self.rows.items() if r.volume_id != volume_id}
            self.rows |= {r.file_id: r for r in rows}

    def _change(self, name: str) -> None:
        if name == self.fail_at:
            raise DatabaseUnavailable("the index fails on purpose")
        if self.failures > 0:
            self.failures -= 1
            raise DatabaseUnavailable("the index fails on purpose")

    def _all(self) -> list[TrackFileRow]:
        with self._lock:
            return list(self.rows.values())

    def _of_run(self, key: TrackKey, run_id: str) -> list[TrackFileRow]:
        return [r for r in self._shown(key) if r.run_id == run_id]

    def _shown(self, key: TrackKey) -> list[TrackFileRow]:
        rows = [r for r in self._all() if r.key == key and r.state in SHOWN]
        return sorted(rows, key=lambda r: (r.start_ns, r.file_id))
