"""A file that could not be forced to the disk is not closed on the word of the kernel, which gives it once only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.storage.engine import StorageEngine
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.settings import FsyncPolicy
from nvr.storage.volume import VolumeState
from tests.storage.test_failing_volume import House
from tests.support.footage import CAMERA
from tests.support.volumes import FailingDisk, check_invariants, read_all, settings_in, until


class DroppingDisk(FailingDisk):
    """As Linux does it: what could not be written is gone, one fsync says so, and the next one succeeds."""

    def __init__(self, *dropped: int) -> None:
        """Which of the fragments of the file are gone when forcing it fails; -1 for the tail."""
        super().__init__()
        self.dropped = dropped
        self.sizes: list[tuple[int, int]] = []
        """Offset and size of every write of the file at hand."""

    def write_once(self, fd: int, parts: object, offset: int) -> int:
        written = super().write_once(fd, parts, offset)  # type: ignore[arg-type]
        if offset == 0:
            self.sizes.clear()
        self.sizes.append((offset, written))
        return written

    def sync(self, fd: int) -> None:
        try:
            super().sync(fd)
        except OSError:
            for number in self.dropped:
                offset, size = self.sizes[number]
                os.pwrite(fd, bytes(min(64, size)), offset + size - 64)  # the last samples, or the table
            raise


async def a_house(path: Path, disk: FailingDisk) -> House:
    """One track, its file forced to the disk when it is closed or when the test's clock says so."""
    house = House(settings_in(path, rotation_ns=3600 * NS, fsync=FsyncPolicy.NONE, retry_ns=3600 * NS), disk=disk)
    house.scripts = {CAMERA: house.scripts[CAMERA]}
    house.clock = [0]
    house.engine = StorageEngine(house.settings, house.index, disk=disk, now=lambda: house.clock[0])
    await house.engine.start()
    await house.engine.settled()
    house.engine.on_append(CAMERA, house.told[CAMERA].append)
    return house


def rows(house: House) -> list[TrackFileRow]:
    return sorted(house.index.rows.values(), key=lambda r: r.start_ns)


async def back(house: House) -> None:
    house.clock[0] += 7200 * NS
    await house.engine.flush()
    await until(lambda: house.engine.volumes()[0].state is VolumeState.ONLINE)


@pytest.mark.parametrize("dropped", [(), (1,), (3,), (1, 2), (0, 1, 2, 3)])
async def test_it_stays_open_until_every_fragment_has_been_read_again_and_what_is_gone_lies_in_a_gap_or_is_left_out(
    dropped: tuple[int, ...], tmp_path: Path
) -> None:
    disk = DroppingDisk(*dropped)
    house = await a_house(tmp_path, disk)
    await house.record(4)
    disk.fail("fsync")
    house.engine.recorder(CAMERA, house.scripts[CAMERA].configuration.track_type).end_run(GapReason.JOB_STOPPED)
    await house.engine.flush()
    assert [row.state for row in rows(house)] == [FileState.OPEN], "the next fsync would succeed"
    assert house.engine.volumes()[0].state is VolumeState.FAILED
    await back(house)
    await house.record(2)  # in a new file, while the old one waits
    await house.engine.settled()
    kept = [f for i, f in enumerate(house.scripts[CAMERA].fragments) if i not in dropped]
    found = read_all(house.engine.footage(CAMERA))
    assert [ref.start_ns for ref, _ in found] == [f.start_ns for f in kept]
    behind_a_hole = {i + 1 for i in dropped} - set(dropped) - {4}
    assert [ref.damaged for ref, _ in found] == [i in behind_a_hole for i in range(6) if i not in dropped]
    await house.engine.stop()
    assert {row.state for row in rows(house)} == {FileState.CLOSED}
    assert [run.end_reason for run in house.engine.timeline(CAMERA).runs][-1] is GapReason.DAEMON_STOPPED


async def test_a_tail_that_was_not_forced_is_not_believed_when_it_can_be_read(tmp_path: Path) -> None:
    disk = DroppingDisk(2)
    house = await a_house(tmp_path, disk)
    await house.record(4)
    disk.fail("fsync")
    disk.fail("truncate", also=True)  # the tail stays where it is
    house.engine.recorder(CAMERA, house.scripts[CAMERA].configuration.track_type).end_run(GapReason.JOB_STOPPED)
    await house.engine.flush()
    await back(house)
    await house.engine.settled()
    (row,) = rows(house)
    assert (row.state, row.samples, row.end_reason) == (FileState.CLOSED, 30, GapReason.JOB_STOPPED)
    starts = [ref.start_ns for ref, _ in read_all(house.engine.footage(CAMERA))]
    assert starts == [f.start_ns for i, f in enumerate(house.scripts[CAMERA].fragments) if i != 2]
    await house.engine.stop()


@pytest.mark.parametrize("policy", [FsyncPolicy.FRAGMENT, FsyncPolicy.INTERVAL])
async def test_a_growing_file_that_cannot_be_forced_ends_its_run_and_is_settled_at_the_stop(
    policy: FsyncPolicy, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, fsync=policy, fsync_interval_ns=1, rotation_ns=3600 * NS, retry_ns=3600 * NS)
    house = House(settings)
    engine = await house.start()
    await house.record(2)
    house.disk.fail("fsync")
    await house.record(1)
    await until(lambda: engine.volumes()[0].state is VolumeState.FAILED)
    await engine.flush()
    assert [row.state for row in house.index.rows.values()].count(FileState.OPEN) == 1
    assert [run.end_reason for run in engine.timeline(CAMERA).runs] == [GapReason.STORAGE]
    await engine.stop()
    house.check_settled()
    handed = {key: script.fragments for key, script in house.scripts.items()}
    check_invariants(engine, house.index, house.scripts, handed, house.told)
