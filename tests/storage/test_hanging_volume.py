"""A volume that does not answer: others take its footage, nobody waits for it, and it comes back by itself."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.storage.findings import Kind, Repair
from nvr.storage.rows import FileState
from nvr.storage.settings import FsyncPolicy
from nvr.storage.survey import Survey
from nvr.storage.volume import VolumeState
from tests.support.footage import CAMERA
from tests.support.hanging_volumes import Pair, threads, two
from tests.support.volumes import check_settled, read_all, settings_in, until


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
        await pair.others_rest(hang)
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
    await pair.others_rest(hang)
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
            await pair.others_rest(hang)
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
