"""The media service: a profile for each receiver that may connect, told as far as it is known; where to watch it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlState
from nvr.ingest.live import LiveOffer
from nvr.media.codecs.av1 import Av1Configuration
from nvr.media.codecs.g711 import PcmuConfiguration
from nvr.media.codecs.h264 import H264Configuration
from nvr.media.codecs.jpeg import JpegConfiguration
from nvr.media.codecs.mpeg4 import Mpeg4Configuration
from nvr.media.unit import CodecConfiguration
from nvr.model.job import PROFILE_TYPE, RECEIVER_TYPE
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken
from nvr.soap.media import MediaService
from nvr.soap.receiver import ReceiverService
from nvr.soap.recording import RecordingService
from nvr.soap.rtsp_address import RtspAddress
from tests.soap.conftest import LIMITS
from tests.support.camera import PPS, SPS
from tests.support.control import FakeEngine, FakeStore
from tests.support.device import a_device_service
from tests.support.soap_house import (
    NAMESPACES,
    SoapHouse,
    ToldFootage,
    create_job,
    create_recording,
    receiver_of,
    receiver_request,
    receiver_xml,
    recording_request,
    source_token,
    source_xml,
    stream_setup_xml,
)

H264 = H264Configuration((SPS,), (PPS,))
"""640 x 480."""
MPEG4 = bytes.fromhex("000001b001000001b58913000001000000012000c48d8800cd05040c1443")
AV1 = bytes.fromhex("00000003b4fdf12be401")
CONFIGURATION = "<trt:ConfigurationToken>{}</trt:ConfigurationToken>"


class Offers:
    """What receivers send, as a test says."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[LiveOffer, ...]] = {}

    def __call__(self, token: ReceiverToken) -> tuple[LiveOffer, ...]:
        return self.known.get(token, ())

    def video(self, token: str, configuration: CodecConfiguration | None = H264, rate: float | None = 25.0) -> None:
        self.known[token] = (LiveOffer(0, TrackType.VIDEO, configuration, rate),)


@pytest.fixture
def offers() -> Offers:
    return Offers()


@pytest_asyncio.fixture
async def media(offers: Offers) -> AsyncIterator[SoapHouse]:
    state = await ControlState.load(FakeStore(), FakeEngine(), LIMITS)
    control, receivers = RecordingControl(state, ToldFootage()), Receivers(state)
    control.start()
    services = [
        RecordingService(control, LIMITS),
        ReceiverService(receivers, LIMITS),
        MediaService(receivers, control, offers, LIMITS, RtspAddress(8554, 8322), 60 * NS),
    ]
    house = SoapHouse([a_device_service(services), *services])
    yield house
    await control.stop()


def stream_uri(profile: str, stream: str = "RTP-Unicast", protocol: str = "RTSP") -> str:
    return (
        f"<trt:GetStreamUri>{stream_setup_xml(stream, protocol, 'trt')}"
        f"<trt:ProfileToken>{profile}</trt:ProfileToken></trt:GetStreamUri>"
    )


def profile_request(token: str) -> str:
    return f"<trt:GetProfile><trt:ProfileToken>{token}</trt:ProfileToken></trt:GetProfile>"


async def test_a_device_without_receivers_has_no_profile(media: SoapHouse) -> None:
    for request in ("GetProfiles", "GetVideoSources", "GetVideoSourceConfigurations", "GetVideoEncoderConfigurations"):
        assert len((await media.send(f"<trt:{request}/>", "user")).element) == 0


