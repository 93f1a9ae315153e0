"""What is deleted by rule, and what is not: the engine on real files, with a clock and a disk of the test."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nvr.media.unit import Fragment
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, RecordingToken, TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.retention import Rule
from nvr.storage.rows import FileState, FragmentRef
from nvr.storage.settings import RecordingSettings
from nvr.storage.volume import VolumeState, VolumeStatus
from tests.support.footage import CAMERA, PCMU, START, TrackScript, a_track
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import NEVER, FailingDisk, check_invariants, check_settled, read_all, settings_in, until

SOUND = TrackKey(CAMERA.recording, AUDIO001)
OTHER = TrackKey(RecordingToken("rec-2"), CAMERA.track)


class Told:
    """What a watcher of storage was told."""

    def __init__(self) -> None:
        self.deleted: list[tuple[TrackKey, UtcNs, UtcNs]] = []
        self.states: list[VolumeState] = []

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None: ...

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None: ...

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        self.deleted.append((key, start_ns, end_ns))

    def volume_changed(self, status: VolumeStatus) -> None:
        self.states.append(status.state)


class Store:
    """An engine with files of one second, a fragment each: as long as `seconds` of footage have been recorded, so late
    it is."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self.data = data
        self.settings = settings_in(data, **{"rotation_ns": NS, "retry_ns": NEVER, **settings})
        self.index = IndexInMemory()
        self.disk = FailingDisk()
        self.retention: dict[RecordingToken, int] = {}
        self.scripts: dict[TrackKey, TrackScript] = {}
        self.handed: dict[TrackKey, list[Fragment]] = {}
        self.told_refs: dict[TrackKey, list[FragmentRef]] = {}
        self.told = Told()
        self.extra_ns = 0
        self.now: Callable[[], int] = time.monotonic_ns

    def utc(self) -> UtcNs:
        return max((s.at_ns for s in self.scripts.values()), default=START) + self.extra_ns

    async def start(self) -> StorageEngine:
        self.engine = StorageEngine(self.settings, self.index, disk=self.disk, utc=self.utc, now=self.now)
        self.engine.retention_of = lambda recording: self.retention.get(recording, 0)
        await self.engine.start()
        self.engine.watcher, self.engine.on_volume = self.told, self.told.volume_changed
        return self.engine

    def track(self, key: TrackKey) -> TrackScript:
        if key not in self.scripts:
            self.scripts[key] = a_track(PCMU if key.track == AUDIO001 else None)
            self.handed[key] = []
            self.told_refs[key] = []
            self.engine.on_append(key, self.told_refs[key].append)
        return self.scripts[key]

    async def record(self, seconds: int, *keys: TrackKey, size: int = 300) -> None:
        for _ in range(seconds):
            for key in keys or (CAMERA,):
                script = self.track(key).with_gop(25, size)
                self.handed[key].append(script.fragments[-1])
                self.engine.recorder(key, script.configuration.track_type).append(script.fragments[-1])
            await self.engine.flush()

    async def end_run(self, *keys: TrackKey, reason: GapReason = GapReason.SOURCE_LOST) -> None:
        for key in keys:
            self.engine.recorder(key, self.scripts[key].configuration.track_type).end_run(reason)
        await self.engine.flush()

    async def sweep(self) -> None:
        await self.engine.retention.sweep()
        await self.engine.flush()

    def shown(self, key: TrackKey = CAMERA) -> list[UtcNs]:
        return [ref.start_ns for ref, _ in read_all(self.engine.footage(key))]

    def files(self, key: TrackKey = CAMERA) -> int:
        return len(list((self.data / "default" / "footage" / key.recording / key.track).rglob("*.mp4")))

    def check(self) -> None:
        """All invariants, for what has not been deleted: of each track the part behind what was told to be gone."""
        gone = {key: max((end for k, _, end in self.told.deleted if k == key), default=0) for key in self.scripts}
        handed = {key: [f for f in self.handed[key] if f.start_ns >= gone[key]] for key in self.scripts}
        told = {key: [r for r in self.told_refs[key] if r.start_ns >= gone[key]] for key in self.scripts}
        check_invariants(self.engine, self.index, self.scripts, handed, told)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path)
    await store.start()
    yield store
    await store.engine.stop()
    store.check()
    check_settled(tmp_path / "default", store.index, store.scripts)


