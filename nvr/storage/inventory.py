"""Names against rows: which files of a volume have no row, and which rows have no file.

Directories are read and nothing else, one day of one track at a time, the newest days first: behind a power cut the
rows that are missing are the newest ones.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from nvr.model.time import UtcNs, datetime_from_utc, utc_from_datetime
from nvr.model.timeline import Run
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.rows import FileState, FootageIndex
from nvr.storage.settling import file_id_of
from nvr.storage.track_file import FOOTAGE, SUFFIX
from nvr.storage.volume import IDENTITY_FILE, Volume

DAY = "%Y%m%d"


class Day(NamedTuple):
    """A day's directory of a track, there or not; days sort by time."""

    name: str
    key: TrackKey

    @property
    def path(self) -> str:
        """Relative to the root of the volume."""
        return f"{FOOTAGE}/{self.key.recording}/{self.key.track}/{self.name}"

    def bounds(self) -> tuple[UtcNs, UtcNs]:
        """The day in UTC. Raises ValueError for a directory that is not named after a day."""
        start = datetime.strptime(self.name, DAY).replace(tzinfo=UTC)
        return utc_from_datetime(start), utc_from_datetime(start + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Difference:
    """What one day's directory holds that the index does not know, and the other way round."""

    day: Day
    strays: tuple[Path, ...]
    """Track files without a row."""
    elsewhere: tuple[Path, ...]
    """Track files whose id has a row of another day, and those of one directory that have the same id."""
    others: tuple[Path, ...]
    """Files that are no track files by their name."""
    missing: tuple[str, ...]
    """Ids of CLOSED rows without a file."""
    files: int
    """Track files in the directory."""


def days_of(volume: Volume, index: FootageIndex, recordings: Collection[RecordingToken] | None = None) -> list[Day]:
    """Every day of which the volume has a directory or the index a run, the newest first."""
    days = set(_days_on_disk(volume))
    for key, runs in index.all_runs().items():
        days.update(Day(name, key) for run in runs for name in _days_of_run(run))
    if recordings is not None:
        days = {d for d in days if d.key.recording in recordings}
    return sorted(days, reverse=True)


def difference(volume: Volume, index: FootageIndex, day: Day) -> Difference:
    """Reads one directory. Raises OSError, StorageError; a directory that is not there is empty.

    Where footage is recorded or deleted meanwhile, what is told has to be looked at once more before it is believed.
    """
    assert volume.id is not None
    there: dict[str, Path] = {}
    others, twice = [], []
    try:
        with os.scandir(volume.path(day.path)) as entries:
            for path in (volume.path(f"{day.path}/{entry.name}") for entry in entries):
                if not path.name.endswith(SUFFIX):
                    others.append(path)
                elif (first := there.setdefault(file_id_of(path), path)) is not path:
                    twice += [first, path]
    except FileNotFoundError:
        pass
    try:
        rows = index.started_in(day.key, volume.id, *day.bounds())
    except ValueError:
        rows = {}
    unknown = sorted(there.keys() - rows.keys())
    known: set[str] = set()
    for i in range(0, len(unknown), 500):
        known |= index.known(unknown[i : i + 500])
    missing = sorted(i for i, state in rows.items() if state is FileState.CLOSED and i not in there)
    return Difference(
        day,
        strays=tuple(there[i] for i in unknown if i not in known),
        elsewhere=(*(there[i] for i in sorted(known)), *twice),
        others=tuple(others),
        missing=tuple(missing),
        files=len(there),
    )


def strangers(volume: Volume) -> Iterator[Path]:
    """What stands above the directories of days and is none of ours. Raises OSError."""
    ours = {IDENTITY_FILE, FOOTAGE, "lost+found"}
    for path in sorted(volume.root.iterdir()):
        snapshot = path.name.startswith("configuration.") and path.name.endswith(".json")
        if path.name not in ours and not snapshot and not path.name.startswith("."):
            yield path
    footage = volume.path(FOOTAGE)
    for directory in (footage, *_directories(footage), *(t for r in _directories(footage) for t in _directories(r))):
        if directory.is_dir():  # it may be deleted meanwhile
            yield from sorted(path for path in directory.iterdir() if not path.is_dir())


def is_missing(volume: Volume, index: FootageIndex, file_id: str) -> bool:
    """Whether a CLOSED row has no file, looked at now. Raises StorageError."""
    row = index.file(file_id)
    return row is not None and row.state is FileState.CLOSED and not volume.path(row.path).exists()


def _days_on_disk(volume: Volume) -> Iterator[Day]:
    for recording in _directories(volume.path(FOOTAGE)):
        for track in _directories(recording):
            key = TrackKey(RecordingToken(recording.name), TrackToken(track.name))
            yield from (Day(day.name, key) for day in _directories(track))


def _directories(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_dir())


def _days_of_run(run: Run) -> Iterator[str]:
    day, last = datetime_from_utc(run.start_ns), datetime_from_utc(run.end_ns)
    while day.date() <= last.date():
        yield day.strftime(DAY)
        day += timedelta(days=1)
