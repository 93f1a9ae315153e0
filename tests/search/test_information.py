from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model import xpath
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.search import RecordingInformation, RecordingStatus
from nvr.model.time import UtcNs, format_iso
from nvr.model.timeline import Extent, GapReason, Run, Timeline
from nvr.model.tokens import AUDIO001, VIDEO001, RecordingToken, TrackToken
from nvr.search.information import Described

RECORDING = Recording(RecordingToken("rec-1"), RecordingConfiguration(), default_tracks())


def test_a_recording_has_stopped_only_when_its_last_fragment_is_on_the_disk() -> None:
    def status(end_reason: GapReason | None) -> RecordingStatus:
        extent = Timeline.of([Run("1", 0, 10, end_reason)]).extent
        assert extent is not None
        return Described(RECORDING, {VIDEO001: extent}, lambda: False).status

    assert status(None) is RecordingStatus.RECORDING
    assert status(GapReason.JOB_STOPPED) is RecordingStatus.STOPPED


NAMES = st.sampled_from(["RecordingInformation", "Source", "Track", "Name", "TrackType", "DataFrom", "Content", "*"])
VALUES = st.sampled_from(
    ["Gate", "Video", "", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000007Z", "GateBasement"]
)
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


def extent_of(start_ns: int, end_ns: int) -> Extent:
    extent = Timeline.of([Run("1", start_ns, end_ns, GapReason.JOB_STOPPED)]).extent
    assert extent is not None
    return extent


def whole(found: RecordingInformation) -> xpath.Node:
    """The document as the schema writes it, the plain way."""

    def el(name: str, *inside: tuple[str, str | UtcNs | None] | xpath.Node) -> xpath.Node:
        children = []
        for child in inside:
            if isinstance(child, xpath.Node):
                children.append(child)
            elif child[1] is not None:
                children.append(xpath.Node(child[0], format_iso(child[1]) if isinstance(child[1], int) else child[1]))
        return xpath.Node(name, children=tuple(children))

    source = found.source
    return el(
        "RecordingInformation",
        ("RecordingToken", found.token),
        el(
            "Source",
            ("SourceId", source.source_id),
            ("Name", source.name),
            ("Location", source.location),
            ("Description", source.description),
            ("Address", source.address),
        ),
        ("EarliestRecording", found.earliest_ns),
        ("LatestRecording", found.latest_ns),
        ("Content", found.content),
        *(
            el(
                "Track",
                ("TrackToken", track.token),
                ("TrackType", track.track_type),
                ("Description", track.description),
                ("DataFrom", track.data_from_ns),
                ("DataTo", track.data_to_ns),
            )
            for track in found.tracks
        ),
        ("RecordingStatus", found.status),
    )


@pytest.mark.requirement("RS-6.18-02", "RS-6.18-04", "RS-6.18-05")
@given(FILTERS, st.sampled_from([(), (VIDEO001,), (VIDEO001, AUDIO001)]))
def test_a_filter_on_what_is_found_out_when_asked_for_means_the_same_as_on_the_whole_document(
    text: str, tracks: tuple[TrackToken, ...]
) -> None:
    wanted = xpath.Filter(xpath.parse(text))
    for name, start_ns in (("Gate", 0), ("Yard", 7)):  # the second time with what the filter has remembered
        source = RecordingSourceInformation("urn:x", name, "Basement", "", "")
        recording = Recording(RecordingToken("rec-1"), RecordingConfiguration(source, "Gate"), default_tracks())
        found = Described(recording, {t: extent_of(start_ns + n, 10) for n, t in enumerate(tracks)}, lambda: True)
        assert wanted.matches(found) is xpath.matches(xpath.parse(text), whole(found.information()))


def test_what_a_filter_does_not_look_at_is_not_found_out() -> None:
    def asked() -> bool:
        raise AssertionError("the state of jobs")

    wanted = xpath.Filter(xpath.parse('boolean(//Source[Name = "Gate"]) and //Track/DataFrom < "1970-01-01T00:00:01Z"'))
    source = RecordingSourceInformation(name="Gate")
    recording = Recording(RecordingToken("rec-1"), RecordingConfiguration(source), default_tracks())
    assert wanted.matches(Described(recording, {VIDEO001: extent_of(0, 10)}, asked))
    assert not wanted.matches(Described(RECORDING, {VIDEO001: extent_of(0, 10)}, asked))
