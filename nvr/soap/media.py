"""The media service, read-only (ONVIF Media): one profile for each receiver, and where it can be watched live.

A channel is a receiver that may connect: it has a MediaUri, and its mode is not NeverConnect. Profile, video source and
configurations of a channel all have the receiver's token. What a channel sends is known as soon as it has been
connected; until then resolutions and frame rates are 0, and no encoder configuration is told. The picture's quality is
the camera's matter and told as 0 always. Encodings that this service has no word for (H.265, AV1) have no encoder
configuration; the stream itself says what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlSettings
from nvr.ingest.live import LiveOffer
from nvr.model.errors import UnknownToken
from nvr.model.job import RECEIVER_TYPE
from nvr.model.receiver import Receiver, TransportProtocol
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken
from nvr.soap import media_types as types
from nvr.soap.device_network_types import IPAddress
from nvr.soap.model import ReferenceToken, many, required
from nvr.soap.names import TRT
from nvr.soap.receiver import decode_stream_setup
from nvr.soap.rtsp_address import RtspAddress
from nvr.soap.service import AccessClass, Call, Result, Service, operation
from nvr.soap.types import StreamSetup

NOT_IMPLEMENTED = frozenset(
    """
    AddAudioDecoderConfiguration AddAudioEncoderConfiguration AddAudioOutputConfiguration AddAudioSourceConfiguration
    AddMetadataConfiguration AddPTZConfiguration AddVideoAnalyticsConfiguration AddVideoEncoderConfiguration
    AddVideoSourceConfiguration CreateOSD CreateProfile DeleteOSD DeleteProfile GetAudioDecoderConfiguration
    GetAudioDecoderConfigurationOptions GetAudioDecoderConfigurations GetAudioEncoderConfiguration
    GetAudioEncoderConfigurationOptions GetAudioEncoderConfigurations GetAudioOutputConfiguration
    GetAudioOutputConfigurationOptions GetAudioOutputConfigurations GetAudioOutputs GetAudioSourceConfiguration
    GetAudioSourceConfigurationOptions GetAudioSourceConfigurations GetAudioSources
    GetCompatibleAudioDecoderConfigurations GetCompatibleAudioEncoderConfigurations
    GetCompatibleAudioOutputConfigurations GetCompatibleAudioSourceConfigurations GetCompatibleMetadataConfigurations
    GetCompatibleVideoAnalyticsConfigurations GetCompatibleVideoEncoderConfigurations
    GetCompatibleVideoSourceConfigurations GetGuaranteedNumberOfVideoEncoderInstances GetMetadataConfiguration
    GetMetadataConfigurationOptions GetMetadataConfigurations GetOSD GetOSDOptions GetOSDs GetSnapshotUri
    GetVideoAnalyticsConfiguration GetVideoAnalyticsConfigurations GetVideoEncoderConfigurationOptions
    GetVideoSourceConfigurationOptions GetVideoSourceModes RemoveAudioDecoderConfiguration
    RemoveAudioEncoderConfiguration RemoveAudioOutputConfiguration RemoveAudioSourceConfiguration
    RemoveMetadataConfiguration RemovePTZConfiguration RemoveVideoAnalyticsConfiguration
    RemoveVideoEncoderConfiguration RemoveVideoSourceConfiguration SetAudioDecoderConfiguration
    SetAudioEncoderConfiguration SetAudioOutputConfiguration SetAudioSourceConfiguration SetMetadataConfiguration
    SetOSD SetSynchronizationPoint SetVideoAnalyticsConfiguration SetVideoEncoderConfiguration
    SetVideoSourceConfiguration SetVideoSourceMode StartMulticastStreaming StopMulticastStreaming
    """.split()  # noqa: SIM905  a list of quoted words would fill a page
)
"""The rest of media.wsdl, edition 26.06."""

MAX_NAME = 64

_WORDS: Final = {"H264": "H264", "JPEG": "JPEG", "MP4V-ES": "MPEG4"}
"""tt:VideoEncoding, by RTP encoding name."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A receiver as this service shows it."""

    token: ReceiverToken
    name: str
    offers: Sequence[LiveOffer]
    """What it sends; empty while that is not known."""

    @property
    def video(self) -> LiveOffer | None:
        return next((o for o in self.offers if o.track_type is TrackType.VIDEO), None)

    @property
    def may_have_video(self) -> bool:
        return not self.offers or self.video is not None

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height in pixels; zeros while they are not known."""
        configuration: Any = None if self.video is None else self.video.configuration
        return getattr(configuration, "width", 0), getattr(configuration, "height", 0)


class MediaService(Service):
    namespace = TRT
    path = "/onvif/media_service"
    contract = "media.wsdl"
    not_implemented = NOT_IMPLEMENTED

    def __init__(
        self,
        receivers: Receivers,
        control: RecordingControl,
        offers: Callable[[ReceiverToken], Sequence[LiveOffer]],
        limits: ControlSettings,
        rtsp: RtspAddress,
        session_timeout_ns: int = 60 * NS,
    ) -> None:
        """`offers` tells what a receiver sends, as far as it is known; the rest is of the RTSP server."""
        self._receivers = receivers
        self._control = control
        self._offers = offers
        self._limits = limits
        self._rtsp = rtsp
        self._session_timeout_ns = session_timeout_ns

    def capabilities(self) -> types.Capabilities:
        """RTP_TCP is RTP on a TCP connection of its own (RFC 4571), which nothing asks for any more."""
        return types.Capabilities(
            ProfileCapabilities=types.ProfileCapabilities(MaximumNumberOfProfiles=self._limits.receivers),
            StreamingCapabilities=types.StreamingCapabilities(
                RTPMulticast=False,
                RTP_TCP=False,
                RTP_RTSP_TCP=TransportProtocol.RTSP in self._rtsp.transports,
                NonAggregateControl=False,
                NoRTSPStreaming=False,
            ),
            SnapshotUri=False,
            Rotation=False,
            VideoSourceMode=False,
            OSD=False,
            TemporaryOSDText=False,
            EXICompression=False,
        )

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(types.Capabilities)})
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation("GetProfiles", AccessClass.READ_MEDIA, response={"Profiles": many(types.Profile)})
    def get_profiles(self, _: Call) -> Result:
        return {"Profiles": (self._profile(c) for c in self._channels())}

    @operation(
        "GetProfile",
        AccessClass.READ_MEDIA,
        request={"ProfileToken": required(ReferenceToken)},
        response={"Profile": required(types.Profile)},
    )
    def get_profile(self, call: Call) -> Result:
        return {"Profile": self._profile(self._channel("Profile", call.request.ProfileToken))}

    @operation("GetVideoSources", AccessClass.READ_MEDIA, response={"VideoSources": many(types.VideoSource)})
    def get_video_sources(self, _: Call) -> Result:
        return {"VideoSources": (_video_source(c) for c in self._channels() if c.may_have_video)}

    @operation(
        "GetVideoSourceConfigurations",
        AccessClass.READ_MEDIA,
        response={"Configurations": many(types.VideoSourceConfiguration)},
    )
    def get_video_source_configurations(self, _: Call) -> Result:
        found = (_source_configuration(c) for c in self._channels())
        return {"Configurations": (c for c in found if c is not None)}

    @operation(
        "GetVideoSourceConfiguration",
        AccessClass.READ_MEDIA,
        request={"ConfigurationToken": required(ReferenceToken)},
        response={"Configuration": required(types.VideoSourceConfiguration)},
    )
    def get_video_source_configuration(self, call: Call) -> Result:
        token = call.request.ConfigurationToken
        configuration = _source_configuration(self._channel("Configuration", token))
        if configuration is None:
            raise UnknownToken("Configuration", token)
        return {"Configuration": configuration}

    @operation(
        "GetVideoEncoderConfigurations",
        AccessClass.READ_MEDIA,
        response={"Configurations": many(types.VideoEncoderConfiguration)},
    )
    def get_video_encoder_configurations(self, _: Call) -> Result:
        found = (self._encoder_configuration(c) for c in self._channels())
        return {"Configurations": (c for c in found if c is not None)}

    @operation(
        "GetVideoEncoderConfiguration",
        AccessClass.READ_MEDIA,
        request={"ConfigurationToken": required(ReferenceToken)},
        response={"Configuration": required(types.VideoEncoderConfiguration)},
    )
    def get_video_encoder_configuration(self, call: Call) -> Result:
        token = call.request.ConfigurationToken
        configuration = self._encoder_configuration(self._channel("Configuration", token))
        if configuration is None:
            raise UnknownToken("Configuration", token)
        return {"Configuration": configuration}

    @operation(
        "GetStreamUri",
        AccessClass.READ_MEDIA,
        request={"StreamSetup": required(StreamSetup), "ProfileToken": required(ReferenceToken)},
        response={"MediaUri": required(types.MediaUri)},
    )
    def get_stream_uri(self, call: Call) -> Result:
        """The URI stays valid for as long as the receiver exists."""
        channel = self._channel("Profile", call.request.ProfileToken)
        setup = decode_stream_setup(call.request.StreamSetup)
        self._rtsp.check(setup)
        uri = types.MediaUri(
            Uri=self._rtsp.uri(call, f"/live/{channel.token}", setup.protocol),
            InvalidAfterConnect=False,
            InvalidAfterReboot=False,
            Timeout=0,
        )
        return {"MediaUri": uri}

    def _channels(self) -> Iterator[Channel]:
        """Drawn while the answer is written, in slices: receivers as they were at its beginning."""
        names = self._names()
        for receiver in self._receivers.receivers():
            if receiver.may_connect:
                yield self._shown(receiver, names)

    def _channel(self, kind: str, token: str) -> Channel:
        """Raises UnknownToken."""
        found = next((r for r in self._receivers.receivers() if r.token == token and r.may_connect), None)
        if found is None:
            raise UnknownToken(kind, token)
        return self._shown(found, self._names())

    def _shown(self, receiver: Receiver, names: Mapping[str, str]) -> Channel:
        name = names.get(receiver.token) or receiver.token
        return Channel(receiver.token, name[:MAX_NAME], self._offers(receiver.token))

    def _names(self) -> dict[str, str]:
        """Receivers have no names: each gets that of the source of the first recording it is mapped to."""
        sources = {r.token: r.configuration.source.name for r in self._control.recordings()}
        names: dict[str, str] = {}
        for job in self._control.jobs():
            for source in job.configuration.sources:
                if source.source is not None and source.source.type == RECEIVER_TYPE:
                    names.setdefault(source.source.token, sources.get(job.configuration.recording, ""))
        return names

    def _profile(self, channel: Channel) -> types.Profile:
        return types.Profile(
            Name=channel.name,
            VideoSourceConfiguration=_source_configuration(channel),
            VideoEncoderConfiguration=self._encoder_configuration(channel),
            token=channel.token,
            fixed=True,
        )

    def _encoder_configuration(self, channel: Channel) -> types.VideoEncoderConfiguration | None:
        """None where the encoding is not known, or is none that this service has a word for."""
        video = channel.video
        name = None if video is None or video.configuration is None else _WORDS.get(video.configuration.encoding)
        if name is None:
            return None
        width, height = channel.resolution
        return types.VideoEncoderConfiguration(
            Name=channel.name,
            UseCount=1,
            token=channel.token,
            Encoding=name,
            Resolution=types.VideoResolution(Width=width, Height=height),
            Quality=0.0,
            Multicast=types.MulticastConfiguration(
                Address=IPAddress(Type="IPv4", IPv4Address="0.0.0.0"),  # noqa: S104  no multicast
                Port=0,
                TTL=0,
                AutoStart=False,
            ),
            SessionTimeout=self._session_timeout_ns,
        )


def _video_source(channel: Channel) -> types.VideoSource:
    width, height = channel.resolution
    rate = channel.video.frame_rate if channel.video is not None else None
    return types.VideoSource(
        token=channel.token,
        Framerate=round(rate or 0.0, 2),
        Resolution=types.VideoResolution(Width=width, Height=height),
    )


def _source_configuration(channel: Channel) -> types.VideoSourceConfiguration | None:
    if not channel.may_have_video:
        return None
    width, height = channel.resolution
    return types.VideoSourceConfiguration(
        Name=channel.name,
        UseCount=1,
        token=channel.token,
        SourceToken=channel.token,
        Bounds=types.IntRectangle(x=0, y=0, width=width, height=height),
    )
