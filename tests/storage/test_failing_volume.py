"""A volume that fails wherever it can: nothing readable is lost, nothing is hidden, recording resumes by itself."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nvr.model.errors import OperatorError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.rows import FileState, FragmentRef
from nvr.storage.settings import FsyncPolicy, StorageSettings
from nvr.storage.volume import Volume, VolumeState
from tests.support.footage import CAMERA, PCMU, START, TrackScript, a_track, video
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk, check_invariants, check_settled, read_all, settings_in, until

SOUND = TrackKey(CAMERA.recording, AUDIO001)
NEVER = 3600 * NS


@dataclass
class House:
    """An engine on a disk that can fail, and what was told of it."""

    settings: StorageSettings
    index: IndexInMemory = field(default_factory=IndexInMemory)
    disk: FailingDisk = field(default_factory=FailingDisk)
    told: dict[TrackKey, list[FragmentRef]] = field(default_factory=lambda: {CAMERA: [], SOUND: []})
    scripts: dict[TrackKey, TrackScript] = field(default_factory=lambda: {CAMERA: a_track(), SOUND: a_track(PCMU)})
    clock: list[int] = field(default_factory=list)

    async def start(self) -> StorageEngine:
        self.engine = StorageEngine(self.settings, self.index, disk=self.disk)
        await self.engine.start()
        await self.engine.settled()
        for key in (CAMERA, SOUND):
            self.engine.on_append(key, self.told[key].append)
        return self.engine

    async def record(self, gops: int) -> None:
        """One fragment after the other on both tracks, each written before the next comes."""
        for _ in range(gops):
            for key, script in self.scripts.items():
                script.with_gop()
                self.engine.recorder(key, script.configuration.track_type).append(script.fragments[-1])
            await self.engine.flush()

    async def online(self) -> None:
        await until(lambda: self.engine.volumes()[0].state is VolumeState.ONLINE)
        await self.engine.flush()

    def check(self) -> None:
        handed = {key: script.fragments for key, script in self.scripts.items()}
        check_invariants(self.engine, self.index, [CAMERA, SOUND], handed, self.told)

    def check_settled(self) -> None:
        self.check()
        check_settled(self.settings.volumes[0].root, self.index, [CAMERA, SOUND])

    def shown(self) -> int:
        return sum(len(read_all(self.engine.footage(key))) for key in (CAMERA, SOUND))


FAILURES: list[tuple[str, int, bool]] = [
    *(("write", code, short) for code in (errno.ENOSPC, errno.EIO) for short in (False, True)),
    ("write", errno.EROFS, False),
    ("fsync", errno.EIO, False),
    ("fsync directory", errno.EIO, False),
    ("open", errno.EIO, False),
    ("mkdir", errno.ENOSPC, False),
]


@pytest.mark.parametrize(("kind", "code", "short"), FAILURES)
async def test_failure_at_every_call_keeps_the_invariants_and_recording_resumes(
    kind: str, code: int, short: bool, tmp_path: Path
) -> None:
    nth = 0
    while True:
        nth += 1
        house = House(settings_in(tmp_path / str(nth), rotation_ns=2 * NS, fsync=FsyncPolicy.FRAGMENT))
        await house.start()
        house.disk.fail(kind, nth, code=code, short=short)
        before = house.disk.counts.get(kind, 0)
        await house.record(8)
        reached = house.disk.counts.get(kind, 0) - before
        house.disk.mend()
        await house.online()
        house.check()
        await house.record(2)
        for key in (CAMERA, SOUND):
            assert house.told[key][-1].start_ns == house.scripts[key].fragments[-1].start_ns, "recorded again"
        await house.engine.stop()
        house.check_settled()
        if reached < nth:
            return  # the failure was set behind the last call of its kind
        assert nth < 200


@pytest.mark.parametrize("kind", ["truncate", "fsync", "unlink"])
async def test_a_failure_that_is_followed_by_another_leaves_files_that_the_next_try_settles(
    kind: str, tmp_path: Path
) -> None:
    house = House(settings_in(tmp_path))
    await house.start()
    await house.record(3)
    house.disk.fail("write", code=errno.EIO, times=3, short=True)
    house.disk.fail(kind, code=errno.EIO, times=2, also=True)
    await house.record(2)
    house.check()
    house.disk.mend()
    await house.online()
    house.check()
    await house.record(2)
    await house.engine.stop()
    house.check_settled()
    reasons = [run.end_reason for run in house.engine.timeline(CAMERA).runs]
    assert reasons == [GapReason.STORAGE, GapReason.DAEMON_STOPPED]


async def test_a_full_volume_ends_runs_with_reason_storage_and_takes_footage_again_when_there_is_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(settings_in(tmp_path, minimum_free=1 << 30))
    house.disk.free = 2 << 30
    engine = await house.start()
    await house.record(3)
    house.disk.free = (1 << 30) - 1
    await house.record(1)
    assert engine.volumes()[0].state is VolumeState.FULL
    assert "delete footage, shorten retention or add a volume" in engine.volumes()[0].why
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    assert recorder.append(a_track(at_ns=START + 100 * NS).with_gop().fragments[0]) is False
    assert recorder.lost + recorder.refused == 2
    assert [run.end_reason for run in engine.timeline(CAMERA).runs] == [GapReason.STORAGE]
    await engine.flush()  # what followed from the failure: a file with which its run has ended says so
    house.check_settled()
    house.disk.free = 2 << 30
    await house.online()
    await house.record(2)
    await engine.stop()
    house.check_settled()
    first, second = engine.timeline(CAMERA).runs
    assert (first.end_reason, second.end_reason) == (GapReason.STORAGE, GapReason.DAEMON_STOPPED)
    assert [row.gap_before for row in house.index.files(CAMERA, second.start_ns)] == [GapReason.STORAGE]
    assert caplog.text.count("full") < 10


async def test_a_start_on_a_full_volume_still_adopts_and_unlinks(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path, rotation_ns=2 * NS, minimum_free=1 << 30, retry_ns=NEVER))
    house.disk.free = 2 << 30
    await house.start()
    await house.record(12)
    house.disk.fail("write", times=1000)
    await house.engine.stop()
    house.disk.mend()
    house.index.mark_deleting([r.file_id for r in house.index.rows.values() if r.key == SOUND])
    house.disk.free = 1 << 20
    engine = await house.start()
    assert engine.volumes()[0].state is VolumeState.FULL
    assert [ref.start_ns for ref in engine.footage(CAMERA).fragments(0)] == [
        f.start_ns for f in house.scripts[CAMERA].fragments
    ]
    assert len(engine.timeline(CAMERA).runs) == 1
    await until(lambda: not any(r.key == SOUND for r in house.index.rows.values()))
    await engine.stop()


async def test_another_volume_takes_over_from_one_that_fails(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, volumes=("one", "two"), retry_ns=NEVER)
    house = House(settings)
    engine = await house.start()
    await house.record(2)
    used = house.index.files(CAMERA, 0)[0].volume_id
    house.disk.fail("write", code=errno.EIO)
    await house.record(4)
    house.check()
    rows = house.index.files(CAMERA, 0)
    assert rows[0].volume_id == used
    assert rows[-1].volume_id != used
    assert {v.state for v in engine.volumes()} == {VolumeState.ONLINE, VolumeState.FAILED}
    await engine.stop()
    house.check()


class HangingDisk(FailingDisk):
    """Forcing data to the disk hangs below `root` until `released` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.root: Path | None = None
        self.hangs, self.released = threading.Event(), threading.Event()

    def sync(self, fd: int) -> None:
        if self.root is not None and Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(self.root):
            self.hangs.set()
            assert self.released.wait(20)
        super().sync(fd)


