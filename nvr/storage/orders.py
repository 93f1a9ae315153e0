"""What passes between the event loop and the writer threads: growing files, orders to a writer, events from it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from nvr.media.bmff.fragment import FragmentEntry
from nvr.media.unit import CodecConfiguration, Fragment
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import TrackKey
from nvr.storage.findings import Repair
from nvr.storage.mending import Mended
from nvr.storage.rows import FragmentRef, TrackFileRow
from nvr.storage.settling import Examined
from nvr.storage.volume import Volume


@dataclass(slots=True, eq=False)
class GrowingFile:
    """A file between the decision to make it and its close. Made on the loop; the writer fills `entries`, readers on
    other threads walk them. `failed` once it takes no more fragments because of an error."""

    row: TrackFileRow
    configuration: CodecConfiguration
    previous: TrackFileRow | None = None
    """The file before it in its run."""
    entries: list[FragmentEntry] = field(default_factory=list)
    failed: bool = False
    abandoned: bool = False
    """Its footage has been deleted while its volume hung: nothing of it is written, told or closed any more."""

    def ref(self, entry: FragmentEntry) -> FragmentRef:
        return fragment_ref(self.row, entry, self.configuration, first_of_file=entry is self.entries[0])


def fragment_ref(
    row: TrackFileRow, entry: FragmentEntry, configuration: CodecConfiguration, *, first_of_file: bool
) -> FragmentRef:
    return FragmentRef(
        file_id=row.file_id,
        offset=entry.offset,
        length=entry.length,
        start_ns=entry.start_ns,
        end_ns=entry.end_ns,
        clean_point=entry.clean_point,
        samples=entry.samples,
        run_id=row.run_id,
        configuration=configuration,
        first_of_run=first_of_file and row.run_place == 0,
        damaged=entry.damaged,
        volume_id=row.volume_id,
        path=row.path,
    )


@dataclass(frozen=True, slots=True)
class Append:
    file: GrowingFile
    fragment: Fragment
    damaged_start: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    file: GrowingFile
    end_reason: GapReason | None


@dataclass(frozen=True, slots=True)
class CorrectEnd:
    """The run ended with this closed file, for this reason: the next one of the run could not be made, or something was
    wanted behind it after all and is missing. File and row shall say so."""

    file_id: str
    end_reason: GapReason


@dataclass(slots=True, eq=False)
class Delete:
    """All files of a track on this volume."""

    key: TrackKey
    hidden: bool = False
    """They have their tombstones already: the volume hung when they were to be deleted."""


@dataclass(frozen=True, slots=True, eq=False)
class Unlink:
    """Files of this volume that have tombstones."""

    rows: Sequence[TrackFileRow]


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    """Done when everything queued before it is done."""


@dataclass(frozen=True, slots=True, eq=False)
class Settle:
    """A file that was left open has been examined: close it. `examined` None: it holds no whole fragment."""

    row: TrackFileRow
    examined: Examined | None
    done: threading.Event = field(default_factory=threading.Event)
    """Set when the writer has done it, or cannot, and behind the event that tells so."""


@dataclass(frozen=True, slots=True, eq=False)
class Adopt:
    """Files that have no row, by their path."""

    found: Sequence[tuple[Path, Examined]]
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class Mend:
    """What `nvr check` has found and an operator wants mended; `mended` says what was done when it is done."""

    repair: Repair
    examined: Examined | None
    mended: Mended = field(default_factory=lambda: Mended("nothing is changed", remains=True))


Order: TypeAlias = Append | Close | CorrectEnd | Delete | Unlink | Barrier | Settle | Adopt | Mend


@dataclass(frozen=True, slots=True)
class Appended:
    file: GrowingFile
    entry: FragmentEntry


@dataclass(frozen=True, slots=True)
class Closed:
    file: GrowingFile
    end_reason: GapReason | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The file takes no more fragments: its run ended with reason STORAGE."""

    file: GrowingFile
    cause: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A fragment was accepted and could not be written."""

    file: GrowingFile
    fragment_ns: UtcNs


@dataclass(frozen=True, slots=True)
class Done:
    """The order has been done. With an error, the index still shows footage of a track that was to be deleted."""

    order: Delete | Unlink | Barrier | Mend
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """Files were settled: what the closed files of the runs they belong to come to now, None where there is none; and
    where the first of their files that can be read and are not closed starts, for a run may be going on."""

    runs: list[tuple[TrackKey, str, Run | None, UtcNs | None]]


@dataclass(frozen=True, slots=True)
class VolumeChanged:
    """The volume has another state, which may be yet another by now."""

    volume: Volume


Event: TypeAlias = Appended | Closed | Failed | Lost | Done | Recovered | VolumeChanged
