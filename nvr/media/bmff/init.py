"""The head of a track file: ftyp, moov with one empty track (ISO/IEC 14496-12 8), and our identity box.

The layout of the identity box stands byte by byte in docs/design/storage.md.
"""

from __future__ import annotations

import json
import struct
import uuid
from dataclasses import asdict, dataclass
from zlib import crc32

from nvr.media.bmff.boxes import Buffer, box, find_box, full_box, read_box, uuid_box
from nvr.media.bmff.fragment import TRACK_ID
from nvr.media.unit import CodecConfiguration
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from nvr.model.time import UtcNs, mp4_seconds_from_utc

IDENTITY_BOX = uuid.UUID("0f5b5a1e-6f0d-4c55-8d0c-2f6f3a1f9d64")
IDENTITY_VERSION = 1
MAX_HEAD = 1 << 20
"""No head of ours is larger, in bytes; what claims to be is not one."""

_AROUND_TEXT = 24 + 4 + 4
"""Bytes of an identity box that are not its JSON."""
_HANDLERS = {TrackType.VIDEO: b"vide", TrackType.AUDIO: b"soun", TrackType.METADATA: b"meta"}
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED_LANGUAGE = 0x55C4
"""`und` in three letters of five bits (8.4.2.2)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a track file says of itself, so that the index can be made again from the files alone."""

    file: str
    volume: str
    recording: str
    track: str
    run: str
    place: int
    """Place of the file in its run, from 0."""
    gap_before: str | None
    """A GapReason, in the first file of a run that has one before it."""
    start_ns: UtcNs
    """UTC time of media time 0."""
    encoding: str

    def to_box(self, size: int = 0) -> bytes:
        """With spaces behind the JSON where the box shall have a `size` that is more than it needs."""
        text = json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False).encode()
        text = text.ljust(size - _AROUND_TEXT)
        body = struct.pack(">I", IDENTITY_VERSION << 24) + text
        return uuid_box(IDENTITY_BOX, body, struct.pack(">I", crc32(body)))

    @classmethod
    def from_body(cls, body: Buffer) -> Identity:
        """From the contents of the box. Raises FormatError."""
        if len(body) < 8 or crc32(body[:-4]) != struct.unpack_from(">I", body, len(body) - 4)[0]:
            raise FormatError("the identity box does not match its checksum")
        if body[0] != IDENTITY_VERSION:
            raise FormatError(f"the identity box has the unknown version {body[0]}")
        try:
            fields = json.loads(bytes(body[4:-4]))
            found = cls(**{name: fields[name] for name in cls.__slots__})
        except (ValueError, KeyError, TypeError) as e:
            raise FormatError(f"the identity box cannot be read: {e}") from e
        texts = (found.file, found.volume, found.recording, found.track, found.run, found.encoding)
        numbers = (found.place, found.start_ns)
        if not all(type(t) is str for t in texts) or not all(type(n) is int for n in numbers):
            raise FormatError("the identity box has a field of a wrong type")
        if found.gap_before is not None and type(found.gap_before) is not str:
            raise FormatError("the identity box has a field of a wrong type")
        return found


@dataclass(frozen=True, slots=True)
class Head:
    """The parsed head of a track file."""

    identity: Identity
    sample_entry: bytes
    """The first entry of stsd; `codecs.from_sample_entry` reads it."""
    timescale: int
    size: int
    """Bytes of ftyp, moov and identity box: where the first fragment starts."""


def build_head(configuration: CodecConfiguration, identity: Identity, size: int = 0) -> bytes:
    """ftyp, moov and identity box. The timescale is the clock rate of the encoding. It has `size` bytes, or more where
    it needs more."""
    ftyp = box(b"ftyp", b"iso6", bytes(4), b"iso6", b"isom", b"mp41")
    created = mp4_seconds_from_utc(identity.start_ns)
    moov = _moov(configuration, created)
    return b"".join((ftyp, moov, identity.to_box(size - len(ftyp) - len(moov))))


