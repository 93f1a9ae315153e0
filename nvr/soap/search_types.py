"""Types of the common schema (tt:) that only the search service uses: events, positions, metadata, media attributes."""

from __future__ import annotations

from nvr.model.search import SearchState
from nvr.soap.event_wire import NotificationMessage
from nvr.soap.model import (
    AnyURI,
    Boolean,
    Float,
    Int,
    Open,
    ReferenceToken,
    String,
    StringAttrList,
    Struct,
    UtcTime,
    attribute,
    many,
    optional,
    required,
    words,
)
from nvr.soap.names import TT
from nvr.soap.types import Extension, TrackInformation

# Events


class EventFilter(Struct):
    """wsnt:FilterType with attributes: expressions in any number and order."""

    __namespace__ = TT
    __open__ = True


class FindEventResult(Struct):
    __namespace__ = TT

    RecordingToken = required(ReferenceToken)
    TrackToken = required(ReferenceToken)
    Time = required(UtcTime)
    Event = required(NotificationMessage)
    StartStateEvent = required(Boolean)


class FindEventResultList(Struct):
    __namespace__ = TT
    __open__ = False

    SearchState = required(words(SearchState))
    Result = many(FindEventResult)


# Positions


class Vector2D(Struct):
    __namespace__ = TT
    __open__ = False

    x = attribute(Float, use="required")
    y = attribute(Float, use="required")
    space = attribute(AnyURI)


class Vector1D(Struct):
    __namespace__ = TT
    __open__ = False

    x = attribute(Float, use="required")
    space = attribute(AnyURI)


class PTZVector(Struct):
    __namespace__ = TT
    __open__ = False

    PanTilt = optional(Vector2D)
    Zoom = optional(Vector1D)


class PTZPositionFilter(Struct):
    __namespace__ = TT

    MinPosition = required(PTZVector)
    MaxPosition = required(PTZVector)
    EnterOrExit = required(Boolean)


class FindPTZPositionResult(Struct):
    __namespace__ = TT

    RecordingToken = required(ReferenceToken)
    TrackToken = required(ReferenceToken)
    Time = required(UtcTime)
    Position = required(PTZVector)


class FindPTZPositionResultList(Struct):
    __namespace__ = TT
    __open__ = False

    SearchState = required(words(SearchState))
    Result = many(FindPTZPositionResult)


# Metadata


class MetadataFilter(Struct):
    __namespace__ = TT

    MetadataStreamFilter = required(String)


class FindMetadataResult(Struct):
    __namespace__ = TT

    RecordingToken = required(ReferenceToken)
    TrackToken = required(ReferenceToken)
    Time = required(UtcTime)


class FindMetadataResultList(Struct):
    __namespace__ = TT
    __open__ = False

    SearchState = required(words(SearchState))
    Result = many(FindMetadataResult)


# Media attributes


class VideoAttributes(Struct):
    __namespace__ = TT

    Bitrate = optional(Int)
    Width = required(Int)
    Height = required(Int)
    Encoding = required(String)
    Framerate = required(Float)


class AudioAttributes(Struct):
    __namespace__ = TT

    Bitrate = optional(Int)
    Encoding = required(String)
    Samplerate = required(Int)


class MetadataAttributes(Struct):
    __namespace__ = TT

    CanContainPTZ = required(Boolean)
    CanContainAnalytics = required(Boolean)
    CanContainNotifications = required(Boolean)
    PtzSpaces = attribute(StringAttrList)


class TrackAttributes(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    TrackInformation = required(TrackInformation)
    VideoAttributes = optional(VideoAttributes)
    AudioAttributes = optional(AudioAttributes)
    MetadataAttributes = optional(MetadataAttributes)
    Extension = optional(Extension)


class MediaAttributes(Struct):
    __namespace__ = TT

    RecordingToken = required(ReferenceToken)
    TrackAttributes = many(TrackAttributes)
    From = required(UtcTime)
    Until = required(UtcTime)
