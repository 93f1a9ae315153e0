"""What the index of footage keeps, and the protocol by which storage speaks to it.

One row per track file, none per fragment. Rows can be made again from the files alone, so the index is never the only
place where a fact stands. The implementation on SQL is `nvr/storage/index.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from nvr.media.unit import CodecConfiguration
from nvr.model.errors import StorageError
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.findings import Damage

REACHING_OVER = 4
"""Of the files of a run, which follow one another, so many are looked at for one that reaches over an instant: where
pictures are reordered a file ends a little behind the start of the next one."""


class FileState(StrEnum):
    """State of a track file in the index. Values stand in the database and are stable."""

    OPEN = "open"
    """Being written, or left behind by a daemon that died."""
    CLOSED = "closed"
    DELETING = "deleting"
    """Tombstone: not shown any more; the file may or may not still be there."""


@dataclass(frozen=True, slots=True)
class TrackFileRow:
    """One track file. Times are UTC nanoseconds, sizes bytes."""

    file_id: str
    """32 hex digits, unique across nodes."""
    volume_id: str
    recording: RecordingToken
    track: TrackToken
    run_id: str
    """32 hex digits; the same in all files of one uninterrupted section. Where files of a run are lost, not what the
    files say: see `nvr.storage.holes`."""
    run_place: int
    """Place of the file in its run, from 0."""
    path: str
    """Relative to the root of the volume, with `/`."""
    start_ns: UtcNs
    end_ns: UtcNs
    """Exclusive. Equal to `start_ns` while the file is open: what it holds then, the writer knows."""
    state: FileState
    encoding: str
    """RTP encoding name in upper case."""
    size: int = 0
    samples: int = 0
    lost_packets: int = 0
    dropped_units: int = 0
    gap_before: GapReason | None = None
    """Why nothing was recorded before this file; only of the first file of a run. None when it is the first of its
    track, unless something before it is known to be lost."""
    end_reason: GapReason | None = None
    """Why the run ended with this file; None while it is open and when the next file of the run follows."""

    @property
    def key(self) -> TrackKey:
        return TrackKey(self.recording, self.track)


class FilePlace(NamedTuple):
    """What a row says of the place of its file in a run: see `TrackFileRow`."""

    file_id: str
    run_id: str
    run_place: int
    state: FileState
    gap_before: GapReason | None
    end_reason: GapReason | None


def place_of(row: TrackFileRow) -> FilePlace:
    return FilePlace(row.file_id, row.run_id, row.run_place, row.state, row.gap_before, row.end_reason)


class FootageIndex(Protocol):
    """The index of footage. Blocking, and safe to call from several threads; never called on the event loop.

    Errors are StorageError; DatabaseUnavailable where trying again later may help. Rows in state DELETING are shown by
    `deleting_files` and `file` only.
    """

    def insert_open(self, row: TrackFileRow) -> None:
        """A new row in state OPEN, committed before the file is made."""

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
        """OPEN to CLOSED, with the figures of the whole file. On a CLOSED row the figures are replaced."""

    def reopen(self, file_id: str) -> None:
        """CLOSED to OPEN, before a closed file is changed: recovery looks at it until it is closed again."""

    def forget(self, file_ids: Sequence[str]) -> None:
        """Rows gone, whatever their state; unknown ids are no error. One transaction."""

    def mark_deleting(self, file_ids: Sequence[str]) -> None:
        """Tombstones, one transaction, on the disk when this returns; unknown ids are no error."""

    def open_files(self, volume_id: str) -> list[TrackFileRow]:
        """Rows in state OPEN."""

    def deleting_files(self, volume_id: str) -> list[TrackFileRow]:
        """Rows in state DELETING."""

    def file(self, file_id: str) -> TrackFileRow | None:
        """The row with this id, in any state."""

    def known(self, file_ids: Sequence[str]) -> set[str]:
        """Those of the ids that have a row in any state. At most a few hundred ids at once."""

    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: tuple[UtcNs, str] | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]:
        """OPEN and CLOSED rows of a track that touch [from_ns, until_ns), ordered by (start_ns, file_id).

        A CLOSED row touches when end_ns > from_ns or start_ns >= from_ns, an OPEN one whatever its end_ns; either
        must start before `until_ns`. `after` is the (start_ns, file_id) of the last row of the page before.
        """

    def files_before(
        self, key: TrackKey, before: tuple[UtcNs, str], *, run_id: str | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        """OPEN and CLOSED rows of a track, or of one of its runs, whose (start_ns, file_id) is less than `before`, the
        greatest first.

        The last row of a page gives the `before` of the next one; (instant, "") asks for all that start before it.
        """

    def files_of_run(
        self, key: TrackKey, run_id: str, from_ns: UtcNs, *, after: tuple[UtcNs, str] | None = None, limit: int = 64
    ) -> list[TrackFileRow]:
        """OPEN and CLOSED rows of one run, ordered by (start_ns, file_id), from the `REACHING_OVER`-th last on that
        starts at or before `from_ns`; with `after`, the last row of the page before, those behind it.

        It costs the same wherever the instant lies, and however many files the run and the others have.
        """

    def newest(self, key: TrackKey) -> TrackFileRow | None:
        """The OPEN or CLOSED row with the greatest (start_ns, file_id)."""

    def runs(self, key: TrackKey) -> list[Run]:
        """The runs that CLOSED rows make up, ascending: from the least start_ns to the greatest end_ns of each run_id;
        the end reason is that of its last file (greatest run_place). Where that is None, it is the `gap_before` of the
        run that follows, else UNKNOWN: a run that is in the index only is not being recorded."""

    def all_runs(self) -> dict[TrackKey, list[Run]]:
        """What `runs` gives, of every track that has any."""

    def oldest(self, volume_id: str, *, after: tuple[UtcNs, str] | None = None, limit: int = 64) -> list[TrackFileRow]:
        """CLOSED rows of a volume, of all tracks, ordered by (start_ns, file_id); `after` as in `files`."""

    def recording_bytes(self, recording: RecordingToken) -> int:
        """The sizes of the CLOSED rows of a recording together."""

    def volume_bytes(self, volume_id: str) -> int:
        """The sizes of all rows of a volume together, those of files that are still to be unlinked included."""

    def started_in(self, key: TrackKey, volume_id: str, from_ns: UtcNs, until_ns: UtcNs) -> dict[str, FileState]:
        """Ids and states of all rows of a track on a volume whose files start in [from_ns, until_ns)."""

    def put(self, row: TrackFileRow) -> None:
        """This row instead of the one with its id, or a new one."""

    def places(self, key: TrackKey, stem: str = "") -> list[FilePlace]:
        """OPEN and CLOSED files of a track whose run ids begin with `stem`, in no order. One pass over an index."""

    def tell_places(self, places: Sequence[FilePlace], without: Sequence[str] = ()) -> None:
        """These files are in the runs that are named here, and have these reasons; their rows stay as they are
        otherwise. The rows `without` go, as by `forget`. One transaction; StorageError, and nothing is changed, where
        one of the files has another state by now."""

    def known_damage(self, file_id: str) -> set[Damage]:
        """What is known to be damaged in a file."""

    def know_damage(self, found: Sequence[Damage]) -> None:
        """Damage is known from now on; what is known already is no error. `forget` forgets that of its files."""

    def replace_volume(self, volume_id: str, rows: Sequence[TrackFileRow]) -> None:
        """All rows of a volume replaced by these, in one transaction (`nvr catalog rebuild`)."""


@dataclass(frozen=True, slots=True)
class FragmentRef:
    """Where one fragment stands: enough to plan a replay without reading it, and to read it."""

    file_id: str
    offset: int
    """Of its first byte (the fragment box) in the file."""
    length: int
    """Bytes of fragment box, prft, moof and mdat."""
    start_ns: UtcNs
    """Least time of presentation in it."""
    end_ns: UtcNs
    clean_point: bool
    """Decoding can start with its first sample."""
    samples: int
    run_id: str
    configuration: CodecConfiguration
    first_of_run: bool
    """Nothing of the same run stands before it."""
    damaged: bool = False
    """Some of its samples follow a loss without a clean point between."""
    volume_id: str = ""
    path: str = ""
    """Of the file, relative to the root of its volume."""


class FootageDamaged(StorageError):
    """A fragment whose bytes do not match its checksum; carries file and offset."""
