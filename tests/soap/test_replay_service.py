"""The replay control service on the wire: the URI at which a recording is replayed."""

from __future__ import annotations

import pytest

from nvr.model.receiver import TransportProtocol
from nvr.replay.udp import UdpPorts
from nvr.soap.replay import ReplaySettings
from nvr.soap.rtsp_address import TRANSPORTS, RtspAddress
from tests.soap.conftest import LIMITS
from tests.support.soap_house import SoapHouse, get_replay_uri, recording_of, recording_request


async def test_the_uri_names_the_recording_at_the_host_that_the_client_knows(house: SoapHouse) -> None:
    recording = await recording_of(house)
    for host, authority in (
        ("recorder.example:8080", "recorder.example:8554"),
        ("192.0.2.7:80", "192.0.2.7:8554"),
        ("[2001:db8::1]:8080", "[2001:db8::1]:8554"),
    ):
        reply = await house.send(get_replay_uri(recording), user="user", host=host)
        assert reply.text("trp:Uri") == f"rtsp://{authority}/replay/{recording}"
        assert len(reply.element) == 1


@pytest.mark.parametrize(
    ("public", "authority"),
    [
        ("nvr.example.org", "nvr.example.org:8554"),
        ("nvr.example.org:554", "nvr.example.org:554"),
        ("192.0.2.7", "192.0.2.7:8554"),
        ("[2001:db8::1]", "[2001:db8::1]:8554"),
        ("[2001:db8::1]:554", "[2001:db8::1]:554"),
    ],
)
async def test_an_explicit_public_address_wins_over_the_host_of_the_request(public: str, authority: str) -> None:
    house = await SoapHouse.open(LIMITS, rtsp=RtspAddress(8554, public=public))
    recording = await recording_of(house)
    reply = await house.send(get_replay_uri(recording))
    assert reply.text("trp:Uri") == f"rtsp://{authority}/replay/{recording}"
    await house.close()


@pytest.mark.parametrize(
    "public",
    ["", "rtsp://nvr.example.org", "nvr.example.org/x", "2001:db8::1", "host:0", "host:65536", "a b", "user@h"],
)
def test_a_public_address_that_is_none_is_refused_at_start(public: str) -> None:
    with pytest.raises(ValueError, match="public_address"):
        ReplaySettings(public_address=public)
    with pytest.raises(ValueError, match="public_tls_address"):
        ReplaySettings(public_tls_address=public)


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        (RtspAddress(8554, 8322), "rtsps://nvr.example:8322"),
        (RtspAddress(8554), "rtsp://nvr.example:8554"),
        (RtspAddress(8554, 8322, public="door.example"), "rtsps://door.example:8322"),
        (RtspAddress(8554, 8322, public="door.example:554"), "rtsp://door.example:554"),
        (RtspAddress(8554, 8322, "door.example:554", "door.example:322"), "rtsps://door.example:322"),
        (RtspAddress(8554, 8322, public_tls="[2001:db8::1]"), "rtsps://[2001:db8::1]:8322"),
        (RtspAddress(8554, None, public_tls="door.example:322"), "rtsp://nvr.example:8554"),
    ],
)
async def test_a_client_that_came_over_https_gets_rtsps_where_its_address_is_known(
    address: RtspAddress, uri: str
) -> None:
    house = await SoapHouse.open(LIMITS, rtsp=address)
    recording = await recording_of(house)
    reply = await house.send(get_replay_uri(recording), host="nvr.example:8443", scheme="https")
    assert reply.text("trp:Uri") == f"{uri}/replay/{recording}"
    plain = (await house.send(get_replay_uri(recording), host="nvr.example:8080")).text("trp:Uri")
    assert plain.startswith("rtsp://")
    await house.close()


@pytest.mark.parametrize(
    ("protocol", "scheme", "uri"),
    [
        ("UDP", "http", "rtsp://nvr.example:8554"),
        ("RTSP", "http", "rtsp://nvr.example:8554"),
        ("HTTP", "http", "http://nvr.example:8080"),
        ("UDP", "https", "rtsp://nvr.example:8554"),
        ("RTSP", "https", "rtsps://nvr.example:8322"),
        ("HTTP", "https", "https://nvr.example:8080"),
    ],
)
async def test_the_uri_leads_to_where_the_transport_is_spoken(protocol: str, scheme: str, uri: str) -> None:
    house = await SoapHouse.open(LIMITS, rtsp=RtspAddress(8554, 8322))
    recording = await recording_of(house)
    request = get_replay_uri(recording, protocol=protocol)
    reply = await house.send(request, host="nvr.example:8080", scheme=scheme)
    assert reply.text("trp:Uri") == f"{uri}/replay/{recording}"
    await house.close()


async def test_a_transport_that_the_operator_has_switched_off_is_refused() -> None:
    address = RtspAddress(8554, transports=TRANSPORTS - {TransportProtocol.UDP})
    house = await SoapHouse.open(LIMITS, rtsp=address)
    reply = await house.send(get_replay_uri(await recording_of(house), protocol="UDP"))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidStreamSetup")
    await house.close()


