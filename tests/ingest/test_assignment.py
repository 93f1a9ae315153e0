"""Winners by difference: always those that the arbiter finds for the whole state at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nvr.ingest.arbiter import Feed, arbitrate
from nvr.ingest.assignment import Assignment
from nvr.model.job import RecordingJob, RecordingJobMode
from nvr.model.recording import Recording
from nvr.model.tokens import ReceiverToken, RecordingToken, TrackKey
from tests.support.ingest import a_job, a_recording, a_source, key

A, B = ReceiverToken("rcv-a"), ReceiverToken("rcv-b")

_sources = st.builds(
    lambda receiver, tracks: a_source(receiver, *(("", t) for t in tracks)),
    st.sampled_from(["rcv-a", "rcv-b", "rcv-c"]),
    st.lists(st.sampled_from(["VIDEO001", "AUDIO001", "META001", "NOSUCH"]), max_size=3, unique=True),
)


@st.composite
def _states(draw: st.DrawFn) -> tuple[list[Recording], list[RecordingJob]]:
    numbers = draw(st.lists(st.integers(1, 4), unique=True))
    jobs = [
        a_job(
            *draw(st.lists(_sources, max_size=2)),
            token=f"job-{n}",
            recording=f"rec-{draw(st.integers(1, 4))}",
            mode=draw(st.sampled_from(RecordingJobMode)),
            priority=draw(st.integers(0, 2)),
            activation=draw(st.integers(0, 2)),
        )
        for n in draw(st.lists(st.integers(1, 5), unique=True))
    ]
    return [a_recording(f"rec-{n}") for n in numbers], jobs


def settled(assignment: Assignment) -> tuple[set[ReceiverToken], set[ReceiverToken]]:
    losers: set[ReceiverToken] = set()
    concerned: set[ReceiverToken] = set()
    for token in tuple(assignment.due):
        change = assignment.settle(token)
        losers |= change.losers
        concerned |= change.concerned
    return losers, concerned


def winners(assignment: Assignment) -> dict[TrackKey, Feed]:
    recordings = [RecordingToken(f"rec-{n}") for n in range(1, 5)]
    return {feed.key: feed for token in recordings for feed in assignment.winners(token)}


def bindings(assignment: Assignment) -> dict[ReceiverToken, dict[TrackKey, object]]:
    tokens = [ReceiverToken(f"rcv-{n}") for n in "abc"]
    return {token: dict(assignment.bindings(token)) for token in tokens}


@given(st.lists(_states(), min_size=1, max_size=4), st.data())
def test_differences_lead_to_the_winners_of_the_whole_state(
    states: list[tuple[list[Recording], list[RecordingJob]]], data: st.DataObject
) -> None:
    assignment = Assignment()
    for recordings, jobs in states:
        assignment.change(recordings, jobs)
        if data.draw(st.booleans()):
            settled(assignment)  # else the next change comes before
    settled(assignment)
    recordings, jobs = states[-1]
    assert winners(assignment) == arbitrate({r.token: r for r in recordings}, jobs)
    fresh = Assignment()
    fresh.change(recordings, jobs)
    settled(fresh)
    assert bindings(assignment) == bindings(fresh)


@given(_states())
def test_the_same_state_again_makes_nothing_due(state: tuple[list[Recording], list[RecordingJob]]) -> None:
    assignment = Assignment()
    assignment.change(*state)
    settled(assignment)
    assignment.change(*state)
    assert not assignment.due


def test_a_change_concerns_the_recordings_that_it_touches_and_the_receivers_that_feed_them() -> None:
    first = [a_job(a_source("rcv-a", ("", "VIDEO001"))), a_job(token="job-2", recording="rec-2")]
    recordings = [a_recording(), a_recording("rec-2")]
    assignment = Assignment()
    assignment.change(recordings, first)
    assert list(assignment.due) == ["rec-1", "rec-2"]
    assert settled(assignment) == (set(), {A})
    moved = a_job(a_source("rcv-b", ("", "VIDEO001")), token="job-3", priority=2)
    assignment.change(recordings, [*first, moved])
    assert list(assignment.due) == ["rec-1"]
    assert assignment.due_for(B) == ["rec-1"]
    assert assignment.due_for(A) == ["rec-1"]
    assert settled(assignment) == ({A}, {A, B})
    assert set(assignment.bindings(B)) == {key()}
    assert not assignment.bindings(A)
    assert assignment.winner(key()) is not None
    assert assignment.due_for(A) == []


def test_a_job_that_changes_its_recording_leaves_the_old_one() -> None:
    assignment = Assignment()
    recordings = [a_recording(), a_recording("rec-2")]
    assignment.change(recordings, [a_job(a_source("rcv-a", ("", "VIDEO001")))])
    settled(assignment)
    assignment.change(recordings, [a_job(a_source("rcv-a", ("", "VIDEO001")), recording="rec-2")])
    assert settled(assignment) == ({A}, {A})
    assert set(assignment.bindings(A)) == {key(recording="rec-2")}
