"""The receiver service on the wire."""

from __future__ import annotations

import pytest

from nvr.model.receiver import ReceiverState
from nvr.model.tokens import ReceiverToken
from tests.soap.conftest import LIMITS
from tests.support.soap_house import (
    SoapHouse,
    create_job,
    job_of,
    receiver_of,
    receiver_request,
    receiver_xml,
    recording_of,
    source_token,
    tokens,
)


def create_receiver(configuration: str) -> str:
    return f"<trv:CreateReceiver>{configuration}</trv:CreateReceiver>"


@pytest.mark.requirement("RX-10.5.3-05", "RX-10.5.1-03", "RX-10.5.2-04", "RX-10.5.7-04", "RX-10.5.7-05")
@pytest.mark.parametrize(
    ("mode", "protocol"), [("AutoConnect", "RTSP"), ("AlwaysConnect", "UDP"), ("NeverConnect", "RTSP")]
)
async def test_a_receiver_is_answered_as_it_was_configured(house: SoapHouse, mode: str, protocol: str) -> None:
    uri = "rtsp://user:p%40ss@[fe80::1%25eth0]:554/a?b=c&amp;d=%C3%A9"
    made = await house.send(create_receiver(receiver_xml(uri, mode, protocol=protocol)))
    token = made.text("trv:Receiver/tt:Token")
    assert len(token) <= 64
    read = await house.send(receiver_request("GetReceiver", token))
    listed = await house.send("<trv:GetReceivers/>")
    for reply, at in ((made, "trv:Receiver"), (read, "trv:Receiver"), (listed, "trv:Receivers")):
        assert reply.text(f"{at}/tt:Token") == token
        assert reply.text(f"{at}/tt:Configuration/tt:Mode") == mode
        assert reply.text(f"{at}/tt:Configuration/tt:MediaUri") == uri.replace("&amp;", "&")
        assert reply.text(f"{at}/tt:Configuration/tt:StreamSetup/tt:Stream") == "RTP-Unicast"
        assert reply.text(f"{at}/tt:Configuration/tt:StreamSetup/tt:Transport/tt:Protocol") == protocol
    state = await house.send(receiver_request("GetReceiverState", token))
    assert state.text("trv:ReceiverState/tt:State") == "NotConnected"
    assert state.text("trv:ReceiverState/tt:AutoCreated") == "false"


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("rtsp://user:p%40ss@camera.example:554/a?b=secret", "rtsp://camera.example:554/a"),
        ("rtsp://user@[fe80::1]/a", "rtsp://[fe80::1]/a"),
        ("rtsp://camera.example/a", "rtsp://camera.example/a"),
    ],
)
async def test_a_cameras_credentials_are_told_to_those_only_who_may_set_them(
    house: SoapHouse, uri: str, public: str
) -> None:
    token = (await house.send(create_receiver(receiver_xml(uri)))).text("trv:Receiver/tt:Token")
    for role, told in (("administrator", uri), ("operator", uri), ("user", public)):
        read = await house.send(receiver_request("GetReceiver", token), role)
        assert read.text("trv:Receiver/tt:Configuration/tt:MediaUri") == told
        listed = await house.send("<trv:GetReceivers/>", role)
        assert listed.text("trv:Receivers/tt:Configuration/tt:MediaUri") == told


@pytest.mark.requirement("RX-10.5.1-03")
async def test_a_device_without_receivers_lists_none(house: SoapHouse) -> None:
    assert await tokens(house, "receivers") == []


BAD = [
    pytest.param(receiver_xml(mode="Foo"), id="unknown mode"),
    pytest.param(receiver_xml(mode="Unknown"), id="the mode Unknown"),
    pytest.param(receiver_xml("camera.example/live"), id="no scheme"),
    pytest.param(receiver_xml("http://camera.example/live"), id="another scheme"),
    pytest.param(receiver_xml("rtsp://"), id="no host"),
    pytest.param(receiver_xml("rtsp://user:pa%ss@camera.example/"), id="a bare percent sign"),
    pytest.param(receiver_xml("rtsp://camera.example:99999/live"), id="a port that is none"),
    pytest.param(receiver_xml("rtsp://camera.example/" + "a" * LIMITS.uri_octets), id="a URI that is too long"),
    pytest.param(receiver_xml(stream="RTP-Multicast"), id="multicast"),
    pytest.param(receiver_xml(stream="Foo"), id="unknown stream"),
    pytest.param(receiver_xml(protocol="TCP"), id="the deprecated protocol"),
    pytest.param(receiver_xml(protocol="Foo"), id="unknown protocol"),
]


