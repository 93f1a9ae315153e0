"""The esds box and the descriptors in it (ISO/IEC 14496-14 5.6, ISO/IEC 14496-1 7.2.6): what a decoder of `mp4a` and
`mp4v` is told."""

from __future__ import annotations

import struct
from typing import NamedTuple

from nvr.media.bmff.boxes import full_box
from nvr.model.errors import FormatError

AAC, MPEG4_VISUAL, JPEG = 0x40, 0x20, 0x6C
"""Object type indications (ISO/IEC 14496-1 table 5)."""
STREAM_VISUAL, STREAM_AUDIO = 4, 5

_ES, _DECODER_CONFIG, _DECODER_SPECIFIC, _SL_CONFIG = 3, 4, 5, 6


class Decoder(NamedTuple):
    """What a DecoderConfigDescriptor says."""

    object_type: int
    specific: bytes
    """Contents of the DecoderSpecificInfo; empty where there is none."""


def esds_box(object_type: int, stream_type: int, specific: bytes = b"") -> bytes:
    """The box; sizes of buffers and bit rates are told as unknown."""
    decoder = struct.pack(">BB3xII", object_type, stream_type << 2 | 1, 0, 0)
    if specific:
        decoder += _descriptor(_DECODER_SPECIFIC, specific)
    es = b"\0\0\0" + _descriptor(_DECODER_CONFIG, decoder) + _descriptor(_SL_CONFIG, b"\2")
    return full_box(b"esds", 0, 0, _descriptor(_ES, es))


def parse_esds(content: bytes) -> Decoder:
    """From the contents of an esds box. Raises FormatError."""
    es = _take(content[4:], _ES)
    at = 3
    if len(es) > 2:  # ISO/IEC 14496-1 7.2.6.5: what the flags announce stands before the decoder's part
        flags = es[2]
        at += 2 if flags & 0x80 else 0
        if flags & 0x40:
            at += 1 + int.from_bytes(es[at : at + 1], "big")
        at += 2 if flags & 0x20 else 0
    decoder = _take(es[at:], _DECODER_CONFIG)
    if not decoder:
        raise FormatError("an esds box without a decoder")
    specific = _take(decoder[13:], _DECODER_SPECIFIC) if len(decoder) > 13 else b""
    return Decoder(decoder[0], specific)


def _descriptor(tag: int, body: bytes) -> bytes:
    """A descriptor with its expandable size (ISO/IEC 14496-1 8.3.3)."""
    size = len(body)
    length = bytes((size & 0x7F,))
    while size := size >> 7:
        length = bytes((size & 0x7F | 0x80,)) + length
    return bytes((tag,)) + length + body


def _take(data: bytes, tag: int) -> bytes:
    """Contents of the descriptor at the start of `data`. Raises FormatError."""
    if not data or data[0] != tag:
        raise FormatError(f"an esds box without the descriptor of tag {tag}")
    size, at = 0, 1
    while at < min(len(data), 5):
        size, at = size << 7 | data[at] & 0x7F, at + 1
        if not data[at - 1] & 0x80:
            break
    if at + size > len(data):
        raise FormatError("an esds box cut short")
    return data[at : at + size]
