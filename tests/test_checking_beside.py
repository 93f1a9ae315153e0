"""`nvr check` beside a daemon: it reads, the daemon mends, and nothing that is under way is a finding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nvr.checking import Outcome, Reported
from nvr.data_directory import DataDirectory
from nvr.model.coverage import Coverage
from nvr.model.errors import DatabaseUnavailable, StorageError
from nvr.model.recording import TrackType
from nvr.model.timeline import Gap, GapReason, Timeline
from nvr.operations.control_socket import ControlSocket
from nvr.operations.dispatch import Operations
from nvr.operations.upkeep import UpkeepOperations
from nvr.search.history import History, Key
from nvr.storage import survey
from nvr.storage.engine import StorageEngine
from nvr.storage.findings import Kind, Repair
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import TrackFileRow
from tests.support.checked_store import Store, kinds
from tests.support.footage import CAMERA
from tests.support.volumes import same, settings_in


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "data")
    await made.make()
    return made


class Running:
    """A daemon's storage beside which the command runs: lock, engine, control socket."""

    def __init__(self, store: Store, engine: StorageEngine) -> None:
        self.store = store
        self.engine = engine

    async def check(self, *, repair: bool = False) -> tuple[Outcome, list[Reported]]:
        return await asyncio.to_thread(lambda: self.store.check(repair=repair))


@pytest.fixture
async def running(store: Store) -> AsyncIterator[Running]:
    with DataDirectory(store.data) as directory:
        index = SqlFootageIndex.open(directory.index)
        engine = await store.engine(index)
        upkeep = UpkeepOperations(
            mend=engine.mend,
            row_waits=engine.row_waits,
            volumes=lambda: [(v.root, v.id) for v in engine.volumes()],
        )
        commands = ControlSocket(store.data, Operations(upkeep))
        await commands.start()
        yield Running(store, engine)
        await commands.stop()
        await engine.stop()
        index.shut()


async def test_beside_a_daemon_growing_files_are_no_finding_and_their_damage_is(running: Running) -> None:
    script = running.store.scripts[CAMERA].with_gap(100)
    script.steps.clear()
    recorder = running.engine.recorder(CAMERA, TrackType.VIDEO)
    script.with_gop(count=3, pictures=4).feed(recorder)
    await running.engine.flush()
    growing = next(
        p
        for p in running.store.root.rglob("*.mp4")
        if p.stat().st_mtime_ns == max(q.stat().st_mtime_ns for q in running.store.root.rglob("*.mp4"))
    )
    with growing.open("ab") as file:  # the next write is under way
        file.write(growing.read_bytes()[-200:-100])
    outcome, found = await running.check()
    assert (found, outcome.status, outcome.beside) == ([], 0, True)
    data = bytearray(growing.read_bytes())
    data[data.index(b"mdat") + 10] ^= 1
    growing.write_bytes(data)
    outcome, found = await running.check()
    assert kinds(found) == [Kind.CHECKSUM]
    assert found[0].finding.end_ns is not None


async def test_beside_a_daemon_its_own_volumes_are_checked_without_its_configuration(running: Running) -> None:
    running.store.settings = replace(
        running.store.settings, storage=settings_in(running.store.data, volumes=("never-used",))
    )
    outcome, found = await running.check()
    assert (found, outcome.status, outcome.unchecked) == ([], 0, [])
    assert outcome.files > 0


async def test_beside_a_daemon_repairs_are_its_own_and_the_timeline_follows(running: Running) -> None:
    rows = await asyncio.to_thread(running.store.rows)
    before = running.engine.timeline(CAMERA)
    running.store.path(rows[0]).unlink()
    running.store.change(lambda index: index.forget([rows[-1].file_id]))
    _outcome, found = await running.check(repair=True)
    assert sorted((r.finding.kind, r.done) for r in found) == [
        (Kind.MISSING, "its row is removed"),
        (Kind.ORPHAN, "it has a row now"),
    ]
    await running.engine.flush()
    assert (await running.check())[0].status == 0
    after = running.engine.timeline(CAMERA)
    assert [r.start_ns for r in after.runs] == [rows[1].start_ns, before.runs[1].start_ns]
    assert after.runs[1] == before.runs[1]
    shown = [ref.start_ns for ref in running.engine.footage(CAMERA).fragments(0)]
    assert shown == [f.start_ns for f in running.store.fragments() if f.start_ns >= rows[1].start_ns]


async def test_a_file_lost_in_the_middle_of_a_run_is_a_gap_in_timeline_and_history_from_its_repair_on(
    running: Running,
) -> None:
    rows = await asyncio.to_thread(running.store.rows)
    before, extent = running.engine.timeline(CAMERA), running.engine.extent(CAMERA)
    lost = rows[1]
    running.store.path(lost).unlink()
    assert kinds((await running.check(repair=True))[1]) == [Kind.MISSING]
    await running.engine.flush()
    assert (await running.check())[0].status == 0
    after = running.engine.timeline(CAMERA)
    assert len(after.runs) == len(before.runs) + 1
    hole = Gap(rows[0].end_ns, rows[2].start_ns, GapReason.STORAGE)
    assert after.gaps() == (hole, *before.gaps())
    assert running.engine.extent(CAMERA) == extent
    history = History(CAMERA.recording, ((CAMERA.track, Coverage.of(after)),), of_recording=False)
    keys: list[Key] = []
    key: Key = (0, 0, ())
    while (following := history.behind(key)) is not None:
        keys.append(following)
        key = following
    assert [(key[0], history.begins(key)) for key in keys][:4] == [
        (rows[0].start_ns, True),
        (hole.start_ns, False),
        (hole.end_ns, True),
        (before.runs[0].end_ns, False),
    ]
    assert Timeline.of(running.engine.index.runs(CAMERA)) == after, "what the next start reads"


