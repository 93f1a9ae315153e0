"""All tracks with footage, as the event loop knows them: loaded at a start, and set right when a recovery has changed
their runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from nvr.media.unit import CodecConfiguration
from nvr.model.time import UtcNs
from nvr.model.timeline import Run
from nvr.model.tokens import TrackKey
from nvr.storage.newest import NewestConfigurations
from nvr.storage.orders import Recovered
from nvr.storage.rows import FootageIndex
from nvr.storage.track import TrackFootage

log = logging.getLogger(__name__)


class Tracks:
    """Belongs to the event loop."""

    def __init__(self, index: FootageIndex, newest: NewestConfigurations) -> None:
        self.known: dict[TrackKey, TrackFootage] = {}
        self._index = index
        self._newest = newest
        self._loading: set[TrackKey] | None = None
        """While the runs are loaded: tracks whose runs have changed meanwhile."""
        self._learning: set[asyncio.Task[None]] = set()

    def of(self, key: TrackKey) -> TrackFootage:
        """A new one where none is known."""
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = TrackFootage(key)
        return found

    def latest(self) -> UtcNs | None:
        """The end of the newest footage."""
        found = (track.extent() for track in self.known.values())
        return max((extent.latest for extent in found if extent is not None), default=None)

    async def load(self, volume_ids: Sequence[str]) -> None:
        """Of all tracks what the index says. Raises StorageError."""
        self._loading = set()
        for key, runs, configuration, awaited in await asyncio.to_thread(self._load, volume_ids):
            track = self.of(key)
            track.keep(runs, None)
            track.configuration = configuration
            track.awaited = awaited
        while self._loading:
            key = self._loading.pop()
            self.of(key).keep(await asyncio.to_thread(self._index.runs, key), None)
        self._loading = None

    def _load(
        self, volume_ids: Iterable[str]
    ) -> list[tuple[TrackKey, list[Run], CodecConfiguration | None, dict[str, UtcNs]]]:
        """Blocking. Runs, configuration, and the runs that are awaited. A track whose newest file cannot be read is
        there without its configuration."""
        runs = self._index.all_runs()
        awaited: dict[TrackKey, dict[str, UtcNs]] = {}
        for volume_id in volume_ids:
            for row in self._index.open_files(volume_id):
                awaited.setdefault(row.key, {})[row.run_id] = row.start_ns
        keys = sorted(runs.keys() | awaited.keys())
        configurations = self._newest.of(keys)
        return [(key, runs.get(key, []), configurations.get(key), awaited.get(key, {})) for key in keys]

    def settle(self, recovered: Recovered) -> None:
        """Runs are others than before."""
        for key, run_id, run, growing_ns in recovered.runs:
            self.of(key).settle(run_id, run, growing_ns)
            if self._loading is not None:
                self._loading.add(key)

    def learn_configurations(self) -> None:
        """Of tracks whose newest file could not be read before: its volume is back. Does not wait for it."""
        if self._loading is None:
            task = asyncio.ensure_future(self._learn_configurations())
            self._learning.add(task)
            task.add_done_callback(self._learning.discard)

    async def _learn_configurations(self) -> None:
        unknown = [key for key, track in self.known.items() if track.configuration is None and track.extent()]
        if not unknown:
            return
        try:
            found = await asyncio.to_thread(self._newest.of, unknown)
        except Exception:  # nobody waits for this task
            log.exception("the encodings of %d tracks are not known", len(unknown))
            return
        for key, track in self.known.items():
            track.configuration = track.configuration or found.get(key)

    async def stop(self) -> None:
        """Nothing more is learnt."""
        for task in tuple(self._learning):
            task.cancel()
            await asyncio.wait([task])