@pytest.mark.requirement("RX-10.5.3-03", "RX-10.5.3-06", "RX-10.4-04")
@pytest.mark.parametrize("configuration", BAD)
async def test_an_invalid_configuration_creates_nothing(house: SoapHouse, configuration: str) -> None:
    reply = await house.send(create_receiver(configuration))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert await tokens(house, "receivers") == []


@pytest.mark.requirement("RX-10.5.5-04")
@pytest.mark.parametrize("configuration", BAD)
async def test_an_invalid_configuration_changes_nothing(house: SoapHouse, configuration: str) -> None:
    token = await receiver_of(house)
    before = await house.send("<trv:GetReceivers/>")
    reply = await house.send(receiver_request("ConfigureReceiver", token, configuration))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert (await house.send("<trv:GetReceivers/>")).xml == before.xml


async def test_a_refused_uri_is_not_repeated_in_the_fault(house: SoapHouse) -> None:
    reply = await house.send(create_receiver(receiver_xml("http://user:secret@camera.example/")))
    assert reply.fault == "Sender/InvalidArgVal/BadConfiguration"
    assert b"secret" not in reply.xml


@pytest.mark.requirement("RX-10.5.3-04", "RX-10.6-07", "RX-10.6-09", "RX-10.5.1-03")
async def test_one_receiver_above_the_announced_maximum_is_refused(house: SoapHouse) -> None:
    capabilities = (await house.send("<trv:GetServiceCapabilities/>")).all("trv:Capabilities")[0]
    assert capabilities.attrib["SupportedReceivers"] == "4"
    job = await house.send(create_job(await recording_of(house)))
    made = [job.text("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token")]
    made += [await receiver_of(house) for _ in range(3)]
    reply = await house.send(create_receiver(receiver_xml()))
    assert (reply.status, reply.fault) == (500, "Receiver/Action/MaxReceivers")
    assert sorted(await tokens(house, "receivers")) == sorted(made), "the one that was made for the job among them"


