"""JPEG by RTP, packet by packet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple

from nvr.media.codecs.jpeg import HEADER, JpegPacketizer
from nvr.media.codecs.jpeg_depacketizer import JpegDepacketizer
from nvr.media.codecs.jpeg_headers import Image, frame_segment
from nvr.media.replay_extension import JPEG_FIRST, JPEG_LATER
from nvr.media.unit import AccessUnit
from tests.support.rtp_streams import encode_pictures

LARGE = frame_segment(2560, 1920, 2, 2, False)
SCANNED = bytes(range(200)) * 9
"""Stands for entropy coded data; nothing looks into it."""


class Wire(NamedTuple):
    """A packet with its header extension."""

    payload: bytes
    rtp_time: int
    marker: bool
    extension: tuple[int, bytes] | None = None


def wired(packetizer: JpegPacketizer, images: Sequence[tuple[int, bytes]]) -> list[Wire]:
    found = []
    for rtp_time, data in images:
        payloads = packetizer.packetize(memoryview(data))
        extensions = [(int.from_bytes(e[:2], "big"), e[4:]) for e in packetizer.extensions]
        for i, (prefix, part) in enumerate(payloads):
            extension = extensions[i] if i < len(extensions) else None
            found.append(Wire(prefix + bytes(part), rtp_time, i == len(payloads) - 1, extension))
    return found


def receive(made: JpegDepacketizer, packets: Sequence[Wire], lost: Collection[int] = ()) -> list[AccessUnit]:
    units: list[AccessUnit] = []
    for i, packet in enumerate(packets):
        if i in lost:
            made.lost(1)
            continue
        if packet.extension is not None:
            made.extension(*packet.extension)
        view = memoryview(packet.payload)
        units += made.push(view, 0, len(view), packet.rtp_time, packet.marker)
    return [*units, *made.flush()]


@cache
def encoded(
    width: int = 160, height: int = 96, pixels: str = "yuvj420p", huffman: str = "default"
) -> list[tuple[int, bytes]]:
    return encode_pictures("mjpeg", 5, {"huffman": huffman, "threads": "1"}, width, height, pixels).units


@cache
def restarting() -> list[tuple[int, bytes]]:
    """With restart markers: FFmpeg puts one behind each slice."""
    return encode_pictures("mjpeg", 3, {"huffman": "default", "threads": "2", "slices": "3"}, 160, 96, "yuvj420p").units


def plain(
    kind: int = 1,
    q: int = 60,
    width: int = 160,
    height: int = 96,
    more: bytes = b"",
    offset: int = 0,
    data: bytes = SCANNED,
) -> bytes:
    """The payload of one RTP/JPEG packet."""
    return HEADER.pack(0, offset >> 16, offset & 0xFFFF, kind, q, width // 8, height // 8) + more + data


def one(payload: bytes, extension: tuple[int, bytes] | None = None, size: tuple[int, int] | None = None) -> Image:
    """The headers made of an image in one packet."""
    made = JpegDepacketizer(size)
    [unit] = receive(made, [Wire(payload, 0, True, extension)])
    return Image.parse(unit.data)


def segments(image: Image, marker: int) -> list[bytes]:
    return [s.content for s in image.segments if s.marker == marker]


# -- images that RFC 2435 can tell


def ext(data: bytes, *, first: bool = True) -> tuple[int, bytes]:
    return (JPEG_FIRST if first else JPEG_LATER), data + b"\xff" * (-len(data) % 4)


def comment(data: bytes) -> bytes:
    return next(bytes(s) for s in Image.parse(data).segments if s.marker == 0xFE)
