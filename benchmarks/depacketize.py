"""Microseconds of CPU per RTP payload, to put access units together and to take them apart again.

    .venv/bin/python -m benchmarks.depacketize

The stream: pictures of 14 payloads of 1400 bytes (4 Mbit/s at 25 pictures a second), one slice in fragments, with
parameter sets before an IDR picture every 50. The peer, in the same run over the same payloads: a bare loop that copies
each one and joins the copies per picture, the least that any depacketizer in Python does. The best of several rounds
counts, for the machine may be busy with other things.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from functools import partial

from nvr.media.codecs import depacketizer_for
from nvr.media.codecs.av1 import Av1Packetizer
from nvr.media.codecs.av1_obu import leb128
from nvr.media.codecs.h264 import H264Packetizer
from nvr.media.codecs.h265 import H265Packetizer
from nvr.media.codecs.jpeg import JpegPacketizer
from nvr.media.codecs.jpeg_headers import SCAN, frame_segment, quantization_segments, tables_of_quality
from nvr.media.codecs.mpeg4 import Mpeg4Packetizer
from nvr.media.unit import Packetizer

PICTURES = 500
PAYLOAD = 1400
PACKETS_A_PICTURE = 14
GOP = 50
ROUNDS = 9

H264_SETS = (bytes.fromhex("674d001f965402802dc8"), bytes.fromhex("68ee3c80"))
H265_SETS = (
    bytes.fromhex("40010c01ffff01600000030090000003000003001e959809"),
    bytes.fromhex("42010101600000030090000003000003001ea014206165959a4932b9a02000000300200000030321"),
    bytes.fromhex("4401c172b46240"),
)

Payload = tuple[memoryview, int, int, int, bool]


def unit(sets: tuple[bytes, ...], slice_header: bytes) -> bytes:
    slice_ = slice_header + bytes(range(1, 251)) * (PACKETS_A_PICTURE * PAYLOAD // 250 + 1)
    # 14 fragments, each with two or three bytes of payload headers.
    slice_ = slice_[: PACKETS_A_PICTURE * (PAYLOAD - 3)]
    return b"".join(struct.pack(">I", len(n)) + n for n in (*sets, slice_))


def payloads(packetizer: Packetizer, key: bytes, other: bytes) -> list[Payload]:
    made: list[Payload] = []
    for n in range(PICTURES):
        parts = packetizer.packetize(memoryview(other if n % GOP else key))
        for i, (prefix, part) in enumerate(parts):
            # As in the receive buffer of a drain: a payload between headers.
            end = 16 + len(prefix) + len(part)
            made.append((memoryview(bytes(16) + prefix + part), 16, end, n * 3600, i == len(parts) - 1))
    return made


def bare(stream: list[Payload]) -> int:
    """Copy and join: the peer."""
    count, parts = 0, []
    for buffer, start, end, _, marker in stream:
        parts.append(bytes(buffer[start + 2 : end]))
        if marker:
            count += len(b"".join(parts)) > 0
            parts = []
    return count


def ours(encoding: str, stream: list[Payload]) -> int:
    push = depacketizer_for(encoding, 90_000).push
    return sum(len(push(buffer, start, end, at, marker)) for buffer, start, end, at, marker in stream)


def packetized(packetizer: Packetizer, key: bytes, other: bytes) -> int:
    packetize = packetizer.packetize
    return sum(len(packetize(memoryview(other if n % GOP else key))) for n in range(PICTURES))


def best(what: Callable[[], int], expected: int) -> float:
    """Seconds of CPU of the fastest round."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        done = what()
        found.append(time.process_time() - start)
        assert done == expected, (done, expected)
    return min(found)


def others() -> dict[str, tuple[Packetizer, bytes, bytes]]:
    """Codecs without NAL units: packetizer, key picture, other picture."""
    data = (bytes(range(1, 251)) * (PACKETS_A_PICTURE * PAYLOAD // 250 + 1))[: PACKETS_A_PICTURE * (PAYLOAD - 12)]
    sequence = bytes.fromhex("0a0a00000003b4fdf12be401")
    image = b"".join(
        (
            b"\xff\xd8",
            quantization_segments(tables_of_quality(50), 0),
            frame_segment(1280, 720, 2, 2, False),
            SCAN,
            data,
        )
    )
    headers = bytes.fromhex("000001b001000001b58913000001000000012000c48d8800cd05040c1443")
    obus = [b"\x32" + leb128(len(first + data)) + first + data for first in (b"\x10", b"\x30")]
    return {
        "JPEG": (JpegPacketizer(PAYLOAD), image, image),
        "AV1": (Av1Packetizer(PAYLOAD), sequence + obus[0], obus[1]),
        "MP4V-ES": (Mpeg4Packetizer(PAYLOAD), headers + b"\0\0\1\xb6\x10" + data, b"\0\0\1\xb6\x50" + data),
    }


def main() -> None:
    cases: dict[str, tuple[Packetizer, bytes, bytes]] = {
        "H264": (H264Packetizer(PAYLOAD), unit(H264_SETS, b"\x65\x88"), unit((), b"\x41\x9a")),
        "H265": (H265Packetizer(PAYLOAD), unit(H265_SETS, b"\x26\x01\xaf"), unit((), b"\x02\x01\xd0")),
        **others(),
    }
    for encoding, (packetizer, key, other) in cases.items():
        stream = payloads(packetizer, key, other)
        count = len(stream)
        copy = best(partial(bare, stream), PICTURES) * 1e6 / count
        in_ = best(partial(ours, encoding, stream), PICTURES) * 1e6 / count
        out = best(partial(packetized, packetizer, key, other), count) * 1e6 / count
        print(f"{encoding}: {count / PICTURES:.1f} payloads a picture; us a payload: bare copy and join {copy:.2f},")
        print(f"      depacketize {in_:.2f} ({in_ / copy:.1f} times the copy), packetize {out:.2f}")


if __name__ == "__main__":
    main()