async def test_a_profile_tells_what_the_camera_sends(media: SoapHouse, offers: Offers) -> None:
    token = await receiver_of(media)
    offers.video(token)
    reply = await media.send("<trt:GetProfiles/>", "user")
    (profile,) = reply.all("trt:Profiles")
    assert (profile.get("token"), profile.get("fixed")) == (token, "true")
    assert reply.text("trt:Profiles/tt:VideoSourceConfiguration/tt:SourceToken") == token
    bounds = reply.all("trt:Profiles/tt:VideoSourceConfiguration/tt:Bounds")[0]
    assert dict(bounds.attrib) == {"x": "0", "y": "0", "width": str(H264.width), "height": str(H264.height)}
    encoder = "trt:Profiles/tt:VideoEncoderConfiguration"
    assert reply.text(f"{encoder}/tt:Encoding") == "H264"
    assert reply.text(f"{encoder}/tt:Resolution/tt:Width") == str(H264.width)
    single = await media.send(profile_request(token))
    assert single.text("trt:Profile/tt:Name") == reply.text("trt:Profiles/tt:Name")
    sources = await media.send("<trt:GetVideoSources/>")
    assert sources.all("trt:VideoSources")[0].get("token") == token
    assert float(sources.text("trt:VideoSources/tt:Framerate")) == 25
    assert sources.text("trt:VideoSources/tt:Resolution/tt:Height") == str(H264.height)


async def test_an_encoder_is_named_in_the_words_of_the_schema(media: SoapHouse, offers: Offers) -> None:
    token = await receiver_of(media)
    named = []
    for configuration in (JpegConfiguration(2560, 1920), Mpeg4Configuration(MPEG4), Av1Configuration(AV1)):
        offers.video(token, configuration)
        reply = await media.send("<trt:GetProfiles/>", "user")
        encoders = reply.all("trt:Profiles/tt:VideoEncoderConfiguration")
        named.append(reply.text("trt:Profiles/tt:VideoEncoderConfiguration/tt:Encoding") if encoders else None)
        width = reply.all("trt:Profiles/tt:VideoSourceConfiguration/tt:Bounds")[0].get("width")
        assert width == str(configuration.width)
    assert named == ["JPEG", "MPEG4", None]


async def test_a_receiver_that_has_never_been_connected_is_a_channel_of_unknown_size(media: SoapHouse) -> None:
    token = await receiver_of(media)
    reply = await media.send("<trt:GetVideoSources/>")
    assert reply.texts("trt:VideoSources/tt:Resolution/tt:Width") == ["0"]
    profiles = await media.send("<trt:GetProfiles/>")
    assert profiles.all("trt:Profiles/tt:VideoEncoderConfiguration") == []
    assert profiles.text("trt:Profiles/tt:VideoSourceConfiguration/tt:SourceToken") == token


async def test_sound_alone_is_no_video_source_and_an_encoding_without_a_word_has_no_encoder(
    media: SoapHouse, offers: Offers
) -> None:
    sound, newer = await receiver_of(media), await receiver_of(media)
    offers.known[sound] = (LiveOffer(0, TrackType.AUDIO, PcmuConfiguration()),)
    offers.video(newer, None, None)
    assert (await media.send("<trt:GetVideoSources/>")).all("trt:VideoSources")[0].get("token") == newer
    assert len((await media.send("<trt:GetVideoSources/>")).element) == 1
    assert len((await media.send("<trt:GetProfiles/>")).element) == 2
    assert len((await media.send("<trt:GetVideoEncoderConfigurations/>")).element) == 0
    for token, request in ((sound, "GetVideoSourceConfiguration"), (newer, "GetVideoEncoderConfiguration")):
        missing = await media.send(f"<trt:{request}>{CONFIGURATION.format(token)}</trt:{request}>")
        assert (missing.status, missing.fault) == (400, "Sender/InvalidArgVal/NoConfig")


async def test_configurations_are_told_one_by_one_as_in_the_lists(media: SoapHouse, offers: Offers) -> None:
    token = await receiver_of(media)
    offers.video(token)
    for name in ("GetVideoSourceConfiguration", "GetVideoEncoderConfiguration"):
        listed = (await media.send(f"<trt:{name}s/>")).all("trt:Configurations")
        single = (await media.send(f"<trt:{name}>{CONFIGURATION.format(token)}</trt:{name}>")).all("trt:Configuration")
        assert [e.text for e in listed[0].iter()] == [e.text for e in single[0].iter()]
        unknown = await media.send(f"<trt:{name}>{CONFIGURATION.format('rcv-x')}</trt:{name}>")
        assert unknown.fault == "Sender/InvalidArgVal/NoConfig"


