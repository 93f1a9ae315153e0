from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model import xpath
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.search import RecordingStatus
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import VIDEO001, RecordingToken
from nvr.search.information import document, information, needed

RECORDING = Recording(RecordingToken("rec-1"), RecordingConfiguration(), default_tracks())


def test_a_recording_has_stopped_only_when_its_last_fragment_is_on_the_disk() -> None:
    def status(end_reason: GapReason | None) -> RecordingStatus:
        extent = Timeline.of([Run("1", 0, 10, end_reason)]).extent
        assert extent is not None
        return information(RECORDING, {VIDEO001: extent}, is_recording=False).status

    assert status(None) is RecordingStatus.RECORDING
    assert status(GapReason.JOB_STOPPED) is RecordingStatus.STOPPED


NAMES = st.sampled_from(["RecordingInformation", "Source", "Track", "Name", "TrackType", "DataFrom", "Content", "*"])
VALUES = st.sampled_from(["Gate", "Video", "", "1970-01-01T00:00:00Z", "GateBasement"])
PATHS = st.recursive(
    st.builds(lambda name: f"//{name}", NAMES),
    lambda path: st.builds(lambda inner, name, way: f"{inner}{way}{name}", path, NAMES, st.sampled_from(["/", "//"])),
    max_leaves=3,
)
FILTERS = st.recursive(
    st.one_of(
        st.builds(lambda path: f"boolean({path})", PATHS),
        st.builds(lambda path, value: f'{path} = "{value}"', PATHS, VALUES),
        st.builds(lambda path, value: f'contains({path}, "{value}")', PATHS, VALUES),
        st.builds(lambda path, name, value: f'boolean({path}[{name} != "{value}"])', PATHS, NAMES, VALUES),
    ),
    lambda inner: st.one_of(
        st.builds(lambda one, other: f"({one} and not({other}))", inner, inner),
        st.builds(lambda one, other: f"({one} or {other})", inner, inner),
    ),
    max_leaves=3,
)


@pytest.mark.requirement("RS-6.18-02", "RS-6.18-04", "RS-6.18-05")
@given(FILTERS)
def test_what_a_filter_does_not_look_at_need_not_be_in_the_document(text: str) -> None:
    source = RecordingSourceInformation("urn:x", "Gate", "Basement", "", "")
    recording = Recording(RecordingToken("rec-1"), RecordingConfiguration(source, "Gate"), default_tracks())
    extent = Timeline.of([Run("1", 0, 10, None)]).extent
    assert extent is not None
    found = information(recording, {VIDEO001: extent}, is_recording=True)
    expression = xpath.parse(text)
    whole = xpath.matches(expression, document(found))
    assert xpath.matches(expression, document(found, needed(expression))) is whole
