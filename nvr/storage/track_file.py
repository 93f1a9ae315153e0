"""One track file: writing it fragment by fragment, closing it, and reading its head, its table and its fragments.

Writing belongs to the writer thread of the volume; reading is done on any thread but the event loop's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nvr.media.bmff.closing import Closing, build_tail, mfra_size, parse_tail, tail_size
from nvr.media.bmff.fragment import (
    FRAGMENT_BOX,
    FragmentBox,
    FragmentBuilder,
    FragmentEntry,
    check_body,
    first_media_time,
    parse_places,
    parse_samples,
)
from nvr.media.bmff.init import Head, Identity, build_head, parse_head
from nvr.media.bmff.windows import Window, windows
from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.errors import FormatError, StorageError
from nvr.model.time import UtcNs, datetime_from_utc
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey
from nvr.storage.disk import Disk
from nvr.storage.rows import TrackFileRow
from nvr.storage.stored_fragment import StoredFragment

FOOTAGE = "footage"
SUFFIX = ".mp4"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)
_HEAD_READ = 16 << 10
_TAIL_READ = 32 << 10
_BOX_READ = 8 << 10
_SEARCH_READ = 1 << 20
_SIGNATURE = b"uuid" + FRAGMENT_BOX.bytes


def track_directory(key: TrackKey) -> str:
    """Relative path of the directory of a track. Raises ValueError for a token that is no file name."""
    for token in key:
        if _NAME.fullmatch(token) is None:
            raise ValueError(f"token {token!r} cannot be the name of a directory")
    return f"{FOOTAGE}/{key.recording}/{key.track}"


def track_file_path(key: TrackKey, file_id: str, start_ns: UtcNs) -> str:
    """Relative path: footage/<recording>/<track>/<YYYYMMDD>/<HHMMSS>-<file id>.mp4, by the UTC start of the file."""
    return f"{track_directory(key)}/{datetime_from_utc(start_ns):%Y%m%d/%H%M%S}-{file_id}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What the index keeps of a file beside its identity."""

    end_ns: UtcNs
    size: int
    samples: int
    lost_packets: int
    dropped_units: int

    @classmethod
    def of(cls, entries: Sequence[FragmentEntry], size: int) -> Figures:
        return cls(
            max(e.end_ns for e in entries),
            size,
            sum(e.samples for e in entries),
            sum(e.lost_packets for e in entries),
            sum(e.dropped_units for e in entries),
        )