async def test_receivers_that_never_connect_or_have_no_uri_are_no_channels(media: SoapHouse) -> None:
    for xml in (receiver_xml(""), receiver_xml(mode="NeverConnect")):
        await media.send(f"<trv:CreateReceiver>{xml}</trv:CreateReceiver>")
    assert len((await media.send("<trt:GetProfiles/>")).element) == 0
    assert len((await media.send("<trt:GetVideoSources/>")).element) == 0


async def test_a_profile_is_named_after_the_recording_that_its_receiver_feeds(media: SoapHouse) -> None:
    token = await receiver_of(media)
    assert (await media.send("<trt:GetProfiles/>")).text("trt:Profiles/tt:Name") == token
    recording = (await media.send(create_recording(source_xml(name="North gate")))).text("trc:RecordingToken")
    await media.send(create_job(recording, source_token(token)))
    assert (await media.send("<trt:GetProfiles/>")).text("trt:Profiles/tt:Name") == "North gate"


async def test_the_stream_uri_is_that_of_the_live_relay_at_the_host_that_the_client_knows(media: SoapHouse) -> None:
    token = await receiver_of(media)
    reply = await media.send(stream_uri(token), "user", host="nvr.example:8080")
    assert reply.text("trt:MediaUri/tt:Uri") == f"rtsp://nvr.example:8554/live/{token}"
    assert reply.texts("trt:MediaUri/tt:InvalidAfterConnect") == ["false"]
    assert reply.text("trt:MediaUri/tt:Timeout") == "PT0S"
    secure = await media.send(stream_uri(token), host="nvr.example:8443", scheme="https")
    assert secure.text("trt:MediaUri/tt:Uri") == f"rtsps://nvr.example:8322/live/{token}"
    for protocol, base in (("UDP", "rtsp://nvr.example:8554"), ("HTTP", "http://nvr.example:8080")):
        told = await media.send(stream_uri(token, protocol=protocol), host="nvr.example:8080")
        assert told.text("trt:MediaUri/tt:Uri") == f"{base}/live/{token}"


@pytest.mark.parametrize(("stream", "protocol"), [("RTP-Multicast", "RTSP"), ("RTP-Unicast", "TCP")])
async def test_a_transport_that_is_not_served_is_refused(media: SoapHouse, stream: str, protocol: str) -> None:
    reply = await media.send(stream_uri(await receiver_of(media), stream, protocol))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidStreamSetup")


async def test_unknown_and_deleted_profiles_are_refused(media: SoapHouse) -> None:
    token = await receiver_of(media)
    await media.send(receiver_request("DeleteReceiver", token))
    for request in (profile_request(token), profile_request("rcv-x"), stream_uri(token)):
        reply = await media.send(request)
        assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/NoProfile")


async def test_what_only_a_camera_can_do_is_not_supported(media: SoapHouse) -> None:
    token = await receiver_of(media)
    for body in (
        f"<trt:GetSnapshotUri><trt:ProfileToken>{token}</trt:ProfileToken></trt:GetSnapshotUri>",
        "<trt:GetAudioSources/>",
        f"<trt:DeleteProfile><trt:ProfileToken>{token}</trt:ProfileToken></trt:DeleteProfile>",
    ):
        assert (await media.send(body)).fault == "Receiver/ActionNotSupported"


