"""Types of the common schema (tt:) that recording control, search, receiver and replay speak.

What the schema leaves open is open here too: a RecordingJobMode is any text to the schema, so the conversion to the
domain refuses unknown words, with the fault that the operation has for them.
"""

from __future__ import annotations

from nvr.model.receiver import ReceiverMode, ReceiverState, StreamType, TransportProtocol
from nvr.model.recording import TrackType
from nvr.model.search import RecordingStatus, SearchState
from nvr.soap.model import (
    NAME,
    AnyURI,
    Boolean,
    Duration,
    Int,
    Open,
    ReferenceToken,
    String,
    Struct,
    UtcTime,
    attribute,
    many,
    optional,
    required,
    words,
)
from nvr.soap.names import TT


class Extension(Struct):
    """Stands for every type of the schema that holds nothing but xs:any."""

    __namespace__ = TT
    __open__ = Open.ELEMENTS


class SourceReference(Struct):
    __namespace__ = TT

    Token = required(ReferenceToken)
    Type = attribute(AnyURI)


# Recordings and tracks


class RecordingSourceInformation(Struct):
    __namespace__ = TT

    SourceId = required(AnyURI)
    Name = required(NAME)
    Location = required(String)
    Description = required(String)
    Address = required(AnyURI)


class RecordingConfiguration(Struct):
    __namespace__ = TT

    Source = required(RecordingSourceInformation)
    Content = required(String)
    MaximumRetentionTime = required(Duration)


class TrackConfiguration(Struct):
    __namespace__ = TT

    TrackType = required(words(TrackType))
    Description = required(String)


class GetTracksResponseItem(Struct):
    __namespace__ = TT

    TrackToken = required(ReferenceToken)
    Configuration = required(TrackConfiguration)


class GetTracksResponseList(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Track = many(GetTracksResponseItem)


class GetRecordingsResponseItem(Struct):
    __namespace__ = TT

    RecordingToken = required(ReferenceToken)
    Configuration = required(RecordingConfiguration)
    Tracks = required(GetTracksResponseList)


# Recording jobs


class RecordingJobTrack(Struct):
    __namespace__ = TT
    __open__ = Open.OWN_ELEMENTS

    SourceTag = required(String)
    Destination = required(ReferenceToken)


class RequestedSource(Struct):
    """tt:SourceReference as a client may write it in a job: with AutoCreateReceiver the Token may be absent (5.3.3)."""

    __namespace__ = TT

    Token = optional(ReferenceToken)
    Type = attribute(AnyURI)


class RecordingJobSource(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    SourceToken = optional(RequestedSource)
    AutoCreateReceiver = optional(Boolean)
    Tracks = many(RecordingJobTrack)
    Extension = optional(Extension)


class EventFilterCondition(Struct):
    """The anonymous type of RecordingEventFilter/Filter."""

    __namespace__ = TT

    Topic = required(String)
    Source = optional(String)


class RecordingEventFilter(Struct):
    __namespace__ = TT

    Filter = many(EventFilterCondition, at_least=1)
    Before = optional(Duration)
    After = optional(Duration)


class RecordingJobConfiguration(Struct):
    __namespace__ = TT

    RecordingToken = required(ReferenceToken)
    Mode = required(String)
    Priority = required(Int)
    Source = many(RecordingJobSource)
    Extension = optional(Extension)
    EventFilter = optional(RecordingEventFilter)
    ScheduleToken = attribute(String)


class GetRecordingJobsResponseItem(Struct):
    __namespace__ = TT

    JobToken = required(ReferenceToken)
    JobConfiguration = required(RecordingJobConfiguration)


class RecordingJobStateTrack(Struct):
    __namespace__ = TT

    SourceTag = required(String)
    Destination = required(ReferenceToken)
    Error = optional(String)
    State = required(String)


class RecordingJobStateTracks(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Track = many(RecordingJobStateTrack)


class RecordingJobStateSource(Struct):
    __namespace__ = TT

    SourceToken = required(SourceReference)
    State = required(String)
    Tracks = required(RecordingJobStateTracks)


class RecordingJobStateInformation(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    RecordingToken = required(ReferenceToken)
    State = required(String)
    Sources = many(RecordingJobStateSource)
    Extension = optional(Extension)


# Receivers and streams


class Tunnel(Struct):
    """Deprecated and unused: whatever it holds is kept and not followed."""

    __namespace__ = TT
    __open__ = Open.ELEMENTS


class Transport(Struct):
    __namespace__ = TT
    __open__ = False

    Protocol = required(words(TransportProtocol))
    Tunnel = optional(Tunnel)


class StreamSetup(Struct):
    __namespace__ = TT

    Stream = required(words(StreamType))
    Transport = required(Transport)


class ReceiverConfiguration(Struct):
    __namespace__ = TT

    Mode = required(words(ReceiverMode))
    MediaUri = required(AnyURI)
    StreamSetup = required(StreamSetup)


class Receiver(Struct):
    __namespace__ = TT

    Token = required(ReferenceToken)
    Configuration = required(ReceiverConfiguration)


class ReceiverStateInformation(Struct):
    __namespace__ = TT

    State = required(words(ReceiverState))
    AutoCreated = required(Boolean)


class ReplayConfiguration(Struct):
    __namespace__ = TT

    SessionTimeout = required(Duration)


# Search


class SearchScope(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    IncludedSources = many(SourceReference)
    IncludedRecordings = many(ReferenceToken)
    RecordingInformationFilter = optional(String)
    Extension = optional(Extension)


class RecordingSummary(Struct):
    __namespace__ = TT

    DataFrom = required(UtcTime)
    DataUntil = required(UtcTime)
    NumberRecordings = required(Int)


class TrackInformation(Struct):
    __namespace__ = TT

    TrackToken = required(ReferenceToken)
    TrackType = required(words(TrackType))
    Description = required(String)
    DataFrom = required(UtcTime)
    DataTo = required(UtcTime)


class RecordingInformation(Struct):
    __namespace__ = TT

    RecordingToken = required(ReferenceToken)
    Source = required(RecordingSourceInformation)
    EarliestRecording = optional(UtcTime)
    LatestRecording = optional(UtcTime)
    Content = required(String)
    Track = many(TrackInformation)
    RecordingStatus = required(words(RecordingStatus))


class FindRecordingResultList(Struct):
    __namespace__ = TT
    __open__ = False

    SearchState = required(words(SearchState))
    RecordingInformation = many(RecordingInformation)
