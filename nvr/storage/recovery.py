"""Files that nobody closed: adopted, never thrown away; and the index made again from the files alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nvr.media.bmff.closing import Closing, build_tail
from nvr.media.bmff.fragment import FragmentEntry
from nvr.media.bmff.init import Head, Identity
from nvr.model.errors import FormatError, StorageError
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.disk import Disk
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.track_file import FOOTAGE, SUFFIX, Figures, open_for_reading, read_closing, read_head, scan
from nvr.storage.volume import Volume

log = logging.getLogger(__name__)

UNREADABLE = ".unreadable"
"""Put behind the name of a file that holds fragments and whose head is destroyed: kept for an expert, not indexed."""
_VERIFY_BACK_NS = 120 * NS
"""At a start only what was written last is read whole: older data has been on its way to the disk for longer than the
kernel holds it back (30 s), and each fragment is checked again when it is read. Forty cameras would otherwise cost
gigabytes of reading before the first frame is recorded."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A file that is closed now, whether it was before or not."""

    identity: Identity
    figures: Figures
    end_reason: GapReason | None
    adopted: bool
    """The tail was missing and has been written now."""

    def row_figures(self) -> dict[str, int]:
        """As `FootageIndex.close` takes them."""
        f = self.figures
        return {
            "end_ns": f.end_ns,
            "size": f.size,
            "samples": f.samples,
            "lost_packets": f.lost_packets,
            "dropped_units": f.dropped_units,
        }


def settle(
    disk: Disk,
    path: Path,
    end_reason: GapReason,
    *,
    verify_all: bool = False,
    keep: bool = False,
    correct: bool = False,
) -> Settled | None:
    """Makes the file at `path` a closed one: cut behind its last whole fragment, its tail written.

    None when it holds no whole fragment; it is removed then, unless `keep`. A file that is closed is only read; with
    `correct`, one that says that its run goes on says from now on that the run ended with it. The index must call it
    OPEN meanwhile: its tail is written anew.
    Raises FileNotFoundError, OSError, StorageError; FormatError when it is no file of ours or its head is destroyed (it
    is left as it is).
    """
    fd = open_for_reading(path)
    try:
        head = read_head(fd)
        closing = read_closing(fd) if head is not None else None
        size = os.fstat(fd).st_size
        if head is not None and closing is not None:
            reason = _reason(closing.end_reason)
            if correct and reason is None:
                last = closing.entries[-1]
                figures = _write_tail(disk, path, closing.entries, last.offset + last.length, end_reason)
                return Settled(head.identity, figures, end_reason, adopted=False)
            return Settled(head.identity, Figures.of(closing.entries, size), reason, adopted=False)
        entries = _entries(fd, head, verify_all)
    finally:
        os.close(fd)
    if head is not None and entries:
        end = entries[-1].offset + entries[-1].length
        figures = _write_tail(disk, path, entries, end, end_reason)
        log.warning(
            "adopted %s: %d fragments, %d bytes behind the last whole one cut off", path, len(entries), size - end
        )
        return Settled(head.identity, figures, end_reason, adopted=True)
    if not keep:
        log.warning("removed %s: no whole fragment in its %d bytes", path, size)
        disk.unlink(path)
        disk.sync_directory(path.parent)
    return None


def _write_tail(disk: Disk, path: Path, entries: Sequence[FragmentEntry], end: int, end_reason: GapReason) -> Figures:
    """Cuts the file at `end` and closes it as `TrackFileWriter.close` does."""
    figures = Figures.of(entries, end)
    tail = build_tail(Closing(figures.end_ns, end_reason, tuple(entries)))
    fd = disk.reopen(path)
    try:
        disk.truncate(fd, end)
        disk.write(fd, [tail], end)
        disk.sync(fd)
        disk.sync_directory(path.parent)
    finally:
        disk.close(fd)
    return replace(figures, size=end + len(tail))


def _entries(fd: int, head: Head | None, verify_all: bool) -> list[FragmentEntry]:
    if head is None:
        return []
    if verify_all:
        return list(scan(fd, head.size))
    boxes = list(scan(fd, head.size, verify_from_ns=1 << 63))
    if not boxes:
        return []
    return list(scan(fd, head.size, verify_from_ns=boxes[-1].end_ns - _VERIFY_BACK_NS))


def _reason(text: str | None) -> GapReason | None:
    if text is None:
        return None
    try:
        return GapReason(text)
    except ValueError:  # written by a newer version
        return GapReason.UNKNOWN


def recover_volume(
    disk: Disk,
    volume: Volume,
    index: FootageIndex,
    reasons: Mapping[str, GapReason] | None = None,
    corrections: Mapping[str, GapReason] | None = None,
) -> set[tuple[TrackKey, str]]:
    """Settles every file of a volume that the index believes open, and files that it does not know.

    `reasons`: why single files were left open; a daemon that died is the reason of all others. `corrections`: closed
    files with which a run ended, and why, as in `settle`.
    Returns track and id of each run whose rows changed. Errors of single files are logged and leave their rows;
    StorageError of the index is raised.
    """
    assert volume.id is not None
    changed = set()
    for row in index.open_files(volume.id):
        correct = (corrections or {}).get(row.file_id)
        reason = correct or (reasons or {}).get(row.file_id, GapReason.DAEMON_STOPPED)
        if _recover_file(disk, volume, index, row, reason, correct is not None):
            changed.add((row.key, row.run_id))
    for path in _strays(volume, index):
        adopted = _adopt_stray(disk, volume, index, path)
        if adopted is not None:
            changed.add((adopted.key, adopted.run_id))
    return changed


