"""Reading when files are damaged, gone, or on a volume that is missing: the rest is read, and nothing is hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nvr.media.bmff import windows
from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.storage import holes
from nvr.storage.database import Statement
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import FootageDamaged, TrackFileRow
from tests.support.footage import CAMERA, TrackScript, a_track
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import same, settings_in


class Recorded:
    """A track in several closed files."""

    def __init__(self, data: Path) -> None:
        self.index = IndexInMemory()
        self.root = data / "default"
        self.engine = StorageEngine(settings_in(data), self.index)
        self.script: TrackScript = a_track().with_gop(count=50)

    async def record(self) -> None:
        await self.engine.start()
        recorder = self.engine.recorder(CAMERA, TrackType.VIDEO)
        self.script.feed(recorder)
        await self.engine.stop()
        assert len(self.rows) >= 3

    @property
    def rows(self) -> list[TrackFileRow]:
        return self.index.files(CAMERA, 0)

    def path(self, number: int) -> Path:
        return self.root / self.rows[number].path

    def outside(self, number: int) -> list[int]:
        """Starts of the fragments that are not in this file."""
        row = self.rows[number]
        return [f.start_ns for f in self.script.fragments if not row.start_ns <= f.start_ns < row.end_ns]

    def starts(self) -> list[int]:
        return [ref.start_ns for ref in self.engine.footage(CAMERA).fragments(0)]


@pytest.fixture
async def recorded(tmp_path: Path) -> Recorded:
    recorded = Recorded(tmp_path)
    await recorded.record()
    return recorded


def test_a_damaged_fragment_is_told_with_file_and_offset_and_the_others_are_read(recorded: Recorded) -> None:
    footage = recorded.engine.footage(CAMERA)
    refs = list(footage.fragments(0))
    bad = refs[3]
    path = recorded.root / bad.path
    data = bytearray(path.read_bytes())
    data[bad.offset + bad.length - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FootageDamaged, match=rf"{path.name}, fragment at {bad.offset}: .* checksum"):
        footage.read(bad)
    for ref, fragment in zip(refs, recorded.script.fragments, strict=True):
        if ref is not bad:
            assert same(footage.read(ref)) == same(fragment.samples)


def test_the_file_of_an_instant_is_found_also_while_its_run_gets_another_name(recorded: Recorded) -> None:
    footage = recorded.engine.footage(CAMERA)
    for row in recorded.rows:
        for at_ns in (row.start_ns, row.end_ns - 1):
            for run_id in (row.run_id, "the name that it had before"):
                section = footage.section(at_ns, run_id)
                assert section is not None
                assert (section.file_id, section.samples) == (row.file_id, row.samples)
    for outside_ns in (recorded.rows[0].start_ns - 1, recorded.rows[-1].end_ns):
        assert footage.section(outside_ns, recorded.rows[0].run_id) is None


def test_a_file_that_is_gone_is_told_and_passed_over(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    ref = next(iter(recorded.engine.footage(CAMERA).fragments(recorded.rows[1].start_ns)))
    recorded.path(1).unlink()
    assert recorded.starts() == recorded.outside(1)
    assert "is in the index and not on volume" in caplog.text
    with pytest.raises(StorageError, match="is in the index and not on volume"):
        recorded.engine.footage(CAMERA).read(ref)


def test_a_file_whose_table_is_damaged_is_walked(recorded: Recorded) -> None:
    path = recorded.path(1)
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    for cut in (0, 10, 200):
        path.write_bytes(data[: len(data) - cut])
        assert recorded.starts() == [f.start_ns for f in recorded.script.fragments]


def test_a_file_that_is_none_is_told_and_passed_over(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    recorded.path(1).write_bytes(b"no track file at all, but long enough to look like one")
    recorded.engine._reader.head.cache_clear()
    assert recorded.starts() == recorded.outside(1)
    assert "is passed over" in caplog.text


async def test_footage_on_a_missing_volume_is_passed_over_and_reading_it_says_why(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    ref = next(iter(recorded.engine.footage(CAMERA).fragments(0)))
    settings = settings_in(recorded.root.parent, volumes=("another",))
    engine = StorageEngine(settings, recorded.index)
    await engine.start()
    assert list(engine.footage(CAMERA).fragments(0)) == []
    assert "which is missing" in caplog.text
    with pytest.raises(StorageError, match="which is missing"):
        engine.footage(CAMERA).read(ref)
    await engine.stop()


def test_fragments_are_walked_backwards_over_files(recorded: Recorded) -> None:
    footage = recorded.engine.footage(CAMERA)
    forwards = list(footage.fragments(0))
    assert list(footage.fragments_before(1 << 62)) == forwards[::-1]
    assert list(footage.fragments_before(forwards[7].start_ns)) == forwards[6::-1]
    assert list(footage.fragments_before(forwards[7].start_ns + 1, run_id=forwards[7].run_id)) == forwards[7::-1]
    assert list(footage.fragments_before(1 << 62, run_id="another")) == []
    assert list(footage.fragments(forwards[3].start_ns, run_id="another")) == []


def test_what_follows_a_fragment_is_found_from_it_also_when_its_file_is_gone(recorded: Recorded) -> None:
    footage = recorded.engine.footage(CAMERA)
    refs = list(footage.fragments(0))
    for i, ref in enumerate(refs):
        assert list(footage.fragments_after(ref)) == refs[i + 1 :]
    recorded.path(0).unlink()
    recorded.index.forget([refs[0].file_id])
    kept = [r for r in refs if r.file_id != refs[0].file_id]
    assert list(footage.fragments_after(refs[0])) == kept


async def test_growing_files_are_walked_in_both_directions(tmp_path: Path) -> None:
    engine = StorageEngine(settings_in(tmp_path), IndexInMemory())
    await engine.start()
    recorder = engine.recorder(CAMERA, TrackType.VIDEO)
    script = a_track().with_gop(count=8)
    footage = engine.footage(CAMERA)
    seen = None
    for i, fragment in enumerate(script.fragments):
        assert recorder.append(fragment)
        await engine.flush()
        refs = list(footage.fragments(0))
        assert len(refs) == i + 1
        assert list(footage.fragments_before(1 << 62)) == refs[::-1]
        if seen is not None:
            assert list(footage.fragments_after(seen)) == refs[-1:]
        seen = refs[-1]
    await engine.stop()


def test_a_fragment_that_is_open_gives_its_samples_and_checks_them_again(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one window of it is held: what has gone or changed since it was opened is noticed when its turn comes."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1)
    footage = recorded.engine.footage(CAMERA)
    for ref, stored in zip(footage.fragments(0), recorded.script.fragments, strict=True):
        fragment = footage.open(ref)
        assert fragment is not None
        for again in range(2):
            found = [fragment.data(i) for i in range(len(fragment.places))]
            assert found == [s.data for s in stored.samples], again
            fragment.forget()
        held = footage.open(ref)
        assert held is not None
        held.hold()
        assert [held.data(i) for i in range(len(held.places))] == found
        assert [(p.utc_ns, p.clean_point) for p in fragment.places] == [
            (s.utc_ns, s.clean_point) for s in footage.read(ref)
        ]
    path = recorded.root / ref.path
    data = bytearray(path.read_bytes())
    data[ref.offset + ref.length - 1] ^= 1
    path.write_bytes(data)
    assert fragment.data(0) == stored.samples[0].data
    with pytest.raises(FootageDamaged, match=rf"{path.name}, fragment at {ref.offset}: samples .* any more"):
        fragment.data(len(fragment.places) - 1)
    with pytest.raises(FootageDamaged, match="does not match its checksum"):
        footage.open(ref)
    recorded.index.mark_deleting([ref.file_id])
    path.unlink()
    assert fragment.data(1) is None
    assert footage.open(ref) is None


class Rows:
    """Counts what the index hands out."""

    def __init__(self, index: SqlFootageIndex) -> None:
        self.asked = self.given = 0
        found_by = index._found

        def counted(query: Statement, **values: object) -> list[TrackFileRow]:
            found = found_by(query, **values)
            self.asked += 1
            self.given += len(found)
            return found

        index._found = counted  # type: ignore[method-assign]

    def spent(self) -> tuple[int, int]:
        spent = self.asked, self.given
        self.asked = self.given = 0
        return spent


async def test_reading_a_run_costs_the_same_however_many_runs_there_are(tmp_path: Path) -> None:
    """Recording by events makes thousands: who reads one of them asks for its rows, and not for those behind it."""
    index = SqlFootageIndex.open(tmp_path / "index.db")
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    script = a_track().with_gop(count=3)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    engine.recorder(CAMERA, TrackType.VIDEO).end_run(GapReason.NO_EVENT)
    await engine.flush()
    (row,) = index.files(CAMERA, 0)
    others = [
        replace(row, file_id=f"{n:032}", run_id=f"{n:032}", start_ns=row.start_ns + n * NS, end_ns=row.end_ns + n * NS)
        for n in range(-400, 400)
        if n
    ]
    index.replace_volume(row.volume_id, [row, *others])
    footage, rows = engine.footage(CAMERA), Rows(index)
    forwards = list(footage.fragments(row.start_ns, run_id=row.run_id))
    assert [ref.start_ns for ref in forwards] == [f.start_ns for f in script.fragments]
    assert rows.spent() == (1, 1)
    assert list(footage.fragments_before(row.end_ns, run_id=row.run_id)) == forwards[::-1]
    assert rows.spent() == (1, 1)
    assert list(footage.fragments_after(forwards[0])) == forwards[1:]
    assert rows.spent() == (2, 1), "the file itself, and that none follows it"
    await engine.stop()
    index.shut()


@pytest.mark.parametrize("way", ["forward", "on from a fragment", "backward"])
async def test_a_walk_that_is_under_way_when_its_run_is_split_goes_on(way: str, tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.engine = StorageEngine(settings_in(tmp_path, rotation_ns=NS), recorded.index)
    recorded.script = a_track().with_gop(count=100)
    await recorded.record()
    footage, rows = recorded.engine.footage(CAMERA), recorded.index.files(CAMERA, 0, limit=100)
    assert len(rows) > 36
    run_id, lost = rows[0].run_id, rows[-2]
    match way:
        case "forward":
            refs = footage.fragments(0, run_id=run_id)
        case "backward":
            refs = footage.fragments_before(lost.start_ns, run_id=run_id)
        case _:
            refs = footage.fragments_after(next(footage.fragments(0)))
    begun = [next(refs).start_ns for _ in range(5)]
    (recorded.root / lost.path).unlink()
    assert len(holes.forget_lost(recorded.index, lost)) == 2
    found = begun + [ref.start_ns for ref in refs]
    left = [f.start_ns for f in recorded.script.fragments if not lost.start_ns <= f.start_ns < lost.end_ns]
    expected = {
        "forward": left,
        "on from a fragment": left[1:],
        "backward": [start for start in reversed(left) if start < lost.start_ns],
    }
    assert found == expected[way]
    first = next(footage.fragments(0))
    assert first.run_id != run_id
    if way == "on from a fragment":  # who knows it by the id that it had
        assert [r.start_ns for r in footage.fragments_after(replace(first, run_id=run_id))] == left[1:]
        ends = rows[-3].end_ns
        assert [r.start_ns for r in footage.fragments_after(first)] == [s for s in left[1:] if s < ends]
