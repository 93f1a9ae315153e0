"""The rules of retention against a reference that looks at every row again for every file it deletes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage import retention
from nvr.storage.placement import MostFree
from nvr.storage.retention import Retention
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.settings import RecordingSettings, StorageSettings, VolumeSettings
from nvr.storage.volume import VolumeState
from tests.storage.test_footage_index import a_file
from tests.support.footage_index import IndexInMemory

TRACKS = [TrackKey(RecordingToken(r), TrackToken(t)) for r, t in (("rec-1", "V"), ("rec-1", "A"), ("rec-2", "V"))]
VOLUMES = ("one", "two")
NOW = 1000


@dataclass
class Room:
    """A volume as far as retention sees it."""

    id: str
    room: int
    reserve: int
    state: VolumeState
    dedicated: bool = False
    hangs: bool = False

    @property
    def takes_footage(self) -> bool:
        return self.state is VolumeState.ONLINE and not self.hangs

    @property
    def root(self) -> Path:
        return Path("/") / self.id

    def room_soon(self, now: int) -> int:
        return self.room


@dataclass
class World:
    """Files, volumes and rules; and the engine that retention asks."""

    rows: list[TrackFileRow]
    retention: dict[str, int]
    quotas: dict[str, int]
    rooms: list[Room]
    pinned: tuple[str, ...]
    holds: list[tuple[TrackKey, UtcNs]]
    index: IndexInMemory = field(default_factory=IndexInMemory)
    told: list[tuple[TrackKey, UtcNs, UtcNs]] = field(default_factory=list)

    def settings(self) -> StorageSettings:
        """`rec-2` may be pinned to a volume."""
        pins = {"rec-2": tuple(Path("/") / v for v in self.pinned)}
        own = tuple(RecordingSettings(r, q, pins.get(r, ())) for r, q in self.quotas.items())
        volumes = tuple(VolumeSettings(Path("/") / v, 0) for v in VOLUMES)
        return StorageSettings(volumes, Path("/registry"), recordings=own, retention_interval_ns=5)

    def tracks(self) -> Sequence[TrackKey]:
        return TRACKS

    def earliest(self, key: TrackKey) -> UtcNs | None:
        return min((r.start_ns for r in self.index.rows.values() if r.key == key), default=None)

    def growing_bytes(self) -> dict[RecordingToken, int]:
        return {RecordingToken("rec-1"): 7}

    def volumes(self) -> list[Room]:
        return self.rooms

    async def remove(self, rows: Sequence[TrackFileRow]) -> None:
        self.index.forget([r.file_id for r in rows])
        for row in rows:
            next(v for v in self.rooms if v.id == row.volume_id).room += row.size

    def removed(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        self.told.append((key, start_ns, end_ns))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    rows: list[TrackFileRow] = []
    for key in TRACKS:
        at = draw(st.integers(0, 300))
        for i in range(draw(st.integers(0, 9))):
            end = at + draw(st.integers(1, 150))
            state = draw(st.sampled_from([FileState.CLOSED] * 6 + [FileState.OPEN]))
            volume = draw(st.sampled_from(VOLUMES))
            size = draw(st.integers(1, 20)) if state is FileState.CLOSED else 0
            row = a_file(f"{key.recording}{key.track}{i}", at, end, key=key, volume_id=volume, state=state, run_place=i)
            rows.append(replace(row, size=size))
            at = end + draw(st.sampled_from([0, 0, 50]))
    states = st.sampled_from([VolumeState.ONLINE, VolumeState.ONLINE, VolumeState.FULL, VolumeState.MISSING])
    holds = st.lists(st.tuples(st.sampled_from(TRACKS), st.integers(0, 1200)), max_size=2)
    return World(
        rows,
        draw(st.dictionaries(st.sampled_from(["rec-1", "rec-2"]), st.integers(0, 1000))),
        draw(st.dictionaries(st.sampled_from(["rec-1", "rec-2"]), st.integers(0, 150))),
        [Room(v, draw(st.integers(-30, 60)), draw(st.integers(0, 40)), draw(states)) for v in VOLUMES],
        draw(st.sampled_from([(), ("one",), ("two",)])),
        draw(holds),
    )


def reference(world: World) -> set[str]:
    """Which files stay."""
    left = sorted(world.rows, key=lambda r: (r.start_ns, r.file_id))
    room = {v.id: v.room for v in world.rooms}

    def may_go(row: TrackFileRow) -> bool:
        return row.state is FileState.CLOSED and all(k != row.key or row.end_ns <= since for k, since in world.holds)

    def delete(row: TrackFileRow) -> None:
        left.remove(row)
        room[row.volume_id] += row.size

    for row in list(left):
        time = world.retention.get(row.recording, 0)
        if time and row.start_ns < NOW - time + min(10, time // 8) and may_go(row):
            delete(row)
    for recording, quota in world.quotas.items():
        while quota:
            of = [r for r in left if r.recording == recording and r.state is FileState.CLOSED]
            oldest = next((r for r in of if may_go(r)), None)
            if sum(r.size for r in of) + (7 if recording == "rec-1" else 0) <= quota or oldest is None:
                break
            delete(oldest)
    pinned = [world.pinned] if world.pinned and "rec-2" in world.quotas else []
    for pool in [VOLUMES, *pinned]:
        there = [v for v in world.rooms if v.id in pool and v.state in (VolumeState.ONLINE, VolumeState.FULL)]
        online = [v for v in there if v.state is VolumeState.ONLINE]
        if any(room[v.id] >= v.reserve for v in online):
            continue
        once = bool(there) and not online
        while once or not any(room[v.id] >= v.reserve * 5 // 4 for v in there):
            once = False
            oldest = next((r for r in left if r.volume_id in {v.id for v in there} and may_go(r)), None)
            if oldest is None:
                break
            delete(oldest)
    return {r.file_id for r in left}


async def swept(world: World) -> set[str]:
    world.index.rows = {r.file_id: r for r in world.rows}
    rules = Retention(
        world.settings(),
        world.index,
        MostFree(world.settings().recordings),
        world,  # type: ignore[arg-type]  # its volumes are as far as retention sees them
        lambda recording: world.retention.get(recording, 0),
        lambda: NOW,
        lambda: 0,
    )
    for hold in world.holds:
        rules.holds.take(*hold, None)
    await rules.sweep()
    assert rules.failures == 0
    return set(world.index.rows)


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_the_rules_delete_what_a_reference_deletes_and_tell_it(world: World) -> None:
    expected = reference(replace(world, rooms=[replace(v) for v in world.rooms]))
    with patch.multiple(retention, _SLICE=3, _PAGE=2):
        left = asyncio.run(swept(world))
    assert left == expected
    gone = [r for r in world.rows if r.file_id not in left]
    spans = {key: [r for r in gone if r.key == key] for key in {r.key for r in gone}}
    assert sorted(world.told) == sorted(
        (key, min(r.start_ns for r in rows), max(r.end_ns for r in rows)) for key, rows in spans.items()
    )
