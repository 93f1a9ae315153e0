"""RTSP over HTTP: a camera behind its web server is recorded; what can go wrong on the way is told."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nvr.ingest.endpoint import Endpoint
from nvr.ingest.engine import IngestEngine
from nvr.ingest.tunnel import _Head
from nvr.model.errors import SourceError
from nvr.model.job import RecordingJobState
from nvr.model.receiver import ReceiverState, TransportProtocol
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken
from tests.ingest.test_transports import server_context
from tests.support.camera import Camera, h264_track, key_frame, picture
from tests.support.ingest import MS, QUICK, FakeStorage, a_job, a_receiver, a_recording, a_source, key, until
from tests.support.tunnel_gate import MIME, TunnelGate

JOB, RECEIVER = JobToken("job-1"), ReceiverToken("rcv-1")
HTTP = TransportProtocol.HTTP


class House:
    def __init__(self) -> None:
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, dataclasses.replace(QUICK, report_interval_ns=20 * MS))

    def record(self, uri: str) -> None:
        job = a_job(a_source("rcv-1", ("", "VIDEO001")))
        self.engine.apply([a_recording()], [job], [a_receiver(uri, protocol=HTTP)])

    def state(self) -> RecordingJobState:
        return self.engine.job_state(JOB).sources[0].tracks[0].state

    def error(self) -> str:
        return self.engine.job_state(JOB).sources[0].tracks[0].error or ""


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.engine.start()
    yield house
    await house.engine.stop()


@pytest.mark.requirement("RX-10.1-07", "RX-10.1-02")
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
async def test_a_stream_setup_for_http_is_recorded_through_the_tunnel(house: House, scheme: str) -> None:
    track = h264_track()
    async with Camera([track]) as camera, TunnelGate(camera.port) as gate:
        house.record(gate.uri(scheme))
        await camera.playing()
        now = time.time_ns()
        camera.send_report(track, now, 0)
        for n in range(60):
            camera.send_unit(track, key_frame(n) if n % 25 == 0 else picture(n), n * 3600)
        await until(lambda: len(house.storage.recorders[key()].samples) == 50)
        await camera.reported()
        assert gate.methods() == ["GET", "POST"]
        for head in gate.heads:
            assert head.startswith(("GET /stream?profile=1 HTTP/1.1\r\n", "POST /stream?profile=1 HTTP/1.1\r\n"))
            assert MIME in head
        cookies = {line for head in gate.heads for line in head.split("\r\n") if line.startswith("x-sessioncookie: ")}
        assert len(cookies) == 1
        assert camera.requests[0].uri == f"rtsp://127.0.0.1:{gate.own_port}/stream?profile=1"
        await house.engine.stop()
        assert camera.methods()[-1] == "TEARDOWN"
    samples = house.storage.recorders[key()].samples
    assert [s.data for s in samples] == [key_frame(n) if n % 25 == 0 else picture(n) for n in range(60)]
    assert house.storage.recorders[key()].reasons == [GapReason.DAEMON_STOPPED]


async def test_credentials_go_to_the_web_server_as_well_once_it_asks(house: House) -> None:
    wanted = "Basic " + base64.b64encode(b"u:p w").decode()
    camera = Camera([h264_track()], username="u", password="p w", schemes=("Basic",))
    async with camera, TunnelGate(camera.port, authorization=wanted) as gate:
        house.record(gate.uri().replace("http://", "http://u:p%20w@"))
        await camera.playing()
        assert gate.methods() == ["GET", "GET", "POST"]
        assert "Authorization" not in gate.heads[0]


async def test_a_wrong_password_at_the_web_server_is_told_and_not_repeated_soon(house: House) -> None:
    async with TunnelGate(1, authorization="Basic other") as gate:
        house.record(gate.uri().replace("http://", "http://u:secret@"))
        await until(lambda: house.state() is RecordingJobState.ERROR)
        assert "refuses the user name or password (401 to the HTTP tunnel)" in house.error()
        assert "lock accounts" in house.error()
        assert "secret" not in house.error()


async def test_posts_that_are_closed_are_opened_anew(house: House) -> None:
    async with Camera([h264_track()]) as camera, TunnelGate(camera.port, close_posts_behind=1) as gate:
        house.record(gate.uri())
        await camera.playing()
        await until(lambda: house.engine.receiver_state(RECEIVER) is ReceiverState.CONNECTED)
        assert gate.methods().count("POST") >= 2
        assert gate.methods().count("GET") == 1


async def test_a_tunnel_that_closes_is_a_lost_source(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera, TunnelGate(camera.port) as gate:
        house.record(gate.uri())
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        await until(lambda: house.state() is RecordingJobState.ACTIVE)
        gate.hang_up()
        await until(lambda: house.storage.recorders[key()].reasons == [GapReason.SOURCE_LOST])
        await camera.playing(2)
    assert [s.data for s in house.storage.recorders[key()].samples] == [key_frame(0)]


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (
            TunnelGate(1, get_answer=b"HTTP/1.1 404 Not Found\r\n\r\n"),
            "answered the GET of the HTTP tunnel with 404 Not",
        ),
        (
            TunnelGate(1, get_answer=b"RTSP/1.0 400 Bad\r\n\r\n"),
            "does not speak HTTP on this port: it answered 'RTSP/1",
        ),
        (TunnelGate(1, get_answer=b"x" * 20_000), "answered the GET of the HTTP tunnel with an endless head"),
        (TunnelGate(1, get_answer=b"HTTP/1.1 2"), "closed the connection instead of answering the GET of the HTTP"),
        (TunnelGate(1, authorization="none"), "asks for a user name and password, the media URI has none"),
    ],
    ids=["404", "no HTTP", "endless", "closed", "401"],
)
async def test_each_bad_answer_is_told(house: House, gate: TunnelGate, text: str) -> None:
    async with gate:
        house.record(gate.uri())
        await until(lambda: house.state() is RecordingJobState.ERROR)
        assert text in house.error()


async def test_a_refused_post_is_told(house: House) -> None:
    refused = b"HTTP/1.1 405 Method Not Allowed\r\n\r\n"
    async with (
        Camera([h264_track()], answers={"OPTIONS": lambda q, a: None}) as camera,
        TunnelGate(camera.port, post_answer=refused) as gate,
    ):
        house.record(gate.uri())
        await until(lambda: house.state() is RecordingJobState.ERROR)
        assert "answered the POST of the HTTP tunnel with 405 Method Not Allowed" in house.error()


async def test_a_tunnel_goes_over_tls_where_the_uri_says_so(tmp_path: Path) -> None:
    context, trusted = server_context(tmp_path)
    storage, track = FakeStorage(), h264_track()
    engine = IngestEngine(storage, dataclasses.replace(QUICK, tls_ca_file=trusted))
    await engine.start()
    async with Camera([track]) as camera, TunnelGate(camera.port, tls=context) as gate:
        job = a_job(a_source("rcv-1", ("", "VIDEO001")))
        engine.apply([a_recording()], [job], [a_receiver(gate.uri("https"), protocol=HTTP)])
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        for n in range(30):
            camera.send_unit(track, key_frame(n) if n % 25 == 0 else picture(n), n * 3600)
        await until(lambda: len(storage.recorders[key()].samples) == 25)
        await engine.stop()


@pytest.mark.parametrize(
    ("uri", "sent", "port", "tls", "path"),
    [
        ("rtsp://h/s?a=1", "rtsp://h/s?a=1", 80, False, "/s?a=1"),
        ("http://h", "rtsp://h", 80, False, "/"),
        ("http://h:8000?x", "rtsp://h:8000?x", 8000, False, "/?x"),
        ("https://[::1]/s", "rtsp://[::1]/s", 443, True, "/s"),
        ("rtsps://h/s", "rtsps://h/s", 443, True, "/s"),
    ],
)
def test_a_tunnel_goes_to_the_ports_of_the_web(uri: str, sent: str, port: int, tls: bool, path: str) -> None:
    e = Endpoint.parse(uri, tunnel=True)
    assert (e.uri, e.port, e.tls, e.path) == (sent, port, tls, path)


@given(data=st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: b"HTTP/1.1 " + b))
@example("HTTP/1.1 ²".encode("latin-1"))
def test_any_head_is_understood_or_told(data: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert 0 <= _Head.parse(data, Endpoint.parse("http://h/", tunnel=True)).status <= 999


def test_without_a_tunnel_http_is_no_scheme() -> None:
    with pytest.raises(SourceError, match="rtsp, rtsps are understood"):
        Endpoint.parse("http://h/s")
