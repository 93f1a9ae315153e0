"""Answers of the server over real sockets, and what it cannot be started with."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

import pytest

from nvr.model.errors import OperatorError
from nvr.model.tokens import AUDIO001, VIDEO001
from nvr.replay.authentication import DigestAuthenticator
from nvr.replay.mounts import Mounts
from nvr.replay.server import RtspServer, RtspSettings
from tests.replay.conftest import PATH, TCP, TEN, Accounts, Serve, sound, worked_example
from tests.support.replay_store import MemoryTrack


class TestAnswers:
    @pytest.mark.requirement("PB-8.1-07", "PB-8.1-12")
    async def test_options_lists_all_methods_and_needs_no_credentials(self, serve: Serve) -> None:
        client = await (await serve({}, authenticator=DigestAuthenticator(Accounts(), "nvr"))).client()
        answer = await client.request("OPTIONS", "*")
        assert answer.status == 200
        methods = {m.strip() for m in answer["Public"].split(",")}
        assert methods >= {"OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER"}

    @pytest.mark.requirement("PB-8.1-07")
    @pytest.mark.requirement("PB-8.1-06", "PB-8.2-01", "PB-8.2-03", "PB-8.2-04", "PB-8.2-05", "PB-8.2-06", "PB-8.2-07")
    async def test_describe_shows_each_track_with_footage_once(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example(), AUDIO001: sound()})).client()
        answer = await client.request("DESCRIBE", PATH, Accept="application/sdp", Require="onvif-replay")
        assert answer.status == 200
        assert answer["Content-Type"] == "application/sdp"
        assert int(answer["Content-Length"]) == len(answer.body)
        lines = answer.body.decode().split("\r\n")
        assert [line[0] for line in lines[:5]] == ["v", "o", "s", "c", "t"]
        assert [line for line in lines if line.startswith("a=x-onvif-track:")] == [
            "a=x-onvif-track:VIDEO001",
            "a=x-onvif-track:AUDIO001",
        ]
        assert [line for line in lines if line.startswith("m=")] == ["m=video 0 RTP/AVP 96", "m=audio 0 RTP/AVP 97"]
        for section in answer.body.decode().split("\r\nm=")[1:]:
            assert [section.count(f"\r\na={name}:") for name in ("x-onvif-track", "control")] == [1, 1]
        assert "a=range:clock=20260101T100000Z-20260101T100106Z" in lines
        assert "a=sendonly" not in lines
        controls = [line.partition(":")[2] for line in lines if line.startswith("a=control:")]
        assert controls[0] == "*"
        for i, control in enumerate(controls[1:]):
            uri = answer["Content-Base"] + control
            got = await client.request("SETUP", uri, Transport=f"RTP/AVP/TCP;unicast;interleaved={2 * i}-{2 * i + 1}")
            assert got.status == 200
            client.session = got["Session"].partition(";")[0]
        for method in ("PLAY", "PAUSE", "TEARDOWN"):
            assert (await client.request(method, answer["Content-Base"])).status == 200

    @pytest.mark.requirement("PB-8.2-05")
    async def test_the_range_of_a_recording_in_progress_is_open(self, serve: Serve) -> None:
        track = MemoryTrack().starting_at(TEN).with_gop(["I0"])
        client = await (await serve({VIDEO001: track})).client()
        assert b"a=range:clock=20260101T100000Z-\r\n" in (await client.request("DESCRIBE", PATH)).body

    @pytest.mark.requirement("PB-8.2-10")
    async def test_addresses_in_the_description_are_of_the_family_of_the_connection(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        body = (await client.request("DESCRIBE", PATH)).body.decode()
        assert re.search(r"^o=- \d+ \d+ IN IP4 127\.0\.0\.1\r$", body, re.MULTILINE)
        assert "c=IN IP4 0.0.0.0\r\n" in body

    @pytest.mark.requirement("PB-8.5.1-14", "PB-8.5.1-16", "PB-8.7-02", "PB-8.5.1-18", "PB-8.4-01")
    async def test_setup_and_play_answer_completely(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example(), AUDIO001: sound()})).client()
        setup = await client.set_up(PATH, VIDEO001, AUDIO001, Require="onvif-replay")
        assert re.fullmatch(r"RTP/AVP/TCP;unicast;interleaved=2-3;ssrc=[0-9A-F]{8}", setup["Transport"])
        assert setup["Session"] == f"{client.session};timeout=60"
        play = await client.request("PLAY", PATH, Require="onvif-replay", Rate_Control="no")
        assert play.status == 200
        assert play["Session"].startswith(client.session or "?")
        assert play["Range"] == "clock=20260101T100000Z-"
        streams = play["RTP-Info"].split(",")
        assert len(streams) == 2
        assert all(re.fullmatch(rf"url={client.base}{PATH}/\w+;seq=\d+;rtptime=\d+", s) for s in streams)
        for answer in (setup, play, await client.request("PAUSE", PATH)):
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer["Date"])
            assert abs(parsedate_to_datetime(answer["Date"]).timestamp() - time.time()) < 60
        keep_alive = await client.request("GET_PARAMETER", PATH)
        assert keep_alive["Session"].startswith(client.session or "?")

    @pytest.mark.requirement("PB-8.1-30")
    @pytest.mark.parametrize(
        ("asked", "given"),
        [
            ("RTP/AVP/TCP;unicast", "0-1"),
            ("RTP/AVP/TCP", "0-1"),
            ("RTP/AVP/TCP;unicast;interleaved=6-7", "6-7"),
            ("RTP/AVP/TCP;unicast;interleaved=5", "5-6"),
            ("RTP/SAVP;unicast;client_port=5000-5001,RTP/AVP/TCP;unicast;interleaved=2-3", "2-3"),
            ("RTP/AVP;multicast;port=5000-5001,RTP/AVP/TCP;unicast;interleaved=2-3", "2-3"),
            ("RTP/AVP/TCP;unicast;interleaved=2-3,RTP/AVP;unicast;client_port=5000-5001", "2-3"),
            ('RTP/AVP/TCP;unicast;interleaved=0-1;mode="PLAY"', "0-1"),
        ],
    )
    async def test_setup_takes_the_first_transport_it_supports(self, serve: Serve, asked: str, given: str) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        answer = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=asked)
        assert answer.status == 200
        assert f"interleaved={given}" in answer["Transport"]

    @pytest.mark.requirement("PB-8.5.1-14")
    async def test_channels_that_are_taken_are_replaced_by_free_ones(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example(), AUDIO001: sound()})).client()
        first = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=TCP)
        second = await client.request("SETUP", f"{PATH}/{AUDIO001}", Transport=TCP)
        assert ("interleaved=0-1" in first["Transport"], "interleaved=2-3" in second["Transport"]) == (True, True)
        assert first["Session"] != second["Session"]

    async def test_a_presentation_of_one_stream_may_be_set_up_by_its_own_uri(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        assert (await client.request("SETUP", PATH, Transport=TCP)).status == 200

    @pytest.mark.requirement("PB-8.5.1-13")
    async def test_teardown_ends_delivery_and_the_session(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()})
        client = await served.client()
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH)
        assert (await client.request("TEARDOWN", PATH)).status == 200
        assert (await client.request("PLAY", PATH)).status == 454
        assert sum(served.store.subscriptions.values()) == 0

    @pytest.mark.requirement("PB-8.5.1-04", "PB-8.5.3-06")
    async def test_scale_is_repeated_as_it_is_used(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PLAY", PATH, Scale="2"))["Scale"] == "2.0"
        for asked, used in (("100", "32.0"), ("-4", "-4.0"), ("-1000", "-32.0"), ("-0.1", "-0.25")):
            assert (await client.request("PLAY", PATH, Scale=asked, Immediate="yes"))["Scale"] == used
        answer = await client.request("PLAY", PATH, Range="npt=0-", Speed="2", Immediate="yes")
        assert (answer.header("Scale"), answer["Speed"]) == (None, "2.0")
        answer = await client.request("PLAY", PATH, Rate_Control="no", Speed="2", Immediate="yes")
        assert answer.header("Speed") is None

    async def test_pipelined_requests_are_answered_in_their_order(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        sent = [client.write(m, PATH) for m in ("OPTIONS", "DESCRIBE", "FOO", "OPTIONS", "DESCRIBE")]
        answers = [await client.answer() for _ in sent]
        assert [int(a["CSeq"]) for a in answers] == sent
        assert [a.status for a in answers] == [200, 200, 501, 200, 200]


async def test_a_port_in_use_is_the_operators_to_mend(serve: Serve) -> None:
    served = await serve({})
    with pytest.raises(OperatorError, match="cannot listen"):
        await RtspServer(Mounts()).start("127.0.0.1", served.server.port)


@pytest.mark.parametrize(
    "wrong",
    [
        {"session_timeout_ns": 1},
        {"maximum_connections": 0},
        {"maximum_payload": 10},
        {"write_buffer_bytes": 1},
        {"live_buffer_bytes": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        RtspSettings(**wrong)


@pytest.mark.parametrize("host", ["camera,1.example", "camera;1.example:8554", "a,b;c"])
async def test_a_host_with_separators_is_quoted_in_rtp_info(serve: Serve, host: str) -> None:
    """RFC 3986 allows them there; in RTP-Info they would end the URI."""
    served = await serve({VIDEO001: worked_example()})
    client = await served.client()
    uri = f"rtsp://{host}{PATH}"
    await client.set_up(uri, VIDEO001)
    answer = await client.request("PLAY", uri)
    assert answer.status == 200
    quoted = host.replace(",", "%2C").replace(";", "%3B")
    assert answer["RTP-Info"].startswith(f"url=rtsp://{quoted}{PATH}/VIDEO001;seq=")
    assert len(await client.packets(2)) == 2
