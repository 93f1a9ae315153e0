"""H.264 (ITU-T H.264, RFC 6184; in files ISO/IEC 14496-15, sample entry `avc3`).

Clean points. An IDR picture; and a picture whose slices are all I (or SI) slices, when the camera says that decoding
can begin there: by a recovery point SEI with recovery_frame_cnt 0 (D.2.8; open GOPs), or by sequence and picture
parameter sets in the same access unit (cameras that never send an IDR picture). What such a picture does not prove is
that pictures behind it do not lean on earlier ones.

Access units are kept as received: delimiters, SEI and parameter sets stay in band, hence `avc3`; the parameter sets
stand in avcC as well, for players that look only there.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from nvr.media.bmff.boxes import box
from nvr.media.codecs.bits import Bits, without_emulation
from nvr.media.codecs.nal import (
    DELIMITER,
    LONGEST_SET,
    MAXIMUM_UNIT,
    OTHER,
    PICTURE_SET,
    PREFIX,
    SEQUENCE_SET,
    SLICE,
    NalDepacketizer,
    NalPacketizer,
)
from nvr.media.codecs.sample_entry import parse_sample_entry, visual_sample_entry
from nvr.media.unit import AccessUnit
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"avc3"
SAMPLE_ENTRIES = (b"avc3", b"avc1")

MAXIMUM_SPS, MAXIMUM_PPS = 31, 255
"""What avcC can count (ISO/IEC 14496-15 5.3.3.1); a stream may use 32 and 256 ids."""

SLICE_NON_IDR, PARTITION_A, SLICE_IDR, SEI, SPS, PPS, AUD = 1, 2, 5, 6, 7, 8, 9
STAP_A, STAP_B, MTAP16, MTAP24, FU_A, FU_B = range(24, 30)

_ROLES = {
    SLICE_NON_IDR: SLICE,
    PARTITION_A: SLICE,
    SLICE_IDR: SLICE,
    SEI: PREFIX,
    SPS: SEQUENCE_SET,
    PPS: PICTURE_SET,
    AUD: DELIMITER,
    14: PREFIX,  # prefix NAL unit of scalable coding
    15: PREFIX,  # subset sequence parameter set
}

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_HIGH_IN_AVCC = frozenset({100, 110, 122, 144, 244, 44})
_INTRA_SLICES = frozenset({2, 4, 7, 9})
_RECOVERY_POINT = 6

# Sample aspect ratios of Table E-1, by aspect_ratio_idc.
_ASPECT = (
    (1, 1), (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33), (18, 11), (15, 11),
    (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip
_EXTENDED_SAR = 255


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """What the recorder needs of a sequence parameter set (7.3.2.1.1)."""

    id: int
    profile: int
    compatibility: int
    """constraint_set flags, the byte between profile and level."""
    level: int
    chroma_format: int
    bit_depth_luma: int
    bit_depth_chroma: int
    width: int
    """Pixels, cropped."""
    height: int
    aspect: tuple[int, int] = (1, 1)
    """Sample aspect ratio."""
    num_reorder: int | None = None
    """max_num_reorder_frames, or None when the stream does not say."""


def parse_sps(nal: bytes) -> SequenceParameters:
    """A sequence parameter set NAL unit (7.3.2.1.1). Raises FormatError."""
    bits = Bits(without_emulation(nal[1:LONGEST_SET]), "sequence parameter set")
    profile, compatibility, level = bits.u(8), bits.u(8), bits.u(8)
    number = bits.ue()
    if number > 31:
        raise FormatError(f"seq_parameter_set_id of {number}, more than 31")
    chroma, separate, luma_depth, chroma_depth = 1, False, 8, 8
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        if chroma > 3:
            raise FormatError(f"chroma_format_idc of {chroma}, more than 3")
        separate = chroma == 3 and bits.flag()
        luma_depth, chroma_depth = 8 + bits.ue(), 8 + bits.ue()
        if max(luma_depth, chroma_depth) > 14:
            raise FormatError(f"bit depths of {luma_depth} and {chroma_depth}, more than 14")
        bits.skip(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.flag():
            for i in range(8 if chroma != 3 else 12):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    bits.ue()  # log2_max_frame_num_minus4
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.skip(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 256)):
            bits.se()
    bits.ue()  # max_num_ref_frames
    bits.skip(1)
    columns, rows = bits.ue() + 1, bits.ue() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.skip(1)
    bits.skip(1)  # direct_8x8_inference_flag
    left, right, top, bottom = (bits.ue() for _ in range(4)) if bits.flag() else (0, 0, 0, 0)
    # Units of cropping: 7.4.2.1.1, equations 7-19 to 7-22.
    array = 0 if separate else chroma
    unit_x = 2 if array in (1, 2) else 1
    unit_y = (2 if array == 1 else 1) * (1 if frames_only else 2)
    width = columns * 16 - unit_x * (left + right)
    height = rows * 16 * (1 if frames_only else 2) - unit_y * (top + bottom)
    if not (0 < width <= 0xFFFF and 0 < height <= 0xFFFF):
        raise FormatError(f"a picture of {width} x {height}")
    aspect, reorder = (1, 1), None
    try:
        if bits.flag():
            aspect, reorder = _vui(bits)
    except FormatError:
        # The picture is known without it, and some cameras end the VUI early.
        aspect, reorder = (1, 1), None
    return SequenceParameters(
        number, profile, compatibility, level, chroma, luma_depth, chroma_depth, width, height, aspect, reorder
    )


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _vui(bits: Bits) -> tuple[tuple[int, int], int | None]:
    """Sample aspect ratio and max_num_reorder_frames of E.1.1."""
    aspect = (1, 1)
    if bits.flag():
        idc = bits.u(8)
        if idc == _EXTENDED_SAR:
            aspect = (bits.u(16), bits.u(16))
        elif idc < len(_ASPECT):
            aspect = _ASPECT[idc]
    if bits.flag():  # overscan
        bits.skip(1)
    if bits.flag():  # video signal type
        bits.skip(4)
        if bits.flag():
            bits.skip(24)
    if bits.flag():  # chroma location
        bits.ue()
        bits.ue()
    if bits.flag():  # timing
        bits.skip(65)
    hrd = False
    for _ in range(2):  # NAL and VCL
        if bits.flag():
            _skip_hrd(bits)
            hrd = True
    if hrd:
        bits.skip(1)
    bits.skip(1)  # pic_struct_present_flag
    if not bits.flag():
        return (aspect if all(aspect) else (1, 1)), None
    bits.skip(1)
    for _ in range(4):
        bits.ue()
    return (aspect if all(aspect) else (1, 1)), bits.ue()


def _skip_hrd(bits: Bits) -> None:
    count = bits.ue() + 1
    if count > 32:
        raise FormatError(f"cpb_cnt_minus1 of {count - 1}, more than 31")
    bits.skip(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.skip(1)
    bits.skip(20)


def _pps_id(nal: bytes) -> int:
    bits = Bits(without_emulation(nal[1:12]), "picture parameter set")
    number, sequence = bits.ue(), bits.ue()
    if number > 255 or sequence > 31:
        raise FormatError(f"pic_parameter_set_id of {number} for seq_parameter_set_id {sequence}")
    return number


@dataclass(frozen=True, slots=True)
class H264Configuration:
    """Parameter sets, each tuple by rising id. `picture` is that of the first sequence parameter set."""

    encoding: ClassVar[str] = "H264"
    track_type: ClassVar[TrackType] = TrackType.VIDEO

    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    picture: SequenceParameters = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.sps) <= MAXIMUM_SPS or not 1 <= len(self.pps) <= MAXIMUM_PPS:
            raise FormatError(f"{len(self.sps)} sequence and {len(self.pps)} picture parameter sets do not fit avcC")
        for nal in self.sps + self.pps:
            if not 1 < len(nal) <= 0xFFFF:
                raise FormatError(f"a parameter set of {len(nal)} bytes does not fit avcC")
        object.__setattr__(self, "picture", parse_sps(self.sps[0]))

    @property
    def clock_rate(self) -> int:
        return 90_000

    @property
    def width(self) -> int:
        return self.picture.width

    @property
    def height(self) -> int:
        return self.picture.height

    def rtpmap(self) -> str:
        return "H264/90000"

    def fmtp(self) -> str:
        sets = ",".join(base64.b64encode(nal).decode() for nal in self.sps + self.pps)
        profile = self.sps[0][1:4].hex().upper()
        return f"packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}"

    def in_band(self) -> bytes:
        return b"".join(struct.pack(">I", len(nal)) + nal for nal in self.sps + self.pps)

    def sample_entry(self) -> bytes:
        p = self.picture
        avcc = bytearray((1, p.profile, p.compatibility, p.level, 0xFF, 0xE0 | len(self.sps)))
        for nal in self.sps:
            avcc += struct.pack(">H", len(nal)) + nal
        avcc.append(len(self.pps))
        for nal in self.pps:
            avcc += struct.pack(">H", len(nal)) + nal
        if p.profile in _HIGH_IN_AVCC:
            avcc += bytes((0xFC | p.chroma_format, 0xF8 | p.bit_depth_luma - 8, 0xF8 | p.bit_depth_chroma - 8, 0))
        pasp = box(b"pasp", struct.pack(">II", *p.aspect)) if p.aspect != (1, 1) else b""
        return visual_sample_entry(SAMPLE_ENTRY, p.width, p.height, box(b"avcC", avcc), pasp)

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> H264Configuration:
        """Inverse of `sample_entry`; reads `avc1` as well. Raises FormatError."""
        avcc = parse_sample_entry(entry, visual=True).boxes.get(b"avcC")
        if avcc is None:
            raise FormatError("a sample entry of H.264 without avcC")
        if len(avcc) < 6 or avcc[0] != 1:
            raise FormatError("an avcC of an unknown version")
        if avcc[4] & 3 != 3:
            raise FormatError(f"avcC announces lengths of {(avcc[4] & 3) + 1} bytes instead of 4")
        sps, at = _counted(avcc, 6, avcc[5] & 0x1F)
        if at >= len(avcc):
            raise FormatError("an avcC cut short")
        pps, _ = _counted(avcc, at + 1, avcc[at])
        return cls(sps, pps)


def _counted(data: bytes, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    found = []
    for _ in range(count):
        size = int.from_bytes(data[at : at + 2], "big")
        at += 2 + size
        if at > len(data):
            raise FormatError("an avcC cut short")
        found.append(data[at - size : at])
    return tuple(found), at


class H264Depacketizer(NalDepacketizer):
    """Single NAL unit packets, STAP-A and FU-A; STAP-B and FU-B of cameras that use them in decode order.

    MTAPs need the order of decoding restored, which only packetization-mode 2 has: bad payloads here.
    """

    _idr: bool
    _intra: bool
    _recovery: int
    """Bits of what the unit in hand says: 1 SPS, 2 PPS, 4 recovery point."""

    __slots__ = ("_idr", "_intra", "_recovery")

    HEADER = 1
    ROLES = tuple(_ROLES.get(kind, OTHER if 0 < kind < STAP_A else -1) for kind in range(32))

    def __init__(self, parameters: Mapping[str, str | None] | None = None) -> None:
        parameters = parameters or {}
        if (parameters.get("packetization-mode") or "0").strip() not in ("0", "1"):
            raise UnsupportedCodec(f"H264 with packetization-mode {parameters['packetization-mode']} (interleaved)")
        super().__init__()
        self._from_description(parameters, ("sprop-parameter-sets",))

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        # Nearly every packet of a camera is the middle of an FU-A: neither S nor E, the type of the fragment in hand.
        # Measured (benchmarks/depacketize.py, 14 payloads of 1400 bytes a picture, two busy EPYC cores): 0.9 us a
        # payload, everything included, of which copying and joining by themselves are 0.45; without the branch 1.2.
        if (
            not marker
            and rtp_time == self._time
            and end - start > 2
            and buffer[start + 1] == self._fragment_type
            and buffer[start] & 31 == FU_A
            and self._size < MAXIMUM_UNIT
        ):
            self._parts.append(bytes(buffer[start + 2 : end]))
            self._size += end - start - 2
            return ()
        return super().push(buffer, start, end, rtp_time, marker)

    def _reset(self) -> None:
        super()._reset()
        self._idr = False
        self._recovery = 0
        self._intra = True

    def _type(self, first: int) -> int:
        return first & 31

    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        if end - start < 2:
            raise FormatError(f"a payload of {end - start} bytes")
        kind = buffer[start] & 31
        if kind in (FU_A, FU_B):
            flags = buffer[start + 1]
            nal = flags & 31
            at = start + (2 if kind == FU_A else 4)
            if at >= end:
                raise FormatError("a fragment without data")
            if flags & 0xC0 == 0xC0:
                raise FormatError("a fragment that is both the start and the end of its NAL unit")
            if flags & 0x80:
                indicator = buffer[start] & 0xE0
                middle = bytes((indicator | FU_A, nal))
                self._fragment_starts(nal, bytes((indicator | nal,)), middle, buffer, at, end)
            else:
                self._fragment_goes_on(nal, buffer, at, end, bool(flags & 0x40))
            return
        if self._fragment >= 0:
            raise FormatError("a fragmented NAL unit without its end")
        if kind == STAP_A:
            self._aggregate(buffer, start + 1, end)
        elif kind == STAP_B:
            self._aggregate(buffer, start + 3, end)
        else:
            self._nal(buffer, start, end)

    def _slice(self, kind: int, buffer: memoryview, start: int, end: int) -> None:
        if kind == SLICE_IDR:
            self._idr = True
        elif self._recovery and self._intra:
            bits = Bits(bytes(buffer[start : min(end, start + 8)]), "slice header")
            bits.ue()  # first_mb_in_slice
            self._intra = bits.ue() in _INTRA_SLICES

    def _prefix(self, kind: int, nal: bytes) -> None:
        if kind == SEI and has_recovery_point(nal):
            self._recovery |= 4

    def _whole(self, kind: int, nal: bytes) -> None:
        super()._whole(kind, nal)
        if kind in (SPS, PPS):
            self._recovery |= 1 if kind == SPS else 2

    def _random_access(self) -> bool:
        return self._idr or (self._intra and (self._recovery & 4 > 0 or self._recovery == 3))

    def _set_id(self, kind: int, nal: bytes) -> int:
        return parse_sps(nal).id if kind == SPS else _pps_id(nal)

    def _build(self) -> H264Configuration | None:
        sps, pps = self._set_of(SPS, MAXIMUM_SPS), self._set_of(PPS, MAXIMUM_PPS)
        return H264Configuration(sps, pps) if sps and pps else None


def has_recovery_point(nal: bytes) -> bool:
    """Whether a SEI NAL unit says that decoding can begin at this very picture (D.1.8: recovery_frame_cnt 0)."""
    data = without_emulation(nal)
    at, end = 1, len(data)
    while at + 2 < end:
        kind = size = 0
        while at < end and data[at] == 0xFF:
            kind, at = kind + 255, at + 1
        if at >= end:
            return False
        kind, at = kind + data[at], at + 1
        while at < end and data[at] == 0xFF:
            size, at = size + 255, at + 1
        if at >= end:
            return False
        size, at = size + data[at], at + 1
        if kind == _RECOVERY_POINT:
            return at < end and data[at] & 0x80 != 0  # ue(v) of 0
        at += size
    return False


class H264Packetizer(NalPacketizer):
    """Single NAL unit packets and FU-A (packetization-mode 1)."""

    HEADER = 1

    def _prefixes(self, data: memoryview, at: int) -> tuple[bytes, bytes, bytes]:
        header = data[at]
        kind = header & 31
        if not 0 < kind < STAP_A:
            raise FormatError(f"a NAL unit of type {kind} cannot be sent")
        indicator = header & 0xE0 | FU_A
        return bytes((indicator, 0x80 | kind)), bytes((indicator, kind)), bytes((indicator, 0x40 | kind))
