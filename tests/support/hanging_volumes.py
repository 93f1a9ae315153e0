"""An engine with volumes that do not answer when a test says so."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.storage.engine import StorageEngine
from nvr.storage.rows import FragmentRef
from nvr.storage.settings import StorageSettings
from nvr.storage.volume import VolumeState, VolumeStatus
from tests.support.footage import CAMERA, TrackScript, a_track
from tests.support.footage_index import IndexInMemory
from tests.support.volumes import FailingDisk, Hang, check_invariants, read_all, settings_in, until


@dataclass
class Pair:
    """An engine with volumes that hang when a test says so; its clock stands still unless a test sets it on."""

    settings: StorageSettings
    index: IndexInMemory = field(default_factory=IndexInMemory)
    disk: FailingDisk = field(default_factory=FailingDisk)
    script: TrackScript = field(default_factory=a_track)
    accepted: list[bool] = field(default_factory=list)
    told: list[FragmentRef] = field(default_factory=list)
    states: list[VolumeStatus] = field(default_factory=list)
    now_ns: int = 0

    async def start(self) -> StorageEngine:
        self.engine = StorageEngine(self.settings, self.index, disk=self.disk, now=lambda: self.now_ns)
        await self.engine.start()
        self.engine.on_volume = self.states.append
        self.engine.on_append(CAMERA, self.told.append)
        return self.engine

    def hand_over(self, clean: bool = True) -> bool:
        self.script.with_gop(clean=clean)
        recorder = self.engine.recorder(CAMERA, TrackType.VIDEO)
        self.accepted.append(recorder.append(self.script.fragments[-1]))
        return self.accepted[-1]

    async def record(self, gops: int = 1, *, clean: bool = True) -> None:
        for _ in range(gops):
            self.hand_over(clean)
            await self.engine.flush()

    async def hang(self, kind: str = "write", nth: int = 1, index: int | None = None) -> Hang:
        """The volume that is recorded to (or the one with this index) hangs at this call, and has been found to."""
        hang = self.disk.hang(kind, nth, self.root(index))
        self.hand_over()
        await until(hang.begun.is_set)
        await self.others_rest(hang)
        self.let_time_pass()
        return hang

    async def others_rest(self, hang: Hang) -> None:
        """A clock that leaps would find a volume hanging that is just being looked after."""
        threads = [t for t in self.engine._threads if t.writer.volume.root != hang.under]
        await until(lambda: all(t.stalled(0) == (0, "") for t in threads))

    def root(self, index: int | None = None) -> Path:
        if index is not None:
            return self.settings.volumes[index].root
        newest = self.index.newest(CAMERA)
        assert newest is not None
        return next(v.root for v in self.engine.volumes() if v.id == newest.volume_id)

    def let_time_pass(self, ns: int = 10 * NS) -> None:
        self.now_ns += ns
        self.engine.watch.look()

    def state(self, root: Path) -> VolumeState:
        return next(v.state for v in self.engine.volumes() if v.root == root)

    def one_is_open(self) -> bool:
        """And rests: a clock that leaps would find it hanging otherwise."""
        return any(t.ready.done() and t.stalled(0) == (0, "") for t in self.engine._threads)

    async def answers(self, root: Path) -> None:
        await until(lambda: self.state(root) is not VolumeState.HANGING)
        await self.engine.flush()

    async def well(self) -> None:
        """All volumes are online, and what waited is written."""

        def tried() -> bool:
            states = {v.state for v in self.engine.volumes()}
            self.let_time_pass(0 if VolumeState.HANGING in states else NS // 1000)  # failed ones are tried again
            return states == {VolumeState.ONLINE}

        await until(tried)
        await self.engine.flush()

    def check(self) -> None:
        handed = {CAMERA: self.script.fragments}
        check_invariants(self.engine, self.index, [CAMERA], handed, {CAMERA: self.told}, hung=True)

    def shown(self) -> list[int]:
        return [ref.start_ns for ref, _ in read_all(self.engine.footage(CAMERA))]

    @property
    def starts(self) -> list[int]:
        return [f.start_ns for f in self.script.fragments]


def two(path: Path, **others: object) -> Pair:
    return Pair(settings_in(path, volumes=("one", "two"), rotation_ns=3600 * NS, **others))  # type: ignore[arg-type]


def threads(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == name]
