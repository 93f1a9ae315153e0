"""Follows the metadata tracks behind the writer, and has what cameras have told put into the index of camera events.

It follows the footage on the disk, not the stream: ingest and writers know nothing of it, and after a crash, or with an
index that has been lost, it goes on where the index ends. What is being recorded comes first; older footage is read
beside it, the newest first, all tracks in turn. What cannot be read now is tried again later, and when its volume is
back. Footage that goes takes its events with it.

Belongs to the event loop; reading, parsing and SQL (`nvr.search.reading`) are done on a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from nvr.media.unit import CodecConfiguration
from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.time import UtcNs, format_iso
from nvr.model.tokens import TrackKey
from nvr.model.waiting import come
from nvr.search.own_thread import OwnThread, Stopped
from nvr.search.reading import BEHIND_ALL_NS, Files, Index, MetadataReader, TrackReading, Trim
from nvr.storage.footage import Footage
from nvr.storage.rows import FragmentRef
from nvr.storage.volume import VolumeState, VolumeStatus

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_S = 0.5
"""So long after a fragment the next round begins: what comes meanwhile shares its transaction."""
REACH_S = 1.0
"""So long a search waits for the index at most."""
STOP_S = 5.0
"""So long a stop waits for the thread."""
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 600.0
_TOLD_EVERY_S = 60.0
_READABLE = frozenset((VolumeState.ONLINE, VolumeState.FULL, VolumeState.READ_ONLY, VolumeState.FAILED))
"""A volume in another state is left alone: there is nothing, or it does not answer."""


class Storage(Protocol):
    """`nvr.storage.engine`."""

    def tracks(self) -> list[TrackKey]: ...
    def on_append(self, key: TrackKey, callback: Callable[[FragmentRef], None]) -> Callable[[], None]: ...
    def configuration(self, key: TrackKey) -> CodecConfiguration | None: ...
    def footage(self, key: TrackKey) -> Footage: ...
    def volumes(self) -> Sequence[VolumeStatus]: ...
    async def settled(self) -> None:
        """What a daemon that died has left behind has been examined."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """What the index does not hold yet."""

    older: int
    """Tracks whose older footage is still being compared or read."""
    missed: int
    """Tracks with files that cannot be read for now."""
    from_ns: UtcNs | None
    """All that was recorded from here on has been looked at; None when everything has been."""


@dataclass(slots=True)
class _Retry:
    failures: int
    at_s: float
    whole_track: bool
    """Nothing of the track is read before that."""


class MetadataIndexer:
    """`run` works until it is cancelled; everything else only tells it what to look at. `monotonic` is in seconds."""

    def __init__(
        self, storage: Storage, files: Files, index: Index, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._index = index
        self._monotonic = monotonic
        self._thread = OwnThread("metadata index")
        self._reader = MetadataReader(storage.footage, files, index, self._thread.look)
        self._tracks: dict[TrackKey, TrackReading] = {}
        self._behind: dict[TrackKey, UtcNs] = {}
        """Tracks with new footage, and from where on."""
        self._trims: dict[TrackKey, Trim] = {}
        """Tracks of which footage has gone."""
        self._at_work: set[TrackKey] = set()
        """Tracks whose edge is being read."""
        self._retries: dict[TrackKey, _Retry] = {}
        self._watched: dict[TrackKey, Callable[[], None]] = {}
        """Tracks that are being recorded."""
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._volume_back = asyncio.Event()
        self._read_one = asyncio.Event()
        """Set when an edge has been read, and then replaced."""
        self._again = False
        """What was missed is to be tried whether its time has come or not."""
        self._edges_at_s = 0.0
        self._older_read = 0
        self._told_at_s = 0.0

    @property
    def indexed(self) -> int:
        """Documents that have been read since the start."""
        return self._reader.indexed

    @property
    def unreadable(self) -> int:
        """Documents, fragments and events that could not be read, since the start."""
        return self._reader.unreadable

    @property
    def crowded(self) -> int:
        """Events of sources or topics beyond those that the index tells apart, since the start."""
        return self._index.crowded

    @property
    def lag(self) -> int:
        """Tracks that are to be read, or are being read, or of which footage has gone."""
        return len(self._behind.keys() | self._trims.keys() | self._at_work | self._incomplete())

    def completeness(self) -> Completeness:
        older = [place[0] for track in self._tracks.values() if (place := track.older) is not None]
        # What failed as a whole has no place: nobody knows how far it is.
        faults = {key for key, retry in self._retries.items() if retry.whole_track}
        missed = faults | {key for key, track in self._tracks.items() if track.missed is not None}
        return Completeness(len(older), len(missed), max(older, default=None))

    # As a watcher of storage

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
        """The first fragment of a run is on the disk; the subscription is told of it next."""
        self._unwatch(key)
        self._watched[key] = self._storage.on_append(key, lambda ref: self._appended(key, ref))

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None:
        """Its last file is closed: it can be read to its end."""
        self._unwatch(key)
        if key in self._tracks:
            self._is_behind(key, at_ns)

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        trim = self._trims.get(key)
        self._trims[key] = Trim(max(end_ns, trim.until_ns) if trim is not None else end_ns)
        self._wake.set()

    def volume_changed(self, status: VolumeStatus) -> None:
        """What stands on a volume that is back is read."""
        readable = status.state in _READABLE
        if readable and (status.id in self._reader.away or self.completeness().missed):
            self._volume_back.set()
        self._look_at_volumes()
        if not readable and self._reader.reading == status.id:
            self._thread.leave()  # it may hang there, and other volumes do not

    def _unwatch(self, key: TrackKey) -> None:
        unsubscribe = self._watched.pop(key, None)
        if unsubscribe is not None:
            unsubscribe()

    def _appended(self, key: TrackKey, ref: FragmentRef) -> None:
        if ref.configuration.track_type is TrackType.METADATA:
            self._is_behind(key, ref.start_ns)

    def _is_behind(self, key: TrackKey, from_ns: UtcNs) -> None:
        self._tracks.setdefault(key, TrackReading(key))
        self._behind[key] = min(from_ns, self._behind.get(key, from_ns))
        self._wake.set()

    # The task

    async def run(self) -> None:
        """First what was recorded before the start, then what comes."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look_at_everything())
                tasks.create_task(self._follow_volumes())
                while True:
                    await self._something_to_do()
                    while await self._round(whole=False):
                        pass
                    await come(self._hurry, PAUSE_S)
        finally:
            if not await self._thread.stop(STOP_S):
                log.error("the thread that indexes metadata does not end within %.0f s and is left", STOP_S)

    async def _something_to_do(self) -> None:
        first_s = min((retry.at_s for retry in self._retries.values()), default=None)
        left_s = None if first_s is None else max(first_s - self._monotonic(), 0.0)
        await come(self._wake, left_s)
        self._wake.clear()

    async def reach(self) -> None:
        """Until what is on the disk now has been read, and `REACH_S` at most: somebody searches there. What fails for
        now, and older footage that has not been read, are not waited for."""
        wanted = self._behind.keys() | self._at_work
        with suppress(TimeoutError):
            async with asyncio.timeout(REACH_S):
                while wanted := {
                    key for key in wanted & (self._behind.keys() | self._at_work) if not self._is_blocked(key)
                }:
                    self._hurry.set()
                    await self._read_one.wait()

    async def _look_at_everything(self) -> None:
        self._look_at_volumes()
        self._from_the_beginning()
        await asyncio.to_thread(self._index.check)
        await self._storage.settled()  # files that were being written when the daemon before this one died
        self._try_again()

    async def _follow_volumes(self) -> None:
        while True:
            await self._volume_back.wait()
            self._volume_back.clear()
            self._try_again()
            await self._storage.settled()  # what was open when the volume went is examined first
            self._try_again()

    def _look_at_volumes(self) -> None:
        away = (v.id for v in self._storage.volumes() if v.state not in _READABLE)
        self._reader.away = frozenset(volume_id for volume_id in away if volume_id is not None)

    def _from_the_beginning(self) -> None:
        """All metadata tracks, and those of which nobody knows what they are because their newest file is away."""
        for key in self._storage.tracks():
            configuration = self._storage.configuration(key)
            if configuration is None or configuration.track_type is TrackType.METADATA:
                self._tracks[key] = TrackReading(key)
                self._is_behind(key, BEHIND_ALL_NS)
        self._trims.update((key, Trim(BEHIND_ALL_NS)) for key in self._index.tracks())
        self._wake.set()

    def _try_again(self) -> None:
        """What was missed, and what has gone meanwhile without being told, from the next round on."""
        self._again = True
        self._trims.update((key, Trim(BEHIND_ALL_NS)) for key in self._index.tracks())
        self._wake.set()

    async def catch_up(self) -> None:
        """Everything that has been told, but what is to be tried later."""
        while await self._round(whole=True):
            pass

    async def _round(self, *, whole: bool) -> bool:
        """The edges of all tracks, then a slice of each other work; whether there is more. Edges are looked at behind
        each slice as well, where a search waits, or `PAUSE_S` has passed, or `whole`."""
        self._due_again()
        await self._read_edges(whole=True)
        for key in sorted(self._trims):
            trim = self._trims.get(key)
            if trim is None or self._is_blocked(key):
                continue
            more = await self._attempt(key, partial(self._reader.trim, key, trim))
            if more is False and self._trims.get(key) is trim:
                del self._trims[key]
                if key not in self._storage.tracks() and key not in self._behind:
                    self._tracks.pop(key, None)
                    self._retries.pop(key, None)
            await self._read_edges(whole)
        for key in sorted(self._incomplete()):
            track = self._tracks.get(key)
            if track is not None and not self._is_blocked(key):
                self._older_read += await self._attempt(key, partial(self._reader.read_older, track)) or 0
                self._look_at_missed(track)
            await self._read_edges(whole)
        self._tell()
        left = self._behind.keys() | self._trims.keys() | self._incomplete()
        return any(not self._is_blocked(key) for key in left)

    def _incomplete(self) -> set[TrackKey]:
        """Tracks with older footage that is still to be read."""
        return {key for key, track in self._tracks.items() if track.older is not None}

    async def _read_edges(self, whole: bool) -> None:
        if not whole and not self._hurry.is_set() and self._monotonic() < self._edges_at_s:
            return
        self._hurry.clear()
        for key in sorted(self._behind):
            if self._is_blocked(key):
                continue
            track, from_ns = self._tracks.setdefault(key, TrackReading(key)), self._behind.pop(key)
            self._at_work.add(key)
            try:
                if await self._attempt(key, partial(self._reader.read_edge, track, from_ns)) is None:
                    self._behind[key] = min(from_ns, self._behind.get(key, from_ns))
                self._look_at_missed(track)
            finally:
                self._at_work.discard(key)
                self._read_one.set()
                self._read_one = asyncio.Event()
        self._edges_at_s = self._monotonic() + PAUSE_S

    async def _attempt(self, key: TrackKey, work: Callable[[], T]) -> T | None:
        """What the work gives; None behind a fault, which costs the track some time."""
        try:
            outcome = await self._thread.do(work)
        except Exception as e:
            self._later(key, whole_track=True)
            if self._retries[key].failures == 1:
                unexpected = not isinstance(e, (StorageError, Stopped))
                log.error("the metadata of %s is not indexed for now: %s", key, e, exc_info=unexpected)
            return None
        retry = self._retries.get(key)
        if retry is not None and retry.whole_track:
            del self._retries[key]
            log.info("the metadata of %s is indexed again", key)
        return outcome

    # What has failed

    def _is_blocked(self, key: TrackKey) -> bool:
        retry = self._retries.get(key)
        return retry is not None and retry.whole_track and self._monotonic() < retry.at_s

    def _look_at_missed(self, track: TrackReading) -> None:
        if track.missed is not None and track.tried:
            if track.key not in self._retries:
                self._later(track.key, whole_track=False)
        elif track.older is None and track.key in self._retries and not self._retries[track.key].whole_track:
            del self._retries[track.key]

    def _later(self, key: TrackKey, *, whole_track: bool) -> None:
        retry = self._retries.get(key)
        failures = 1 if retry is None else retry.failures + 1
        wait_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 10))
        self._retries[key] = _Retry(failures, self._monotonic() + wait_s, whole_track)

    def _due_again(self) -> None:
        """Files that were missed, when their time has come. Between two pieces of work, which have their own places."""
        if self._again:
            self._again = False
            for track in self._tracks.values():
                track.again()
            for retry in self._retries.values():
                retry.at_s = self._monotonic()
        for key, retry in self._retries.items():
            if not retry.whole_track and self._monotonic() >= retry.at_s:
                missed = self._tracks.get(key)
                if missed is not None:
                    missed.again()
                retry.failures += 1
                retry.at_s = self._monotonic() + min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(retry.failures - 1, 10))

    def _tell(self) -> None:
        """How far the reading of older footage is, once a minute and at its end, where there is any to be read."""
        if not self._older_read:
            return
        complete, now_s = self.completeness(), self._monotonic()
        if complete.from_ns is None:
            log.info("the index of camera events is made: %d older documents were read", self._older_read)
            self._older_read, self._told_at_s = 0, 0.0
        elif now_s >= self._told_at_s:
            since = format_iso(max(complete.from_ns, 0))
            log.info(
                "the index of camera events is being made: %d tracks are not complete before %s", complete.older, since
            )
            self._told_at_s = now_s + _TOLD_EVERY_S
