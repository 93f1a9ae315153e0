"""What is deleted by rule: footage that is too old, more than its quota, or in the way of new footage.

`docs/design/retention.md` gives the rules and the order of a deletion. The choice of files is plain functions of rows;
`Retention` asks the index on threads, and the engine does what follows on the loop.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, takewhile
from typing import Protocol, TypeAlias

from nvr.model.errors import StorageError
from nvr.model.time import NS, UtcNs
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.clock_doubt import KEEP_NS, ClockDoubt, TimeMemory
from nvr.storage.holds import Holds
from nvr.storage.placement import Placement
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.settings import StorageSettings
from nvr.storage.volume import Volume, VolumeState

log = logging.getLogger(__name__)

_SLICE = 200
"""Files of one transaction with tombstones."""
_PAGE = 64
_BEFORE_ALL_NS = -(1 << 62)

Held: TypeAlias = Mapping[TrackKey, UtcNs]
"""From where on tracks are held."""


class Rule(StrEnum):
    """Why files are deleted; values stand in metrics."""

    TIME = "time"
    QUOTA = "quota"
    SPACE = "space"


@dataclass(slots=True)
class Deleted:
    """What a rule has deleted since the start."""

    files: int = 0
    bytes: int = 0


class Retained(Protocol):
    """The footage, as `removal.py` shows it. On the loop."""

    def tracks(self) -> Iterable[TrackKey]:
        """All that have footage."""

    def earliest(self, key: TrackKey) -> UtcNs | None:
        """The first instant that there is, shown or not."""

    def growing_bytes(self) -> Mapping[RecordingToken, int]:
        """What the growing files of each recording have come to."""

    def volumes(self) -> Sequence[Volume]: ...

    async def remove(self, rows: Sequence[TrackFileRow]) -> None:
        """Files with tombstones: cuts the timelines, and unlinks where the volume can be reached."""

    def removed(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        """Footage of a track is gone: the range, once for each sweep."""


def time_limit(now_ns: UtcNs, retention_ns: int) -> UtcNs | None:
    """What ends at or before this is too old to be shown; None without a limit."""
    return now_ns - retention_ns if retention_ns > 0 else None


def rotation_ns(rotation_ns: int, retention_ns: int) -> int:
    """How long a file may be, so that deleting it as a whole when its first sample is too old costs little."""
    return min(rotation_ns, max(retention_ns // 8, NS)) if retention_ns > 0 else rotation_ns


def expiry_lead(interval_ns: int, retention_ns: int) -> int:
    """So long before its first sample is too old a file goes, because sweeps have a distance."""
    return min(2 * interval_ns, retention_ns // 8)


def free_to_go(rows: Iterable[TrackFileRow], held: Held) -> Iterator[TrackFileRow]:
    """Of files in the order of their start those that a rule may take: closed ones, of each track up to the first that
    is held."""
    stopped: set[TrackKey] = set()
    for row in rows:
        if row.state is not FileState.CLOSED or row.key in stopped:
            continue
        if row.key in held and row.end_ns > held[row.key]:
            stopped.add(row.key)
        else:
            yield row


def enough(rows: Iterable[TrackFileRow], wanted: int) -> list[TrackFileRow]:
    """The first rows that come to at least so many bytes; all where they do not."""
    taken: list[TrackFileRow] = []
    for row in rows:
        if wanted <= 0:
            break
        taken.append(row)
        wanted -= row.size
    return taken


@dataclass(frozen=True, slots=True)
class Shortage:
    """What the volumes of a pool have and lack: one of them shall get `target` of room."""

    room: Mapping[str, int]
    target: Mapping[str, int]
    at_least_one: bool = False
    """A volume that counts as full for another reason than its size: try with a file less."""


def shortage(pool: Sequence[Volume], now: int, *, making: bool = False) -> Shortage | None:
    """None as long as one of them is online and has room, or none could be written if it had. A full queue does not
    count: a disk that is merely slow gains nothing by deletions. `now` is the clock by which volumes expect the space
    of what was unlinked; `making`: once room is being made, a quarter more."""
    writable = (VolumeState.ONLINE, VolumeState.FULL)
    there = {v.id: v for v in pool if v.state in writable and not v.hangs and v.id is not None}
    room = {volume_id: v.room_soon(now) for volume_id, v in there.items()}
    target = {volume_id: v.reserve + v.reserve // 4 for volume_id, v in there.items()}
    if making:
        has_room = any(room[volume_id] >= target[volume_id] for volume_id in there)
    else:
        has_room = any(v.state is VolumeState.ONLINE and room[i] >= v.reserve for i, v in there.items())
    if not there or has_room:
        return None
    all_full = all(v.state is VolumeState.FULL for v in there.values())
    return Shortage(room, target, at_least_one=all_full and not making)


def make_room(rows: Iterable[TrackFileRow], lack: Shortage) -> list[TrackFileRow]:
    """The first of these rows with which one volume gets its room; all where none does."""
    room = dict(lack.room)
    taken: list[TrackFileRow] = []
    wanted = lack.at_least_one
    for row in rows:
        if not wanted and any(room[v] >= lack.target[v] for v in room):
            break
        wanted = False
        taken.append(row)
        room[row.volume_id] += row.size
    return taken


class Retention:
    """The rules, applied again and again. Belongs to the event loop."""

    def __init__(
        self,
        settings: StorageSettings,
        index: FootageIndex,
        placement: Placement,
        footage: Retained,
        retention_of: Callable[[RecordingToken], int],
        utc: Callable[[], UtcNs],
        now: Callable[[], int],
    ) -> None:
        """`utc` and `now` are the clocks of the world and of the process. `retention_of` gives MaximumRetentionTime of
        a recording in nanoseconds, 0 for no limit."""
        self.holds = Holds()
        self.deleted = {rule: Deleted() for rule in Rule}
        self.failures = 0
        """Sweeps that could not do what they should."""
        self._settings = settings
        self._index = index
        self._placement = placement
        self._footage = footage
        self._retention_of = retention_of
        self._now = now
        self.clock = ClockDoubt(utc, now, settings.clock_patience_ns)
        """Says whether footage may be deleted for its age."""
        self._time_memory = TimeMemory(settings.registry.with_name("clock.json"))
        self._kept_at: int | None = None
        self._quotas = {r.recording: r.quota_bytes for r in settings.recordings if r.quota_bytes is not None}
        self._busy = asyncio.Lock()
        """Held from the choice of files to the end of their deletion."""
        self._failing = False
        self._counted: dict[RecordingToken, int] = {}
        """Bytes of the closed files of recordings with a quota; what is not in it is counted again."""
        self._told: dict[TrackKey, tuple[UtcNs, UtcNs]] = {}
        self._helpless: set[frozenset[str]] = set()
        """Pools that lack room and have nothing to give: told once."""

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        while True:
            await asyncio.sleep(self._settings.retention_interval_ns / NS)
            await self.sweep()
            await self._keep_time()

    async def begin(self, newest_ns: UtcNs | None) -> None:
        """The recorder starts: the time is judged by the last one that was believed, or else by the newest footage."""
        kept_ns = await asyncio.to_thread(self._time_memory.read)
        self.clock.begin(newest_ns if kept_ns is None else kept_ns)
        self.clock.believed_utc()  # before anything is hidden or deleted

    async def _keep_time(self) -> None:
        now = self._now()
        if self._kept_at is not None and now - self._kept_at < KEEP_NS:
            return
        utc_ns = self.clock.believed_utc()
        if utc_ns is not None:
            self._kept_at = now
            await asyncio.to_thread(self._time_memory.write, utc_ns)

    async def sweep(self) -> None:
        """Applies all rules once. What cannot be done is logged and left for the next sweep."""
        try:
            await self._expire()
            await self._keep_quotas()
            if self._settings.overwrite:
                for pool in self._placement.pools(self._footage.volumes()):
                    await self._make_room(pool)
            if self._failing:
                log.warning("retention goes on")
            self._failing = False
        except Exception as e:
            self.failures += 1
            if not self._failing:
                known = isinstance(e, StorageError)
                log.error("retention cannot delete, and tries again: %s", e, exc_info=None if known else e)
            self._failing = True
        finally:
            told, self._told = self._told, {}
            for key, (start_ns, end_ns) in told.items():
                self._footage.removed(key, start_ns, end_ns)

    async def settled(self) -> None:
        """Returns when no deletion by a rule is under way: a hold taken before this is in time."""
        async with self._busy:
            pass

    def changed(self, recording: RecordingToken) -> None:
        """Files of this recording have been closed, found or deleted otherwise: its bytes are another sum."""
        self._counted.pop(recording, None)

    async def _expire(self) -> None:
        now_ns = self.clock.believed_utc()
        if now_ns is None:
            return
        for key in list(self._footage.tracks()):
            retention_ns = self._retention_of(key.recording)
            limit_ns = time_limit(now_ns, retention_ns)
            if limit_ns is None:
                continue
            limit_ns += expiry_lead(self._settings.retention_interval_ns, retention_ns)
            earliest = self._footage.earliest(key)
            if earliest is None or earliest >= limit_ns:
                continue
            while await self._delete(Rule.TIME, self._expired, key, limit_ns):
                pass

    def _expired(self, held: Held, key: TrackKey, limit_ns: UtcNs) -> list[TrackFileRow]:
        rows = takewhile(lambda row: row.start_ns < limit_ns, self._files_of(key))
        return list(islice(free_to_go(rows, held), _SLICE))

    async def _keep_quotas(self) -> None:
        if not self._quotas and not self._settings.recording_quota_bytes:
            return
        tracks: dict[RecordingToken, list[TrackKey]] = {}
        for key in self._footage.tracks():
            tracks.setdefault(key.recording, []).append(key)
        growing = self._footage.growing_bytes()
        for recording, keys in tracks.items():
            quota = self._quotas.get(recording, self._settings.recording_quota_bytes)
            if not quota:
                continue
            while True:
                counted = self._counted.get(recording)
                if counted is None:
                    self._counted[recording] = 0  # a file that is closed from now on takes it out again
                    counted = await asyncio.to_thread(self._index.recording_bytes, recording)
                    if recording in self._counted:
                        self._counted[recording] = counted
                over = counted + growing.get(recording, 0) - quota
                if over <= 0 or not await self._delete(Rule.QUOTA, self._oldest_of, keys, over):
                    break

    def _oldest_of(self, held: Held, keys: Sequence[TrackKey], wanted: int) -> list[TrackFileRow]:
        """The oldest files of a recording, over all its tracks."""
        rows = heapq.merge(*(self._files_of(key) for key in keys), key=_place)
        return enough(islice(free_to_go(rows, held), _SLICE), wanted)

    async def _make_room(self, pool: Sequence[Volume]) -> None:
        name = frozenset(str(v.root) for v in pool)
        lack = shortage(pool, self._now())
        if lack is None:
            self._helpless.discard(name)
            return
        while lack is not None:
            if not await self._delete(Rule.SPACE, self._oldest_on, lack):
                if name not in self._helpless:
                    self._helpless.add(name)
                    log.error("no footage can be deleted to make room on %s", ", ".join(sorted(name)))
                return
            lack = shortage(pool, self._now(), making=True)

    def _oldest_on(self, held: Held, lack: Shortage) -> list[TrackFileRow]:
        """The oldest files of the volumes that lack room, over all recordings."""
        rows = heapq.merge(*(self._files_on(volume_id) for volume_id in lack.room), key=_place)
        return make_room(islice(free_to_go(rows, held), _SLICE), lack)

    def _files_of(self, key: TrackKey) -> Iterator[TrackFileRow]:
        after: tuple[UtcNs, str] | None = None
        while page := self._index.files(key, _BEFORE_ALL_NS, after=after, limit=_PAGE):
            yield from page
            after = _place(page[-1])

    def _files_on(self, volume_id: str) -> Iterator[TrackFileRow]:
        after: tuple[UtcNs, str] | None = None
        while page := self._index.oldest(volume_id, after=after, limit=_PAGE):
            yield from page
            after = _place(page[-1])

    async def _delete(self, rule: Rule, choose: Callable[..., list[TrackFileRow]], *of: object) -> int:
        """One slice: chosen and given tombstones on a thread, then cut from the timelines and unlinked. How many."""
        async with self._busy:
            rows = await asyncio.to_thread(choose, self.holds.starts(), *of)
            if not rows:
                return 0
            await asyncio.to_thread(self._index.mark_deleting, [row.file_id for row in rows])
            for recording in {row.recording for row in rows}:
                self.changed(recording)
            for row in rows:
                self._note(row)
            counted = self.deleted[rule]
            counted.files += len(rows)
            counted.bytes += sum(row.size for row in rows)
            log.info("deleted (%s): %s and what follows it, files: %d", rule, rows[0].path, len(rows))
            await self._footage.remove(rows)
            return len(rows)

    def _note(self, row: TrackFileRow) -> None:
        start_ns, end_ns = self._told.get(row.key, (row.start_ns, row.end_ns))
        self._told[row.key] = min(start_ns, row.start_ns), max(end_ns, row.end_ns)


def _place(row: TrackFileRow) -> tuple[UtcNs, str]:
    return row.start_ns, row.file_id