@pytest.mark.requirement("RC-5.3.1-02", "RC-5.25.4-01")
async def test_what_is_older_than_the_retention_time_goes_from_the_disk_and_is_told_once_for_each_track(
    store: Store,
) -> None:
    store.retention[CAMERA.recording] = 16 * NS  # an eighth early: files that begin more than 14 s ago
    await store.record(30, CAMERA, SOUND, OTHER)
    await store.sweep()
    for key in (CAMERA, SOUND):
        kept = [f.start_ns for f in store.handed[key] if f.start_ns >= store.utc() - 14 * NS]
        assert store.shown(key) == kept
        extent = store.engine.extent(key)
        assert extent is not None
        assert (extent.earliest, extent.latest, extent.recording) == (kept[0], store.utc(), True)
        assert store.files(key) == len({(row.file_id) for row in store.index.files(key, 0)})
        assert store.files(key) <= 15
    assert sorted(store.told.deleted) == sorted(
        (key, START, min(store.shown(key))) for key in (CAMERA, SOUND)
    )  # the recording without a limit keeps all
    assert len(store.shown(OTHER)) == 30
    assert store.engine.retention.deleted[Rule.TIME].files == 30 - store.files() + 30 - store.files(SOUND)
    store.check()


async def test_what_repairs_have_kept_beside_a_file_goes_with_it_and_the_rest_with_the_last_file_of_the_day(
    store: Store,
) -> None:
    await store.record(6)
    await store.end_run(CAMERA)
    paths = [store.data / "default" / row.path for row in store.index.files(CAMERA, 0)]
    first, *_, last = paths

    def keep(path: Path, what: str) -> Path:
        kept = path.with_name(f"{path.name}.{what}.cut")
        kept.write_bytes(b"kept")
        return kept

    of_first = [keep(first, "4711"), keep(first, "head")]
    of_last, of_lost = keep(last, "4711"), keep(first.with_name(f"000000-{'0' * 32}.mp4"), "head")
    store.retention[CAMERA.recording] = 4 * NS
    await store.sweep()
    assert not first.exists()
    assert last.exists()
    assert not any(kept.exists() for kept in of_first)
    assert of_last.exists()
    assert of_lost.exists()
    store.extra_ns = 60 * NS
    await store.sweep()
    assert store.files() == 0
    assert not last.parent.exists(), "with all that was in it"


@pytest.mark.requirement("RC-5.3.1-04")
async def test_zero_puts_no_time_limit_on_footage(store: Store) -> None:
    store.retention[CAMERA.recording] = 0
    await store.record(3)
    store.extra_ns = 100 * 365 * 86_400 * NS
    await store.sweep()
    assert len(store.shown()) == 3
    assert store.told.deleted == []


