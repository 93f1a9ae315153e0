"""What is refused, with which status, and that a refusal disturbs nothing; the states of a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.rtsp.headers import Headers
from nvr.model.tokens import AUDIO001, VIDEO001, RecordingToken
from nvr.replay.requests import play_request
from nvr.replay.states import TRANSITIONS, SessionState
from nvr.replay.status import RequestRefused
from tests.replay.conftest import PATH, TCP, Serve, sound, worked_example

STATELESS = [
    ("DESCRIBE", "/replay/rec-unknown", {}, 404),
    ("DESCRIBE", "/replay/rec-empty", {}, 404),
    ("DESCRIBE", "/", {}, 404),
    ("DESCRIBE", "/elsewhere/rec-1", {}, 404),
    ("DESCRIBE", f"{PATH}/VIDEO001/more", {}, 404),
    ("DESCRIBE", "ftp://127.0.0.1/replay/rec-1", {}, 400),
    ("DESCRIBE", PATH, {"Accept": "text/html"}, 406),
    ("ANNOUNCE", PATH, {}, 405),
    ("RECORD", PATH, {}, 405),
    ("BREW", PATH, {}, 501),
    ("SETUP", f"{PATH}/VIDEO009", {"Transport": TCP}, 404),
    ("SETUP", PATH, {"Transport": TCP}, 459),
    ("SETUP", f"{PATH}/VIDEO001", {}, 461),
    ("SETUP", f"{PATH}/VIDEO001", {"Transport": "RTP/SAVP;unicast;client_port=5000-5001"}, 461),
    ("SETUP", f"{PATH}/VIDEO001", {"Transport": "RTP/AVP;unicast"}, 461),
    ("SETUP", f"{PATH}/VIDEO001", {"Transport": "RTP/AVP/TCP;multicast"}, 461),
    ("SETUP", f"{PATH}/VIDEO001", {"Transport": "RTP/AVP/TCP;interleaved=900-901"}, 400),
    ("SETUP", f"{PATH}/VIDEO001", {"Transport": TCP, "Session": "nobody"}, 454),
    ("SETUP", f"{PATH}/VIDEO001", {"Transport": TCP, "Require": "onvif-replay, x-unknown"}, 551),
    ("PLAY", PATH, {}, 454),
    ("PLAY", PATH, {"Session": "nobody"}, 454),
    ("PLAY", PATH, {"Session": ""}, 454),
    ("PAUSE", PATH, {}, 454),
    ("TEARDOWN", PATH, {}, 454),
    ("GET_PARAMETER", PATH, {"Session": "nobody"}, 454),
]


@pytest.mark.requirement("PB-8.1-08", "PB-8.1-11", "PB-8.2-08", "PB-8.4-02", "PB-8.5.1-12")
@pytest.mark.parametrize(("method", "uri", "headers", "status"), STATELESS)
async def test_a_refusal_has_its_status_and_the_connection_lives(
    serve: Serve, method: str, uri: str, headers: dict[str, str], status: int
) -> None:
    served = await serve({VIDEO001: worked_example(), AUDIO001: sound()})
    served.add({}, RecordingToken("rec-empty"))
    client = await served.client()
    answer = await client.request(method, uri, **headers)
    assert answer.status == status
    if status == 551:
        assert answer["Unsupported"] == "x-unknown"
    if status == 405:
        assert "PLAY" in answer["Allow"]
    assert (await client.request("OPTIONS", "*")).status == 200


PLAY_REFUSALS = [
    ({"Range": "clock=20260101T095959Z-", "Scale": "-1.0"}, 457),
    ({"Range": "clock=20260101T100050Z-20260101T100010Z", "Scale": "-1.0"}, 457),
    ({"Range": "clock=-20260102T000000Z", "Scale": "-1.0"}, 457),
    ({"Range": "npt=5-10", "Scale": "-1.0"}, 457),
    ({"Range": "npt=10-5"}, 457),
    ({"Scale": "2.0", "Rate-Control": "no"}, 451),
    ({"Scale": "-0.5", "Rate-Control": "no"}, 451),
    ({"Speed": "0"}, 400),
    ({"Speed": "-1"}, 400),
    ({"Scale": "fast"}, 400),
    ({"Scale": "0"}, 400),
    ({"Rate-Control": "perhaps"}, 400),
    ({"Immediate": "perhaps"}, 400),
    ({"Frames": "foo"}, 400),
    ({"Frames": "all/4000"}, 400),
    ({"Frames": "predicted/1000"}, 400),
    ({"Range": "clock=20260230T100000Z-"}, 457),
    ({"Range": "clock=garbage"}, 457),
    ({"Range": "smpte=0:10:20-"}, 457),
    ({"Range": "clock=20260101T100010Z-20260101T100000Z"}, 457),
    ({"Range": "clock=20260101T100000Z-20260101T100000Z"}, 457),
    ({"Range": "clock=20260101T100000Z-20260101T100010Z", "Scale": "-1"}, 457),
    ({"Range": "clock=20270101T100000Z-"}, 457),
    ({"Range": "clock=19990101T100000Z-20000101T100000Z"}, 457),
    ({"Range": "npt=100000-"}, 457),
    ({"Require": "x-unknown"}, 551),
]


@pytest.mark.requirement("PB-8.1-11", "PB-8.5.2-08", "PB-8.5.3-01")
@pytest.mark.requirement("PB-8.5.2-03", "PB-8.5.2-09", "PB-8.5.2-10", "PB-8.5.2-11", "PB-8.5.4-05", "PB-8.5.4-08")
@pytest.mark.parametrize(("headers", "status"), PLAY_REFUSALS)
async def test_a_play_that_cannot_be_done_is_refused_and_disturbs_nothing(
    serve: Serve, headers: dict[str, str], status: int
) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await client.set_up(PATH, VIDEO001)
    assert (await client.request("PLAY", PATH, **headers)).status == status
    assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
    assert (await client.packets(16))[-1].flags == "ET"


class TestStates:
    def test_the_table_of_transitions_is_closed(self) -> None:
        states = set(SessionState)
        assert {s for s, _ in TRANSITIONS} == states
        assert set(TRANSITIONS.values()) <= states

    @pytest.mark.requirement("PB-8.1-11")
    async def test_setup_while_playing_is_not_valid(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example(), AUDIO001: sound()})).client()
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH)
        assert (await client.request("SETUP", f"{PATH}/{AUDIO001}", Transport="RTP/AVP/TCP")).status == 455

    @pytest.mark.requirement("PB-8.5.1-12")
    async def test_pause_before_play_has_no_effect(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PAUSE", PATH)).status == 200

    @pytest.mark.requirement("PB-8.1-10")
    async def test_control_of_one_stream_of_several_is_refused(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example(), AUDIO001: sound()})).client()
        await client.set_up(PATH, VIDEO001, AUDIO001)
        assert (await client.request("PLAY", f"{PATH}/{VIDEO001}")).status == 460
        assert (await client.request("PLAY", PATH)).status == 200

    async def test_a_session_belongs_to_its_recording(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()})
        served.add({VIDEO001: worked_example()}, RecordingToken("rec-2"))
        client = await served.client()
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PLAY", "/replay/rec-2")).status == 454
        answer = await client.request("SETUP", f"/replay/rec-2/{VIDEO001}", Transport="RTP/AVP/TCP")
        assert answer.status == 459

    async def test_a_session_is_of_no_use_on_another_connection(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()})
        owner, thief = await served.client(), await served.client()
        await owner.set_up(PATH, VIDEO001)
        thief.session = owner.session
        assert (await thief.request("TEARDOWN", PATH)).status == 454
        assert (await owner.request("PLAY", PATH)).status == 200


@given(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60),
    st.sampled_from(["Range", "Scale", "Rate-Control", "Frames", "Immediate"]),
)
def test_whatever_a_play_says_it_is_understood_or_refused(value: str, name: str) -> None:
    try:
        understood = play_request(Headers([(name, value)]))
    except RequestRefused as e:
        status = e.status
    else:
        status = 200 if understood.scale else 0
    assert status in (200, 400, 457)
