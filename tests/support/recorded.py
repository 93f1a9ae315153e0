"""Metadata tracks on a real volume with their index: what searches read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from nvr.media.unit import Fragment
from nvr.model.recording import TrackType
from nvr.model.search import SearchInterval
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import META001, RecordingToken, TrackKey
from nvr.search.indexer import MetadataIndexer
from nvr.storage.engine import StorageEngine
from nvr.storage.events import EventIndex
from nvr.storage.index import SqlFootageIndex
from nvr.storage.watcher import Watchers
from tests.support.footage import START
from tests.support.volumes import settings_in

KEY = TrackKey(RecordingToken("rec-0123456789abcdef0123456789abcdef"), META001)
EVER = SearchInterval(0, 1 << 62)


@dataclass
class Store:
    storage: StorageEngine
    index: EventIndex
    indexer: MetadataIndexer
    files: SqlFootageIndex

    async def record(self, *fragments: Fragment, end: bool = False, key: TrackKey = KEY) -> None:
        recorder = self.storage.recorder(key, TrackType.METADATA)
        for fragment in fragments:
            assert recorder.append(fragment)
        if end:
            recorder.end_run(GapReason.SOURCE_LOST)
        await self.storage.flush()
        await asyncio.sleep(0)

    def told(self) -> list[tuple[int, str]]:
        """Seconds since the start and the value of every event that is indexed."""
        numbers = [s.id for s in self.index.streams()]
        rows = self.index.events(numbers, EVER, None, 1000)
        messages = [self.index.message(r.message) for r in rows]
        return [((r.time_ns - START) // NS, m.data[0].value) for r, m in zip(rows, messages, strict=True) if m]


@cache
def _empty_index() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "events.db"
        EventIndex.open(path).shut()
        return path.read_bytes()


def an_empty_index(path: Path) -> EventIndex:
    """A new one, whose schema is made once for all tests: that takes longer than many of them."""
    path.write_bytes(_empty_index())
    return EventIndex.open(path)


@asynccontextmanager
async def opened(
    where: Path, events: str = "events.db", monotonic: Callable[[], float] = time.monotonic
) -> AsyncIterator[Store]:
    """`monotonic` is the indexer's clock, in seconds."""
    files = await asyncio.to_thread(SqlFootageIndex.open, where / "index.db")
    index = await asyncio.to_thread(EventIndex.open, where / events)
    storage = StorageEngine(settings_in(where), files)
    indexer = MetadataIndexer(storage, files, index, monotonic)
    storage.watcher = Watchers(indexer)
    await storage.start()
    await storage.settled()
    yield Store(storage, index, indexer, files)
    await storage.stop()
    await asyncio.to_thread(index.shut)
    await asyncio.to_thread(files.shut)
