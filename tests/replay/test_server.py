"""Requests, answers and refusals; authentication; limits; ends. Over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.auth.access import Role, Verdict
from nvr.auth.digest import Algorithm, ha1, response_hex
from nvr.auth.lockout import Lockout, LockoutSettings
from nvr.media.rtsp.headers import Headers
from nvr.model.errors import OperatorError
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, VIDEO001, RecordingToken
from nvr.replay.authentication import DigestAuthenticator
from nvr.replay.connection import Connection
from nvr.replay.mounts import Mounts
from nvr.replay.requests import play_request
from nvr.replay.server import RtspServer, RtspSettings
from nvr.replay.states import TRANSITIONS, SessionState
from nvr.replay.status import RequestRefused
from tests.replay.conftest import PATH, TEN, Serve, worked_example
from tests.support.replay_store import ManualClock, MemoryTrack, PlainAudio
from tests.support.rtsp_client import Packet, until

TCP = "RTP/AVP/TCP;unicast;interleaved=0-1"


def sound() -> MemoryTrack:
    return MemoryTrack(PlainAudio()).starting_at(TEN).with_gop(["a0", "a1"]).with_end()


class TestAnswers:
    @pytest.mark.requirement("PB-8.1-07", "PB-8.1-12")
    async def test_options_lists_all_methods_and_needs_no_credentials(self, serve: Serve) -> None:
        client = await (await serve({}, authenticator=DigestAuthenticator(Accounts(), "nvr"))).client()
        answer = await client.request("OPTIONS", "*")
        assert answer.status == 200
        methods = {m.strip() for m in answer["Public"].split(",")}
        assert methods >= {"OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER"}

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
        assert "a=range:clock=20260101T100000Z-20260101T100106Z" in lines
        assert "a=sendonly" not in lines
        controls = [line.partition(":")[2] for line in lines if line.startswith("a=control:")]
        assert controls[0] == "*"
        for i, control in enumerate(controls[1:]):
            uri = answer["Content-Base"] + control
            got = await client.request("SETUP", uri, Transport=f"RTP/AVP/TCP;unicast;interleaved={2 * i}-{2 * i + 1}")
            assert got.status == 200
            client.session = got["Session"].partition(";")[0]
        assert (await client.request("PLAY", answer["Content-Base"])).status == 200

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

    @pytest.mark.requirement("PB-8.1-03", "PB-8.5.1-14", "PB-8.5.1-16", "PB-8.7-02", "PB-8.5.1-18", "PB-8.4-01")
    async def test_setup_and_play_answer_completely(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example(), AUDIO001: sound()})).client()
        setup = await client.set_up(PATH, VIDEO001, AUDIO001, Require="onvif-replay")
        assert re.fullmatch(r"RTP/AVP/TCP;unicast;interleaved=2-3;ssrc=[0-9A-F]{8}", setup["Transport"])
        assert setup["Session"] == f"{client.session};timeout=60"
        play = await client.request("PLAY", PATH, Require="onvif-replay", Rate_Control="no")
        assert play["Session"].startswith(client.session or "?")
        assert play["Range"] == "clock=20260101T100000Z-"
        streams = play["RTP-Info"].split(",")
        assert len(streams) == 2
        assert all(re.fullmatch(rf"url={client.base}{PATH}/\w+;seq=\d+;rtptime=\d+", s) for s in streams)
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", play["Date"])
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
            ('RTP/AVP/TCP;unicast;interleaved=0-1;mode="PLAY"', "0-1"),
        ],
    )
    async def test_setup_takes_the_first_transport_it_supports(self, serve: Serve, asked: str, given: str) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        answer = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=asked)
        assert answer.status == 200
        assert f"interleaved={given}" in answer["Transport"]

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

    @pytest.mark.requirement("PB-8.5.1-04")
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


class Accounts:
    """One user of each role, and one whose role is not known any more."""

    roles: ClassVar = {"admin": Role.ADMINISTRATOR, "watcher": Role.USER}

    def ha1(self, name: str, algorithm: Algorithm) -> str | None:
        return ha1(algorithm, name, "nvr", "secret") if name in (*self.roles, "former") else None

    def role(self, name: str | None) -> Role | None:
        return self.roles.get(name or "")


class TestAuthentication:
    @pytest.mark.requirement("PB-8.1-13", "PB-8.1-15")
    @pytest.mark.parametrize(
        ("user", "password", "status"),
        [("watcher", "secret", 200), ("admin", "secret", 200), ("watcher", "wrong", 401), ("nobody", "secret", 401),
         ("former", "secret", 403)],
    )  # fmt: skip
    async def test_streams_need_digest_credentials(self, serve: Serve, user: str, password: str, status: int) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        answer = await client.request("DESCRIBE", PATH)
        assert answer.status == 401
        assert answer["WWW-Authenticate"].startswith('Digest realm="nvr"')
        client.credentials = user, password
        assert (await client.request("DESCRIBE", PATH)).status == status

    async def test_every_method_but_options_is_protected(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        for method in ("DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER"):
            assert (await client.request(method, "/replay/rec-unknown")).status == 401

    async def test_guessing_locks_the_right_password_out_on_rtsp_and_through_the_same_count_elsewhere(
        self, serve: Serve
    ) -> None:
        lockout = Lockout(Accounts.roles.__contains__, LockoutSettings(user_failures=2))
        guard = DigestAuthenticator(Accounts(), "nvr", algorithms=(Algorithm.MD5,), lockout=lockout)
        served = await serve({VIDEO001: worked_example()}, authenticator=guard)
        client = await served.client()
        for _ in range(3):
            client.credentials = "watcher", "wrong"
            assert (await client.request("DESCRIBE", PATH)).status == 401
        client.credentials = "watcher", "secret"
        refused = await client.request("DESCRIBE", PATH)
        assert (refused.status, "stale" in refused["WWW-Authenticate"]) == (401, False)
        assert not lockout.judge(Verdict("watcher"), "192.0.2.1", time.time_ns())
        client.credentials = "admin", "secret"
        assert (await client.request("DESCRIBE", PATH)).status == 200

    async def test_requests_without_credentials_are_no_failures(self, serve: Serve) -> None:
        lockout = Lockout(Accounts.roles.__contains__, LockoutSettings(user_failures=1, address_failures=1))
        guard = DigestAuthenticator(Accounts(), "nvr", lockout=lockout)
        client = await (await serve({VIDEO001: worked_example()}, authenticator=guard)).client()
        for _ in range(5):
            assert (await client.request("DESCRIBE", PATH)).status == 401
        client.credentials = "watcher", "secret"
        assert (await client.request("DESCRIBE", PATH)).status == 200
        assert lockout.failures == 0

    async def test_the_algorithms_of_the_settings_are_offered_in_their_order(self, serve: Serve) -> None:
        guard = DigestAuthenticator(Accounts(), "nvr", algorithms=(Algorithm.SHA_256, Algorithm.MD5))
        client = await (await serve({VIDEO001: worked_example()}, authenticator=guard)).client()
        answer = await client.request("DESCRIBE", PATH)
        offered = [v for n, v in answer.headers if n == "WWW-Authenticate"]
        assert ["algorithm=SHA-256" in v for v in offered] == [True, False]

    async def test_a_whole_session_with_credentials(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        client.credentials = "watcher", "secret"
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        await client.packets(16)

    async def test_a_login_without_qop_that_was_captured_is_of_no_use_on_another_connection(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        owner, thief = await served.client(), await served.client()
        nonce = (await owner.request("DESCRIBE", PATH))["WWW-Authenticate"].partition('nonce="')[2].partition('"')[0]
        digest = response_hex(
            Algorithm.MD5, Accounts().ha1("watcher", Algorithm.MD5) or "", "DESCRIBE", PATH, nonce, None
        )
        login = f'Digest username="watcher", realm="nvr", nonce="{nonce}", uri="{PATH}", response="{digest}"'
        for _ in range(2):
            assert (await owner.request("DESCRIBE", PATH, Authorization=login)).status == 200
        refused = await thief.request("DESCRIBE", PATH, Authorization=login)
        assert (refused.status, "stale=true" in refused["WWW-Authenticate"]) == (401, True)

    @pytest.mark.parametrize("names", [["watcher"], ["somebody", "watcher"]])
    async def test_what_plays_ends_with_the_account_and_what_others_play_goes_on(
        self, serve: Serve, names: list[str]
    ) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        gone, stays = await served.client(), await served.client()
        gone.credentials, stays.credentials = ("watcher", "secret"), ("admin", "secret")
        for client in (gone, stays):
            await client.set_up(PATH, VIDEO001)
        assert (await gone.request("PLAY", PATH)).status == 200
        served.server.end_of(names)
        await until(lambda: served.server.connections == 1)
        assert await gone.at_end()
        assert (await stays.request("PLAY", PATH)).status == 200

    async def test_credentials_stay_out_of_the_log(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", "nvr")
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        client.credentials = "watcher", "wrong"
        await client.request("DESCRIBE", PATH)
        assert "response=" not in caplog.text
        assert "is answered 401" in caplog.text


class TestTime:
    @pytest.mark.requirement("PB-8.7-06")
    async def test_a_silent_client_loses_its_session_and_then_its_connection(self, serve: Serve) -> None:
        clock = ManualClock()
        served = await serve({VIDEO001: worked_example()}, clock=clock)
        client = await served.client()
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        clock.advance(61 * NS)
        await until(lambda: not sum(served.store.subscriptions.values()))
        assert (await client.request("PLAY", PATH)).status == 454
        clock.advance(61 * NS)
        assert await client.at_end()

    @pytest.mark.requirement("RP-7.3-04")
    async def test_the_timeout_of_replay_holds_for_sessions_that_are_set_up_from_then_on(self, serve: Serve) -> None:
        clock, timeout_ns = ManualClock(), [60 * NS]
        served = await serve({VIDEO001: worked_example()}, clock=clock, replay_timeout_ns=lambda: timeout_ns[0])
        before, after = await served.client(), await served.client()
        assert (await before.set_up(PATH, VIDEO001))["Session"].endswith(";timeout=60")
        timeout_ns[0] = 30_500_000_000
        assert (await after.set_up(PATH, VIDEO001))["Session"].endswith(";timeout=30")
        assert (await before.request("GET_PARAMETER", PATH))["Session"].endswith(";timeout=60")
        for client in (before, after):
            await client.request("PLAY", PATH, Rate_Control="no")
        clock.advance(31 * NS)
        await until(lambda: sum(served.store.subscriptions.values()) == 1)
        assert (await after.request("PLAY", PATH)).status == 454
        assert (await before.request("GET_PARAMETER", PATH)).status == 200

    @pytest.mark.requirement("PB-8.7-06")
    async def test_each_session_of_a_connection_has_its_own_timeout(self, serve: Serve) -> None:
        clock, timeout_ns = ManualClock(), [30 * NS]
        served = await serve({VIDEO001: worked_example()}, clock=clock, replay_timeout_ns=lambda: timeout_ns[0])
        client = await served.client()
        sessions = []
        for seconds in (30, 60):
            timeout_ns[0] = seconds * NS
            client.session = None
            await client.set_up(PATH, VIDEO001)
            await client.request("PLAY", PATH, Rate_Control="no")
            sessions.append(client.session)
        clock.advance(31 * NS)
        await until(lambda: sum(served.store.subscriptions.values()) == 1)
        client.session = sessions[0]
        assert (await client.request("PAUSE", PATH)).status == 454
        client.session = sessions[1]
        assert (await client.request("PAUSE", PATH)).status == 200

    @pytest.mark.parametrize("data", ["80c90001 00000007 81cb0001 00000007", "80c90009 00000007", "80000001 00000000"])
    async def test_a_goodbye_and_what_is_no_report_keeps_nothing(self, serve: Serve, data: str) -> None:
        clock = ManualClock()
        served = await serve({VIDEO001: worked_example()}, clock=clock)
        client = await served.client()
        await client.set_up(PATH, VIDEO001)
        clock.advance(40 * NS)
        payload = bytes.fromhex(data)
        client.send(b"$\1" + len(payload).to_bytes(2, "big") + payload + b"RTSP/1.0 200 OK\r\n\r\n")
        for _ in range(20):  # the server reads it; an answer there is none
            await asyncio.sleep(0)
        clock.advance(21 * NS)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (await client.request("PLAY", PATH)).status == 454

    @pytest.mark.requirement("PB-8.7-04", "PB-8.7-05", "PB-8.7-07")
    @pytest.mark.parametrize("sign", ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "PLAY", "PAUSE", "RTCP"])
    async def test_any_request_and_any_receiver_report_keeps_the_session(self, serve: Serve, sign: str) -> None:
        clock = ManualClock()
        client = await (await serve({VIDEO001: worked_example()}, clock=clock)).client()
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        await client.packets(16)
        for _ in range(6):
            clock.advance(40 * NS)
            if sign == "RTCP":
                client.send(bytes.fromhex("24010008 80c90001 00000007"))
                for _ in range(20):  # the server reads it; an answer there is none
                    await asyncio.sleep(0)
            else:
                assert (await client.request(sign, PATH)).status == 200
        assert (await client.request("PAUSE", PATH)).status == 200


class TestHostility:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"\x16\x03\x01\x02\x00", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"OPTIONS " + b"x" * 5000, 414),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: many\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length 5\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 99999999\r\n\r\n", 413),
        ],
    )
    async def test_what_cannot_be_framed_is_answered_and_the_connection_ends(
        self, serve: Serve, data: bytes, status: int
    ) -> None:
        served = await serve({VIDEO001: worked_example()})
        good, bad = await served.client(), await served.client()
        await good.set_up(PATH, VIDEO001)
        bad.send(data)
        answer = await bad.answer()
        assert (answer.status, answer.header("CSeq")) == (status, "1" if b"CSeq: 1" in data else None)
        assert await bad.at_end()
        assert (await good.request("PLAY", PATH, Rate_Control="no")).status == 200
        await good.packets(16)

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"OPTIONS * RTSP/1.0\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: many\r\n\r\n", 400),
            (b"OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n", 505),
            (b"OPTIONS * RTSP/1.0\r\nCSeq 1\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nno header\r\nCSeq: 7\r\n\r\n", 400),
            (b"PAUSE * RTSP/1.0\r\nCSeq: 7\r\nX: " + b"y" * 5000 + b"\r\n\r\n", 413),
            (b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 7\r\nA B: c\r\nContent-Length: 4\r\n\r\n$\0\0\xff", 400),
            (b"DESCRIBE rtsp://h\0/replay/rec-1 RTSP/1.0\r\nCSeq: 7\r\n\r\n", 400),
            (b"PLAY\r\nCSeq: 7\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 7\r\n" + b"X: y\r\n" * 100 + b"\r\n", 413),
        ],
    )
    async def test_a_bad_request_that_can_be_framed_ends_neither_the_connection_nor_its_sessions(
        self, serve: Serve, data: bytes, status: int
    ) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        client.send(data)
        answer = await client.answer()
        assert answer.status == status
        assert answer.header("CSeq") == ("7" if b"CSeq: 7" in data else answer.header("CSeq"))
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        await client.packets(16)

    async def test_frames_and_answers_that_nobody_asked_for_are_passed_over(self, serve: Serve) -> None:
        client = await (await serve({})).client()
        client.send(b"$\x00\x00\x03abcRTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n")
        assert (await client.request("OPTIONS", "*")).status == 200

    async def test_a_connection_that_never_finishes_a_request_ends(self, serve: Serve) -> None:
        clock = ManualClock()
        served = await serve({}, clock=clock)
        client = await served.client()
        client.send(b"OPTIONS * RTSP/1.0\r\nCSeq:")
        await until(lambda: served.server.connections == 1)
        await client.writer.drain()
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(61 * NS)
        assert await client.at_end()

    async def test_too_many_connections_are_turned_away(self, serve: Serve) -> None:
        served = await serve({}, settings=RtspSettings(maximum_connections=2))
        first, second = await served.client(), await served.client()
        await first.request("OPTIONS", "*")
        await second.request("OPTIONS", "*")
        third = await served.client()
        assert (await third.answer()).status == 503
        assert await third.at_end()
        assert served.server.refused_connections == 1
        assert (await first.request("OPTIONS", "*")).status == 200

    async def test_too_many_sessions_are_refused(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, settings=RtspSettings(maximum_sessions=2))
        client = await served.client()
        for status in (200, 200, 503):
            answer = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport="RTP/AVP/TCP")
            assert answer.status == status

    async def test_a_fault_of_the_server_is_answered_500_and_ends_nothing(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        served = await serve({VIDEO001: worked_example()})
        client = await served.client()
        del served.store.tracks[next(iter(served.store.tracks))].fragments_
        assert (await client.request("DESCRIBE", PATH)).status == 500
        assert "DESCRIBE fails" in caplog.text
        assert (await client.request("OPTIONS", "*")).status == 200


class TestBackPressure:
    @pytest.mark.requirement("PB-8.5.3-03", "PB-8.5.3-04", "PB-8.7-01")
    async def test_a_stalled_reader_stops_the_reading_of_footage_and_loses_nothing(self, serve: Serve) -> None:
        track = MemoryTrack().starting_at(TEN)
        for i in range(600):
            track.with_gop([f"I{i}".ljust(100_000, ".")])
        other = worked_example()
        served = await serve({VIDEO001: track.with_end()}, payload=50_000)
        served.add({VIDEO001: other}, RecordingToken("rec-2"))
        stalled = await served.client(1 << 14)
        await stalled.set_up(PATH, VIDEO001)
        await stalled.request("PLAY", PATH, Rate_Control="no")
        reads = -1
        async with asyncio.timeout(10):
            while reads != track.reads:  # until the server has stopped reading ahead
                reads = track.reads
                await asyncio.sleep(0.1)
        assert reads < 300  # kernel buffers, the write buffer and two batches, not 60 MB
        # Others are served meanwhile, and so are requests of the client that does not read.
        free = await served.client()
        await free.set_up("/replay/rec-2", VIDEO001)
        await free.request("PLAY", "/replay/rec-2", Rate_Control="no")
        assert len(await free.packets(12)) == 12
        cseq = stalled.write("GET_PARAMETER", PATH)
        packets: list[Packet] = []
        answered = False
        while len(packets) < 1200 or not answered:
            event = await stalled.event()
            if isinstance(event, Packet):
                packets.append(event)
            else:
                answered = answered or (not isinstance(event, tuple) and event["CSeq"] == str(cseq))
        assert [p.seq for p in packets] == [(packets[0].seq + i) & 0xFFFF for i in range(1200)]

    async def test_a_stalled_reader_can_tear_its_session_down(self, serve: Serve) -> None:
        served = await serve({VIDEO001: big_track()}, payload=50_000)
        client = await served.client(1 << 14)
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        client.write("TEARDOWN", PATH)
        await until(lambda: not sum(served.store.subscriptions.values()))
        assert (await client.answer()).status == 200

    @pytest.mark.requirement("PB-8.7-08")
    async def test_a_lost_connection_frees_everything(self, serve: Serve) -> None:
        served = await serve({VIDEO001: big_track()}, payload=50_000)
        client = await served.client(1 << 14)
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        client.writer.transport.abort()
        await until(lambda: not served.server.connections)
        assert sum(served.store.subscriptions.values()) == 0

    async def test_stop_ends_players_and_stalled_connections_in_time(self, serve: Serve) -> None:
        served = await serve({VIDEO001: big_track()}, payload=50_000)
        stalled, idle = await served.client(1 << 14), await served.client()
        await stalled.set_up(PATH, VIDEO001)
        await stalled.request("PLAY", PATH, Rate_Control="no")
        await idle.request("OPTIONS", "*")
        async with asyncio.timeout(4):
            await served.server.stop()
        assert served.server.connections == 0
        assert await idle.at_end()

    async def test_stop_cuts_off_what_does_not_end(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("nvr.replay.server.STOP_S", 0.05)
        at_end = asyncio.Event()
        running: list[int] = []

        async def stubborn(self: Connection) -> None:
            running.append(1)
            while not at_end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await at_end.wait()

        monkeypatch.setattr(Connection, "run", stubborn)
        served = await serve({})
        client = await served.client()
        client.write("OPTIONS")
        await until(lambda: running == [1])
        async with asyncio.timeout(4):
            await served.server.stop()
        assert await client.at_end()
        assert "1 RTSP connections do not end and are cut off" in caplog.text
        at_end.set()
        await until(lambda: served.server.connections == 0)


def big_track() -> MemoryTrack:
    track = MemoryTrack().starting_at(TEN)
    for i in range(200):
        track.with_gop([f"I{i}".ljust(100_000, ".")])
    return track.with_end()


async def test_a_port_in_use_is_the_operators_to_mend(serve: Serve) -> None:
    served = await serve({})
    with pytest.raises(OperatorError, match="cannot listen"):
        await RtspServer(Mounts()).start("127.0.0.1", served.server.port)


@pytest.mark.parametrize(
    "wrong", [{"session_timeout_ns": 1}, {"maximum_connections": 0}, {"maximum_payload": 10}, {"write_buffer_bytes": 1}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        RtspSettings(**wrong)


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


class TestAudit:
    async def test_one_line_tells_who_begins_to_see_what_from_where(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "nvr.audit")
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        client.credentials = ("watcher", "secret")
        await client.request("DESCRIBE", PATH)
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PLAY", PATH, Range="clock=19990101T000000Z-19990101T000001Z")).status == 457
        assert caplog.messages == []
        for start in ("100101", "100000"):
            wanted = {"Range": f"clock=20260101T{start}Z-", "Rate_Control": "no", "Immediate": "yes"}
            assert (await client.request("PLAY", PATH, **wanted)).status == 200
        await client.request("PAUSE", PATH)
        await client.request("PLAY", PATH)
        (line,) = [r.getMessage() for r in caplog.records if r.name == "nvr.audit"]
        assert line == f"user 'watcher' at 127.0.0.1: PLAY {PATH} (VIDEO001) from 20260101T100100Z"
