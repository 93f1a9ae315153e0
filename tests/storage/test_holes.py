"""Files lost in the middle of a run: in whatever order rows go and come back, the index says the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.errors import StorageError
from nvr.model.time import NS
from nvr.model.timeline import Gap, GapReason, Timeline
from nvr.storage import holes
from nvr.storage.findings import Damage
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow, place_of
from tests.support.footage import CAMERA
from tests.support.footage_index import IndexInMemory

RUN = "0123456789ab4def8123456789abcdef"
PLACES = 8


def whole(places: int = PLACES, *, growing: bool = False) -> list[TrackFileRow]:
    """The rows of a run as its files tell them."""
    rows = []
    for place in range(places):
        last = place == places - 1
        rows.append(
            TrackFileRow(
                *(f"{place:032x}", "one", *CAMERA, RUN, place),
                path=f"{place}.mp4",
                start_ns=place * 10 * NS,
                end_ns=(place + 1) * 10 * NS,
                state=FileState.OPEN if growing and last else FileState.CLOSED,
                encoding="H264",
                size=100,
                gap_before=GapReason.SOURCE_LOST if place == 0 else None,
                end_reason=GapReason.JOB_STOPPED if last and not growing else None,
            )
        )
    return rows


def filled(index: FootageIndex, rows: list[TrackFileRow]) -> FootageIndex:
    for row in rows:
        index.put(row)
    return index


def shown(index: FootageIndex) -> list[TrackFileRow]:
    return index.files(CAMERA, 0, limit=1000)


def lose(index: FootageIndex, place: int) -> holes.Changed:
    return holes.forget_lost(index, next(row for row in shown(index) if row.run_place == place))


@pytest.fixture(params=["memory", "sql"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FootageIndex]:
    if request.param == "memory":
        yield IndexInMemory()
    else:
        index = SqlFootageIndex.open(tmp_path / "index.db")
        yield index
        index.shut()


def test_what_is_before_and_behind_a_lost_file_are_two_runs_and_the_gap_between_them_says_storage(
    index: FootageIndex,
) -> None:
    filled(index, whole())
    changed = lose(index, 3)
    first, second = index.runs(CAMERA)
    assert changed == {(CAMERA, first.run_id), (CAMERA, RUN)}
    assert second.run_id == RUN, "it may be going on"
    assert (first.start_ns, first.end_ns, first.end_reason) == (0, 30 * NS, GapReason.STORAGE)
    assert (second.start_ns, second.end_ns, second.end_reason) == (40 * NS, 80 * NS, GapReason.JOB_STOPPED)
    assert Timeline.of([first, second]).gaps() == (Gap(30 * NS, 40 * NS, GapReason.STORAGE),)
    before, behind = shown(index)[2:4]
    assert (before.end_reason, behind.gap_before) == (GapReason.STORAGE, GapReason.STORAGE)
    assert [row.run_id for row in index.files_of_run(CAMERA, first.run_id, 0)] == [first.run_id] * 3
    assert index.all_runs() == {CAMERA: [first, second]}


@given(st.permutations(range(PLACES)).flatmap(lambda p: st.integers(1, PLACES - 1).map(lambda n: p[:n])))
def test_runs_are_the_stretches_of_files_that_are_there_whatever_the_order_in_which_others_were_lost(
    lost: list[int],
) -> None:
    index = filled(IndexInMemory(), whole())
    for place in lost:
        lose(index, place)
    left = [row for row in whole() if row.run_place not in lost]
    stretches = [row.start_ns for row in left if row.run_place == 0 or row.run_place - 1 in lost]
    ends = [row.end_ns for row in left if row.run_place + 1 == PLACES or row.run_place + 1 in lost]
    runs = index.runs(CAMERA)
    assert [(run.start_ns, run.end_ns) for run in runs] == list(zip(stretches, ends, strict=True))
    reasons = [GapReason.JOB_STOPPED if end == PLACES * 10 * NS else GapReason.STORAGE for end in ends]
    assert [run.end_reason for run in runs] == reasons
    assert holes.split(map(place_of, shown(index))) == [], "nothing is left to be said"
    # The files alone tell the same, but for what is lost at the very end or beginning.
    rebuilt = filled(IndexInMemory(), left)
    assert holes.split_all(rebuilt) == (len(runs) > 1)
    assert [(r.start_ns, r.end_ns) for r in rebuilt.runs(CAMERA)] == [(r.start_ns, r.end_ns) for r in runs]
    assert [r.end_reason for r in rebuilt.runs(CAMERA)][:-1] == reasons[:-1]
    assert [r.gap_before for r in shown(rebuilt)][1:] == [r.gap_before for r in shown(index)][1:]
    assert holes.split_all(rebuilt) == 0


@given(st.permutations(range(1, PLACES - 1)), st.permutations(range(1, PLACES - 1)))
def test_files_that_come_back_close_their_holes_and_nothing_of_them_stays(lost: list[int], found: list[int]) -> None:
    index = filled(IndexInMemory(), whole())
    for place in lost:
        lose(index, place)
    for place in found:
        index.put(whole()[place])
        holes.rejoin(index, CAMERA, RUN)
    assert shown(index) == whole()


def test_a_run_that_is_being_recorded_keeps_its_id_and_its_growing_file_knows_the_gap(index: FootageIndex) -> None:
    *rows, growing = whole(growing=True)
    filled(index, rows)
    index.insert_open(replace(growing, end_ns=growing.start_ns))
    assert lose(index, PLACES - 2) == {(CAMERA, RUN), (CAMERA, holes.section_id(RUN, PLACES - 3))}
    last = shown(index)[-1]
    assert (last.run_id, last.state, last.gap_before) == (RUN, FileState.OPEN, GapReason.STORAGE)
    (run,) = index.runs(CAMERA)
    assert (run.end_ns, run.end_reason) == ((PLACES - 2) * 10 * NS, GapReason.STORAGE)


def test_where_a_file_in_front_of_the_hole_is_still_to_be_recovered_nothing_is_changed(index: FootageIndex) -> None:
    filled(index, whole())
    index.reopen(f"{1:032x}")
    before = shown(index)
    with pytest.raises(StorageError, match=r"1\.mp4, of the same run, is not closed yet"):
        lose(index, 4)
    assert shown(index) == before


def test_what_rules_delete_at_the_beginning_of_a_run_is_no_hole(index: FootageIndex) -> None:
    filled(index, whole()[3:])
    assert holes.split_all(index) == 0
    assert shown(index) == whole()[3:]


def test_a_reason_in_the_middle_of_a_run_that_is_whole_stays(index: FootageIndex) -> None:
    rows = whole()
    rows[2] = replace(rows[2], end_reason=GapReason.STORAGE)
    filled(index, rows)
    assert holes.split_all(index) == 0
    lose(index, 0)
    assert shown(index)[1:] == rows[2:]


def test_what_has_changed_since_it_was_read_is_not_written_over(index: FootageIndex) -> None:
    filled(index, whole())
    before = index.places(CAMERA)
    index.mark_deleting([f"{0:032x}"])
    left = shown(index)
    with pytest.raises(StorageError, match="meanwhile: try again"):
        index.tell_places([place._replace(run_id="f" * 32) for place in before], [f"{7:032x}"])
    assert shown(index) == left
    assert index.runs(CAMERA)[0].end_ns == 80 * NS


def test_runs_of_other_ids_are_left_alone(index: FootageIndex) -> None:
    other = [replace(row, file_id=f"f{row.file_id[1:]}", run_id=f"{RUN[:-16]}{'0' * 16}") for row in whole(3)]
    filled(index, [*whole(), *other])
    lose(index, 4)
    assert [row for row in shown(index) if row.run_id == other[0].run_id] == sorted(other, key=lambda r: r.start_ns)


def test_the_table_of_runs_follows(tmp_path: Path) -> None:
    index, peer = SqlFootageIndex.open(tmp_path / "index.db"), IndexInMemory()
    for one in (index, peer):
        filled(one, whole())
    for place in (5, 2, 6, 1):
        assert lose(index, place) == lose(peer, place)
        assert index.runs(CAMERA) == peer.runs(CAMERA)
    for place in (2, 6, 1, 5):
        for one in (index, peer):
            one.put(whole()[place])
            holes.rejoin(one, CAMERA, RUN)
        assert index.runs(CAMERA) == peer.runs(CAMERA)
    assert [run.run_id for run in index.runs(CAMERA)] == [RUN]
    index.shut()


def test_damage_stays_known_and_that_of_the_lost_file_is_forgotten(tmp_path: Path) -> None:
    index = SqlFootageIndex.open(tmp_path / "index.db")
    filled(index, whole())
    known, lost = Damage(f"{0:032x}", 10, 5), Damage(f"{4:032x}", 20, 5)
    index.know_damage([known, lost])
    lose(index, 4)
    assert index.known_damage(known.file_id) == {known}
    assert index.known_damage(lost.file_id) == set()
    index.shut()
