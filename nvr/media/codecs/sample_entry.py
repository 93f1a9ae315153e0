"""Sample entries of video and audio (ISO/IEC 14496-12 8.5.2, 12.1.3, 12.2.3): built and taken apart."""

from __future__ import annotations

import struct
from typing import NamedTuple

from nvr.media.bmff.boxes import box, iter_boxes
from nvr.model.errors import FormatError

_ENTRY = struct.Struct(">6xH")  # reserved, data_reference_index
_VISUAL = struct.Struct(
    ">16xHHIIIH32sHh"
)  # width, height, resolutions, reserved, frame_count, compressorname, depth, -1
_AUDIO = struct.Struct(">8xHHHHI")  # channelcount, samplesize, pre_defined, reserved, samplerate 16.16
_DPI_72 = 0x0048_0000


class Entry(NamedTuple):
    """A sample entry taken apart. What does not apply to its kind is 0."""

    kind: bytes
    width: int
    height: int
    channels: int
    sample_rate: int
    """Integer part of samplerate, Hz; 0 when the rate does not fit 16 bits."""
    sample_size: int
    """Bits of a sample."""
    boxes: dict[bytes, bytes]
    """Contents of the boxes within, by type."""


def visual_sample_entry(kind: bytes, width: int, height: int, *boxes: bytes) -> bytes:
    """VisualSampleEntry. Width and height in pixels, as decoded and cropped."""
    head = _VISUAL.pack(width, height, _DPI_72, _DPI_72, 0, 1, b"", 24, -1)
    return box(kind, _ENTRY.pack(1), head, *boxes)


def audio_sample_entry(kind: bytes, channels: int, sample_rate: int, *boxes: bytes, sample_size: int = 16) -> bytes:
    """AudioSampleEntry, version 0. A rate above 65535 Hz does not fit: 0 is written, the codec's box has it."""
    rate = sample_rate << 16 if sample_rate <= 0xFFFF else 0
    return box(kind, _ENTRY.pack(1), _AUDIO.pack(channels, sample_size, 0, 0, rate), *boxes)


def parse_sample_entry(entry: bytes, *, visual: bool) -> Entry:
    """Inverse of the two above. Raises FormatError."""
    kind, body = sample_entry_body(entry)
    head = _VISUAL if visual else _AUDIO
    if len(body) < head.size:
        raise FormatError(f"sample entry {kind!r} of {len(entry)} bytes is cut short")
    inner = {found.type: body[found.body : found.end] for found in iter_boxes(body, head.size)}
    if visual:
        width, height = head.unpack_from(body)[:2]
        return Entry(kind, width, height, 0, 0, 0, inner)
    channels, bits, _, _, rate = head.unpack_from(body)
    return Entry(kind, 0, 0, channels, rate >> 16, bits, inner)


def sample_entry_body(entry: bytes) -> tuple[bytes, bytes]:
    """Type of a sample entry and what follows its data_reference_index. Raises FormatError."""
    found = next(iter(iter_boxes(entry)), None)
    if found is None or found.end != len(entry) or found.end - found.body < _ENTRY.size:
        raise FormatError(f"{len(entry)} bytes are not one sample entry")
    return found.type, entry[found.body + _ENTRY.size : found.end]
