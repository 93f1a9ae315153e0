"""An index that cannot be written: readers see what waits, it is entered in its order, and recording goes on."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model.errors import DatabaseUnavailable, StorageError
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, VIDEO001, RecordingToken, TrackKey
from nvr.observation import StorageObservation
from nvr.storage.index import SqlFootageIndex
from nvr.storage.patient_index import PatientIndex
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.volume import VolumeState
from tests.storage.test_failing_volume import House
from tests.support.footage import CAMERA
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import settings_in, until

KEYS = [TrackKey(RecordingToken(f"rec-{n}"), track) for n in "ab" for track in (VIDEO001, AUDIO001)]
FIGURES: dict[str, Any] = {"samples": 1, "lost_packets": 0, "dropped_units": 0}
_reasons = st.sampled_from([None, GapReason.STORAGE, GapReason.SOURCE_LOST])
_numbers = st.integers(0, 11)
CHANGES = st.one_of(
    st.tuples(st.just("begin"), _numbers, _reasons),
    st.tuples(st.just("begin"), _numbers, _reasons),
    st.tuples(st.just("close"), _numbers, _reasons),
    st.tuples(st.just("close"), _numbers, _reasons),
    st.tuples(st.just("put"), _numbers, _reasons),
    st.tuples(st.sampled_from(["reopen", "forget", "delete", "fail", "fail", "mend", "enter"]), _numbers, st.none()),
)


def row(number: int, gap_before: GapReason | None = None) -> TrackFileRow:
    """Of a few tracks and runs, so that they meet."""
    key, run = KEYS[number % 2], number // 4
    place, start_ns = number // 2 % 2, number * 10
    return TrackFileRow(
        *(f"{number:032x}", "one" if number % 3 else "two", *key, f"run-{key.track}-{run}", place),
        path=f"{number}.mp4",
        start_ns=start_ns,
        end_ns=start_ns,
        state=FileState.OPEN,
        encoding="H264",
        gap_before=gap_before if place == 0 else None,
    )


def read(index: PatientIndex | IndexInMemory) -> list[object]:
    """All that there is to ask, in pages of two."""
    found: list[object] = [index.all_runs(), index.known([f"{n:032x}" for n in range(12)])]
    found += [index.file(f"{n:032x}") for n in range(12)]
    for volume in ("one", "two"):
        found += [sorted(index.open_files(volume), key=str), sorted(index.deleting_files(volume), key=str)]
        found.append(index.volume_bytes(volume))
        found.append(pages(lambda after, volume=volume: index.oldest(volume, after=after, limit=2)))
    for key in KEYS:
        found += [index.newest(key), index.runs(key), index.started_in(key, "one", 20, 90)]
        found += [index.recording_bytes(key.recording), sorted(index.places(key)), sorted(index.places(key, "run-V"))]
        for at in (0, 35, 200):
            found.append(pages(lambda after, key=key, at=at: index.files(key, at, 95, after=after, limit=2)))
            found.append(pages(lambda before, key=key, at=at: index.files_before(key, before or (at, ""), limit=2)))
        for run in range(3):
            run_id = f"run-{key.track}-{run}"
            of_run = lambda after, key=key, run_id=run_id: index.files_of_run(  # noqa: E731
                key, run_id, -1, after=after, limit=2
            )
            found.append(pages(of_run))
            found.append(index.files_before(key, (1000, ""), run_id=run_id, limit=1))
    return found


def pages(page: Any) -> list[TrackFileRow]:
    found: list[TrackFileRow] = []
    place = None
    while rows := page(place):
        assert len(rows) <= 2
        found += rows
        place = (rows[-1].start_ns, rows[-1].file_id)
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, max_size=25))
def test_readers_see_the_same_whether_changes_could_be_written_or_wait(changes: list[tuple[str, int, Any]]) -> None:
    inner, model = IndexInMemory(), IndexInMemory()
    patient = PatientIndex(inner)
    for what, number, reason in changes:
        known = model.rows.get(f"{number:032x}")
        state = known.state if known is not None else None
        for index in (patient, model):
            match what:
                case "begin" if state is None:
                    index.insert_open(row(number, reason))
                case "put" if state is not FileState.DELETING:
                    end_ns = number * 10 + 8
                    index.put(replace(row(number), state=FileState.CLOSED, end_ns=end_ns, end_reason=reason))
                case "close" if state in (FileState.OPEN, FileState.CLOSED):
                    file_id, end_ns = f"{number:032x}", number * 10 + 9
                    # The sizes of files that were closed before are asked for once all is written only.
                    index.close(file_id, end_ns=end_ns, size=0, end_reason=reason, **FIGURES)
                case "reopen" if state is FileState.CLOSED:
                    index.reopen(f"{number:032x}")
                case "forget":
                    index.forget([f"{number:032x}", f"{number + 1:032x}"])
        match what:
            case "delete" if not inner.failures:
                patient.mark_deleting([f"{number:032x}"])
                model.mark_deleting([f"{number:032x}"])
            case "fail":
                inner.failures = 1 << 30
            case "mend":
                inner.failures = 0
            case "enter":
                assert patient.enter() is not bool(patient.waiting)
        assert read(patient) == read(model)
    inner.failures = 0
    assert patient.enter()
    assert (patient.waiting, patient.trouble) == (0, "")
    assert inner.rows == model.rows


def test_what_waits_is_bounded_and_files_that_have_begun_are_still_closed() -> None:
    inner = IndexInMemory()
    index = PatientIndex(inner, most_waiting=2)
    index.insert_open(row(0))
    inner.failures = 1 << 30
    index.insert_open(row(1))
    index.close(row(0).file_id, end_ns=9, size=7, end_reason=None, **FIGURES)
    assert index.full
    with pytest.raises(DatabaseUnavailable, match="2 rows wait already"):
        index.insert_open(row(2))
    index.close(row(1).file_id, end_ns=19, size=5, end_reason=None, **FIGURES)
    inner.failures = 0
    assert index.enter()
    assert {r.path: (r.state, r.size) for r in inner.rows.values()} == {
        "0.mp4": (FileState.CLOSED, 7),
        "1.mp4": (FileState.CLOSED, 5),
    }


class HangingIndex(IndexInMemory):
    """Every change hangs until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def _change(self, name: str) -> None:
        self.released.wait()
        super()._change(name)