async def test_a_clock_that_is_set_forward_is_doubted_for_an_hour(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [time.monotonic_ns()]
    store.engine.retention.clock._now = lambda: clock[0]
    await store.record(20)
    await store.sweep()
    store.retention[CAMERA.recording] = 86_400 * NS
    store.extra_ns = 10 * 365 * 86_400 * NS
    for _ in range(3):
        await store.sweep()
    assert store.files() == 20
    assert caplog.text.count("the time is doubted: ") == 1
    assert len(store.shown()) == 20, "nobody knows what is too old"
    store.extra_ns = 0
    await store.sweep()
    assert len(store.shown()) == 20
    store.extra_ns = 10 * 365 * 86_400 * NS
    await store.sweep()
    clock[0] += 3600 * NS
    await store.sweep()
    assert store.files() == 1, "it was meant"
    store.retention.clear()


@pytest.mark.requirement("RC-5.3.1-03")
async def test_what_is_too_old_is_not_shown_before_it_is_deleted(store: Store) -> None:
    await store.record(20)
    store.retention[CAMERA.recording] = 5 * NS
    limit = store.utc() - 5 * NS
    assert store.shown() == [f.start_ns for f in store.handed[CAMERA] if f.end_ns > limit]
    extent, timeline = store.engine.extent(CAMERA), store.engine.timeline(CAMERA)
    assert extent is not None
    assert (extent.earliest, timeline.earliest) == (limit, limit)
    assert timeline.run_at(limit - 1) is None
    store.extra_ns = 60 * NS  # the source is silent: the growing file cannot go, and is not shown
    assert (store.engine.extent(CAMERA), store.engine.timeline(CAMERA).runs, store.shown()) == (None, (), [])
    await store.sweep()
    assert [row.state for row in store.index.rows.values()] == [FileState.OPEN]
    store.extra_ns = 0
    store.retention.clear()


async def test_a_shorter_time_makes_shorter_files_from_the_next_fragment_on(tmp_path: Path) -> None:
    store = Store(tmp_path, rotation_ns=300 * NS)
    await store.start()
    await store.record(10)
    assert len(store.index.rows) == 1
    store.retention[CAMERA.recording] = 16 * NS
    await store.record(20)
    await store.sweep()
    assert len(store.shown()) <= 15
    store.check()
    await store.engine.stop()


async def test_files_gone_by_a_rule_stay_gone_after_a_restart_which_goes_on_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.start()
    store.retention[CAMERA.recording] = 8 * NS
    await store.record(20)
    store.disk.fail("unlink", times=1000)
    await store.sweep()
    assert len(store.shown()) < 10, "hidden, although nothing could be unlinked"
    assert store.files() == 20
    await store.engine.stop()
    store.disk.mend()
    store.extra_ns = 4 * NS
    await store.start()
    await until(lambda: all(row.state is FileState.CLOSED for row in store.index.rows.values()))
    await store.sweep()
    assert store.files() == len(store.shown()) <= 5
    await store.engine.stop()
    store.check()
    check_settled(tmp_path / "default", store.index, [CAMERA])


async def test_a_recording_above_its_quota_loses_the_oldest_files_of_all_its_tracks(tmp_path: Path) -> None:
    own = RecordingSettings(OTHER.recording, quota_bytes=0)
    store = Store(tmp_path, recording_quota_bytes=40_000, recordings=(own,))
    await store.start()
    await store.record(20, CAMERA, SOUND, OTHER)
    await store.sweep()
    sizes = [p.stat().st_size for p in (tmp_path / "default" / "footage" / CAMERA.recording).rglob("*.mp4")]
    assert 30_000 < sum(sizes) <= 40_000
    first, second = store.shown(CAMERA)[0], store.shown(SOUND)[0]
    assert abs(first - second) <= NS, "both tracks end at the same time"
    assert len(store.shown(OTHER)) == 20, "its own quota is none"
    await store.record(5, CAMERA, SOUND, OTHER)
    await store.sweep()
    assert store.shown(CAMERA)[0] > first
    assert store.engine.retention.deleted[Rule.QUOTA].bytes > 0
    store.check()
    await store.engine.stop()


class SmallDisk(FailingDisk):
    """Holds so many bytes; who writes more gets ENOSPC."""

    def __init__(self, root: Path, capacity: int) -> None:
        super().__init__()
        self.root = root
        self.capacity = capacity

    def free_bytes(self, path: Path) -> int:
        return self.capacity - sum(p.stat().st_size for p in self.root.rglob("*.mp4"))

    def write_once(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        if self.free_bytes(self.root) < sum(map(len, parts)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write_once(fd, parts, offset)


@pytest.mark.requirement("RC-5.1-14", "RC-5.3.1-05", "RC-5.25.4-01")
async def test_a_volume_that_fills_up_loses_the_oldest_of_all_recordings_and_recording_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path, minimum_free=20_000, reserve_bytes=64_000)
    store.disk = SmallDisk(tmp_path / "default", 400_000)
    await store.start()
    store.retention = dict.fromkeys((CAMERA.recording, OTHER.recording), 3600 * NS)
    for _ in range(50):
        await store.record(1, CAMERA, OTHER, size=600)
        await store.sweep()
    status = store.engine.volumes()[0]
    assert (status.state, status.failures) == (VolumeState.ONLINE, 0)
    assert store.disk.free_bytes(tmp_path) >= 20_000 + 64_000
    for key in (CAMERA, OTHER):
        assert [run.end_reason for run in store.engine.timeline(key).runs] == [None], "without a gap"
        assert START < store.shown(key)[0] < store.utc() - 5 * NS, "no more than it takes"
    assert {k for k, _, _ in store.told.deleted} == {CAMERA, OTHER}
    assert abs(store.shown(CAMERA)[0] - store.shown(OTHER)[0]) <= NS, "both have lost the same time"
    store.check()
    await store.engine.stop()


async def test_a_full_volume_is_emptied_file_by_file_and_tried_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path, reserve_bytes=100)  # so small that retention begins when it is too late
    store.disk = SmallDisk(tmp_path / "default", 100_000)
    await store.start()
    for _ in range(40):
        await store.record(1)
        while store.engine.volumes()[0].state is VolumeState.FULL:
            await store.sweep()
    assert store.told.states[:2] == [VolumeState.FULL, VolumeState.ONLINE]
    runs = store.engine.timeline(CAMERA).runs
    assert {run.end_reason for run in runs} == {GapReason.STORAGE, None}
    assert len(store.shown()) > 5
    store.check()
    await store.engine.stop()


async def test_a_file_system_that_frees_space_late_is_not_emptied(tmp_path: Path) -> None:
    store = Store(tmp_path, reserve_bytes=30_000)
    store.disk.free = 100_000
    await store.start()
    await store.record(30)
    store.disk.free = 20_000  # and stays there, whatever is unlinked
    await store.record(1)
    for _ in range(10):
        await store.sweep()
    deleted = store.engine.retention.deleted[Rule.SPACE]
    assert 17_500 <= deleted.bytes < 30_000
    assert len(store.shown()) > 20
    store.check()
    await store.engine.stop()


async def test_nothing_is_deleted_for_a_disk_that_is_merely_slow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, reserve_bytes=30_000, queue_bytes=20_000)
    store.disk.free = 33_000  # between the reserve and a quarter more
    await store.start()
    await store.record(5)
    recorder = store.engine.recorder(CAMERA, store.track(CAMERA).configuration.track_type)
    with store.disk.held():  # what waits is not written
        while recorder.append(store.track(CAMERA).with_gop(25).fragments[-1]):
            pass
        assert not store.engine._threads[0].writer.volume.takes_footage
        await store.engine.retention.sweep()
    assert store.engine.retention.deleted[Rule.SPACE].files == 0
    assert "no footage can be deleted" not in caplog.text
    await store.engine.stop()


