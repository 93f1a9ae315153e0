"""Builders of RTP payload streams: units of pictures and sound as a camera would send them, with a script of losses."""

from __future__ import annotations

import fractions
import math
import random
import struct
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import av

from nvr.demo.picture import read_number
from nvr.media.unit import AccessUnit, Depacketizer, Packetizer


@dataclass(frozen=True)
class Packet:
    """One RTP packet, as far as a depacketizer sees it."""

    payload: bytes
    rtp_time: int
    marker: bool


@dataclass
class Encoded:
    """An encoded stream: parameter sets or the like, and units in sample form with their times in ticks."""

    extradata: bytes
    units: list[tuple[int, bytes]] = field(default_factory=list)


def sample_form(*nals: bytes) -> bytes:
    """NAL units behind 4-byte lengths."""
    return b"".join(struct.pack(">I", len(nal)) + nal for nal in nals)


def nals_of(sample: bytes) -> list[bytes]:
    """Inverse of `sample_form`."""
    found, at = [], 0
    while at < len(sample):
        (size,) = struct.unpack_from(">I", sample, at)
        found.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def nals_of_byte_stream(data: bytes) -> list[bytes]:
    """NAL units between the start codes of Annex B."""
    return [part.rstrip(b"\0") for part in data.split(b"\0\0\1")[1:]]


def packets_of(packetizer: Packetizer, units: Iterable[tuple[int, bytes]]) -> list[Packet]:
    """The packets that a sender makes of (rtp_time, data)."""
    packets = []
    for rtp_time, data in units:
        payloads = packetizer.packetize(memoryview(data))
        for i, (prefix, part) in enumerate(payloads):
            last = i == len(payloads) - 1
            packets.append(Packet(prefix + bytes(part), rtp_time, last and packetizer.marker_on_last))
    return packets


def feed(
    depacketizer: Depacketizer, packets: Sequence[Packet], lost: Collection[int] = (), *, flush: bool = True
) -> list[AccessUnit]:
    """What comes out of `packets`, without those whose index is in `lost`.

    Each payload stands between other bytes in a buffer that is overwritten behind the call.
    """
    units: list[AccessUnit] = []
    missing = 0
    for i, packet in enumerate(packets):
        if i in lost:
            missing += 1
            continue
        if missing:
            depacketizer.lost(missing)
            missing = 0
        buffer = bytearray(b"\xff" * 5 + packet.payload + b"\xff" * 5)
        end = 5 + len(packet.payload)
        units += depacketizer.push(memoryview(buffer), 5, end, packet.rtp_time, packet.marker)
        buffer[:] = bytes(len(buffer))
    if missing:
        depacketizer.lost(missing)
    if flush:
        units += depacketizer.flush()
    return units


