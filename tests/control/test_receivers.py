from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.control import checks
from nvr.control.state import ControlSettings
from nvr.model.errors import BadConfiguration, CannotDelete, LimitReached, UnknownToken
from nvr.model.receiver import (
    ReceiverConfiguration,
    ReceiverMode,
    ReceiverState,
    StreamSetup,
    StreamType,
    TransportProtocol,
)
from nvr.model.tokens import ReceiverToken
from nvr.storage.changes import StoredConfiguration
from tests.support.configuration import a_job, a_receiver, a_recording
from tests.support.control import Controlled, FakeStore

URI = "rtsp://admin:s%20cret@camera.example:8554/live?channel=1"
UNCHECKED: Any = str
"""A value from outside that is no member of its enumeration."""
NOSUCH = ReceiverToken("nosuch")


def configured(uri: str = URI, mode: ReceiverMode = ReceiverMode.AUTO_CONNECT) -> ReceiverConfiguration:
    return ReceiverConfiguration(mode, uri, StreamSetup(protocol=TransportProtocol.RTSP))


@pytest.mark.requirement("RX-10.5.1-03", "RX-10.5.2-04", "RX-10.5.3-05")
async def test_a_receiver_comes_back_as_it_was_created() -> None:
    c = Controlled()
    created = [await c.receivers.create(configured(mode=mode)) for mode in list(ReceiverMode)[:3]]
    assert [r.configuration for r in created] == [configured(mode=mode) for mode in list(ReceiverMode)[:3]]
    assert len({r.token for r in created}) == 3
    assert not any(r.auto_created for r in created)
    assert c.receivers.receivers() == tuple(created) == c.engine.receivers
    assert [c.receivers.receiver(r.token) for r in created] == created


SETUP = StreamSetup(protocol=TransportProtocol.RTSP)
BAD = [
    (configured("camera.example/live"), "MediaUri: does not begin with rtsp"),
    (configured("http://camera.example/"), "MediaUri: does not begin with rtsp"),
    (configured("rtsp:///live"), "MediaUri: names no host"),
    (configured("rtsp://user:pw@/live"), "MediaUri: names no host"),
    (configured("rtsp://camera:99999/"), "MediaUri: its host or port"),
    (configured("rtsp://camera:0/"), "MediaUri: port 0"),
    (configured("rtsp://[::1/"), "MediaUri: its host or port"),
    (configured("rtsp://camera/a b"), "MediaUri: holds white space"),
    (configured("rtsp://camera/\x7f"), "MediaUri: holds white space or a control"),
    (configured("rtsp://camera/\r\nDESCRIBE"), "MediaUri: holds white space or a control"),
    (configured("rtsp://camera/" + "é" * 506), "MediaUri: is longer than 1024 octets"),
    (replace(configured(), mode=ReceiverMode.UNKNOWN), "Mode: a receiver is never set to Unknown"),
    (replace(configured(), mode=UNCHECKED("autoconnect")), "Mode: 'autoconnect' is none of AutoConnect"),
    (replace(configured(), stream_setup=replace(SETUP, stream=StreamType.RTP_MULTICAST)), "StreamSetup/Stream"),
    (replace(configured(), stream_setup=replace(SETUP, protocol=TransportProtocol.TCP)), "StreamSetup/Transport"),
    (
        replace(configured(), stream_setup=replace(SETUP, protocol=UNCHECKED("QUIC"))),
        "'QUIC' is none of UDP, TCP, RTSP, HTTP",
    ),
]


@pytest.mark.parametrize(("configuration", "message"), BAD)
@pytest.mark.requirement("RX-10.4-04", "RX-10.5.3-03", "RX-10.5.3-06", "RX-10.5.5-04")
async def test_a_bad_configuration_is_refused_with_its_field_and_changes_nothing(
    configuration: ReceiverConfiguration, message: str
) -> None:
    c = Controlled()
    receiver = await c.receivers.create(configured())
    before = c.everything()
    with pytest.raises(BadConfiguration, match=message) as caught:
        await c.receivers.create(configuration)
    assert "pw" not in str(caught.value)
    with pytest.raises(BadConfiguration, match=message):
        await c.receivers.configure(receiver.token, configuration)
    assert c.everything() == before


async def test_http_is_a_scheme_of_the_media_uri_where_the_transport_is_http() -> None:
    c = Controlled()
    tunnelled = replace(configured("https://camera/live"), stream_setup=replace(SETUP, protocol=TransportProtocol.HTTP))
    assert (await c.receivers.create(tunnelled)).configuration == tunnelled
    assert (await c.receivers.create(replace(tunnelled, media_uri="rtsp://camera/live"))).token


@given(st.text() | st.from_regex(r"rtsps?://[^/]*/.*"))
def test_any_text_is_accepted_or_refused_as_a_bad_configuration(uri: str) -> None:
    with contextlib.suppress(BadConfiguration):
        checks.media_uri(uri, 128)
        assert uri.lower().startswith(("rtsp://", "rtsps://"))
        assert len(uri.encode()) <= 128


