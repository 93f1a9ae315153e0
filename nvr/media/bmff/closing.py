"""The tail of a closed track file: our close box, then mfra (ISO/IEC 14496-12 8.8.9 to 8.8.11), built and read.

The close box lists every fragment, so that a reader needs one read at the end of the file and no walk. Its layout
stands byte by byte in docs/design/storage.md. mfra serves stock players: it lists the fragments that start at a clean
point.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from nvr.media.bmff.boxes import Buffer, box, full_box, read_box, uuid_box
from nvr.media.bmff.fragment import TRACK_ID, FragmentEntry
from nvr.model.errors import FormatError
from nvr.model.time import UtcNs

CLOSE_BOX = uuid.UUID("b7a1f7d2-0b4e-4f4a-a6ce-51f3c2d90e38")
CLOSE_VERSION = 1

_HEAD = struct.Struct(">IqQIB")
_ENTRY = struct.Struct(">QIIqqqIIII")
_TRAILER = struct.Struct(">II")
_MFRO = struct.Struct(">I4sII")
_CLEAN_POINT = 1
_DAMAGED = 2


@dataclass(frozen=True, slots=True)
class Closing:
    """What the tail of a closed file says."""

    end_ns: UtcNs
    end_reason: str | None
    """A GapReason when the run ends with this file, None when another file of the run follows."""
    entries: tuple[FragmentEntry, ...]


def build_tail(closing: Closing) -> bytes:
    """Close box and mfra."""
    reason = (closing.end_reason or "").encode()
    entries = closing.entries
    contents = b"".join(
        (
            _HEAD.pack(CLOSE_VERSION << 24, closing.end_ns, sum(e.samples for e in entries), len(entries), len(reason)),
            reason,
            *[_pack_entry(e) for e in entries],
        )
    )
    size = 24 + len(contents) + _TRAILER.size
    close = uuid_box(CLOSE_BOX, contents, _TRAILER.pack(crc32(contents), size))
    return close + _mfra([e for e in entries if e.clean_point])


def tail_size(last_bytes: Buffer) -> int | None:
    """Bytes of close box and mfra together, from the last bytes of a file, or None.

    None: the file is not closed, or `last_bytes` holds less than mfra and the last 4 bytes of the close box.
    """
    mfra = mfra_size(last_bytes)
    if mfra is None or len(last_bytes) < mfra + _TRAILER.size:
        return None
    _, size = _TRAILER.unpack_from(last_bytes, len(last_bytes) - mfra - _TRAILER.size)
    return int(size) + mfra


def parse_tail(tail: Buffer) -> Closing:
    """From exactly the bytes that `tail_size` tells of. Raises FormatError."""
    found = read_box(tail, 0, len(tail))
    if found is None or found.extended != CLOSE_BOX or found.size < 24 + _HEAD.size + _TRAILER.size:
        raise FormatError("the file has no close box where its end tells of one")
    contents = memoryview(tail)[found.body : found.end - _TRAILER.size]
    crc, size = _TRAILER.unpack_from(tail, found.end - _TRAILER.size)
    if crc32(contents) != crc or size != found.size:
        raise FormatError("the close box does not match its checksum")
    version_flags, end_ns, samples, count, reason_length = _HEAD.unpack_from(contents)
    if version_flags >> 24 != CLOSE_VERSION:
        raise FormatError(f"the close box has the unknown version {version_flags >> 24}")
    at = _HEAD.size + reason_length
    if at + count * _ENTRY.size != len(contents):
        raise FormatError(f"the close box with {count} fragments has a size of {found.size}")
    try:
        reason = bytes(contents[_HEAD.size : at]).decode("ascii") or None
    except UnicodeDecodeError as e:
        raise FormatError("the close box has a reason that is no text") from e
    entries = tuple(_unpack_entry(fields) for fields in _ENTRY.iter_unpack(contents[at:]))
    if sum(e.samples for e in entries) != samples:
        raise FormatError("the close box has a sum of samples that is not that of its fragments")
    return Closing(end_ns, reason, entries)


def _pack_entry(e: FragmentEntry) -> bytes:
    flags = (_CLEAN_POINT if e.clean_point else 0) | (_DAMAGED if e.damaged else 0)
    return _ENTRY.pack(
        *(e.offset, e.length, e.moof_distance, e.media_time, e.start_ns, e.end_ns),
        *(e.samples, e.lost_packets, e.dropped_units, flags),
    )


def _unpack_entry(fields: tuple[int, ...]) -> FragmentEntry:
    offset, length, moof_distance, media_time, start_ns, end_ns, samples, lost, dropped, flags = fields
    clean_point, damaged = bool(flags & _CLEAN_POINT), bool(flags & _DAMAGED)
    return FragmentEntry(
        offset, length, moof_distance, media_time, start_ns, end_ns, samples, clean_point, damaged, lost, dropped
    )


def _mfra(entries: Sequence[FragmentEntry]) -> bytes:
    # Numbers of traf, trun and sample have one byte each (the zero bits of the length fields); all of them are 1.
    table = b"".join(struct.pack(">QQBBB", max(e.media_time, 0), e.offset + e.moof_distance, 1, 1, 1) for e in entries)
    tfra = full_box(b"tfra", 1, 0, struct.pack(">III", TRACK_ID, 0, len(entries)), table)
    return box(b"mfra", tfra, full_box(b"mfro", 0, 0, struct.pack(">I", 8 + len(tfra) + _MFRO.size)))


def mfra_size(last_bytes: Buffer) -> int | None:
    """Bytes of mfra by the last 16 bytes of a file (mfro, 8.8.11), or None when the file does not end so."""
    if len(last_bytes) < _MFRO.size:
        return None
    size, kind, version_flags, mfra = _MFRO.unpack_from(last_bytes, len(last_bytes) - _MFRO.size)
    if (size, kind, version_flags) != (_MFRO.size, b"mfro", 0) or mfra < 8 + _MFRO.size:
        return None
    return int(mfra)