def test_an_index_that_hangs_holds_nobody_and_has_everything_in_the_end() -> None:
    inner, model = HangingIndex(), IndexInMemory()
    patient = PatientIndex(inner, patience_s=0.01)
    for number in range(4):
        for index in (patient, model):
            index.insert_open(row(number))
            if number % 2:
                index.close(row(number).file_id, end_ns=99, size=0, end_reason=None, **FIGURES)
    assert "has not answered for 0.01 s" in patient.trouble
    assert read(patient) == read(model)
    assert not patient.enter()
    assert inner.rows == {}
    inner.released.set()
    while not patient.enter():  # what was late is done first
        assert read(patient) == read(model)
    assert inner.rows == model.rows


class RefusingIndex(IndexInMemory):
    """Never takes the row of one file."""

    def put(self, row: TrackFileRow) -> None:
        if row.file_id == f"{3:032x}":
            raise StorageError("a constraint is hurt")
        super().put(row)


def test_a_row_that_the_database_does_not_take_is_shown_and_holds_no_other(caplog: pytest.LogCaptureFixture) -> None:
    inner, model = RefusingIndex(), IndexInMemory()
    patient, refused = PatientIndex(inner), row(3).file_id
    inner.failures = 1 << 30
    for number in range(6):
        for index in (patient, model):
            index.insert_open(row(number))
    inner.failures = 0
    assert patient.enter()
    assert (patient.waiting, patient.trouble) == (1, "a constraint is hurt")
    assert "does not take the row of 3.mp4" in caplog.text
    assert inner.rows.keys() == model.rows.keys() - {refused}
    assert read(patient) == read(model)
    for index in (patient, model):
        index.insert_open(row(6))
    assert row(6).file_id in inner.rows, "at once"
    for index in (patient, model):
        index.close(refused, end_ns=99, size=7, end_reason=None, **FIGURES)
    assert read(patient) == read(model)
    assert patient.enter(), "it is tried again, as it has changed"
    assert caplog.text.count("does not take the row") == 2
    for index in (patient, model):
        index.mark_deleting([refused, row(0).file_id])
    assert read(patient) == read(model)
    for index in (patient, model):
        index.forget([refused])
    assert patient.enter()
    assert (patient.waiting, patient.trouble) == (0, "")
    assert inner.rows == model.rows


