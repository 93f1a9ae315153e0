"""Stock players on footage of the real storage engine: FFmpeg as a plain player, GStreamer as an ONVIF client."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import av
import pytest

from nvr.demo.encoder import VideoEncoder
from nvr.media.codecs.h264 import H264Configuration
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS, utc_from_ntp
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, VIDEO001, RecordingToken, TrackKey, TrackToken
from nvr.replay.authentication import DigestAuthenticator
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer
from nvr.storage.engine import StorageEngine
from tests.replay.test_server import Accounts
from tests.support.footage import B_PYRAMID, START, cut, encoded_aac, encoded_h264, encoded_h265
from tests.support.footage_index import IndexInMemory
from tests.support.gstreamer import SYSTEM_PYTHON, client_missing
from tests.support.rtp_streams import nals_of
from tests.support.rtsp_client import RtspClient
from tests.support.volumes import settings_in

TOKEN = RecordingToken("rec-0123456789abcdef0123456789abcdef")
TYPES = {VIDEO001: TrackType.VIDEO, AUDIO001: TrackType.AUDIO}
GST = shutil.which("gst-launch-1.0")
ROOT = Path(__file__).parent.parent

Stream = tuple[CodecConfiguration, tuple[Sample, ...]]


class House:
    """A recording in the storage engine and a server in front of it."""

    def __init__(self, engine: StorageEngine, server: RtspServer) -> None:
        self.engine = engine
        self.server = server

    @property
    def path(self) -> str:
        return f"/replay/{TOKEN}"

    def uri(self, credentials: str = "") -> str:
        return f"rtsp://{credentials}127.0.0.1:{self.server.port}{self.path}"

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
async def house(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """Files of one second, so that replay runs over rotations."""
    async with AsyncExitStack() as stack:
        engine = StorageEngine(settings_in(tmp_path, rotation_ns=NS), IndexInMemory())
        await engine.start()
        stack.push_async_callback(engine.stop)
        tracks = tuple(Track(t, TrackConfiguration(kind)) for t, kind in TYPES.items())

        def find(token: str) -> Recording:
            return Recording(RecordingToken(token), RecordingConfiguration(), tracks)

        mounts = Mounts(RecordingMounts(find, engine))
        authenticator = DigestAuthenticator(Accounts(), "nvr") if hasattr(request, "param") else None
        server = RtspServer(mounts, authenticator)
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


@pytest.mark.requirement("PB-8.5.2-08", "PB-8.5.1-08", "PB-8.2-09")
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


@pytest.mark.parametrize("house", ["digest"], indirect=True)
@pytest.mark.requirement("PB-8.1-13")
async def test_ffmpeg_authenticates_with_digest(house: House) -> None:
    await house.record(VIDEO001, encoded_h264())
    found = await asyncio.to_thread(demuxed, house.uri("watcher:secret@"), 10)
    assert len(found["video"]) >= 10


@pytest.mark.requirement("PB-8.3.1-04", "PB-8.3.2-02")
async def test_every_unit_comes_with_its_time_of_recording(house: House) -> None:
    video = encoded_h264()
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
    await client.close()


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(40):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace")


async def gstreamer(house: House, out: Path, *pipeline: str, protocols: str = "tcp", uri: str = "") -> list[bytes]:
    """The NAL units that a pipeline behind rtspsrc writes, parameter sets aside: the depayloader adds some.

    Raises TimeoutError when it does not end by itself. Its exit status says little: now and then rtspsrc 1.22 closes
    its connection at the end of the stream and then fails to send PAUSE on it.
    """
    assert GST is not None
    output = await run(
        GST, "-q", "rtspsrc", f"location={uri or house.uri()}", f"protocols={protocols}", *pipeline,
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


@pytest.mark.skipif(GST is None, reason="gst-launch-1.0 (gstreamer1.0-tools) is not installed")
async def test_gstreamer_as_a_plain_player_receives_every_frame(house: House, tmp_path: Path) -> None:
    video = encoded_h264(30)
    await house.record(VIDEO001, video, START + 1_200_000_000)
    received = await gstreamer(
        house, tmp_path / "received.h264", "latency=200", *DEPAY, "!", "identity", f"eos-after={len(video[1])}"
    )
    # identity ends the stream in place of the buffer with that number.
    assert received == without_sets([nal for s in video[1][:-1] for nal in nals_of(s.data)])


def frames(uri: str, options: dict[str, str], wanted: int) -> list[list[bytes]]:
    """The NAL units of each picture that FFmpeg gets."""
    found: list[list[bytes]] = []
    with av.open(uri, options=options, timeout=(15, 2)) as container:
        for packet in container.demux(video=0):
            if bytes(packet):
                found.append(annex_b(bytes(packet)))
            if len(found) >= wanted:
                break
    return found


@pytest.mark.requirement("PB-8.1-02")
async def test_ffmpeg_plays_by_udp_with_large_pictures_and_loses_nothing(house: House) -> None:
    video = encoded_h264(30)
    await house.record(VIDEO001, video)
    found = await asyncio.to_thread(frames, house.uri(), {"rtsp_transport": "udp"}, 29)
    assert found == [nals_of(s.data) for s in video[1]][:29]


@pytest.mark.skipif(GST is None, reason="gst-launch-1.0 (gstreamer1.0-tools) is not installed")
@pytest.mark.requirement("PB-8.1-02", "PB-8.5.3-07")
async def test_gstreamer_in_onvif_mode_receives_every_frame_by_udp_without_rate_control(
    house: House, tmp_path: Path
) -> None:
    video = encoded_h264()
    await house.record(VIDEO001, video)
    mode = ("onvif-mode=true", "onvif-rate-control=false", "buffer-mode=none", "!", "rtponvifparse")
    received = await gstreamer(house, tmp_path / "received.h264", *mode, *DEPAY, protocols="udp")
    assert received == without_sets([nal for s in video[1] for nal in nals_of(s.data)])


async def test_ffmpeg_plays_through_the_http_tunnel_of_the_rtsp_port(house: House) -> None:
    video = encoded_h264(30)
    await house.record(VIDEO001, video)
    found = await asyncio.to_thread(frames, house.uri(), {"rtsp_transport": "http"}, 29)
    assert found == [nals_of(s.data) for s in video[1]][:29]


@pytest.mark.skipif(GST is None, reason="gst-launch-1.0 (gstreamer1.0-tools) is not installed")
@pytest.mark.requirement("PB-8.1-01")
async def test_gstreamer_in_onvif_mode_receives_every_frame_through_the_http_tunnel(
    house: House, tmp_path: Path
) -> None:
    video = encoded_h264()
    await house.record(VIDEO001, video)
    mode = ("onvif-mode=true", "onvif-rate-control=false", "buffer-mode=none", "!", "rtponvifparse")
    uri = house.uri().replace("rtsp://", "rtsph://")
    received = await gstreamer(house, tmp_path / "received.h264", *mode, *DEPAY, protocols="http+tcp", uri=uri)
    assert received == without_sets([nal for s in video[1] for nal in nals_of(s.data)])


def numbered(frames: int, gap_before: int) -> tuple[CodecConfiguration, tuple[Sample, ...]]:
    """Pictures with their numbers burnt in, ten a second, a clean point every second, a gap of 20 s before one."""
    encoder = VideoEncoder(320, 180, 10)
    samples = []
    for number in range(frames):
        at_ns = START + number * NS // 10 + (20 * NS if number >= gap_before else 0)
        data, clean = encoder.encode(number, at_ns)
        samples.append(Sample(at_ns, data, clean))
    nals = nals_of(samples[0].data)
    sets = {kind: tuple(n for n in nals if n[0] & 31 == kind) for kind in (7, 8)}
    return H264Configuration(sets[7], sets[8]), tuple(samples)


def shown(uri: str, *starts: float) -> tuple[float, list[float], list[list[bytes]]]:
    """What FFmpeg says of a recording, and gets of it behind each seek in one session.

    Returns its duration, and for each seek the time of the second picture that comes and the NAL units of the first
    three: FFmpeg gives no time to the first one behind a jump.
    """
    times, pictures = [], []
    with av.open(uri, options={"rtsp_transport": "tcp"}, timeout=(15, 2)) as container:
        assert container.duration is not None
        for start in starts:
            container.seek(round(start * av.time_base))
            found = []
            for packet in container.demux(video=0):
                found.append(packet)
                if len(found) == 3:
                    break
            assert found[1].pts is not None
            times.append(float(found[1].pts * found[1].time_base))
            pictures.append([nal for p in found for nal in annex_b(bytes(p))])
        return container.duration / av.time_base, times, pictures


@pytest.mark.requirement("PB-8.5.2-08", "PB-8.2-05")
async def test_ffmpeg_sees_the_duration_and_seeks_over_a_gap(house: House) -> None:
    """Six seconds of pictures, ten a second and a clean point every second, with a gap of 20 s in their middle."""
    configuration, samples = numbered(60, gap_before=30)
    await house.record(VIDEO001, (configuration, samples[:30]))
    await house.record(VIDEO001, (configuration, samples[30:]), START + 26 * NS)
    duration, times, pictures = await asyncio.to_thread(shown, house.uri(), 4.5, 1.5, 3.0, 5.95)
    assert duration == pytest.approx(6)
    assert times == pytest.approx([4.1, 1.1, 3.1, 5.1])
    for found, first in zip(pictures, [40, 10, 30, 50], strict=True):
        assert without_sets(found) == without_sets([n for s in samples[first : first + 3] for n in nals_of(s.data)])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
async def test_the_ffmpeg_command_cuts_a_clip_out_of_a_recording(house: House, tmp_path: Path) -> None:
    """Behind a gap; from the clean point at the time asked for; and it ends behind the second that it wants."""
    configuration, samples = numbered(60, gap_before=0)
    moved = tuple(Sample(s.utc_ns + 11 * NS, s.data, s.clean_point) for s in samples)
    await house.record(VIDEO001, (configuration, samples), START + 26 * NS)
    await house.record(VIDEO001, (configuration, moved), START + 37 * NS)
    clip = tmp_path / "clip.mp4"
    await run(
        "ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-ss", "8", "-i", house.uri(), "-t", "1", "-map", "0:v",
        "-c", "copy", str(clip),
    )  # fmt: skip
    with av.open(str(clip)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    assert 10 <= len(packets) <= 12
    assert moved[20].data in packets[0]


@pytest.mark.skipif(client_missing() is not None, reason=str(client_missing()))
@pytest.mark.requirement(
    "PB-8.5.1-02", "PB-8.5.1-11", "PB-8.5.2-02", "PB-8.5.2-04", "PB-8.5.4-01", "PB-8.5.4-03", "PB-8.6.2-05", "PB-8.4-03"
)  # fmt: skip
async def test_gstreamer_as_an_onvif_client_shows_each_picture_in_both_directions(house: House) -> None:
    """One RTSP session that seeks while it plays: backwards, backwards over key frames, and forwards again."""
    configuration, samples = numbered(60, gap_before=30)
    await house.record(VIDEO001, (configuration, samples[:30]))
    await house.record(VIDEO001, (configuration, samples[30:]), START + 26 * NS)
    end, middle = str(START + 30 * NS), str(START + 24_510_000_000)
    seeks = [
        (("-1.0", end, str(START), "all", "0"), [*range(59, -1, -1)]),
        (("-1.0", middle, str(START), "all", "0"), [*range(45, -1, -1)]),
        (("-1.0", end, str(START), "key", "0"), [50, 40, 30, 20, 10, 0]),
        (("-1.0", end, str(START), "key/2000", "0"), [50, 30, 20, 0]),
        (("1.0", str(START + 1_510_000_000), "-", "all", "59"), [*range(10, 60)]),
        (("1.0", str(START), "-", "key/2000", "50"), [0, 20, 30, 50]),
    ]
    arguments = [a for seek, _ in seeks for a in seek]
    client = ROOT / "support" / "gst_onvif_client.py"
    output = await run(str(SYSTEM_PYTHON), str(client), house.uri(), "no", *arguments)
    played = [part.split() for part in output.split("seek")[1:]]
    # What was on its way when the seek was made may still come out before the pictures asked for.
    assert [p[-len(wanted) :] for p, (_, wanted) in zip(played, seeks, strict=True)] == [
        [str(n) for n in wanted] for _, wanted in seeks
    ], output