@pytest.mark.parametrize("hanging", [0, 1])
async def test_a_volume_that_hangs_holds_neither_the_stop_nor_the_other_volumes(
    tmp_path: Path, hanging: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings, index, disk = settings_in(tmp_path, volumes=("one", "two")), IndexInMemory(), HangingDisk()
    engine = StorageEngine(settings, index, disk=disk, placement=OneEach(), stop_timeout_ns=NS // 10)
    await engine.start()
    threads = [t for t in threading.enumerate() if t.name in ("writer one", "writer two")]
    try:
        for key, script in ((CAMERA, a_track()), (SOUND, a_track(PCMU))):
            script.with_gop()
            engine.recorder(key, script.configuration.track_type).append(script.fragments[-1])
        await engine.flush()
        disk.root = settings.volumes[hanging].root
        await engine.stop()
        assert disk.hangs.is_set()
        assert [r.getMessage() for r in caplog.records if "has not stopped" in r.getMessage()] == [
            f"volume {disk.root} has not stopped within 0.1 s, 0 bytes wait to be written: its disk hangs. "
            "The next start recovers it"
        ]
        states = {row.volume_id: row.state for key in (CAMERA, SOUND) for row in index.files(key, 0)}
        ids = [v.id for v in engine.volumes()]
        assert (states[ids[hanging]], states[ids[1 - hanging]]) == (FileState.OPEN, FileState.CLOSED)  # type: ignore[index]
    finally:
        disk.released.set()
        for thread in threads:
            thread.join(10)
    check_settled(settings.volumes[hanging].root, index, [CAMERA, SOUND])  # it did what it could, late


class OneEach:
    """Video on the first volume, sound on the second."""

    def place(self, key: TrackKey, volumes: Sequence[Volume], current: Volume | None) -> Volume | None:
        return volumes[0 if key == CAMERA else 1]


async def test_a_volume_that_fails_again_and_again_is_tried_until_it_works(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path))
    await house.start()
    house.disk.fail("write", code=errno.EIO, times=20)
    await house.record(2)
    await house.online()
    assert house.disk.counts["write"] >= 20
    await house.record(2)
    await house.engine.stop()
    house.check_settled()


async def test_a_queue_that_is_full_refuses_until_half_of_it_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(settings_in(tmp_path, queue_bytes=20_000))
    engine = await house.start()
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script = house.scripts[CAMERA].with_gop(pictures=10, size=600, count=40)
    with house.disk.held():
        accepted = [recorder.append(fragment) for fragment in script.fragments]
    await engine.flush()
    refused = accepted.count(False)
    assert accepted[0]
    assert 0 < refused < 40
    assert recorder.refused == engine.refused == refused
    assert caplog.text.count("cannot keep up") == 1
    script.with_gop(count=3)
    assert all(recorder.append(fragment) for fragment in script.fragments[-3:])
    await engine.stop()
    house.check_settled()
    first, second = engine.timeline(CAMERA).runs
    assert first.end_reason is GapReason.STORAGE
    assert second.start_ns >= script.fragments[accepted.index(False)].end_ns


async def test_what_follows_a_fragment_of_ours_that_was_lost_is_damaged_up_to_the_next_clean_point(
    tmp_path: Path,
) -> None:
    house = House(settings_in(tmp_path))
    engine = await house.start()
    script = house.scripts[CAMERA].with_gop().with_gop(clean=False).with_gop(clean=False).with_gop()
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    for i, fragment in enumerate(script.fragments):
        if i == 1:
            house.disk.fail("write", code=errno.EIO)
        recorder.append(fragment)
        await engine.flush()
        await house.online()
    found = read_all(engine.footage(CAMERA))
    assert [(ref.start_ns, ref.damaged) for ref, _ in found] == [
        (script.fragments[0].start_ns, False),
        (script.fragments[2].start_ns, True),
        (script.fragments[3].start_ns, False),
    ]
    assert all(s.damaged for s in found[1][1])
    await engine.stop()


async def test_an_index_that_fails_costs_no_footage(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path))
    engine = await house.start()
    await house.record(3)
    engine.recorder(CAMERA, TrackType.VIDEO).end_run(GapReason.SOURCE_LOST)
    house.index.failures = 1
    await engine.flush()
    house.check()
    await house.online()
    await house.record(2)
    await engine.stop()
    house.check_settled()
    assert house.shown() == 10


