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
from tests.support.rtp_streams import Encoded, Packet, encode_aac, encode_video, feed, nals_of


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


def sent_by_ffmpeg(codec: str, encoded: Encoded, rate: int, packet_size: int, length: int) -> list[Packet]:
    """The RTP packets of the units, RTCP left out; video as a byte stream."""
    video = codec in ("h264", "hevc")
    found: list[Packet] = []
    with receiver() as s, receiver() as rtcp:
        port, rtcp_port = s.getsockname()[1], rtcp.getsockname()[1]
        uri = f"rtp://127.0.0.1:{port}?rtcpport={rtcp_port}&pkt_size={packet_size}"
        with av.open(uri, "w", format="rtp") as output:
            stream = output.add_stream(codec, rate=25 if video else rate)
            context = stream.codec_context
            if video:
                context.width, context.height, context.pix_fmt = 160, 96, "yuv420p"
            else:
                context.layout = "stereo"
                context.sample_rate = rate
            if encoded.extradata:
                context.extradata = encoded.extradata
            context.time_base = stream.time_base = fractions.Fraction(1, rate)
            for at, data in encoded.units:
                body = b"".join(b"\0\0\0\1" + nal for nal in nals_of(data)) if video else data
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
