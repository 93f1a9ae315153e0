"""Throw mutated messages and packets at every parser of nvr.media, for as long as wanted:

    .venv/bin/python -m tests.media.fuzz 60

A parser may return or raise FormatError. Anything else is a finding: it is printed with the input, and the status is 1.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections.abc import Callable

from nvr.media.codecs import depacketizer_for, from_sample_entry, packetizer_for
from nvr.media.codecs.jpeg_depacketizer import JpegDepacketizer
from nvr.media.replay_extension import JpegExtension, ReplayExtension
from nvr.media.rtcp import Bye, ReceiverReport, ReportBlock, SenderReport, SourceDescription, parse_compound
from nvr.media.rtp import RtpExtension, RtpPacket
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Interleaved, MessageParser, Request, Response
from nvr.media.rtsp.play import parse_frames, parse_scale, parse_tags
from nvr.media.rtsp.range import parse_range
from nvr.media.rtsp.rtp_info import parse_rtp_info
from nvr.media.rtsp.session import parse_session
from nvr.media.rtsp.transport import parse_transport
from nvr.media.sdp import SessionDescription
from nvr.model.errors import FormatError

HEADER_VALUES = (
    "clock=19990615T114900.25Z-19990615T114920Z",
    "npt=1:02:03.5-now",
    'RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=1A2B3C4D;mode="PLAY",RTP/AVP;unicast;client_port=8000-8001',
    "url=rtsp://h/a;seq=5000;rtptime=6670000,url=rtsp://h/b;seq=1",
    "12345678;timeout=60",
    "-1.0",
    "intra/4000",
)
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=x\r\nt=0 0\r\na=control:*\r\n"
    b"m=video 0 RTP/AVP 96 97\r\na=rtpmap:96 H264/90000\r\n"
    b"a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0==,aO==\r\nm=audio 0 RTP/AVP 0\r\na=x-onvif-track:A\r\n"
)


def messages(data: bytes) -> None:
    parser = MessageParser()
    half = len(data) // 2
    for part in (data[:half], data[half:]):
        parser.feed(part)
        for event in parser.events():
            repr(event)


def header_values(data: bytes) -> None:
    text = data.decode("latin-1")
    for parse in (parse_range, parse_transport, parse_rtp_info, parse_session, parse_scale, parse_frames):
        try:
            parse(text)  # type: ignore[operator]
        except FormatError:
            continue
    parse_tags([text])


def rtp(data: bytes) -> None:
    packet = RtpPacket.parse(data)
    if packet.extension is not None:
        ReplayExtension.parse(packet.extension).extension()


def descriptions(data: bytes) -> None:
    bytes(SessionDescription.parse(data))


STREAMS: tuple[tuple[str, int, dict[str, str | None], tuple[bytes, ...]], ...] = (
    ("JPEG", 90_000, {}, (bytes.fromhex("0000000041ff140c0007ffff00000040") + bytes(80), bytes(12))),
    ("AV1", 90_000, {}, (bytes.fromhex("280b0800000003b4fdf12be40130") + b"\x10frame", b"\x50\x30begin", b"\x90end")),
    ("MP4V-ES", 90_000, {}, (bytes.fromhex("000001b58913000001000000012000c48d8800cd05040c1443000001b610") + b"x",)),
    (
        "H264",
        90_000,
        {},
        (bytes.fromhex("674d001f965402802dc8"), bytes.fromhex("68ee3c80"), b"\x65\x88a", b"\x7c\x85a"),
    ),
    ("H265", 90_000, {}, (bytes.fromhex("4401c172b46240"), b"\x62\x01\x93abc", b"\x62\x01\x53abc")),
    ("MPEG4-GENERIC", 16_000, {"mode": "AAC-hbr", "config": "1408"}, (b"\0\x10\0\x18abc", b"\0\x20\0\x08\0\x10abc")),
    ("G726-24", 8_000, {}, (bytes(6),)),
    ("VND.ONVIF.METADATA", 90_000, {}, (b"<tt:MetadataStream/>", b"<MetadataStream>", b"</MetadataStream>")),
)


def depacketized(data: bytes) -> None:
    """The first octet tells the codec; payloads stand behind two octets each: length, and flags of time and marker.
    Whatever comes out must go in again, and its configuration survive a sample entry."""
    encoding, rate, parameters, _ = STREAMS[data[0] % len(STREAMS)] if data else STREAMS[0]
    made = depacketizer_for(encoding, rate, None, parameters)
    units, at, time_ = [], 1, 0
    while at + 2 <= len(data):
        size, flags = data[at], data[at + 1]
        view = memoryview(data)[at + 2 : at + 2 + size]
        time_ += flags >> 1 & 3
        if flags & 8:
            made.lost(1)
        if flags & 16 and isinstance(made, JpegDepacketizer):
            made.extension((0xFFD8, 0xFFFF, 0xABAC)[flags >> 5 & 1], bytes(view[: size // 2 & ~3]))
        units += made.push(view, 0, len(view), time_, bool(flags & 1))
        at += 2 + size
    for unit in [*units, *made.flush()]:
        packetizer_for(unit.configuration, 300).packetize(memoryview(unit.data))
        assert from_sample_entry(unit.configuration.sample_entry()).encoding == unit.configuration.encoding


def payload_stream(number: int) -> bytes:
    payloads = STREAMS[number][3]
    parts = (bytes((len(p), 1 if n == len(payloads) - 1 else 0)) + p for n, p in enumerate(payloads))
    return bytes((number,)) + b"".join(parts) * 2


BLOCK = ReportBlock(1, 2, -3, 4, 5, 6, 7)
SEEDS: tuple[tuple[Callable[[bytes], object], tuple[bytes, ...]], ...] = (
    (
        messages,
        (
            bytes(Request("PLAY", "rtsp://h/x", Headers([("CSeq", "1"), ("Range", HEADER_VALUES[0])]), b"body")),
            bytes(Response(200, Headers([("CSeq", "1")]), SDP)) + bytes(Interleaved(0, b"abc")),
        ),
    ),
    (header_values, tuple(value.encode() for value in HEADER_VALUES)),
    (
        rtp,
        (
            bytes(RtpPacket(96, 1, 2, 3, b"abc", True, RtpExtension(1, bytes(8)), (1, 2), 5)),
            bytes(
                RtpPacket(
                    96, 1, 2, 3, b"abc", extension=ReplayExtension(9, jpeg=JpegExtension(True, b"abcd")).extension()
                )
            ),
        ),
    ),
    (
        parse_compound,
        (
            bytes(SenderReport(1, 2, 3, 4, 5, (BLOCK,))) + bytes(SourceDescription.cname(1, "name")),
            bytes(ReceiverReport(1, (BLOCK, BLOCK))) + bytes(Bye((1, 2), "reason")),
        ),
    ),
    (descriptions, (SDP,)),
    (depacketized, tuple(payload_stream(n) for n in range(len(STREAMS)))),
)


def mutated(seed: bytes, dice: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at:at] = dice.randbytes(dice.randint(1, 4))
        elif kind == 2:
            del data[at : at + dice.randint(1, 8)]
        elif kind == 3:
            data[at:at] = data[dice.randrange(len(data) + 1) :][:30]
        else:
            data[at : at + 1] = dice.choice(
                (b"\r\n", b"\n", b"\0", b"\xff", b'"', b";", b",", b"-", b"99999999999", b"9" * 5000)
            )
    return bytes(data)


def findings(seconds: float, seed: int) -> int:
    dice = random.Random(seed)
    end, runs = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        parse, seeds = dice.choice(SEEDS)
        data = mutated(dice.choice(seeds), dice)
        runs += 1
        try:
            parse(data)
        except FormatError:
            continue
        except Exception:
            print(f"{parse.__name__} on {data!r} (seed {seed}, run {runs})")
            traceback.print_exc()
            return 1
    print(f"{runs} inputs, seed {seed}: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(findings(float(sys.argv[1]) if len(sys.argv) > 1 else 10, random.randrange(1 << 32)))
