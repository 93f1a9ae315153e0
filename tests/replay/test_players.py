"""Stock players on footage of the real storage engine: FFmpeg as a plain player, GStreamer as an ONVIF client.

By which ways they come, and how they seek: tests/e2e/test_replay_ffmpeg.py and test_replay_gstreamer.py.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import av
import pytest

from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS, utc_from_ntp
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, VIDEO001, RecordingToken, TrackKey, TrackToken
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer
from nvr.storage.engine import StorageEngine
from tests.support.footage import B_PYRAMID, START, cut, encoded_aac, encoded_h264, encoded_h265
from tests.support.footage_index import IndexInMemory
from tests.support.programs import run
from tests.support.rtp_streams import nals_of
from tests.support.rtsp_client import RtspClient
from tests.support.volumes import settings_in

TOKEN = RecordingToken("rec-0123456789abcdef0123456789abcdef")
TYPES = {VIDEO001: TrackType.VIDEO, AUDIO001: TrackType.AUDIO}
GST = shutil.which("gst-launch-1.0")

Stream = tuple[CodecConfiguration, tuple[Sample, ...]]


class House:
    """A recording in the storage engine and a server in front of it."""

    def __init__(self, engine: StorageEngine, server: RtspServer) -> None:
        self.engine = engine
        self.server = server

    @property
    def path(self) -> str:
        return f"/replay/{TOKEN}"

    def uri(self) -> str:
        return f"rtsp://127.0.0.1:{self.server.port}{self.path}"

    async def record(
        self, track: TrackToken, stream: Stream, end_ns: int = START + 3 * NS, token: RecordingToken = TOKEN
    ) -> None:
        recorder = self.engine.recorder(TrackKey(token, track), TYPES[track])
        configuration, samples = stream
        at = None if track == VIDEO001 else list(range(0, len(samples), 50))
        for fragment in cut(configuration, samples, end_ns, at=at):
            assert recorder.append(fragment)
        recorder.end_run(GapReason.JOB_STOPPED)
        await self.engine.flush()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Files of one second, so that replay runs over rotations."""
    async with AsyncExitStack() as stack:
        engine = StorageEngine(settings_in(tmp_path, rotation_ns=NS), IndexInMemory())
        await engine.start()
        stack.push_async_callback(engine.stop)
        tracks = tuple(Track(t, TrackConfiguration(kind)) for t, kind in TYPES.items())

        def find(token: str) -> Recording:
            return Recording(RecordingToken(token), RecordingConfiguration(), tracks)

        mounts = Mounts(RecordingMounts(find, engine))
        server = RtspServer(mounts)
        await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.stop)
        yield House(engine, server)


def demuxed(uri: str, wanted: int) -> dict[str, list[bytes]]:
    """What FFmpeg takes out of the stream until it has so many pictures, or nothing more comes.

    Its parser holds the last picture until the end, which here is the time-out of reading.
    """
    found: dict[str, list[bytes]] = {"video": [], "audio": []}
    with av.open(uri, options={"rtsp_transport": "tcp"}, timeout=(15, 2)) as container:
        for packet in container.demux():
            found[packet.stream.type].append(bytes(packet))
            if len(found["video"]) >= wanted:
                break
    return found


STREAMS = {
    "h264": lambda: encoded_h264(30),
    "h264-b": lambda: encoded_h264(30, B_PYRAMID),
    "h265": lambda: encoded_h265(30),
}