@pytest.mark.requirement("RX-10.1-04")
async def test_the_length_of_a_media_uri_is_counted_in_octets() -> None:
    for octets in (128, 1024):
        c = Controlled(settings=ControlSettings(uri_octets=octets))
        longest = "rtsp://camera.example/" + "x" * (octets - 22)
        assert (await c.receivers.create(configured(longest))).configuration.media_uri == longest
        with pytest.raises(BadConfiguration, match="longer"):
            await c.receivers.create(configured(longest + "x"))


@pytest.mark.requirement("RX-10.5.5-05", "RX-10.5.6-04")
async def test_configuring_replaces_everything_and_setting_the_mode_only_the_mode() -> None:
    c = Controlled()
    receiver = await c.receivers.create(configured())
    other = configured("rtsps://[2001:db8::1]/x", ReceiverMode.NEVER_CONNECT)
    await c.receivers.configure(receiver.token, other)
    assert c.receivers.receiver(receiver.token) == replace(receiver, configuration=other)
    await c.receivers.set_mode(receiver.token, ReceiverMode.ALWAYS_CONNECT)
    expected = replace(receiver, configuration=replace(other, mode=ReceiverMode.ALWAYS_CONNECT))
    assert c.receivers.receiver(receiver.token) == expected
    assert c.engine.receivers == (expected,)
    before = c.everything()
    await c.receivers.set_mode(receiver.token, ReceiverMode.ALWAYS_CONNECT)  # as it is: nothing to write
    assert c.everything() == before
    for bad in (ReceiverMode.UNKNOWN, "Sometimes"):
        with pytest.raises(BadConfiguration, match="Mode"):
            await c.receivers.set_mode(receiver.token, bad)  # type: ignore[arg-type]
    assert c.everything() == before


async def test_a_receiver_may_be_left_unconfigured_but_is_not_created_so() -> None:
    c = Controlled()
    with pytest.raises(BadConfiguration, match="MediaUri: is empty"):
        await c.receivers.create(configured(""))
    receiver = await c.receivers.create(configured())
    await c.receivers.configure(receiver.token, configured(""))
    assert c.receivers.receiver(receiver.token).configuration.media_uri == ""


@pytest.mark.requirement("RX-10.5.3-04", "RX-10.6-09")
async def test_one_receiver_more_than_the_limit_is_refused_and_auto_created_ones_count() -> None:
    stored = StoredConfiguration(receivers=(a_receiver("rcv-1", "", auto_created=True),))
    c = Controlled(FakeStore(stored), settings=ControlSettings(receivers=2))
    await c.receivers.create(configured())
    before = c.everything()
    with pytest.raises(LimitReached) as caught:
        await c.receivers.create(configured())
    assert (caught.value.kind, caught.value.limit) == ("Receiver", 2)
    assert c.everything() == before


@pytest.mark.requirement("RX-10.5.2-03", "RX-10.5.4-03", "RX-10.5.5-03", "RX-10.5.6-03", "RX-10.5.7-03")
async def test_an_unknown_receiver_is_refused_everywhere() -> None:
    c = Controlled()
    before = c.everything()
    for call in (
        c.receivers.delete(NOSUCH),
        c.receivers.configure(NOSUCH, configured("bad")),
        c.receivers.set_mode(NOSUCH, ReceiverMode.NEVER_CONNECT),
    ):
        with pytest.raises(UnknownToken) as caught:
            await call
        assert caught.value.kind == "Receiver"
    with pytest.raises(UnknownToken):
        c.receivers.receiver(NOSUCH)
    with pytest.raises(UnknownToken):
        c.receivers.state(NOSUCH)
    assert c.everything() == before


@pytest.mark.requirement("RX-10.5.4-04", "RX-10.5.4-06")
async def test_a_receiver_to_which_a_job_refers_is_not_deleted() -> None:
    stored = StoredConfiguration((a_recording(),), (a_job(),), (a_receiver("rcv-1"), a_receiver("rcv-2")))
    c = Controlled(FakeStore(stored))
    before = c.everything()
    with pytest.raises(CannotDelete, match="recording job job-1 refers to it") as caught:
        await c.receivers.delete(ReceiverToken("rcv-1"))
    assert caught.value.kind == "Receiver"
    assert c.everything() == before
    await c.receivers.delete(ReceiverToken("rcv-2"))
    await c.control.delete_job(stored.jobs[0].token)
    await c.receivers.delete(ReceiverToken("rcv-1"))
    assert c.receivers.receivers() == ()
    assert c.engine.receivers == ()


async def test_the_state_is_that_of_the_engine() -> None:
    c = Controlled()
    receiver = await c.receivers.create(configured())
    assert c.receivers.state(receiver.token) is ReceiverState.NOT_CONNECTED
    c.engine.receiver_states[receiver.token] = ReceiverState.CONNECTING
    assert c.receivers.state(receiver.token) is ReceiverState.CONNECTING