def parse_head(buffer: Buffer) -> Head | None:
    """The head of a file, or None when the buffer ends before it does. Raises FormatError when it is none of ours."""
    at, moov = 0, None
    while True:
        found = read_box(buffer, at, len(buffer))
        if found is None:
            _refuse_other_files(buffer, at)
            return None
        if at == 0 and found.type != b"ftyp":
            raise FormatError(f"the file starts with {found.type!r}, not with ftyp")
        if found.type == b"moov":
            moov = found
        elif found.extended == IDENTITY_BOX:
            break
        elif found.type in (b"moof", b"mdat") or found.end > MAX_HEAD:
            raise FormatError("the file has no identity box")
        at = found.end
    if moov is None:
        raise FormatError("the file has no moov before its identity box")
    mdhd = find_box(buffer, b"trak/mdia/mdhd", moov.body, moov.end)
    stsd = find_box(buffer, b"trak/mdia/minf/stbl/stsd", moov.body, moov.end)
    entry = read_box(buffer, stsd.body + 8, stsd.end)
    wide = mdhd.end > mdhd.body and bytes(buffer[mdhd.body : mdhd.body + 1]) == b"\x01"
    timescale_at = mdhd.body + (20 if wide else 12)
    if entry is None or timescale_at + 4 > mdhd.end:
        raise FormatError("the moov has no sample entry or timescale")
    (timescale,) = struct.unpack_from(">I", buffer, timescale_at)
    if timescale == 0:
        raise FormatError("the moov has a timescale of 0")
    identity = Identity.from_body(bytes(buffer[found.body : found.end]))
    return Head(identity, bytes(buffer[entry.offset : entry.end]), timescale, found.end)


def _refuse_other_files(buffer: Buffer, at: int) -> None:
    """Raises FormatError when no further bytes could make this the head of a track file."""
    start = bytes(buffer[4:8])
    if not b"ftyp".startswith(start):
        raise FormatError(f"the file starts with {start!r}, not with ftyp")
    if len(buffer) >= MAX_HEAD:
        raise FormatError(f"the box at offset {at} ends behind the first {MAX_HEAD} bytes")


def _moov(configuration: CodecConfiguration, created: int) -> bytes:
    kind = configuration.track_type
    entry = configuration.sample_entry()
    # VisualSampleEntry has width and height behind 24 bytes of contents (12.1.3.2); tkhd repeats them as 16.16.
    width, height = struct.unpack_from(">HH", entry, 32) if kind is TrackType.VIDEO else (0, 0)
    mvhd = full_box(
        b"mvhd",
        1,
        0,
        struct.pack(">QQIQ", created, created, configuration.clock_rate, 0),
        struct.pack(">IHH8x", 0x10000, 0x100, 0),
        _MATRIX,
        bytes(24),
        struct.pack(">I", TRACK_ID + 1),
    )
    tkhd = full_box(
        b"tkhd",
        1,
        3,  # enabled, in movie
        struct.pack(">QQI4xQ8x", created, created, TRACK_ID, 0),
        struct.pack(">hhHH", 0, 0, 0x100 if kind is TrackType.AUDIO else 0, 0),
        _MATRIX,
        struct.pack(">II", width << 16, height << 16),
    )
    mdhd = full_box(
        b"mdhd",
        1,
        0,
        struct.pack(">QQIQHH", created, created, configuration.clock_rate, 0, _UNDETERMINED_LANGUAGE, 0),
    )
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), _HANDLERS[kind], bytes(12), b"nvr\0")
    media_header = {
        TrackType.VIDEO: full_box(b"vmhd", 0, 1, bytes(8)),
        TrackType.AUDIO: full_box(b"smhd", 0, 0, bytes(4)),
    }.get(kind) or full_box(b"nmhd", 0, 0)
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
    stbl = box(
        b"stbl",
        full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)),
        full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )
    mdia = box(b"mdia", mdhd, hdlr, box(b"minf", media_header, dinf, stbl))
    trex = full_box(b"trex", 0, 0, struct.pack(">IIIII", TRACK_ID, 1, 0, 0, 0))
    return box(b"moov", mvhd, box(b"trak", tkhd, mdia), box(b"mvex", trex))
