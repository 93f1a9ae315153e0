"""What a sender that nobody here wrote makes of real pictures and sound: FFmpeg's RTP muxer over loopback."""

from __future__ import annotations

import contextlib
import fractions
import select
import socket
from collections.abc import Iterator

import av
import pytest

from nvr.media.codecs import depacketizer_for
from nvr.media.rtp import RtpPacket
from nvr.media.unit import Depacketizer
from tests.support.rtp_streams import (
    Encoded,
    Packet,
    decode_pictures,
    encode_aac,
    encode_pictures,
    encode_sound,
    encode_video,
    feed,
    nals_of,
)  # fmt: skip


@contextlib.contextmanager
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        s.bind(("127.0.0.1", 0))
        yield s


def waiting(s: socket.socket) -> Iterator[Packet]:
    """What has arrived; a datagram on loopback is there when its send returns."""
    while select.select([s], [], [], 0)[0]:
        packet = RtpPacket.parse(s.recv(65536))
        yield Packet(bytes(packet.payload), packet.timestamp, packet.marker)


VIDEO = {"h264": "yuv420p", "hevc": "yuv420p", "mjpeg": "yuvj420p", "mpeg4": "yuv420p", "libsvtav1": "yuv420p"}


def sent_by_ffmpeg(
    codec: str, encoded: Encoded, rate: int, packet_size: int, length: int, layout: str = "stereo", bit_rate: int = 0
) -> list[Packet]:
    """The RTP packets of the units, RTCP left out; H.264 and H.265 as a byte stream."""
    video = codec in VIDEO
    found: list[Packet] = []
    with receiver() as s, receiver() as rtcp:
        port, rtcp_port = s.getsockname()[1], rtcp.getsockname()[1]
        uri = f"rtp://127.0.0.1:{port}?rtcpport={rtcp_port}&pkt_size={packet_size}"
        # FFmpeg calls its AV1 packets experimental.
        with av.open(uri, "w", format="rtp", options={"strict": "experimental"}) as output:
            stream = output.add_stream(codec, rate=25 if video else rate)
            context = stream.codec_context
            if video:
                context.width, context.height, context.pix_fmt = 160, 96, VIDEO[codec]
            else:
                context.layout = layout
                context.sample_rate = rate
                if bit_rate:
                    context.bit_rate = bit_rate
            if encoded.extradata:
                context.extradata = encoded.extradata
            stream.time_base = fractions.Fraction(1, rate)
            context.time_base = fractions.Fraction(1, 25 if video else rate)
            for at, data in encoded.units:
                byte_stream = codec in ("h264", "hevc")
                body = b"".join(b"\0\0\0\1" + nal for nal in nals_of(data)) if byte_stream else data
                packet = av.Packet(body)
                packet.stream, packet.pts, packet.dts = stream, at, at
                packet.duration, packet.time_base = length, fractions.Fraction(1, rate)
                output.mux(packet)
                found += waiting(s)
        found += waiting(s)
    return found


def compare(made: Depacketizer, packets: list[Packet], encoded: Encoded, kept_back: int = 0) -> None:
    """All units came, but for `kept_back` at the end that FFmpeg did not send."""
    found = feed(made, packets)
    units = encoded.units[: len(encoded.units) - kept_back]
    assert [u.data for u in found] == [data for _, data in units]
    assert (made.dropped, made.last_error) == (0, None)
    first = found[0].rtp_time  # the sender's own offset
    times = [(u.rtp_time - first) & 0xFFFF_FFFF for u in found]
    assert times == [at - units[0][0] for at, _ in units]


@pytest.mark.parametrize("packet_size", [300, 1400])
def test_h264_of_ffmpeg_with_aggregates_and_fragments(packet_size: int) -> None:
    encoded = encode_video("libx264", 12, {"g": "6", "bf": "0", "x264-params": "repeat-headers=1:aud=1:slices=2"})
    packets = sent_by_ffmpeg("h264", encoded, 90000, packet_size, 3600)
    kinds = {p.payload[0] & 31 for p in packets}
    assert {24, 28} <= kinds
    compare(depacketizer_for("H264", 90000), packets, encoded)


