"""Files lost in the middle of a run: what was recorded before and behind them are two runs, and the rows say why.

Nothing is written to the files that are left. They tell what is needed: a run has every place from 0 on, so where one
is missing between two that are there, a file is lost. (Rules delete from the beginning of a track, or of what a volume
has of it: the places before the first one that is there say nothing.) So the index comes to the same again when it is
made from the files.

The section behind the last hole keeps the id of the run, because that may be going on; each one before it gets an id
made of the run's and of the place of its own last file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from nvr.model.errors import StorageError
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey
from nvr.storage.rows import FilePlace, FileState, FootageIndex, TrackFileRow

Changed = set[tuple[TrackKey, str]]
"""Track and id of runs whose rows have changed."""

STEM = 24
"""Digits that the ids of all sections of a run have in common; the other eight are a place, or the run's own."""


def section_id(run_id: str, last_place: int) -> str:
    """Of a section in front of a hole; the same whichever section of the run is asked."""
    return f"{run_id[:STEM]}{last_place:08x}"


def is_section(run_id: str, of: str) -> bool:
    """Whether a row may have `run_id` where its file says that it belongs to the run `of`."""
    return run_id == of or (len(run_id) == STEM + 8 and run_id[:STEM] == of[:STEM])


def split(files: Iterable[FilePlace]) -> list[FilePlace]:
    """Of all files of a run, whatever sections they were in so far, those whose rows must say something else, as they
    must; by place. Files that have come back close their hole."""
    files = sorted(files, key=lambda file: (file.run_place, file.file_id))
    places = {file.run_place for file in files}
    # A run that was not split may have such a reason in its middle, and its file says so: a file closed by a recovery.
    was_split = len({file.run_id for file in files}) > 1
    sections: list[list[FilePlace]] = []
    for file in files:
        if not sections or file.run_place > sections[-1][-1].run_place + 1:
            sections.append([])
        sections[-1].append(file)
    changed = []
    for n, section in enumerate(sections):
        is_last = n == len(sections) - 1
        last_place = section[-1].run_place
        run_id = _kept_id(section, places) if is_last else section_id(section[0].run_id, last_place)
        for file in section:
            gap_before, end_reason = file.gap_before, file.end_reason
            if file.run_place - 1 in places:
                gap_before = None if was_split else gap_before
            elif n > 0:
                gap_before = GapReason.STORAGE
            if file.run_place + 1 in places:
                end_reason = None if was_split and end_reason is GapReason.STORAGE else end_reason
            elif not is_last:
                end_reason = end_reason or GapReason.STORAGE
            now = file._replace(run_id=run_id, gap_before=gap_before, end_reason=end_reason)
            if now != file:
                changed.append(now)
    return changed


def _kept_id(section: Sequence[FilePlace], places: Collection[int]) -> str:
    """That of the run, where a row has it; else the one that they have."""
    ids = sorted({file.run_id for file in section})
    given = {section_id(section[0].run_id, place) for place in places}
    return next((run_id for run_id in ids if run_id not in given), ids[0])


def forget_lost(index: FootageIndex, lost: TrackFileRow) -> Changed:
    """The row of a file that is lost goes, and what it leaves says so; one transaction. Which runs have changed.

    Raises StorageError, also where it has to wait for the recovery of another file.
    """
    files = [file for file in _files_of(index, lost.key, lost.run_id) if file.file_id != lost.file_id]
    changed = {file.file_id: file for file in split(files)}
    # At either end of the run the places do not tell.
    for file in [changed.get(file.file_id, file) for file in files]:
        if file.run_place == lost.run_place + 1:
            changed[file.file_id] = file._replace(gap_before=GapReason.STORAGE)
        elif file.run_place == lost.run_place - 1 and file.state is FileState.CLOSED:
            changed[file.file_id] = file._replace(end_reason=file.end_reason or GapReason.STORAGE)
    return {(lost.key, lost.run_id)} | _tell(index, lost.key, files, list(changed.values()), [lost.file_id])


def set_right(index: FootageIndex, key: TrackKey, run_id: str) -> Changed:
    """The rows of a run say where files of it are missing, and only there. Which runs have changed.

    Raises StorageError, also where it has to wait for the recovery of a file.
    """
    files = _files_of(index, key, run_id)
    return _tell(index, key, files, split(files), ())


def rejoin(index: FootageIndex, key: TrackKey, run_id: str) -> Changed:
    """A file of a run has come back: as `set_right`, where the run has been split."""
    files = _files_of(index, key, run_id)
    return _tell(index, key, files, split(files), ()) if len({file.run_id for file in files}) > 1 else set()


def split_all(index: FootageIndex) -> int:
    """`set_right` for every run; how many were not. For an index that has been made from the files. Raises
    StorageError."""
    found = 0
    for key in index.all_runs():
        runs: dict[str, list[FilePlace]] = {}
        for file in index.places(key):
            runs.setdefault(file.run_id[:STEM], []).append(file)
        for files in runs.values():
            found += bool(_tell(index, key, files, split(files), ()))
    return found


def with_losses(
    known: TrackFileRow, run_id: str, gap_before: GapReason | None, end_reason: GapReason | None
) -> tuple[str, GapReason | None, GapReason | None]:
    """What a file says of its run, with what its row knows besides of files that are lost beside it."""
    if is_section(known.run_id, run_id):
        run_id = known.run_id
    if gap_before is None and known.run_place > 0 and known.gap_before is GapReason.STORAGE:
        gap_before = GapReason.STORAGE
    if end_reason is None and known.end_reason is GapReason.STORAGE:
        end_reason = GapReason.STORAGE
    return run_id, gap_before, end_reason


def _files_of(index: FootageIndex, key: TrackKey, run_id: str) -> list[FilePlace]:
    """Those of all sections of a run."""
    return [file for file in index.places(key, run_id[:STEM]) if is_section(file.run_id, run_id)]


def _tell(
    index: FootageIndex,
    key: TrackKey,
    before: Iterable[FilePlace],
    changed: Sequence[FilePlace],
    without: Sequence[str],
) -> Changed:
    was = {file.file_id: file.run_id for file in before}
    for file in changed:
        if file.state is FileState.OPEN and file.run_id != was[file.file_id]:
            # The writer, or the recovery, knows it by the id that it has.
            row = index.file(file.file_id)
            what = row.path if row is not None else file.file_id
            raise StorageError(f"{what}, of the same run, is not closed yet: try again when it has been recovered")
    if changed or without:
        index.tell_places(changed, without)
    return {(key, run_id) for file in changed for run_id in (file.run_id, was[file.file_id])}
