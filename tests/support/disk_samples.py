"""The samples that stand in track files, read by hand from the boxes (ISO/IEC 14496-12): no code of the recorder."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

IDENTITY = UUID("0f5b5a1e-6f0d-4c55-8d0c-2f6f3a1f9d64").bytes
"""Extended type of the box that says what a file is (docs/design/storage.md)."""


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of content, end) of each box that is whole."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def samples(path: Path) -> list[bytes]:
    """All samples of the fragments whose moof and mdat are whole."""
    data = path.read_bytes()
    found: list[bytes] = []
    sizes: list[int] = []
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"moof":
            sizes = _sizes(data, start, end)
        elif kind == b"mdat":
            assert sum(sizes) == end - start
            for size in sizes:
                found.append(data[start : start + size])
                start += size
    return found


def _sizes(data: bytes, start: int, end: int) -> list[int]:
    sizes: list[int] = []
    for kind, at, stop in boxes(data, start, end):
        if kind == b"traf":
            default = None
            for inner, inner_at, _ in boxes(data, at, stop):
                flags = int.from_bytes(data[inner_at + 1 : inner_at + 4], "big")
                if inner == b"tfhd":
                    where = inner_at + 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2) + 4 * bool(flags & 8)
                    default = struct.unpack_from(">I", data, where)[0] if flags & 0x10 else None
                elif inner == b"trun":
                    (count,) = struct.unpack_from(">I", data, inner_at + 4)
                    where = inner_at + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
                    width = 4 * sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
                    before = 4 * bool(flags & 0x100)
                    for i in range(count):
                        if flags & 0x200:
                            sizes.append(struct.unpack_from(">I", data, where + i * width + before)[0])
                        else:
                            assert default is not None
                            sizes.append(default)
    return sizes


def first_time(path: Path) -> int:
    """NTP time stamp of the first producer reference time box (ISO/IEC 14496-12 8.16.5); 0 without a fragment."""
    data = path.read_bytes()
    for kind, start, _ in boxes(data, 0, len(data)):
        if kind == b"prft":
            return int(struct.unpack_from(">Q", data, start + 8)[0])
    return 0


def track_samples(data: Path, track: str) -> list[bytes]:
    """The samples of a track of the only recording in a data directory, in the order of its files."""
    files = sorted(data.glob(f"volumes/*/footage/*/{track}/*/*.mp4"), key=first_time)
    return [s for f in files for s in samples(f)]


def runs(data: Path, track: str) -> set[str]:
    """The runs that the files of a track of all recordings in a data directory belong to."""
    return {str(identity(f)["run"]) for f in data.glob(f"volumes/*/footage/*/{track}/*/*.mp4")}


def identity(path: Path) -> dict[str, object]:
    """What the head of a file says of it."""
    data = path.read_bytes()
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"uuid" and data[start : start + 16] == IDENTITY:
            return dict(json.loads(data[start + 20 : end - 4]))
    raise AssertionError(f"{path} has no identity")
