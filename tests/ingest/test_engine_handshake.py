"""From the URI to PLAY against a scripted camera: credentials, redirects, bad and odd answers."""

from __future__ import annotations

import dataclasses
import logging
import re
import time

import pytest

from nvr.ingest.engine import IngestEngine
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Response
from nvr.model.receiver import ReceiverState
from tests.support.camera import Camera, h264_track
from tests.support.ingest import (
    MS,
    QUICK,
    until,
)
from tests.support.ingest_house import ERROR, IDLE, JOB, RECEIVER, House, send_gops


@pytest.mark.requirement("RC-5.3.3-04")
async def test_a_closed_port_is_an_error_of_the_track(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        uri = camera.uri
    house.record(uri)
    assert house.state() == (IDLE, None)
    await until(lambda: house.state()[0] is ERROR)
    assert house.engine.job_state(JOB).state is ERROR
    assert re.search(r"cannot connect to 127\.0\.0\.1:\d+: Connection refused$", house.error())
    await until(lambda: house.engine.counters()[RECEIVER].failed_attempts >= 3)


async def test_credentials_go_by_digest_and_never_into_a_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    camera = Camera([h264_track()], username="op er", password="s3cr3t@:%", schemes=("Basic", "Digest"))
    async with camera:
        house.record(camera.uri.replace("rtsp://", "rtsp://op%20er:s3cr3t%40%3A%25@"))
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        authorizations = [r.headers.get("Authorization") for r in camera.requests]
        assert authorizations[0] is None
        assert all(a is not None and a.startswith("Digest ") for a in authorizations[1:])
        assert all("@" not in r.uri for r in camera.requests)
        await house.engine.stop()
    assert "s3cr3t" not in caplog.text
    assert "Authorization" not in caplog.text


async def test_basic_is_used_where_nothing_else_is_offered(house: House) -> None:
    async with Camera([h264_track()], username="u", password="", schemes=("Basic",)) as camera:
        house.record(camera.uri.replace("rtsp://", "rtsp://u@"))
        await camera.playing()


@pytest.mark.parametrize(
    ("credentials", "text"),
    [("u:wrong@", "refuses the user name or password"), ("", "asks for a user name and password")],
)
async def test_a_wrong_password_is_told_without_quoting_it(house: House, credentials: str, text: str) -> None:
    async with Camera([h264_track()], username="u", password="right", schemes=("Digest",)) as camera:
        house.record(camera.uri.replace("rtsp://", f"rtsp://{credentials}"))
        await until(lambda: house.state()[0] is ERROR)
        assert text in house.error()
        assert "wrong" not in house.error()


async def test_a_camera_that_refuses_its_password_is_asked_seldom_and_at_once_when_it_is_configured_anew() -> None:
    house = House()
    house.engine = IngestEngine(house.storage, dataclasses.replace(QUICK, refused_back_off_ns=60_000 * MS))
    await house.engine.start()
    async with Camera([h264_track()], username="u", password="right", schemes=("Digest",)) as camera:
        house.record(camera.uri.replace("rtsp://", "rtsp://u:wrong@"))
        await until(lambda: house.state()[0] is ERROR)
        assert "asked again behind long pauses, because cameras lock accounts" in house.error()
        await until(lambda: (told := house.engine.reception(RECEIVER)) is not None and told.next_attempt_ns is not None)
        told = house.engine.reception(RECEIVER)
        assert told is not None
        assert told.next_attempt_ns is not None
        assert 0 <= told.next_attempt_ns <= 75_000 * MS
        assert [r.method for r in camera.requests if r.headers.get("Authorization")] == ["OPTIONS"], (
            "one try an attempt"
        )
        house.record(camera.uri.replace("rtsp://", "rtsp://u:right@"))
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        await house.engine.stop()


@pytest.mark.parametrize(
    ("method", "answer", "text"),
    [
        ("DESCRIBE", lambda q, a: bytes(a)[: len(bytes(a)) // 2], "did not answer DESCRIBE within 0.3 s"),
        ("DESCRIBE", lambda q, a: None, "did not answer DESCRIBE within 0.3 s"),
        ("DESCRIBE", lambda q, a: bytes(Response(404, a.headers)), "knows no stream at this path"),
        ("DESCRIBE", lambda q, a: bytes(Response(200, a.headers, b"<html/>")), "without a session description"),
        ("DESCRIBE", lambda q, a: bytes(Response(200, a.headers, b"v=0\r\ns=-\r\n")), "names no RTP media"),
        ("OPTIONS", lambda q, a: bytes(a).replace(b"CSeq: 1", b"CSeq: 77"), "answered with CSeq 77, which was not"),
        ("SETUP", lambda q, a: bytes(Response(461, Headers([("CSeq", str(q.cseq))]))), "answered with 461"),
        ("PLAY", lambda q, a: bytes(Response(503, Headers([("CSeq", str(q.cseq))]))), "answered PLAY with 503"),
    ],
    ids=["half a reply", "silence", "404", "no description", "no media", "wrong CSeq", "no transport", "no PLAY"],
)
async def test_each_bad_answer_is_told(method: str, answer, text: str) -> None:  # type: ignore[no-untyped-def]
    house = House(dataclasses.replace(QUICK, request_timeout_ns=300 * MS))
    await house.engine.start()
    async with Camera([h264_track()], answers={method: answer}) as camera:
        house.record(camera.uri)
        await until(lambda: house.state()[0] is ERROR and text in house.error())
        assert house.receiver in (ReceiverState.NOT_CONNECTED, ReceiverState.CONNECTING)
        await house.engine.stop()


async def test_odd_but_harmless_answers_are_taken(house: House) -> None:
    def odd(request, response):  # type: ignore[no-untyped-def]
        return b"\r\n" + bytes(response).replace(b"RTSP/1.0 200 OK\r\n", b"RTSP/1.0 200\nServer: K\xe4mera\n")

    camera = Camera([h264_track()], answers={"OPTIONS": odd, "DESCRIBE": odd, "SETUP": odd}, public=None)
    async with camera:
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)


async def test_a_failed_handshake_behind_setup_tears_the_session_down(house: House) -> None:
    refuse = {"PLAY": lambda q, a: bytes(Response(503, Headers([("CSeq", str(q.cseq))])))}
    async with Camera([h264_track()], answers=refuse) as camera:
        house.record(camera.uri)
        await camera.requested("TEARDOWN")


async def test_channels_that_the_camera_chooses_are_obeyed(house: House) -> None:
    track = h264_track()

    def other_channels(request, response):  # type: ignore[no-untyped-def]
        track.channel = 6
        return bytes(response).replace(b"interleaved=0-1", b"interleaved=6-7")

    async with Camera([track], answers={"SETUP": other_channels}) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 2)
        await until(lambda: len(house.recorder().samples) == 25)


@pytest.mark.parametrize("credentials", ["u:p", "u:p@w"])
async def test_credentials_that_the_camera_echoes_stand_in_no_request(house: House, credentials: str) -> None:
    camera = Camera([h264_track("video?mail=a@b")], content_base=f"rtsp://{credentials}@elsewhere/base/")
    async with camera:
        house.record(camera.uri)
        await camera.playing()
        assert [r.uri for r in camera.requests[2:]] == [
            "rtsp://elsewhere/base/video?mail=a@b",
            "rtsp://elsewhere/base/",
        ]


async def test_play_goes_to_the_aggregate_uri(house: House) -> None:
    camera = Camera([h264_track("video?x=1")], content_base="rtsp://elsewhere/base/", session_lines="a=control:all\r\n")
    async with camera:
        house.record(camera.uri + "?channel=1")
        await camera.playing()
        assert [(r.method, r.uri) for r in camera.requests[2:]] == [
            ("SETUP", "rtsp://elsewhere/base/video?x=1"),
            ("PLAY", "rtsp://elsewhere/base/all"),
        ]


async def test_redirects_are_followed_with_credentials_to_the_same_host(house: House) -> None:
    async with (
        Camera([h264_track()], username="u", password="p", schemes=("Digest",)) as target,
        Camera([h264_track()]) as gate,
    ):
        gate.answers["DESCRIBE"] = lambda q, a: bytes(
            Response(302, Headers([("CSeq", str(q.cseq)), ("Location", target.uri)]))
        )
        house.record(gate.uri.replace("rtsp://", "rtsp://u:p@"))
        await target.playing()


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
@pytest.mark.parametrize("status", [301, 302, 305])
async def test_a_redirect_to_another_host_takes_no_password_along(house: House, method: str, status: int) -> None:
    async with Camera([h264_track()], host="127.0.0.2") as target:
        gate = Camera([h264_track()], username="u", password="p", schemes=("Basic",))
        async with gate:
            gate.answers[method] = lambda q, a: (
                bytes(Response(status, Headers([("CSeq", str(q.cseq)), ("Location", target.uri)])))
                if a.ok
                else bytes(a)
            )
            house.record(gate.uri.replace("rtsp://", "rtsp://u:p@"))
            await target.playing()
            assert {r.uri for r in target.requests if r.method == "DESCRIBE"} == {
                gate.uri if status == 305 else target.uri
            }
            assert all(r.headers.get("Authorization") is None for r in target.requests)
            assert any(r.headers.get("Authorization") for r in gate.requests)


async def test_endless_redirects_are_given_up(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        camera.answers["DESCRIBE"] = lambda q, a: bytes(
            Response(301, Headers([("CSeq", str(q.cseq)), ("Location", camera.uri)]))
        )
        house.record(camera.uri)
        await until(lambda: house.state()[0] is ERROR)
        assert "redirects more than 3 times" in house.error()
