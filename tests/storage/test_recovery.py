"""Crash tests: files cut off or damaged anywhere are adopted with exactly their whole fragments."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.bmff.closing import Closing
from nvr.media.unit import Sample
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.storage.disk import Disk
from nvr.storage.engine import StorageEngine
from nvr.storage.recovery import UNREADABLE, rebuild_index
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.settings import VolumeSettings
from nvr.storage.settling import settle
from nvr.storage.track_file import (
    TrackFileWriter,
    read_closing,
    read_fragment,
    read_head,
    scan,
    track_file_path,
)
from nvr.storage.volume import Volume, VolumeRegistry
from tests.support.footage import CAMERA, START, a_track, video
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk, check_settled, demuxed, read_all, same, settings_in

ROW = TrackFileRow(
    file_id="f" * 32,
    volume_id="v" * 32,
    recording=CAMERA.recording,
    track=CAMERA.track,
    run_id="a" * 32,
    run_place=0,
    path=track_file_path(CAMERA, "f" * 32, START),
    start_ns=START,
    end_ns=START,
    state=FileState.OPEN,
    encoding="H264",
)
SCRIPT = a_track().with_gop(count=4, order=[0, 2, 1, 3, 4]).with_gop(clean=False, damaged=3).with_gop()


class Written:
    """A file as it stood after each write, and where each fragment lies."""

    def __init__(self, root: Path) -> None:
        writer = TrackFileWriter(Disk(), root, ROW, video())
        for fragment in SCRIPT.fragments:
            writer.append(fragment)
        self.whole = writer.path.read_bytes()
        self.entries = list(writer.entries)
        writer.close(None)
        self.closed = writer.path.read_bytes()

    def whole_before(self, size: int) -> int:
        """Number of fragments that lie wholly in the first `size` bytes."""
        return sum(e.offset + e.length <= size for e in self.entries)


@pytest.fixture(scope="module")
def written() -> Iterator[Written]:
    with tempfile.TemporaryDirectory() as root:
        yield Written(Path(root))


def content(path: Path) -> tuple[Closing | None, list[list[tuple[int, bytes, bool]]]]:
    fd = os.open(path, os.O_RDONLY)
    try:
        head, closing = read_head(fd), read_closing(fd)
        assert head is not None
        entries = closing.entries if closing else ()
        return closing, [same(samples(fd, e.offset, e.length)) for e in entries]
    finally:
        os.close(fd)


def samples(fd: int, offset: int, length: int) -> list[Sample]:
    return read_fragment(fd, offset, length, START, 90_000)


EXPECTED = [same(f.samples) for f in SCRIPT.fragments]


def adopt(data: bytes, path: Path) -> int:
    """Writes a file, settles it, checks what came of it; the number of fragments it holds now."""
    path.write_bytes(data)
    settled = settle(FailingDisk(), path, GapReason.DAEMON_STOPPED)
    if settled is None:
        assert not path.exists()
        return 0
    closing, fragments = content(path)
    assert closing is not None
    assert fragments == EXPECTED[: len(fragments)]
    assert settled.figures.size == path.stat().st_size
    assert settled.figures.samples == sum(map(len, fragments))
    if settled.adopted:
        assert closing.end_reason == settled.end_reason == GapReason.DAEMON_STOPPED
    again = settle(FailingDisk(), path, GapReason.STORAGE)
    assert again == replace(settled, adopted=False), "settling twice changes nothing"
    return len(fragments)


def test_a_file_cut_off_at_every_border_keeps_exactly_its_whole_fragments(written: Written, tmp_path: Path) -> None:
    ends = [e.offset + e.length for e in written.entries]
    borders = {0, 1, 8, written.entries[0].offset, *ends, *(e.offset + e.moof_distance for e in written.entries)}
    for size in sorted({b + d for b in borders for d in (-1, 0, 1)}):
        if 0 <= size <= len(written.whole):
            assert adopt(written.whole[:size], tmp_path / "f.mp4") == written.whole_before(size), size


def test_a_tail_cut_off_at_every_byte_is_written_again(written: Written, tmp_path: Path) -> None:
    for size in range(len(written.whole), len(written.closed)):
        path = tmp_path / "f.mp4"
        path.write_bytes(written.closed[:size])
        settled = settle(FailingDisk(), path, GapReason.DAEMON_STOPPED)
        assert settled is not None
        assert settled.adopted
        assert len(content(path)[1]) == len(EXPECTED)


@given(size=st.integers(0, 1 << 16), junk=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_a_torn_write_of_any_size_with_any_bytes_behind_keeps_exactly_the_whole_fragments(
    written: Written, tmp_path: Path, size: int, junk: bytes
) -> None:
    size = min(size, len(written.whole))
    kept = written.whole_before(size)
    if size < written.entries[0].offset:
        junk = b""  # a head that is not ours is another test
    assert adopt(written.whole[:size] + junk, tmp_path / "f.mp4") == kept


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_a_flipped_byte_costs_the_fragment_it_stands_in_and_no_other(
    written: Written, tmp_path: Path, data: st.DataObject
) -> None:
    at = data.draw(st.integers(written.entries[0].offset, len(written.whole) - 1))
    damaged = bytearray(written.whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    hit = next(i for i, e in enumerate(written.entries) if e.offset <= at < e.offset + e.length)
    path = tmp_path / "f.mp4"
    path.write_bytes(damaged)
    settled = settle(FailingDisk(), path, GapReason.DAEMON_STOPPED, verify_all=True)
    assert settled is not None
    closing, fragments = content(path)
    assert fragments == EXPECTED[:hit] + EXPECTED[hit + 1 :]
    assert closing is not None
    if hit + 1 < len(EXPECTED):
        assert closing.entries[hit].damaged, "the hole is marked at what follows it"


def test_a_file_whose_head_is_destroyed_is_refused_and_left_as_it_is(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "f.mp4"
    for at in (5, written.entries[0].offset - 20, written.entries[0].offset - 2):
        damaged = bytearray(written.whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            settle(FailingDisk(), path, GapReason.DAEMON_STOPPED)
        assert path.read_bytes() == damaged


@given(st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_any_bytes_instead_of_a_file_end_in_a_clear_error_or_in_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "f.mp4"
    path.write_bytes(data)
    with suppress(FormatError):
        assert settle(FailingDisk(), path, GapReason.UNKNOWN, keep=True) is None
    assert path.read_bytes() == data


def test_the_walk_finds_what_the_table_lists(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "f.mp4"
    path.write_bytes(written.closed)
    fd = os.open(path, os.O_RDONLY)
    try:
        head, closing = read_head(fd), read_closing(fd)
        assert head is not None
        assert closing is not None
        assert list(closing.entries) == written.entries == list(scan(fd, head.size))
    finally:
        os.close(fd)


def test_a_stock_player_reads_an_adopted_file(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "f.mp4"
    assert adopt(written.whole[:-1], path) == len(EXPECTED) - 1
    assert demuxed(path) == sum(map(len, EXPECTED[:-1]))


async def _crashed(data: Path, index: IndexInMemory) -> None:
    """A copy of the volume and of the rows as a kill -9 leaves them, in `data`, while a daemon was recording."""
    live = data / "live"
    rows = IndexInMemory()
    engine = StorageEngine(settings_in(live), rows)
    await engine.start()
    await engine.settled()
    script = a_track().with_gop(count=20).with_gap().with_gop(count=20)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.flush()
    shutil.copytree(live / "default", data / "default")
    index.rows = dict(rows.rows)
    await engine.stop()


async def test_a_daemon_that_was_killed_finds_all_it_wrote_and_says_when_it_was_stopped(tmp_path: Path) -> None:
    index = IndexInMemory()
    await _crashed(tmp_path, index)
    open_row = next(r for r in index.rows.values() if r.state is FileState.OPEN)
    with (tmp_path / "default" / open_row.path).open("ab") as file:
        file.write(b"\0\0\x10\0uuid the write that the kill cut short")
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    await engine.settled()
    script = a_track().with_gop(count=20).with_gap().with_gop(count=20)
    assert [same(s) for _, s in read_all(engine.footage(CAMERA))] == [same(f.samples) for f in script.fragments]
    assert [r.end_reason for r in engine.timeline(CAMERA).runs] == [GapReason.SOURCE_LOST, GapReason.DAEMON_STOPPED]
    await engine.stop()
    check_settled(tmp_path / "default", index, [CAMERA])


@pytest.mark.parametrize("midnight", [False, True])
async def test_rows_that_a_power_cut_took_come_back_with_the_next_start(midnight: bool, tmp_path: Path) -> None:
    index = IndexInMemory()
    await _crashed(tmp_path, index)
    newest = index.newest(CAMERA)
    assert newest is not None
    index.forget([newest.file_id])
    if midnight:
        (tmp_path / "default" / newest.path).parent.with_name("29990101").mkdir()
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    await engine.settled()
    assert len(list(engine.footage(CAMERA).fragments(0))) == 40
    await engine.stop()
    check_settled(tmp_path / "default", index, [CAMERA])


async def test_rows_whose_file_was_never_made_and_empty_files_are_gone_after_a_start(tmp_path: Path) -> None:
    index = IndexInMemory()
    await _crashed(tmp_path, index)
    volume_id = next(iter(index.rows.values())).volume_id
    for name in ("0" * 32, "1" * 32):
        path = track_file_path(CAMERA, name, START + 500 * NS)
        index.insert_open(replace(ROW, file_id=name, volume_id=volume_id, path=path, start_ns=START + 500 * NS))
    (tmp_path / "default" / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "default" / path).write_bytes(b"\0\0\0")
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    await engine.settled()
    assert len(list(engine.footage(CAMERA).fragments(0))) == 40
    await engine.stop()
    check_settled(tmp_path / "default", index, [CAMERA])


async def test_an_open_file_with_a_destroyed_head_gets_a_new_one_and_its_footage_is_shown(tmp_path: Path) -> None:
    index = IndexInMemory()
    await _crashed(tmp_path, index)
    open_row = next(r for r in index.rows.values() if r.state is FileState.OPEN)
    path = tmp_path / "default" / open_row.path
    whole = path.read_bytes()
    data = bytearray(whole)
    data[60:90] = bytes(30)
    data[5] ^= 1
    path.write_bytes(data)
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    await engine.settled()
    assert len(list(engine.footage(CAMERA).fragments(0))) == 40
    assert path.read_bytes().startswith(whole[:1000])
    await engine.stop()
    path.with_name(f"{path.name}.head.cut").unlink()  # what stood there
    check_settled(tmp_path / "default", index, [CAMERA])


@pytest.mark.parametrize("place", [5, 29])  # what ftyp says, and the size of moov: then the head seems to have no end
async def test_an_open_file_for_which_no_head_can_be_made_is_set_aside_and_not_thrown_away(
    place: int, tmp_path: Path
) -> None:
    index = IndexInMemory()
    await _crashed(tmp_path, index)
    open_row = next(r for r in index.rows.values() if r.state is FileState.OPEN)
    index.rows[open_row.file_id] = replace(open_row, encoding="H265")
    path = tmp_path / "default" / open_row.path
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    await engine.settled()
    assert index.file(open_row.file_id) is None
    assert path.with_name(path.name + UNREADABLE).read_bytes() == data
    await engine.stop()


async def test_the_index_made_again_from_the_files_is_the_index(tmp_path: Path) -> None:
    index = IndexInMemory()
    engine = StorageEngine(settings_in(tmp_path), index)
    await engine.start()
    await engine.settled()
    script = a_track().with_gop(count=30).with_gap(5, GapReason.PACKET_LOSS).with_gop(lost_packets=2, count=30)
    script.feed(engine.recorder(CAMERA, TrackType.VIDEO))
    await engine.stop()
    volume = _opened(tmp_path)
    rebuilt, seen = IndexInMemory(), []
    count = rebuild_index([volume], rebuilt, lambda number, path: seen.append(number))
    assert rebuilt.rows == index.rows
    assert count == len(index.rows)
    assert seen == list(range(1, len(index.rows) + 1))
    copied = next((tmp_path / "default").rglob("*.mp4"))
    shutil.copy(copied, copied.with_name("000000-copy.mp4"))
    (copied.parent / "000001-other.mp4").write_bytes(b"something else")
    assert rebuild_index([volume], rebuilt, lambda number, path: None) == len(index.rows)
    assert rebuilt.rows == index.rows
    volume.close()


async def test_a_rebuild_adopts_what_nobody_closed_and_deletes_what_was_to_be_deleted(tmp_path: Path) -> None:
    index = IndexInMemory()
    await _crashed(tmp_path, index)
    ordered = sorted(index.rows.values(), key=lambda r: r.start_ns)
    index.mark_deleting([ordered[0].file_id])
    volume = _opened(tmp_path)
    assert rebuild_index([volume], index, lambda number, path: None) == len(ordered) - 1
    assert {r.state for r in index.rows.values()} == {FileState.CLOSED}
    assert index.rows[ordered[-1].file_id].end_reason is GapReason.DAEMON_STOPPED
    volume.close()
    check_settled(tmp_path / "default", index, [CAMERA])


def test_a_closed_file_is_only_read(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "f.mp4"
    path.write_bytes(written.closed)
    disk = FailingDisk()
    disk.fail("reopen", times=100)
    settled = settle(disk, path, GapReason.DAEMON_STOPPED)
    assert settled is not None
    assert not settled.adopted
    assert disk.counts == {}


def _opened(data: Path) -> Volume:
    disk = Disk()
    volume = Volume(VolumeSettings(data / "default", 0), VolumeRegistry(data / "volumes.json", disk), disk)
    volume.open(START)
    return volume
