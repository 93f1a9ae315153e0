"""A volume that does not answer: others take its footage, nobody waits for it, and it comes back by itself."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.unit import CodecConfiguration
from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.findings import Kind, Repair
from nvr.storage.footage import FootageReader
from nvr.storage.newest import NewestConfigurations
from nvr.storage.rows import FileState, FragmentRef, TrackFileRow
from nvr.storage.settings import FsyncPolicy, StorageSettings
from nvr.storage.survey import Survey
from nvr.storage.volume import Volume, VolumeState, VolumeStatus
from tests.support.footage import CAMERA, TrackScript, a_track, video
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk, Hang, check_invariants, check_settled, read_all, settings_in, until


@dataclass
class Pair:
    """An engine with volumes that hang when a test says so; its clock stands still unless a test sets it on."""

    settings: StorageSettings
    index: IndexInMemory = field(default_factory=IndexInMemory)
    disk: FailingDisk = field(default_factory=FailingDisk)
    script: TrackScript = field(default_factory=a_track)
    accepted: list[bool] = field(default_factory=list)
    told: list[FragmentRef] = field(default_factory=list)
    states: list[VolumeStatus] = field(default_factory=list)
    now_ns: int = 0

    async def start(self) -> StorageEngine:
        self.engine = StorageEngine(self.settings, self.index, disk=self.disk, now=lambda: self.now_ns)
        await self.engine.start()
        self.engine.on_volume = self.states.append
        self.engine.on_append(CAMERA, self.told.append)
        return self.engine

    def hand_over(self, clean: bool = True) -> bool:
        self.script.with_gop(clean=clean)
        recorder = self.engine.recorder(CAMERA, TrackType.VIDEO)
        self.accepted.append(recorder.append(self.script.fragments[-1]))
        return self.accepted[-1]

    async def record(self, gops: int = 1, *, clean: bool = True) -> None:
        for _ in range(gops):
            self.hand_over(clean)
            await self.engine.flush()

    async def hang(self, kind: str = "write", nth: int = 1, index: int | None = None) -> Hang:
        """The volume that is recorded to (or the one with this index) hangs at this call, and has been found to."""
        hang = self.disk.hang(kind, nth, self.root(index))
        self.hand_over()
        await until(hang.begun.is_set)
        self.let_time_pass()
        return hang

    def root(self, index: int | None = None) -> Path:
        if index is not None:
            return self.settings.volumes[index].root
        newest = self.index.newest(CAMERA)
        assert newest is not None
        return next(v.root for v in self.engine.volumes() if v.id == newest.volume_id)

    def let_time_pass(self, ns: int = 10 * NS) -> None:
        self.now_ns += ns
        self.engine.watch.look()

    def state(self, root: Path) -> VolumeState:
        return next(v.state for v in self.engine.volumes() if v.root == root)

    def one_is_open(self) -> bool:
        """And rests: a clock that leaps would find it hanging otherwise."""
        return any(t.ready.done() and t.stalled(0) == (0, "") for t in self.engine._threads)

    async def answers(self, root: Path) -> None:
        await until(lambda: self.state(root) is not VolumeState.HANGING)
        await self.engine.flush()

    async def well(self) -> None:
        """All volumes are online, and what waited is written."""

        def tried() -> bool:
            states = {v.state for v in self.engine.volumes()}
            self.let_time_pass(0 if VolumeState.HANGING in states else NS // 1000)  # failed ones are tried again
            return states == {VolumeState.ONLINE}

        await until(tried)
        await self.engine.flush()

    def check(self) -> None:
        handed = {CAMERA: self.script.fragments}
        check_invariants(self.engine, self.index, [CAMERA], handed, {CAMERA: self.told}, hung=True)

    def shown(self) -> list[int]:
        return [ref.start_ns for ref, _ in read_all(self.engine.footage(CAMERA))]

    @property
    def starts(self) -> list[int]:
        return [f.start_ns for f in self.script.fragments]


def two(path: Path, **others: object) -> Pair:
    return Pair(settings_in(path, volumes=("one", "two"), rotation_ns=3600 * NS, **others))  # type: ignore[arg-type]


async def test_recording_goes_on_on_another_volume_and_the_one_that_hung_writes_what_waited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = two(tmp_path)
    engine = await pair.start()
    await pair.record(2)
    hung = pair.root()
    hang = await pair.hang()
    assert pair.state(hung) is VolumeState.HANGING
    assert [(s.root, s.state, s.failures) for s in pair.states] == [(hung, VolumeState.HANGING, 1)]
    assert pair.states[0].why == "writing a fragment has not come back for 10 s: its disk hangs"
    assert f"{hung}) hangs: writing a fragment" in caplog.text
    await pair.record(3)
    assert all(pair.accepted)
    assert pair.root() != hung
    assert [ref.start_ns for ref in pair.told] == pair.starts[:2] + pair.starts[3:]
    hang.release()
    await pair.answers(hung)
    assert [(s.root, s.state) for s in pair.states[1:]] == [(hung, VolumeState.ONLINE)]
    assert pair.shown() == pair.starts, "each once, in order"
    pair.check()
    first, second = engine.timeline(CAMERA).runs
    assert (first.end_reason, first.end_ns) == (GapReason.STORAGE, second.start_ns)
    assert engine.lost == engine.refused == 0
    await engine.stop()
    pair.check()
    for volume in pair.settings.volumes:
        check_settled(volume.root, pair.index, [CAMERA])


async def test_what_a_volume_that_hung_cannot_write_in_the_end_is_counted_as_lost_and_lies_in_a_gap(
    tmp_path: Path,
) -> None:
    pair = two(tmp_path, retry_ns=3600 * NS)
    engine = await pair.start()
    await pair.record(2)
    hung = pair.root()
    hang = await pair.hang()
    await pair.record(1, clean=False)
    await pair.record(1, clean=False)
    hang.release(errno.EIO)
    await pair.answers(hung)
    assert pair.state(hung) is VolumeState.FAILED
    assert engine.lost == 1
    assert pair.shown() == pair.starts[:2] + pair.starts[3:]
    damaged = [ref.damaged for ref in engine.footage(CAMERA).fragments(0)]
    assert damaged == [False, False, True, True], "they build on pictures that were not on the disk"
    await pair.record(1)
    assert not list(engine.footage(CAMERA).fragments(0))[-1].damaged
    pair.check()
    await engine.stop()
    pair.check()


async def test_a_volume_that_hangs_keeps_its_queue_where_no_other_takes_footage(tmp_path: Path) -> None:
    pair = Pair(settings_in(tmp_path, rotation_ns=3600 * NS, queue_bytes=20_000))
    engine = await pair.start()
    await pair.record(1)
    hang = await pair.hang()
    assert pair.hand_over()
    assert engine.recorder(CAMERA, TrackType.VIDEO).run_id == engine.timeline(CAMERA).runs[0].run_id
    while pair.hand_over():
        pass
    assert 1 <= engine.refused <= 2
    assert engine.volumes()[0].refused == engine.refused
    hang.release()
    await pair.answers(pair.root())
    assert pair.shown() == [s for s, accepted in zip(pair.starts, pair.accepted, strict=True) if accepted]
    await pair.record(2)
    pair.check()
    await engine.stop()
    pair.check()
    assert [run.end_reason for run in engine.timeline(CAMERA).runs] == [GapReason.STORAGE, GapReason.DAEMON_STOPPED]


async def test_a_fragment_that_a_full_queue_refuses_goes_to_the_next_volume(tmp_path: Path) -> None:
    pair = two(tmp_path, queue_bytes=20_000)
    engine = await pair.start()
    await pair.record(1)
    slow = pair.root()
    hang = pair.disk.hang("write", under=slow)
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    run_id = recorder.run_id
    while recorder.run_id == run_id:
        pair.hand_over()
    await until(lambda: pair.root() != slow)
    assert all(pair.accepted)
    assert pair.state(slow) is VolumeState.ONLINE
    assert {v.root: v.refused for v in engine.volumes()} == {slow: 1, pair.root(): 0}
    assert engine.refused == 0
    hang.release()
    await engine.flush()
    assert pair.shown() == pair.starts
    pair.check()
    await engine.stop()
    pair.check()


@pytest.mark.parametrize("found", ["before", "meanwhile"])
async def test_deleting_a_track_hides_what_is_on_a_volume_that_hangs_and_unlinks_it_when_it_answers(
    tmp_path: Path, found: str
) -> None:
    pair = two(tmp_path)
    engine = await pair.start()
    await pair.record(2)
    hung = pair.root()
    if found == "before":
        hang = await pair.hang()
        pair.hand_over()
        await engine.delete_track(CAMERA)
    else:
        hang = pair.disk.hang("write", under=hung)
        pair.hand_over()
        deleting = asyncio.create_task(engine.delete_track(CAMERA))
        await until(hang.begun.is_set)
        pair.let_time_pass()
        await deleting
    assert engine.timeline(CAMERA).runs == ()
    assert pair.shown() == []
    pair.told.clear()
    pair.script.steps.clear()
    await pair.record(2)
    assert pair.root() != hung
    hang.release()
    await pair.answers(hung)
    await until(lambda: not list(hung.rglob("*.mp4")))
    await engine.flush()
    pair.check()
    assert pair.shown() == pair.starts
    assert pair.state(hung) is VolumeState.ONLINE
    assert engine.lost == 0
    await engine.stop()
    for volume in pair.settings.volumes:
        check_settled(volume.root, pair.index, [CAMERA])


async def test_nobody_waits_for_a_volume_that_hangs(tmp_path: Path) -> None:
    pair = two(tmp_path)
    engine = await pair.start()
    await pair.record(1)
    file = pair.index.newest(CAMERA)
    assert file is not None
    repair = Repair(Kind.SIZE, file.volume_id, file.path, file.file_id)
    hang = pair.disk.hang("write", under=pair.root())
    pair.hand_over()
    waiting = [asyncio.create_task(c) for c in (engine.flush(), engine.settled(), engine.mend(repair))]
    await until(hang.begun.is_set)
    pair.let_time_pass()
    flushed, settled, mended = await asyncio.gather(*waiting, return_exceptions=True)
    assert flushed is settled is None
    assert isinstance(mended, StorageError)
    await engine.flush()
    await engine.settled()
    with pytest.raises(StorageError, match="hangs"):
        await engine.mend(repair)
    assert list(engine.footage(CAMERA).fragments(0)), "what is in memory of a growing file"
    with pytest.raises(StorageError, match="hangs"):
        read_all(engine.footage(CAMERA))
    hang.release()
    await engine.stop()
    pair.check()


async def test_a_repair_leaves_a_read_behind_that_does_not_come_back_and_the_process_can_end(tmp_path: Path) -> None:
    pair = Pair(settings_in(tmp_path, rotation_ns=NS))
    engine = await pair.start()
    await pair.record(4)
    row = pair.index.files(CAMERA, 0)[0]
    path = pair.root() / row.path
    path.rename(tmp_path / "kept")
    os.mkfifo(path)  # opening it does not come back
    mending = asyncio.create_task(engine.mend(Repair(Kind.SIZE, row.volume_id, row.path, row.file_id)))
    await until(lambda: bool(threads("mending")))
    pair.let_time_pass()
    with pytest.raises(StorageError, match="mending has not come a step further for 10 s"):
        await mending
    (left,) = threads("mending")
    assert left.daemon
    assert pair.state(pair.root()) is VolumeState.ONLINE, "its writer does not hang"
    await engine.stop()
    path.open("wb").close()
    left.join()


def threads(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == name]


def test_heads_that_a_disk_does_not_give_hold_neither_the_start_nor_the_end_of_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index, released = IndexInMemory(), threading.Event()
    keys = [TrackKey(RecordingToken(f"rec-{n}"), CAMERA.track) for n in range(12)]

    class Reader:
        def configuration(self, row: TrackFileRow) -> CodecConfiguration:
            if row.recording == "rec-3":
                released.wait()
            if row.recording == "rec-5":
                raise StorageError("it cannot be read")
            if row.recording == "rec-7":
                raise AssertionError("a fault of ours")
            return video()

    for n, key in enumerate(keys):
        index.insert_open(TrackFileRow(str(n), "one", *key, "run", 0, f"{n}.mp4", n, n, FileState.OPEN, "H264"))
    reader = cast("FootageReader", Reader())
    assert NewestConfigurations(index, reader, 50_000_000).of([keys[3]]) == {}
    assert "the encodings of 1 tracks are not known: a disk hangs" in caplog.text
    assert all(t.daemon for t in threads("heads"))
    released.set()
    unknown = {keys[5], keys[7]}
    assert NewestConfigurations(index, reader, 3600 * NS).of(keys) == {
        key: None if key in unknown else video() for key in keys
    }
    for text in ("rec-5", "it cannot be read", "a fault of ours"):
        assert text in caplog.text


@pytest.mark.parametrize("kind", ["write", "look", "fsync"])
async def test_a_start_does_not_wait_for_a_volume_that_hangs_and_takes_it_in_when_it_is_open(
    tmp_path: Path, kind: str
) -> None:
    pair = two(tmp_path)
    await pair.start()
    await pair.record(2)
    hung = pair.root()
    await pair.engine.stop()
    newest = pair.index.newest(CAMERA)
    assert newest is not None
    pair.index.reopen(newest.file_id)  # as a crash leaves it
    hang = pair.disk.hang(kind, under=hung)
    starting = asyncio.create_task(pair.start())
    await asyncio.sleep(0)  # `pair.engine` is the new one now
    await until(lambda: hang.begun.is_set() and pair.one_is_open())
    pair.now_ns += 10 * NS
    engine = await starting
    assert pair.state(hung) is VolumeState.HANGING
    await pair.record(2)
    assert pair.root() != hung
    hang.release()
    await until(lambda: pair.state(hung) is VolumeState.ONLINE)
    assert pair.states[-1].state is VolumeState.ONLINE
    await until(lambda: not pair.index.open_files(newest.volume_id))
    await engine.settled()
    assert pair.shown() == pair.starts
    await engine.stop()
    pair.check()


async def test_a_volume_that_joins_late_tells_what_its_tracks_are_coded_in(tmp_path: Path) -> None:
    pair = Pair(settings_in(tmp_path))
    engine = await pair.start()
    await pair.record(2)
    configuration = engine.configuration(CAMERA)
    await engine.stop()
    hang = pair.disk.hang("look", under=tmp_path)
    starting = asyncio.create_task(pair.start())
    await until(hang.begun.is_set)
    pair.now_ns += 10 * NS
    engine = await starting
    assert engine.configuration(CAMERA) is None
    assert engine.extent(CAMERA) is not None
    hang.release()
    await until(lambda: engine.configuration(CAMERA) == configuration)
    await engine.stop()


async def test_a_volume_that_another_process_uses_is_tried_again_when_the_start_has_gone_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Pair(settings_in(tmp_path / "other"))
    await other.start()
    root = other.settings.volumes[0].root
    pair = Pair(settings_in(tmp_path, volumes=("one", "other/default")))
    hang, is_there = Hang("identity", 1, root), Volume._is_there

    def hangs_before_it_is_locked(volume: Volume) -> bool:
        hang.meet("identity", volume.root)
        return is_there(volume)

    monkeypatch.setattr(Volume, "_is_there", hangs_before_it_is_locked)
    starting = asyncio.create_task(pair.start())
    await asyncio.sleep(0)  # `pair.engine` is the new one now
    await until(lambda: hang.begun.is_set() and pair.one_is_open())
    pair.now_ns += 10 * NS
    engine = await starting
    hang.release()
    await until(lambda: pair.state(root) is VolumeState.FAILED)
    assert "in use by another process" in next(v.why for v in engine.volumes() if v.root == root)
    await pair.record(1)
    await other.engine.stop()
    pair.now_ns += 3600 * NS
    await engine.flush()
    await until(lambda: pair.state(root) is VolumeState.ONLINE)
    await engine.stop()


async def test_a_fault_of_ours_in_a_volume_that_is_opened_late_is_logged_and_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair = two(tmp_path)
    root = tmp_path / "one"
    hang, open_, faults = Hang("open", 1, root), Volume.open, [RuntimeError("a fault on purpose")]

    def hangs_and_fails(volume: Volume, *args: int) -> None:
        hang.meet("open", volume.root)
        if volume.root == root and faults:
            raise faults.pop()
        open_(volume, *args)

    monkeypatch.setattr(Volume, "open", hangs_and_fails)
    starting = asyncio.create_task(pair.start())
    await asyncio.sleep(0)  # `pair.engine` is the new one now
    await until(lambda: hang.begun.is_set() and pair.one_is_open())
    pair.now_ns += 10 * NS
    engine = await starting
    hang.release()
    await until(lambda: pair.state(root) is VolumeState.FAILED)
    assert "a fault on purpose" in caplog.text
    await pair.record(1)
    pair.now_ns += 3600 * NS
    await engine.flush()
    await until(lambda: pair.state(root) is VolumeState.ONLINE)
    await engine.stop()


@pytest.mark.parametrize("kind", ["write", "fsync", "fsync directory", "open", "look"])
async def test_a_hang_at_any_call_keeps_the_invariants_and_leaves_nothing_for_a_check_to_find(
    kind: str, tmp_path: Path
) -> None:
    for nth in (1, 2, 3, 5, 8):
        path = tmp_path / str(nth)
        pair = Pair(settings_in(path, volumes=("one", "two"), rotation_ns=NS, fsync=FsyncPolicy.FRAGMENT))
        engine = await pair.start()
        await pair.record(1)
        hung = pair.root()
        hang = pair.disk.hang(kind, nth, hung)
        for _ in range(6):
            pair.hand_over()
        written = asyncio.create_task(engine.flush())
        await until(lambda hang=hang, written=written: hang.begun.is_set() or written.done())  # type: ignore[misc]
        reached = hang.begun.is_set()
        if reached:
            pair.let_time_pass()
        else:
            hang.release()
        await written
        await pair.record(3)
        assert all(pair.accepted)
        assert not reached or pair.told[-1].start_ns == pair.starts[-1], "on the other volume"
        hang.release()
        await pair.well()
        pair.check()
        assert pair.shown() == pair.starts
        await engine.stop()
        pair.check()
        volumes = [t.writer.volume for t in engine._threads]
        assert list(Survey(pair.index, volumes, growing=False).findings()) == []
        if not reached:
            assert nth > 1
            break


HANGS = st.tuples(
    st.sampled_from(["write", "write", "fsync", "fsync directory", "open", "mkdir", "look", "unlink"]),
    st.integers(1, 4),
    st.sampled_from([0, errno.EIO]),
)
STEPS = st.lists(st.one_of(st.just("record"), st.just("gap"), st.just("release"), HANGS), max_size=14)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_the_invariants_hold_whatever_hangs_and_answers(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | tuple[str, int, int]]
) -> None:
    asyncio.run(_live(tmp_path_factory.mktemp("life"), steps))


async def _live(path: Path, steps: list[str | tuple[str, int, int]]) -> None:
    pair = Pair(settings_in(path, volumes=("one", "two"), rotation_ns=2 * NS))
    engine = await pair.start()
    hang, code = None, 0
    await pair.record(1)
    for step in ["record", *steps, "release", "record"]:
        match step:
            case "record":
                for _ in range(3):
                    pair.hand_over()
                    await asyncio.sleep(0.001)
                pair.let_time_pass()
            case "gap":
                pair.script.with_gap(5)
                engine.recorder(CAMERA, TrackType.VIDEO).end_run(GapReason.SOURCE_LOST)
            case "release":
                if hang is not None:
                    hang.release(code)
                    hang = None
                await pair.well()
                pair.check()
            case (str(kind), int(nth), int(code)) if hang is None:
                hang = pair.disk.hang(kind, nth, pair.root())
    await pair.well()
    pair.check()
    await engine.stop()
    pair.check()
    for volume in pair.settings.volumes:
        check_settled(volume.root, pair.index, [CAMERA])
    assert {row.state for row in pair.index.rows.values()} <= {FileState.CLOSED}
