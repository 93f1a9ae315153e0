"""What a start leaves for later: not shown before it was examined, never lost, and it may be killed anywhere."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvr.media.unit import Fragment
from nvr.model.recording import TrackType
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey, TrackToken
from nvr.storage import later
from nvr.storage.engine import StorageEngine
from nvr.storage.inventory import Day, Difference
from nvr.storage.orders import Settle
from nvr.storage.rows import FileState, FootageIndex
from nvr.storage.settling import Examined, examine
from nvr.storage.volume import IDENTITY_FILE, Volume, VolumeState
from tests.support.footage import CAMERA, TrackScript, a_track
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk, check_settled, read_all, same, settings_in, until

TRACKS = [CAMERA, *(TrackKey(CAMERA.recording, TrackToken(f"VIDEO00{n}")) for n in (2, 3, 4))]


class Crashed:
    """Four tracks that were being recorded when the daemon died: each has a closed file and an open one."""

    def __init__(self) -> None:
        self.scripts: dict[TrackKey, TrackScript] = {}
        self.index = IndexInMemory()

    async def make(self, data: Path) -> None:
        live, rows = data / "live", IndexInMemory()
        engine = StorageEngine(settings_in(live), rows, disk=FailingDisk())
        await engine.start()
        for key in TRACKS:
            script = self.scripts[key] = a_track().with_gop(count=8).with_gap().with_gop(count=8)
            script.feed(engine.recorder(key, TrackType.VIDEO))
        await engine.flush()
        shutil.copytree(live / "default", data / "default")
        self.index.rows = dict(rows.rows)
        await engine.stop()
        shutil.rmtree(live)

    def fragments(self, key: TrackKey = CAMERA) -> list[Fragment]:
        return self.scripts[key].fragments


@pytest.fixture
async def crashed(tmp_path: Path) -> Crashed:
    made = Crashed()
    await made.make(tmp_path)
    return made


class Gate:
    """Lets so many files be examined as it is told."""

    def __init__(self) -> None:
        self.open = threading.Semaphore(0)
        self.examined: list[Path] = []

    def examine(self, path: Path, **options: object) -> Examined | None:
        assert self.open.acquire(timeout=60)
        self.examined.append(path)
        return examine(path)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(later, "examine", made.examine)
    yield made
    made.open.release(1000)


def shown(engine: StorageEngine, key: TrackKey = CAMERA) -> list[int]:
    return [ref.start_ns for ref in engine.footage(key).fragments(0)]


def starts(fragments: list[Fragment]) -> list[int]:
    return [f.start_ns for f in fragments]


async def test_recording_goes_on_before_open_files_are_examined_and_they_are_shown_when_they_have_been(
    tmp_path: Path, crashed: Crashed, gate: Gate
) -> None:
    engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
    await engine.start()
    before = crashed.fragments()
    opened = next(r for r in crashed.index.rows.values() if r.key == CAMERA and r.state is FileState.OPEN)
    closed = [f for f in before if f.start_ns < opened.start_ns]
    assert [c.pending for c in engine.checking()] == [4]
    assert shown(engine) == starts(closed), "what was not examined is not shown"
    assert engine.awaits(CAMERA)
    assert engine.timeline(CAMERA).latest == closed[-1].end_ns
    script = crashed.scripts[CAMERA].with_gap(20)
    script.steps.clear()
    script.with_gop(count=2).feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    assert shown(engine) == starts([*closed, *script.fragments])
    begun = next(r for r in crashed.index.rows.values() if r.start_ns == script.fragments[0].start_ns)
    assert begun.gap_before is GapReason.DAEMON_STOPPED, "known before the file before it has been read"
    gate.open.release(1000)
    await engine.settled()
    assert [c.pending for c in engine.checking()] == [0]
    assert shown(engine) == starts([*before, *script.fragments])
    assert not engine.awaits(CAMERA)
    reasons = [r.end_reason for r in engine.timeline(CAMERA).runs]
    assert reasons == [GapReason.SOURCE_LOST, GapReason.DAEMON_STOPPED, None]
    for key in TRACKS[1:]:
        assert [same(s) for _, s in read_all(engine.footage(key))] == [same(f.samples) for f in crashed.fragments(key)]
    await engine.stop()
    check_settled(tmp_path / "default", crashed.index, TRACKS)


@pytest.mark.parametrize("examined", range(5))
async def test_a_kill_while_files_are_examined_loses_nothing(
    examined: int, tmp_path: Path, crashed: Crashed, gate: Gate
) -> None:
    first = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
    await first.start()
    for _ in range(examined):
        gate.open.release()
    await until(lambda: first.checking()[0].pending <= 4 - examined)
    await first.flush()
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "default", killed / "default")
    index = IndexInMemory()
    index.rows = dict(crashed.index.rows)
    gate.open.release(1000)
    await first.stop()
    second = StorageEngine(settings_in(killed), index, disk=FailingDisk())
    await second.start()
    await second.settled()
    for key in TRACKS:
        assert [same(s) for _, s in read_all(second.footage(key))] == [same(f.samples) for f in crashed.fragments(key)]
    await second.stop()
    check_settled(killed / "default", index, TRACKS)


async def test_a_stop_breaks_the_examination_off_and_the_next_start_takes_it_up(
    tmp_path: Path, crashed: Crashed
) -> None:
    for _ in range(2):
        engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
        await engine.start()
        await engine.stop()
    engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
    await engine.start()
    await engine.settled()
    assert shown(engine) == starts(crashed.fragments())
    await engine.stop()


async def test_a_track_deleted_before_its_open_file_was_examined_stays_deleted(
    tmp_path: Path, crashed: Crashed, gate: Gate
) -> None:
    engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
    await engine.start()
    await engine.delete_track(CAMERA)
    gate.open.release(1000)
    await engine.settled()
    assert shown(engine) == []
    assert engine.timeline(CAMERA).runs == ()
    assert [c.pending for c in engine.checking()] == [0]
    await engine.stop()
    check_settled(tmp_path / "default", crashed.index, TRACKS)


async def test_an_open_file_that_turns_out_to_be_unreadable_stays_known_and_is_told(
    tmp_path: Path, crashed: Crashed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(path: Path, **options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(later, "examine", broken)
    engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
    await engine.start()
    await engine.settled()
    checking = engine.checking()[0]
    assert (checking.pending, checking.failed, checking.under_way) == (4, 4, False)
    assert "cannot be recovered now: [Errno 5] Input/output error" in caplog.text
    await engine.stop()
    assert sum(r.state is FileState.OPEN for r in crashed.index.rows.values()) == 4


async def test_a_volume_that_leaves_before_its_open_files_were_examined_has_them_examined_when_it_is_back(
    tmp_path: Path, crashed: Crashed, gate: Gate
) -> None:
    engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
    await engine.start()
    before = crashed.fragments()
    (tmp_path / "default").rename(tmp_path / "elsewhere")
    gate.open.release(1000)
    await engine.settled()
    assert engine.checking()[0].failed == 4
    script = crashed.scripts[CAMERA].with_gap(20)
    script.steps.clear()
    script.with_gop().feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await until(lambda: engine.volumes()[0].state is not VolumeState.ONLINE)
    (tmp_path / "elsewhere").rename(tmp_path / "default")
    await until(lambda: engine.volumes()[0].state is VolumeState.ONLINE)
    await engine.settled()
    assert engine.checking()[0].pending == 0
    assert shown(engine) == starts(before)
    await engine.stop()
    check_settled(tmp_path / "default", crashed.index, TRACKS)


async def _settled(data: Path, index: IndexInMemory) -> StorageEngine:
    engine = StorageEngine(settings_in(data), index, disk=FailingDisk())
    await engine.start()
    await engine.settled()
    return engine


async def test_files_of_any_day_without_a_row_get_one(tmp_path: Path, crashed: Crashed) -> None:
    await (await _settled(tmp_path, crashed.index)).stop()
    rows = dict(crashed.index.rows)
    for day in ("20260102", "20260103", "20260104"):
        (tmp_path / "default" / "footage" / CAMERA.recording / CAMERA.track / day).mkdir()
    crashed.index.forget([r.file_id for r in rows.values() if r.key == CAMERA])
    engine = await _settled(tmp_path, crashed.index)
    assert crashed.index.rows == rows
    assert shown(engine) == starts(crashed.fragments())
    assert [r.end_reason for r in engine.timeline(CAMERA).runs] == [GapReason.SOURCE_LOST, GapReason.DAEMON_STOPPED]
    assert engine.checking()[0].adopted == sum(r.key == CAMERA for r in rows.values())
    await engine.stop()


async def test_a_directory_that_cannot_be_read_hides_no_other(
    tmp_path: Path, crashed: Crashed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await (await _settled(tmp_path, crashed.index)).stop()
    rows = dict(crashed.index.rows)
    crashed.index.forget([r.file_id for r in rows.values() if r.key == TRACKS[0]])
    compare = later.difference

    def broken(volume: Volume, index: FootageIndex, day: Day) -> Difference:
        if day.key == TRACKS[3]:  # the first one that is looked at
            raise OSError(5, "Input/output error")
        return compare(volume, index, day)

    monkeypatch.setattr(later, "difference", broken)
    engine = await _settled(tmp_path, crashed.index)
    assert "cannot be compared with the index: [Errno 5] Input/output error" in caplog.text
    assert crashed.index.rows == rows
    await engine.stop()


async def test_an_older_copy_of_a_volume_is_told_of_and_no_row_is_lost(
    tmp_path: Path, crashed: Crashed, caplog: pytest.LogCaptureFixture
) -> None:
    await (await _settled(tmp_path, crashed.index)).stop()
    rows = dict(crashed.index.rows)
    newest = crashed.index.newest(CAMERA)
    assert newest is not None
    (tmp_path / "default" / newest.path).unlink()
    engine = await _settled(tmp_path, crashed.index)
    checking = engine.checking()[0]
    assert (checking.missing, checking.first_missing) == (1, newest.path)
    assert "1 files of the index are not there" in caplog.text
    assert crashed.index.rows == rows
    await engine.stop()


async def test_files_of_another_recorder_and_copies_are_left_alone_and_told_of(
    tmp_path: Path, crashed: Crashed, caplog: pytest.LogCaptureFixture
) -> None:
    await (await _settled(tmp_path, crashed.index)).stop()
    other = Crashed()
    await other.make(tmp_path / "other")
    there = tmp_path / "default" / "footage"
    moved = {p.relative_to(tmp_path / "other" / "default" / "footage") for p in (tmp_path / "other").rglob("*.mp4")}
    shutil.copytree(tmp_path / "other" / "default" / "footage", there, dirs_exist_ok=True)
    own = next(p for p in there.rglob("*.mp4") if p.relative_to(there) not in moved)
    copy = shutil.copy(own, own.with_name("000000-" + "c" * 32 + ".mp4"))
    (own.parent / ("000000-" + "d" * 32 + ".mp4")).write_bytes(b"something else")
    before = {p: p.read_bytes() for p in there.rglob("*.mp4")}
    rows = dict(crashed.index.rows)
    engine = await _settled(tmp_path, crashed.index)
    assert engine.checking()[0].strange == len(moved) + 2
    assert "and this is volume" in caplog.text
    assert str(copy) in caplog.text or "nothing of them is changed" in caplog.text
    assert crashed.index.rows == rows
    await engine.stop()
    assert {p: p.read_bytes() for p in there.rglob("*.mp4")} == before


async def test_a_mount_that_is_gone_is_not_taken_for_a_volume_without_files(
    tmp_path: Path, crashed: Crashed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await _settled(tmp_path, crashed.index)).stop()
    days = later.days_of

    def unmounted(*arguments: object) -> object:
        found = days(*arguments)  # type: ignore[arg-type]
        (tmp_path / "default").rename(tmp_path / "elsewhere")
        return found

    monkeypatch.setattr(later, "days_of", unmounted)
    engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=FailingDisk())
    await engine.start()
    await engine.settled()
    checking = engine.checking()[0]
    assert (checking.missing, checking.days) == (0, 0)
    await engine.stop()


async def test_a_volume_of_another_recorder_in_a_new_place_is_taken_with_what_it_holds(tmp_path: Path) -> None:
    other = Crashed()
    await other.make(tmp_path)
    identity = json.loads((tmp_path / "default" / IDENTITY_FILE).read_text())
    index = IndexInMemory()
    (tmp_path / "volumes.json").unlink(missing_ok=True)
    engine = await _settled(tmp_path, index)
    assert engine.volumes()[0].id == identity["id"]
    for key in TRACKS:
        assert shown(engine, key) == starts(other.fragments(key))
    await engine.stop()
    check_settled(tmp_path / "default", index, TRACKS)


async def test_footage_that_waits_for_the_disk_goes_first(tmp_path: Path, crashed: Crashed) -> None:
    disk = FailingDisk()
    engine = StorageEngine(settings_in(tmp_path, queue_bytes=1 << 10), crashed.index, disk=disk)
    await engine.start()
    with disk.held():
        crashed.scripts[CAMERA].with_gap(20).steps.clear()
        crashed.scripts[CAMERA].with_gop(size=600).feed(engine.recorder(CAMERA, TrackType.VIDEO))
        assert engine.queued_bytes > 1 << 7
    await engine.settled()
    assert engine.lost == 0
    assert [c.pending for c in engine.checking()] == [0]
    await engine.stop()


async def test_nobody_is_told_that_all_is_examined_before_it_is_shown(
    tmp_path: Path, crashed: Crashed, gate: Gate
) -> None:
    """The writer has settled the last file, and is held up by what stands behind that in its queue."""
    disk = FailingDisk()
    engine = StorageEngine(settings_in(tmp_path), crashed.index, disk=disk)
    await engine.start()
    gate.open.release(3)
    await until(lambda: engine.checking()[0].pending == 1)
    last = next(key for key in TRACKS if len(shown(engine, key)) < len(crashed.fragments(key)))
    busy, next_one = (key for key in TRACKS[:3] if key != last) if last in TRACKS[:3] else TRACKS[:2]
    earlier = disk.hang("write")
    a_track(at_ns=crashed.scripts[busy].at_ns).with_gop().feed(engine.recorder(busy, TrackType.VIDEO))
    await until(earlier.begun.is_set)
    gate.open.release(1)
    await until(lambda: any(isinstance(order, Settle) for order, _ in engine._threads[0]._orders))
    behind = disk.hang("open")
    a_track(at_ns=crashed.scripts[next_one].at_ns).with_gop().feed(engine.recorder(next_one, TrackType.VIDEO))
    earlier.release()
    await until(behind.begun.is_set)
    await until(lambda: engine.checking()[0].pending == 0)
    assert engine.timeline(last).latest == crashed.fragments(last)[-1].end_ns
    behind.release()
    await engine.stop()
