"""Reads the files of metadata tracks into the index of camera events. Blocking, on one thread at a time.

A track is read at two places. At its edge stands what is being recorded: it is read behind each fragment. What is
older is compared with the index once, the newest files first, a slice at a time, so that tracks take turns. A file that
cannot be read now is passed over and its place is kept; what is damaged in a file is left out, and the rest is read.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from nvr.media import onvif_metadata
from nvr.media.codecs.metadata import GzipMetadataConfiguration, MetadataConfiguration
from nvr.media.onvif_metadata import ANY_WORD, MetadataContent
from nvr.model.errors import FormatError, StorageError
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.event_rows import Documents, IndexedFile
from nvr.storage.footage import Footage, WholeFile
from nvr.storage.pace import Pace
from nvr.storage.rows import FileState, FootageDamaged, FragmentRef, TrackFileRow

log = logging.getLogger(__name__)

_BATCH = 500
"""Documents of one transaction, and of one slice."""
_PAGE = 64
_PAGES = 8
"""Pages of files that a slice compares, where there is nothing to be read."""
_TRIMMED = 16
"""Files that a slice forgets."""
_GIVE_UP = 3
"""So many files of a volume that cannot be read one after the other, and no more of it are tried for now; so many
attempts at one fragment, and it is taken for damaged."""
_REMEMBERED = 1024
_ENCODINGS = frozenset((MetadataConfiguration.encoding, GzipMetadataConfiguration.encoding))
BEFORE_ALL_NS, BEHIND_ALL_NS = -(1 << 62), 1 << 62


class Files(Protocol):
    """The index of footage (`nvr.storage.rows.FootageIndex`)."""

    def known(self, file_ids: Sequence[str]) -> set[str]: ...
    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: tuple[UtcNs, str] | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]: ...
    def files_before(self, key: TrackKey, before: tuple[UtcNs, str], *, limit: int = 64) -> list[TrackFileRow]: ...


class Index(Protocol):
    """`nvr.storage.events.EventIndex`."""

    @property
    def crowded(self) -> int: ...
    def check(self) -> None: ...
    def tracks(self) -> list[TrackKey]: ...
    def indexed(self, file_ids: Sequence[str]) -> dict[str, IndexedFile]: ...
    def files(
        self, key: TrackKey, after: tuple[UtcNs, int] | None = None, limit: int = 500
    ) -> list[tuple[str, tuple[UtcNs, int]]]: ...
    def add(self, documents: Documents) -> None: ...
    def forget(self, file_ids: Sequence[str]) -> None: ...


class Outcome(Enum):
    READ = auto()
    """To its end, or it has gone."""
    GROWS = auto()
    PART = auto()
    """More of it can be read at once."""
    MISSED = auto()
    """It cannot be read now."""


@dataclass(slots=True)
class TrackReading:
    """How far a track has been read. Files stand in the order of (start, id)."""

    key: TrackKey
    edge_ns: UtcNs | None = None
    """Files that start here or later are looked at behind each fragment; None before the first look."""
    older: tuple[UtcNs, str] | None = None
    """Files before this one are still to be compared with the index; None when none are."""
    down_to_ns: UtcNs = BEFORE_ALL_NS
    """Only those that start here or later."""
    missed: tuple[tuple[UtcNs, str], tuple[UtcNs, str]] | None = None
    """The first and the last file that could not be read."""
    tried: bool = False
    """Whether any of these is on a volume that is here, so that it is worth another attempt."""
    faults: Counter[str] = field(default_factory=Counter)
    """Files that could not be read one after the other, by volume."""

    def miss(self, row: TrackFileRow, tried: bool) -> None:
        place = (row.start_ns, row.file_id)
        first, last = self.missed or (place, place)
        self.missed = min(first, place), max(last, place)
        self.tried = self.tried or tried

    def again(self) -> bool:
        """What was missed is to be read once more. Whether there is any."""
        self.faults.clear()
        if self.missed is None:
            return False
        (first_ns, _), (last_ns, last_id) = self.missed
        below = first_ns if self.older is None else min(first_ns, self.down_to_ns)
        behind = (last_ns, f"{last_id}~")  # above the name of that file, and below all later ones
        self.older, self.down_to_ns = max(behind, self.older or behind), below
        self.missed, self.tried = None, False
        return True


@dataclass(slots=True)
class Trim:
    """Files of a track that are not in the index of footage any more are to be forgotten."""

    until_ns: UtcNs
    """Those that began up to here."""
    after: tuple[UtcNs, int] | None = None


class MetadataReader:
    """`look` is called often and raises when the thread shall stop: what has been committed stays."""

    def __init__(
        self, footage: Callable[[TrackKey], Footage], files: Files, index: Index, look: Callable[[], None]
    ) -> None:
        self.unreadable = 0
        """Documents, fragments and events that could not be read, since the start."""
        self.indexed = 0
        """Documents that have been read."""
        self.away: frozenset[str] = frozenset()
        """Volumes that nobody shall touch."""
        self.reading = ""
        """The volume that is being read, or was last."""
        self._footage = footage
        self._files = files
        self._index = index
        self._look = look
        self._pace = Pace()
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        """What has been told of which files."""
        self._attempts: OrderedDict[str, int] = OrderedDict()
        """At files of which a fragment cannot be read, though the file can be opened."""

    def read_edge(self, track: TrackReading, from_ns: UtcNs) -> int:
        """Reads what has been recorded from `from_ns` on and at the edge. Gives the number of its documents. Raises
        Stopped, StorageError."""
        before = self.indexed
        if track.edge_ns is None:
            newest = self._files.files_before(track.key, (BEHIND_ALL_NS, ""), limit=1)
            if not newest:
                return 0
            track.edge_ns = newest[0].start_ns
            track.older = (newest[0].start_ns, newest[0].file_id)
        after: tuple[UtcNs, str] | None = None
        growing: UtcNs | None = None
        last_ns, from_ns = track.edge_ns, min(from_ns, track.edge_ns)
        while page := self._files.files(track.key, from_ns, after=after, limit=_PAGE):
            for row, state in self._compared(page):
                outcome = Outcome.PART
                while outcome is Outcome.PART:
                    outcome = self._read_file(track, row, state)
                    state = self._index.indexed([row.file_id]).get(row.file_id, state)
                if outcome is Outcome.GROWS:
                    growing = min(row.start_ns, growing if growing is not None else row.start_ns)
            after = (page[-1].start_ns, page[-1].file_id)
            last_ns = max(last_ns, page[-1].start_ns)
        track.edge_ns = last_ns if growing is None else growing
        return self.indexed - before

    def read_older(self, track: TrackReading) -> int:
        """A slice of what is older than the edge. Gives the number of its documents. Raises Stopped, StorageError."""
        before = self.indexed
        for _ in range(_PAGES):
            if track.older is None:
                break
            page = self._files.files_before(track.key, track.older, limit=_PAGE)
            chosen = [row for row in page if row.start_ns >= track.down_to_ns]
            for row, state in self._compared(chosen):
                if self._read_file(track, row, state) is Outcome.PART:
                    return self.indexed - before
                track.older = (row.start_ns, row.file_id)
                if self.indexed - before >= _BATCH:
                    return self.indexed - before
            if len(chosen) < _PAGE:
                track.older, track.down_to_ns = None, BEFORE_ALL_NS
            else:
                track.older = (page[-1].start_ns, page[-1].file_id)
        return self.indexed - before

    def trim(self, key: TrackKey, trim: Trim) -> bool:
        """Forgets a slice of what has gone. Whether there is more. Raises Stopped, StorageError."""
        forgotten = 0
        while (page := self._index.files(key, trim.after)) and (trim.after is None or trim.after[0] <= trim.until_ns):
            known = self._files.known([file_id for file_id, _ in page])
            for file_id, place in page:
                self._look()
                if file_id not in known:
                    if forgotten == _TRIMMED:
                        return True
                    self._index.forget([file_id])
                    forgotten += 1
                trim.after = place
        return False

    def _compared(self, rows: Sequence[TrackFileRow]) -> list[tuple[TrackFileRow, IndexedFile]]:
        """Files of metadata that are not read to their end, with how far they are."""
        self._look()
        rows = [row for row in rows if row.encoding in _ENCODINGS]
        states = self._index.indexed([row.file_id for row in rows])
        known = [(row, states.get(row.file_id) or IndexedFile(row.file_id, 0, False)) for row in rows]
        return [(row, state) for row, state in known if not state.done]

    def _read_file(self, track: TrackReading, row: TrackFileRow, state: IndexedFile) -> Outcome:
        """Reads on, up to a slice."""
        self._look()
        if row.volume_id in self.away or track.faults[row.volume_id] >= _GIVE_UP:
            track.miss(row, tried=row.volume_id not in self.away)
            return Outcome.MISSED
        footage = self._footage(track.key)
        self.reading = row.volume_id
        try:
            file = footage.whole_file(row)
        except FootageDamaged as e:
            self._look()  # who has been left behind meanwhile tells and writes nothing
            self._leave_out(row, 1, e)
            self._add(row, state, state.upto, True, [], damaged=True)
            return Outcome.READ
        except StorageError as e:
            self._look()
            self._miss(track, row, e)
            return Outcome.MISSED
        if file.row is None:
            return Outcome.READ
        if file.row.state is FileState.OPEN and not file.growing:
            track.miss(row, tried=True)
            return Outcome.MISSED
        del track.faults[row.volume_id]
        return self._read_fragments(track, footage, file, state)

    def _read_fragments(self, track: TrackReading, footage: Footage, file: WholeFile, state: IndexedFile) -> Outcome:
        row, upto = file.row, state.upto
        assert row is not None
        contents: list[tuple[UtcNs, MetadataContent]] = []
        outcome, damaged, samples = Outcome.GROWS if file.growing else Outcome.READ, 0, 0
        for ref in file.refs:
            self._look()
            samples += ref.samples
            if ref.offset < state.upto:
                continue
            try:
                self._read_fragment(footage, ref, row, contents)
            except StorageError as e:
                self._look()
                if not isinstance(e, FootageDamaged) and not self._tried_enough(row):
                    self._miss(track, row, e)
                    outcome = Outcome.MISSED
                    break
                self._leave_out(row, 1, e)
                damaged += 1
            upto = ref.offset + ref.length
            if len(contents) >= _BATCH:
                outcome = Outcome.PART
                break
        if outcome is Outcome.READ and samples < row.samples:
            # Its table is lost, and so are some of the fragments that were found by walking.
            self._leave_out(row, row.samples - samples, "they are not where they were written")
            damaged += 1
        done = outcome is Outcome.READ
        self._look()  # who has been left behind writes nothing: another may have read this meanwhile
        if done or contents or upto != state.upto:
            self._add(row, state, upto, done, contents, damaged=damaged > 0)
        return outcome

    def _read_fragment(
        self, footage: Footage, ref: FragmentRef, row: TrackFileRow, contents: list[tuple[UtcNs, MetadataContent]]
    ) -> None:
        for sample in footage.read(ref):
            self._pace.keep()
            try:
                content = onvif_metadata.read(sample.data, sample.utc_ns)
            except FormatError as e:
                self._leave_out(row, 1, f"that of {sample.utc_ns}: {e}")
                continue
            if content.left_out:
                self._leave_out(row, content.left_out, "events without topic or message, or too many")
            contents.append((sample.utc_ns, content))

    def _miss(self, track: TrackReading, row: TrackFileRow, error: StorageError) -> None:
        track.miss(row, tried=True)
        track.faults[row.volume_id] += 1
        if self._is_new("missed", row):
            log.error("the metadata of %s is not indexed for now: %s", row.key, error)

    def _leave_out(self, row: TrackFileRow, number: int, why: object) -> None:
        """Told once a file: a camera that sends nonsense sends it every second."""
        self.unreadable += number
        if self._is_new("left out", row):
            log.warning("%s: documents or events of %s cannot be read, and are left out: %s", row.key, row.path, why)

    def _is_new(self, what: str, row: TrackFileRow) -> bool:
        new = (what, row.file_id) not in self._told
        self._told[what, row.file_id] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return new

    def _tried_enough(self, row: TrackFileRow) -> bool:
        attempts = self._attempts.pop(row.file_id, 0) + 1
        if attempts >= _GIVE_UP:
            return True  # of the next fragments that cannot be read each has its attempts again
        self._attempts[row.file_id] = attempts
        if len(self._attempts) > _REMEMBERED:
            self._attempts.popitem(last=False)
        return False

    def _add(
        self,
        row: TrackFileRow,
        state: IndexedFile,
        upto: int,
        done: bool,
        contents: list[tuple[UtcNs, MetadataContent]],
        *,
        damaged: bool = False,
    ) -> None:
        told = list(contents)
        if damaged:  # nobody knows its words: a search has to look into it, where it has been mended meanwhile
            told.append((row.start_ns, MetadataContent(words=frozenset({ANY_WORD}))))
        self._index.add(Documents(row.key, row.file_id, row.start_ns, upto, done, tuple(told), state.upto))
        self.indexed += len(contents)
