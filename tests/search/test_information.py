from __future__ import annotations

from nvr.model.recording import Recording, RecordingConfiguration, default_tracks
from nvr.model.search import RecordingStatus
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import VIDEO001, RecordingToken
from nvr.search.information import information

RECORDING = Recording(RecordingToken("rec-1"), RecordingConfiguration(), default_tracks())


def test_a_recording_has_stopped_only_when_its_last_fragment_is_on_the_disk() -> None:
    def status(end_reason: GapReason | None) -> RecordingStatus:
        extent = Timeline.of([Run("1", 0, 10, end_reason)]).extent
        assert extent is not None
        return information(RECORDING, {VIDEO001: extent}, is_recording=False).status

    assert status(None) is RecordingStatus.RECORDING
    assert status(GapReason.JOB_STOPPED) is RecordingStatus.STOPPED
