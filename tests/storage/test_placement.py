"""Where a file goes: pools, room, dedicated volumes; and what becomes of it when volumes fail, leave and return."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.placement import MostFree
from nvr.storage.settings import RecordingSettings, StorageSettings, VolumeSettings
from nvr.storage.volume import VolumeState
from tests.storage.test_retention import OTHER, SOUND, Store
from tests.support.footage import CAMERA
from tests.support.volumes import FailingDisk, until

PINNED = TrackKey(RecordingToken("rec-pinned"), TrackToken("VIDEO001"))
FREE = TrackKey(RecordingToken("rec-free"), TrackToken("VIDEO001"))


@dataclass(eq=False)
class Shelf:
    """A volume as far as placement sees it."""

    name: str
    room: int
    state: VolumeState = VolumeState.ONLINE
    tight: bool = False
    dedicated: bool = False
    hangs: bool = False
    full_queue: bool = False

    @property
    def takes_footage(self) -> bool:
        return self.state is VolumeState.ONLINE and not self.hangs and not self.full_queue

    def queue_refuses(self) -> bool:
        return self.full_queue

    @property
    def root(self) -> Path:
        return Path("/") / self.name


@st.composite
def shelves(draw: st.DrawFn) -> list[Shelf]:
    states = st.sampled_from([VolumeState.ONLINE, VolumeState.ONLINE, VolumeState.FULL, VolumeState.MISSING])
    rarely = st.sampled_from([False, False, True])
    return [
        Shelf(n, draw(st.integers(0, 9)), draw(states), *(draw(s) for s in (*[st.booleans()] * 2, rarely, rarely)))
        for n in "abc"
    ]


@given(shelves(), st.sampled_from([None, "a", "b", "c"]), st.booleans())
def test_a_file_goes_to_the_first_volume_in_the_order_of_preference(
    volumes: list[Shelf], on: str | None, pinned: bool
) -> None:
    policy = MostFree([RecordingSettings(PINNED.recording, volumes=(Path("/a"), Path("/b")))])
    current = next((v for v in volumes if v.name == on), None)
    chosen = policy.place(PINNED if pinned else FREE, volumes, current)  # type: ignore[arg-type]
    pool = {"a", "b"} if pinned else {v.name for v in volumes if not v.dedicated} or {"a", "b", "c"}

    def preference(v: Shelf) -> tuple[bool, ...]:
        return (
            not (v.name in pool and not v.tight),
            not (not v.dedicated and not v.tight),
            v.name not in pool,
            v.dedicated,
        )

    online = [v for v in volumes if v.takes_footage]
    if not online:
        queues = [v for v in volumes if v.state is VolumeState.ONLINE]
        assert (chosen is None) == (not queues)
        assert chosen is None or not chosen.queue_refuses() or all(v.full_queue for v in queues)
        assert current not in queues or current.full_queue or chosen is current or current.tight
        return
    best = min(preference(v) for v in online)
    equals = [v for v in online if preference(v)[0] == best[0]] if not best[0] else None
    assert chosen in online
    if equals is not None:  # somewhere in the pool there is room
        assert chosen in equals
        assert chosen is current if current in equals else chosen.room == max(v.room for v in equals)
    elif not best[1]:
        assert not chosen.tight
        assert not chosen.dedicated
    elif any(v.name in pool for v in online):
        assert chosen.name in pool


def test_of_tight_volumes_a_run_leaves_one_for_another_with_much_more_room() -> None:
    def place(here: int, there: int) -> str:
        volumes = [Shelf("a", here, tight=True), Shelf("b", there, tight=True)]
        chosen = MostFree().place(FREE, volumes, volumes[0])  # type: ignore[arg-type]
        assert chosen is not None
        return chosen.root.name

    assert [place(4, 8), place(4, 9), place(0, 1), place(-3, -2)] == ["a", "b", "b", "a"]


def test_settings_of_recordings_are_checked(tmp_path: Path) -> None:
    def settings(*recordings: RecordingSettings, **others: Any) -> StorageSettings:
        return StorageSettings((VolumeSettings(tmp_path),), tmp_path / "v.json", recordings=recordings, **others)

    with pytest.raises(ValueError, match="no configured volume"):
        settings(RecordingSettings("rec-1", volumes=(tmp_path / "else",)))
    with pytest.raises(ValueError, match="two tables"):
        settings(RecordingSettings("rec-1"), RecordingSettings("rec-1"))
    with pytest.raises(ValueError, match="twice"):
        RecordingSettings("rec-1", volumes=(tmp_path, tmp_path))
    with pytest.raises(ValueError, match="below 0"):
        RecordingSettings("rec-1", quota_bytes=-1)
    with pytest.raises(ValueError, match="below 0"):
        settings(reserve_bytes=-1)
    with pytest.raises(ValueError, match="below 0"):
        StorageSettings((VolumeSettings(tmp_path, quota_bytes=-1),), tmp_path / "v.json")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Two volumes; the recording of CAMERA is recorded to the first, the others anywhere."""
    store = Store(
        tmp_path,
        volumes=("one", "two"),
        recordings=(RecordingSettings(CAMERA.recording, volumes=(tmp_path / "one",)),),
        retry_ns=1_000_000,
    )
    await store.start()
    yield store
    await store.engine.stop()


