"""What storage tells of footage: where runs begin and end, and what is gone."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nvr.model.recording import TrackType
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from tests.support.footage import a_track
from tests.support.volumes import settings_in

KEY = TrackKey(RecordingToken("rec-1"), VIDEO001)


class Watcher:
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
        self.told.append(("begins", key, at_ns))

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None:
        self.told.append(("ends", key, at_ns))

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        self.told.append(("deleted", key, start_ns, end_ns))


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[StorageEngine]:
    index = SqlFootageIndex.open(tmp_path / "index.db")
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    yield engine
    await engine.stop()
    index.shut()


async def record(storage: StorageEngine) -> None:
    """Two runs, both ended."""
    recorder = storage.recorder(KEY, TrackType.VIDEO)
    a_track().with_gop(count=3).with_gap().with_gop(count=2).feed(recorder)
    recorder.end_run(GapReason.JOB_STOPPED)
    await storage.flush()


async def test_runs_are_told_with_the_times_of_their_first_and_last_data(storage: StorageEngine) -> None:
    watcher = storage.watcher = Watcher()
    await record(storage)
    first, second = storage.timeline(KEY).runs
    assert watcher.told == [
        ("begins", KEY, first.start_ns),
        ("ends", KEY, first.end_ns),
        ("begins", KEY, second.start_ns),
        ("ends", KEY, second.end_ns),
    ]


@pytest.mark.requirement("RC-5.25.4-01")
@pytest.mark.parametrize("what", ["track", "recording"])
async def test_deleted_footage_is_told_with_its_range_and_none_is_not(storage: StorageEngine, what: str) -> None:
    watcher = Watcher()
    await record(storage)
    runs = storage.timeline(KEY).runs
    storage.watcher = watcher
    for _ in range(2):
        await (storage.delete_track(KEY) if what == "track" else storage.delete_recording(KEY.recording))
    assert watcher.told == [("deleted", KEY, runs[0].start_ns, runs[-1].end_ns)]


async def test_a_watcher_that_fails_is_logged_and_hinders_nothing(
    storage: StorageEngine, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Watcher):
        def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
            raise RuntimeError("no")

    storage.watcher = Failing()
    with caplog.at_level(logging.ERROR):
        await record(storage)
    assert len(storage.timeline(KEY).runs) == 2
    assert "could not be told" in caplog.text
