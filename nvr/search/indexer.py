"""Reads the metadata tracks behind the writer, and puts what cameras have told into the index of camera events.

It follows the footage on the disk, not the stream: ingest and writers know nothing of it, and after a crash, or with an
index that has been lost, it goes on where the index ends. A document that cannot be read is counted, and told once a
file. Footage that goes takes its events with it.

Belongs to the event loop; reading, parsing and SQL are done on one thread after the other, never on two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from nvr.media import onvif_metadata
from nvr.media.onvif_metadata import MetadataContent
from nvr.media.unit import CodecConfiguration
from nvr.model.errors import FormatError, StorageError
from nvr.model.recording import TrackType
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.event_rows import Documents, IndexedFile
from nvr.storage.footage import Footage
from nvr.storage.pace import Pace
from nvr.storage.rows import FileState, FragmentRef, TrackFileRow

log = logging.getLogger(__name__)

PAUSE_S = 0.5
"""So long after a fragment the next round begins: what comes meanwhile shares its transaction."""
REACH_S = 1.0
"""So long a search waits for the index at most."""
_BATCH = 500
"""Documents of one transaction."""
_PAGE = 64
_BEFORE_ALL_NS, _BEHIND_ALL_NS = -(1 << 62), 1 << 62


class Storage(Protocol):
    """`nvr.storage.engine`."""

    def tracks(self) -> list[TrackKey]: ...
    def on_append(self, key: TrackKey, callback: Callable[[FragmentRef], None]) -> Callable[[], None]: ...
    def configuration(self, key: TrackKey) -> CodecConfiguration | None: ...
    def footage(self, key: TrackKey) -> Footage: ...
    async def settled(self) -> None:
        """What a daemon that died has left behind has been examined."""


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


class Index(Protocol):
    """`nvr.storage.events.EventIndex`."""

    def check(self) -> None: ...
    def tracks(self) -> list[TrackKey]: ...
    def indexed(self, file_ids: Sequence[str]) -> dict[str, IndexedFile]: ...
    def files(
        self, key: TrackKey, after: tuple[UtcNs, int] | None = None, limit: int = 500
    ) -> list[tuple[str, tuple[UtcNs, int]]]: ...
    def add(self, documents: Documents) -> None: ...
    def forget(self, file_ids: Sequence[str]) -> None: ...


class MetadataIndexer:
    """`run` works until it is cancelled; everything else only tells it what to look at."""

    def __init__(self, storage: Storage, files: Files, index: Index) -> None:
        self.unreadable = 0
        """Documents and fragments that could not be read, since the start."""
        self.indexed = 0
        """Documents that have been read."""
        self._storage = storage
        self._files = files
        self._index = index
        self._behind: set[TrackKey] = set()
        """Tracks with footage that may not have been read."""
        self._trimmed: dict[TrackKey, UtcNs] = {}
        """Tracks of which footage has gone, and before which instant."""
        self._at_work: set[TrackKey] = set()
        self._watched: dict[TrackKey, Callable[[], None]] = {}
        self._from: dict[TrackKey, UtcNs] = {}
        """Start of the first file that is not read to its end."""
        self._wake = asyncio.Event()
        self._pace = Pace()
        self._hurry = asyncio.Event()
        self._read_one = asyncio.Event()
        """Set when a track has been read, and then replaced."""

    @property
    def lag(self) -> int:
        """Tracks that are to be read, or are being read, or of which footage has gone."""
        return len(self._behind | self._trimmed.keys() | self._at_work)

    # As a watcher of storage

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
        """The first fragment of a run is on the disk; the subscription is told of it next."""
        if key not in self._watched:
            self._watched[key] = self._storage.on_append(key, lambda ref: self._appended(key, ref))

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None:
        """Its last file is closed: it can be read to its end."""
        if key in self._from:
            self._behind.add(key)
            self._wake.set()

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        self._trimmed[key] = max(end_ns, self._trimmed.get(key, end_ns))
        self._wake.set()

    def _appended(self, key: TrackKey, ref: FragmentRef) -> None:
        if ref.configuration.track_type is TrackType.METADATA:
            self._behind.add(key)
            self._wake.set()

    async def run(self) -> None:
        """First what was recorded before the start, then what comes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_at_everything())
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self.catch_up()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), PAUSE_S)
                self._hurry.clear()

    async def reach(self) -> None:
        """Until what is on the disk now has been read, and `REACH_S` at most: somebody searches there."""
        wanted = self._behind | self._at_work
        with suppress(TimeoutError):
            async with asyncio.timeout(REACH_S):
                while wanted := wanted & (self._behind | self._at_work):
                    self._hurry.set()
                    await self._read_one.wait()

    async def _look_at_everything(self) -> None:
        self._from_the_beginning()
        await asyncio.to_thread(self._index.check)
        await self._storage.settled()  # files that were being written when the daemon before this one died
        self._from_the_beginning()

    def _from_the_beginning(self) -> None:
        for key in self._storage.tracks():
            configuration = self._storage.configuration(key)
            if configuration is not None and configuration.track_type is TrackType.METADATA:
                self._from.pop(key, None)
                self._behind.add(key)
        self._trimmed.update(dict.fromkeys(self._index.tracks(), _BEHIND_ALL_NS))
        self._wake.set()

    async def catch_up(self) -> None:
        """One round over everything that has been told."""
        for key in sorted(self._trimmed):
            await self._attempt(partial(self._trim, until_ns=self._trimmed.pop(key)), key)
        for key in sorted(self._behind):
            self._behind.discard(key)
            await self._attempt(self._read, key)

    async def _attempt(self, work: Callable[[TrackKey], None], key: TrackKey) -> None:
        """A fault costs a track its turn: its next fragment brings it back."""
        self._at_work.add(key)
        try:
            await asyncio.to_thread(work, key)
        except StorageError as e:
            log.error("the metadata of %s is not indexed for now: %s", key, e)
        except Exception:
            log.exception("the metadata of %s is not indexed for now", key)
        finally:
            self._at_work.discard(key)
            self._read_one.set()
            self._read_one = asyncio.Event()

    # On a thread

    def _trim(self, key: TrackKey, until_ns: UtcNs) -> None:
        """Forgets the files of a track that began before an instant and are not in the index of footage any more."""
        after: tuple[UtcNs, int] | None = None
        while (page := self._index.files(key, after)) and (after is None or after[0] <= until_ns):
            ids = [file_id for file_id, _ in page]
            known = self._files.known(ids)
            self._index.forget([file_id for file_id in ids if file_id not in known])
            after = page[-1][1]
        self._from.pop(key, None)

    def _read(self, key: TrackKey) -> None:
        """Reads what has not been read, file after file, the oldest first."""
        footage = self._storage.footage(key)
        after: tuple[UtcNs, str] | None = None
        first_open: UtcNs | None = None
        from_ns = self._from.get(key, _BEFORE_ALL_NS)
        while page := self._files.files(key, from_ns, after=after, limit=_PAGE):
            states = self._index.indexed([row.file_id for row in page])
            for row in page:
                state = states.get(row.file_id) or IndexedFile(row.file_id, 0, False)
                if not state.done and not self._read_file(footage, row, state) and first_open is None:
                    first_open = row.start_ns
            after = (page[-1].start_ns, page[-1].file_id)
            self._from[key] = first_open if first_open is not None else page[-1].start_ns

    def _read_file(self, footage: Footage, row: TrackFileRow, state: IndexedFile) -> bool:
        """Whether the file has been read to its end, which only a closed one has."""
        upto = state.upto
        contents: list[tuple[UtcNs, MetadataContent]] = []
        bad = 0
        for ref in footage.of_file(row):
            if ref.offset < state.upto:
                continue
            bad += self._read_fragment(footage, ref, contents)
            upto = ref.offset + ref.length
            if len(contents) >= _BATCH:
                self._add(row, upto, False, contents)
                contents = []
        if bad:
            self.unreadable += bad
            log.warning("%s: %d documents of %s cannot be read", row.key, bad, row.path)
        done = row.state is FileState.CLOSED
        if contents or done or upto != state.upto:
            self._add(row, upto, done, contents)
        return done

    def _read_fragment(self, footage: Footage, ref: FragmentRef, contents: list[tuple[UtcNs, MetadataContent]]) -> int:
        """How many documents could not be read."""
        bad = 0
        try:
            samples = footage.read(ref)
        except StorageError as e:
            log.error("%s: %s", footage.key, e)
            return 1
        for sample in samples:
            self._pace.keep()
            try:
                content = onvif_metadata.read(sample.data, sample.utc_ns)
            except FormatError as e:
                log.debug("%s at %d: %s", footage.key, sample.utc_ns, e)
                bad += 1
                continue
            bad += content.left_out
            contents.append((sample.utc_ns, content))
        return bad

    def _add(self, row: TrackFileRow, upto: int, done: bool, contents: Iterable[tuple[UtcNs, MetadataContent]]) -> None:
        told = tuple(contents)
        self._index.add(Documents(row.key, row.file_id, row.start_ns, upto, done, told))
        self.indexed += len(told)
