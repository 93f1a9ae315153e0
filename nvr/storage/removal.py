"""The loop's side of deletions: what retention asks and what it has done to the footage, and what clients delete.

Rows have their tombstones before `remove` begins (`retention.py`); the writers unlink (`unlinking.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence

from nvr.model.errors import StorageError
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.orders import Delete, GrowingFile, Unlink
from nvr.storage.rows import FootageIndex, TrackFileRow
from nvr.storage.track import TrackFootage
from nvr.storage.unlinking import hide_track
from nvr.storage.volume import Volume, VolumeHangs
from nvr.storage.writer_thread import WriterThread

log = logging.getLogger(__name__)

_BEFORE_ALL_NS = -(1 << 62)
_FIRST_FILES = 16
_UNLINK_PATIENCE_S = 30.0
"""How long a sweep waits for files to be unlinked: a disk that hangs must not stop the retention of the others."""


class Removal:
    """Of the tracks, growing files and writers that the engine owns. Belongs to the event loop."""

    def __init__(
        self,
        index: FootageIndex,
        tracks: Mapping[TrackKey, TrackFootage],
        growing: Mapping[str, GrowingFile],
        threads: Sequence[WriterThread],
        done: Callable[[WriterThread, Delete | Unlink], Coroutine[object, object, Exception | None]],
        removed: Callable[[TrackKey, UtcNs, UtcNs], None],
    ) -> None:
        """`done` waits until a writer has done an order; `removed` is told which range of a track is gone."""
        self.removed = removed
        self._index = index
        self._tracks = tracks
        self._growing = growing
        self._threads = threads
        self._done = done

    def tracks(self) -> Iterable[TrackKey]:
        return list(self._tracks)

    def earliest(self, key: TrackKey) -> UtcNs | None:
        track = self._tracks.get(key)
        extent = track.extent() if track is not None else None
        return extent.earliest if extent is not None else None

    def growing_bytes(self) -> dict[RecordingToken, int]:
        found: dict[RecordingToken, int] = {}
        for file in list(self._growing.values()):  # a copy: writers change it
            if file.entries:
                last = file.entries[-1]
                found[file.row.recording] = found.get(file.row.recording, 0) + last.offset + last.length
        return found

    def volumes(self) -> list[Volume]:
        return [t.writer.volume for t in self._threads]

    async def remove(self, rows: Sequence[TrackFileRow]) -> None:
        runs: dict[TrackKey, set[str]] = {}
        for row in rows:
            runs.setdefault(row.key, set()).add(row.run_id)
        await self._cut(runs)
        work = []
        for thread in self._threads:
            own = [row for row in rows if row.volume_id == thread.writer.volume.id]
            if own:
                work.append(asyncio.ensure_future(self._done(thread, Unlink(own))))
        if work:
            await asyncio.wait(work, timeout=_UNLINK_PATIENCE_S)
            # A writer that was recovering may have told of these runs as they were before; it has no more such news.
            await self._cut(runs)

    async def delete_on(self, thread: WriterThread, key: TrackKey) -> Exception | None:
        """All footage of a track on a volume: what went wrong. On a volume that hangs it is hidden, and unlinked when
        the volume answers again."""
        order = Delete(key)
        error = await self._done(thread, order)
        if not isinstance(error, VolumeHangs):
            return error
        order.hidden = True  # it stays in the queue
        thread.abandon(order)

        def is_old(row: TrackFileRow) -> bool:
            """What has been begun behind the order is kept: the volume may answer just now."""
            growing = self._growing.get(row.file_id)
            return growing is None or growing.abandoned

        try:
            await asyncio.to_thread(hide_track, self._index, key, thread.writer.volume.id, is_old)
        except StorageError as e:
            return e
        log.warning("footage of %s on %s: hidden, and unlinked later", key, thread.writer.volume.root)
        return None

    async def _cut(self, runs: Mapping[TrackKey, Collection[str]]) -> None:
        for key, starts in await asyncio.to_thread(self._starts, runs):
            if key in self._tracks:
                self._tracks[key].cut(starts)

    def _starts(self, runs: Mapping[TrackKey, Collection[str]]) -> list[tuple[TrackKey, dict[str, UtcNs | None]]]:
        """Blocking: where runs begin whose first files have gone; None for a run of which nothing is left."""
        found = []
        for key, run_ids in runs.items():
            rest = self._index.files(key, _BEFORE_ALL_NS, limit=_FIRST_FILES)
            starts: dict[str, UtcNs | None] = dict.fromkeys(run_ids)
            for row in reversed(rest):
                if row.run_id in starts:
                    starts[row.run_id] = row.start_ns
            if None in starts.values() and len(rest) == _FIRST_FILES:  # runs that overlap: a clock was set back
                later = {run.run_id: run.start_ns for run in self._index.runs(key)}
                starts = {i: start_ns if start_ns is not None else later.get(i) for i, start_ns in starts.items()}
            found.append((key, starts))
        return found
