"""A session of ingest on a stage: a camera's packets by hand, and clocks that a test sets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from nvr.ingest.arbiter import SourceStream
from nvr.ingest.connection import CameraConnection
from nvr.ingest.drain import Drain
from nvr.ingest.handshake import PlayingSession
from nvr.ingest.offer import OfferedStream
from nvr.ingest.pipeline import TrackPipeline
from nvr.ingest.session import Session, SessionStream
from nvr.ingest.settings import IngestSettings, Times
from nvr.ingest.stream import StreamReceiver
from nvr.media import codecs
from nvr.media.rtsp.message import Response
from nvr.model.errors import SourceError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from tests.support.camera import CameraTrack, key_frame, picture
from tests.support.ingest import MS, FakeRecorder

START = 1_800_000_000 * NS


@dataclass
class FakeConnection:
    """What a session needs of a connection; packets are handed in by the test."""

    endpoint: str = "camera:554"
    running: bool = True
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200
    silent: bool = False
    closed: bool = False
    bytes_received: int = 0

    def take_over(self, receive_buffer: int | None) -> bool:
        return False

    def send_frame(self, channel: int, data: bytes) -> None:
        self.frames.append((channel, data))

    async def request(self, method: str, uri: str, headers: dict[str, str], *, timeout_ns: int) -> Response:
        self.requests.append((method, uri))
        if self.silent:
            raise SourceError("camera:554 did not answer")
        return Response(self.status)

    def abort(self) -> None:
        self.closed = True


class Stage:
    """A session with the given tracks, each recorded into a fake recorder, at a time that the test moves."""

    def __init__(self, *tracks: CameraTrack, timeout_s: int = 60, public: str = "GET_PARAMETER") -> None:
        self.mono = 500 * NS
        self.utc = START
        self.tracks = tracks
        self.connection = FakeConnection()
        times = Times(lambda: self.utc, lambda: self.mono)
        self.drain = Drain(times.monotonic)
        self.session = Session(IngestSettings(), times, self.drain, "rcv-1@nvr", 0x77)
        kinds = {"video": TrackType.VIDEO, "audio": TrackType.AUDIO, "application": TrackType.METADATA}
        offered = []
        for n, track in enumerate(tracks):
            encoding, rate = track.rtpmap.split("/")
            parameters = dict(p.split("=", 1) for p in track.fmtp.split(";")) if track.fmtp else {}
            depacketizer = codecs.depacketizer_for(encoding, int(rate), None, parameters)
            receiver = StreamReceiver(track.payload_type, int(rate), depacketizer)
            info = SourceStream(n, kinds[track.kind], encoding.upper())
            offered.append(OfferedStream(info, f"rtsp://camera/{n}", receiver, rtcp_channel=2 * n + 1))
        self.session.prepare(
            PlayingSession(
                cast(CameraConnection, self.connection),
                "rtsp://camera/s",
                "abc",
                timeout_s * NS,
                frozenset([public]),
                offered,
            )
        )
        self.recorders = []
        for stream in self.session.streams:
            recorder = FakeRecorder()
            assert stream.info.track_type is not None
            self.session.attach(stream, TrackPipeline(recorder, stream.info.track_type))
            self.recorders.append(recorder)

    @property
    def stream(self) -> SessionStream:
        return self.session.streams[0]

    def packets(self, packets: list[bytes], n: int = 0) -> None:
        for packet in packets:
            self.connection.bytes_received += len(packet)
            view = memoryview(packet)
            self.session.streams[n].receiver.irregular(view, 0, len(view))

    def pictures(self, count: int, first: int = 0) -> None:
        """Pictures at 25 a second that arrive as time goes on; a key frame every second."""
        for number in range(first, first + count):
            data = key_frame(number) if number % 25 == 0 else picture(number)
            self.packets(self.tracks[0].unit(data, number * 3600))
            self.visit()
            self.pass_ns(40 * MS)

    def report(self, utc_ns: int, rtp: int, n: int = 0) -> None:
        self.session.on_rtcp(self.session.streams[n].receiver, self.tracks[n].sender_report(utc_ns, rtp))

    def visit(self) -> None:
        self.session.visit(memoryview(bytearray(0)))

    def pass_ns(self, ns: int) -> None:
        self.mono += ns
        self.utc += ns

    def error(self) -> str | None:
        return str(self.session.closed.result()) if self.session.closed.done() else None


async def settle() -> None:
    """Let the tasks that have been started run."""
    for _ in range(5):
        await asyncio.sleep(0)
