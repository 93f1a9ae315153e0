"""An older file of a run is settled, or its row mended, while the run is being recorded: the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.findings import Kind, Repair
from nvr.storage.settings import StorageSettings
from nvr.storage.volume import VolumeState
from nvr.storage.watcher import Watcher
from tests.storage.test_failing_volume import House
from tests.support.footage import CAMERA
from tests.support.volumes import check_invariants, read_all, settings_in


class Told(Watcher):
    """What a watcher was told of beginnings and ends."""

    def __init__(self) -> None:
        self.changes: list[str] = []

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
        self.changes.append("begins")

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None:
        self.changes.append("ends")

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None: ...


async def a_house(settings: StorageSettings) -> tuple[House, Told]:
    house, told = House(settings), Told()
    house.scripts = {CAMERA: house.scripts[CAMERA]}
    house.clock = [0]
    house.engine = StorageEngine(house.settings, house.index, disk=house.disk, now=lambda: house.clock[0])
    await house.engine.start()
    await house.engine.settled()
    house.engine.on_append(CAMERA, house.told[CAMERA].append)
    house.engine.watcher = told
    return house, told


def end_run(house: House) -> None:
    house.engine.recorder(CAMERA, house.scripts[CAMERA].configuration.track_type).end_run(GapReason.SOURCE_LOST)


def check(house: House) -> None:
    check_invariants(house.engine, house.index, [CAMERA], {CAMERA: house.scripts[CAMERA].fragments}, house.told)


async def test_a_run_that_moved_to_another_volume_goes_on_when_its_file_on_the_first_one_is_settled(
    tmp_path: Path,
) -> None:
    house, told = await a_house(settings_in(tmp_path, volumes=("one", "two"), rotation_ns=4 * NS, retry_ns=3600 * NS))
    engine = house.engine
    await house.record(4)
    recorder = engine.recorder(CAMERA, house.scripts[CAMERA].configuration.track_type)
    run_id, left = recorder.run_id, recorder._volume
    assert left is not None
    left.reserve = 1 << 60  # it is tight: the run leaves it with its next clean point
    house.disk.fail("fsync")  # and its file there cannot be closed
    await house.record(4)
    assert recorder.run_id == run_id
    assert left.state is VolumeState.FAILED
    house.clock[0] += 7200 * NS  # it is tried again
    await engine.flush()
    await engine.settled()
    assert left.state is VolumeState.ONLINE
    for _ in range(2):
        timeline = engine.timeline(CAMERA)
        assert timeline.recording
        fragments = house.scripts[CAMERA].fragments
        assert [(r.start_ns, r.end_ns, r.end_reason) for r in timeline.runs] == [
            (fragments[0].start_ns, fragments[-1].end_ns, None)
        ]
        assert told.changes == ["begins"]
        await house.record(4)
    assert recorder.run_id == run_id
    check(house)
    end_run(house)
    await engine.flush()
    assert [run.end_reason for run in engine.timeline(CAMERA).runs] == [GapReason.SOURCE_LOST]
    assert told.changes == ["begins", "ends"]
    await engine.stop()
    check(house)


@pytest.mark.parametrize("files", [1, 2, 3], ids=["all that were closed", "the first of two", "one in the middle"])
async def test_a_run_goes_on_when_the_row_of_an_older_file_that_is_missing_is_removed(
    files: int, tmp_path: Path
) -> None:
    house, told = await a_house(settings_in(tmp_path, rotation_ns=2 * NS, retry_ns=3600 * NS))
    engine = house.engine
    while len(house.index.files(CAMERA, 0)) <= files:
        await house.record(1)
    rows = house.index.files(CAMERA, 0)
    gone = rows[1] if files == 3 else rows[0]
    (tmp_path / "default" / gone.path).unlink()
    await engine.mend(Repair(Kind.MISSING, gone.volume_id, gone.path, gone.file_id))
    await house.record(1)
    shown = [ref for ref, _ in read_all(engine.footage(CAMERA))]
    timeline = engine.timeline(CAMERA)
    assert timeline.recording
    *before, run = timeline.runs
    if files == 3:  # what was recorded before the hole is a run of its own
        (first,) = before
        assert (first.start_ns, first.end_ns, first.end_reason) == (rows[0].start_ns, rows[0].end_ns, GapReason.STORAGE)
    else:
        assert not before
    behind = rows[2] if files == 3 else rows[1]
    assert (run.start_ns, run.end_ns, run.end_reason) == (behind.start_ns, shown[-1].end_ns, None)
    assert shown[0].start_ns == (rows[0] if files == 3 else rows[1]).start_ns
    end_run(house)
    await engine.flush()
    assert engine.timeline(CAMERA).runs[-1].end_reason is GapReason.SOURCE_LOST
    assert told.changes == ["begins", "ends"]
    await engine.stop()
