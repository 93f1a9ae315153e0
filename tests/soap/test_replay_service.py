"""The replay control service on the wire: the URI at which a recording is replayed."""

from __future__ import annotations

import pytest

from nvr.soap.replay import RtspAddress
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
    ("public", "expected"),
    [
        (None, "rtsp://seen.example:8554/replay/r"),
        ("nvr.example.org", "rtsp://nvr.example.org:8554/replay/r"),
        ("nvr.example.org:554", "rtsp://nvr.example.org:554/replay/r"),
        ("[2001:db8::1]", "rtsp://[2001:db8::1]:8554/replay/r"),
        ("[2001:db8::1]:554", "rtsp://[2001:db8::1]:554/replay/r"),
    ],
)
def test_an_explicit_public_address_wins_over_the_host_of_the_request(public: str | None, expected: str) -> None:
    assert RtspAddress(8554, public).uri("/replay/r", "seen.example") == expected


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
    accepted = get_replay_uri(recording)
    for request_ in (accepted, accepted.replace("</tt:Protocol>", "</tt:Protocol><tt:Tunnel/>")):
        assert (await house.send(request_)).fault is None
    for refused in (
        get_replay_uri(recording, stream="Foo"),
        get_replay_uri(recording, protocol="Foo"),
        accepted.replace("<tt:Protocol>RTSP</tt:Protocol>", ""),
    ):
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
    assert dict(capabilities.attrib) == {"ReversePlayback": "false", "RTP_RTSP_TCP": "true"}
    assert len(capabilities) == 0