def places(store: Store, key: TrackKey = CAMERA) -> list[str]:
    """The volumes of the files of a track, in their order, each once in a row."""
    names = {v.id: v.root.name for v in store.engine.volumes()}
    found = [names[row.volume_id] for row in store.index.files(key, 0, limit=1000)]
    return [name for i, name in enumerate(found) if i == 0 or name != found[i - 1]]


async def test_a_recording_goes_to_its_volumes_elsewhere_when_they_fail_and_back_without_a_gap(store: Store) -> None:
    await store.record(3, CAMERA, OTHER)
    assert places(store) == ["one"]
    (store.data / "one").rename(store.data / "unplugged")
    store.disk.fail("write")  # whatever is written first finds it out
    await store.record(1)
    await until(lambda: store.engine.volumes()[0].state is VolumeState.MISSING)
    await store.record(3, CAMERA, OTHER)
    assert places(store) == ["one", "two"]
    assert store.told_refs[CAMERA][-1].start_ns == store.handed[CAMERA][-1].start_ns, "recorded on"
    store.disk.mend()
    (store.data / "unplugged").rename(store.data / "one")
    await until(lambda: store.engine.volumes()[0].state is VolumeState.ONLINE)
    await store.engine.settled()
    await store.record(3, CAMERA, OTHER)
    assert places(store) == ["one", "two", "one"]
    runs = store.engine.timeline(CAMERA).runs
    assert [run.end_reason for run in runs] == [GapReason.STORAGE, None], "the way back makes no gap"
    assert [s for s in store.told.states if s is not VolumeState.ONLINE][-1] is VolumeState.MISSING
    assert store.told.states[-1] is VolumeState.ONLINE
    assert store.engine.volumes()[0].failures == 1
    store.check()


class TightDisk(FailingDisk):
    """The file systems of the volumes have as much free as said."""

    def __init__(self) -> None:
        super().__init__()
        self.free_at: dict[str, int] = {}

    def free_bytes(self, path: Path) -> int:
        return self.free_at[path.name]


async def test_a_run_leaves_a_tight_volume_at_a_clean_point_and_nothing_is_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path, volumes=("one", "two"), reserve_bytes=10_000, rotation_ns=3600 * NS)
    store.disk = disk = TightDisk()
    disk.free_at = {"one": 50_000, "two": 40_000}
    await store.start()
    await store.record(2, CAMERA, SOUND)
    disk.free_at["one"] = 9_000
    for clean in (True, False, False):
        script = store.track(SOUND).with_gop(25, clean=clean)
        store.handed[SOUND].append(script.fragments[-1])
        store.engine.recorder(SOUND, TrackType.AUDIO).append(script.fragments[-1])
        await store.engine.flush()
    assert places(store, SOUND) == ["one", "two"], "sound has no clean points to wait for"
    await store.record(4)
    await store.sweep()
    assert places(store) == ["one", "two"]
    assert [run.end_reason for run in store.engine.timeline(CAMERA).runs] == [None]
    assert store.told.deleted == []
    disk.free_at["two"] = 9_000
    await store.record(2)
    await store.sweep()
    gone = [key for key, _, _ in store.told.deleted]
    assert gone in ([CAMERA], [SOUND]), "no volume has room: the oldest goes, and both have begun at once"
    assert places(store, gone[0]) == ["two"]
    store.check()
    await store.engine.stop()


