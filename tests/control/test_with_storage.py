"""Control, the real configuration, the real storage and search together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlState
from nvr.model.errors import UnknownToken
from nvr.model.recording import Recording, RecordingConfiguration, TrackType
from nvr.model.search import RecordingStatus, SearchLimits, SearchScope, SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import META001, VIDEO001, TrackKey
from nvr.search.sessions import SearchSessions
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from tests.support.configuration import XorSealer
from tests.support.control import FakeEngine
from tests.support.footage import a_track
from tests.support.volumes import settings_in


@dataclass
class House:
    control: RecordingControl
    storage: StorageEngine
    searches: SearchSessions
    files: Path

    def track_files(self, recording: Recording, track: str = "") -> list[Path]:
        return list((self.files / recording.token / track).rglob("*.mp4"))

    async def record(self, recording: Recording, *tracks: str) -> None:
        for track in recording.tracks:
            if track.token in tracks:
                recorder = self.storage.recorder(recording.key(track), TrackType.VIDEO)
                a_track().with_gop(count=3).with_gap().with_gop().feed(recorder)
        await self.storage.flush()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    configuration = ConfigurationStore.open(tmp_path / "config.db", XorSealer())
    index = SqlFootageIndex.open(tmp_path / "index.db")
    storage = StorageEngine(settings_in(tmp_path), index)
    await storage.start()
    control = RecordingControl(await ControlState.load(configuration, FakeEngine()), storage)
    yield House(control, storage, SearchSessions(control, storage), tmp_path / "default" / "footage")
    await control.stop()
    await storage.stop()
    index.shut()
    configuration.close()


@pytest.mark.requirement("RC-5.5-06", "RC-5.5-07")
async def test_deleting_a_recording_removes_its_files_and_no_others(house: House) -> None:
    doomed, kept = [await house.control.create_recording(RecordingConfiguration()) for _ in range(2)]
    for recording in (doomed, kept):
        await house.record(recording, VIDEO001, META001)
    before = house.track_files(kept)
    assert house.track_files(doomed)
    assert before
    await house.control.delete_recording(doomed.token)
    assert house.track_files(doomed) == []
    assert house.track_files(kept) == before
    assert house.storage.timeline(TrackKey(doomed.token, VIDEO001)).runs == ()
    with pytest.raises(UnknownToken):
        house.searches.information(doomed.token)
    assert (await house.searches.summary()).recordings == 1


@pytest.mark.requirement("RC-5.10-07")
async def test_deleting_a_track_removes_its_files_and_no_others(house: House) -> None:
    recording = await house.control.create_recording(RecordingConfiguration())
    await house.record(recording, VIDEO001, META001)
    kept = house.track_files(recording, META001)
    assert house.track_files(recording, VIDEO001)
    await house.control.delete_track(recording.token, VIDEO001)
    assert house.track_files(recording, VIDEO001) == []
    assert house.track_files(recording, META001) == kept != []
    assert [t.token for t in house.searches.information(recording.token).tracks] == [META001]


@pytest.mark.requirement("RS-6.3.1-02", "RS-6.3.1-03", "RS-6.3.3-01", "RS-6.3.3-04", "RS-6.3.3-05")
async def test_search_tells_what_storage_holds(house: House) -> None:
    recording = await house.control.create_recording(RecordingConfiguration(content="Gate"))
    empty = await house.control.create_recording(RecordingConfiguration())
    await house.record(recording, VIDEO001)
    runs = house.storage.timeline(TrackKey(recording.token, VIDEO001)).runs
    assert len(runs) == 2
    scope = SearchScope(filter='boolean(//Track[TrackType = "Video"]) and contains(//Content, "Gate")')
    search = house.searches.find_recordings(scope, SearchLimits(None, 10 * NS))
    state, (found,) = await house.searches.recording_results(search, SearchWish())
    assert state is SearchState.COMPLETED
    assert found == house.searches.information(recording.token)
    assert [(t.token, t.data_from_ns, t.data_to_ns) for t in found.tracks] == [
        (VIDEO001, runs[0].start_ns, runs[1].end_ns)
    ]
    assert (found.earliest_ns, found.latest_ns) == (runs[0].start_ns, runs[1].end_ns)
    assert found.status is RecordingStatus.RECORDING, "its last run has not ended"
    assert house.searches.information(empty.token).status is RecordingStatus.INITIATED
