from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.model.errors import OperatorError, StorageError
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.database import Database, History, Statement
from nvr.storage.index import COLUMNS, SqlFootageIndex
from nvr.storage.rows import REACHING_OVER, FileState, FootageIndex, TrackFileRow, place_of
from tests.support.footage_index import IndexInMemory

KEY = TrackKey(RecordingToken("rec-1"), TrackToken("VIDEO001"))


@pytest.fixture
def sql_index(tmp_path: Path) -> Iterator[SqlFootageIndex]:
    index = SqlFootageIndex.open(tmp_path / "index.db")
    yield index
    index.shut()


@pytest.fixture(params=["database", "memory"])
def index(request: pytest.FixtureRequest) -> FootageIndex:
    """The index, and the one that other tests use in its place: both owe the same."""
    if request.param == "memory":
        return IndexInMemory()
    index: FootageIndex = request.getfixturevalue("sql_index")
    return index


def a_file(
    file_id: str,
    start_ns: int,
    end_ns: int,
    *,
    run_id: str = "r",
    run_place: int = 0,
    state: FileState = FileState.CLOSED,
    gap_before: GapReason | None = None,
    end_reason: GapReason | None = None,
    key: TrackKey = KEY,
    volume_id: str = "v",
) -> TrackFileRow:
    return TrackFileRow(
        file_id,
        volume_id,
        key.recording,
        key.track,
        run_id,
        run_place,
        f"footage/{file_id}.mp4",
        start_ns,
        end_ns,
        state,
        "H264",
        1,
        2,
        3,
        4,
        gap_before,
        end_reason,
    )


def fill(index: FootageIndex, *rows: TrackFileRow) -> None:
    index.replace_volume("v", rows)


def ids(rows: list[TrackFileRow]) -> list[str]:
    return [row.file_id for row in rows]


def test_a_row_comes_back_as_it_went_in_also_after_opening_again(tmp_path: Path) -> None:
    row = a_file("a", 1 << 60, 1 << 60, state=FileState.OPEN, gap_before=GapReason.SOURCE_LOST)
    index = SqlFootageIndex.open(tmp_path / "index.db")
    index.insert_open(row)
    index.shut()
    index = SqlFootageIndex.open(tmp_path / "index.db")
    assert index.file("a") == row
    assert index.open_files("v") == [row]
    assert index.open_files("w") == []
    index.shut()


def test_closing_takes_the_figures_of_the_whole_file(index: FootageIndex) -> None:
    row = a_file("a", 10, 10, state=FileState.OPEN)
    index.insert_open(row)
    for end_ns in (50, 60):
        index.close(
            "a", end_ns=end_ns, size=7, samples=8, lost_packets=9, dropped_units=10, end_reason=GapReason.STORAGE
        )
        assert index.file("a") == replace(
            row,
            end_ns=end_ns,
            state=FileState.CLOSED,
            size=7,
            samples=8,
            lost_packets=9,
            dropped_units=10,
            end_reason=GapReason.STORAGE,
        )
    assert index.newest(KEY) == index.file("a")
    assert index.open_files("v") == []
    index.reopen("a")
    assert ids(index.open_files("v")) == ["a"]


def test_closing_a_file_that_the_index_does_not_have_is_told(sql_index: SqlFootageIndex) -> None:
    with pytest.raises(StorageError, match="no open or closed file nosuch"):
        sql_index.reopen("nosuch")


def test_a_tombstone_is_seen_by_the_deleting_side_only(index: FootageIndex) -> None:
    fill(index, a_file("a", 0, 10), a_file("b", 10, 20))
    index.mark_deleting(["a", "nosuch"])
    assert ids(index.files(KEY, 0)) == ["b"]
    assert ids(index.deleting_files("v")) == ["a"]
    assert index.known(["a", "b", "c"]) == {"a", "b"}
    assert index.runs(KEY) == [Run("r", 10, 20, GapReason.UNKNOWN)]
    index.forget(["a", "nosuch"])
    assert index.file("a") is None
    index.mark_deleting(["b"])
    assert index.all_runs() == {}
    assert index.newest(KEY) is None


