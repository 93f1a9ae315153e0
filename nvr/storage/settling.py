"""A file that nobody closed is examined, and closed: in two steps, because the first may take long and changes nothing.

`examine` reads and runs on any thread. `finish` writes and belongs to the writer thread of the volume.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nvr.media.bmff.closing import Closing, build_tail
from nvr.media.bmff.fragment import FragmentEntry
from nvr.media.bmff.init import Identity
from nvr.model.errors import StorageError
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import RecordingToken, TrackToken
from nvr.storage.disk import Disk
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.track_file import Figures, open_for_reading, read_closing, read_head, scan

log = logging.getLogger(__name__)

_VERIFY_BACK_NS = 120 * NS
"""Only what was written last is read whole: older data has been on its way to the disk for longer than the kernel holds
it back (30 s), and each fragment is checked again when it is read. `nvr check` reads everything."""

Visit = Callable[[FragmentEntry], None]
"""Called for each fragment that has been read; may wait, and may raise to break the examination off."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What stands in a file that nobody writes."""

    identity: Identity
    entries: tuple[FragmentEntry, ...]
    """Its whole fragments; at least one."""
    size: int
    """Bytes of the file when it was examined."""
    closing: Closing | None
    """Its tail, when it has a good one."""


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


def examine(
    path: Path, *, verify_all: bool = False, suspect: bool = False, visit: Visit | None = None
) -> Examined | None:
    """None when the file holds no whole fragment. Of a file with a good tail only head and tail are read; of one that
    is `suspect` every fragment, whatever its tail says.

    Raises FileNotFoundError, OSError, StorageError; FormatError when it is no file of ours or its head is destroyed.
    """
    fd = open_for_reading(path)
    try:
        head = read_head(fd)
        if head is None:
            return None
        size = os.fstat(fd).st_size
        closing = read_closing(fd) if not suspect else None
        if closing is not None:
            return Examined(head.identity, closing.entries, size, closing)
        _forget_cached(fd)
        entries = tuple(_visited(_whole_fragments(fd, head.size, verify_all or suspect), visit))
        return Examined(head.identity, entries, size, None) if entries else None
    finally:
        os.close(fd)


def _forget_cached(fd: int) -> None:
    """What follows is read from the disk: after a write that failed in the background the kernel goes on showing what
    it has in memory, also to the daemon that comes after one that died of it."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def has_footage(fd: int, start: int) -> bool:
    """Whether there is a whole fragment behind byte `start`; reads one, where the first is whole."""
    return next(scan(fd, start), None) is not None


def finish(
    disk: Disk, path: Path, examined: Examined, end_reason: GapReason | None, *, correct: bool = False
) -> Settled:
    """Cuts the file behind its last whole fragment and closes it as `TrackFileWriter.close` does.

    A file with a good tail is left as it is, and says itself why it ended; with `correct`, one that says that its run
    goes on, or that nothing was wanted behind it, says from now on that the run ended with it for this reason: its tail
    is written anew, and the index must call it OPEN then.
    Raises OSError; StorageError when the file is not as it was examined.
    """
    if examined.closing is not None:
        said = reason_of(examined.closing.end_reason)
        if not correct or said not in (None, GapReason.NO_EVENT):
            return Settled(examined.identity, Figures.of(examined.entries, examined.size), said, adopted=False)
    last = examined.entries[-1]
    end = last.offset + last.length
    figures = Figures.of(examined.entries, end)
    tail = build_tail(Closing(figures.end_ns, end_reason, examined.entries))
    fd = disk.reopen(path)
    try:
        size = os.fstat(fd).st_size
        if size != examined.size:
            raise StorageError(f"{path} has changed while it was examined: {examined.size} bytes then, {size} now")
        disk.truncate(fd, end)
        disk.write(fd, [tail], end)
        disk.sync(fd)
        disk.sync_directory(path.parent)
    finally:
        disk.close(fd)
    adopted = examined.closing is None
    if adopted:
        count = len(examined.entries)
        lost = size - end
        text = f", {lost} bytes of an unfinished one are cut off" if lost else ""
        log.log(logging.WARNING if lost else logging.INFO, "%s is closed: %d whole fragments%s", path, count, text)
    return Settled(examined.identity, replace(figures, size=end + len(tail)), end_reason, adopted)


def remove_empty(disk: Disk, path: Path) -> None:
    """A file without a whole fragment goes; one that has gone already is no error."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    log.warning("removed %s: no whole fragment in its %d bytes", path, size)
    disk.unlink(path)
    disk.sync_directory(path.parent)


def settle(
    disk: Disk,
    path: Path,
    end_reason: GapReason,
    *,
    verify_all: bool = False,
    keep: bool = False,
    correct: bool = False,
) -> Settled | None:
    """Examines and finishes. None when the file holds no whole fragment; it is removed then, unless `keep`.

    Raises as `examine` and `finish`.
    """
    examined = examine(path, verify_all=verify_all)
    if examined is not None:
        return finish(disk, path, examined, end_reason, correct=correct)
    if not keep:
        remove_empty(disk, path)
    return None


def row_of(volume_id: str, path: str, settled: Settled) -> TrackFileRow:
    """The row that a closed file asks for; `path` is relative to the root of the volume."""
    identity, figures = settled.identity, settled.figures
    return TrackFileRow(
        file_id=identity.file,
        volume_id=volume_id,
        recording=RecordingToken(identity.recording),
        track=TrackToken(identity.track),
        run_id=identity.run,
        run_place=identity.place,
        path=path,
        start_ns=identity.start_ns,
        end_ns=figures.end_ns,
        state=FileState.CLOSED,
        encoding=identity.encoding,
        size=figures.size,
        samples=figures.samples,
        lost_packets=figures.lost_packets,
        dropped_units=figures.dropped_units,
        gap_before=reason_of(identity.gap_before),
        end_reason=settled.end_reason,
    )


def file_id_of(path: Path) -> str:
    """The id that the name of a track file tells."""
    return path.stem.rpartition("-")[2]


def belongs(identity: Identity, path: Path, volume_id: str) -> str:
    """Why a file may not get a row where it stands; empty when it may."""
    if file_id_of(path) != identity.file:
        return f"it says of itself that it is file {identity.file}: a copy"
    if identity.volume != volume_id:
        return f"it was recorded on volume {identity.volume}, and this is volume {volume_id}: a copy, or another disk's"
    if path.parent.parent.name != identity.track or path.parent.parent.parent.name != identity.recording:
        return f"it says of itself that it belongs to {identity.recording}/{identity.track}: it has been moved"
    return ""


def reason_of(text: str | None) -> GapReason | None:
    """A reason as it stands in a file; UNKNOWN for one that a newer version has written."""
    if text is None:
        return None
    try:
        return GapReason(text)
    except ValueError:
        return GapReason.UNKNOWN


def _whole_fragments(fd: int, start: int, verify_all: bool) -> Iterator[FragmentEntry]:
    if verify_all:
        return scan(fd, start)
    boxes = list(scan(fd, start, verify_from_ns=1 << 63))
    if not boxes:
        return iter(())
    return scan(fd, start, verify_from_ns=boxes[-1].end_ns - _VERIFY_BACK_NS)


def _visited(entries: Iterator[FragmentEntry], visit: Visit | None) -> Iterator[FragmentEntry]:
    for entry in entries:
        if visit is not None:
            visit(entry)
        yield entry
