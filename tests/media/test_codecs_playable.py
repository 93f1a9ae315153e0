"""Sample entries in a fragmented movie: a stock demuxer and decoder take each of them."""

from __future__ import annotations

import gzip
import io
import json
import math
import random
import shutil
import subprocess
from operator import mul
from pathlib import Path

import av
import pytest

from nvr.media.bmff.fragment import FragmentBuilder
from nvr.media.bmff.init import Identity, build_head
from nvr.media.codecs import depacketizer_for
from nvr.media.codecs.aac import AacConfiguration
from nvr.media.codecs.av1 import Av1Packetizer
from nvr.media.codecs.g711 import PcmaConfiguration, PcmuConfiguration
from nvr.media.codecs.g726 import CONFIGURATIONS
from nvr.media.codecs.h264 import H264Packetizer
from nvr.media.codecs.h265 import H265Packetizer
from nvr.media.codecs.jpeg import JpegPacketizer
from nvr.media.codecs.l16 import L16Configuration
from nvr.media.codecs.metadata import GzipMetadataConfiguration, MetadataConfiguration
from nvr.media.codecs.mpeg4 import Mpeg4Packetizer
from nvr.media.codecs.opus import OpusConfiguration
from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.time import ns_from_ticks
from tests.support.rtp_streams import (
    Packet,
    decode_pictures,
    encode_aac,
    encode_pictures,
    encode_sound,
    encode_video,
    feed,
    luma,
    packets_of,
)  # fmt: skip

START_NS = 1_700_000_000_000_000_000


def movie(configuration: CodecConfiguration, units: list[tuple[int, bytes]], ticks: int) -> bytes:
    """A track file of one fragment; units are (ticks, data) in decode order, `ticks` the length of the last one."""
    rate = configuration.clock_rate
    samples = [Sample(START_NS + ns_from_ticks(t, rate), data, i == 0) for i, (t, data) in enumerate(units)]
    end = START_NS + ns_from_ticks(max(t for t, _ in units) + ticks, rate)
    identity = Identity("f", "v", "r", "t", "run", 0, None, START_NS, configuration.encoding)
    built = FragmentBuilder(START_NS, rate).build(Fragment(configuration, samples, end))
    return b"".join((build_head(configuration, identity), built.head, *built.body))


@pytest.mark.parametrize(
    ("encoding", "encoder", "options", "codec", "packetizer"),
    [
        ("H264", "libx264", {"g": "10", "x264-params": "repeat-headers=1:bframes=2"}, "h264", H264Packetizer),
        (
            "H265",
            "libx265",
            {"x265-params": "keyint=10:repeat-headers=1:bframes=2:pools=1:frame-threads=1:log-level=none"},
            "hevc",
            H265Packetizer,
        ),
    ],
)
def test_video_plays_from_a_fragmented_movie(encoding, encoder, options, codec, packetizer) -> None:  # type: ignore[no-untyped-def]
    encoded = encode_video(encoder, 20, options)
    units = feed(depacketizer_for(encoding, 90000), packets_of(packetizer(1400), encoded.units))
    data = movie(units[0].configuration, [(u.rtp_time, u.data) for u in units], 3600)
    with av.open(io.BytesIO(data)) as container:
        [stream] = container.streams
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, 160, 96)
        frames = list(container.decode(stream))
    # FFmpeg may shift all times alike where composition offsets are negative.
    assert [f.pts - frames[0].pts for f in frames] == [n * 3600 for n in range(20)]
    assert frames[0].key_frame


@pytest.mark.parametrize(
    ("encoder", "pixels", "options", "encoding", "codec"),
    [
        ("mjpeg", "yuvj420p", {"huffman": "default", "threads": "1"}, "JPEG", "mjpeg"),
        ("mpeg4", "yuv420p", {"g": "10", "bf": "2"}, "MP4V-ES", "mpeg4"),
        ("libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "keyint=10"}, "AV1", "libdav1d"),
    ],
)
def test_other_video_plays_from_a_fragmented_movie(encoder, pixels, options, encoding, codec, tmp_path) -> None:  # type: ignore[no-untyped-def]
    encoded = encode_pictures(encoder, 20, options, pixels=pixels)
    packetizer = {"JPEG": JpegPacketizer, "MP4V-ES": Mpeg4Packetizer, "AV1": Av1Packetizer}[encoding](1400)
    units = feed(depacketizer_for(encoding, 90000), packets_of(packetizer, encoded.units))
    assert len(units) == 20
    data = movie(units[0].configuration, [(u.rtp_time, u.data) for u in units], 3600)
    with av.open(io.BytesIO(data)) as container:
        [stream] = container.streams
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, 160, 96)
        frames = list(container.decode(stream))
    assert [f.pts - frames[0].pts for f in frames] == [n * 3600 for n in range(20)]
    assert [luma(f) for f in frames] == decode_pictures(codec, [d for _, d in encoded.units])
    stream = probed(data, tmp_path)
    assert (stream["width"], stream["nb_read_packets"]) == (160, "20")


