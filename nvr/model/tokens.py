"""Tokens (tt:ReferenceToken, at most 64 characters), unique across nodes.

Track tokens (VIDEO001 ...) repeat from recording to recording: the key of a track is (recording, track).
"""

from __future__ import annotations

import uuid
from typing import NamedTuple, NewType

RecordingToken = NewType("RecordingToken", str)
TrackToken = NewType("TrackToken", str)
JobToken = NewType("JobToken", str)
ReceiverToken = NewType("ReceiverToken", str)
SearchToken = NewType("SearchToken", str)

VIDEO001 = TrackToken("VIDEO001")
AUDIO001 = TrackToken("AUDIO001")
META001 = TrackToken("META001")


class TrackKey(NamedTuple):
    """What names one track on this and on every other node."""

    recording: RecordingToken
    track: TrackToken

    def __str__(self) -> str:
        return f"{self.recording}/{self.track}"


def new_recording_token() -> RecordingToken:
    return RecordingToken("rec-" + uuid.uuid4().hex)


def new_job_token() -> JobToken:
    return JobToken("job-" + uuid.uuid4().hex)


def new_receiver_token() -> ReceiverToken:
    return ReceiverToken("rcv-" + uuid.uuid4().hex)


def new_search_token() -> SearchToken:
    return SearchToken("srch-" + uuid.uuid4().hex)
