"""Pictures that change their size: recorded into files of their own, replayed in one session, decoded in both."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import av
import pytest

from nvr.ingest.pipeline import TrackPipeline
from nvr.media.codecs import depacketizer_for, packetizer_for
from nvr.media.codecs.av1 import Av1Packetizer
from nvr.media.codecs.h264 import H264Packetizer
from nvr.media.codecs.h265 import H265Packetizer
from nvr.media.codecs.jpeg import JpegPacketizer
from nvr.media.codecs.mpeg4 import Mpeg4Packetizer
from nvr.media.rtp import RtpPacket
from nvr.media.unit import AccessUnit, CodecConfiguration, Packetizer, Sample
from nvr.model.recording import TrackType
from nvr.model.time import ns_from_ticks
from nvr.model.timeline import GapReason
from nvr.replay.sender import Origin, RtpStream
from nvr.replay.unit import Unit
from nvr.storage.engine import StorageEngine
from tests.support.footage import START
from tests.support.footage_index import IndexInMemory
from tests.support.ingest import key
from tests.support.rtp_streams import encode_pictures, encode_video, feed, nals_of, packets_of, sample_form
from tests.support.volumes import settings_in

COUNT = 6
SIZES = ((160, 96), (224, 128), (160, 96))
ENCODERS: dict[str, tuple[str, dict[str, str], str, type[Packetizer]]] = {
    "H264": ("libx264", {"bf": "2", "g": "6", "x264-params": "repeat-headers=1"}, "h264", H264Packetizer),
    "H265": (
        "libx265",
        {"x265-params": "keyint=6:bframes=2:repeat-headers=1:pools=1:frame-threads=1:log-level=none"},
        "hevc",
        H265Packetizer,
    ),
    "JPEG": ("mjpeg", {"huffman": "default", "threads": "1"}, "mjpeg", JpegPacketizer),
    # Without B-VOPs: FFmpeg drops the picture that its decoder holds back when the size changes.
    "MP4V-ES": ("mpeg4", {"g": "6", "bf": "0"}, "mpeg4", Mpeg4Packetizer),
    "AV1": ("libsvtav1", {"preset": "12", "svtav1-params": "keyint=6"}, "libdav1d", Av1Packetizer),
}


@cache
def taken(encoding: str, size: tuple[int, int]) -> list[AccessUnit]:
    """Units as they come from a camera, headers in band."""
    encoder, options, _, packetizer = ENCODERS[encoding]
    encode = encode_video if encoding in ("H264", "H265") else encode_pictures
    encoded = encode(encoder, COUNT, options, *size, "yuvj420p" if encoding == "JPEG" else "yuv420p")
    units = feed(depacketizer_for(encoding, 90_000), packets_of(packetizer(1400), encoded.units))  # type: ignore[call-arg]
    assert len(units) == COUNT
    return units


def bare(encoding: str, data: bytes) -> bytes:
    """A unit of a camera that tells parameter sets in the session description alone."""
    if encoding in ("H264", "H265"):
        of_sets = (lambda n: n[0] & 31 in (7, 8)) if encoding == "H264" else (lambda n: n[0] >> 1 & 63 in (32, 33, 34))
        return sample_form(*(n for n in nals_of(data) if not of_sets(n)))
    if encoding == "MP4V-ES":
        at = min(p for p in (data.find(b"\0\0\1\xb3"), data.find(b"\0\0\1\xb6")) if p >= 0)
        return data[at:]
    return data


def stream(encoding: str, in_band: bool) -> list[tuple[Sample, CodecConfiguration]]:
    found = []
    for n, size in enumerate(SIZES):
        for unit in taken(encoding, size):
            at = START + ns_from_ticks(unit.rtp_time + n * COUNT * 3600, 90_000)
            data = unit.data if in_band else bare(encoding, unit.data)
            found.append((Sample(at, data, unit.clean_point), unit.configuration))
    return found


def annex_b(encoding: str, data: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + n for n in nals_of(data)) if encoding in ("H264", "H265") else data


def sizes_of(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(f.width, f.height) for f in container.decode(video=0)]


@pytest.mark.requirement("RC-5.1-09")
@pytest.mark.parametrize("in_band", [True, False], ids=["in band", "described"])
@pytest.mark.parametrize("encoding", ENCODERS)
async def test_each_size_has_files_of_its_own_and_one_decoder_takes_the_replay(
    encoding: str, in_band: bool, tmp_path: Path
) -> None:
    storage = StorageEngine(settings_in(tmp_path), IndexInMemory())
    await storage.start()
    try:
        pipeline = TrackPipeline(storage.recorder(key(), TrackType.VIDEO), TrackType.VIDEO)
        for sample, configuration in stream(encoding, in_band):
            pipeline.push(sample, configuration)
        pipeline.end_run(GapReason.JOB_STOPPED)
        await storage.flush()
        runs = storage.timeline(key()).runs
        assert [run.end_reason for run in runs] == [GapReason.CONFIGURATION_CHANGED] * 2 + [GapReason.JOB_STOPPED]
        assert [run.start_ns for run in runs[1:]] == [run.end_ns for run in runs[:-1]]
        files = sorted((tmp_path / "default").glob("**/*.mp4"), key=lambda p: p.stat().st_mtime_ns)
        played = await asyncio.gather(*(asyncio.to_thread(sizes_of, f) for f in files))
        assert sorted(played) == sorted([size] * COUNT for size in SIZES)
        footage = storage.footage(key())
        stored = [(ref.configuration, s) for ref in footage.fragments(0) for s in footage.read(ref)]
    finally:
        await storage.stop()

    announced = stored[0][0]
    sender = RtpStream(announced, 96, lambda c: packetizer_for(c, 1400), Origin(1, 0, 0), None)
    out: list[bytes | memoryview] = []
    for configuration, s in stored:
        ticks = (s.utc_ns - START) * 9 // 100_000
        sender.append(Unit(0, s.utc_ns, 0, 0, s.data, configuration, s.clean_point), ticks, None, out)
    assert sender.refused == 0
    parameters = dict(p.strip().partition("=")[::2] for p in (announced.fmtp() or "").split(";"))
    receiver = depacketizer_for(encoding, 90_000, None, parameters)
    units = []
    for packet in (RtpPacket.parse(bytes(p)) for p in out):
        view = memoryview(packet.payload)
        units += receiver.push(view, 0, len(view), packet.timestamp, packet.marker)
    assert (len(units), receiver.dropped) == (3 * COUNT, 0)
    decoder = av.CodecContext.create(ENCODERS[encoding][2], "r")
    headers = b"" if in_band else annex_b(encoding, announced.in_band())
    pictures = [
        (f.width, f.height)
        for n, u in enumerate([*units, None])
        for f in decoder.decode(None if u is None else av.Packet((b"" if n else headers) + annex_b(encoding, u.data)))
    ]
    assert pictures == [size for size in SIZES for _ in range(COUNT)]
