"""What the domain holds survives the wire: written, accepted by the official schema, read back equal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from nvr.auth.access import Caller, Role
from nvr.media.codecs import depacketizer_for
from nvr.model.errors import FormatError
from nvr.model.job import (
    PROFILE_TYPE,
    RECEIVER_TYPE,
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
    SourceReference,
)
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverMode, StreamSetup, StreamType, TransportProtocol
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackToken
from nvr.soap import receiver as receiver_wire
from nvr.soap import recordings_wire, types
from nvr.soap.model import Struct, many
from nvr.soap.names import TRC, TRV
from nvr.soap.protocol import serialize
from nvr.soap.reader import read
from nvr.soap.recording import ENCODINGS
from nvr.soap.values import any_uri
from tests.support.official_schema import ENV, validate_response

CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], include_characters="\t\n\r").filter(
    lambda c: c not in "\ufffe\uffff"
)
TEXT = st.text(CHARACTERS, max_size=40)
NAME = st.text(CHARACTERS, max_size=64)
URI_CHARACTERS = st.characters(codec="utf-8", categories=["L", "N"], include_characters=":/?@&;=.-_~'\"<>|{}+,")


def taken(text: str) -> bool:
    """Whether the wire lets the text in: nothing else is ever stored."""
    try:
        return bool(any_uri().parse(text) == text)
    except FormatError:
        return False


URI = (
    st.from_regex(r"(rtsp|http|urn)://?[a-z]{1,9}/?", fullmatch=True)
    .flatmap(lambda head: st.text(URI_CHARACTERS, max_size=40).map(lambda tail: head + tail + "%C3%A9"))
    .filter(taken)
)
TOKEN = st.text(CHARACTERS, min_size=1, max_size=64)
LONGEST_NS = (1 << 63) - 1

SOURCES = st.builds(RecordingSourceInformation, URI, NAME, TEXT, TEXT, URI)
RECORDINGS = st.builds(
    RecordingConfiguration, source=SOURCES, content=TEXT, maximum_retention_ns=st.integers(0, LONGEST_NS)
)
LINES = st.lists(st.builds(RecordingJobTrack, TEXT, TOKEN.map(TrackToken)), max_size=3).map(tuple)
JOBS = st.builds(
    RecordingJobConfiguration,
    recording=TOKEN.map(RecordingToken),
    mode=st.sampled_from(RecordingJobMode),
    priority=st.integers(0, (1 << 31) - 1),
    sources=st.lists(
        st.builds(
            lambda reference, lines: RecordingJobSource(reference, lines, implied_tracks=not lines),
            st.builds(SourceReference, TOKEN, st.sampled_from([RECEIVER_TYPE, PROFILE_TYPE])),
            LINES,
        ),
        max_size=3,
    ).map(tuple),
    schedule_token=st.none() | URI,
)
RECEIVERS = st.builds(
    ReceiverConfiguration,
    mode=st.sampled_from(ReceiverMode),
    media_uri=URI,
    stream_setup=st.builds(StreamSetup, st.sampled_from(StreamType), st.sampled_from(TransportProtocol)),
)


class GetRecordingsResponse(Struct):
    __namespace__ = TRC

    RecordingItem = many(types.GetRecordingsResponseItem)


class GetRecordingJobsResponse(Struct):
    __namespace__ = TRC

    JobItem = many(types.GetRecordingJobsResponseItem)


class GetReceiversResponse(Struct):
    __namespace__ = TRV

    Receivers = many(types.Receiver)


def over_the_wire(message: Struct) -> Any:
    """The message written, held against the official schema, and read again."""
    namespace, name = message.get_namespace(), type(message).__name__
    xml = b"".join(asyncio.run(serialize(message, f"{{{namespace}}}{name}")))
    validate_response(xml)
    return read(type(message), etree.fromstring(xml).find(f"{ENV}Body")[0])


@settings(max_examples=60, deadline=None)
@given(RECORDINGS)
def test_a_recording_configuration_survives(configuration: RecordingConfiguration) -> None:
    recording = Recording(RecordingToken("rec-1"), configuration, default_tracks())
    message = GetRecordingsResponse(RecordingItem=[recordings_wire.encode_recording(recording)])
    (item,) = over_the_wire(message).RecordingItem
    assert recordings_wire.decode_recording_configuration(item.Configuration) == configuration
    assert [t.TrackToken for t in item.Tracks.Track] == [t.token for t in recording.tracks]


@settings(max_examples=60, deadline=None)
@given(JOBS)
def test_a_job_configuration_survives(configuration: RecordingJobConfiguration) -> None:
    job = RecordingJob(JobToken("job-1"), configuration)
    (item,) = over_the_wire(GetRecordingJobsResponse(JobItem=[recordings_wire.encode_job(job)])).JobItem
    assert recordings_wire.decode_job_configuration(item.JobConfiguration) == configuration


@settings(max_examples=60, deadline=None)
@given(RECEIVERS)
def test_a_receiver_configuration_survives(configuration: ReceiverConfiguration) -> None:
    receiver = Receiver(ReceiverToken("rcv-1"), configuration)
    wire = receiver_wire.encode_receiver(receiver, Caller("admin", Role.ADMINISTRATOR))
    (item,) = over_the_wire(GetReceiversResponse(Receivers=[wire])).Receivers
    assert receiver_wire.decode_configuration(item.Configuration) == configuration


@pytest.mark.parametrize("text", ["50% off", "rtsp://user:pa%ss@camera.example/", "a#b#c", "http://[::1"])
def test_a_uri_that_would_spoil_every_later_answer_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(FormatError) as refused:
        any_uri().parse(text)
    assert text not in str(refused.value)


@pytest.mark.parametrize("text", ["", "urn:x:1", "Camera 7", "rtsp://user:p%25@camera.example:554/a?b=c&d", "köln/süd"])
def test_what_the_schema_takes_for_a_uri_is_taken(text: str) -> None:
    assert any_uri().parse(f" {text}\n") == text


RTP_NAMES = {
    "MPEG4": ["MP4V-ES"],
    "AAC": ["MPEG4-GENERIC"],
    "G711": ["PCMU", "PCMA"],
    "G726": ["G726-16", "G726-24", "G726-32", "G726-40", "AAL2-G726-16", "AAL2-G726-32"],
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_announced_encoding_has_a_depacketizer(encoding: str) -> None:
    rates = {"AAC": 48000, "G711": 8000, "G726": 8000, "opus": 48000, "L16": 16000}
    aac = {"mode": "AAC-hbr", "config": "1190", "sizelength": "13", "indexlength": "3", "indexdeltalength": "3"}
    for name in RTP_NAMES.get(encoding, [encoding]):
        assert depacketizer_for(name, rates.get(encoding, 90000), 1, aac if encoding == "AAC" else {})
