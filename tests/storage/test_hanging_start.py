"""A start with a volume that does not answer: nobody waits for it, and it joins when it is open."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import cast

import pytest

from nvr.media.unit import CodecConfiguration
from nvr.model.errors import StorageError
from nvr.model.time import NS
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.footage import FootageReader
from nvr.storage.newest import NewestConfigurations
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.volume import Volume, VolumeState
from tests.support.footage import CAMERA, video
from tests.support.footage_index import IndexInMemory
from tests.support.hanging_volumes import Pair, threads, two
from tests.support.volumes import Hang, settings_in, until


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