@pytest.mark.parametrize("by", ["time", "a new file"])
async def test_an_unmounted_volume_is_found_out_without_an_error_of_a_write(by: str, tmp_path: Path) -> None:
    clock = [0]
    rotation_ns = 3600 * NS if by == "time" else NS
    store = Store(tmp_path, volumes=("one", "two"), retry_ns=1_000_000, rotation_ns=rotation_ns)
    store.now = lambda: clock[0]
    await store.start()
    await store.record(2)
    used = places(store)[0]
    (tmp_path / used).rename(tmp_path / "unmounted")  # open files go on as if nothing had happened
    (tmp_path / used).mkdir()
    (store.data / used / "lost+found").mkdir()
    await store.record(1)
    if by == "time":
        assert places(store) == [used]
        clock[0] += 6 * NS
    else:
        await store.record(1)
    await store.record(3)
    state = next(v for v in store.engine.volumes() if v.root.name == used)
    assert state.state is VolumeState.MISSING
    assert "is it mounted?" in state.why or "unmounted" in state.why
    assert len(set(places(store))) == 2
    assert [p.name for p in (tmp_path / used).rglob("*")] == ["lost+found"], "nothing is written below the mount point"
    shutil.rmtree(tmp_path / used)
    (tmp_path / "unmounted").rename(tmp_path / used)
    clock[0] += 10 * NS
    await store.engine.flush()
    await until(lambda: len(online(store)) == 2)
    await store.engine.settled()
    store.check()
    await store.engine.stop()


def online(store: Store) -> list[str]:
    return [v.root.name for v in store.engine.volumes() if v.state is VolumeState.ONLINE]


async def test_another_volume_in_the_place_of_one_is_not_written_and_the_way_to_accept_it_is_told(
    tmp_path: Path,
) -> None:
    other = Store(tmp_path / "other", volumes=("one",))
    await other.start()
    await other.record(1)
    await other.engine.stop()
    store = Store(tmp_path, volumes=("one", "two"), retry_ns=1_000_000)
    await store.start()
    await store.record(1)
    await store.engine.stop()
    (tmp_path / "one").rename(tmp_path / "away")
    (tmp_path / "other" / "one").rename(tmp_path / "one")
    before = sorted(p.name for p in (tmp_path / "one").rglob("*"))
    await store.start()
    assert online(store) == ["two"]
    why = store.engine.volumes()[0].why
    assert "holds volume" in why
    assert f"take the line of {tmp_path / 'one'} out of {tmp_path / 'volumes.json'}" in why
    await store.record(2)
    assert sorted(p.name for p in (tmp_path / "one").rglob("*")) == before
    await store.engine.stop()


async def test_what_waits_for_all_volumes_together_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path, volumes=("one", "two"), memory_bytes=20_000)
    engine = await store.start()
    await store.record(1, CAMERA, OTHER)
    scripts = {key: store.track(key).with_gop(10, 600, count=20) for key in (CAMERA, OTHER)}
    with store.disk.held():
        accepted = {key: [] for key in scripts}
        for i in range(20):
            for key, script in scripts.items():
                fragment = script.fragments[-20 + i]
                accepted[key].append(engine.recorder(key, fragment.configuration.track_type).append(fragment))
                assert engine.queued_bytes <= engine.memory.used <= 20_000
    await engine.flush()
    assert engine.memory.used == 0
    refused = sum(a.count(False) for a in accepted.values())
    assert 0 < refused == engine.refused
    assert "of 20000 for all volumes" in caplog.text
    await store.end_run(CAMERA, OTHER)
    for key, taken in accepted.items():
        store.handed[key] += scripts[key].fragments[-20:]
        if False in taken:
            assert GapReason.STORAGE in [run.end_reason for run in engine.timeline(key).runs]
    store.check()
    await engine.stop()