def test_the_oldest_closed_files_of_a_volume_come_page_by_page(index: FootageIndex) -> None:
    fill(
        index,
        a_file("a", 30, 40),
        a_file("b", 10, 50, key=TrackKey(KEY.recording, TrackToken("AUDIO001"))),
        a_file("c", 10, 20),
        a_file("d", 0, 10, state=FileState.DELETING),
        a_file("e", 5, 5, state=FileState.OPEN),
    )
    index.replace_volume("w", [a_file("f", 0, 10, volume_id="w")])
    assert ids(index.oldest("v", limit=2)) == ["b", "c"]
    assert ids(index.oldest("v", after=(10, "b"), limit=2)) == ["c", "a"]
    assert index.oldest("v", after=(30, "a")) == []


def test_the_bytes_of_a_recording_are_those_shown_and_those_of_a_volume_all_that_is_there(index: FootageIndex) -> None:
    assert (index.recording_bytes(KEY.recording), index.volume_bytes("v")) == (0, 0)
    other = TrackKey(RecordingToken("rec-2"), KEY.track)
    deleting = a_file("d", 0, 10, state=FileState.DELETING)
    fill(index, a_file("a", 0, 10), replace(a_file("b", 0, 9), size=5), a_file("c", 1, 9, key=other), deleting)
    assert (index.recording_bytes(KEY.recording), index.volume_bytes("v")) == (6, 8)


def test_many_ids_at_once_stay_within_the_limits_of_the_database(index: FootageIndex) -> None:
    rows = [a_file(f"{n:032x}", n, n + 1) for n in range(1300)]
    fill(index, *rows)
    assert index.known(ids(rows)) == set(ids(rows))
    index.mark_deleting(ids(rows))
    index.forget(ids(rows))
    assert index.known(ids(rows)) == set()
    assert index.deleting_files("v") == []


def test_a_range_holds_the_files_that_touch_it(index: FootageIndex) -> None:
    fill(
        index,
        a_file("a", 0, 10),
        a_file("b", 10, 20),
        a_file("empty", 20, 20),
        a_file("open", 30, 30, state=FileState.OPEN),
        a_file("other", 0, 100, key=TrackKey(KEY.recording, TrackToken("AUDIO001"))),
    )
    assert ids(index.files(KEY, 0)) == ["a", "b", "empty", "open"]
    assert ids(index.files(KEY, 10)) == ["b", "empty", "open"]
    assert ids(index.files(KEY, 20)) == ["empty", "open"]
    assert ids(index.files(KEY, 21)) == ["open"]
    assert ids(index.files(KEY, 99)) == ["open"]
    assert ids(index.files(KEY, 0, 10)) == ["a"]
    assert ids(index.files(KEY, 0, 30)) == ["a", "b", "empty"]
    year_9999 = 253_402_300_799 * 10**9
    assert ids(index.files(KEY, -year_9999, year_9999)) == ["a", "b", "empty", "open"]
    assert ids(index.files(KEY, year_9999)) == ["open"]


