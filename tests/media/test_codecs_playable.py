"""Sample entries in a fragmented movie: a stock demuxer and decoder take each of them."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import subprocess
from pathlib import Path

import av
import pytest

from nvr.media.bmff.fragment import FragmentBuilder
from nvr.media.bmff.init import Identity, build_head
from nvr.media.codecs import depacketizer_for
from nvr.media.codecs.aac import AacConfiguration
from nvr.media.codecs.g711 import PcmaConfiguration, PcmuConfiguration
from nvr.media.codecs.h264 import H264Packetizer
from nvr.media.codecs.h265 import H265Packetizer
from nvr.media.codecs.metadata import GzipMetadataConfiguration, MetadataConfiguration
from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.time import ns_from_ticks
from tests.support.rtp_streams import encode_aac, encode_video, feed, packets_of

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
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        pytest.skip("ffprobe is not installed")
    file = tmp_path / "metadata.mp4"
    file.write_bytes(data)
    shown = subprocess.run(
        [ffprobe, "-v", "error", "-show_streams", "-count_packets", "-of", "json", str(file)],
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert shown.stderr == b""
    [stream] = json.loads(shown.stdout)["streams"]
    assert (stream["codec_type"], stream["codec_tag_string"], stream["nb_read_packets"]) == ("data", "metx", "5")
