"""Who feeds which track, and which stream goes where."""

from __future__ import annotations

import dataclasses

import pytest

from nvr.ingest.arbiter import Feed, SourceStream, arbitrate, lines_of, map_streams
from nvr.model.job import RECEIVER_TYPE, RecordingJob, RecordingJobMode, RecordingJobSource, SourceReference
from nvr.model.recording import TrackType
from nvr.model.tokens import TrackKey
from tests.support.ingest import a_job, a_recording, a_source, key

VIDEO, AUDIO, META = TrackType.VIDEO, TrackType.AUDIO, TrackType.METADATA


def winners(*jobs: RecordingJob) -> dict[str, str]:
    """Track to job."""
    recording = a_recording()
    return {k.track: f.job for k, f in arbitrate({recording.token: recording}, jobs).items()}


def job(token: str, priority: int, activation: int, *tracks: str, active: bool = True) -> RecordingJob:
    mode = RecordingJobMode.ACTIVE if active else RecordingJobMode.IDLE
    source = a_source(f"rcv-of-{token}", *(("", t) for t in tracks))
    return a_job(source, token=token, priority=priority, activation=activation, mode=mode)


def test_the_winner_is_found_for_every_track_on_its_own() -> None:
    a, b = job("a", 5, 1, "VIDEO001"), job("b", 2, 2, "VIDEO001", "AUDIO001")
    assert winners(a, b) == {"VIDEO001": "a", "AUDIO001": "b"}
    assert winners(b, a) == {"VIDEO001": "a", "AUDIO001": "b"}


def test_of_equal_priorities_the_latest_activation_wins() -> None:
    assert winners(job("a", 3, 7, "VIDEO001"), job("b", 3, 6, "VIDEO001")) == {"VIDEO001": "a"}


def test_the_next_highest_active_job_takes_over() -> None:
    one, two = job("j1", 2, 1, "VIDEO001"), job("j2", 4, 2, "VIDEO001", active=False)
    three = job("j3", 3, 3, "VIDEO001")
    assert winners(one, two, three) == {"VIDEO001": "j3"}
    assert winners(one, two) == {"VIDEO001": "j1"}
    assert winners(two) == {}


def test_zero_is_the_lowest_priority() -> None:
    assert winners(job("a", 0, 9, "VIDEO001"), job("b", 1, 1, "VIDEO001")) == {"VIDEO001": "b"}


def test_what_names_nothing_feeds_nothing() -> None:
    foreign = a_job(a_source("rcv", ("", "VIDEO001")), recording="rec-other")
    no_track = a_job(a_source("rcv", ("", "VIDEO777")))
    profile = RecordingJobSource(SourceReference("p", "http://www.onvif.org/ver10/schema/Profile"))
    scheduled = a_job(a_source("rcv", ("", "VIDEO001")), schedule="sched-1")
    unnamed = a_job(RecordingJobSource(None))
    assert winners(foreign, no_track, a_job(profile), scheduled, unnamed) == {}


def test_a_source_without_tracks_means_every_track_that_no_other_source_names() -> None:
    implied = RecordingJobSource(SourceReference("rcv-2", RECEIVER_TYPE), implied_tracks=True)
    job = a_job(a_source("rcv-1", ("", "VIDEO001")), implied)
    assert [t.destination for t in lines_of(job, implied, a_recording())] == ["AUDIO001", "META001"]
    recording = a_recording()
    fed = arbitrate({recording.token: recording}, [job])
    assert {k.track: f.receiver for k, f in fed.items()} == {
        "VIDEO001": "rcv-1",
        "AUDIO001": "rcv-2",
        "META001": "rcv-2",
    }
    assert fed[key("META001")] == Feed(job.token, 1, 1, TrackKey(recording.token, key("META001").track), META, "rcv-2")


def stream(index: int, track_type: TrackType | None, *names: str, supported: bool = True) -> SourceStream:
    return SourceStream(index, track_type, "X", names, supported)


def mapped(lines: list[tuple[str, TrackType]], *streams: SourceStream) -> list[int | None]:
    return [None if s is None else s.index for s in map_streams(lines, streams)]


TWO = (stream(0, VIDEO, "main"), stream(1, VIDEO, "sub"), stream(2, AUDIO, "mic"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("", VIDEO), ("", AUDIO), ("", META)], [0, 2, None]),
        ([("sub", VIDEO), ("main", VIDEO)], [1, 0]),
        ([("sub", VIDEO), ("", VIDEO)], [1, 0]),
        ([("", VIDEO), ("main", VIDEO)], [1, 0]),
        ([("left", VIDEO), ("right", VIDEO)], [0, 1]),
        ([("left", VIDEO), ("left", VIDEO)], [0, 0]),
        ([("main", VIDEO), ("main", VIDEO)], [0, 0]),
        ([("", VIDEO), ("", VIDEO), ("", VIDEO)], [0, 1, None]),
        ([("x", VIDEO), ("x", AUDIO)], [0, 2]),
        ([("mic", VIDEO)], [2]),
    ],
)
def test_streams_go_to_lines(lines: list[tuple[str, TrackType]], expected: list[int | None]) -> None:
    assert mapped(lines, *TWO) == expected


def test_a_stream_that_can_be_stored_is_taken_first() -> None:
    jpeg, h264 = stream(0, VIDEO, supported=False), stream(1, VIDEO)
    assert mapped([("", VIDEO)], jpeg, h264) == [1]
    assert mapped([("", VIDEO)], dataclasses.replace(jpeg)) == [0]


def test_a_name_that_two_streams_share_means_the_one_of_the_tracks_type() -> None:
    assert mapped([("t", AUDIO)], stream(0, VIDEO, "t"), stream(1, AUDIO, "t")) == [1]