async def until_online(store: Store) -> None:
    await until(lambda: store.engine.volumes()[0].state is VolumeState.ONLINE)
    await store.engine.flush()


async def test_overwrite_off_deletes_nothing_and_stops_recording(tmp_path: Path) -> None:
    store = Store(tmp_path, quota=60_000, reserve_bytes=20_000, overwrite=False)
    await store.start()
    await store.record(40)
    await store.sweep()
    assert store.told.deleted == []
    assert store.engine.volumes()[0].state is VolumeState.FULL
    assert "quota" in store.engine.volumes()[0].why
    assert store.shown()[0] == START
    store.check()
    await store.engine.stop()


async def test_a_quota_of_a_volume_is_kept_and_counted_also_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, quota=100_000, reserve_bytes=20_000)
    for _ in range(2):
        await store.start()
        for _ in range(15):
            await store.record(2)
            await store.sweep()
            used = sum(p.stat().st_size for p in (tmp_path / "default").rglob("*.mp4"))
            status = store.engine.volumes()[0]
            assert (status.state, status.used, status.quota) == (VolumeState.ONLINE, used, 100_000)
            assert used <= 100_000 - 20_000 // 2
        store.check()
        await store.engine.stop()


async def test_what_is_held_stays_with_all_behind_it_until_it_is_released(store: Store) -> None:
    await store.record(20, CAMERA, OTHER)
    starts = store.shown()
    with await store.engine.hold(CAMERA, starts[8]) as hold:
        store.retention = dict.fromkeys((CAMERA.recording, OTHER.recording), 4 * NS)
        await store.sweep()
        assert [ref.start_ns for ref, _ in read_all(store.engine.footage(CAMERA, hold))] == starts[8:]
        assert store.shown()[0] > starts[14], "too old for others"
        assert store.shown(OTHER)[0] > starts[14], "no hold there"
        assert store.engine.retention.holds.starts() == {CAMERA: starts[8]}
    hold.release()
    await store.sweep()
    assert store.files() <= 5
    assert {(key, start, end) for key, start, end in store.told.deleted if key == CAMERA} == {
        (CAMERA, START, starts[8]),
        (CAMERA, starts[8], store.shown()[0]),
    }