@pytest.mark.requirement("RX-10.6-08", "RX-10.1-04")
async def test_a_uri_of_the_announced_length_is_accepted(house: SoapHouse) -> None:
    capabilities = (await house.send("<trv:GetServiceCapabilities/>")).all("trv:Capabilities")[0]
    octets = int(capabilities.attrib["MaximumRTSPURILength"])
    assert octets >= 128
    longest = "rtsp://camera.example/".ljust(octets, "a")
    assert (await house.send(create_receiver(receiver_xml(longest)))).text(
        "trv:Receiver/tt:Configuration/tt:MediaUri"
    ) == longest
    longer = await house.send(create_receiver(receiver_xml(longest + "a")))
    assert (longer.status, longer.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert len(await tokens(house, "receivers")) == 1


@pytest.mark.requirement("RX-10.5.6-04")
async def test_setting_the_mode_changes_nothing_else(house: SoapHouse) -> None:
    token = await receiver_of(house)
    before = await house.send("<trv:GetReceivers/>")
    done = await house.send(receiver_request("SetReceiverMode", token, "<trv:Mode>NeverConnect</trv:Mode>"))
    assert (done.name, len(done.element)) == ("SetReceiverModeResponse", 0)
    after = await house.send("<trv:GetReceivers/>")
    assert after.xml == before.xml.replace(b"<tt:Mode>AutoConnect<", b"<tt:Mode>NeverConnect<")


@pytest.mark.parametrize("mode", ["Foo", "Unknown", ""])
async def test_a_mode_that_is_none_is_refused(house: SoapHouse, mode: str) -> None:
    token = await receiver_of(house)
    before = await house.send("<trv:GetReceivers/>")
    reply = await house.send(receiver_request("SetReceiverMode", token, f"<trv:Mode>{mode}</trv:Mode>"))
    assert reply.status == 400
    assert (reply.fault or "").startswith("Sender/InvalidArgVal")
    assert (await house.send("<trv:GetReceivers/>")).xml == before.xml


async def test_a_receiver_is_configured_anew_and_keeps_its_token(house: SoapHouse) -> None:
    token = await receiver_of(house)
    done = await house.send(
        receiver_request("ConfigureReceiver", token, receiver_xml("rtsps://other.example/x", "AlwaysConnect"))
    )
    assert (done.name, len(done.element)) == ("ConfigureReceiverResponse", 0)
    read = await house.send(receiver_request("GetReceiver", token))
    assert read.text("trv:Receiver/tt:Configuration/tt:MediaUri") == "rtsps://other.example/x"
    assert read.text("trv:Receiver/tt:Configuration/tt:Mode") == "AlwaysConnect"


@pytest.mark.requirement("RX-10.5.4-04", "RX-10.5.4-06")
async def test_a_receiver_of_a_job_cannot_be_deleted(house: SoapHouse) -> None:
    token = await receiver_of(house)
    await job_of(house, await recording_of(house), source_token(token))
    reply = await house.send(receiver_request("DeleteReceiver", token))
    assert (reply.status, reply.fault) == (500, "Receiver/Action/CannotDeleteReceiver")
    assert await tokens(house, "receivers") == [token]


@pytest.mark.requirement("RX-10.5.4-05")
async def test_a_deleted_receiver_is_unknown(house: SoapHouse) -> None:
    token = await receiver_of(house)
    done = await house.send(receiver_request("DeleteReceiver", token))
    assert (done.name, len(done.element)) == ("DeleteReceiverResponse", 0)
    assert (await house.send(receiver_request("GetReceiver", token))).fault == "Sender/InvalidArgVal/UnknownToken"


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        pytest.param("GetReceiver", "", marks=pytest.mark.requirement("RX-10.5.2-03")),
        pytest.param("DeleteReceiver", "", marks=pytest.mark.requirement("RX-10.5.4-03")),
        pytest.param("ConfigureReceiver", receiver_xml(), marks=pytest.mark.requirement("RX-10.5.5-03")),
        pytest.param(
            "SetReceiverMode", "<trv:Mode>AutoConnect</trv:Mode>", marks=pytest.mark.requirement("RX-10.5.6-03")
        ),
        pytest.param("GetReceiverState", "", marks=pytest.mark.requirement("RX-10.5.7-03")),
    ],
)
async def test_an_unknown_token_is_told_so(house: SoapHouse, operation: str, more: str) -> None:
    await receiver_of(house)
    before = await house.send("<trv:GetReceivers/>")
    reply = await house.send(receiver_request(operation, "nosuch", more))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/UnknownToken")
    assert (await house.send("<trv:GetReceivers/>")).xml == before.xml


@pytest.mark.requirement("RX-10.5.7-04")
@pytest.mark.parametrize("state", [ReceiverState.NOT_CONNECTED, ReceiverState.CONNECTING, ReceiverState.CONNECTED])
async def test_the_state_is_that_of_the_connection(house: SoapHouse, state: ReceiverState) -> None:
    job = await house.send(create_job(await recording_of(house)))
    token = job.text("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token")
    house.engine.receiver_states[ReceiverToken(token)] = state
    reply = await house.send(receiver_request("GetReceiverState", token))
    assert reply.text("trv:ReceiverState/tt:State") == state
    assert reply.text("trv:ReceiverState/tt:AutoCreated") == "true"


@pytest.mark.requirement("RX-10.6-03", "RX-10.6-04", "RX-10.6-05", "RX-10.6-06")
async def test_capabilities_are_static_and_do_not_promise_what_is_refused(house: SoapHouse) -> None:
    before = await house.send("<trv:GetServiceCapabilities/>")
    await receiver_of(house)
    assert (await house.send("<trv:GetServiceCapabilities/>")).xml == before.xml
    attributes = before.all("trv:Capabilities")[0].attrib
    for attribute, setup in {
        "RTP_Multicast": receiver_xml(stream="RTP-Multicast"),
        "RTP_TCP": receiver_xml(protocol="TCP"),
        "RTP_RTSP_TCP": receiver_xml(protocol="RTSP"),
    }.items():
        accepted = (await house.send(create_receiver(setup))).fault is None
        assert attributes[attribute] == ("true" if accepted else "false")
