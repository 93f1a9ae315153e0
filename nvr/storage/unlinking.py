"""Files with tombstones, unlinked in slices between appends. Belongs to the writer thread of a volume."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.orders import Delete, Unlink
from nvr.storage.recovery import delete_files
from nvr.storage.rows import FootageIndex, TrackFileRow
from nvr.storage.track_file import track_directory
from nvr.storage.volume import Volume

log = logging.getLogger(__name__)

_PAGE = 200
_SLICE = 32
_SLICE_NS = 50_000_000
"""What a slice may take, so that footage that waits in the queue does not wait for long; the size of the next slice
follows from the time of this one."""
_BEFORE_ALL_NS = -(1 << 62)


@dataclass(slots=True)
class _Work:
    rows: list[TrackFileRow]
    order: Delete | Unlink | None
    """Who waits for it; None for what an earlier daemon, or a volume that was away, has left."""


class Unlinker:
    """What is still to be unlinked on a volume, in the order in which it was asked for."""

    def __init__(self, volume: Volume, index: FootageIndex, now: Callable[[], int]) -> None:
        self._volume = volume
        self._index = index
        self._now = now
        self._work: deque[_Work] = deque()
        self._slice = _SLICE

    def __len__(self) -> int:
        return len(self._work)

    def add(self, rows: Sequence[TrackFileRow], order: Delete | Unlink | None) -> None:
        """Rows of this volume with tombstones."""
        self._work.append(_Work(list(rows), order))

    def hide_track(self, key: TrackKey) -> list[TrackFileRow]:
        """As the function of that name, on this volume."""
        return hide_track(self._index, key, self._volume.id)

    def unlink_some(self) -> Delete | Unlink | None:
        """One slice. The order that is done with it, if one is. Raises OSError or StorageError: `postpone` then."""
        work = self._work[0]
        begun_ns = self._now()
        slice_, work.rows = work.rows[: self._slice], work.rows[self._slice :]
        self._volume.look()  # what is not there because it is not mounted has not been deleted
        free = self._volume.free or 0
        known = self._index.known([row.file_id for row in slice_])  # it may have been asked for twice
        left = [row for row in slice_ if row.file_id in known]
        kept = delete_files(self._volume.disk, self._volume, self._index, left)
        size = sum(row.size for row in left)
        self._volume.unlinked(size + kept, free, self._now())
        self._volume.count(-size)
        if self._now() - begun_ns > _SLICE_NS:
            self._slice = max(self._slice // 2, 1)
        else:
            self._slice = min(self._slice * 2, _SLICE)
        if work.rows:
            return None
        keys = {row.key for row in slice_}
        if isinstance(work.order, Delete):
            keys.add(work.order.key)
        for key in keys:
            self._remove_empty_directories(key)
        self._work.popleft()
        return work.order

    def postpone(self) -> list[Delete | Unlink]:
        """The tombstones stand: nothing of it is shown any more, and the next recovery takes it up again. Who waits."""
        waiting = []
        while self._work:
            work = self._work.popleft()
            if work.order is not None:
                what = f"footage of {work.order.key}" if isinstance(work.order, Delete) else f"{len(work.rows)} files"
                log.warning("%s on %s: hidden, and unlinked later", what, self._volume.root)
                waiting.append(work.order)
        return waiting

    def _remove_empty_directories(self, key: TrackKey) -> None:
        directory = self._volume.path(track_directory(key))
        for path in (directory, directory.parent):
            if path.is_dir() and not any(path.iterdir()):
                self._volume.disk.remove_directory(path)
                self._volume.disk.sync_directory(path.parent)


def hide_track(
    index: FootageIndex,
    key: TrackKey,
    volume_id: str | None,
    chosen: Callable[[TrackFileRow], bool] = lambda row: True,
) -> list[TrackFileRow]:
    """Tombstones for the chosen files of a track on a volume; their rows. On any thread, touching no file.

    Raises StorageError.
    """
    rows: list[TrackFileRow] = []
    after: tuple[UtcNs, str] | None = None
    while page := index.files(key, _BEFORE_ALL_NS, after=after, limit=_PAGE):
        rows += [r for r in page if r.volume_id == volume_id and chosen(r)]
        after = (page[-1].start_ns, page[-1].file_id)
    for i in range(0, len(rows), _PAGE):
        index.mark_deleting([r.file_id for r in rows[i : i + _PAGE]])
    return rows