async def test_the_run_that_is_being_recorded_goes_on_behind_a_file_that_was_lost_of_it(running: Running) -> None:
    engine, store = running.engine, running.store
    script = store.scripts[CAMERA].with_gap(100)
    script.steps.clear()
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script.with_gop(count=12).feed(recorder)
    await engine.flush()
    rows = [row for row in engine.index.files(CAMERA, 0, limit=100) if row.run_id == recorder.run_id]
    assert len(rows) > 2
    store.path(rows[1]).unlink()
    assert kinds((await running.check(repair=True))[1]) == [Kind.MISSING]
    handed = script.fragments[:]
    script.steps.clear()
    script.with_gop(count=12).feed(recorder)
    await engine.flush()
    first, second = engine.timeline(CAMERA).runs[-2:]
    assert (first.start_ns, first.end_ns, first.end_reason) == (rows[0].start_ns, rows[0].end_ns, GapReason.STORAGE)
    assert (second.run_id, second.start_ns, second.end_reason) == (recorder.run_id, rows[2].start_ns, None)
    footage = engine.footage(CAMERA)
    shown = [ref.start_ns for run in (first, second) for ref in footage.fragments(run.start_ns, run_id=run.run_id)]
    fragments = [*handed, *script.fragments]
    assert shown == [f.start_ns for f in fragments if not rows[1].start_ns <= f.start_ns < rows[2].start_ns]
    assert (await running.check())[0].status == 0


async def test_files_whose_rows_wait_for_an_index_that_cannot_be_written_are_told_as_such_and_left_alone(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the system disk is full")

    engine, store = running.engine, running.store
    closed = (await asyncio.to_thread(store.rows))[-1]
    with monkeypatch.context() as patch:
        for change in ("insert_open", "close", "put"):
            patch.setattr(SqlFootageIndex, change, refuse)
        script = store.scripts[CAMERA].with_gap(100)
        script.steps.clear()
        recorder = engine.recorder(CAMERA, TrackType.VIDEO)
        script.with_gop(count=6).feed(recorder)
        recorder.end_run(GapReason.JOB_STOPPED)
        await engine.flush()
        waiting = [row for row in engine.index.files(CAMERA, 0, limit=100) if engine.row_waits(row.file_id)]
        assert len(waiting) == 2
        path = store.path(closed)
        data = bytearray(path.read_bytes())
        data[data.index(b"mdat") + 10] ^= 1  # what is wrong beside them is told
        path.write_bytes(data)
        before = {row.path: store.path(row).read_bytes() for row in waiting}
        for repair in (False, True):
            outcome, found = await running.check(repair=repair)
            assert kinds(found) == [Kind.CHECKSUM]
            assert outcome.status == 2
            assert outcome.unchecked == [
                "2 files, whose rows the recorder could not write to its index yet: the system disk is full"
            ]
        # And a repair that is asked for nevertheless, as by a command of another version.
        for row in waiting:
            await engine.mend(Repair(Kind.ORPHAN, row.volume_id, row.path, row.file_id))
        assert {row.path: store.path(row).read_bytes() for row in waiting} == before
        assert [row for row in engine.index.files(CAMERA, 0, limit=100) if engine.row_waits(row.file_id)] == waiting
    assert await asyncio.to_thread(engine.index.enter)
    outcome, found = await running.check()
    assert (outcome.status, outcome.unchecked, outcome.known) == (0, [], 1)
    footage = engine.footage(CAMERA)
    shown = [same(footage.read(ref)) for ref in footage.fragments(script.fragments[0].start_ns)]
    assert shown == [same(f.samples) for f in script.fragments]


async def test_footage_deleted_during_a_check_is_no_finding(running: Running) -> None:
    original = survey.check_file
    loop = asyncio.get_running_loop()

    def deleting_meanwhile(path: Path, row: TrackFileRow, **options: object) -> object:
        asyncio.run_coroutine_threadsafe(running.engine.delete_track(row.key), loop).result(60)
        return original(path, row, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "check_file", deleting_meanwhile)
        outcome, found = await running.check()
    assert (found, outcome.status) == ([], 0)


async def test_a_repair_that_names_a_path_outside_the_footage_is_refused(running: Running) -> None:
    volume_id = running.engine.volumes()[0].id
    assert volume_id is not None
    for path in ("volume.json", "footage/../volume.json", "/etc/passwd"):
        with pytest.raises(StorageError, match="is no path of footage"):
            await running.engine.mend(Repair(Kind.CHECKSUM, volume_id, path))
    with pytest.raises(StorageError, match="is not here"):
        await running.engine.mend(Repair(Kind.ORPHAN, "another", "footage/a"))