@pytest.mark.requirement("CO-25")
async def test_both_ways_to_ask_for_services_name_it(media: SoapHouse) -> None:
    services = await media.send(
        "<tds:GetServices><tds:IncludeCapability>true</tds:IncludeCapability></tds:GetServices>"
    )
    assert "http://recorder.example:8080/onvif/media_service" in services.texts("tds:Service/tds:XAddr")
    for category, device in (("Media", 0), ("All", 1)):
        told = await media.send(f"<tds:GetCapabilities><tds:Category>{category}</tds:Category></tds:GetCapabilities>")
        assert told.text("tds:Capabilities/tt:Media/tt:XAddr") == "http://recorder.example:8080/onvif/media_service"
        assert told.text("tds:Capabilities/tt:Media/tt:StreamingCapabilities/tt:RTP_RTSP_TCP") == "true"
        assert len(told.all("tds:Capabilities/tt:Device")) == device
    only = await media.send("<tds:GetCapabilities><tds:Category>Device</tds:Category></tds:GetCapabilities>")
    assert only.all("tds:Capabilities/tt:Media") == []


@pytest.mark.parametrize("own", [False, True])
async def test_zeep_clients_from_the_official_and_from_our_wsdl_read_it(
    media: SoapHouse, offers: Offers, own: bool
) -> None:
    token = await receiver_of(media)
    offers.video(token)
    client = media.zeep("media", "user", own=own)
    (profile,) = await client.GetProfiles()
    assert (profile.token, profile.VideoEncoderConfiguration.Encoding) == (token, "H264")
    assert (await client.GetProfile(ProfileToken=token)).Name == profile.Name
    (source,) = await client.GetVideoSources()
    assert (source.Resolution.Width, source.Framerate) == (H264.width, 25.0)
    assert (await client.GetVideoSourceConfigurations())[0].SourceToken == token
    assert (await client.GetVideoEncoderConfigurations())[0].SessionTimeout.total_seconds() == 60
    assert (await client.GetServiceCapabilities()).StreamingCapabilities.RTP_RTSP_TCP is True
    setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
    assert (await client.GetStreamUri(StreamSetup=setup, ProfileToken=token)).Uri.endswith(f"/live/{token}")


async def test_nobody_but_users_reads_it(media: SoapHouse) -> None:
    assert (await media.send("<trt:GetProfiles/>", None)).status == 401
    assert (await media.send("<trt:GetServiceCapabilities/>", None)).status == 200


# Profiles as sources of recording jobs


@pytest.mark.requirement("RC-5.3.3-14", "RC-5.20-07")
async def test_a_job_takes_the_tokens_of_receivers_and_those_of_the_profiles_that_are_announced(
    media: SoapHouse,
) -> None:
    services = await media.send(
        "<tds:GetServices><tds:IncludeCapability>false</tds:IncludeCapability></tds:GetServices>"
    )
    assert {NAMESPACES["trt"], NAMESPACES["trv"]} <= set(services.texts("tds:Service/tds:Namespace"))
    recording = (await media.send(create_recording())).text("trc:RecordingToken")
    shown, hidden = await receiver_of(media), await receiver_of(media)
    never = f"<trv:ReceiverToken>{hidden}</trv:ReceiverToken><trv:Mode>NeverConnect</trv:Mode>"
    await media.send(f"<trv:SetReceiverMode>{never}</trv:SetReceiverMode>")
    profiles = [p.get("token") for p in (await media.send("<trt:GetProfiles/>")).all("trt:Profiles")]
    options = await media.send(recording_request("GetRecordingOptions", recording))
    compatible = options.all("trc:Options/trc:Job")[0].get("CompatibleSources")
    assert compatible.split() == profiles == [shown]
    by_profile = await media.send(create_job(recording, profile_source(shown)))
    by_receiver = await media.send(create_job(recording, source_token(hidden)))
    assert (by_profile.fault, by_receiver.fault) == (None, None)
    source = "trc:JobConfiguration/tt:Source/tt:SourceToken"
    assert by_profile.text(f"{source}/tt:Token") == shown
    assert by_profile.all(source)[0].get("Type") == RECEIVER_TYPE
    refused = await media.send(create_job(recording, profile_source(hidden)))
    assert refused.fault == "Sender/InvalidArgVal/BadConfiguration"


def profile_source(token: str) -> str:
    return source_token(token).replace("<tt:SourceToken>", f'<tt:SourceToken Type="{PROFILE_TYPE}">')