@pytest.mark.requirement("RP-7.1-05")
async def test_udp_whose_ports_other_streams_have_taken_is_a_conflict() -> None:
    ports = UdpPorts(maximum_streams=1)
    house = await SoapHouse.open(LIMITS, rtsp=RtspAddress(8554, udp=ports))
    recording = await recording_of(house)
    pair = ports.open("127.0.0.1", "127.0.0.1", (40_000, 40_001))
    reply = await house.send(get_replay_uri(recording, protocol="UDP"))
    assert (reply.status, reply.fault) == (400, "Sender/OperationProhibited/StreamConflict")
    assert (await house.send(get_replay_uri(recording, protocol="RTSP"))).fault is None
    pair.close()
    assert (await house.send(get_replay_uri(recording, protocol="UDP"))).fault is None
    await house.close()


@pytest.mark.requirement("RP-7.1-04", "RP-7.1-10", "RP-7.1-11")
@pytest.mark.parametrize(
    ("stream", "protocol"), [("RTP-Multicast", "UDP"), ("RTP-Multicast", "RTSP"), ("RTP-Unicast", "TCP")]
)
async def test_a_stream_or_transport_that_is_not_served_is_refused(
    house: SoapHouse, stream: str, protocol: str
) -> None:
    reply = await house.send(get_replay_uri(await recording_of(house), stream, protocol))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidStreamSetup")


@pytest.mark.requirement("RP-7.1-08")
async def test_the_setup_is_read_in_order_and_with_its_enumerations(house: SoapHouse) -> None:
    recording = await recording_of(house)
    accepted, stream = get_replay_uri(recording), "<tt:Stream>RTP-Unicast</tt:Stream>"
    for request_ in (accepted, accepted.replace("</tt:Protocol>", "</tt:Protocol><tt:Tunnel/>")):
        assert (await house.send(request_)).fault is None
    for refused in (
        get_replay_uri(recording, stream="Foo"),
        get_replay_uri(recording, protocol="Foo"),
        accepted.replace("<tt:Protocol>RTSP</tt:Protocol>", ""),
        accepted.replace(stream, "").replace("</trp:StreamSetup>", f"{stream}</trp:StreamSetup>"),
    ):
        assert refused != accepted
        assert (await house.send(refused)).fault in ("Sender/InvalidArgs", "Sender/InvalidArgVal")


@pytest.mark.requirement("RP-7.1-06")
async def test_a_recording_that_does_not_exist_has_no_uri(house: SoapHouse) -> None:
    deleted = await recording_of(house)
    await house.send(recording_request("DeleteRecording", deleted))
    for token in ("nosuch", deleted):
        reply = await house.send(get_replay_uri(token))
        assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/NoRecording")


@pytest.mark.requirement("RP-7.5-01")
async def test_capabilities_are_attributes_that_stay_and_promise_nothing_that_is_missing(house: SoapHouse) -> None:
    before = await house.send("<trp:GetServiceCapabilities/>")
    await recording_of(house)
    assert (await house.send("<trp:GetServiceCapabilities/>")).xml == before.xml
    (capabilities,) = before.all("trp:Capabilities")
    assert dict(capabilities.attrib) == {
        "ReversePlayback": "true",
        "SessionTimeoutRange": "10.0 3600.0",
        "RTP_RTSP_TCP": "true",
        "RTSPWebSocketUri": "ws:/websocket",
    }
    assert len(capabilities) == 0


def set_timeout(text: str) -> str:
    return (
        f"<trp:SetReplayConfiguration><trp:Configuration><tt:SessionTimeout>{text}</tt:SessionTimeout>"
        "</trp:Configuration></trp:SetReplayConfiguration>"
    )


@pytest.mark.requirement("RP-7.2-01", "RP-7.3-01", "RP-7.3-05", "RP-7.5-04")
async def test_a_session_timeout_within_the_range_is_kept_and_read_back(house: SoapHouse) -> None:
    (capabilities,) = (await house.send("<trp:GetServiceCapabilities/>")).all("trp:Capabilities")
    low, high = (float(bound) for bound in capabilities.attrib["SessionTimeoutRange"].split())
    assert 0 < low <= 60 <= high
    before = await house.send("<trp:GetReplayConfiguration/>")
    assert before.text("trp:Configuration/tt:SessionTimeout") == "PT1M"
    for text, canonical in (
        (f"PT{low:.0f}S", f"PT{low:.0f}S"),
        (f"PT{high:.0f}S", "PT1H"),
        ("PT1M30.5S", "PT1M30.5S"),
        ("PT60S", "PT1M"),
    ):
        done = await house.send(set_timeout(text))
        assert (done.name, len(done.element)) == ("SetReplayConfigurationResponse", 0)
        read = await house.send("<trp:GetReplayConfiguration/>")
        assert read.text("trp:Configuration/tt:SessionTimeout") == canonical


@pytest.mark.requirement("RP-7.3-02")
@pytest.mark.parametrize("text", ["PT0S", "PT9.999S", "PT3601S", "-PT60S", "P1Y", "soon"])
async def test_another_session_timeout_cannot_be_applied(house: SoapHouse, text: str) -> None:
    before = await house.send("<trp:GetReplayConfiguration/>")
    reply = await house.send(set_timeout(text))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/ConfigModify")
    assert (await house.send("<trp:GetReplayConfiguration/>")).xml == before.xml


async def test_extensions_of_the_replay_configuration_are_refused_as_they_would_not_be_kept(house: SoapHouse) -> None:
    own = "</tt:SessionTimeout><v:Own xmlns:v='urn:vendor'/>"
    reply = await house.send(set_timeout("PT60S").replace("</tt:SessionTimeout>", own))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/ConfigModify")
