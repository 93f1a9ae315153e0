"""Random lives of a recorder: fragments, gaps, changes, failures, deletions, restarts, kills; the invariants hold."""

from __future__ import annotations

import asyncio
import errno
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.unit import Fragment
from nvr.model.recording import TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.recovery import rebuild_index
from nvr.storage.rows import FileState, FragmentRef
from nvr.storage.settings import VolumeSettings
from nvr.storage.volume import Volume, VolumeRegistry, VolumeState
from tests.support.footage import CAMERA, START, TrackScript, a_track, another_video, video
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk, check_invariants, check_settled, settings_in, until

STEPS = st.one_of(
    st.tuples(st.just("gop"), st.integers(1, 12), st.booleans()),
    st.tuples(st.just("reordered"), st.integers(1, 6), st.booleans()),
    st.tuples(st.just("gap"), st.sampled_from([GapReason.SOURCE_LOST, GapReason.JOB_STOPPED]), st.booleans()),
    st.tuples(st.just("change"), st.booleans(), st.booleans()),
    st.tuples(
        st.just("fail"),
        st.sampled_from(["write", "fsync", "fsync directory", "open", "mkdir", "truncate", "unlink"]),
        st.integers(1, 6),
    ),
    st.tuples(st.just("delete"), st.just(0), st.just(False)),
    st.tuples(st.just("age"), st.integers(1, 12), st.booleans()),
    st.tuples(st.just("restart"), st.just(0), st.booleans()),
    st.tuples(st.just("kill"), st.integers(0, 400), st.booleans()),
)


class Life:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.number = 0
        self.index = IndexInMemory()
        self.disk = FailingDisk()
        self.script: TrackScript = a_track()
        self.handed: list[Fragment] = []
        self.told: dict[TrackKey, list[FragmentRef]] = {CAMERA: []}

    @property
    def here(self) -> Path:
        return self.data / str(self.number)

    async def start(self) -> None:
        self.engine = StorageEngine(
            settings_in(self.here, rotation_ns=2 * NS), self.index, disk=self.disk, utc=lambda: self.script.at_ns
        )
        await self.engine.start()
        await self.engine.settled()
        self.engine.watcher = self
        self.engine.on_append(CAMERA, self.told[CAMERA].append)

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None: ...

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None: ...

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        self.handed = [f for f in self.handed if f.start_ns >= end_ns]
        self.told[CAMERA][:] = [r for r in self.told[CAMERA] if r.start_ns >= end_ns]

    async def step(self, kind: str, value: object, flag: object) -> None:
        recorder = self.engine.recorder(CAMERA, TrackType.VIDEO)
        match kind, value:
            case "gop", int(pictures):
                self.script.with_gop(pictures, clean=bool(flag), lost_packets=pictures % 2)
            case "reordered", int(pictures):
                self.script.with_gop(order=[0, *range(pictures, 0, -1)], clean=bool(flag))
            case "gap", GapReason() as reason:
                self.script.with_gap(3)
                recorder.end_run(reason)
            case "change", bool(other):
                self.script.with_configuration(another_video() if other else video())
            case "fail", str(call):
                assert isinstance(flag, int)
                self.disk.fail(call, flag, code=errno.EIO, short=flag % 2 == 0)
            case "delete", _:
                await self.engine.delete_track(CAMERA)
                self.handed.clear()
                self.told[CAMERA].clear()
            case "age", int(seconds):
                await self.online()
                with await self.engine.hold(CAMERA, self.script.at_ns - (3 if flag else 0) * NS):
                    self.engine.retention_of = lambda recording: seconds * NS
                    await self.engine.retention.sweep()
                self.engine.retention_of = lambda recording: 0
            case "restart", _:
                self.disk.mend()
                await self.engine.stop()
                self.check()
                check_settled(self.here / "default", self.index, [CAMERA])
                await self.start()
            case "kill", int(torn):
                await self.kill(torn)
        for fragment in self.script.fragments:
            self.handed.append(fragment)
            recorder.append(fragment)
        self.script.steps.clear()
        await self.engine.flush()

    async def kill(self, torn: int) -> None:
        """Goes on with a copy of the files and rows as they are now, the newest file with a torn write behind it."""
        await self.online()
        there = self.data / str(self.number + 1)
        rows = dict(self.index.rows)
        shutil.copytree(self.here / "default", there / "default")
        await self.engine.stop()
        self.index.rows = rows
        self.number += 1
        newest = self.index.newest(CAMERA)
        if newest is not None and newest.end_reason is None and torn:
            with (there / "default" / newest.path).open("ab") as file:
                file.write(bytes(torn))
        await self.start()

    async def online(self) -> None:
        self.disk.mend()
        await until(lambda: self.engine.volumes()[0].state is VolumeState.ONLINE)
        await self.engine.settled()

    def check(self) -> None:
        check_invariants(self.engine, self.index, [CAMERA], {CAMERA: self.handed}, self.told)


async def live(data: Path, steps: list[tuple[str, object, object]]) -> None:
    life = Life(data)
    await life.start()
    for step in steps:
        await life.step(*step)
    await life.online()
    life.check()
    await life.step("gop", 3, True)
    assert life.told[CAMERA][-1].end_ns == life.handed[-1].end_ns, "recording goes on"
    await until(lambda: all(row.state is not FileState.DELETING for row in life.index.rows.values()))
    await life.engine.stop()
    life.check()
    check_settled(life.here / "default", life.index, [CAMERA])
    volume = Volume(
        VolumeSettings(life.here / "default", 0), VolumeRegistry(life.here / "volumes.json", life.disk), life.disk
    )
    volume.take(START)
    rebuilt = IndexInMemory()
    rebuild_index([volume], rebuilt, lambda number, path: None)
    volume.close()
    assert rebuilt.runs(CAMERA) == life.index.runs(CAMERA)
    assert set(rebuilt.rows) == set(life.index.rows)


@given(st.lists(STEPS, max_size=14))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_the_invariants_hold_in_any_life(steps: list[tuple[str, object, object]]) -> None:
    with tempfile.TemporaryDirectory() as data:
        asyncio.run(live(Path(data), steps))
