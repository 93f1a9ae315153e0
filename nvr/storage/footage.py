"""Reading the footage of a track: fragments in ascending order, lazily over files, while files grow, rotate and go."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from nvr.media.bmff.fragment import FragmentEntry
from nvr.media.bmff.windows import Window
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.errors import FormatError, StorageError
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.orders import GrowingFile, fragment_ref
from nvr.storage.rows import FileState, FootageDamaged, FootageIndex, FragmentRef, TrackFileRow
from nvr.storage.stored_fragment import StoredFragment
from nvr.storage.track_file import open_for_reading, open_fragment, read_closing, read_fragment, read_head, scan

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_PAGE = 16
_HEADS = 4096
"""Heads of files kept in memory, so that reading a fragment costs one read."""
_NEVER_NS = 1 << 62
"""Later than any fragment: nothing is verified by the walk, `Footage.read` does it."""


class FileHead(NamedTuple):
    base_ns: UtcNs
    timescale: int
    configuration: CodecConfiguration


class Section(NamedTuple):
    """What one file holds, so far: [start_ns, end_ns), samples and bytes."""

    file_id: str
    configuration: CodecConfiguration
    start_ns: UtcNs
    end_ns: UtcNs
    samples: int
    size: int


class WholeFile(NamedTuple):
    """What one file holds, for who must not miss any of it."""

    row: TrackFileRow | None
    """As it is in the index now; None when the file has gone."""
    growing: bool
    """Whether more will come. A file that is OPEN and does not grow has not been examined yet, and shows nothing."""
    refs: Iterable[FragmentRef]


class FootageReader:
    """What all readers share: where volumes stand, which files grow, and the heads of files. Safe on any thread."""

    def __init__(
        self,
        index: FootageIndex,
        growing: Mapping[str, GrowingFile],
        root_of: Callable[[str], Path | None],
        decode: Callable[[bytes], CodecConfiguration],
    ) -> None:
        """`root_of` tells where the volume with an id stands, None when it does not; `decode` reads a sample entry."""
        self.index = index
        self.growing = growing
        self._root_of = root_of
        self._decode = lru_cache(256)(decode)
        self.head = lru_cache(_HEADS)(self._read_head)
        self.tell_missing = lru_cache(_HEADS)(self._tell_missing)
        """A file that the index has is not there: logged once, however often it is read."""

    @staticmethod
    def _tell_missing(volume_id: str, path: str) -> None:
        log.error("%s is in the index and not on volume %s", path, volume_id)

    def path(self, volume_id: str, path: str) -> Path:
        root = self._root_of(volume_id)
        if root is None:
            raise StorageError(f"{path} stands on volume {volume_id}, which is missing")
        return root / path

    def configuration(self, row: TrackFileRow) -> CodecConfiguration | None:
        """The codec configuration of a file; None when it is gone."""
        growing = self.growing.get(row.file_id)
        if growing is not None:
            return growing.configuration
        try:
            return self.head(row.volume_id, row.path).configuration
        except FileNotFoundError:
            return None

    def _read_head(self, volume_id: str, path: str) -> FileHead:
        """Raises FileNotFoundError or StorageError."""
        where = self.path(volume_id, path)
        fd = open_for_reading(where)
        try:
            head = read_head(fd)
            if head is None:
                raise FootageDamaged(f"{where} is cut off before its first fragment")
            return FileHead(head.identity.start_ns, head.timescale, self._decode(head.sample_entry))
        except FormatError as e:
            raise FootageDamaged(f"{where} is damaged: {e}") from e
        except OSError as e:
            raise StorageError(f"{where} cannot be read: {e}") from e
        finally:
            os.close(fd)


class Footage:
    """The footage of one track. Blocking: for threads. Holds nothing open between calls."""

    def __init__(
        self, key: TrackKey, reader: FootageReader, limit_ns: Callable[[], UtcNs | None] = lambda: None
    ) -> None:
        """`limit_ns`: what ends at or before it is too old to be shown."""
        self.key = key
        self._reader = reader
        self._limit_ns = limit_ns

    def fragments(
        self, from_ns: UtcNs, until_ns: UtcNs | None = None, *, run_id: str | None = None
    ) -> Iterator[FragmentRef]:
        """Fragments in ascending order, each once: the one that holds `from_ns`, or the first behind it, and what
        follows up to `until_ns` (exclusive) or to the last one there is; of the run `run_id` only where one is given.
        What is too old when its turn comes is skipped.

        Files that are deleted meanwhile are skipped. A file that cannot be read is logged and skipped: a reader shall
        get to what stands behind it.
        """
        limit_ns = self._limit_ns()
        begin_ns = from_ns if limit_ns is None else max(from_ns, limit_ns)  # passes over whole files
        if run_id is None:
            return self._not_too_old(self._walk(begin_ns, until_ns))
        return self._not_too_old(_within(self._walk_run(begin_ns, None, run_id), begin_ns, until_ns))

    def fragments_after(self, ref: FragmentRef) -> Iterator[FragmentRef]:
        """What follows `ref` in its run, ascending, up to the last one there is; the file of `ref` may be gone."""
        return self._not_too_old(self._after(ref))

    def _after(self, ref: FragmentRef) -> Iterator[FragmentRef]:
        reader = self._reader
        growing = reader.growing.get(ref.file_id)
        row = growing.row if growing is not None else reader.index.file(ref.file_id)
        if row is None or row.state is FileState.DELETING:
            yield from (r for r in self._walk_run(ref.end_ns, None, ref.run_id) if r.start_ns > ref.start_ns)
            return
        refs = self._stored(row) if growing is None else _GrowingWalk(growing)
        yield from (r for r in refs if r.offset > ref.offset)
        if growing is not None:
            yield from refs  # it may have grown before the next file was begun
        place = (row.start_ns, row.file_id)
        yield from self._walk_run(row.start_ns, place, row.run_id)
        if row.run_id != ref.run_id:  # the run has been split meanwhile
            yield from self._walk_run(row.start_ns, place, ref.run_id)

    def fragments_before(self, until_ns: UtcNs, *, run_id: str | None = None) -> Iterator[FragmentRef]:
        """Fragments that start before `until_ns`, in descending order; otherwise as `fragments`. What is appended
        meanwhile is not seen."""
        return self._not_too_old(self._before(until_ns, run_id))

    def _not_too_old(self, refs: Iterable[FragmentRef]) -> Iterator[FragmentRef]:
        for ref in refs:
            limit_ns = self._limit_ns()
            if limit_ns is None or ref.end_ns > limit_ns:
                yield ref

    def _before(self, until_ns: UtcNs, run_id: str | None) -> Iterator[FragmentRef]:
        before, limit = (until_ns, ""), 2  # who looks for one place seldom needs more
        last: TrackFileRow | None = None
        while page := self._reader.index.files_before(self.key, before, run_id=run_id, limit=limit):
            for row in page:
                refs = list(self.of_file(row))
                yield from (ref for ref in reversed(refs) if ref.start_ns < until_ns)
            if len(page) < limit:
                return  # nothing comes before what there is
            last = page[-1]
            before, limit = (last.start_ns, last.file_id), _PAGE
        if last is not None and run_id is not None and (section := self._split_off(last, run_id)) is not None:
            yield from self._before(last.start_ns, section)

    def _split_off(self, row: TrackFileRow, run_id: str) -> str | None:
        """The run that a file belongs to now, where it is another one than when it was read: files behind it are lost,
        and it is known by now (`holes.py`)."""
        now = self._reader.index.file(row.file_id)
        return now.run_id if now is not None and now.run_id != run_id else None

    def _walk(self, from_ns: UtcNs, until_ns: UtcNs | None) -> Iterator[FragmentRef]:
        walk: _GrowingWalk | None = None
        after: tuple[UtcNs, str] | None = None
        while page := self._reader.index.files(self.key, from_ns, until_ns, after=after, limit=_PAGE):
            if walk is not None:
                # The newest file of the page before may have grown until the first file of this page was begun.
                yield from _within(walk, from_ns, until_ns)
            for row in page:
                growing = self._reader.growing.get(row.file_id)
                walk = _GrowingWalk(growing) if growing is not None else None
                yield from _within(walk if walk is not None else self._stored(row), from_ns, until_ns)
            after = (page[-1].start_ns, page[-1].file_id)

    def _walk_run(self, from_ns: UtcNs, after: tuple[UtcNs, str] | None, run_id: str) -> Iterator[FragmentRef]:
        """The fragments of one run, from a file on that may hold `from_ns`, or behind the one `after`."""
        walk: _GrowingWalk | None = None
        limit = 2  # most runs of a recording by events are one file
        last: TrackFileRow | None = None
        while page := self._reader.index.files_of_run(self.key, run_id, from_ns, after=after, limit=limit):
            if walk is not None:
                yield from walk
            if last is not None and after is not None and page[0].run_place > last.run_place + 1:
                section = self._split_off(last, run_id)
                yield from self._walk_run(from_ns, after, section) if section is not None else ()
            for row in page:
                growing = self._reader.growing.get(row.file_id)
                walk = _GrowingWalk(growing) if growing is not None else None
                if walk is not None or row.state is FileState.OPEN or row.end_ns > from_ns or row.start_ns >= from_ns:
                    yield from walk if walk is not None else self._stored(row)
            if len(page) < limit and page[-1].state is FileState.CLOSED and page[-1].end_reason is not None:
                return  # the run has ended with this file
            last = page[-1]
            after, limit = (last.start_ns, last.file_id), _PAGE

    def section(self, at_ns: UtcNs, run_id: str) -> Section | None:
        """The file of a run that holds an instant; None where there is none, or it is gone. However many files the run
        has, one page of rows and at most the head of one file are read."""

        def holds(row: TrackFileRow) -> bool:
            return row.start_ns <= at_ns and (row.state is FileState.OPEN or row.end_ns > at_ns)

        index = self._reader.index
        rows = list(filter(holds, index.files_of_run(self.key, run_id, at_ns, limit=_PAGE)))
        if not rows:  # the run has just been split: its files stand under other names
            rows = index.files(self.key, at_ns, at_ns + 1, limit=_PAGE)
        for row in reversed(rows):  # of several, the last that has begun: a clock was set back
            configuration = self._reader.configuration(row)
            if configuration is None:
                continue
            if row.state is FileState.CLOSED:
                return Section(row.file_id, configuration, row.start_ns, row.end_ns, row.samples, row.size)
            refs = list(self.of_file(row))
            if refs and refs[-1].end_ns > at_ns:
                samples, size = sum(r.samples for r in refs), sum(r.length for r in refs)
                return Section(row.file_id, configuration, row.start_ns, refs[-1].end_ns, samples, size)
        return None

    def of_file(self, row: TrackFileRow) -> Iterator[FragmentRef]:
        """The fragments of one file, so far as there are. A file that has gone or cannot be read has none, and is
        logged as in `fragments`.
        """
        growing = self._reader.growing.get(row.file_id)
        return iter(_GrowingWalk(growing)) if growing is not None else self._stored(row)

    def whole_file(self, row: TrackFileRow) -> WholeFile:
        """As `of_file`, but nothing is passed over.

        Raises FootageDamaged when the file is not as it was written, StorageError when it cannot be read now.
        """
        reader = self._reader
        growing = reader.growing.get(row.file_id)
        if growing is not None:
            return WholeFile(growing.row, True, _GrowingWalk(growing))
        now = reader.index.file(row.file_id)
        if now is None or now.state is FileState.DELETING:
            return WholeFile(None, False, ())
        if now.state is FileState.OPEN:
            return WholeFile(now, False, ())
        try:
            head = reader.head(now.volume_id, now.path)
            entries = _entries(reader.path(now.volume_id, now.path))
        except FileNotFoundError as e:
            later = reader.index.file(row.file_id)
            if later is None or later.state is FileState.DELETING:
                return WholeFile(None, False, ())
            raise StorageError(f"{now.path} is in the index and not on volume {now.volume_id}") from e
        refs = [fragment_ref(now, e, head.configuration, first_of_file=i == 0) for i, e in enumerate(entries)]
        return WholeFile(now, False, refs)

    def read(self, ref: FragmentRef) -> list[Sample]:
        """The samples of a fragment, their UTC times as they were written.

        An empty list when the file has been deleted. Raises FootageDamaged when a byte is not as it was written,
        StorageError when the file cannot be read.
        """
        return self._from_file(ref, partial(read_fragment, offset=ref.offset, length=ref.length)) or []

    def open(self, ref: FragmentRef) -> StoredFragment | None:
        """As `read`, for who takes the samples one by one and holds no more of them than needed; None when the file has
        been deleted."""

        def again(box: int, window: Window) -> bytes | None:
            return self._from_file(ref, lambda fd, base_ns, rate: _window(fd, ref.offset + box, window))

        return self._from_file(ref, partial(open_fragment, offset=ref.offset, length=ref.length, read=again))

    def _from_file(self, ref: FragmentRef, read: Callable[..., _T]) -> _T | None:
        """What `read` makes of a descriptor, the start and the timescale of the file; None when it has been deleted."""
        reader = self._reader
        try:
            growing = reader.growing.get(ref.file_id)
            if growing is not None:
                base_ns, rate = growing.row.start_ns, growing.configuration.clock_rate
            else:
                base_ns, rate, _ = reader.head(ref.volume_id, ref.path)
            path = reader.path(ref.volume_id, ref.path)
            fd = open_for_reading(path)
        except FileNotFoundError as e:
            row = reader.index.file(ref.file_id)
            if row is None or row.state is FileState.DELETING:
                return None
            raise StorageError(f"{ref.path} is in the index and not on volume {ref.volume_id}") from e
        try:
            return read(fd, base_ns=base_ns, rate=rate)
        except FormatError as e:
            raise FootageDamaged(f"{path}, fragment at {ref.offset}: {e}") from e
        except OSError as e:
            raise StorageError(f"{path}, fragment at {ref.offset}: {e}") from e
        finally:
            os.close(fd)

    def _stored(self, row: TrackFileRow) -> Iterator[FragmentRef]:
        """The fragments of a file that nobody writes any more."""
        reader = self._reader
        if row.state is FileState.OPEN and row.end_ns == row.start_ns:
            # Closed since the row was read; or left open by a daemon that died, and not shown before it is examined.
            # (One that was closed and gets another end reason is OPEN for that time and keeps its figures.)
            now = reader.index.file(row.file_id)
            if now is None or now.state is not FileState.CLOSED:
                return
            row = now
        try:
            head = reader.head(row.volume_id, row.path)
            entries = _entries(reader.path(row.volume_id, row.path))
        except FileNotFoundError:
            now = reader.index.file(row.file_id)
            if now is not None and now.state is FileState.CLOSED:
                reader.tell_missing(row.volume_id, row.path)
            return
        except StorageError as e:
            log.error("a file of %s is passed over: %s", self.key, e)
            return
        for i, entry in enumerate(entries):
            yield fragment_ref(row, entry, head.configuration, first_of_file=i == 0)


class _GrowingWalk:
    """The fragments of a growing file; walked again, it goes on where it stood."""

    def __init__(self, file: GrowingFile) -> None:
        self._file = file
        self._seen = 0

    def __iter__(self) -> Iterator[FragmentRef]:
        entries = self._file.entries
        while self._seen < len(entries):
            self._seen += 1
            yield self._file.ref(entries[self._seen - 1])


def _within(refs: Iterable[FragmentRef], from_ns: UtcNs, until_ns: UtcNs | None) -> Iterator[FragmentRef]:
    for ref in refs:
        if until_ns is not None and ref.start_ns >= until_ns:
            return
        if ref.end_ns > from_ns or ref.start_ns >= from_ns:
            yield ref


def _window(fd: int, at: int, window: Window) -> bytes:
    data = os.pread(fd, window.end - window.start, at + window.start)
    window.check(data)
    return data


def _entries(path: Path) -> Sequence[FragmentEntry]:
    """By the table at the end of the file, or by walking where there is none (a file that awaits recovery)."""
    fd = open_for_reading(path)
    try:
        closing = read_closing(fd)
        if closing is not None:
            return closing.entries
        head = read_head(fd)
        return list(scan(fd, head.size, verify_from_ns=_NEVER_NS)) if head is not None else ()
    except FormatError as e:
        raise FootageDamaged(f"{path} is damaged: {e}") from e
    except OSError as e:
        raise StorageError(f"{path} cannot be read: {e}") from e
    finally:
        os.close(fd)
