"""nvr.model.job: the state of a job from those of its sources and tracks (IEC 62676-2-32 5.19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.job import JobState, RecordingJobState, SourceReference, SourceState, TrackState, aggregate
from nvr.model.tokens import RecordingToken, TrackToken

IDLE, ACTIVE, PARTIAL, ERROR = RecordingJobState
states = st.sampled_from(RecordingJobState)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([], IDLE),
        ([IDLE], IDLE),
        ([IDLE, IDLE], IDLE),
        ([ACTIVE], ACTIVE),
        ([ACTIVE, ACTIVE], ACTIVE),
        ([ACTIVE, IDLE], PARTIAL),
        ([PARTIAL], PARTIAL),
        ([PARTIAL, ACTIVE], PARTIAL),
        ([PARTIAL, IDLE], PARTIAL),
        ([ERROR, ACTIVE], ERROR),
        ([IDLE, PARTIAL, ERROR], ERROR),
    ],
)
def test_the_table_of_aggregation(parts: list[RecordingJobState], whole: RecordingJobState) -> None:
    assert aggregate(parts) is whole
    assert aggregate(reversed(parts)) is whole


@given(st.lists(states, min_size=1), st.lists(states, min_size=1))
def test_aggregation_may_be_done_in_stages(first: list[RecordingJobState], second: list[RecordingJobState]) -> None:
    assert aggregate([aggregate(first), aggregate(second)]) is aggregate(first + second)


def a_source(*parts: RecordingJobState, trackless: RecordingJobState = IDLE) -> SourceState:
    tracks = tuple(TrackState("tag", TrackToken(f"VIDEO{n:03}"), state) for n, state in enumerate(parts))
    return SourceState(SourceReference("rcv-1"), tracks, trackless)


def test_a_job_takes_its_state_from_its_sources_and_they_from_their_tracks() -> None:
    job = JobState(RecordingToken("rec-1"), (a_source(ACTIVE, ACTIVE), a_source(ACTIVE, IDLE)))
    assert [source.state for source in job.sources] == [ACTIVE, PARTIAL]
    assert job.state is PARTIAL
    assert JobState(RecordingToken("rec-1"), ()).state is IDLE


def test_a_source_without_tracks_has_a_state_of_its_own() -> None:
    assert a_source(trackless=ACTIVE).state is ACTIVE
    assert a_source(IDLE, trackless=ACTIVE).state is IDLE
