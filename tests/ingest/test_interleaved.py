"""The parse loop: whatever the network does to the bytes, the same units come out; what is no RTP is counted."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nvr.ingest.interleaved import MAXIMUM_GARBAGE, InterleavedParser
from nvr.ingest.stream import StreamReceiver
from nvr.media import codecs
from nvr.media.codecs.h265 import H265Packetizer
from nvr.media.codecs.nal import MAXIMUM_UNIT
from nvr.media.rtp import RtpExtension
from nvr.media.rtsp.message import Message, Response, frame_header
from nvr.model.errors import SourceError
from tests.support.camera import CameraTrack, h264_track, key_frame, pcmu_track, picture
from tests.support.rtp_streams import sample_form


class Bench:
    """A parser with one video stream on channel 0 and one of sound on channel 2."""

    def __init__(self, make: Callable[[], CameraTrack] = h264_track) -> None:
        self.messages: list[Message] = []
        self.rtcp: list[tuple[StreamReceiver, bytes]] = []
        self.parser = InterleavedParser(self.messages.append, lambda s, d: self.rtcp.append((s, d)))
        self.video, self.audio = self._add(make(), 0), self._add(pcmu_track(), 2)
        self.track, self.sound = make(), pcmu_track()
        self.track.channel, self.sound.channel = 0, 2
        self.tail = b""

    def _add(self, track: CameraTrack, channel: int) -> StreamReceiver:
        encoding, rate = track.rtpmap.split("/")
        parameters = dict(p.split("=", 1) for p in track.fmtp.split(";")) if track.fmtp else {}
        receiver = StreamReceiver(
            track.payload_type, int(rate), codecs.depacketizer_for(encoding, int(rate), None, parameters)
        )
        receiver.take = True
        self.parser.channels[channel] = receiver
        self.parser.rtcp_channels[channel + 1] = receiver
        return receiver

    def feed(self, data: bytes) -> None:
        data = self.tail + data
        used = self.parser.parse(memoryview(data), len(data))
        self.tail = data[used:]

    def pictures(self) -> list[bytes]:
        return [u.data for u in self.video.units]


UNITS = [key_frame(0), picture(1), picture(2, 5000), key_frame(3), picture(4)]


def a_session(bench: Bench) -> bytes:
    """Video, sound, RTCP, an answer and blank lines, as they follow each other on the wire."""
    parts = []
    for n, unit in enumerate(UNITS):
        parts.append(bench.track.frames(bench.track.unit(unit, n * 3600)))
        parts.append(bench.sound.frames([bench.sound.packet(bytes([n]) * 160, n * 160)]))
        if n == 1:
            parts.append(bytes(Response(200, body=b"$\0\0\4half a frame")) + b"\r\n\r\n")
            parts.append(bench.track.frames([bench.track.sender_report(10**18, 0)], rtcp=True))
    return b"".join(parts)


@given(st.lists(st.integers(1, 9000), max_size=30))
def test_the_same_comes_out_however_the_bytes_are_cut(cuts: list[int]) -> None:
    bench = Bench()
    data = a_session(bench)
    at = 0
    for cut in cuts:
        bench.feed(data[at : at + cut])
        at += cut
    bench.feed(data[at:])
    assert bench.pictures() == UNITS
    assert [u.data for u in bench.audio.units] == [bytes([n]) * 160 for n in range(5)]
    assert len(bench.messages) == 1
    assert bench.messages[0].body == b"$\0\0\4half a frame"
    assert [s for s, _ in bench.rtcp] == [bench.video]
    assert (bench.tail, bench.parser.garbage) == (b"", 0)
    assert bench.video.order.lost == 0


def test_byte_by_byte() -> None:
    bench = Bench()
    for byte in a_session(bench):
        bench.feed(bytes([byte]))
    assert bench.pictures() == UNITS
    assert len(bench.messages) == 1


@given(st.binary(min_size=1, max_size=300), st.integers(0, 4))
def test_garbage_costs_at_most_the_frames_around_it(garbage: bytes, place: int) -> None:
    """Random bytes may imitate a frame or the start of a message; what lies two pictures behind them is safe."""
    bench = Bench()
    frames = [bench.track.frames(bench.track.unit(key_frame(n, 1000), n * 3600)) for n in range(70)]
    frames.insert(place, garbage)
    bench.feed(b"".join(frames))
    if not bench.tail:  # an imitated frame or message may still wait for its end
        assert key_frame(69, 1000) in bench.pictures()


@given(st.binary(max_size=2000))
def test_no_bytes_break_the_loop(data: bytes) -> None:
    bench = Bench()
    bench.feed(data)
    bench.feed(data)


@pytest.mark.parametrize("garbage", [b"\0\1\2\3", b"$", b"HTTP/1.1 200 OK\r\n\r\n", b"$\x09\0\0", b"\xff" * 5000])
def test_known_garbage_costs_nothing_behind_it(garbage: bytes) -> None:
    bench = Bench()
    bench.feed(bench.track.frames(bench.track.unit(key_frame(0), 0)))
    bench.feed(garbage + b"\0")
    bench.feed(bench.track.frames(bench.track.unit(picture(1), 3600) + bench.track.unit(picture(2), 7200)))
    assert bench.pictures()[0] == key_frame(0)
    assert bench.pictures()[-1] == picture(2)


def test_endless_garbage_is_given_up_with_its_first_bytes() -> None:
    bench = Bench()
    with pytest.raises(SourceError, match="beginning with ca fe ca fe"):
        bench.feed(b"\xca\xfe" * (MAXIMUM_GARBAGE // 2 + 1))


@pytest.mark.parametrize("distance", [1, 4090, 4096, 4102, 9000])
def test_frames_and_answers_are_found_however_far_behind_garbage(distance: int) -> None:
    bench = Bench()
    bench.feed(b"\0" * distance + bytes(Response(200)) + b"\0" * distance)
    bench.feed(bench.track.frames(bench.track.unit(key_frame(1), 0)))
    assert len(bench.messages) == 1
    assert bench.pictures() == [key_frame(1)]
    assert bench.parser.garbage == 2 * distance


def test_a_message_head_without_end_is_given_up() -> None:
    bench = Bench()
    with pytest.raises(SourceError, match="neither RTP nor RTSP"):
        bench.feed((b"RTSP/1.0 " + b"a" * 10_000) * 40)


def test_losses_duplicates_and_restarts_are_counted() -> None:
    bench = Bench()
    packets = [p for n, u in enumerate(UNITS) for p in bench.track.unit(u, n * 3600)]
    bench.feed(bench.track.frames(packets[:1] + packets[3:]))
    assert bench.video.order.lost == 2
    bench.feed(bench.track.frames([packets[-1]]))
    assert bench.video.order.duplicates == 1
    restarts: list[int] = []
    bench.video.on_restart = lambda: restarts.append(len(bench.video.units))
    before = len(bench.video.units)
    bench.track.ssrc, bench.track.sequence = 7, 30_000
    bench.feed(bench.track.frames(bench.track.unit(key_frame(9), 0)))
    assert bench.video.order.restarts == 1
    assert restarts == [before], "called before units of the new source are there"
    assert bench.pictures()[-1] == key_frame(9)


def test_frames_on_channels_that_nobody_set_up_are_skipped_and_counted() -> None:
    bench = Bench()
    bench.feed(frame_header(44, 1000) + bytes(1000) + bench.track.frames(bench.track.unit(key_frame(0), 0)))
    assert bench.pictures() == [key_frame(0)]
    assert bench.parser.unknown_channels == 1


def test_rtcp_on_the_channel_of_rtp_is_told_apart() -> None:
    bench = Bench()
    report = bench.track.sender_report(10**18, 5)
    bench.feed(bench.track.frames([report]))
    assert bench.rtcp == [(bench.video, report)]


def test_extension_padding_and_empty_packets_are_taken() -> None:
    bench = Bench()
    [plain] = bench.track.unit(picture(0), 0)
    padded = bytes([plain[0] | 0x20]) + plain[1:] + b"\0\0\0\4"
    bench.feed(bench.track.frames([padded]))
    extended = bench.track.packet(plain[12:], 3600, True, RtpExtension(0xABAC, bytes(12)))
    bench.feed(bench.track.frames([extended, bench.track.packet(b"", 3600), bench.track.unit(picture(2), 7200)[0]]))
    assert bench.pictures() == [picture(0), picture(0), picture(2)]
    assert bench.video.order.lost == 0
    assert bench.video.bad_packets == 0


def test_short_frames_and_bad_padding_are_bad_packets() -> None:
    bench = Bench()
    bench.feed(frame_header(0, 0) + frame_header(0, 5) + b"\x80\0\0\0\0")
    bad = bytearray(bench.track.unit(picture(0), 0)[0])
    bad[0] |= 0x20
    bad[-1] = 0
    bench.feed(bench.track.frames([bytes(bad)]))
    assert bench.video.bad_packets == 2


def test_without_consumers_packets_are_counted_and_not_taken_apart() -> None:
    bench = Bench()
    bench.video.take = False
    bench.feed(bench.track.frames(bench.track.unit(key_frame(0), 0)))
    assert bench.pictures() == []
    assert bench.video.packets == 3


H265_SETS = {
    "sprop-vps": "40010c01ffff01600000030090000003000003001e959809",
    "sprop-sps": "42010101600000030090000003000003001ea014206165959a4932b9a02000000300200000030321",
    "sprop-pps": "4401c172b46240",
}


def h265_track() -> CameraTrack:
    fmtp = ";".join(f"{name}={base64.b64encode(bytes.fromhex(nal)).decode()}" for name, nal in H265_SETS.items())
    return CameraTrack("video", "H265/90000", fmtp, packetizer=H265Packetizer(1400))


def h265_key_frame(number: int, size: int) -> bytes:
    return sample_form(b"\x26\x01\xaf" + bytes([number]) * size)


def outcome(bench: Bench) -> tuple[object, ...]:
    """All that is kept and counted of the video stream."""
    video, order = bench.video, bench.video.order
    assert video.depacketizer is not None
    return (
        [(u.rtp_time, u.data, u.clean_point, u.damaged) for u in video.units],
        (video.packets, video.octets, video.bad_packets, video.other_payload_types),
        (order.in_order, order.lost, order.duplicates, order.strays, order.restarts),
        (video.dropped, video.depacketizer.last_error),
        (bench.parser.garbage, bench.parser.unknown_channels),
    )


def altered(packets: list[bytes], place: int, change: str | tuple[int, int]) -> None:
    place %= len(packets)
    packet = packets[place]
    match change:
        case "lost":
            del packets[place]
        case "twice":
            packets.insert(place, packet)
        case "late":
            packets.insert(place + 2, packets.pop(place))
        case "empty":
            packets[place] = packet[:12]
        case "half":
            packets[place] = packet[: len(packet) // 2]
        case (int(at), int(bit)) if at < len(packet):
            packets[place] = packet[:at] + bytes([packet[at] ^ bit]) + packet[at + 1 :]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.one_of(
                st.sampled_from(["lost", "twice", "late", "empty", "half"]),
                st.tuples(st.integers(0, 14), st.sampled_from([1, 2, 0x20, 0x40, 0x80])),  # one bit of its headers
            ),
        ),
        max_size=4,
    ),
    st.integers(65_510, 65_535),
    st.booleans(),
)
@example([(4, (1, 1))], 65_532, False)  # another payload type right where the sequence number wraps
def test_the_middle_of_a_picture_comes_out_as_if_each_packet_was_taken_by_itself(
    changes: list[tuple[int, str | tuple[int, int]]], sequence: int, h265: bool
) -> None:
    """Whatever is wrong with a packet amid the others, and wherever the sequence number wraps."""
    many, single = (Bench(h265_track if h265 else h264_track) for _ in range(2))
    single.video.fragments = None
    make = h265_key_frame if h265 else key_frame
    many.track.sequence = sequence
    packets = [p for n in range(3) for p in many.track.unit(make(n, 9000), n * 3600)]
    for place, change in changes:
        altered(packets, place, change)
    data = many.track.frames(packets)
    many.feed(data)
    single.feed(data)
    assert outcome(many) == outcome(single)
    if not changes:
        assert many.pictures() == [make(n, 9000) for n in range(3)]
        assert many.video.packets == len(packets)


def test_a_picture_that_never_ends_takes_no_more_than_the_limit() -> None:
    bench = Bench()
    packets = bench.track.unit(key_frame(0, MAXIMUM_UNIT + (1 << 20)), 0)
    for at in range(0, len(packets), 100):
        bench.feed(bench.track.frames(packets[at : at + 100]))
    assert bench.pictures() == []
    assert bench.video.dropped == 1
    assert bench.video.depacketizer is not None
    assert bench.video.depacketizer.last_error == f"an access unit of more than {MAXIMUM_UNIT} bytes"


def test_the_buffer_may_be_used_again_behind_each_call() -> None:
    bench = Bench()
    data = bench.track.frames(bench.track.unit(key_frame(0, 9000), 0))
    for cut in (6000, len(data)):
        buffer = bytearray(bench.tail + data[:cut])
        data = data[cut:]
        used = bench.parser.parse(memoryview(buffer), len(buffer))
        bench.tail = bytes(buffer[used:])
        buffer[:] = bytes(len(buffer))
    assert bench.pictures() == [key_frame(0, 9000)]
