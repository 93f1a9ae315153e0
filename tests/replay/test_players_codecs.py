"""Every codec that is stored, replayed to stock players from the real storage engine and decoded there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import pytest

from nvr.media.codecs import depacketizer_for
from nvr.media.codecs.av1 import Av1Packetizer
from nvr.media.codecs.g726 import CONFIGURATIONS
from nvr.media.codecs.jpeg import JpegPacketizer
from nvr.media.codecs.l16 import L16Configuration
from nvr.media.codecs.mpeg4 import Mpeg4Packetizer
from nvr.media.codecs.opus import OpusConfiguration
from nvr.media.unit import CodecConfiguration, Packetizer, Sample
from nvr.model.time import NS, ns_from_ticks
from nvr.model.tokens import AUDIO001, VIDEO001, RecordingToken
from tests.replay.test_players import GST, House, Stream, house
from tests.support.footage import START
from tests.support.programs import run
from tests.support.rtp_streams import decode_pictures, encode_pictures, encode_sound, feed, luma, packets_of
from tests.support.rtsp_client import RtspClient

__all__ = ["house"]

COUNT = 20
PICTURES: dict[str, tuple[str, dict[str, str], str, str, Callable[[int], Packetizer]]] = {
    "JPEG": ("mjpeg", {"huffman": "default", "threads": "1"}, "yuvj420p", "mjpeg", JpegPacketizer),
    "MP4V-ES": ("mpeg4", {"g": "5", "bf": "2"}, "yuv420p", "mpeg4", Mpeg4Packetizer),
    "AV1": ("libsvtav1", {"preset": "12", "svtav1-params": "keyint=5"}, "yuv420p", "libdav1d", Av1Packetizer),
}
SOUNDS: dict[str, tuple[CodecConfiguration, str, str, int, int]] = {
    "opus": (OpusConfiguration(), "libopus", "stereo", 960, 0),
    "L16": (L16Configuration(44_100, 2), "pcm_s16be", "stereo", 441, 0),
    "G726-24": (CONFIGURATIONS["G726-24"](), "g726le", "mono", 320, 24_000),
    "AAL2-G726-40": (CONFIGURATIONS["AAL2-G726-40"](), "g726", "mono", 320, 40_000),
}


@cache
def pictures(encoding: str, width: int = 160, height: int = 96) -> Stream:
    encoder, options, pixels, _, packetizer = PICTURES[encoding]
    encoded = encode_pictures(encoder, COUNT, options, width, height, pixels)
    units = feed(depacketizer_for(encoding, 90_000), packets_of(packetizer(65_000), encoded.units))
    if encoding == "JPEG" and width > 2040:
        units = feed(
            depacketizer_for("JPEG", 90_000, None, {"x-dimensions": f"{width},{height}"}),
            packets_of(packetizer(65_000), encoded.units),
        )
    assert len(units) == COUNT
    samples = tuple(Sample(START + ns_from_ticks(u.rtp_time, 90_000), u.data, u.clean_point) for u in units)
    return units[0].configuration, samples


@cache
def sound(name: str) -> Stream:
    configuration, encoder, layout, length, bit_rate = SOUNDS[name]
    rate = configuration.clock_rate
    encoded = encode_sound(encoder, rate, layout, length, int(0.7 * rate / length), bit_rate)
    made = depacketizer_for(configuration.encoding, rate, 2 if layout == "stereo" else 1)
    units = [
        u
        for at, data in encoded.units
        for u in made.push(memoryview(data), 0, len(data), at + rate & 0xFFFF_FFFF, False)
    ]
    first = units[0].rtp_time
    samples = tuple(Sample(START + ns_from_ticks(u.rtp_time - first, rate), u.data, True) for u in units)
    return configuration, samples


def played(uri: str, wanted: int) -> tuple[list[bytes], list[bytes], str]:
    """Luma of the pictures and packets of sound, until so many pictures have come, and the codec of the sound."""
    seen: list[bytes] = []
    heard: list[bytes] = []
    # Left to itself FFmpeg waits for more pictures than there are to tell the frame rate of JPEG and AV1.
    with av.open(uri, options={"rtsp_transport": "tcp", "fpsprobesize": "0"}, timeout=(15, 2)) as container:
        name = container.streams.audio[0].codec_context.name
        for packet in container.demux():
            if packet.stream.type == "audio":
                heard.append(bytes(packet))
            else:
                seen += [luma(f) for f in packet.decode()]
            if len(seen) >= wanted:
                break
    return seen, heard, name


@pytest.mark.requirement("PB-8.2-09", "PG-20", "RC-5.24-12")
async def test_ffmpeg_decodes_every_picture_and_hears_all_sound_of_every_codec(house: House) -> None:
    pairs = [("JPEG", "opus"), ("MP4V-ES", "L16"), ("AV1", "G726-24"), ("MP4V-ES", "AAL2-G726-40")]
    for n, (video, audio) in enumerate(pairs):
        await house.record(VIDEO001, pictures(video), START + COUNT * NS // 25, RecordingToken(f"rec-{n}"))
        await house.record(AUDIO001, sound(audio), START + NS, RecordingToken(f"rec-{n}"))
    base = f"rtsp://127.0.0.1:{house.server.port}/replay"
    found = await asyncio.gather(*(asyncio.to_thread(played, f"{base}/rec-{n}", COUNT - 2) for n in range(len(pairs))))
    for (video, audio), (seen, heard, name) in zip(pairs, found, strict=True):
        expected = decode_pictures(PICTURES[video][3], [s.data for s in pictures(video)[1]])
        assert len(set(expected)) == COUNT
        assert seen == expected[: len(seen)], video
        assert len(seen) >= COUNT - 2  # FFmpeg's parser and decoder hold the last ones until the end
        encoder = SOUNDS[audio][1]
        assert name == encoder.removeprefix("lib")
        whole = b"".join(s.data for s in sound(audio)[1])
        if encoder == "g726le":  # files have the other packing
            whole = b"".join(d for _, d in encode_sound(encoder, 8000, "mono", 320, 17, SOUNDS[audio][4]).units)
        assert whole.startswith(b"".join(heard))
        assert len(b"".join(heard)) > 0.8 * len(whole), audio


@pytest.mark.skipif(GST is None, reason="gst-launch-1.0 (gstreamer1.0-tools) is not installed")
@pytest.mark.parametrize(("width", "onvif"), [(160, True), (2560, True), (2560, False)])
async def test_gstreamer_receives_every_image_whatever_its_size(
    house: House, tmp_path: Path, width: int, onvif: bool
) -> None:
    """Also those that RTP/JPEG cannot tell: it takes the size from the session description, and overlooks the JPEG part
    of extensions."""
    assert GST is not None
    video = pictures("JPEG", width, 96 if width == 160 else 64)
    # A plain player ends by its own clock where the range ends, whatever has come by then: far behind the last image.
    await house.record(VIDEO001, video, START + (COUNT * NS // 25 if onvif else 60 * NS))
    out = tmp_path / "received.jpegs"
    onvif_mode = ("onvif-mode=true", "onvif-rate-control=false", "buffer-mode=none", "!", "rtponvifparse")
    until = ("!", "identity", f"eos-after={COUNT}")  # which ends the stream in place of the image with that number
    await run(
        GST, "-q", "rtspsrc", f"location={house.uri()}", "protocols=tcp", *(onvif_mode if onvif else ("latency=200",)),
        "!", "rtpjpegdepay", *(() if onvif else until), "!", "filesink", f"location={out}",
    )  # fmt: skip
    data = await asyncio.to_thread(out.read_bytes)
    images = [b"\xff\xd8" + part for part in data.split(b"\xff\xd8")[1:]]
    expected = decode_pictures("mjpeg", [s.data for s in video[1]])
    assert decode_pictures("mjpeg", images) == (expected if onvif else expected[:-1])


@pytest.mark.requirement("PB-8.3.1-04", "PB-8.1-24")
@pytest.mark.parametrize("encoding", PICTURES)
async def test_c_stands_where_decoding_can_begin_and_the_marker_where_a_picture_ends(
    house: House, encoding: str
) -> None:
    video = pictures(encoding)
    await house.record(VIDEO001, video, START + COUNT * NS // 25)
    client = await RtspClient.connect(house.server.port)
    await client.set_up(house.path, VIDEO001)
    await client.request("PLAY", house.path, Rate_Control="no")
    flags: list[bool] = []
    markers = 0
    while markers < COUNT:
        packet = await client.packet()
        if packet.word3 is not None:
            flags.append("C" in packet.flags)
        markers += packet.marker
    await client.close()
    assert flags[:COUNT] == [s.clean_point for s in video[1]]
    clean = [n for n, c in enumerate(flags[:COUNT]) if c]
    assert clean == (list(range(COUNT)) if encoding == "JPEG" else clean)
    assert len(clean) > 1
    for first in clean[1:2]:
        rest = decode_pictures(PICTURES[encoding][3], [s.data for s in video[1][first:]])
        assert rest == decode_pictures(PICTURES[encoding][3], [s.data for s in video[1]])[-len(rest) :]
