"""The writer of a volume without its thread, under a simulated clock."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, TrackKey, TrackToken
from nvr.storage.orders import Append, Appended, Closed, Delete, Done, Failed, GrowingFile, Lost, Order
from nvr.storage.settings import StorageSettings, VolumeSettings
from nvr.storage.track import TrackFootage, TrackRecorder
from nvr.storage.volume import Volume, VolumeRegistry, VolumeState
from nvr.storage.writer import VolumeWriter
from tests.support.footage import CAMERA, PCMU, START, a_track
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk

SOUND = TrackKey(CAMERA.recording, AUDIO001)


class Desk:
    """Does every order at once; `now_ns` is the clock."""

    def __init__(self, data: Path) -> None:
        self.now_ns = 0
        self.disk = FailingDisk()
        self.index = IndexInMemory()
        self.settings = StorageSettings(
            (VolumeSettings(data / "default", 0),), data / "volumes.json", rotation_ns=400_000_000
        )
        self.volume = Volume(self.settings.volumes[0], VolumeRegistry(data / "volumes.json", self.disk), self.disk)
        self.writer = VolumeWriter(
            self.volume, self.index, self.settings, {}, lambda: self.now_ns, lambda: START + self.now_ns
        )
        self.writer.open()

    def place(self, key: TrackKey, current: Volume | None, without: Collection[Volume] = ()) -> Volume | None:
        return self.volume if self.volume.state is VolumeState.ONLINE else None

    def offer(self, volume: Volume, order: Append) -> bool:
        self.writer.handle(order)
        return True

    def order(self, volume_id: str, order: Order) -> None:
        self.writer.handle(order)

    def left(self, file: GrowingFile) -> None: ...

    def refuse(self) -> None: ...

    def rotation_ns(self, key: TrackKey) -> int:
        return self.settings.rotation_ns

    def recorder(self, key: TrackKey, track_type: TrackType) -> TrackRecorder:
        return TrackRecorder(TrackFootage(key), track_type, self)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.writer.shut_down()


def test_many_files_are_unlinked_in_slices_between_which_footage_is_written(desk: Desk) -> None:
    sound = desk.recorder(SOUND, TrackType.AUDIO)
    a_track(PCMU).with_gop(count=100).feed(sound)
    files = len(desk.index.rows)
    assert files > 90
    picture = desk.recorder(CAMERA, TrackType.VIDEO)
    before = desk.disk.counts["unlink"]
    script = a_track()
    deletion = Delete(SOUND)
    desk.writer.handle(deletion)
    assert desk.index.files(SOUND, 0) == [], "hidden at once"
    slices = 0
    while Done(deletion, None) not in desk.writer.events:
        assert desk.writer.next_due_ns() == desk.now_ns
        unlinked = desk.disk.counts["unlink"]
        desk.writer.tick()
        assert desk.disk.counts["unlink"] - unlinked <= 32
        script.with_gop()
        picture.append(script.fragments[-1])
        slices += 1
    assert slices == -(-files // 32)
    assert desk.disk.counts["unlink"] - before == files
    assert [p for p in desk.volume.root.rglob("*.mp4") if AUDIO001 in p.parts] == []
    assert sum(isinstance(e, Appended) and e.file.row.key == CAMERA for e in desk.writer.events) == slices


def test_a_volume_that_keeps_failing_is_tried_at_doubled_distances_up_to_a_minute(desk: Desk) -> None:
    desk.disk.fail("write", code=errno.EIO, times=10_000)
    a_track().with_gop().feed(desk.recorder(CAMERA, TrackType.VIDEO))
    tries = []
    writes = desk.disk.counts["write"]
    while len(tries) < 8:
        desk.now_ns = desk.writer.next_due_ns()
        desk.writer.tick()
        if desk.disk.counts["write"] > writes:
            writes = desk.disk.counts["write"]
            tries.append(desk.now_ns // NS)
    pauses = [b - a for a, b in zip([0, *tries], tries, strict=False)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    desk.disk.mend()
    desk.now_ns = desk.writer.next_due_ns()
    desk.writer.tick()
    assert desk.volume.state is VolumeState.ONLINE


def test_a_volume_that_fails_again_soon_after_it_came_back_waits_longer(desk: Desk) -> None:
    recorder = desk.recorder(CAMERA, TrackType.VIDEO)
    script = a_track()
    pauses = []
    for _ in range(4):
        desk.disk.fail("write", code=errno.EIO)
        recorder.append(script.with_gop().fragments[-1])
        recorder = desk.recorder(CAMERA, TrackType.VIDEO)
        assert desk.volume.state is VolumeState.FAILED
        due = desk.writer.next_due_ns()
        pauses.append((due - desk.now_ns) // NS)
        desk.disk.mend()
        desk.now_ns = due
        desk.writer.tick()
        assert desk.volume.state is VolumeState.ONLINE
    assert pauses == [2, 4, 8, 16]


def test_written_footage_is_forced_when_the_interval_is_over_and_only_then(desk: Desk) -> None:
    a_track().with_gop().feed(desk.recorder(CAMERA, TrackType.VIDEO))
    before = desk.disk.counts["fsync"]
    due = desk.settings.fsync_interval_ns
    assert desk.writer.next_due_ns() <= due
    desk.now_ns = due - 1
    desk.writer.tick()
    assert desk.disk.counts["fsync"] == before
    desk.now_ns = due
    desk.writer.tick()
    assert desk.disk.counts["fsync"] == before + 1
    desk.now_ns += desk.settings.fsync_interval_ns
    desk.writer.tick()
    assert desk.disk.counts["fsync"] == before + 1, "nothing new to force"


def test_a_fault_of_ours_in_one_file_costs_no_other_track(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    picture, sound = desk.recorder(CAMERA, TrackType.VIDEO), desk.recorder(SOUND, TrackType.AUDIO)
    a_track(PCMU).with_gop().feed(sound)

    def fail(row: object) -> None:
        raise RuntimeError("a fault on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(desk.index, "insert_open", fail)
        a_track().with_gop().feed(picture)
    assert [type(e) for e in desk.writer.events] == [Appended, Lost, Failed]
    assert "a fault on purpose" in caplog.text
    assert desk.volume.state is VolumeState.ONLINE
    a_track(PCMU, START + NS).with_gop().feed(sound)
    assert [type(e) for e in desk.writer.events[3:]] == [Appended, Closed], "the next file of its rotation"


def test_files_are_forced_to_the_disk_one_at_a_time_between_appends(desk: Desk) -> None:
    keys = [TrackKey(CAMERA.recording, TrackToken(f"AUDIO00{n}")) for n in (1, 2, 3)]
    for key in keys:
        a_track(PCMU).with_gop(count=1).feed(desk.recorder(key, TrackType.AUDIO))
        desk.now_ns += NS
    before = desk.disk.counts["fsync"]
    desk.writer.tick()
    assert desk.disk.counts["fsync"] == before, "no file has waited for the interval"
    desk.now_ns += desk.settings.fsync_interval_ns
    for forced in (1, 2, 3):
        assert desk.writer.next_due_ns() <= desk.now_ns, "the next one is due at once"
        desk.writer.tick()
        assert desk.disk.counts["fsync"] == before + forced
    assert desk.writer.next_due_ns() > desk.now_ns


def test_a_fault_of_ours_while_files_are_unlinked_is_no_reason_to_try_without_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a_track(PCMU).with_gop(count=4).feed(desk.recorder(SOUND, TrackType.AUDIO))
    deletion = Delete(SOUND)
    with monkeypatch.context() as patch:
        patch.setattr(desk.index, "known", _fails)
        patch.setattr(desk.index, "deleting_files", _fails)
        desk.writer.handle(deletion)
        desk.writer.tick()
        for _ in range(2):
            assert desk.writer.next_due_ns() > desk.now_ns
            desk.now_ns += desk.settings.retry_limit_ns
            desk.writer.tick()
    assert caplog.text.count("a fault on purpose") >= 3
    assert Done(deletion, None) in desk.writer.events, "hidden, and unlinked later"
    desk.now_ns += desk.settings.retry_limit_ns
    desk.writer.tick()
    assert [p for p in desk.volume.root.rglob("*.mp4") if AUDIO001 in p.parts] == []
    assert desk.volume.state is VolumeState.ONLINE


def test_a_fault_of_ours_while_a_volume_is_tried_postpones_the_next_try(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk.disk.fail("write", code=errno.EIO)
    a_track().with_gop().feed(desk.recorder(CAMERA, TrackType.VIDEO))
    with monkeypatch.context() as patch:
        patch.setattr(desk.index, "open_files", _fails)
        desk.now_ns = desk.writer.next_due_ns()
        desk.writer.tick()
    assert "a fault on purpose" in caplog.text
    assert desk.volume.state is VolumeState.FAILED
    assert desk.writer.next_due_ns() > desk.now_ns
    desk.now_ns = desk.writer.next_due_ns()
    desk.writer.tick()
    assert desk.volume.state is VolumeState.ONLINE


def _fails(*of: object) -> NoReturn:
    raise RuntimeError("a fault on purpose")
