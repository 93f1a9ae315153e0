from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from nvr.model.errors import OperatorError, StorageError, VolumeFull
from nvr.storage.placement import MostFree
from nvr.storage.settings import StorageSettings, VolumeSettings
from nvr.storage.volume import Volume, VolumeRegistry, VolumeState, WrongVolume
from tests.support.footage import CAMERA, START
from tests.support.volumes import FailingDisk


class Place:
    """A data directory with volumes that are closed at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disk = FailingDisk()
        self.opened: list[Volume] = []

    def volume(self, name: str = "default", minimum_free: int = 0) -> Volume:
        registry = VolumeRegistry(self.root / "volumes.json", self.disk)
        volume = Volume(VolumeSettings(self.root / name, minimum_free), registry, self.disk)
        self.opened.append(volume)
        return volume


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for volume in place.opened:
        volume.close()


def test_an_empty_place_becomes_a_volume_with_an_identity_that_stays(place: Place) -> None:
    volume = place.volume()
    volume.open(START)
    assert volume.state is VolumeState.ONLINE
    fields = json.loads((place.root / "default" / "volume.json").read_text())
    assert fields == {"id": volume.id, "created": "2026-01-01T00:00:00Z", "format": 1}
    volume.close()
    again = place.volume()
    again.open(START + 1)
    assert again.id == volume.id
    assert [p.name for p in (place.root / "default").iterdir()] == ["volume.json"]


def test_a_directory_with_other_things_is_not_taken(place: Place) -> None:
    (place.root / "default").mkdir()
    (place.root / "default" / "holiday.jpg").write_bytes(b"x")
    volume = place.volume()
    with pytest.raises(WrongVolume, match="a new volume needs an empty place"):
        volume.open(START)
    assert volume.state is VolumeState.MISSING


def test_another_volume_in_the_place_of_a_known_one_is_refused(place: Place) -> None:
    for name in ("default", "other"):
        volume = place.volume(name)
        volume.open(START)
        volume.close()
    (place.root / "default").rename(place.root / "old")
    (place.root / "other").rename(place.root / "default")
    volume = place.volume()
    with pytest.raises(WrongVolume, match="holds volume"):
        volume.open(START)
    assert volume.state is VolumeState.MISSING


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 5, "format": 1}', '{"id": "x", "format": 2}'])
def test_a_damaged_identity_file_is_a_failure_with_its_path(place: Place, text: str) -> None:
    (place.root / "default").mkdir()
    (place.root / "default" / "volume.json").write_text(text)
    volume = place.volume()
    with pytest.raises(StorageError, match=r"volume\.json"):
        volume.open(START)
    assert volume.state is VolumeState.FAILED


def test_a_volume_is_locked_against_a_second_opening(place: Place) -> None:
    place.volume().open(START)
    with pytest.raises(OperatorError, match="in use by another process: stop that one first"):
        place.volume().open(START)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (errno.ENOSPC, VolumeState.FULL),
        (errno.EDQUOT, VolumeState.FULL),
        (errno.EROFS, VolumeState.READ_ONLY),
        (errno.EACCES, VolumeState.READ_ONLY),
        (errno.EIO, VolumeState.FAILED),
    ],
)
def test_the_state_says_what_hinders_writing(place: Place, code: int, state: VolumeState) -> None:
    volume = place.volume()
    volume.open(START)
    place.disk.fail("open", code=code)
    with pytest.raises(OSError, match=r"\w"):
        volume.probe(START)
    assert volume.state is state
    assert volume.status.why
    place.disk.mend()
    volume.probe(START)
    assert (volume.state, volume.why) == (VolumeState.ONLINE, "")


def test_a_file_system_that_was_mounted_read_only_is_seen_without_a_write(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = place.volume()
    volume.open(START)
    real = os.statvfs(place.root)
    flags = {name: getattr(real, name) for name in ("f_bavail", "f_frsize", "f_blocks", "f_flag")}
    monkeypatch.setattr(
        "nvr.storage.disk.os.statvfs", lambda path: SimpleNamespace(**{**flags, "f_flag": real.f_flag | os.ST_RDONLY})
    )
    with pytest.raises(OSError, match="Read-only") as seen:
        volume.look()
    volume.fail(seen.value)
    assert volume.state is VolumeState.READ_ONLY


def test_a_full_volume_comes_back_only_with_space_to_spare(place: Place) -> None:
    volume = place.volume(minimum_free=1 << 30)
    place.disk.free = 2 << 30
    volume.open(START)
    place.disk.free = 1 << 30
    volume.check_space(0)
    with pytest.raises(VolumeFull) as full:
        volume.check_space(1)
    volume.fail(full.value)
    place.disk.free = (1 << 30) + 1
    with pytest.raises(VolumeFull):
        volume.probe(START)
    assert volume.state is VolumeState.FULL
    place.disk.free = (1 << 30) + (64 << 20)
    volume.probe(START)
    assert volume.state is VolumeState.ONLINE


@pytest.mark.parametrize("text", ["", "[]", '{"volumes": 5}'])
def test_a_damaged_registry_names_the_remedy(place: Place, text: str) -> None:
    (place.root / "volumes.json").write_text(text)
    with pytest.raises(OperatorError, match="remove it to accept the volumes as they are now"):
        place.volume()


def test_an_identity_file_that_cannot_be_written_leaves_no_half_of_it(place: Place) -> None:
    volume = place.volume()
    place.disk.fail("write", short=True)
    with pytest.raises(OSError, match="Input/output"):
        volume.open(START)
    assert list((place.root / "default").iterdir()) == []
    volume.open(START)
    assert volume.state is VolumeState.ONLINE


def test_a_run_stays_on_its_volume_and_a_new_one_goes_where_most_is_free(place: Place) -> None:
    volumes = [place.volume("one"), place.volume("two", minimum_free=100)]
    for free, volume in ((1000, volumes[0]), (1050, volumes[1])):
        place.disk.free = free
        volume.open(START)
    policy = MostFree()
    assert policy.place(CAMERA, volumes, None) is volumes[0]
    assert policy.place(CAMERA, volumes, volumes[1]) is volumes[1]
    volumes[0].fail(OSError(errno.EIO, "broken"))
    assert policy.place(CAMERA, volumes, volumes[0]) is volumes[1]
    volumes[1].fail(OSError(errno.EIO, "broken"))
    assert policy.place(CAMERA, volumes, None) is None


@pytest.mark.parametrize("field", ["rotation_ns", "queue_bytes", "fsync_interval_ns", "retry_ns", "retry_limit_ns"])
def test_settings_that_make_no_sense_are_refused(field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=field):
        StorageSettings((VolumeSettings(tmp_path),), tmp_path / "volumes.json", **{field: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice"):
        StorageSettings((VolumeSettings(tmp_path), VolumeSettings(tmp_path)), tmp_path / "volumes.json")
    nested = VolumeSettings(tmp_path / "a" / "b"), VolumeSettings(tmp_path / "a")
    with pytest.raises(ValueError, match=r"a/b lies inside volume .*/a$"):
        StorageSettings(nested, tmp_path / "volumes.json")
    with pytest.raises(ValueError, match="no volume"):
        StorageSettings((), tmp_path / "volumes.json")


def test_a_small_volume_keeps_an_eighth_of_itself_in_reserve_and_says_so(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.disk, "total_bytes", lambda path: 40 << 20)
    place.disk.free = 39 << 20
    registry = VolumeRegistry(place.root / "volumes.json", place.disk)
    volume = Volume(VolumeSettings(place.root / "small", 1 << 20), registry, place.disk, reserve=256 << 20)
    place.opened.append(volume)
    assert volume.reserve == 256 << 20
    volume.open(START)
    assert (volume.reserve, volume.tight) == (5 << 20, False)
    volume.open(START)
    assert [m for m in caplog.messages if "in reserve" in m] == [
        f"volume {volume.root} holds 41943040 bytes in all: an eighth of them, 5242880, is kept in reserve instead of "
        "268435456"
    ]
