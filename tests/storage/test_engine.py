"""The engine on a healthy volume: what is appended comes back, over rotations, gaps, changes and restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nvr.media.unit import Fragment
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import Gap, GapReason
from nvr.model.tokens import AUDIO001, TrackKey, TrackToken
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import FootageIndex, FragmentRef
from tests.support.footage import CAMERA, PCMU, START, a_track, another_video, video
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk, check_invariants, check_settled, demuxed, read_all, same, settings_in

SOUND = TrackKey(CAMERA.recording, AUDIO001)


@pytest.fixture(params=["memory", "sql"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FootageIndex]:
    """Also shows that the index in memory, on which the crash tests lean, behaves as the real one."""
    if request.param == "memory":
        yield IndexInMemory()
    else:
        index = SqlFootageIndex.open(tmp_path / "index.db")
        yield index
        index.shut()


@pytest.fixture
async def engine(tmp_path: Path, index: FootageIndex) -> AsyncIterator[StorageEngine]:
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    yield engine
    await engine.stop()


async def test_what_is_appended_comes_back_to_the_nanosecond_over_rotations(
    engine: StorageEngine, index: FootageIndex, tmp_path: Path
) -> None:
    told: list[FragmentRef] = []
    engine.on_append(CAMERA, told.append)
    script = a_track().with_gop(count=60, order=[0, 4, 2, 1, 3, 5, 9, 7, 6, 8])
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    found = read_all(engine.footage(CAMERA))
    assert [same(samples) for _, samples in found] == [same(f.samples) for f in script.fragments]
    assert [ref for ref, _ in found] == told
    assert len({ref.file_id for ref, _ in found}) >= 4
    assert len({ref.run_id for ref, _ in found}) == 1
    check_invariants(engine, index, [CAMERA], {CAMERA: script.fragments}, {CAMERA: told})
    await engine.stop()
    check_invariants(engine, index, [CAMERA], {CAMERA: script.fragments}, {CAMERA: told})
    check_settled(tmp_path / "default", index, [CAMERA])


async def test_files_begin_at_clean_points_unless_none_comes_for_two_periods(
    engine: StorageEngine, index: FootageIndex
) -> None:
    script = a_track().with_gop().with_gop(clean=False, count=60)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    rows = index.files(CAMERA, 0)
    assert 2 <= len(rows) <= 4
    assert all(row.start_ns - rows[0].start_ns >= 5 * NS for row in rows[1:])


async def test_rotation_is_staggered_over_tracks(engine: StorageEngine, index: FootageIndex) -> None:
    keys = [TrackKey(CAMERA.recording, TrackToken(f"VIDEO{i:03}")) for i in range(8)]
    for key in keys:
        a_track().with_gop(count=20).feed(engine.recorder(key, TrackType.VIDEO))
    await engine.flush()
    assert len({index.files(key, 0)[1].start_ns for key in keys}) >= 4


async def test_a_gap_ends_the_run_and_both_sides_know_the_reason(engine: StorageEngine, index: FootageIndex) -> None:
    script = a_track().with_gop(count=2).with_gap(30, GapReason.SOURCE_LOST).with_gop(count=2)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    first, second = engine.timeline(CAMERA).runs
    assert engine.timeline(CAMERA).gaps() == (Gap(first.end_ns, second.start_ns, GapReason.SOURCE_LOST),)
    assert second.end_reason is None
    before, after = index.files(CAMERA, 0)
    assert (before.end_reason, after.gap_before) == (GapReason.SOURCE_LOST, GapReason.SOURCE_LOST)
    assert [ref.first_of_run for ref in engine.footage(CAMERA).fragments(0)] == [True, False, True, False]


@pytest.mark.parametrize("comes", [True, False])
async def test_a_track_is_being_recorded_until_the_only_fragment_of_its_last_run_is_on_the_disk_or_lost(
    tmp_path: Path, comes: bool
) -> None:
    disk = FailingDisk()
    engine = StorageEngine(settings_in(tmp_path), IndexInMemory(), disk=disk)
    await engine.start()
    script = a_track().with_gop(count=2).with_gap(30, GapReason.NO_EVENT)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    before = engine.extent(CAMERA)
    assert before is not None
    assert not before.recording
    if not comes:
        disk.fail("open")
    with disk.held():
        script.with_gop()
        recorder = engine.recorder(CAMERA, TrackType.VIDEO)
        recorder.append(script.fragments[-1])
        recorder.end_run(GapReason.JOB_STOPPED)
        waits = engine.extent(CAMERA)
        assert waits is not None
        assert (waits.latest, waits.recording) == (before.latest, True)
        assert engine.unwritten_since(CAMERA) == script.fragments[-1].start_ns
    await engine.flush()
    assert engine.unwritten_since(CAMERA) is None
    after = engine.extent(CAMERA)
    assert after is not None
    assert (after.latest, after.recording) == (script.fragments[-1].end_ns if comes else before.latest, False)
    await engine.stop()


async def test_what_is_not_on_the_disk_yet_is_told(tmp_path: Path) -> None:
    disk = FailingDisk()
    engine = StorageEngine(settings_in(tmp_path), IndexInMemory(), disk=disk)
    await engine.start()
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script = a_track().with_gop().with_gop().with_gop()
    first, second, third = script.fragments
    assert engine.unwritten_since(CAMERA) is None
    with disk.held():
        recorder.append(first)
        assert engine.unwritten_since(CAMERA) == first.start_ns
    await engine.flush()
    assert engine.unwritten_since(CAMERA) is None
    with disk.held():
        recorder.append(second)
        recorder.append(third)
        assert engine.unwritten_since(CAMERA) == second.start_ns
    await engine.flush()
    assert engine.unwritten_since(CAMERA) is None
    (last,) = script.with_gop().fragments[3:]
    with disk.held():
        recorder.append(last)
        recorder.end_run(GapReason.JOB_STOPPED)
        assert engine.unwritten_since(CAMERA) == last.start_ns, "the run has ended, and its end is on its way"
    await engine.flush()
    assert engine.unwritten_since(CAMERA) is None
    await engine.stop()


async def test_what_is_on_its_way_to_the_disk_and_deleted_before_it_gets_there_is_not_waited_for(
    tmp_path: Path,
) -> None:
    engine = StorageEngine(settings_in(tmp_path), IndexInMemory(), utc=lambda: START)
    await engine.start()
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script = a_track().with_gop()
    recorder.append(script.fragments[0])
    await engine.delete_track(CAMERA)
    script.with_gop().with_gop()
    recorder.append(script.fragments[-1])
    recorder.end_run(GapReason.JOB_STOPPED)
    await engine.flush()
    extent = engine.extent(CAMERA)
    assert extent is not None
    assert (extent.earliest, extent.recording) == (script.fragments[-1].start_ns, False)
    await engine.stop()


async def test_a_change_of_configuration_starts_a_new_run_and_file(engine: StorageEngine) -> None:
    script = a_track().with_gop().with_configuration(another_video()).with_gop()
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    refs = list(engine.footage(CAMERA).fragments(0))
    assert [ref.configuration for ref in refs] == [video(), another_video()]
    assert refs[0].file_id != refs[1].file_id
    assert engine.timeline(CAMERA).runs[0].end_reason is GapReason.CONFIGURATION_CHANGED
    assert engine.configuration(CAMERA) == another_video()


async def test_time_that_runs_backwards_starts_a_new_run_with_reason_clock_jump(engine: StorageEngine) -> None:
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    a_track(at_ns=START + 100 * NS).with_gop().feed(recorder)
    a_track(at_ns=START).with_gop().feed(recorder)
    await engine.flush()
    assert engine.timeline(CAMERA).runs[1].end_reason is GapReason.CLOCK_JUMP
    assert [ref.start_ns for ref in engine.footage(CAMERA).fragments(0)] == [START, START + 100 * NS]


async def test_b_frames_cut_off_from_the_picture_they_lean_on_are_no_jump_of_the_clock(
    engine: StorageEngine, index: FootageIndex
) -> None:
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    gop = a_track().with_gop(order=[3, 1, 2, 6, 4, 5]).fragments[0].samples
    fragments = [
        Fragment(video(), part, part[-1].utc_ns + 40_000_000) for part in (gop[:1], gop[1:3], gop[3:4], gop[4:])
    ]
    assert all(recorder.append(fragment) for fragment in fragments)
    await engine.stop()
    found = read_all(engine.footage(CAMERA))
    assert [same(samples) for _, samples in found] == [same(f.samples) for f in fragments]
    (run,) = engine.timeline(CAMERA).runs
    assert run.start_ns == fragments[1].start_ns
    assert demuxed(next(v.root for v in engine.volumes()) / index.files(CAMERA, 0)[0].path) == 6


async def test_fragments_starts_with_the_one_that_holds_the_instant_or_the_first_behind_it(
    engine: StorageEngine,
) -> None:
    script = a_track().with_gop(count=10).with_gap(10).with_gop(count=3)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    footage, fragments = engine.footage(CAMERA), script.fragments

    def starts(from_ns: int, until_ns: int | None = None) -> list[int]:
        return [ref.start_ns for ref in footage.fragments(from_ns, until_ns)]

    everything = [f.start_ns for f in fragments]
    assert starts(0) == everything
    assert starts(fragments[4].start_ns) == everything[4:]
    assert starts(fragments[4].start_ns - 1) == everything[3:]
    assert starts(fragments[4].end_ns - 1) == everything[4:]
    assert starts(fragments[9].end_ns + 1) == everything[10:]
    assert starts(fragments[4].start_ns, fragments[6].start_ns) == everything[4:6]
    assert starts(fragments[12].end_ns) == []
    assert starts(0, fragments[0].start_ns) == []


async def test_a_reader_meets_every_fragment_once_while_files_grow_and_rotate(engine: StorageEngine) -> None:
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script = a_track().with_gop(count=80)
    fragments = iter(script.fragments)
    assert recorder.append(next(fragments))
    await engine.flush()
    met = []
    for ref in engine.footage(CAMERA).fragments(0):
        met.append(ref.start_ns)
        for fragment in (next(fragments, None), next(fragments, None)):
            if fragment is not None:
                assert recorder.append(fragment)
        await engine.flush()
    assert met == [f.start_ns for f in script.fragments]


async def test_footage_that_is_deleted_under_a_reader_ends_quietly(engine: StorageEngine, tmp_path: Path) -> None:
    script = a_track().with_gop(count=60)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    footage = engine.footage(CAMERA)
    reader = footage.fragments(0)
    first = next(reader)
    await engine.delete_recording(CAMERA.recording)
    rest = list(reader)
    assert all(footage.read(ref) == [] for ref in [first, *rest])
    assert not list((tmp_path / "default" / "footage").iterdir())
    assert engine.timeline(CAMERA).runs == ()
    assert engine.configuration(CAMERA) is None


async def test_a_track_goes_on_recording_after_its_footage_was_deleted(
    engine: StorageEngine, index: FootageIndex
) -> None:
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    a_track().with_gop(count=10).feed(recorder)
    await engine.delete_track(CAMERA)
    assert index.files(CAMERA, 0) == []
    later = a_track(at_ns=START + 50 * NS).with_gop(count=2)
    later.feed(recorder)
    await engine.flush()
    assert [ref.start_ns for ref in engine.footage(CAMERA).fragments(0)] == [f.start_ns for f in later.fragments]
    assert len(engine.timeline(CAMERA).runs) == 1


async def test_deletion_spares_other_tracks(engine: StorageEngine) -> None:
    for key, script in ((CAMERA, a_track()), (SOUND, a_track(PCMU))):
        script.with_gop(count=3).feed(engine.recorder(key, script.configuration.track_type))
    await engine.delete_track(CAMERA)
    assert list(engine.footage(CAMERA).fragments(0)) == []
    assert len(list(engine.footage(SOUND).fragments(0))) == 3


async def test_a_stop_ends_runs_and_a_start_finds_them_again(tmp_path: Path, index: FootageIndex) -> None:
    script = a_track().with_gop(count=12).with_gap().with_gop(count=12)
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.stop()
    before, refs = engine.timeline(CAMERA), list(engine.footage(CAMERA).fragments(0))
    assert [run.end_reason for run in before.runs] == [GapReason.SOURCE_LOST, GapReason.DAEMON_STOPPED]

    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    assert engine.timeline(CAMERA) == before
    assert engine.configuration(CAMERA) == video()
    assert list(engine.footage(CAMERA).fragments(0)) == refs
    a_track(at_ns=START + 500 * NS).with_gop().feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.stop()
    assert [row.gap_before for row in index.files(CAMERA, START + 400 * NS)] == [GapReason.DAEMON_STOPPED]


async def test_damage_and_losses_are_kept_with_the_samples(engine: StorageEngine, index: FootageIndex) -> None:
    script = a_track().with_gop().with_gop(clean=False, damaged=10, lost_packets=7, dropped_units=2).with_gop()
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.stop()
    found = read_all(engine.footage(CAMERA))
    assert [[s.damaged for s in samples] for _, samples in found] == [[False] * 10, [True] * 10, [False] * 10]
    assert [ref.damaged for ref, _ in found] == [False, True, False]
    (row,) = index.files(CAMERA, 0)
    assert (row.lost_packets, row.dropped_units) == (7, 2)


async def test_unsubscribing_ends_the_calls_and_a_failing_subscriber_hinders_nobody(
    engine: StorageEngine, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[FragmentRef] = []

    def fail(ref: FragmentRef) -> None:
        raise RuntimeError("a subscriber fails on purpose")

    engine.on_append(CAMERA, fail)
    unsubscribe = engine.on_append(CAMERA, told.append)
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script = a_track().with_gop(count=2)
    assert recorder.append(script.fragments[0])
    await engine.flush()
    unsubscribe()
    unsubscribe()
    assert recorder.append(script.fragments[1])
    await engine.flush()
    assert len(told) == 1
    assert "fails on purpose" in caplog.text


async def test_a_track_takes_only_its_type_and_only_tokens_that_can_be_paths(engine: StorageEngine) -> None:
    with pytest.raises(ValueError, match="has type Audio, not Video"):
        a_track().with_gop().feed(engine.recorder(CAMERA, TrackType.AUDIO))
    for token in ("../escape", "", ".hidden", "a/b", "x" * 65):
        with pytest.raises(ValueError, match="cannot be the name of a directory"):
            engine.recorder(TrackKey(CAMERA.recording, TrackToken(token)), TrackType.VIDEO)


async def test_a_start_that_is_cancelled_while_a_volume_opens_ends_without_a_fault(tmp_path: Path) -> None:
    opening, go_on = threading.Event(), threading.Event()

    class SlowDisk(FailingDisk):
        def create(self, path: Path) -> int:
            opening.set()
            assert go_on.wait(60)
            return super().create(path)

    engine = StorageEngine(settings_in(tmp_path), IndexInMemory(), disk=SlowDisk())
    starting = asyncio.create_task(engine.start())
    await asyncio.to_thread(opening.wait, 60)
    starting.cancel()
    await asyncio.sleep(0)  # the cancellation has reached what waits for the volume
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not any(t.name.startswith("writer") and t.is_alive() for t in threading.enumerate())


async def test_a_gap_can_turn_out_to_have_another_reason_than_it_began_with(
    engine: StorageEngine, index: FootageIndex, tmp_path: Path
) -> None:
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script = a_track().with_gop().with_gap(5, GapReason.NO_EVENT).with_gop().with_gap(5, GapReason.NO_EVENT)
    script.feed(recorder)
    recorder.correct_gap(GapReason.STORAGE)  # before the end of the run has come back from the volume's thread
    a_track(at_ns=script.at_ns).with_gop().feed(recorder)
    recorder.correct_gap(GapReason.UNKNOWN)  # a run is under way: this gap is over
    await engine.flush()
    reasons = [gap.reason for gap in engine.timeline(CAMERA).gaps()]
    assert reasons == [GapReason.NO_EVENT, GapReason.STORAGE]
    await engine.stop()
    again = StorageEngine(settings_in(tmp_path), index)
    await again.start()
    assert [gap.reason for gap in again.timeline(CAMERA).gaps()] == reasons
    await again.stop()
    check_settled(tmp_path / "default", index, [CAMERA])
