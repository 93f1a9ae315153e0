"""Whole volumes against the index: every file that has no row, then every file that has one. Reads, changes nothing.

Works beside a daemon that records and deletes meanwhile: what a file or a directory seems to be is believed only when
its row is the same after the look as it was before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nvr.media.bmff.init import Identity
from nvr.model.errors import FormatError, StorageError
from nvr.model.time import NS, UtcNs
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.check import check_file, check_order
from nvr.storage.findings import Damage, Finding, Kind
from nvr.storage.inventory import Day, days_of, difference, strangers
from nvr.storage.recovery import CUT, UNREADABLE
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.settling import belongs, file_id_of
from nvr.storage.track_file import read_head
from nvr.storage.volume import Volume

_PAGE = 200
_BEFORE_ALL_NS = -(1 << 62)
_REORDERING_NS = NS
"""So far may files of one run overlap: pictures that are sent out of order."""


class Survey:
    """One pass over some volumes. `files` and `bytes_read` tell how far it is."""

    def __init__(
        self,
        index: FootageIndex,
        volumes: Sequence[Volume],
        *,
        growing: bool,
        recordings: Collection[RecordingToken] | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`growing`: a daemon runs beside. `recordings`: only these. `progress` is called as bytes are read."""
        self.files = 0
        self.bytes_read = 0
        self._index = index
        self._volumes = {v.id: v for v in volumes}
        self._growing = growing
        self._recordings = recordings
        self._progress = progress

    def total_bytes(self) -> int:
        """What there is to read, by the rows; for the progress only."""
        if self._recordings is not None:
            return sum(self._index.recording_bytes(r) for r in self._recordings)
        return sum(self._index.volume_bytes(v) for v in self._volumes if v is not None)

    def findings(self) -> Iterator[Finding]:
        """Raises StorageError when the index cannot be read or a volume goes away."""
        # Names first: a file that is given a row is checked like the others, and none that is set aside is told twice.
        for volume in self._volumes.values():
            if self._recordings is None:
                yield from self._around(volume)
            for day in reversed(days_of(volume, self._index, self._recordings)):
                yield from self._day(volume, day)
        for key in self._keys():
            yield from self._track(key)

    def again(self, finding: Finding) -> Iterator[Finding]:
        """What else is wrong with a file whose head can be read again. Raises as `findings`."""
        row, volume = self._index.file(finding.file_id), self._volumes.get(finding.volume_id)
        if row is not None and volume is not None and row.state is not FileState.DELETING:
            yield from self._file(volume, row)
            self.files -= 1  # it has been counted

    def _around(self, volume: Volume) -> Iterator[Finding]:
        try:
            for path in strangers(volume):
                if path.exists():
                    yield self._foreign(volume, path, None)
        except OSError as e:
            where = os.path.relpath(e.filename or volume.root, volume.root)
            yield Finding(Kind.UNREADABLE, volume.id or "", where, f"the directory cannot be read: {e.strerror}")

    def _foreign(self, volume: Volume, path: Path, key: TrackKey | None) -> Finding:
        relative = path.relative_to(volume.root).as_posix()
        return Finding(Kind.FOREIGN, volume.id or "", relative, "no recorder puts such a thing there", key=key)

    def _keys(self) -> list[TrackKey]:
        keys = set(self._index.all_runs())
        for volume_id in self._volumes:
            if volume_id is not None:
                keys |= {row.key for row in self._index.open_files(volume_id)}
        if self._recordings is not None:
            keys = {k for k in keys if k.recording in self._recordings}
        return sorted(keys)

    def _track(self, key: TrackKey) -> Iterator[Finding]:
        after: tuple[UtcNs, str] | None = None
        last: list[TrackFileRow] = []
        while page := self._index.files(key, _BEFORE_ALL_NS, after=after, limit=_PAGE):
            for row in page:
                volume = self._volumes.get(row.volume_id)
                if volume is not None:
                    yield from self._file(volume, row)
            for finding in check_order([*last, *page], _REORDERING_NS):
                if finding.volume_id in self._volumes and (finding.kind is not Kind.HOLE or self._is_hole(finding)):
                    yield finding
            last = page[-1:]
            after = (page[-1].start_ns, page[-1].file_id)

    def _is_hole(self, finding: Finding) -> bool:
        """Whether it is still so: what was wrong with rows of the page may have been mended meanwhile."""
        row = self._index.file(finding.file_id)
        if row is None or row.state is FileState.DELETING:
            return False
        before = self._index.files_before(row.key, (row.start_ns, row.file_id), run_id=row.run_id, limit=1)
        return bool(before) and row.run_place > before[0].run_place + 1

    def _file(self, volume: Volume, row: TrackFileRow) -> Iterator[Finding]:
        path = volume.path(row.path)
        found = check_file(path, row, growing=self._growing, read=self._read)
        self.files += 1
        self._progress()
        if not found:
            return
        now = self._index.file(row.file_id)
        if now is None or now.state is FileState.DELETING:
            return
        if now != row:
            found = check_file(volume.path(now.path), now, growing=self._growing, read=self._read)
        if any(f.kind is Kind.MISSING for f in found) and not volume.present():
            raise StorageError(f"volume {volume.id} is not at {volume.root} any more")
        known = self._index.known_damage(row.file_id)
        for finding in found:
            here = finding.offset is not None and Damage(row.file_id, finding.offset, finding.length) in known
            yield replace(finding, known=here)

    def _day(self, volume: Volume, day: Day) -> Iterator[Finding]:
        try:
            names = difference(volume, self._index, day)
        except OSError as e:
            yield Finding(Kind.UNREADABLE, volume.id or "", day.path, f"the directory cannot be read: {e.strerror}")
            return
        for path in names.strays:
            finding = self._stray(volume, path)
            if finding is not None and path.exists() and not self._index.known([file_id_of(path)]):
                yield finding
        for path in names.elsewhere:
            row = self._index.file(file_id_of(path))
            relative = path.relative_to(volume.root).as_posix()
            if row is not None and (row.volume_id, row.path) != (volume.id, relative) and path.exists():
                text = f"its id belongs to {row.path} on volume {row.volume_id}"
                yield Finding(Kind.COPY, volume.id or "", relative, text, row.file_id, row.key)
        for path in names.others:
            relative = path.relative_to(volume.root).as_posix()
            if path.name.endswith(CUT):
                text = "a repair has kept these bytes; nothing needs them"
                yield Finding(Kind.UNREADABLE, volume.id or "", relative, text, key=day.key, known=True)
            elif path.name.endswith(UNREADABLE):
                text = "its head is destroyed and it was set aside: the footage in it is not shown"
                yield Finding(Kind.UNREADABLE, volume.id or "", relative, text, key=day.key)
            elif path.exists():
                yield self._foreign(volume, path, day.key)

    def _stray(self, volume: Volume, path: Path) -> Finding | None:
        assert volume.id is not None
        relative = path.relative_to(volume.root).as_posix()
        try:
            identity = _identity(path)
        except FileNotFoundError:
            return None
        except FormatError as e:
            return Finding(Kind.UNREADABLE, volume.id, relative, f"it has no row, and it is no track file: {e}")
        except OSError as e:
            return Finding(Kind.UNREADABLE, volume.id, relative, f"it has no row, and cannot be read: {e.strerror}")
        if identity is None:
            return Finding(Kind.UNREADABLE, volume.id, relative, "it has no row, and ends inside its head")
        key = TrackKey(RecordingToken(identity.recording), TrackToken(identity.track))
        kind, why = Kind.ORPHAN, "the index does not have it"
        wrong = belongs(identity, path, volume.id)
        if wrong:
            kind, why = (Kind.COPY if file_id_of(path) != identity.file else Kind.FOREIGN), wrong
            if kind is Kind.FOREIGN:
                why += "; `nvr catalog rebuild` would take it in"
        return Finding(kind, volume.id, relative, why, identity.file, key, start_ns=identity.start_ns)

    def _read(self, count: int) -> None:
        self.bytes_read += count
        self._progress()


def _identity(path: Path) -> Identity | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = read_head(fd)
        return head.identity if head is not None else None
    finally:
        os.close(fd)