@pytest.mark.parametrize("packet_size", [300, 1400])
def test_h265_of_ffmpeg_with_aggregates_and_fragments(packet_size: int) -> None:
    parameters = "keyint=6:min-keyint=6:bframes=0:repeat-headers=1:aud=1:pools=1:frame-threads=1:log-level=none"
    encoded = encode_video("libx265", 12, {"x265-params": parameters})
    packets = sent_by_ffmpeg("hevc", encoded, 90000, packet_size, 3600)
    kinds = {p.payload[0] >> 1 & 63 for p in packets}
    assert {48, 49} <= kinds
    compare(depacketizer_for("H265", 90000), packets, encoded)


# FFmpeg gathers frames into a packet and, when it is closed, forgets those that do not fill one.
@pytest.mark.parametrize(("packet_size", "kept_back"), [(150, 0), (1400, 1)])
def test_aac_of_ffmpeg_with_several_frames_in_a_packet(packet_size: int, kept_back: int) -> None:
    encoded = encode_aac()
    packets = sent_by_ffmpeg("aac", encoded, 48000, packet_size, 1024)
    parameters = {
        "mode": "AAC-hbr",
        "config": encoded.extradata.hex(),
        "sizelength": "13",
        "indexlength": "3",
        "indexdeltalength": "3",
    }
    assert len(packets) != len(encoded.units)
    compare(depacketizer_for("MPEG4-GENERIC", 48000, 2, parameters), packets, encoded, kept_back)


PICTURES = {
    "mjpeg": ("JPEG", {"huffman": "default", "threads": "1"}, "mjpeg"),
    "mpeg4": ("MP4V-ES", {"g": "5", "bf": "0"}, "mpeg4"),
    "libsvtav1": ("AV1", {"preset": "12", "svtav1-params": "keyint=5"}, "libdav1d"),
}


@pytest.mark.parametrize("packet_size", [300, 1400])
@pytest.mark.parametrize("codec", PICTURES)
def test_pictures_of_ffmpeg_are_those_that_it_sent(codec: str, packet_size: int) -> None:
    encoding, options, decoder = PICTURES[codec]
    encoded = encode_pictures(codec, 10, options, pixels=VIDEO[codec])
    made = depacketizer_for(encoding, 90000)
    units = feed(made, sent_by_ffmpeg(codec, encoded, 90000, packet_size, 3600))
    assert (made.dropped, made.last_error) == (0, None)
    assert [(u.rtp_time - units[0].rtp_time) & 0xFFFF_FFFF for u in units] == [n * 3600 for n in range(10)]
    pictures = decode_pictures(decoder, [data for _, data in encoded.units])
    assert len(set(pictures)) == 10
    assert decode_pictures(decoder, [u.data for u in units]) == pictures


@pytest.mark.parametrize(
    ("codec", "encoding", "rate", "layout", "length", "bit_rate"),
    [
        ("libopus", "OPUS", 48000, "stereo", 960, 0),
        ("pcm_s16be", "L16", 44100, "stereo", 441, 0),
        ("pcm_s16be", "L16", 16000, "mono", 160, 0),
        *(("g726", f"AAL2-G726-{kbit}", 8000, "mono", 320, kbit * 1000) for kbit in (16, 24, 32, 40)),
        *(("g726le", f"G726-{kbit}", 8000, "mono", 320, kbit * 1000) for kbit in (16, 24, 32, 40)),
    ],
)
def test_sound_of_ffmpeg_is_what_it_sent(
    codec: str, encoding: str, rate: int, layout: str, length: int, bit_rate: int
) -> None:
    encoded = encode_sound(codec, rate, layout, length, 20, bit_rate)
    made = depacketizer_for(encoding, rate, 2 if layout == "stereo" else 1)
    late = Encoded(encoded.extradata, [((at + rate) & 0xFFFF_FFFF, data) for at, data in encoded.units])
    units = feed(made, sent_by_ffmpeg(codec, late, rate, 1400, length, layout, bit_rate))
    assert (made.dropped, made.last_error) == (0, None)
    # In files G.726 has the packing that FFmpeg calls g726.
    stored = encode_sound("g726", rate, layout, length, 20, bit_rate) if codec == "g726le" else encoded
    assert b"".join(u.data for u in units) == b"".join(data for _, data in stored.units)
    if codec == "libopus":
        assert [u.data for u in units] == [data for _, data in encoded.units]
