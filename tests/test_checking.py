"""`nvr check` on real stores: each kind of damage is named precisely, mended without losing footage, and then clean."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nvr.check_command import Progress, Report
from nvr.checking import Request, check_footage
from nvr.cli import main
from nvr.media.bmff.fragment import FRAGMENT_BOX
from nvr.model.errors import OperatorError
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey
from nvr.operations.access import rebuild_catalog
from nvr.storage.findings import Kind
from nvr.storage.rows import FileState
from tests.support.checked_store import OTHER, SOUND, Store, kinds
from tests.support.footage import CAMERA


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "data")
    await made.make()
    return made


async def test_a_whole_store_has_no_findings_and_every_byte_of_its_fragments_is_read(store: Store) -> None:
    outcome, found = store.check()
    assert (found, outcome.status, outcome.beside) == ([], 0, False)
    rows = [row for key in store.scripts for row in store.rows(key)]
    assert outcome.files == len(rows)
    assert 0 < outcome.bytes_read < sum(row.size for row in rows)


async def test_a_flipped_byte_is_named_with_its_fragment_and_time_and_known_after_a_repair(store: Store) -> None:
    row = store.rows()[1]
    data = bytearray(store.path(row).read_bytes())
    at = data.index(b"mdat") + 10
    data[at] ^= 1
    store.path(row).write_bytes(data)
    outcome, found = store.check()
    assert (outcome.status, kinds(found)) == (1, [Kind.CHECKSUM])
    finding = found[0].finding
    assert (finding.path, finding.file_id, finding.key) == (row.path, row.file_id, CAMERA)
    assert finding.offset is not None
    assert finding.offset < at < finding.offset + finding.length
    damaged = next(f for f in store.fragments() if f.start_ns == finding.start_ns)
    assert finding.end_ns == damaged.end_ns
    outcome, found = store.check(repair=True)
    assert (outcome.status, found[0].done) == (1, "1 damaged place is known now; the bytes stay as they are")
    outcome, found = store.check()
    assert (outcome.status, outcome.known, found[0].finding.known) == (0, 1, True)
    assert store.path(row).read_bytes() == data


async def test_rows_that_lie_are_made_anew_from_the_files(store: Store) -> None:
    first, second = store.rows()[:2]
    store.change(lambda index: index.put(replace(first, end_ns=first.end_ns + 7, samples=3)))
    store.change(lambda index: index.put(replace(second, size=second.size + 1, run_place=9)))
    outcome, found = store.check(repair=True)
    assert outcome.status == 1
    assert sorted(kinds(found)) == sorted([Kind.ROW, Kind.SIZE, Kind.IDENTITY])
    texts = "; ".join(r.finding.text for r in found)
    assert f"samples {first.samples} (row: 3)" in texts
    assert f"place {second.run_place} (row: 9)" in texts
    assert store.check()[0].status == 0
    assert store.rows()[:2] == [first, second]


async def test_a_missing_file_loses_its_row_by_a_repair_only(store: Store) -> None:
    row = store.rows()[0]
    store.path(row).unlink()
    assert kinds(store.check()[1]) == [Kind.MISSING]
    _outcome, found = store.check(repair=True)
    assert (kinds(found), found[0].done) == ([Kind.MISSING], "its row is removed")
    assert store.check()[0].status == 0
    assert row.file_id not in {r.file_id for r in store.rows()}


async def test_a_file_lost_in_the_middle_of_a_run_leaves_a_gap_that_a_rebuilt_index_has_as_well(store: Store) -> None:
    rows = store.rows()
    lost = rows[1]
    assert rows[0].run_id == lost.run_id == rows[2].run_id
    kept = store.path(lost).read_bytes()
    store.path(lost).unlink()
    _outcome, found = store.check(repair=True)
    assert [(r.finding.kind, r.done) for r in found] == [
        (Kind.MISSING, "its row is removed; the gap that it leaves in its run says so (storage)")
    ]
    assert store.check()[0].status == 0
    split = store.rows()
    assert [row.run_id == lost.run_id for row in split[:2]] == [False, True]
    assert (split[0].end_reason, split[1].gap_before) == (GapReason.STORAGE, GapReason.STORAGE)
    # Made anew from the file, a row keeps what only the index knows.
    store.change(lambda index: index.put(replace(split[1], samples=1)))
    assert store.check(repair=True)[0].mended == 1
    assert store.rows() == split
    rebuild_catalog(store.data, store.settings, lambda count, path: None)
    assert store.rows() == split
    # It comes back, from a copy: as if it had never been away.
    store.path(lost).write_bytes(kept)
    assert kinds(store.check(repair=True)[1]) == [Kind.ORPHAN]
    assert store.rows() == rows
    assert store.check()[0].status == 0
    assert await store.shown() == store.handed()


async def test_a_run_that_seems_whole_over_files_that_are_gone_is_a_finding_and_split(store: Store) -> None:
    row = store.rows()[1]
    store.path(row).unlink()
    store.change(lambda index: index.forget([row.file_id]))
    outcome, found = store.check()
    assert (outcome.status, kinds(found)) == (1, [Kind.HOLE])
    finding = found[0].finding
    assert (finding.start_ns, finding.end_ns) == (store.rows()[0].end_ns, store.rows()[1].start_ns)
    assert store.check(repair=True)[1][0].done == "the run is split there, and the gap says why (storage)"
    assert store.check()[0].status == 0
    assert store.rows()[0].end_reason is GapReason.STORAGE


async def test_an_orphan_gets_a_row_and_its_footage_is_shown_again(store: Store) -> None:
    row = store.rows()[1]
    store.change(lambda index: index.forget([row.file_id]))
    outcome, found = store.check(repair=True)
    assert (outcome.status, kinds(found), found[0].done) == (1, [Kind.ORPHAN], "it has a row now")
    assert (found[0].finding.path, found[0].finding.key) == (row.path, CAMERA)
    assert store.check()[0].status == 0
    assert store.rows()[1] == row
    assert await store.shown() == store.handed()


async def test_a_destroyed_table_is_made_anew_and_what_stood_there_is_kept(store: Store) -> None:
    row = store.rows()[0]
    whole = store.path(row).read_bytes()
    store.path(row).write_bytes(whole[:-6])
    outcome, found = store.check(repair=True)
    assert kinds(found) == [Kind.SIZE, Kind.TABLE]
    assert found[0].done.startswith(
        "its table and its row are made anew; what stood behind its last whole fragment is kept in "
    )
    assert found[1].done == "with the same repair"
    assert store.path(row).read_bytes() == whole
    kept = next(store.path(row).parent.glob("*.cut"))
    assert whole[:-6].endswith(kept.read_bytes())
    assert store.rows()[0] == row
    outcome, found = store.check()
    assert (outcome.status, outcome.known) == (0, 1), "what was set aside is told and does not count"
    assert await store.shown() == store.handed()


def destroy(path: Path, count: int) -> bytes:
    """The first bytes of a file become zeros; gives those that stood there."""
    data = path.read_bytes()
    path.write_bytes(bytes(count) + data[count:])
    return data


def head_size(path: Path) -> int:
    return path.read_bytes().index(b"uuid" + FRAGMENT_BOX.bytes) - 4


async def test_a_destroyed_head_is_made_anew_as_it_was_from_the_row_and_a_file_of_the_same_run(store: Store) -> None:
    row = store.rows()[1]
    path = store.path(row)
    size = head_size(path)
    whole = destroy(path, size)
    outcome, found = store.check()
    assert (outcome.status, kinds(found)) == (1, [Kind.UNREADABLE])
    outcome, found = store.check(repair=True)
    assert "of the same run" in found[0].done
    assert (outcome.found, outcome.mended, outcome.remaining) == (1, 1, 0)
    assert path.read_bytes() == whole
    assert path.with_name(f"{path.name}.head.cut").read_bytes() == bytes(size)
    outcome, found = store.check()
    assert (outcome.status, outcome.known) == (0, 1)
    assert await store.shown() == store.handed()


@pytest.mark.parametrize(
    ("key", "destroyed", "source"), [(OTHER, 200, "what is left"), (SOUND, 1 << 20, "its samples")]
)
async def test_the_only_file_of_a_track_gets_a_new_head_too(
    key: TrackKey, destroyed: int, source: str, store: Store
) -> None:
    for row in store.rows(key)[1:]:
        store.path(row).unlink()
        store.change(lambda index, row=row: index.forget([row.file_id]))  # type: ignore[misc]
    path = store.path(store.rows(key)[0])
    whole = destroy(path, min(destroyed, head_size(path)))
    found = store.check(repair=True)[1]
    assert source in found[0].done
    assert path.read_bytes() == whole


async def test_a_head_comes_from_another_run_only_where_its_own_tells_nothing_and_damage_behind_it_is_told_at_once(
    store: Store,
) -> None:
    rows = store.rows()
    run = rows[-1].run_id
    for row in [r for r in rows if r.run_id == run][1:]:
        store.path(row).unlink()
        store.change(lambda index, row=row: index.forget([row.file_id]))  # type: ignore[misc]
    path = store.path(next(r for r in rows if r.run_id == run))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"mdat") + 9] ^= 1
    path.write_bytes(data)
    whole = destroy(path, head_size(path))
    found = store.check(repair=True)[1]
    assert "of another run" in found[0].done
    assert kinds(found)[:2] == [Kind.UNREADABLE, Kind.CHECKSUM]
    assert path.read_bytes() == whole


async def test_where_no_head_can_be_made_nothing_is_changed_and_every_check_says_so(store: Store) -> None:
    first, *others = store.rows(OTHER)
    for row in others:
        store.path(row).unlink()
        store.change(lambda index, row=row: index.forget([row.file_id]))  # type: ignore[misc]
    path = store.path(first)
    destroy(path, head_size(path))
    left = path.read_bytes()
    for _ in range(2):
        outcome, found = store.check(repair=True)
        assert (outcome.status, kinds(found), outcome.remaining) == (1, [Kind.UNREADABLE], 1)
        assert found[0].done.startswith("nothing is changed: no head can be made for it: ")
    assert path.read_bytes() == left
    assert store.rows(OTHER) == [first]


async def test_a_file_that_a_start_has_set_aside_counts_in_every_check(store: Store) -> None:
    path = store.path(store.rows()[0])
    path.with_name("000000-" + "e" * 32 + ".mp4.unreadable").write_bytes(b"destroyed")
    for _ in range(2):
        outcome, found = store.check(repair=True)
        assert (outcome.status, kinds(found), found[0].remains) == (1, [Kind.UNREADABLE], True)


async def test_what_no_recorder_has_made_is_named_wherever_it_stands(store: Store) -> None:
    day = store.path(store.rows()[0]).parent
    strange = {
        day / "notes.txt",
        store.root / "footage/foreign.mp4",
        store.root / "other.mp4",
        day.parent / "20260101.tgz",
    }
    for path in strange:
        path.write_bytes(b"?")
    outcome, found = store.check(repair=True)
    assert (outcome.status, set(kinds(found))) == (1, {Kind.FOREIGN})
    assert {store.root / r.finding.path for r in found} == strange
    assert all(path.exists() for path in strange)


async def test_copies_and_files_of_other_volumes_are_named_and_left_alone(store: Store) -> None:
    row = store.rows()[0]
    path = store.path(row)
    shutil.copy(path, path.with_name("000000-copy.mp4"))
    shutil.copy(path, path.with_name(f"235959-{row.file_id}.mp4"))
    (path.parent.parent / "20300101").mkdir()
    shutil.copy(path, path.parent.parent / "20300101" / path.name)
    (path.parent / ("000000-" + "d" * 32 + ".mp4")).write_bytes(b"something else")
    other = Store(store.data.parent / "other")
    await other.make()
    foreign = other.path(other.rows()[0])
    shutil.copy(foreign, path.parent / foreign.name)
    before = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    _outcome, found = store.check(repair=True)
    assert sorted(kinds(found)) == sorted([Kind.COPY] * 3 + [Kind.UNREADABLE, Kind.FOREIGN])
    assert all(r.done.startswith("nothing is changed") for r in found)
    assert {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()} == before
    assert store.check()[0].status == 1


async def test_files_of_one_run_may_not_cover_the_same_time_and_runs_may(store: Store) -> None:
    first, second = store.rows()[:2]
    assert first.run_id == second.run_id
    store.change(lambda index: index.put(replace(first, end_ns=second.end_ns)))
    found = store.check()[1]
    assert sorted(kinds(found)) == [Kind.OVERLAP, Kind.ROW]
    overlap = next(r.finding for r in found if r.finding.kind is Kind.OVERLAP)
    assert (overlap.start_ns, overlap.end_ns, overlap.path) == (second.start_ns, second.end_ns, second.path)


async def test_what_a_dead_recorder_left_open_is_found_and_closed(store: Store) -> None:
    rows = store.rows()
    last = rows[-1]
    path = store.path(last)
    whole = path.read_bytes()
    path.write_bytes(whole[:-6] + b"torn")
    store.change(lambda index: index.reopen(last.file_id))
    begun = replace(last, file_id="b" * 32, path=last.path.replace(last.file_id, "b" * 32), state=FileState.OPEN)
    store.change(lambda index: index.insert_open(replace(begun, end_ns=begun.start_ns)))
    found = store.check()[1]
    assert sorted(kinds(found)) == [Kind.LEFT_OPEN, Kind.LEFT_OPEN, Kind.OVERLAP]
    outcome = store.check(repair=True)[0]
    assert (outcome.left_open, outcome.found, outcome.mended, outcome.remaining) == (2, 1, 2, 1)
    assert store.check()[0].status == 0
    assert store.rows()[:-1] == rows[:-1]
    assert await store.shown() == store.handed()


async def test_only_what_was_asked_for_is_checked(store: Store) -> None:
    store.path(store.rows(OTHER)[0]).unlink()
    assert store.check(recordings=(CAMERA.recording,))[0].status == 0
    assert store.check(recordings=(OTHER.recording,))[0].status == 1
    assert store.check(volumes=(str(store.root),))[0].status == 1
    with pytest.raises(OperatorError, match="there is no volume elsewhere"):
        store.check(volumes=("elsewhere",))
    with pytest.raises(OperatorError, match="no footage of a recording rec-unknown"):
        store.check(recordings=("rec-unknown",))
    with pytest.raises(OperatorError, match="no data directory"):
        check_footage(store.data / "nowhere", store.settings, Request(), lambda reported: None)


async def test_a_volume_that_is_gone_is_not_taken_for_an_empty_one(store: Store) -> None:
    store.root.rename(store.data / "unmounted")
    outcome, found = store.check(repair=True)
    assert (found, outcome.status) == ([], 2)
    assert "is it mounted?" in outcome.unchecked[0]
    store.root.mkdir()
    assert store.check(repair=True)[0].status == 2
    store.root.rmdir()
    (store.data / "unmounted").rename(store.root)
    assert store.check()[0].status == 0


async def test_the_command_line_reports_for_people_and_for_machines(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "nice", lambda more: more)
    config = store.data.parent / "nvr.toml"
    config.write_text(f'[[storage.volumes]]\nroot = "{store.root}"\nminimum_free = "0"\n')
    row = store.rows()[0]
    store.path(row).unlink()

    def run(*arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main(["check", "--data", str(store.data), "--config", str(config), *arguments])
        return ended.value.code, capsys.readouterr().out

    status, told = run()
    assert status == 1
    assert told.startswith(f"{CAMERA}  missing: {row.path} from 2026-01-01T00:00:00.123Z to ")
    assert told.endswith(" checked: 1 finding\n")
    status, told = run("--json", "--repair")
    lines = [json.loads(line) for line in told.splitlines()]
    assert status == 1
    assert (lines[0]["kind"], lines[0]["file"], lines[0]["done"]) == ("missing", row.file_id, "its row is removed")
    assert lines[0]["from"] == "2026-01-01T00:00:00.123456789Z"
    assert (lines[-1]["kind"], lines[-1]["findings"], lines[-1]["unchecked"]) == ("summary", 1, [])
    assert run()[0] == 0
    store.change(lambda index: index.reopen(store.rows()[-1].file_id))
    status, told = run()
    assert (status, len(told.splitlines())) == (0, 2)
    assert told.startswith("1 file was left open by a recorder that did not end in order: the next start, or")
    assert "1 mended, 0 remembered as damaged, 0 remain" in run("--repair")[1]
    assert run("--volume", "elsewhere")[0] == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_terminal_gets_a_bar_and_nothing_of_it_stays(store: Store) -> None:
    out, told = Terminal(), io.StringIO()
    progress = Progress(out)
    report = Report(told, progress, machine=False)
    report.end(check_footage(store.data, store.settings, Request(), report.found, progress.show))
    progress.clear()
    assert "] " in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")
    assert told.getvalue().count("\n") == 1