@pytest.mark.requirement("PB-8.5.2-08", "PB-8.2-09")
async def test_ffmpeg_plays_whole_recordings_from_their_uris_alone(house: House) -> None:
    """Three codecs at once, in real time, as nothing else is asked for; each picture and sound byte for byte."""
    audio = encoded_aac(1)
    for name, video in STREAMS.items():
        await house.record(VIDEO001, video(), START + 1_200_000_000, RecordingToken(f"rec-{name}"))
        await house.record(AUDIO001, audio, START + NS, RecordingToken(f"rec-{name}"))
    began = asyncio.get_running_loop().time()
    base = f"rtsp://127.0.0.1:{house.server.port}/replay"
    played = await asyncio.gather(*(asyncio.to_thread(demuxed, f"{base}/rec-{name}", 30) for name in STREAMS))
    assert asyncio.get_running_loop().time() - began > 1.1
    for found, video in zip(played, STREAMS.values(), strict=True):
        assert [annex_b(p) for p in found["video"] if p] == [nals_of(s.data) for s in video()[1]]
        assert [p for p in found["audio"] if p] == [s.data for s in audio[1]]


def annex_b(data: bytes) -> list[bytes]:
    """NAL units of what FFmpeg hands out."""
    parts = data.split(b"\0\0\0\1") if data.startswith(b"\0\0\0\1") else data.split(b"\0\0\1")
    return [n.rstrip(b"\0") for p in parts[1:] for n in p.split(b"\0\0\1")]


@pytest.mark.requirement("PB-8.3.1-04", "PB-8.3.2-02")
@pytest.mark.parametrize("encode", [encoded_h264, encoded_h265], ids=["h264", "h265"])
async def test_every_unit_comes_with_its_time_of_recording(house: House, encode: Callable[[int], Stream]) -> None:
    """C stands on IDR, CRA and BLA pictures, by the types of their NAL units, and on no others."""
    video = encode(75)
    await house.record(VIDEO001, video)
    client = await RtspClient.connect(house.server.port)
    await client.set_up(house.path, VIDEO001)
    await client.request("PLAY", house.path, Rate_Control="no")
    times, clean = [], []
    while len(times) < len(video[1]):
        packet = await client.packet()
        if packet.ntp is not None and (not times or packet.ntp != times[-1]):
            times.append(packet.ntp)
            clean.append("C" in packet.flags)
    assert [abs(utc_from_ntp(t) - s.utc_ns) <= 1 for t, s in zip(times, video[1], strict=True)] == [True] * 75
    assert clean == [s.clean_point for s in video[1]]
    assert clean.count(True) == 3
    await client.close()


async def gstreamer(house: House, out: Path, *pipeline: str) -> list[bytes]:
    """The NAL units that a pipeline behind rtspsrc writes, parameter sets aside: the depayloader adds some.

    Raises TimeoutError when it does not end by itself. Its exit status says little: now and then rtspsrc 1.22 closes
    its connection at the end of the stream and then fails to send PAUSE on it.
    """
    assert GST is not None
    output = await run(
        GST, "-q", "rtspsrc", f"location={house.uri()}", "protocols=tcp", *pipeline,
        "!", "filesink", f"location={out}",
    )  # fmt: skip
    received = without_sets(annex_b(await asyncio.to_thread(out.read_bytes)))
    assert received, output
    return received


def without_sets(nals: list[bytes]) -> list[bytes]:
    return [n for n in nals if n[0] & 31 not in (7, 8)]


DEPAY = ("!", "rtph264depay", "!", "video/x-h264,stream-format=byte-stream,alignment=au")


@pytest.mark.skipif(GST is None, reason="gst-launch-1.0 (gstreamer1.0-tools) is not installed")
@pytest.mark.requirement("PB-8.3.1-08", "PB-8.5.3-03")
async def test_gstreamer_in_onvif_mode_receives_every_frame_and_ends_by_the_terminal_flag(
    house: House, tmp_path: Path
) -> None:
    video = encoded_h264()
    await house.record(VIDEO001, video)
    # Without buffer-mode=none GStreamer 1.22 itself throws the first access unit away: it stamps the first packet with
    # a time before its own segment, whose start is the absolute time of the answer's Range.
    mode = ("onvif-mode=true", "onvif-rate-control=false", "buffer-mode=none", "!", "rtponvifparse")
    received = await gstreamer(house, tmp_path / "received.h264", *mode, *DEPAY)
    assert received == without_sets([nal for s in video[1] for nal in nals_of(s.data)])
