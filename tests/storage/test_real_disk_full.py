"""A file system that is really full: a tmpfs of a few MiB, where mounting is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvr.storage.disk import Disk
from nvr.storage.retention import Rule
from nvr.storage.volume import VolumeState
from tests.storage.test_retention import OTHER, Store
from tests.support.footage import CAMERA
from tests.support.volumes import check_settled, until


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose volume is a file system of 4 MiB."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    root = tmp_path / "default"
    root.mkdir()
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", root], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr!r}")
    yield tmp_path
    subprocess.run([umount, "-l", root], check=True)


async def test_the_oldest_footage_makes_room_on_a_small_file_system_without_a_gap(small: Path) -> None:
    store = Store(small, reserve_bytes=512 << 10, minimum_free=256 << 10)
    store.disk = Disk()  # type: ignore[assignment]  # the real one
    await store.start()
    for _ in range(45):
        await store.record(1, CAMERA, OTHER, size=6000)
        await store.sweep()
    status = store.engine.volumes()[0]
    assert (status.state, status.failures) == (VolumeState.ONLINE, 0)
    assert [len(store.engine.timeline(key).runs) for key in (CAMERA, OTHER)] == [1, 1]
    assert store.engine.retention.deleted[Rule.SPACE].bytes > 2 << 20
    store.check()
    await store.engine.stop()
    store.check()
    check_settled(small / "default", store.index, store.scripts)


async def test_recording_resumes_by_itself_on_a_file_system_that_others_have_filled(small: Path) -> None:
    store = Store(small, reserve_bytes=256 << 10)
    store.disk = Disk()  # type: ignore[assignment]
    await store.start()
    await store.record(15, CAMERA, OTHER, size=6000)
    fill(small / "default" / "foreign")
    await store.record(1, CAMERA, OTHER, size=6000)
    assert store.engine.volumes()[0].state is VolumeState.FULL
    store.check()
    await store.sweep()
    await until(lambda: store.engine.volumes()[0].state is VolumeState.ONLINE)
    await store.engine.settled()
    await store.record(1, CAMERA, OTHER, size=6000)
    for key in (CAMERA, OTHER):
        assert store.told_refs[key][-1].start_ns == store.handed[key][-1].start_ns
    store.check()
    await store.engine.stop()
    store.check()
    check_settled(small / "default", store.index, store.scripts)


def fill(path: Path) -> None:
    """Takes all that is free."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            _write_for_ever(fd)
    finally:
        os.close(fd)


def _write_for_ever(fd: int) -> None:
    while True:
        os.write(fd, bytes(4096))