def _recover_file(
    disk: Disk, volume: Volume, index: FootageIndex, row: TrackFileRow, reason: GapReason, correct: bool
) -> bool:
    path = volume.path(row.path)
    try:
        settled = settle(disk, path, reason, correct=correct)
    except FileNotFoundError:
        log.warning("%s was begun and never written", path)
        settled = None
    except FormatError as e:
        log.error("%s cannot be adopted, it is kept as %s%s: %s", path, path.name, UNREADABLE, e)
        disk.rename(path, path.with_name(path.name + UNREADABLE))
        disk.sync_directory(path.parent)
        settled = None
    except (OSError, StorageError) as e:
        log.error("%s cannot be recovered now: %s", path, e)
        return False
    if settled is None:
        index.forget([row.file_id])
        return True
    index.close(row.file_id, **settled.row_figures(), end_reason=settled.end_reason)
    return True


def _strays(volume: Volume, index: FootageIndex) -> Iterator[Path]:
    """Files in the two newest day directories of each track that have no row.

    A power cut may take the last rows from the index (it is synchronous NORMAL) and leave their files: two, because
    the last rows of a day may be lost when the next day has a file already.
    """
    for recording in _directories(volume.path(FOOTAGE)):
        for track in _directories(recording):
            days = _directories(track)[-2:]
            paths = {p.stem.rpartition("-")[2]: p for day in days for p in day.glob(f"*{SUFFIX}")}
            ids = sorted(paths)
            for i in range(0, len(ids), 500):
                known = index.known(ids[i : i + 500])
                yield from (paths[f] for f in ids[i : i + 500] if f not in known)


def _directories(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_dir())


def _adopt_stray(disk: Disk, volume: Volume, index: FootageIndex, path: Path) -> TrackFileRow | None:
    row = _row_of_file(disk, volume, path, verify_all=False)
    if row is None:
        return None
    index.insert_open(replace(row, state=FileState.OPEN, end_ns=row.start_ns))
    index.close(
        row.file_id,
        end_ns=row.end_ns,
        size=row.size,
        samples=row.samples,
        lost_packets=row.lost_packets,
        dropped_units=row.dropped_units,
        end_reason=row.end_reason,
    )
    log.warning("%s had no row in the index and has one now", path)
    return row


def _row_of_file(disk: Disk, volume: Volume, path: Path, *, verify_all: bool) -> TrackFileRow | None:
    """The row that a file on the volume asks for. What cannot be read is logged and left as it is."""
    assert volume.id is not None
    try:
        settled = settle(disk, path, GapReason.DAEMON_STOPPED, verify_all=verify_all, keep=True)
    except (FormatError, StorageError, OSError) as e:
        log.error("%s cannot be read and is left out: %s", path, e)
        return None
    if settled is None:
        log.error("%s holds no whole fragment and is left out", path)
        return None
    identity, figures = settled.identity, settled.figures
    if path.stem.rpartition("-")[2] != identity.file:
        log.error("%s says of itself that it is file %s: a copy, left out", path, identity.file)
        return None
    return TrackFileRow(
        file_id=identity.file,
        volume_id=volume.id,
        recording=RecordingToken(identity.recording),
        track=TrackToken(identity.track),
        run_id=identity.run,
        run_place=identity.place,
        path=path.relative_to(volume.root).as_posix(),
        start_ns=identity.start_ns,
        end_ns=figures.end_ns,
        state=FileState.CLOSED,
        encoding=identity.encoding,
        size=figures.size,
        samples=figures.samples,
        lost_packets=figures.lost_packets,
        dropped_units=figures.dropped_units,
        gap_before=_reason(identity.gap_before),
        end_reason=settled.end_reason,
    )


def delete_files(disk: Disk, volume: Volume, index: FootageIndex, rows: Sequence[TrackFileRow]) -> None:
    """For rows with tombstones: unlinks, forces the directories to the disk, then the rows go. May be repeated.

    Raises OSError or StorageError; what is left has its tombstone and is finished by the next recovery.
    """
    directories = set()
    for row in rows:
        path = volume.path(row.path)
        with suppress(FileNotFoundError):  # an earlier attempt came that far
            disk.unlink(path)
        directories.add(path.parent)
    for directory in sorted(directories):
        if directory.is_dir():
            disk.sync_directory(directory)
            if not any(directory.iterdir()):
                disk.remove_directory(directory)
    index.forget([r.file_id for r in rows])


def rebuild_index(volumes: Sequence[Volume], index: FootageIndex, progress: Callable[[int, Path], None]) -> int:
    """The rows of these (open) volumes made again from their files; returns how many there are now.

    Files without a tail are adopted. `progress` is told the number of files seen so far and the last of them.
    The daemon must not run: the caller holds the locks of the volumes.
    """
    seen = total = 0
    for volume in volumes:
        assert volume.id is not None, f"volume {volume.root} is not open"
        disk = volume.disk
        delete_files(disk, volume, index, index.deleting_files(volume.id))
        rows: dict[str, TrackFileRow] = {}
        for path in sorted(volume.path(FOOTAGE).rglob(f"*{SUFFIX}")):
            row = _row_of_file(disk, volume, path, verify_all=True)
            if row is not None and row.file_id in rows:
                log.error("%s is a copy of %s and is left out", path, rows[row.file_id].path)
            elif row is not None:
                rows[row.file_id] = row
            seen += 1
            progress(seen, path)
        index.replace_volume(volume.id, list(rows.values()))
        total += len(rows)
    return total