async def test_a_hold_waits_for_a_deletion_that_is_under_way(store: Store) -> None:
    await store.record(10)
    store.retention[CAMERA.recording] = 4 * NS
    with store.disk.held():
        sweeping = asyncio.create_task(store.engine.retention.sweep())
        await asyncio.sleep(0)
        holding = asyncio.create_task(store.engine.hold(CAMERA, START))
        await asyncio.sleep(0)
        assert not holding.done()
    with await holding as hold:
        await sweeping
        there = [ref.start_ns for ref, _ in read_all(store.engine.footage(CAMERA, hold))]
        await store.sweep()
        assert [ref.start_ns for ref, _ in read_all(store.engine.footage(CAMERA, hold))] == there


async def test_a_reader_goes_on_behind_what_is_deleted_while_it_reads(store: Store) -> None:
    await store.record(40)
    reading = store.engine.footage(CAMERA).fragments(0)
    first = next(reading)
    store.retention[CAMERA.recording] = 8 * NS
    await store.sweep()
    assert store.engine.footage(CAMERA).read(first) == []
    rest = [ref.start_ns for ref in reading if store.engine.footage(CAMERA).read(ref)]
    assert rest == store.shown()


async def test_an_index_that_fails_is_told_once_and_the_next_sweep_does_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await store.record(10)
    store.retention[CAMERA.recording] = 4 * NS
    store.index.fail_at = "mark_deleting"
    for _ in range(3):
        await store.sweep()
    assert store.engine.retention.failures == 3
    assert caplog.text.count("retention cannot delete") == 1
    store.index.fail_at = None
    with caplog.at_level(logging.WARNING):
        await store.sweep()
    assert "retention goes on" in caplog.text
    assert store.files() <= 5


@pytest.mark.parametrize("kind", ["unlink", "fsync directory", "write", "open", "truncate", "forget", "mark_deleting"])
async def test_a_failure_at_every_call_of_a_deletion_by_rule_keeps_the_invariants(kind: str, tmp_path: Path) -> None:
    for nth in range(1, 100):
        if await _failing_at(kind, nth, Store(tmp_path / str(nth), retry_ns=1_000_000)) < nth:
            return  # the failure was set behind the last call of its kind
    raise AssertionError("there is no end of calls")


async def _failing_at(kind: str, nth: int, store: Store) -> int:
    """How many calls of this kind there were."""
    await store.start()
    store.retention[CAMERA.recording] = 5 * NS
    await store.record(6, CAMERA, OTHER)
    before = store.disk.counts.get(kind, 0)
    if kind in ("forget", "mark_deleting"):
        store.index.fail_at = kind
    else:
        store.disk.fail(kind, nth, code=errno.EIO)
    for _ in range(3):
        await store.record(1, CAMERA, OTHER)
        await store.sweep()
    reached = store.disk.counts.get(kind, 0) - before
    store.disk.mend()
    store.index.fail_at = None
    await until_online(store)
    await store.sweep()
    store.check()
    await store.record(2, CAMERA, OTHER)
    await store.sweep()
    await until(lambda: all(row.state is not FileState.DELETING for row in store.index.rows.values()))
    assert len(store.shown()) < 7
    await store.engine.stop()
    store.check()
    check_settled(store.data / "default", store.index, store.scripts)
    return reached


async def test_files_of_a_volume_that_was_unmounted_meanwhile_are_not_taken_for_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path, retry_ns=1_000_000)
    await store.start()
    await store.record(12)
    await store.end_run(CAMERA)
    (tmp_path / "default").rename(tmp_path / "unmounted")
    (tmp_path / "default").mkdir()
    store.retention[CAMERA.recording] = 4 * NS
    await store.sweep()
    assert store.shown() == [] or store.shown()[0] > store.utc() - 5 * NS
    assert len(store.index.deleting_files(store.engine.volumes()[0].id or "")) > 7, "to be unlinked when it is back"
    (tmp_path / "default").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "default")
    await until(lambda: all(row.state is FileState.CLOSED for row in store.index.rows.values()))
    assert store.files() == len(store.index.rows) < 5
    await store.engine.stop()
