"""A store on real files for `nvr check`, and what it finds there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nvr.checking import Outcome, Reported, Request, check_footage
from nvr.config import Settings
from nvr.media.unit import Fragment
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, RecordingToken, TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.findings import Kind
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import TrackFileRow
from tests.support.footage import CAMERA, PCMU, TrackScript, a_track
from tests.support.volumes import FailingDisk, read_all, same, settings_in

SOUND = TrackKey(CAMERA.recording, AUDIO001)
OTHER = TrackKey(RecordingToken("rec-" + "9" * 32), CAMERA.track)


class Store:
    """A stopped recorder: a camera with two runs of several files, its sound, and another camera."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.settings = Settings(settings_in(data, rotation_ns=2 * NS))
        self.root = data / "default"
        self.scripts: dict[TrackKey, TrackScript] = {
            CAMERA: a_track().with_gop(count=12).with_gap().with_gop(count=8),
            SOUND: TrackScript(PCMU).with_gop(count=3),
            OTHER: a_track().with_gop(count=6),
        }

    async def engine(self, index: SqlFootageIndex) -> StorageEngine:
        engine = StorageEngine(self.settings.storage, index, disk=FailingDisk())
        await engine.start()
        await engine.settled()
        return engine

    async def make(self) -> None:
        self.data.mkdir()
        index = SqlFootageIndex.open(self.data / "index.db")
        engine = await self.engine(index)
        for key, script in self.scripts.items():
            script.feed(engine.recorder(key, TrackType.AUDIO if key == SOUND else TrackType.VIDEO))
        await engine.stop()
        index.shut()

    def check(self, *, repair: bool = False, **chosen: tuple[str, ...]) -> tuple[Outcome, list[Reported]]:
        found: list[Reported] = []
        outcome = check_footage(self.data, self.settings, Request(repair=repair, **chosen), found.append)
        return outcome, found

    def rows(self, key: TrackKey = CAMERA) -> list[TrackFileRow]:
        index = SqlFootageIndex.open(self.data / "index.db")
        try:
            return index.files(key, 0, limit=1000)
        finally:
            index.shut()

    def change(self, work: Callable[[SqlFootageIndex], None]) -> None:
        index = SqlFootageIndex.open(self.data / "index.db")
        work(index)
        index.shut()

    def path(self, row: TrackFileRow) -> Path:
        return self.root / row.path

    async def shown(self, key: TrackKey = CAMERA) -> list[list[tuple[int, bytes, bool]]]:
        index = SqlFootageIndex.open(self.data / "index.db")
        engine = await self.engine(index)
        found = [same(s) for _, s in read_all(engine.footage(key))]
        await engine.stop()
        index.shut()
        return found

    def handed(self, key: TrackKey = CAMERA) -> list[list[tuple[int, bytes, bool]]]:
        return [same(f.samples) for f in self.fragments(key)]

    def fragments(self, key: TrackKey = CAMERA) -> list[Fragment]:
        return self.scripts[key].fragments


def kinds(found: list[Reported]) -> list[Kind]:
    return [r.finding.kind for r in found]
