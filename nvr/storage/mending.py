"""What can be mended without losing footage. On the writer thread of the volume, or on the files of a stopped recorder.

Each repair looks again before it changes anything: between the check and the repair the file may have been deleted, or
closed by the recovery. No byte of footage is removed: what stands behind the last whole fragment of a file whose table
is made anew is kept beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from nvr.model.errors import FormatError, StorageError
from nvr.model.timeline import GapReason
from nvr.storage import holes
from nvr.storage.disk import Disk
from nvr.storage.findings import MENDED_FROM_FILE, NEVER_MENDED, Kind, Repair
from nvr.storage.heads import make_head, put_head
from nvr.storage.holes import Changed
from nvr.storage.recovery import CUT, adopt, finish_open
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.settling import Examined, belongs, examine, finish, row_of
from nvr.storage.track_file import FOOTAGE, open_for_reading, read_head
from nvr.storage.volume import Volume

_COPY = 1 << 20


@dataclass(slots=True)
class Mended:
    """What was done, in words for the operator."""

    text: str
    changed: Changed = field(default_factory=set)
    """Runs whose rows have changed, or whose footage can be read again."""
    remains: bool = False
    """What was found is there still."""


def examine_for(volume: Volume, repair: Repair, step: Callable[[], None] = lambda: None) -> Examined | None:
    """What the file holds that is to be mended, every byte checked; None where that does not matter. On any thread.

    `step` is called for each fragment, and may raise to break it off. Raises as `examine`.
    """
    if repair.kind in MENDED_FROM_FILE or repair.kind in (Kind.ORPHAN, Kind.LEFT_OPEN):
        try:
            return examine(volume.path(repair.path), verify_all=True, visit=lambda entry: step())
        except FileNotFoundError:
            return None
    return None


def mend(disk: Disk, volume: Volume, index: FootageIndex, repair: Repair, examined: Examined | None) -> Mended:
    """Raises OSError, StorageError; FormatError when the file cannot be read as what it should be."""
    if not repair.path.startswith(f"{FOOTAGE}/") or ".." in Path(repair.path).parts:
        raise StorageError(f"{repair.path!r} is no path of footage")
    if repair.kind in NEVER_MENDED:
        return Mended(NEVER_MENDED[repair.kind], remains=True)
    if not volume.present():
        raise StorageError(f"volume {volume.id} is not at {volume.root} any more")
    if repair.kind is Kind.ORPHAN:
        return _adopt(disk, volume, index, repair, examined)
    row = index.file(repair.file_id) if repair.file_id else None
    if repair.kind is Kind.UNREADABLE:
        return _new_head(disk, volume, index, row)
    if row is None or row.state is FileState.DELETING:
        return Mended("it has been deleted meanwhile")
    if repair.kind is Kind.CHECKSUM:
        index.know_damage(repair.damage)
        places = "1 damaged place is" if len(repair.damage) == 1 else f"{len(repair.damage)} damaged places are"
        return Mended(f"{places} known now; the bytes stay as they are")
    if repair.kind is Kind.MISSING:
        if row.state is not FileState.CLOSED or volume.path(row.path).exists():
            return Mended("it is there again")
        changed = holes.forget_lost(index, row)
        split = "; the gap that it leaves in its run says so (storage)" if len(changed) > 1 else ""
        return Mended(f"its row is removed{split}", changed)
    if repair.kind is Kind.HOLE:
        changed = holes.set_right(index, row.key, row.run_id)
        if not changed:
            return Mended("the run is whole by now, or says so")
        return Mended("the run is split there, and the gap says why (storage)", changed)
    if repair.kind is Kind.LEFT_OPEN:
        if row.state is not FileState.OPEN:
            return Mended("it has been closed meanwhile")
        finish_open(disk, volume, index, row, examined, GapReason.DAEMON_STOPPED)
        what = "it held no whole fragment and is removed" if examined is None else "it is closed, and its row too"
        return Mended(what, {(row.key, row.run_id)})
    return _row_from_file(disk, volume, index, row, examined)


def _adopt(disk: Disk, volume: Volume, index: FootageIndex, repair: Repair, examined: Examined | None) -> Mended:
    path = volume.path(repair.path)
    if examined is None:
        return Mended("nothing is changed: it holds no whole fragment", remains=True)
    assert volume.id is not None
    why = belongs(examined.identity, path, volume.id)
    if why:
        return Mended(f"nothing is changed: {why}", remains=True)
    row = adopt(disk, volume, index, path, examined)
    if row is None:
        return Mended("it has a row by now, or is gone")
    changed = holes.rejoin(index, row.key, row.run_id)
    return Mended("it has a row now", {(row.key, row.run_id)} | changed)


def _new_head(disk: Disk, volume: Volume, index: FootageIndex, row: TrackFileRow | None) -> Mended:
    """Only where the head is destroyed: what the disk does not give today it may give tomorrow."""
    if row is None:
        return Mended("nothing is changed: without a row nobody knows what it is; keep it for an expert", remains=True)
    path = volume.path(row.path)
    try:
        fd = open_for_reading(path)
        try:
            head = read_head(fd)
        finally:
            os.close(fd)
    except FormatError:
        pass
    else:
        why = "can be read by now" if head is not None else "holds no whole fragment"
        return Mended(f"nothing is changed: it {why}", remains=head is None)
    try:
        made = make_head(volume, index, row)
    except FormatError as e:
        return Mended(f"nothing is changed: no head can be made for it: {e}", remains=True)
    kept = path.with_name(f"{path.name}.head{CUT}")
    put_head(disk, path, made, kept)
    text = f"its head is made anew, with the codec configuration from {made.source}; the old one is kept in {kept.name}"
    return Mended(text, {(row.key, row.run_id)})


def _row_from_file(
    disk: Disk, volume: Volume, index: FootageIndex, row: TrackFileRow, examined: Examined | None
) -> Mended:
    path = volume.path(row.path)
    if row.state is not FileState.CLOSED:
        return Mended("it is open by now: the recovery will close it")
    if examined is None:
        return Mended("nothing is changed: it holds no whole fragment", remains=True)
    assert volume.id is not None
    why = belongs(examined.identity, path, volume.id)
    if why or examined.identity.file != row.file_id:
        return Mended(f"nothing is changed: {why or 'it says of itself that it is another file'}", remains=True)
    kept = ""
    if examined.closing is None:
        kept = _keep_rest(disk, path, examined)
        index.reopen(row.file_id)
    settled = finish(disk, path, examined, row.end_reason)
    made = row_of(volume.id, row.path, settled)
    run_id, gap_before, end_reason = holes.with_losses(row, made.run_id, made.gap_before, made.end_reason)
    index.put(replace(made, run_id=run_id, gap_before=gap_before, end_reason=end_reason))
    what = "its row is made anew from the file" if examined.closing else "its table and its row are made anew"
    return Mended(what + kept, {(row.key, row.run_id), (row.key, examined.identity.run)})


def _keep_rest(disk: Disk, path: Path, examined: Examined) -> str:
    """Copies the bytes behind the last whole fragment; where they are kept."""
    last = examined.entries[-1]
    at = last.offset + last.length
    if at >= examined.size:
        return ""
    beside = path.with_name(f"{path.name}.{at}{CUT}")
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = disk.create(beside)
        try:
            offset = 0
            while piece := os.pread(source, _COPY, at + offset):
                disk.write(target, [piece], offset)
                offset += len(piece)
            disk.sync(target)
        finally:
            disk.close(target)
    except FileExistsError:
        pass  # kept by an attempt that was cut short behind this
    finally:
        os.close(source)
    disk.sync_directory(path.parent)
    return f"; what stood behind its last whole fragment is kept in {beside.name}"
