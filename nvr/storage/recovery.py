"""What a start owes the files that nobody closed; and the index made again from the files alone.

Before anything is recorded only what recording needs is done (`begin_recovery`): files that can be settled at a glance
are, and the others are named. Reading them, and looking for files that have no row, is left to `later.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from nvr.model.errors import FormatError, StorageError
from nvr.model.timeline import GapReason
from nvr.storage.disk import Disk
from nvr.storage.heads import make_head, put_head
from nvr.storage.holes import Changed, split_all
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.settling import (
    Examined,
    Settled,
    file_id_of,
    finish,
    has_footage,
    remove_empty,
    row_of,
    settle,
)
from nvr.storage.track_file import FOOTAGE, SUFFIX, read_closing, read_head
from nvr.storage.volume import Volume

log = logging.getLogger(__name__)

UNREADABLE = ".unreadable"
"""Put behind the name of a file that was left open and whose head is destroyed, where none can be made: kept for an
expert, not indexed, and named by every check."""
CUT = ".cut"
"""Put behind the name of a file, for bytes of it that a repair has taken out."""


@dataclass(slots=True)
class Begun:
    """What `begin_recovery` has done and left."""

    changed: Changed = field(default_factory=set)
    pending: list[TrackFileRow] = field(default_factory=list)
    """OPEN rows whose files hold footage that is still to be examined. None of it is shown until then."""


def begin_recovery(
    disk: Disk,
    volume: Volume,
    index: FootageIndex,
    corrections: Mapping[str, GapReason] | None = None,
    beat: Callable[[], None] = lambda: None,
    suspects: Collection[str] = (),
) -> Begun:
    """Looks at every file of a volume that the index believes open: head, tail and first fragment, nothing else.

    A file with a good tail gets its row closed, one without a whole fragment is removed, one whose head is destroyed is
    set aside. `corrections`: closed files with which a run ended, and why, as in `finish`. Errors of single files are
    logged and leave their rows; StorageError of the index is raised. May be repeated, and cut short anywhere. `beat` is
    called after each file. `suspects`: files of which nothing is believed at a glance.
    """
    assert volume.id is not None
    begun = Begun()
    for row in index.open_files(volume.id):
        try:
            correction = (corrections or {}).get(row.file_id)
            settled = row.file_id not in suspects and _glance(disk, volume, index, row, correction)
        except OSError as e:
            log.error("%s cannot be recovered at a glance: %s", volume.path(row.path), e)
            settled = False
        if settled:
            begun.changed.add((row.key, row.run_id))
        else:
            begun.pending.append(row)
        beat()
    return begun


def _glance(disk: Disk, volume: Volume, index: FootageIndex, row: TrackFileRow, correction: GapReason | None) -> bool:
    """Whether the file is settled by that."""
    path = volume.path(row.path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        log.warning("%s is not there: it was begun and never written, or the volume is an older copy", path)
        index.forget([row.file_id])
        return True
    try:
        head = read_head(fd)
        closing = read_closing(fd) if head is not None else None
        size = os.fstat(fd).st_size
        footage = closing is not None or (head is not None and has_footage(fd, head.size))
    except FormatError as e:
        return _without_head(disk, volume, index, row, e)
    finally:
        os.close(fd)
    if head is not None and closing is not None:
        examined = Examined(head.identity, closing.entries, size, closing)
        settled = finish(disk, path, examined, correction or GapReason.UNKNOWN, correct=correction is not None)
        index.close(row.file_id, **settled.row_figures(), end_reason=settled.end_reason)
        return True
    if not footage:
        remove_empty(disk, path)
        index.forget([row.file_id])
        return True
    return False


def _without_head(disk: Disk, volume: Volume, index: FootageIndex, row: TrackFileRow, cause: FormatError) -> bool:
    """A file whose head is destroyed gets a new one, and is examined like the others; or it is set aside."""
    path = volume.path(row.path)
    try:
        head = make_head(volume, index, row)
    except FormatError as e:
        _set_aside(disk, path, cause, e)
        index.forget([row.file_id])
        return True
    kept = path.with_name(f"{path.name}.head{CUT}")
    put_head(disk, path, head, kept)
    log.error("%s: %s; its head is made anew, with the codec configuration from %s", path, cause, head.source)
    return False


def _set_aside(disk: Disk, path: Path, cause: FormatError, why: FormatError) -> None:
    log.error(
        "%s is kept as %s%s, and its footage is not shown: its head is destroyed (%s), and none can be made: %s",
        path,
        path.name,
        UNREADABLE,
        cause,
        why,
    )
    disk.rename(path, path.with_name(path.name + UNREADABLE))
    disk.sync_directory(path.parent)


def finish_open(
    disk: Disk,
    volume: Volume,
    index: FootageIndex,
    row: TrackFileRow,
    examined: Examined | None,
    reason: GapReason,
) -> None:
    """Closes a file that has been examined, and its row. On the writer thread. Raises OSError, StorageError."""
    path = volume.path(row.path)
    if examined is None:
        remove_empty(disk, path)
        index.forget([row.file_id])
        return
    settled = finish(disk, path, examined, reason)
    index.close(row.file_id, **settled.row_figures(), end_reason=settled.end_reason)


def adopt(disk: Disk, volume: Volume, index: FootageIndex, path: Path, examined: Examined) -> TrackFileRow | None:
    """Gives a file that has no row one. On the writer thread. None: it has one by now, or is gone.

    Raises OSError, StorageError.
    """
    assert volume.id is not None
    if index.known([examined.identity.file]) or not path.exists():
        return None
    settled = finish(disk, path, examined, GapReason.DAEMON_STOPPED)
    row = row_of(volume.id, path.relative_to(volume.root).as_posix(), settled)
    index.insert_open(replace(row, state=FileState.OPEN, end_ns=row.start_ns))
    index.close(row.file_id, **settled.row_figures(), end_reason=settled.end_reason)
    return row


def _row_of_file(disk: Disk, volume: Volume, path: Path) -> TrackFileRow | None:
    """The row that a file on the volume asks for. What cannot be read is logged and left as it is."""
    assert volume.id is not None
    try:
        settled: Settled | None = settle(disk, path, GapReason.DAEMON_STOPPED, verify_all=True, keep=True)
    except (FormatError, StorageError, OSError) as e:
        log.error("%s cannot be read and is left out: %s", path, e)
        return None
    if settled is None:
        log.error("%s holds no whole fragment and is left out", path)
        return None
    if file_id_of(path) != settled.identity.file:
        log.error("%s says of itself that it is file %s: a copy, left out", path, settled.identity.file)
        return None
    return row_of(volume.id, path.relative_to(volume.root).as_posix(), settled)


def delete_files(disk: Disk, volume: Volume, index: FootageIndex, rows: Sequence[TrackFileRow]) -> int:
    """For rows with tombstones: unlinks, forces the directories to the disk, then the rows go. May be repeated. What
    repairs have kept beside these files goes with them; returns the bytes of that.

    Raises OSError or StorageError; what is left has its tombstone and is finished by the next recovery.
    """
    kept = 0
    names: dict[Path, set[str]] = {}
    for row in rows:
        path = volume.path(row.path)
        with suppress(FileNotFoundError):  # an earlier attempt came that far
            disk.unlink(path)
        names.setdefault(path.parent, set()).add(path.name)
    for directory in sorted(names):
        if not directory.is_dir():
            continue
        with os.scandir(directory) as entries:
            there = [entry.name for entry in entries]
        cuts = [name for name in there if name.endswith(CUT)]
        # Where nothing else is left, also what belonged to files that were lost.
        everything = len(cuts) == len(there)
        for path in [directory / name for name in cuts if everything or _cut_from(name) in names[directory]]:
            kept += path.stat().st_size
            disk.unlink(path)
        disk.sync_directory(directory)
        if everything:
            disk.remove_directory(directory)
    index.forget([r.file_id for r in rows])
    return kept


def _cut_from(name: str) -> str:
    """The name of the file that the bytes in a file `*.cut` have been taken out of."""
    return name[: name.find(SUFFIX) + len(SUFFIX)]


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
            row = _row_of_file(disk, volume, path)
            if row is not None and row.file_id in rows:
                log.error("%s is a copy of %s and is left out", path, rows[row.file_id].path)
            elif row is not None:
                rows[row.file_id] = row
            seen += 1
            progress(seen, path)
        index.replace_volume(volume.id, list(rows.values()))
        total += len(rows)
    if split := split_all(index):
        log.error("files are missing in %d runs: what is left of each is several runs, with gaps between them", split)
    return total