def test_a_change_that_is_wrong_does_not_wait(tmp_path: Path) -> None:
    sql = SqlFootageIndex.open(tmp_path / "index.db")
    index = PatientIndex(sql)
    with pytest.raises(StorageError, match="no open or closed file"):
        index.close("0" * 32, end_ns=1, size=0, end_reason=None, **FIGURES)
    index.insert_open(row(0))
    with pytest.raises(StorageError):
        index.insert_open(row(0))
    assert index.waiting == 0
    sql.shut()


def test_a_database_without_room_lets_rows_wait_and_takes_them_in_when_it_has_room(tmp_path: Path) -> None:
    sql = SqlFootageIndex.open(tmp_path / "index.db")
    index = PatientIndex(sql)
    with sql._database.read() as connection:  # the pool gives this connection again
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    number = 0
    while not index.waiting:
        index.insert_open(row(number))
        number += 1
        assert number < 10_000
    assert "full" in index.trouble
    assert index.file(row(number - 1).file_id) == row(number - 1)
    assert not index.enter()
    with pytest.raises(DatabaseUnavailable):
        index.mark_deleting([row(0).file_id])
    with sql._database.read() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert index.enter()
    assert sql.file(row(number - 1).file_id) == row(number - 1)
    assert index.failures == 1
    sql.shut()


async def test_recording_goes_on_over_rotations_while_the_index_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(settings_in(tmp_path, rotation_ns=NS, retry_ns=10 * NS))
    engine = await house.start()
    await house.record(2)
    house.index.failures = 1 << 30
    await house.record(20)
    assert engine.volumes()[0].state is VolumeState.ONLINE
    assert (engine.lost, engine.refused) == (0, 0)
    assert len(engine.timeline(CAMERA).runs) == 1
    waiting = engine.index.waiting
    assert waiting > 10
    seen = StorageObservation(engine, None, Whole())  # type: ignore[arg-type]
    text = f"the index of footage cannot be written: the index fails on purpose; {waiting} rows wait in memory"
    assert (seen.problems(), seen.warnings()) == ((), [f"{text}; recording goes on"])
    assert caplog.text.count("the index of footage cannot be written") == 1
    with pytest.raises(StorageError, match="fails on purpose"):
        await engine.delete_track(CAMERA)
    house.index.failures = 0
    assert engine.index.enter()
    assert seen.warnings() == []
    await house.record(1)
    await engine.stop()
    house.check_settled()


async def test_rows_that_waited_are_entered_without_being_asked(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path, rotation_ns=NS))
    engine = await house.start()
    house.index.failures = 5
    await house.record(5)
    await until(lambda: engine.index.waiting == 0)
    house.check()
    await engine.stop()
    house.check_settled()


async def test_a_fault_of_ours_does_not_end_the_tries_to_enter_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(settings_in(tmp_path, rotation_ns=NS))
    engine = await house.start()
    enter, faults = engine.index.enter, [RuntimeError("a fault on purpose")]

    def failing_once() -> bool:
        if faults:
            raise faults.pop()
        return enter()

    monkeypatch.setattr(engine.index, "enter", failing_once)
    house.index.failures = 5
    await house.record(5)
    await until(lambda: engine.index.waiting == 0)
    assert "a fault on purpose" in caplog.text
    await engine.stop()
    house.check_settled()


async def test_a_crash_while_rows_wait_costs_nothing_because_the_files_tell_them(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path, rotation_ns=NS, retry_ns=10 * NS))
    await house.start()
    await house.record(4)
    house.index.failures = 1 << 30
    await house.record(12)
    shown = house.shown()
    before = dict(house.index.rows)
    await house.engine.stop()  # it could enter nothing: the index is as a crash leaves it
    assert house.index.rows == before
    house.index.failures = 0
    engine = await house.start()
    assert house.shown() == shown == 32
    (run,) = engine.timeline(CAMERA).runs
    assert run.end_ns == house.scripts[CAMERA].fragments[-1].end_ns
    await engine.stop()
    house.check_settled()


class Whole:
    """An index that has been checked."""

    broken = ""
    unchecked = False