@pytest.mark.parametrize(
    ("configuration", "encoder", "layout", "length", "bit_rate", "codec"),
    [
        (OpusConfiguration(), "libopus", "stereo", 960, 0, "opus"),
        (L16Configuration(44100, 2), "pcm_s16be", "stereo", 441, 0, "pcm_s16be"),
        (L16Configuration(96000), "pcm_s16be", "mono", 441, 0, "pcm_s16be"),
        *((CONFIGURATIONS[f"G726-{k}"](), "g726le", "mono", 320, k * 1000, "g726") for k in (16, 24, 32, 40)),
    ],
    ids=lambda c: c.rtpmap() if hasattr(c, "rtpmap") else "",
)
def test_other_sound_plays_from_a_fragmented_movie(  # type: ignore[no-untyped-def]
    configuration, encoder, layout, length, bit_rate, codec, tmp_path
) -> None:
    rate = configuration.clock_rate
    encoded = encode_sound(encoder, rate, layout, length, 25, bit_rate)
    packets = [Packet(data, at + rate & 0xFFFF_FFFF, False) for at, data in encoded.units]
    made = depacketizer_for(configuration.encoding, rate, 2 if layout == "stereo" else 1)
    units = feed(made, packets)
    data = movie(units[0].configuration, [(u.rtp_time - units[0].rtp_time, u.data) for u in units], length)
    with av.open(io.BytesIO(data)) as container:
        [stream] = container.streams
        context = stream.codec_context
        channels = 2 if layout == "stereo" else 1
        assert (context.name, context.sample_rate, context.layout.nb_channels) == (codec, rate, channels)
        frames = list(container.decode(stream))
    assert sum(f.samples for f in frames) >= 25 * length - 320
    if codec != "opus":  # whose decoder has a lead
        heard = [v for f in frames for v in memoryview(bytes(f.planes[0])).cast("h")[: f.samples * channels]]
        sent = [math.sin((i // channels) * 2 * math.pi * 440 / rate) for i in range(len(heard))]
        alike = sum(map(mul, heard, sent)) / math.sqrt(sum(map(mul, heard, heard)) * sum(map(mul, sent, sent)))
        assert alike > 0.9
    assert probed(data, tmp_path)["codec_type"] == "audio"


def probed(data: bytes, where: Path) -> dict[str, str]:
    """What ffprobe says of the one stream; nothing it could complain of."""
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        pytest.skip("ffprobe is not installed")
    file = where / "movie.mp4"
    file.write_bytes(data)
    shown = subprocess.run(
        [ffprobe, "-v", "error", "-show_streams", "-count_packets", "-of", "json", str(file)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert shown.stderr == b""
    [stream] = json.loads(shown.stdout)["streams"]
    return dict(stream)


def test_aac_plays_from_a_fragmented_movie() -> None:
    encoded = encode_aac()
    data = movie(AacConfiguration(encoded.extradata, 48000, 2), encoded.units, 1024)
    with av.open(io.BytesIO(data)) as container:
        [stream] = container.streams
        assert (stream.codec_context.name, stream.codec_context.sample_rate) == ("aac", 48000)
        assert stream.codec_context.layout.name == "stereo"
        assert sum(f.samples for f in container.decode(stream)) >= 45 * 1024


@pytest.mark.parametrize(
    ("configuration", "codec"),
    [
        (PcmuConfiguration(), "pcm_mulaw"),
        (PcmaConfiguration(), "pcm_alaw"),
        (PcmuConfiguration(8000, 2), "pcm_mulaw"),
        (PcmaConfiguration(16000), "pcm_alaw"),
    ],
)
def test_g711_plays_from_a_fragmented_movie(configuration: CodecConfiguration, codec: str) -> None:
    channels = configuration.channels  # type: ignore[attr-defined]
    octets = random.Random(3).randbytes(160 * channels * 50)
    size = 160 * channels
    units = [(n * 160, octets[n * size : (n + 1) * size]) for n in range(50)]
    data = movie(configuration, units, 160)
    with av.open(io.BytesIO(data)) as container:
        [stream] = container.streams
        context = stream.codec_context
        assert (context.name, context.sample_rate, context.layout.nb_channels) == (
            codec,
            configuration.clock_rate,
            channels,
        )
        packets = [p for p in container.demux(stream) if p.size]
        assert b"".join(bytes(p) for p in packets) == octets
        assert packets[-1].pts + packets[-1].duration == 8000
        assert sum(f.samples for p in packets for f in p.decode()) == 8000


@pytest.mark.parametrize("configuration", [MetadataConfiguration(), GzipMetadataConfiguration()])
def test_metadata_does_not_stop_a_stock_demuxer(configuration: MetadataConfiguration, tmp_path: Path) -> None:
    documents = [f"<tt:MetadataStream n='{n}'></tt:MetadataStream>".encode() for n in range(5)]
    if isinstance(configuration, GzipMetadataConfiguration):
        documents = [gzip.compress(d) for d in documents]
    data = movie(configuration, [(n * 9000, d) for n, d in enumerate(documents)], 9000)
    with av.open(io.BytesIO(data)) as container:
        [stream] = container.streams
        assert stream.type == "data"
        assert [bytes(p) for p in container.demux(stream) if p.size] == documents
    stream = probed(data, tmp_path)
    assert (stream["codec_type"], stream["codec_tag_string"], stream["nb_read_packets"]) == ("data", "metx", "5")