def moving_picture(count: int, width: int = 160, height: int = 96) -> Iterator[av.VideoFrame]:
    """A square that moves over noise: enough in each picture that no encoder makes it tiny."""
    noise = random.Random(7).randbytes(width * height)
    for i in range(count):
        frame = av.VideoFrame(width, height, "yuv420p")
        luma = bytearray(noise)
        x = i * 7 % (width - 32)
        for row in range(16, 48):
            luma[row * width + x : row * width + x + 32] = b"\xd0" * 32
        for plane, data in zip(frame.planes, (luma, b"\x80" * (width * height // 4), None), strict=True):
            rows = data or b"\x70" * (width * height // 4)
            columns = plane.width
            padding = bytes(plane.line_size - columns)
            plane.update(b"".join(rows[at : at + columns] + padding for at in range(0, len(rows), columns)))
        frame.pts = i
        yield frame


def encode_pictures(
    codec: str, count: int, options: dict[str, str], width: int = 160, height: int = 96, pixels: str = "yuv420p"
) -> Encoded:
    """`count` pictures at 25 a second as the encoder writes them; times in ticks of 90 kHz, in decode order."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pixels
    encoder.time_base = fractions.Fraction(1, 25)
    encoder.framerate = fractions.Fraction(25, 1)
    encoder.options = options
    # The picture itself has even sides; the encoder's may be odd.
    pictures = (f.reformat(width, height, pixels) for f in moving_picture(count, (width + 1) & ~1, (height + 1) & ~1))
    packets = [p for frame in [*pictures, None] for p in encoder.encode(frame)]
    return Encoded(encoder.extradata or b"", [(p.pts * 3600 & 0xFFFFFFFF, bytes(p)) for p in packets])


def encode_video(
    codec: str, count: int, options: dict[str, str], width: int = 160, height: int = 96, pixels: str = "yuv420p"
) -> Encoded:
    """As `encode_pictures`, of libx264 or libx265, in sample form."""
    encoded = encode_pictures(codec, count, options, width, height, pixels)
    return Encoded(encoded.extradata, [(t, sample_form(*nals_of_byte_stream(data))) for t, data in encoded.units])


def encode_aac(seconds: int = 1, rate: int = 48_000) -> Encoded:
    """A tone in AAC LC, stereo; times in ticks of `rate`."""
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, "stereo", "fltp"
    encoder.time_base = fractions.Fraction(1, rate)
    encoder.bit_rate = 96_000
    packets = []
    for n in range(seconds * rate // 1024):
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
        tone = array("f", (math.sin((n * 1024 + i) * 2 * math.pi * 440 / rate) * 0.4 for i in range(1024)))
        for plane in frame.planes:
            plane.update(tone.tobytes())
        frame.sample_rate, frame.pts = rate, n * 1024
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return Encoded(encoder.extradata or b"", [(n * 1024, bytes(p)) for n, p in enumerate(packets)])


def encode_sound(codec: str, rate: int, layout: str, length: int, count: int = 20, bit_rate: int = 0) -> Encoded:
    """A tone of `count` frames of `length` samples, from 16-bit samples; times in ticks of `rate`."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, layout, "s16"
    encoder.time_base = fractions.Fraction(1, rate)
    if bit_rate:
        encoder.bit_rate = bit_rate
    channels = encoder.layout.nb_channels
    packets = []
    for n in range(count):
        frame = av.AudioFrame(format="s16", layout=layout, samples=length)
        angles = ((n * length + i // channels) * 2 * math.pi * 440 / rate for i in range(length * channels))
        frame.planes[0].update(array("h", (int(math.sin(a) * 9000) for a in angles)).tobytes())
        frame.sample_rate, frame.pts = rate, n * length
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return Encoded(encoder.extradata or b"", [(p.pts & 0xFFFFFFFF, bytes(p)) for p in packets])


def decode_pictures(codec: str, units: Iterable[bytes]) -> list[bytes]:
    """The luma of the pictures that a decoder makes of units as they are."""
    decoder = av.CodecContext.create(codec, "r")
    packets = [*(av.Packet(data) for data in units), None]
    return [luma(frame) for packet in packets for frame in decoder.decode(packet)]


def luma(frame: av.VideoFrame) -> bytes:
    """Row by row, without what the decoder leaves between rows."""
    plane, data = frame.planes[0], bytes(frame.planes[0])
    return b"".join(data[at : at + frame.width] for at in range(0, frame.height * plane.line_size, plane.line_size))


def decode_video(codec: str, units: Iterable[bytes]) -> list[bytes]:
    """The luma of the pictures that a decoder makes of units in sample form."""
    decoder = av.CodecContext.create(codec, "r")
    pictures = []
    for data in [*units, None]:
        packet = None if data is None else av.Packet(b"".join(b"\0\0\0\1" + nal for nal in nals_of(data)))
        pictures += [bytes(frame.planes[0]) for frame in decoder.decode(packet)]
    return pictures


def burnt_in(codec: str, byte_stream: bytes) -> list[int | None]:
    """The numbers that stand in the pictures of the built-in encoder, decoded from a byte stream (annex B)."""
    decoder = av.CodecContext.create(codec, "r")
    frames = [f for packet in [*decoder.parse(byte_stream), *decoder.parse(b""), None] for f in decoder.decode(packet)]
    return [read_number(bytes(f.planes[0]), f.planes[0].line_size, f.width) for f in frames]
