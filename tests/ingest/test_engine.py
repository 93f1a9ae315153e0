"""The engine against a scripted camera over sockets: what is recorded, what is told, what each fault becomes."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
import time
from collections.abc import AsyncIterator

import pytest

from nvr.ingest.engine import NO_MEDIA_URI, IngestEngine
from nvr.media.rtcp import ReceiverReport, SourceDescription
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Response
from nvr.model.errors import UnknownToken
from nvr.model.job import INCOMPATIBLE_STREAM, RecordingJob, RecordingJobMode, RecordingJobState
from nvr.model.receiver import Receiver, ReceiverMode, ReceiverState
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken
from tests.support.camera import Camera, CameraTrack, h264_track, key_frame, metadata_track, pcmu_track, picture
from tests.support.ingest import (
    MS,
    QUICK,
    FakeStorage,
    a_job,
    a_receiver,
    a_recording,
    a_source,
    key,
    until,
)

JOB, RECEIVER = JobToken("job-1"), ReceiverToken("rcv-1")
IDLE, ACTIVE, ERROR = RecordingJobState.IDLE, RecordingJobState.ACTIVE, RecordingJobState.ERROR
FRAME = 3600
"""Ticks of 90 kHz at 25 pictures a second."""


class House:
    """An engine on a storage that remembers."""

    def __init__(self) -> None:
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, QUICK)

    def apply(self, jobs: list[RecordingJob], receivers: list[Receiver]) -> None:
        self.engine.apply([a_recording()], jobs, receivers)

    def record(self, uri: str, *tracks: tuple[str, str], mode: ReceiverMode = ReceiverMode.AUTO_CONNECT) -> None:
        lines = tracks or (("", "VIDEO001"),)
        self.apply([a_job(a_source("rcv-1", *lines))], [a_receiver(uri, mode=mode)])

    def state(self, line: int = 0) -> tuple[RecordingJobState, str | None]:
        track = self.engine.job_state(JOB).sources[0].tracks[line]
        return track.state, track.error

    @property
    def receiver(self) -> ReceiverState:
        return self.engine.receiver_state(RECEIVER)

    def recorder(self, track: str = "VIDEO001"):  # type: ignore[no-untyped-def]
        return self.storage.recorder(key(track), None)  # type: ignore[arg-type]

    def error(self) -> str:
        return self.state()[1] or ""


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.engine.start()
    yield house
    await house.engine.stop()


def send_gops(camera: Camera, track: CameraTrack, gops: int, first: int = 0, length: int = 25) -> None:
    for number in range(first, first + gops * length):
        data = key_frame(number) if number % length == 0 else picture(number)
        camera.send_unit(track, data, number * FRAME)


async def test_records_every_picture_at_the_time_of_the_sender_report(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        now = time.time_ns()
        camera.send_report(track, now, 0)
        send_gops(camera, track, 3)
        await until(lambda: len(house.recorder().samples) == 50)
        assert house.state() == (ACTIVE, None)
        assert house.receiver is ReceiverState.CONNECTED
    first, second = house.recorder().fragments
    assert [s.data for s in first.samples] == [key_frame(0), *(picture(n) for n in range(1, 25))]
    assert first.clean_point
    assert second.clean_point
    for n, sample in enumerate(house.recorder().samples):
        assert abs(sample.utc_ns - now - n * 40 * MS) <= 1
    assert first.end_ns == second.start_ns


async def test_what_is_pending_is_kept_when_the_engine_stops(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=10)
        await until(lambda: house.engine.counters()[RECEIVER].packets >= 12)
        await house.engine.stop()
        assert camera.methods()[-1] == "TEARDOWN"
    assert len(house.recorder().samples) == 10
    assert house.recorder().reasons == [GapReason.DAEMON_STOPPED]


async def test_three_tracks_go_through_one_session(house: House) -> None:
    video, audio, meta = h264_track(), pcmu_track(), metadata_track()
    async with Camera([video, audio, meta]) as camera:
        house.record(camera.uri, ("", "VIDEO001"), ("", "AUDIO001"), ("", "META001"))
        await camera.playing()
        now = time.time_ns()
        for track in camera.tracks:
            camera.send_report(track, now, 0)
        send_gops(camera, video, 1)
        for n in range(150):
            camera.send(audio.frames([audio.packet(bytes([n]) * 160, n * 160)]))
        camera.send(meta.frames([meta.packet(b"<tt:MetadataStream/>", 900, marker=True)]))
        await until(lambda: house.recorder("AUDIO001").samples != [])
        await until(lambda: [house.state(i)[0] for i in range(3)] == [ACTIVE] * 3)
        assert camera.connections == 1
        assert camera.methods() == ["OPTIONS", "DESCRIBE", "SETUP", "SETUP", "SETUP", "PLAY"]
        await house.engine.stop()
    assert len(house.recorder("AUDIO001").samples) == 150
    [document] = house.recorder("META001").samples
    assert document.data == b"<tt:MetadataStream/>"
    assert document.utc_ns == now + 10 * MS


async def test_lost_packets_drop_their_unit_and_mark_what_follows(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        broken = track.unit(picture(1, 3000), FRAME)
        camera.send(track.frames([broken[0], broken[2]]))
        camera.send_unit(track, picture(2), 2 * FRAME)
        camera.send_unit(track, key_frame(25), 25 * FRAME)
        camera.send_unit(track, picture(26), 26 * FRAME)
        camera.send_unit(track, key_frame(50), 50 * FRAME)
        await until(lambda: len(house.recorder().fragments) == 2)
    first, second = house.recorder().fragments
    assert [(s.data, s.damaged) for s in first.samples] == [(key_frame(0), False), (picture(2), True)]
    assert (first.lost_packets, first.dropped_units) == (1, 1)
    assert [s.damaged for s in second.samples] == [False, False]
    assert (second.lost_packets, second.dropped_units) == (0, 0)


async def test_a_lost_source_ends_the_run_and_is_connected_again(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=5)
        await until(lambda: house.engine.counters()[RECEIVER].packets >= 7)
        camera.hang_up()
        await until(lambda: house.recorder().reasons == [GapReason.SOURCE_LOST])
        assert len(house.recorder().samples) == 5
        await camera.playing(2)
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 2, length=25)
        await until(lambda: len(house.recorder().fragments) == 2)
        assert house.state() == (ACTIVE, None)
        assert house.engine.counters()[RECEIVER].connections_lost == 1


async def test_a_reset_connection_is_told(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        camera.hang_up(reset=True)
        await until(lambda: house.engine.counters()[RECEIVER].connections_lost == 1)
        await camera.playing(2)


@pytest.mark.requirement("RC-5.3.3-04")
async def test_a_closed_port_is_an_error_of_the_track(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        uri = camera.uri
    house.record(uri)
    assert house.state() == (IDLE, None)
    await until(lambda: house.state()[0] is ERROR)
    assert "cannot connect to 127.0.0.1:" in house.error()
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
        assert re.search(r"asked again in (4[5-9]|[5-7]\d) s, slowly, because cameras lock accounts", house.error())
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
async def test_each_bad_answer_is_told(house: House, method: str, answer, text: str) -> None:  # type: ignore[no-untyped-def]
    async with Camera([h264_track()], answers={method: answer}) as camera:
        house.record(camera.uri)
        await until(lambda: house.state()[0] is ERROR)
        assert text in house.error()
        assert house.receiver in (ReceiverState.NOT_CONNECTED, ReceiverState.CONNECTING)


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


async def test_garbage_between_frames_is_skipped_and_counted(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        camera.send(b"\x00\xffgarbage" * 10)
        send_gops(camera, track, 2, first=25)
        await until(lambda: len(house.recorder().fragments) == 2)
        assert len(house.recorder().samples) == 26
        assert house.engine.counters()[RECEIVER].garbage == 90


async def test_nothing_but_garbage_ends_the_connection_with_evidence(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send(b"\xde\xad\xbe\xef" * 100_000)
        await until(lambda: house.state()[0] is ERROR)
        assert "neither RTP nor RTSP" in house.error()
        assert "de ad be ef" in house.error()
        await camera.playing(2)


async def test_packets_with_extension_and_in_other_payload_types_do_not_disturb(house: House) -> None:
    from nvr.media.rtp import RtpExtension

    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        [plain] = track.unit(picture(1), FRAME)
        track.sequence -= 1
        camera.send(track.frames([track.packet(plain[12:], FRAME, True, RtpExtension(0xABAC, bytes(12)))]))
        other = dataclasses.replace(track, payload_type=33)
        camera.send(other.frames([other.packet(b"x" * 50, FRAME)]))
        track.sequence = other.sequence
        camera.send_unit(track, picture(2), 2 * FRAME)
        camera.send_unit(track, key_frame(25), 25 * FRAME)
        await until(lambda: len(house.recorder().fragments) == 1)
    [fragment] = house.recorder().fragments
    assert [s.data for s in fragment.samples] == [key_frame(0), picture(1), picture(2)]
    assert fragment.lost_packets == 0


async def test_a_camera_without_parameter_sets_is_recorded_once_it_sends_them_in_band(house: House) -> None:
    from tests.support.camera import PPS, SPS, sample_form

    track = h264_track(parameter_sets=False)
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        whole = sample_form(SPS, PPS) + key_frame(25)
        camera.send_unit(track, whole, 25 * FRAME)
        camera.send_unit(track, whole, 50 * FRAME)
        await until(lambda: len(house.recorder().fragments) == 1)
    assert house.recorder().samples[0].data == whole


async def test_a_new_ssrc_begins_a_new_run(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        now = time.time_ns()
        camera.send_report(track, now, 0)
        send_gops(camera, track, 1, length=5)
        track.ssrc, track.sequence = 0x9999, 100
        camera.send_report(track, now + 200 * MS, 700_000)
        for n in range(2):
            camera.send_unit(track, key_frame(n), 700_000 + n * 90_000)
        camera.send_report(track, now + 200 * MS, 700_000)
        camera.send_unit(track, key_frame(2), 700_000 + 2 * 90_000)
        await until(lambda: len(house.recorder().fragments) >= 2)
    assert house.recorder().reasons == [GapReason.SOURCE_LOST]
    assert house.recorder().samples[5].utc_ns == now + 200 * MS


async def test_bye_ends_the_session_and_the_camera_is_asked_again(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=5)
        camera.send(track.frames([track.bye("going to sleep")], rtcp=True))
        await until(lambda: house.recorder().reasons == [GapReason.SOURCE_LOST])
        assert len(house.recorder().samples) == 5
        await camera.playing(2)


async def test_requests_of_the_camera_are_answered(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        answered = b"RTSP/1.0 200"
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        camera.send(b"GET_PARAMETER rtsp://x RTSP/1.0\r\nCSeq: 9\r\n\r\n")
        await until(lambda: house.engine.counters()[RECEIVER].bytes > 400)
        assert answered
        assert house.receiver is ReceiverState.CONNECTED


# -- jobs and receivers ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RC-5.3.3-02", "RX-10.4-03", "RX-10.5.7-05", "RX-10.5.7-07")
async def test_auto_connect_follows_the_mode_of_the_job(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        source = a_source("rcv-1", ("", "VIDEO001"))
        idle, active = a_job(source, mode=RecordingJobMode.IDLE), a_job(source)
        house.apply([idle], [a_receiver(camera.uri)])
        assert house.receiver is ReceiverState.NOT_CONNECTED
        assert house.state() == (IDLE, None)
        house.apply([active], [a_receiver(camera.uri)])
        assert house.receiver is ReceiverState.NOT_CONNECTED or house.receiver is ReceiverState.CONNECTING
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        house.apply([idle], [a_receiver(camera.uri)])
        await camera.requested("TEARDOWN")
        assert house.receiver is ReceiverState.NOT_CONNECTED
        assert camera.connections == 1


@pytest.mark.requirement("RX-10.4-01", "RX-10.4-05")
@pytest.mark.parametrize("encoding", ["JPEG", "H264"])
async def test_always_connect_needs_no_job_and_no_known_encoding(house: House, encoding: str) -> None:
    track = CameraTrack("video", "JPEG/90000", None, 26) if encoding == "JPEG" else h264_track()
    async with Camera([track]) as camera:
        house.apply([], [a_receiver(camera.uri, mode=ReceiverMode.ALWAYS_CONNECT)])
        await camera.playing()
        await until(lambda: house.receiver is ReceiverState.CONNECTED)
        camera.hang_up()
        await camera.playing(2)
        await until(lambda: house.receiver is ReceiverState.CONNECTED)


@pytest.mark.requirement("RX-10.4-02", "RC-5.3.3-23")
async def test_never_connect_ends_a_session_and_makes_the_job_idle(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=3)
        await until(lambda: house.state()[0] is ACTIVE)
        house.record(camera.uri, mode=ReceiverMode.NEVER_CONNECT)
        await camera.requested("TEARDOWN")
        assert house.state() == (IDLE, None)
        assert house.receiver is ReceiverState.NOT_CONNECTED
        await until(lambda: house.recorder().reasons == [GapReason.JOB_STOPPED])
        assert camera.connections == 1


@pytest.mark.requirement("RC-5.3.3-23")
async def test_an_active_job_without_media_uri_is_in_error(house: House) -> None:
    house.record("")
    assert house.state() == (ERROR, NO_MEDIA_URI)
    assert house.engine.job_state(JOB).state is ERROR
    assert house.receiver is ReceiverState.NOT_CONNECTED


@pytest.mark.requirement("RX-10.5.7-06")
async def test_a_camera_that_accepts_and_never_answers_keeps_the_receiver_connecting(house: House) -> None:
    async with Camera([h264_track()], answers={"OPTIONS": lambda q, a: None}) as camera:
        house.record(camera.uri)
        await camera.requested("OPTIONS")
        assert house.receiver is ReceiverState.CONNECTING
        assert house.state() == (IDLE, None)


@pytest.mark.requirement("RC-5.19-12", "RC-5.19-16", "RC-5.1-03")
async def test_another_encoding_than_the_tracks_is_an_incompatible_stream(house: House) -> None:
    from nvr.media import codecs

    depacketizer = codecs.depacketizer_for("PCMA", 8000, 1, {})
    assert depacketizer.configuration is not None
    house.storage.configurations[key("AUDIO001")] = depacketizer.configuration
    video, audio = h264_track(), pcmu_track()
    async with Camera([video, audio]) as camera:
        house.record(camera.uri, ("", "VIDEO001"), ("", "AUDIO001"))
        await camera.playing()
        camera.send_report(audio, time.time_ns(), 0)
        for n in range(200):
            camera.send(audio.frames([audio.packet(bytes(160), n * 160)]))
        camera.send_unit(video, key_frame(), 0)
        await until(lambda: house.state(0)[0] is ACTIVE)
        assert house.state(1) == (ERROR, INCOMPATIBLE_STREAM)
        assert house.engine.job_state(JOB).state is ERROR
    assert house.recorder("AUDIO001").fragments == []


@pytest.mark.requirement("RC-5.3.2-03")
async def test_sound_is_not_stored_in_a_video_track(house: House) -> None:
    audio = pcmu_track()
    async with Camera([h264_track(), audio]) as camera:
        house.record(camera.uri, ("trackID=2", "VIDEO001"))
        await camera.playing()
        camera.send_report(audio, time.time_ns(), 0)
        for n in range(200):
            camera.send(audio.frames([audio.packet(bytes(160), n * 160)]))
        await until(lambda: house.engine.counters()[RECEIVER].packets == 200)
        assert house.state()[0] is ERROR
        assert "does not fit into a track of type Video" in house.error()
        await house.engine.stop()
    assert house.recorder().fragments == []


@pytest.mark.requirement("RC-5.19-14")
async def test_a_camera_without_sound_leaves_the_audio_track_idle(house: House) -> None:
    video = h264_track()
    async with Camera([video]) as camera:
        house.record(camera.uri, ("", "VIDEO001"), ("", "AUDIO001"))
        await camera.playing()
        camera.send_unit(video, key_frame(), 0)
        await until(lambda: house.state(0)[0] is ACTIVE)
        assert house.state(1) == (IDLE, None)
        assert house.engine.job_state(JOB).state is RecordingJobState.PARTIALLY_ACTIVE


@pytest.mark.requirement("RC-5.3.3-20")
async def test_source_tags_tell_two_video_streams_apart(house: House) -> None:
    from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
    from nvr.model.tokens import RecordingToken, TrackToken

    first, second = h264_track("trackID=1"), h264_track("trackID=2", ssrc=0x1001)
    tracks = tuple(Track(TrackToken(t), TrackConfiguration(TrackType.VIDEO)) for t in ("VIDEO001", "VIDEO002"))
    recording = Recording(RecordingToken("rec-1"), RecordingConfiguration(), tracks)
    async with Camera([first, second]) as camera:
        job = a_job(a_source("rcv-1", ("trackID=2", "VIDEO001"), ("trackID=1", "VIDEO002")))
        house.engine.apply([recording], [job], [a_receiver(camera.uri)])
        await camera.playing()
        for n, track in enumerate((first, second)):
            camera.send_report(track, time.time_ns(), 0)
            camera.send_unit(track, key_frame(n), 0)
            camera.send_unit(track, key_frame(n), 90_000)
        await until(lambda: bool(house.recorder("VIDEO001").samples and house.recorder("VIDEO002").samples))
    assert house.recorder("VIDEO001").samples[0].data == key_frame(1)
    assert house.recorder("VIDEO002").samples[0].data == key_frame(0)


@pytest.mark.requirement("RC-5.3.3-07", "RC-5.18-06")
async def test_the_job_of_higher_priority_takes_the_track_over_and_gives_it_back(house: House) -> None:
    one, two = h264_track(), h264_track()
    async with Camera([one]) as first, Camera([two]) as second:
        low = a_job(a_source("rcv-1", ("", "VIDEO001")), token="job-1", priority=1)
        high = a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-2", priority=5)
        receivers = [a_receiver(first.uri), a_receiver(second.uri, "rcv-2")]
        house.apply([low], receivers)
        await first.playing()
        first.send_report(one, time.time_ns(), 0)
        first.send_unit(one, key_frame(1), 0)
        await until(lambda: house.state()[0] is ACTIVE)
        house.apply([low, high], receivers)
        await second.playing()
        second.send_report(two, time.time_ns(), 0)
        second.send_unit(two, key_frame(2), 0)
        state = house.engine.job_state
        await until(lambda: state(JobToken("job-2")).state is ACTIVE)
        assert state(JOB).state is IDLE
        await first.requested("TEARDOWN")
        house.apply([low], receivers)
        await second.requested("TEARDOWN")
        await first.playing(2)
    assert [s.data for s in house.recorder().samples] == [key_frame(1), key_frame(2)]
    assert house.recorder().reasons == [GapReason.JOB_STOPPED, GapReason.JOB_STOPPED]


async def test_two_jobs_share_one_connection(house: House) -> None:
    video, audio = h264_track(), pcmu_track()
    async with Camera([video, audio]) as camera:
        one = a_job(a_source("rcv-1", ("", "VIDEO001")), token="job-1")
        two = a_job(a_source("rcv-1", ("", "AUDIO001")), token="job-2")
        house.apply([one, two], [a_receiver(camera.uri)])
        await camera.playing()
        camera.send_unit(video, key_frame(), 0)
        camera.send(audio.frames([audio.packet(bytes(160), 0)]))
        for token in ("job-1", "job-2"):
            await until(lambda t=token: house.engine.job_state(JobToken(t)).state is ACTIVE)  # type: ignore[misc]
        house.apply([two], [a_receiver(camera.uri)])
        await until(lambda: house.recorder().reasons == [GapReason.JOB_STOPPED])
        assert camera.connections == 1
        assert "TEARDOWN" not in camera.methods()


async def test_applying_the_same_state_again_disturbs_nothing(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 1, length=25)
        await until(lambda: house.state()[0] is ACTIVE)
        for _ in range(3):
            house.record(camera.uri)
        send_gops(camera, track, 1, first=25)
        await until(lambda: len(house.recorder().samples) == 25)
        assert camera.connections == 1
        assert house.recorder().reasons == []


@pytest.mark.requirement("RC-5.19-18", "RX-10.5.5-05")
async def test_another_media_uri_keeps_the_track_active_and_goes_on_in_it(house: House) -> None:
    one, two = h264_track(), h264_track()
    async with Camera([one]) as first, Camera([two]) as second:
        house.record(first.uri)
        await first.playing()
        first.send_report(one, time.time_ns(), 0)
        first.send_unit(one, key_frame(1), 0)
        await until(lambda: house.state()[0] is ACTIVE)
        house.record(second.uri)
        assert house.state() == (ACTIVE, None)
        await second.playing()
        assert house.state() == (ACTIVE, None)
        second.send_report(two, time.time_ns(), 0)
        second.send_unit(two, key_frame(2), 0)
        second.send_unit(two, key_frame(3), 90_000)
        await until(lambda: len(house.recorder().samples) == 2)
        await first.requested("TEARDOWN")
    assert [s.data for s in house.recorder().samples] == [key_frame(1), key_frame(2)]


@pytest.mark.requirement("RC-5.19-18")
async def test_a_new_connection_that_is_not_up_within_the_grace_is_an_error() -> None:
    house = House()
    house.engine = IngestEngine(house.storage, dataclasses.replace(QUICK, configure_grace_ns=100 * MS))
    await house.engine.start()
    track = h264_track()
    async with Camera([track]) as first, Camera([h264_track()], answers={"DESCRIBE": lambda q, a: None}) as silent:
        house.record(first.uri)
        await first.playing()
        first.send_unit(track, key_frame(1), 0)
        await until(lambda: house.state()[0] is ACTIVE)
        house.record(silent.uri)
        assert house.state() == (ACTIVE, None)
        await silent.requested("DESCRIBE")
        await until(lambda: house.state()[0] is not ACTIVE)
        await until(lambda: house.state()[0] is ERROR)
        assert "did not answer DESCRIBE" in house.error()
        await house.engine.stop()


async def test_streams_beyond_the_maximum_are_told_and_the_others_recorded(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.engine = IngestEngine(house.storage, dataclasses.replace(QUICK, maximum_streams=1))
    await house.engine.start()
    try:
        async with Camera([h264_track(), pcmu_track(), metadata_track()]) as camera:
            house.record(camera.uri.replace("://", "://admin:secret@"))
            await camera.playing()
            assert camera.methods().count("SETUP") == 1
            told = [r for r in caplog.records if "maximum_streams" in r.getMessage()]
            assert [(r.levelno, r.getMessage()) for r in told] == [
                (
                    logging.WARNING,
                    f"127.0.0.1:{camera.port} offers 3 streams; the first 1 are taken, "
                    "audio, application are left out (maximum_streams)",
                )
            ]
    finally:
        await house.engine.stop()


async def test_the_session_description_is_told_before_tracks_are_mapped(house: House) -> None:
    told: list[tuple[str, list[str]]] = []
    house.engine.on_streams = lambda token, streams: told.append((token, [s.encoding for s in streams]))
    async with Camera([h264_track(), pcmu_track(), metadata_track()]) as camera:
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: told != [])
    assert told == [("rcv-1", ["H264", "PCMU", "VND.ONVIF.METADATA"])]


async def test_storage_that_refuses_makes_the_track_an_error_until_it_takes_again(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        house.recorder().full = True
        camera.send_report(track, time.time_ns(), 0)
        send_gops(camera, track, 2)
        await until(lambda: house.state() == (ERROR, "the storage does not take the data"))
        house.recorder().full = False
        send_gops(camera, track, 2, first=50)
        await until(lambda: house.state() == (ACTIVE, None))


async def test_one_bad_camera_does_not_disturb_another(house: House) -> None:
    good = h264_track()
    async with (
        Camera([good]) as camera,
        Camera([h264_track()], answers={"DESCRIBE": lambda q, a: b"\xff" * 999}) as bad,
    ):
        jobs = [
            a_job(a_source("rcv-1", ("", "VIDEO001"))),
            a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-2", recording="rec-2"),
        ]
        house.engine.apply(
            [a_recording(), a_recording("rec-2")], jobs, [a_receiver(camera.uri), a_receiver(bad.uri, "rcv-2")]
        )
        await camera.playing()
        camera.send_report(good, time.time_ns(), 0)
        send_gops(camera, good, 3)
        await until(lambda: len(house.recorder().samples) == 50)
        await until(lambda: house.engine.job_state(JobToken("job-2")).state is ERROR)
        assert house.state() == (ACTIVE, None)


async def test_samples_reach_a_subscriber_as_they_come(house: House) -> None:
    track = h264_track()
    seen: list[bytes] = []
    async with Camera([track]) as camera:
        unsubscribe = house.engine.subscribe(key(), lambda sample, configuration: seen.append(sample.data))
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        await until(lambda: seen == [key_frame(0)])
        assert house.recorder().fragments == []
        unsubscribe()
        camera.send_unit(track, key_frame(1), 90_000)
        await until(lambda: len(house.recorder().fragments) == 1)
        assert seen == [key_frame(0)]


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
async def test_stopping_together_with_an_answer_does_not_wait_for_the_session(house: House, method: str) -> None:
    """The answer is in the socket when the attempt is cancelled: both reach the loop in one round."""
    async with Camera([h264_track()]) as camera:
        house.record(camera.uri)
        await camera.requested(method)
        async with asyncio.timeout(3):
            await house.engine.stop()
        assert method != "PLAY" or camera.methods()[-1] == "TEARDOWN"


async def test_unknown_tokens_are_refused(house: House) -> None:
    with pytest.raises(UnknownToken, match="RecordingJob"):
        house.engine.job_state(JOB)
    with pytest.raises(UnknownToken, match="Receiver"):
        house.engine.receiver_state(RECEIVER)


@pytest.mark.requirement("RX-10.5.7-09")
async def test_between_two_attempts_a_receiver_is_not_connected_and_waits() -> None:
    house = House()
    house.engine = IngestEngine(
        house.storage, dataclasses.replace(QUICK, back_off_ns=60_000 * MS, back_off_maximum_ns=60_000 * MS)
    )
    await house.engine.start()
    async with Camera([h264_track()], answers={"DESCRIBE": lambda q, a: bytes(Response(404, a.headers))}) as camera:
        house.record(camera.uri)
        await until(lambda: house.state()[0] is ERROR)
        assert house.receiver is ReceiverState.NOT_CONNECTED
        assert camera.connections == 1
        await house.engine.stop()


@pytest.mark.requirement("RX-10.2-01")
async def test_receiver_reports_carry_a_name_and_the_cameras_report() -> None:
    house = House()
    house.engine = IngestEngine(house.storage, dataclasses.replace(QUICK, report_interval_ns=20 * MS))
    await house.engine.start()
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_unit(track, picture(1), 0)
        await until(lambda: house.engine.counters()[RECEIVER].packets == 1)
        camera.send_report(track, time.time_ns(), 0)
        await until(lambda: house.engine.counters()[RECEIVER].sender_reports == 1)
        await camera.reported(len(camera.raw_reports) + 1)
        channel, packets = camera.reports[-1]
        report, description = packets[0], packets[1]
        assert channel == 1
        assert isinstance(report, ReceiverReport)
        assert isinstance(description, SourceDescription)
        [block] = report.blocks
        assert block.ssrc == track.ssrc
        assert block.last_sr != 0
        assert camera.raw_reports[-1][1].endswith(b"\x00\x00\x10\x00"), "a PLI asks for a key frame"
        await house.engine.stop()