async def test_running_out_of_file_descriptors_fails_one_file_and_not_the_volume(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path, retry_ns=NEVER))
    engine = await house.start()
    house.disk.fail("open", code=errno.EMFILE)
    await house.record(2)
    assert engine.volumes()[0].state is VolumeState.ONLINE
    assert house.shown() == 3
    await engine.stop()


async def test_a_rotation_whose_next_file_cannot_be_made_ends_the_run_in_the_index_too(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path, rotation_ns=2 * NS, retry_ns=NEVER))
    house.scripts.pop(SOUND)
    engine = await house.start()
    await house.record(2)
    house.disk.fail("open", code=errno.EMFILE)
    await house.record(8)
    await engine.stop()
    first, second = engine.timeline(CAMERA).runs
    assert first.end_reason is GapReason.STORAGE
    assert house.index.runs(CAMERA) == [first, second]
    house.scripts[SOUND] = a_track(PCMU)
    house.check_settled()


async def test_a_second_process_is_refused_with_a_message(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path))
    await house.start()
    with pytest.raises(OperatorError, match="in use by another process"):
        await House(house.settings).start()
    await house.record(1)
    await house.engine.stop()


async def test_an_empty_directory_in_place_of_a_known_volume_is_missing_and_stays_untouched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(settings_in(tmp_path))
    await house.start()
    await house.record(2)
    await house.engine.stop()
    root = tmp_path / "default"
    root.rename(tmp_path / "unplugged")
    root.mkdir()
    engine = await house.start()
    assert engine.volumes()[0].state is VolumeState.MISSING
    assert "is it mounted?" in engine.volumes()[0].why
    assert caplog.text.count("is it mounted?") == 1
    await house.record(1)
    assert list(root.iterdir()) == []
    root.rmdir()
    (tmp_path / "unplugged").rename(root)
    await house.online()
    await house.record(1)
    house.check()
    await engine.stop()
    house.check_settled()