class TrackFileWriter:
    """A file that grows. After an error in `append` it still ends at its last whole fragment, or is beyond reach."""

    def __init__(
        self,
        disk: Disk,
        root: Path,
        row: TrackFileRow,
        configuration: CodecConfiguration,
        entries: list[FragmentEntry] | None = None,
    ) -> None:
        """`entries` receives what is written; it is only ever appended to, so that other threads may walk it."""
        self.row = row
        self.path = root / row.path
        self.size = 0
        """Bytes up to the end of the last whole fragment."""
        self.entries: list[FragmentEntry] = [] if entries is None else entries
        self.unsynced_since_ns: int | None = None
        """Since when there is something that was not forced to the disk, on the clock of `append`."""
        self.suspect = False
        """Forcing it to the disk has failed: the kernel may have dropped what it could not write, and says so only
        once. What is read from the disk again counts."""
        self._disk = disk
        self._configuration = configuration
        self._builder = FragmentBuilder(row.start_ns, configuration.clock_rate)
        self._fd: int | None = None
        self._root = root
        self._name_synced = False

    def append(self, fragment: Fragment, *, damaged_start: bool = False, now_ns: int = 0) -> FragmentEntry:
        """Writes one fragment; the first one makes the file, and its head goes with it in the same write.

        Raises OSError, or ValueError for a fragment that cannot stand in this file.
        """
        built = self._builder.build(fragment, damaged_start=damaged_start)
        parts = [built.head, *built.body]
        offset = self.size
        if self._fd is None:
            self._disk.make_directories(self.path.parent, self._root)
            self._fd = self._disk.create(self.path)
            head = build_head(self._configuration, identity_of(self.row))
            parts.insert(0, head)
            offset = len(head)
        if self.unsynced_since_ns is None:
            self.unsynced_since_ns = now_ns
        try:
            self._disk.write(self._fd, parts, self.size)
        except OSError as e:
            self._cut(e)
            raise
        entry = replace(built.entry, offset=offset)
        self.size = offset + entry.length
        self.entries.append(entry)
        return entry

    def sync(self) -> None:
        """Forces what was written to the disk, and the first time the name of the file too."""
        if self._fd is not None and self.unsynced_since_ns is not None:
            self._force(self._fd)
            self.unsynced_since_ns = None
            if not self._name_synced:
                self._disk.sync_directory(self.path.parent)
                self._name_synced = True

    def _force(self, fd: int) -> None:
        try:
            self._disk.sync(fd)
        except OSError:
            self.suspect = True
            raise

    def close(self, end_reason: GapReason | None) -> Figures | None:
        """Writes the tail, forces data and name to the disk, in this order. None: there was no fragment, and the file
        is gone. Raises OSError; the file then ends at its last whole fragment where that could be done, and recovery
        will close it.
        """
        fd, self._fd = self._fd, None
        if fd is None:
            return None
        try:
            if not self.entries:
                self._disk.unlink(self.path)
                self._disk.sync_directory(self.path.parent)
                return None
            figures = Figures.of(self.entries, self.size)
            tail = build_tail(Closing(figures.end_ns, end_reason, tuple(self.entries)))
            try:
                self._disk.write(fd, [tail], self.size)
                self._force(fd)
                self._disk.sync_directory(self.path.parent)
            except OSError as e:
                self._fd = fd
                self._cut(e)
                self._fd = None
                raise
            return replace(figures, size=self.size + len(tail))
        finally:
            self._disk.close(fd)

    def abandon(self) -> None:
        """Lets go of a file that is to be unlinked, or examined."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._disk.close(fd)

    def _cut(self, cause: OSError) -> None:
        """Back to the last whole fragment. A failure leaves a torn tail, which recovery cuts off by its checksums."""
        assert self._fd is not None
        try:
            self._disk.truncate(self._fd, self.size)
        except OSError as e:
            cause.add_note(f"and {self.path} could not be cut back to {self.size} bytes: {e}")


def identity_of(row: TrackFileRow) -> Identity:
    """What the file of a row says of itself."""
    return Identity(
        file=row.file_id,
        volume=row.volume_id,
        recording=row.recording,
        track=row.track,
        run=row.run_id,
        place=row.run_place,
        gap_before=row.gap_before,
        start_ns=row.start_ns,
        encoding=row.encoding,
    )


def read_head(fd: int) -> Head | None:
    """None when the file ends before its head does. Raises FormatError when it is no track file, or when fragments
    follow on what is no head any more: nobody may take such a file for one of which nothing was written."""
    size = _HEAD_READ
    while True:
        data = os.pread(fd, size, 0)
        head = parse_head(data)
        if head is not None:
            return head
        if len(data) < size:
            if next(scan(fd, 0), None) is not None:
                raise FormatError("its boxes reach over its fragments")
            return None
        size *= 4


def read_closing(fd: int) -> Closing | None:
    """The table at the end of the file, or None when the file is not closed or its table is damaged."""
    size = os.fstat(fd).st_size
    last = os.pread(fd, _TAIL_READ, max(size - _TAIL_READ, 0))
    mfra = mfra_size(last)
    if mfra is None or mfra + 8 > size:
        return None
    if mfra + 8 > len(last):
        last = os.pread(fd, mfra + 8, size - mfra - 8)
    tail = tail_size(last)
    if tail is None or not 0 < tail <= size:
        return None
    try:
        return parse_tail(os.pread(fd, tail, size - tail))
    except FormatError:
        return None


def read_fragment(fd: int, offset: int, length: int, base_ns: UtcNs, rate: int) -> list[Sample]:
    """The samples of a fragment. Raises FormatError when any of its bytes is not as it was written."""
    data = os.pread(fd, length, offset)
    header = FragmentBox.parse(data)
    if header is None:
        raise FormatError(f"{len(data)} of {length} bytes are there")
    body = memoryview(data)[header.size :]
    check_body(header, body)
    return parse_samples(header, body, base_ns, rate)


def open_fragment(
    fd: int, offset: int, length: int, base_ns: UtcNs, rate: int, read: Callable[[int, Window], bytes | None]
) -> StoredFragment:
    """As `read_fragment`, for who takes the samples one by one; `read` gives a window of what stands behind so many
    bytes of the fragment again."""
    data = os.pread(fd, length, offset)
    header = FragmentBox.parse(data)
    if header is None:
        raise FormatError(f"{len(data)} of {length} bytes are there")
    body = memoryview(data)[header.size :]
    places = parse_places(header, body, base_ns, rate)
    return StoredFragment(places, windows(header, body, places), body, partial(read, header.size))


def scan(fd: int, start: int, *, verify_from_ns: UtcNs | None = None) -> Iterator[FragmentEntry]:
    """The whole fragments of a file from byte `start`, found by walking; for files without a table.

    A fragment box is always checked; what stands behind it only in fragments that end at or after `verify_from_ns`
    (None checks all). What is damaged is left out: the walk goes on behind it, searching where even the box is lost,
    and the next entry is marked as damaged.
    """
    size = os.fstat(fd).st_size
    at, hole = start, False
    while at < size:
        header = _read_fragment_box(fd, at)
        if header is None:
            hole = True
            found = _search(fd, at + 1, size)
            if found is None:
                return
            at = found
            continue
        entry = _whole_entry(fd, at, size, header, verify_from_ns)
        if entry is not None:
            yield replace(entry, damaged=entry.damaged or hole)
        hole = entry is None
        # A length that reaches behind the end is that of a torn fragment: nothing whole can stand inside it.
        at += header.total


def _read_fragment_box(fd: int, at: int) -> FragmentBox | None:
    data = os.pread(fd, _BOX_READ, at)
    if data[4:24] != _SIGNATURE:
        return None
    size = int.from_bytes(data[:4], "big")
    if size > len(data):
        data = os.pread(fd, size, at)
    try:
        return FragmentBox.parse(data)
    except FormatError:
        return None


def _whole_entry(
    fd: int, at: int, size: int, header: FragmentBox, verify_from_ns: UtcNs | None
) -> FragmentEntry | None:
    if at + header.total > size:
        return None
    verify = verify_from_ns is None or header.end_ns >= verify_from_ns
    body = os.pread(fd, header.length if verify else min(header.length, _BOX_READ), at + header.size)
    try:
        if verify:
            check_body(header, body)
        moof, media_time = first_media_time(body)
    except FormatError:
        return None
    return FragmentEntry(
        offset=at,
        length=header.total,
        moof_distance=header.size + moof,
        media_time=media_time,
        start_ns=header.start_ns,
        end_ns=header.end_ns,
        samples=len(header.remainders),
        clean_point=header.clean_point,
        damaged=bool(header.damaged),
        lost_packets=header.lost_packets,
        dropped_units=header.dropped_units,
    )


def _search(fd: int, at: int, size: int) -> int | None:
    """Where the next bytes stand that look like the start of a fragment box."""
    while at < size:
        data = os.pread(fd, _SEARCH_READ + len(_SIGNATURE) + 4, at)
        found = data.find(_SIGNATURE, 4)
        if found >= 0:
            return at + found - 4
        at += _SEARCH_READ
    return None


def open_for_reading(path: Path) -> int:
    """Raises FileNotFoundError, or StorageError with the path and the cause."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise StorageError(f"{path} cannot be opened: {e}") from e
