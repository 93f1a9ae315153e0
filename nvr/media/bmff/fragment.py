"""Fragments of a track file: our fragment box, prft, moof and mdat (ISO/IEC 14496-12 8.8, 8.16.5), built and read.

The layout of the fragment box stands byte by byte in docs/design/storage.md. Media time 0 is the start of the file.
Decode times are not received, so they are made: the times of presentation of a fragment in ascending order, given to
its samples in decode order, pushed up where needed so that they rise strictly over the whole file. Composition offsets
carry the difference and are negative as often as positive (trun version 1). A time of presentation is rounded to the
nearest tick; what was rounded away, less than a tick, stands in nanoseconds in the fragment box, so that UTC comes
back exactly.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from math import gcd
from operator import sub
from typing import NamedTuple
from zlib import crc32

from nvr.media.bmff.boxes import Buffer, find_box, iter_boxes, read_box
from nvr.media.unit import Fragment, Sample
from nvr.model.errors import FormatError
from nvr.model.time import NS, UtcNs, ns_from_ticks, ntp_from_utc, ticks_from_ns

FRAGMENT_BOX = uuid.UUID("6d5e0b5c-3c1f-4a0e-9b2b-7f1d8a40c7e1")
FRAGMENT_VERSION = 1
TRACK_ID = 1

_CLEAN_START = 1
_DAMAGED = 2

# Size, `uuid`, extended type, version and flags, start, end, lost, dropped, length, CRC, samples, ranges.
_HEAD = struct.Struct(">I4s16sIqqIIQIII")
_RANGE = struct.Struct(">II")
_CRC = struct.Struct(">I")
# Size, `prft`, version and flags, track, NTP time, media time. Flags 8 and 16: the offset to UTC is the same in all
# boxes of the track, and the time is that of the scene (8.16.5).
_PRFT = struct.Struct(">I4sIIQQ")
_PRFT_VERSION_FLAGS = 1 << 24 | 8 | 16
# moof, mfhd (8.8.5), traf, tfhd (8.8.7) with default-base-is-moof and default flags, tfdt version 1 (8.8.12), and
# trun version 1 (8.8.8) up to its table.
_MOOF = struct.Struct(">I4s I4sII I4s I4sIII I4sIQ I4sIIi")
_TFHD_FLAGS = 0x02_0000 | 0x20
_TRUN_BASE = 1 << 24 | 0x1 | 0x100 | 0x200
"""Version 1 with data offset, durations and sizes."""
_TRUN_FLAGS = 0x400
_TRUN_OFFSETS = 0x800
_SYNC = 0x0200_0000
"""Sample depends on no other (8.8.3.1)."""
_NON_SYNC = 0x0101_0000
_MDAT = struct.Struct(">I4s")
_MAX_INT32 = 0x7FFF_FFFF
_HALF = NS // 2


@dataclass(frozen=True, slots=True)
class FragmentBox:
    """Our box in front of each fragment. All of it is covered by a checksum of its own."""

    start_ns: UtcNs
    end_ns: UtcNs
    clean_point: bool
    damaged: tuple[tuple[int, int], ...]
    """(index of the first, count) of samples that follow a loss without a clean point between."""
    lost_packets: int
    dropped_units: int
    length: int
    """Bytes of prft, moof and mdat behind this box."""
    crc: int
    """CRC-32 of those bytes."""
    remainders: tuple[int, ...]
    """Nanoseconds to add to the time of presentation in ticks, one a sample."""
    size: int
    """Bytes of this box."""

    @property
    def total(self) -> int:
        return self.size + self.length

    @classmethod
    def parse(cls, buffer: Buffer, offset: int = 0) -> FragmentBox | None:
        """The box at `offset`, or None when the buffer ends before the box does. Raises FormatError."""
        found = read_box(buffer, offset, len(buffer))
        if found is None:
            # A torn tail may hold anything: only what can still become a fragment box may ask for more bytes.
            return None
        if found.extended != FRAGMENT_BOX:
            raise FormatError(f"no fragment box at offset {offset}")
        if found.size < _HEAD.size + 4 or found.body - offset != 24:
            raise FormatError(f"the fragment box at offset {offset} has a size of {found.size}")
        if crc32(memoryview(buffer)[offset : found.end - 4]) != _CRC.unpack_from(buffer, found.end - 4)[0]:
            raise FormatError(f"the fragment box at offset {offset} does not match its checksum")
        (_, _, _, version_flags, start, end, lost, dropped, length, crc, samples, ranges) = _HEAD.unpack_from(
            buffer, offset
        )
        if version_flags >> 24 != FRAGMENT_VERSION:
            raise FormatError(f"the fragment box at offset {offset} has the unknown version {version_flags >> 24}")
        at = offset + _HEAD.size
        if at + ranges * 8 + samples * 4 + 4 != found.end or samples == 0:
            raise FormatError(f"the fragment box at offset {offset} has tables that do not fit")
        damaged = tuple(_RANGE.unpack_from(buffer, at + i * 8) for i in range(ranges))
        remainders = struct.unpack_from(f">{samples}i", buffer, at + ranges * 8)
        return cls(
            start, end, bool(version_flags & _CLEAN_START), damaged, lost, dropped, length, crc, remainders, found.size
        )


@dataclass(frozen=True, slots=True)
class FragmentEntry:
    """One fragment of a file as tables list it: enough to find it without reading it."""

    offset: int
    length: int
    """Bytes of fragment box, prft, moof and mdat."""
    moof_distance: int
    """Bytes from `offset` to the moof."""
    media_time: int
    """Time of presentation of the first sample, in ticks since the start of the file."""
    start_ns: UtcNs
    end_ns: UtcNs
    samples: int
    clean_point: bool
    damaged: bool
    lost_packets: int
    dropped_units: int


class BuiltFragment(NamedTuple):
    """`head` is the fragment box, `body` prft, moof and mdat in parts: the samples themselves are not copied.

    `entry` has offset 0 until it is known where they go.
    """

    head: bytes
    body: list[bytes]
    entry: FragmentEntry


class FragmentBuilder:
    """Builds the fragments of one file. State: the number of the next fragment and the last decode time."""

    def __init__(self, base_ns: UtcNs, rate: int) -> None:
        """`base_ns` is the UTC time of media time 0; `rate` is the timescale of the file in Hz."""
        self._base_ns = base_ns
        self._rate = rate
        self._next_dts = 0
        self._sequence = 0
        common = gcd(NS, rate)
        self._ns_of_ticks = (2 * NS // common, rate // common, 2 * rate // common)

    def build(self, fragment: Fragment, *, damaged_start: bool = False) -> BuiltFragment:
        """The bytes of one fragment.

        `damaged_start`: the samples up to the first clean point lack what they depend on, whatever they say themselves.
        Raises ValueError for a fragment that cannot stand in this file: its times lie too far from the file's start.
        """
        samples = fragment.samples
        count = len(samples)
        base, rate = self._base_ns, self._rate
        # Written out for speed: ticks_from_ns and ns_from_ticks, with divisors below 2**30, which Python divides by
        # in one pass (50 samples: 4 us instead of 7 us for each line).
        since = [s.utc_ns - base for s in samples]
        pts = [(t * rate + _HALF) // NS for t in since]
        multiplier, half, divisor = self._ns_of_ticks
        remainders = [t - (p * multiplier + half) // divisor for t, p in zip(since, pts, strict=True)]
        dts = self._decode_times(pts)
        last = min(max(ticks_from_ns(fragment.end_ns - base, rate) - dts[-1], 1), _MAX_INT32)
        data = [s.data for s in samples]
        sizes = list(map(len, data))
        columns = [[*map(sub, dts[1:], dts), last], sizes]
        trun_flags = _TRUN_BASE
        if not all(s.clean_point for s in samples):
            columns.append([_SYNC if s.clean_point else _NON_SYNC for s in samples])
            trun_flags |= _TRUN_FLAGS
        if dts != pts:
            columns.append(list(map(sub, pts, dts)))
            trun_flags |= _TRUN_OFFSETS
        width = len(columns)
        cells = [0] * (count * width)
        for i, column in enumerate(columns):
            cells[i::width] = column
        # Every column is below 2**31, so that one signed format packs all of them.
        try:
            table = struct.pack(f">{count * width}i", *cells)
            tail = struct.pack(f">{count}i", *remainders)
        except struct.error as e:
            raise ValueError(f"fragment at {fragment.start_ns} does not fit a file that starts at {base}: {e}") from e
        moof = self._moof(dts[0], count, trun_flags, len(table))
        prft = _PRFT.pack(
            _PRFT.size,
            b"prft",
            _PRFT_VERSION_FLAGS,
            TRACK_ID,
            # Media time is unsigned here; B-frames cut off from the first picture of a file lie before its time 0.
            ntp_from_utc(max(fragment.start_ns, base)),
            max(ticks_from_ns(fragment.start_ns - base, rate), 0),
        )
        front = b"".join((prft, moof, table, _MDAT.pack(sum(sizes) + 8, b"mdat")))
        length, crc = len(front) + sum(sizes), crc32(front)
        for part in data:
            crc = crc32(part, crc)
        ranges = _damaged_ranges(samples, damaged_start)
        flags = (_CLEAN_START if samples[0].clean_point else 0) | (_DAMAGED if ranges else 0)
        head_size = _HEAD.size + len(ranges) * 8 + len(tail) + 4
        head = b"".join(
            (
                _HEAD.pack(
                    head_size,
                    b"uuid",
                    FRAGMENT_BOX.bytes,
                    FRAGMENT_VERSION << 24 | flags,
                    fragment.start_ns,
                    fragment.end_ns,
                    fragment.lost_packets,
                    fragment.dropped_units,
                    length,
                    crc,
                    count,
                    len(ranges),
                ),
                *[_RANGE.pack(*r) for r in ranges],
                tail,
            )
        )
        head += _CRC.pack(crc32(head))
        self._next_dts = dts[-1] + 1
        self._sequence += 1
        entry = FragmentEntry(
            offset=0,
            length=head_size + length,
            moof_distance=head_size + _PRFT.size,
            media_time=pts[0],
            start_ns=fragment.start_ns,
            end_ns=fragment.end_ns,
            samples=count,
            clean_point=samples[0].clean_point,
            damaged=bool(ranges),
            lost_packets=fragment.lost_packets,
            dropped_units=fragment.dropped_units,
        )
        return BuiltFragment(head, [front, *data], entry)

    def _decode_times(self, pts: list[int]) -> list[int]:
        """Strictly rising over all fragments; equal to `pts` wherever these rise by themselves (no B-frames)."""
        floor = self._next_dts
        dts = sorted(pts)
        if dts[0] >= floor and len(set(dts)) == len(dts):
            return dts
        for i, time in enumerate(dts):
            if time < floor:
                dts[i] = time = floor
            floor = time + 1
        return dts

    def _moof(self, dts: int, count: int, trun_flags: int, table: int) -> bytes:
        trun = 20 + table
        traf = 8 + 20 + 20 + trun
        moof = 8 + 16 + traf
        return _MOOF.pack(
            *(moof, b"moof"),
            *(16, b"mfhd", 0, self._sequence + 1),
            *(traf, b"traf"),
            *(20, b"tfhd", _TFHD_FLAGS, TRACK_ID, _SYNC),
            *(20, b"tfdt", 1 << 24, dts),
            *(trun, b"trun", trun_flags, count, moof + 8),
        )


def _damaged_ranges(samples: list[Sample], damaged_start: bool) -> list[tuple[int, int]]:
    if not damaged_start and not any(s.damaged for s in samples):
        return []
    ranges: list[tuple[int, int]] = []
    for i, sample in enumerate(samples):
        damaged_start = damaged_start and not sample.clean_point
        if sample.damaged or damaged_start:
            if ranges and sum(ranges[-1]) == i:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + 1)
            else:
                ranges.append((i, 1))
    return ranges


def check_body(header: FragmentBox, body: Buffer) -> None:
    """Raises FormatError unless `body` is exactly the prft, moof and mdat that the fragment box tells of."""
    if len(body) != header.length:
        raise FormatError(f"fragment of {header.length} bytes is cut off after {len(body)}")
    if crc32(body) != header.crc:
        raise FormatError("fragment does not match its checksum")


class Place(NamedTuple):
    """One sample, without its bytes: `size` of them stand `at` so many bytes behind the fragment box."""

    utc_ns: UtcNs
    clean_point: bool
    damaged: bool
    at: int
    size: int


def parse_places(header: FragmentBox, body: Buffer, base_ns: UtcNs, rate: int) -> list[Place]:
    """The samples of a fragment in decode order. `base_ns` and `rate` are those of the file.

    Raises FormatError when moof and mdat are not as `FragmentBuilder` makes them.
    """
    dts, table = _read_moof(body)
    if len(table) != len(header.remainders):
        raise FormatError(f"fragment has {len(table)} samples, its fragment box tells of {len(header.remainders)}")
    mdat = next((b for b in iter_boxes(body) if b.type == b"mdat"), None)
    if mdat is None:
        raise FormatError("fragment without mdat")
    damaged = {i for first, count in header.damaged for i in range(first, first + count)}
    at = mdat.body
    places = []
    for i, ((duration, size, flags, shift), remainder) in enumerate(zip(table, header.remainders, strict=True)):
        if at + size > mdat.end:
            raise FormatError(f"sample {i} ends {at + size - mdat.end} bytes behind its mdat")
        utc_ns = base_ns + ns_from_ticks(dts + shift, rate) + remainder
        places.append(Place(utc_ns, not flags & 0x1_0000, i in damaged, at, size))
        at += size
        dts += duration
    return places


def parse_samples(header: FragmentBox, body: Buffer, base_ns: UtcNs, rate: int) -> list[Sample]:
    """The samples of a fragment whose checksum has been checked. Raises as `parse_places`."""
    view = memoryview(body)
    return [
        Sample(p.utc_ns, bytes(view[p.at : p.at + p.size]), p.clean_point, p.damaged)
        for p in parse_places(header, body, base_ns, rate)
    ]


def first_media_time(body: Buffer) -> tuple[int, int]:
    """(offset of the moof in `body`, time of presentation of its first sample in ticks)."""
    moof = find_box(body, b"moof")
    dts, table = _read_moof(body)
    return moof.offset, dts + (table[0][3] if table else 0)


def _read_moof(body: Buffer) -> tuple[int, list[tuple[int, int, int, int]]]:
    """Decode time of the first sample, and (duration, size, flags, composition offset) of each."""
    traf = find_box(body, b"moof/traf")
    tfhd = find_box(body, b"tfhd", traf.body, traf.end)
    tfdt = find_box(body, b"tfdt", traf.body, traf.end)
    trun = find_box(body, b"trun", traf.body, traf.end)
    try:
        (default_flags,) = struct.unpack_from(">I", body, tfhd.body + 8)
        (dts,) = struct.unpack_from(">Q", body, tfdt.body + 4)
        version_flags, count = struct.unpack_from(">II", body, trun.body)
        given = version_flags & 0xF00
        if version_flags & ~(_TRUN_FLAGS | _TRUN_OFFSETS) != _TRUN_BASE:
            raise FormatError(f"trun has the version and flags {version_flags:#010x}")
        row = struct.Struct(">II" + ("I" if given & _TRUN_FLAGS else "") + ("i" if given & _TRUN_OFFSETS else ""))
        table_end = trun.body + 12 + count * row.size
        if table_end != trun.end:
            raise FormatError(f"trun with {count} samples has a size of {trun.size}")
        rows = row.iter_unpack(memoryview(body)[trun.body + 12 : table_end])
        if given & _TRUN_FLAGS and given & _TRUN_OFFSETS:
            return dts, list(rows)
        if given & _TRUN_FLAGS:
            return dts, [(d, s, f, 0) for d, s, f in rows]
        if given & _TRUN_OFFSETS:
            return dts, [(d, s, default_flags, o) for d, s, o in rows]
        return dts, [(d, s, default_flags, 0) for d, s in rows]
    except struct.error as e:
        raise FormatError(f"moof is cut off: {e}") from e