async def test_deletion_on_a_missing_volume_is_finished_when_it_is_back(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path))
    await house.start()
    await house.record(2)
    await house.engine.stop()
    root = tmp_path / "default"
    root.rename(tmp_path / "unplugged")
    engine = await house.start()
    await engine.delete_track(CAMERA)
    assert list(engine.footage(CAMERA).fragments(0)) == []
    assert engine.timeline(CAMERA).runs == ()
    (tmp_path / "unplugged").rename(root)
    await until(lambda: [r.key for r in house.index.rows.values()] == [SOUND])
    assert [p.parent.parent.name for p in root.rglob("*.mp4")] == [AUDIO001]
    await engine.stop()


@pytest.mark.parametrize("kind", ["unlink", "fsync directory", "index"])
async def test_a_deletion_that_is_cut_short_is_finished_by_the_next_start(kind: str, tmp_path: Path) -> None:
    house = House(settings_in(tmp_path, rotation_ns=2 * NS, retry_ns=NEVER))
    engine = await house.start()
    await house.record(20)
    engine.recorder(CAMERA, TrackType.VIDEO).end_run(GapReason.JOB_STOPPED)
    await engine.flush()
    if kind == "index":
        house.index.fail_at = "forget"
    else:
        house.disk.fail(kind)
    await engine.delete_track(CAMERA)
    assert list(engine.footage(CAMERA).fragments(0)) == []
    await engine.stop()
    house.disk.mend()
    house.index.fail_at = None
    assert any(r.key == CAMERA for r in house.index.rows.values())
    await house.start()
    await until(lambda: {r.key for r in house.index.rows.values()} == {SOUND})
    assert not [p for p in (tmp_path / "default").rglob("*.mp4") if "VIDEO001" in str(p)]
    await house.engine.stop()


async def test_footage_is_forced_to_the_disk_by_interval_policy_without_more_fragments(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    house = House(StorageSettings(settings.volumes, settings.registry, fsync_interval_ns=1_000_000))
    await house.start()
    house.scripts.pop(SOUND)
    before = house.disk.counts["fsync"]
    await house.record(1)
    await until(lambda: house.disk.counts["fsync"] > before)
    house.scripts[SOUND] = a_track(PCMU)
    await house.engine.stop()
    assert house.engine.configuration(CAMERA) == video()


@pytest.mark.parametrize(
    ("policy", "forced"), [(FsyncPolicy.NONE, 0), (FsyncPolicy.INTERVAL, 0), (FsyncPolicy.FRAGMENT, 5)]
)
async def test_each_policy_forces_what_it_says_and_every_close_forces(
    policy: FsyncPolicy, forced: int, tmp_path: Path
) -> None:
    house = House(settings_in(tmp_path, fsync=policy, rotation_ns=NEVER))
    await house.start()
    house.scripts.pop(SOUND)
    before = house.disk.counts["fsync"]
    await house.record(5)
    assert house.disk.counts["fsync"] - before == forced
    await house.engine.stop()
    assert house.disk.counts["fsync"] - before == forced + 1
