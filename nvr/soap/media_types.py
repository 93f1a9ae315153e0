"""Types of the media service (media.wsdl), and those of the common schema that only it uses.

Members that the daemon never sends and whose types are large (PTZ, analytics, imaging) are not declared.
"""

from __future__ import annotations

from nvr.soap.device_network_types import IPAddress
from nvr.soap.model import (
    NAME,
    AnyURI,
    Boolean,
    Duration,
    Float,
    Int,
    Open,
    ReferenceToken,
    String,
    Struct,
    attribute,
    optional,
    required,
    words,
)
from nvr.soap.names import TRT, TT

# trt:Capabilities


class ProfileCapabilities(Struct):
    __namespace__ = TRT
    __open__ = True

    MaximumNumberOfProfiles = attribute(Int)


class StreamingCapabilities(Struct):
    __namespace__ = TRT
    __open__ = True

    RTPMulticast = attribute(Boolean)
    RTP_TCP = attribute(Boolean)
    RTP_RTSP_TCP = attribute(Boolean)
    NonAggregateControl = attribute(Boolean)
    NoRTSPStreaming = attribute(Boolean)


class Capabilities(Struct):
    __namespace__ = TRT
    __open__ = True

    ProfileCapabilities = required(ProfileCapabilities)
    StreamingCapabilities = required(StreamingCapabilities)
    SnapshotUri = attribute(Boolean)
    Rotation = attribute(Boolean)
    VideoSourceMode = attribute(Boolean)
    OSD = attribute(Boolean)
    TemporaryOSDText = attribute(Boolean)
    EXICompression = attribute(Boolean)


# Sources


class VideoResolution(Struct):
    __namespace__ = TT
    __open__ = False

    Width = required(Int)
    Height = required(Int)


class DeviceEntity(Struct):
    __namespace__ = TT

    token = attribute(ReferenceToken, use="required")


class VideoSource(DeviceEntity):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Framerate = required(Float)
    Resolution = required(VideoResolution)


# Configurations


class ConfigurationEntity(Struct):
    __namespace__ = TT

    Name = required(NAME)
    UseCount = required(Int)
    token = attribute(ReferenceToken, use="required")


class IntRectangle(Struct):
    __namespace__ = TT
    __open__ = False

    x = attribute(Int, use="required")
    y = attribute(Int, use="required")
    width = attribute(Int, use="required")
    height = attribute(Int, use="required")


class VideoSourceConfiguration(ConfigurationEntity):
    __namespace__ = TT

    SourceToken = required(ReferenceToken)
    Bounds = required(IntRectangle)
    ViewMode = attribute(String)


class VideoRateControl(Struct):
    __namespace__ = TT
    __open__ = False

    FrameRateLimit = required(Int)
    EncodingInterval = required(Int)
    BitrateLimit = required(Int)


class Mpeg4Configuration(Struct):
    __namespace__ = TT
    __open__ = False

    GovLength = required(Int)
    Mpeg4Profile = required(words(("SP", "ASP"), "Mpeg4Profile"))


class H264Configuration(Struct):
    __namespace__ = TT
    __open__ = False

    GovLength = required(Int)
    H264Profile = required(words(("Baseline", "Main", "Extended", "High"), "H264Profile"))


class MulticastConfiguration(Struct):
    __namespace__ = TT

    Address = required(IPAddress)
    Port = required(Int)
    TTL = required(Int)
    AutoStart = required(Boolean)


class VideoEncoderConfiguration(ConfigurationEntity):
    __namespace__ = TT

    Encoding = required(words(("JPEG", "MPEG4", "H264"), "VideoEncoding"))
    Resolution = required(VideoResolution)
    Quality = required(Float)
    RateControl = optional(VideoRateControl)
    MPEG4 = optional(Mpeg4Configuration)
    H264 = optional(H264Configuration)
    Multicast = required(MulticastConfiguration)
    SessionTimeout = required(Duration)
    GuaranteedFrameRate = attribute(Boolean)


class Profile(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Name = required(NAME)
    VideoSourceConfiguration = optional(VideoSourceConfiguration)
    VideoEncoderConfiguration = optional(VideoEncoderConfiguration)
    token = attribute(ReferenceToken, use="required")
    fixed = attribute(Boolean)


class MediaUri(Struct):
    __namespace__ = TT

    Uri = required(AnyURI)
    InvalidAfterConnect = required(Boolean)
    InvalidAfterReboot = required(Boolean)
    Timeout = required(Duration)