def test_pages_of_files_follow_each_other_without_gap_or_repetition(index: FootageIndex) -> None:
    rows = [a_file(f"{n:03}", n // 3, n // 3 + 5) for n in range(100)]
    fill(index, *reversed(rows))
    found: list[TrackFileRow] = []
    while page := index.files(KEY, 0, after=(found[-1].start_ns, found[-1].file_id) if found else None, limit=7):
        found += page
    assert found == rows


def test_pages_of_files_come_backwards_as_well(index: FootageIndex) -> None:
    files = [a_file(f"{n:03}", n // 3, n // 3 + 5) for n in range(50)]
    fill(index, *files)
    found: list[TrackFileRow] = []
    before = (1 << 62, "")
    while page := index.files_before(KEY, before, limit=7):
        found += page
        before = (page[-1].start_ns, page[-1].file_id)
    assert found == files[::-1]
    middle = files[len(files) // 2]
    assert index.files_before(KEY, (middle.start_ns, ""), limit=1000) == [
        f for f in files[::-1] if f.start_ns < middle.start_ns
    ]


def test_the_files_of_a_run_come_by_themselves_from_a_little_before_an_instant_on(index: FootageIndex) -> None:
    run = [a_file(f"{n:03}", 10 * n, 10 * n + 11, run_id="a", run_place=n) for n in range(30)]
    gone = a_file("gone", 148, 150, run_id="a", run_place=99, state=FileState.DELETING)
    others = [a_file(f"b{n:03}", n, n + 5, run_id=f"b{n}") for n in range(300)]
    fill(index, *others, *reversed(run), gone)
    assert index.files_of_run(KEY, "a", 0, limit=100) == run
    assert index.files_of_run(KEY, "a", -(1 << 70), limit=100) == run
    assert index.files_of_run(KEY, "a", 150, limit=3) == run[12:15]
    assert index.files_of_run(KEY, "a", 159, limit=100) == run[12:]
    assert index.files_of_run(KEY, "a", 1 << 70, limit=100) == run[-REACHING_OVER:]
    assert index.files_of_run(KEY, "a", 0, after=(150, "015"), limit=100) == run[16:]
    assert index.files_of_run(KEY, "none", 0) == []
    assert index.files_before(KEY, (150, ""), run_id="a", limit=4) == run[14:10:-1]
    assert index.files_before(KEY, (1 << 70, ""), run_id="a", limit=100) == run[::-1]
    assert index.files_before(KEY, (150, ""), run_id="none") == []


def test_replacing_a_volume_leaves_the_others(index: FootageIndex) -> None:
    index.replace_volume("w", [a_file("w", 0, 1, volume_id="w")])
    fill(index, a_file("a", 0, 1))
    fill(index, a_file("b", 0, 1))
    assert index.known(["w", "a", "b"]) == {"w", "b"}
    assert list(index.all_runs()) == [KEY]


def test_runs_take_their_end_from_the_last_file_or_from_the_gap_that_follows(index: FootageIndex) -> None:
    fill(
        index,
        a_file("a0", 0, 10, run_id="a", run_place=0, gap_before=GapReason.CLOCK_JUMP),
        a_file("a1", 10, 20, run_id="a", run_place=1, end_reason=GapReason.SOURCE_LOST),
        a_file("b0", 30, 40, run_id="b", run_place=0, gap_before=GapReason.SOURCE_LOST),
        a_file("c0", 50, 60, run_id="c", run_place=0, gap_before=GapReason.STORAGE),
        a_file("c1", 60, 60, run_id="c", run_place=1, state=FileState.OPEN),
    )
    assert index.runs(KEY) == [
        Run("a", 0, 20, GapReason.SOURCE_LOST),
        Run("b", 30, 40, GapReason.STORAGE),
        Run("c", 50, 60, GapReason.UNKNOWN),
    ]


def expected_runs(rows: list[TrackFileRow]) -> list[Run]:
    """The rule of rows.py, spelled out over a list."""
    closed = [row for row in rows if row.state is FileState.CLOSED]
    runs = []
    for run_id in {row.run_id for row in closed}:
        of_run = [row for row in closed if row.run_id == run_id]
        last = max(of_run, key=lambda row: (row.run_place, row.file_id))
        gap = max((row.gap_before for row in of_run if row.gap_before), default=None)
        runs.append((min(r.start_ns for r in of_run), max(r.end_ns for r in of_run), run_id, last.end_reason, gap))
    runs.sort(key=lambda run: run[:3])
    following = [*(run[4] for run in runs[1:]), None][: len(runs)]
    return [
        Run(run_id, start, end, reason or then or GapReason.UNKNOWN)
        for (start, end, run_id, reason, _), then in zip(runs, following, strict=True)
    ]


REASONS = st.none() | st.sampled_from(GapReason)
FILES = st.lists(
    st.tuples(
        st.integers(0, 50), st.integers(0, 20), st.sampled_from("abc"), st.sampled_from(FileState), REASONS, REASONS
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, from_ns=st.integers(-5, 80), span=st.none() | st.integers(0, 80))
def test_files_and_runs_agree_with_their_rules(
    sql_index: SqlFootageIndex,
    files: list[tuple[int, int, str, FileState, GapReason, GapReason]],
    from_ns: int,
    span: int,
) -> None:
    rows = [
        a_file(
            f"{n:02}", start, start + length, run_id=run, run_place=n, state=state, gap_before=gap, end_reason=reason
        )
        for n, (start, length, run, state, gap, reason) in enumerate(files)
    ]
    fill(sql_index, *rows)
    until_ns = None if span is None else from_ns + span
    touching = [
        row
        for row in sorted(rows, key=lambda row: (row.start_ns, row.file_id))
        if row.state is not FileState.DELETING
        and (row.state is FileState.OPEN or row.end_ns > from_ns or row.start_ns >= from_ns)
        and (until_ns is None or row.start_ns < until_ns)
    ]
    assert sql_index.files(KEY, from_ns, until_ns) == touching
    assert sql_index.runs(KEY) == expected_runs(rows)
    assert sql_index.all_runs().get(KEY, []) == expected_runs(rows)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["close", "reopen", "mark", "forget", "put", "replace", "tell"]), st.sets(st.integers(0, 11))
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, changes=CHANGES, places=st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_runs_follow_every_change_of_their_files(
    sql_index: SqlFootageIndex,
    files: list[tuple[int, int, str, FileState, GapReason, GapReason]],
    changes: list[tuple[str, set[int]]],
    places: list[int],
) -> None:
    """What is kept beside the files says what the files themselves would say, whatever comes, grows, ends or goes."""
    rows = {
        f"{n:02}": replace(
            a_file(f"{n:02}", start, start + length, run_id=run, run_place=place, state=state),
            gap_before=gap,
            end_reason=reason,
        )
        for n, ((start, length, run, state, gap, reason), place) in enumerate(zip(files, places, strict=False))
    }
    fill(sql_index, *rows.values())
    for what, numbers in changes:
        chosen = [row for n in sorted(numbers) if (row := rows.get(f"{n:02}")) is not None]
        match what:
            case "mark":
                sql_index.mark_deleting([row.file_id for row in chosen])
                rows |= {row.file_id: replace(row, state=FileState.DELETING) for row in chosen}
            case "forget":
                sql_index.forget([row.file_id for row in chosen])
                for row in chosen:
                    del rows[row.file_id]
            case "tell":
                told = [row for row in chosen if row.state is not FileState.DELETING]
                for row in told:
                    gap, reason = GapReason.STORAGE, GapReason.CLOCK_JUMP
                    run_id = "told" if row.run_place % 2 else row.run_id
                    rows[row.file_id] = replace(row, run_id=run_id, gap_before=gap, end_reason=reason)
                gone = [row.file_id for row in told[2:]]
                sql_index.tell_places([place_of(rows[row.file_id]) for row in told[:2]], gone)
                for file_id in gone:
                    del rows[file_id]
            case "replace":
                sql_index.replace_volume("v", chosen)
                rows = {row.file_id: row for row in chosen}
            case _:
                for row in chosen:
                    if what == "put":
                        rows[row.file_id] = replace(row, start_ns=row.start_ns + 1, state=FileState.CLOSED)
                        sql_index.put(rows[row.file_id])
                    elif row.state is FileState.DELETING:
                        continue
                    elif what == "reopen":
                        rows[row.file_id] = replace(row, state=FileState.OPEN)
                        sql_index.reopen(row.file_id)
                    else:
                        end_ns, reason = row.end_ns + 7, GapReason.STORAGE
                        rows[row.file_id] = replace(row, state=FileState.CLOSED, end_ns=end_ns, end_reason=reason)
                        figures = {"size": 1, "samples": 2, "lost_packets": 3, "dropped_units": 4}
                        sql_index.close(row.file_id, end_ns=end_ns, end_reason=reason, **figures)
        assert sql_index.runs(KEY) == expected_runs(list(rows.values()))
    with sql_index._database.read() as connection:
        kept = connection.exec_driver_sql(
            "select run_id, first_place, last_place, files from runs order by run_id"
        ).all()
    closed = [row for row in rows.values() if row.state is FileState.CLOSED]
    for run_id, first_place, last_place, count in kept:
        of_run = [row for row in closed if row.run_id == run_id]
        assert first_place == min(of_run, key=lambda row: (row.start_ns, row.file_id)).run_place
        assert (last_place, count) == (max(row.run_place for row in of_run), len(of_run))


def test_a_tombstone_costs_the_same_however_many_stand_before_it(sql_index: SqlFootageIndex, tmp_path: Path) -> None:
    """All of a run is deleted from its beginning on; nothing is unlinked before all of it has its tombstones."""
    files = [a_file(f"{n:03}", n, n + 1, run_place=n) for n in range(400)]
    sql_index.replace_volume("v", files)
    steps: list[int] = []
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection, connection:
        connection.set_progress_handler(lambda: steps.append(1), 1)
        cost = []
        for file in files:
            steps.clear()
            connection.execute("update track_files set state = 'deleting' where file_id = ?", (file.file_id,))
            cost.append(len(steps))
    assert cost[300] < 1.5 * cost[1]


def test_an_index_of_the_version_before_gets_its_runs(tmp_path: Path) -> None:
    rows = [a_file(f"{n:02}", n, n + 1, run_id="ab"[n // 5], run_place=n % 5) for n in range(9)]
    path = tmp_path / "index.db"
    Database(path, History.INDEX, "NORMAL", "i0006").close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for row in rows:
            values = [getattr(row, name) for name in COLUMNS]
            connection.execute(f"insert into track_files values ({','.join('?' * len(values))})", values)
    index = SqlFootageIndex.open(path)
    assert index.runs(KEY) == expected_runs(rows)
    index.shut()


def test_a_damaged_index_names_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(b"no database at all")
    with pytest.raises(OperatorError, match="run `nvr catalog rebuild`"):
        SqlFootageIndex.open(path)
    index, kept = SqlFootageIndex.open_for_rebuild(path)
    assert kept is not None
    assert kept.read_bytes() == b"no database at all"
    assert index.all_runs() == {}
    index.shut()


def test_what_a_start_and_retention_ask_is_sought_and_not_walked(
    sql_index: SqlFootageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[sa.Select[Any]] = []
    found: list[tuple[Statement, dict[str, Any]]] = []
    monkeypatch.setattr(sql_index, "_rows", lambda query: asked.append(query) or [])
    monkeypatch.setattr(sql_index, "_found", lambda query, **values: found.append((query, values)) or [])
    sql_index.open_files("v")
    sql_index.deleting_files("v")
    sql_index.oldest("v")
    sql_index.files_of_run(KEY, "r", 5)
    sql_index.files_of_run(KEY, "r", 5, after=(5, "a"))
    sql_index.files_before(KEY, (5, ""), run_id="r")
    sql_index.files_before(KEY, (5, ""))
    with sql_index._database.read() as connection:
        for query in asked:
            text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
            plan = [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
            assert plan == ["SEARCH track_files USING INDEX track_files_by_state (volume_id=? AND state=?)"]
        plans = [[str(row[3]) for row in q.rows(connection, "EXPLAIN QUERY PLAN ", **values)] for q, values in found]
    assert not any("TEMP B-TREE" in step for plan in plans for step in plan)
    assert all("track_files_by_run (recording=? AND track=? AND run_id=? AND start_ns" in p[0] for p in plans[:3])
    assert "track_files_by_time (recording=? AND track=? AND start_ns" in plans[3][0]
