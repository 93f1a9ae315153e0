"""What the built-in camera sees and hears, encoded: H.264 of a moving picture, AAC of a tone, ONVIF metadata.

Frames are made for whichever instant is asked for; nothing here waits. Blocking: called on a thread.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from fractions import Fraction

import av

from nvr.demo.picture import Picture
from nvr.model.time import NS, UtcNs, format_iso

VIDEO_RATE = 90_000
AUDIO_RATE = 16_000
AUDIO_FRAME = 1024
"""Samples in one AAC frame."""


class VideoEncoder:
    """H.264, constrained baseline, one key frame a second, no B-frames, parameter sets in band with every key frame."""

    def __init__(self, width: int = 640, height: int = 360, fps: int = 25, bit_rate: int = 1_000_000) -> None:
        self.fps = fps
        self._picture = Picture(width, height)
        self._width, self._height = width, height
        encoder = av.CodecContext.create("libx264", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps, 1)
        encoder.bit_rate = bit_rate
        encoder.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "x264-params": f"keyint={fps}:min-keyint={fps}:scenecut=0:repeat-headers=1",
        }
        self._encoder = encoder

    def encode(self, number: int, utc_ns: UtcNs) -> tuple[bytes, bool]:
        """Frame `number` in sample form (NAL units behind 4-byte lengths), and whether it is a clean point."""
        planes = self._picture.draw(number, utc_ns)
        frame = av.VideoFrame(self._width, self._height, "yuv420p")
        for plane, rows in zip(frame.planes, (planes.luma, planes.blue, planes.red), strict=True):
            plane.update(_padded(rows, len(rows) // plane.height, plane.line_size))
        frame.pts = number
        (packet,) = self._encoder.encode(frame)
        return b"".join(struct.pack(">I", len(n)) + n for n in split_annex_b(bytes(packet))), packet.is_keyframe


def _padded(rows: bytearray, width: int, line_size: int) -> bytes:
    if line_size == width:
        return bytes(rows)
    padding = bytes(line_size - width)
    return b"".join(rows[i : i + width] + padding for i in range(0, len(rows), width))


def split_annex_b(data: bytes) -> Iterator[bytes]:
    """The NAL units of a byte stream (ITU-T H.264 annex B), without start codes."""
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        start += 3
        end = data.find(b"\x00\x00\x01", start)
        nal = data[start:] if end < 0 else data[start:end]
        yield nal.rstrip(b"\x00") if end >= 0 else nal
        start = end


class AudioEncoder:
    """AAC-LC, mono: a tone of 440 Hz that is louder in the first quarter of each second."""

    def __init__(self) -> None:
        encoder = av.CodecContext.create("aac", "w")
        assert isinstance(encoder, av.AudioCodecContext)
        encoder.sample_rate, encoder.layout, encoder.format = AUDIO_RATE, "mono", "fltp"
        encoder.bit_rate = 32_000
        encoder.open()
        assert encoder.extradata is not None
        self.specific_config = bytes(encoder.extradata)
        self._encoder = encoder

    def encode(self, number: int) -> list[bytes]:
        """The AAC frames that frame `number` of 1024 samples completes: none for the first, one afterwards."""
        first = number * AUDIO_FRAME
        tone = array("f")
        for n in range(first, first + AUDIO_FRAME):
            volume = 0.5 if n % AUDIO_RATE < AUDIO_RATE // 4 else 0.05
            tone.append(volume * math.sin(2 * math.pi * 440 * n / AUDIO_RATE))
        frame = av.AudioFrame(format="fltp", layout="mono", samples=AUDIO_FRAME)
        frame.planes[0].update(tone.tobytes())
        frame.sample_rate = AUDIO_RATE
        frame.time_base = Fraction(1, AUDIO_RATE)
        frame.pts = first
        return [bytes(p) for p in self._encoder.encode(frame)]


def metadata_document(number: int, utc_ns: UtcNs) -> bytes:
    """One tt:MetadataStream with a notification whose state toggles."""
    state = "true" if number % 2 else "false"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" \
xmlns:tns1="http://www.onvif.org/ver10/topics"><tt:Event><wsnt:NotificationMessage>\
<wsnt:Topic Dialect="http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet">tns1:Device/Trigger/DigitalInput</wsnt:Topic>\
<wsnt:Message><tt:Message UtcTime="{format_iso(utc_ns, 3)}" PropertyOperation="Changed">\
<tt:Source><tt:SimpleItem Name="InputToken" Value="door"/></tt:Source>\
<tt:Data><tt:SimpleItem Name="LogicalState" Value="{state}"/></tt:Data></tt:Message></wsnt:Message>\
</wsnt:NotificationMessage></tt:Event></tt:MetadataStream>
""".encode()


def frame_time(start_ns: UtcNs, number: int, rate: int, step: int = 1) -> UtcNs:
    """UTC of frame `number` of a stream of `rate` ticks a second and `step` ticks a frame."""
    return start_ns + number * step * NS // rate
