"""Boxes of the ISO base media file format (ISO/IEC 14496-12 4.2): bytes in, bytes out, no meaning.

`box` and `full_box` build, `iter_boxes` walks. A walk over bytes from outside never reads past its end: a size that
does not fit raises FormatError, or ends the walk when the caller says that the end may be torn.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from nvr.model.errors import FormatError

Buffer: TypeAlias = bytes | bytearray | memoryview

_SIZE_TYPE = struct.Struct(">I4s")
_LARGE = struct.Struct(">Q")
MAX_COMPACT = 0xFFFF_FFFF
"""Largest size that fits the 32-bit size field."""
UUID = b"uuid"


class Box(NamedTuple):
    """Where a box stands in a buffer. Offsets count from the start of the buffer."""

    type: bytes
    offset: int
    """First byte of the size field."""
    body: int
    """First byte of the contents: behind size, type, large size and extended type."""
    end: int
    extended: uuid.UUID | None = None
    """Extended type; only of `uuid` boxes."""

    @property
    def size(self) -> int:
        return self.end - self.offset


def box(kind: bytes, *parts: Buffer) -> bytes:
    """One box. Contents beyond 4 GiB get a 64-bit size."""
    length = sum(map(len, parts))
    if length + 8 > MAX_COMPACT:
        return b"".join((_SIZE_TYPE.pack(1, kind), _LARGE.pack(length + 16), *parts))
    return b"".join((_SIZE_TYPE.pack(length + 8, kind), *parts))


def full_box(kind: bytes, version: int, flags: int, *parts: Buffer) -> bytes:
    """One FullBox: version (8 bits) and flags (24 bits) stand before the contents."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def uuid_box(extended: uuid.UUID, *parts: Buffer) -> bytes:
    """One box of an extended type."""
    return box(UUID, extended.bytes, *parts)


def read_box(buffer: Buffer, offset: int, end: int) -> Box | None:
    """The box at `offset`, or None when it does not lie wholly before `end`.

    Raises FormatError where no box can stand: a size smaller than its own header.
    A size of 0 (to the end of the file, 4.2) reaches to `end`.
    """
    if offset + 8 > end:
        return None
    size, kind = _SIZE_TYPE.unpack_from(buffer, offset)
    body = offset + 8
    if size == 1:
        if offset + 16 > end:
            return None
        (size,) = _LARGE.unpack_from(buffer, offset + 8)
        body = offset + 16
    elif size == 0:
        size = end - offset
    extended = None
    if kind == UUID:
        body += 16
    if size < body - offset:
        raise FormatError(f"box {kind!r} at offset {offset} has a size of {size}, less than its header")
    if offset + size > end:
        return None
    if kind == UUID:
        extended = uuid.UUID(bytes=bytes(buffer[body - 16 : body]))
    return Box(kind, offset, body, offset + size, extended)


def iter_boxes(buffer: Buffer, start: int = 0, end: int | None = None, *, torn: bool = False) -> Iterator[Box]:
    """The boxes that lie one behind the other in `buffer[start:end]`.

    Raises FormatError when the last one is cut off, or ends before it when `torn` says that this is expected.
    """
    end = len(buffer) if end is None else end
    if not 0 <= start <= end <= len(buffer):
        raise ValueError(f"a walk over bytes {start} to {end} of a buffer of {len(buffer)}")
    while start < end:
        found = read_box(buffer, start, end)
        if found is None:
            if torn:
                return
            raise FormatError(f"the box at offset {start} is cut off at {end}")
        yield found
        start = found.end


def find_box(buffer: Buffer, path: bytes, start: int = 0, end: int | None = None) -> Box:
    """The first box down a path of containers, e.g. `b"moov/trak/mdia"`. Raises FormatError when there is none."""
    found = None
    for kind in path.split(b"/"):
        found = next((b for b in iter_boxes(buffer, start, end) if b.type == kind), None)
        if found is None:
            raise FormatError(f"no {kind!r} box of the path {path!r}")
        start, end = found.body, found.end
    assert found is not None
    return found
