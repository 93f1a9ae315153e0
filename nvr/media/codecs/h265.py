"""H.265 (ITU-T H.265, RFC 7798; in files ISO/IEC 14496-15, sample entry `hev1`).

Clean points are the intra random access pictures: IDR, BLA, CRA. Where decoding starts at a CRA or a BLA, the RASL
pictures that follow it in decode order cannot be decoded, for they lean on what came before it (8.1.3). They are kept,
and `damaged`: behind a BLA always, behind a CRA when something was lost before it, or when the stream was joined there.
A replay that starts at a CRA sends them too; decoders know by their type that they are to be passed over.

Access units are kept as received: delimiters, SEI and parameter sets stay in band, hence `hev1`; the parameter sets
stand in hvcC as well, for players that look only there.
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
    VIDEO_SET,
    NalDepacketizer,
    NalPacketizer,
)
from nvr.media.codecs.sample_entry import parse_sample_entry, visual_sample_entry
from nvr.media.unit import AccessUnit
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"hev1"
SAMPLE_ENTRIES = (b"hev1", b"hvc1")

RASL_N, RASL_R, BLA_FIRST, BLA_LAST, CRA = 8, 9, 16, 18, 21
VPS, SPS, PPS, AUD, SEI = 32, 33, 34, 35, 39
AP, FU, PACI = 48, 49, 50

_ROLES = {
    **dict.fromkeys(range(10), SLICE),
    **dict.fromkeys(range(BLA_FIRST, CRA + 1), SLICE),
    VPS: VIDEO_SET,
    SPS: SEQUENCE_SET,
    PPS: PICTURE_SET,
    AUD: DELIMITER,
    SEI: PREFIX,
}


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """What the recorder needs of a sequence parameter set (7.3.2.2)."""

    id: int
    sub_layers: int
    temporal_id_nesting: bool
    profile: bytes
    """The 12 bytes of general profile, compatibility, constraints and level (7.3.3), as hvcC holds them."""
    chroma_format: int
    bit_depth_luma: int
    bit_depth_chroma: int
    width: int
    """Pixels, cropped to the conformance window."""
    height: int
    num_reorder: int
    """sps_max_num_reorder_pics of the highest sub-layer."""


def parse_sps(nal: bytes) -> SequenceParameters:
    """A sequence parameter set NAL unit (7.3.2.2.1). Raises FormatError."""
    rbsp = without_emulation(nal[2:LONGEST_SET])
    bits = Bits(rbsp, "sequence parameter set")
    bits.skip(4)  # sps_video_parameter_set_id
    sub_layers, nesting = bits.u(3) + 1, bits.flag()
    if sub_layers > 7:
        raise FormatError("sps_max_sub_layers_minus1 of 7")
    profile = bits.u(96).to_bytes(12, "big")
    _skip_sub_layer_profiles(bits, sub_layers - 1)
    number = bits.ue()
    if number > 15:
        raise FormatError(f"sps_seq_parameter_set_id of {number}, more than 15")
    chroma = bits.ue()
    if chroma > 3:
        raise FormatError(f"chroma_format_idc of {chroma}, more than 3")
    separate = chroma == 3 and bits.flag()
    width, height = bits.ue(), bits.ue()
    if bits.flag():
        left, right, top, bottom = (bits.ue() for _ in range(4))
        array = 0 if separate else chroma
        width -= (2 if array in (1, 2) else 1) * (left + right)
        height -= (2 if array == 1 else 1) * (top + bottom)
    if not (0 < width <= 0xFFFF and 0 < height <= 0xFFFF):
        raise FormatError(f"a picture of {width} x {height}")
    luma_depth, chroma_depth = 8 + bits.ue(), 8 + bits.ue()
    if max(luma_depth, chroma_depth) > 15:
        raise FormatError(f"bit depths of {luma_depth} and {chroma_depth}")
    bits.ue()  # log2_max_pic_order_cnt_lsb_minus4
    reorder = 0
    for _ in range(sub_layers if bits.flag() else 1):
        bits.ue()
        reorder = bits.ue()
        bits.ue()
    return SequenceParameters(
        number, sub_layers, nesting, profile, chroma, luma_depth, chroma_depth, width, height, reorder
    )


def _skip_sub_layer_profiles(bits: Bits, count: int) -> None:
    """Sub-layer part of profile_tier_level (7.3.3)."""
    present = [(bits.flag(), bits.flag()) for _ in range(count)]
    if count:
        bits.skip(2 * (8 - count))
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)


@dataclass(frozen=True, slots=True)
class H265Configuration:
    """Parameter sets, each tuple by rising id. `picture` is that of the first sequence parameter set."""

    encoding: ClassVar[str] = "H265"
    track_type: ClassVar[TrackType] = TrackType.VIDEO

    vps: tuple[bytes, ...]
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    picture: SequenceParameters = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.vps and self.sps and self.pps):
            raise FormatError("H265 without one of the video, sequence and picture parameter sets")
        for nal in self.vps + self.sps + self.pps:
            if not 2 < len(nal) <= 0xFFFF:
                raise FormatError(f"a parameter set of {len(nal)} bytes does not fit hvcC")
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
        return "H265/90000"

    def fmtp(self) -> str:
        return ";".join(
            f"sprop-{name}={','.join(base64.b64encode(nal).decode() for nal in sets)}"
            for name, sets in (("vps", self.vps), ("sps", self.sps), ("pps", self.pps))
        )

    def in_band(self) -> bytes:
        return b"".join(struct.pack(">I", len(nal)) + nal for nal in self.vps + self.sps + self.pps)

    def sample_entry(self) -> bytes:
        p = self.picture
        # ISO/IEC 14496-15 8.3.3.1.2: reserved bits are ones; no segmentation, parallelism or frame rate is claimed.
        hvcc = bytearray(b"\1" + p.profile)
        hvcc += struct.pack(
            ">HBBBBHB",
            0xF000,
            0xFC,
            0xFC | p.chroma_format,
            0xF8 | p.bit_depth_luma - 8,
            0xF8 | p.bit_depth_chroma - 8,
            0,
            p.sub_layers << 3 | p.temporal_id_nesting << 2 | 3,
        )
        hvcc.append(3)
        for kind, sets in ((VPS, self.vps), (SPS, self.sps), (PPS, self.pps)):
            hvcc += struct.pack(">BH", kind, len(sets))  # array_completeness 0: sets also stand in band
            for nal in sets:
                hvcc += struct.pack(">H", len(nal)) + nal
        return visual_sample_entry(SAMPLE_ENTRY, p.width, p.height, box(b"hvcC", hvcc))

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> H265Configuration:
        """Inverse of `sample_entry`; reads `hvc1` as well. Raises FormatError."""
        hvcc = parse_sample_entry(entry, visual=True).boxes.get(b"hvcC")
        if hvcc is None:
            raise FormatError("a sample entry of H.265 without hvcC")
        if len(hvcc) < 23 or hvcc[0] != 1:
            raise FormatError("an hvcC of an unknown version")
        if hvcc[21] & 3 != 3:
            raise FormatError(f"hvcC announces lengths of {(hvcc[21] & 3) + 1} bytes instead of 4")
        sets: dict[int, list[bytes]] = {VPS: [], SPS: [], PPS: []}
        at = 23
        try:
            for _ in range(hvcc[22]):
                kind, count = struct.unpack_from(">BH", hvcc, at)
                at += 3
                for _ in range(count):
                    (size,) = struct.unpack_from(">H", hvcc, at)
                    at += 2 + size
                    if at > len(hvcc):
                        raise FormatError("an hvcC cut short")
                    sets.setdefault(kind & 0x3F, []).append(hvcc[at - size : at])
        except struct.error as e:
            raise FormatError("an hvcC cut short") from e
        return cls(tuple(sets[VPS]), tuple(sets[SPS]), tuple(sets[PPS]))


class H265Depacketizer(NalDepacketizer):
    """Single NAL unit packets, aggregation packets and fragments, also with decoding order numbers.

    NAL units out of decode order, and PACI packets, which no camera sends, are bad payloads.
    """

    __slots__ = ("_bla", "_don", "_donl", "_irap", "_rasl", "_rasl_lost")

    HEADER = 2
    ROLES = tuple(_ROLES.get(kind, OTHER if kind < AP else -1) for kind in range(64))

    _bla: bool
    _irap: bool
    _rasl: bool

    def __init__(self, parameters: Mapping[str, str | None] | None = None) -> None:
        parameters = parameters or {}
        if (parameters.get("tx-mode") or "SRST").strip().upper() != "SRST":
            raise UnsupportedCodec(f"H265 with tx-mode {parameters['tx-mode']}; SRST is taken")
        self._donl = 2 if _number(parameters, "sprop-max-don-diff") else 0
        self._don = -1
        self._rasl_lost = True
        super().__init__()
        self._from_description(parameters, ("sprop-vps", "sprop-sps", "sprop-pps"))

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        # Nearly every packet of a camera is the middle of a fragmented NAL unit: neither S nor E, the type in hand.
        if (
            not marker
            and rtp_time == self._time
            and end - start > 3
            and buffer[start + 2] == self._fragment_type
            and buffer[start] >> 1 & 63 == FU
            and self._size < MAXIMUM_UNIT
        ):
            self._parts.append(bytes(buffer[start + 3 : end]))
            self._size += end - start - 3
            return ()
        return super().push(buffer, start, end, rtp_time, marker)

    def _reset(self) -> None:
        super()._reset()
        self._irap = self._bla = self._rasl = False

    def _type(self, first: int) -> int:
        return first >> 1 & 63

    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        if end - start < 3:
            raise FormatError(f"a payload of {end - start} bytes")
        kind = buffer[start] >> 1 & 63
        if kind == FU:
            flags = buffer[start + 2]
            nal = flags & 63
            first = bool(flags & 0x80)
            at = start + 3 + (self._donl if first else 0)
            if at >= end:
                raise FormatError("a fragment without data")
            if flags & 0xC0 == 0xC0:
                raise FormatError("a fragment that is both the start and the end of its NAL unit")
            if first:
                self._check_order(buffer, start + 3, end)
                header = bytes((buffer[start] & 0x81 | nal << 1, buffer[start + 1]))
                middle = bytes((buffer[start], buffer[start + 1], nal))
                self._fragment_starts(nal, header, middle, buffer, at, end)
            else:
                self._fragment_goes_on(nal, buffer, at, end, bool(flags & 0x40))
            return
        if self._fragment >= 0:
            raise FormatError("a fragmented NAL unit without its end")
        if kind == AP:
            self._check_order(buffer, start + 2, end)
            # 4.4.2: DONL before the first NAL unit, an 8-bit DOND before each other.
            self._aggregate(buffer, start + 2 + self._donl, end, self._donl // 2)
        elif self._donl:
            self._nal_with_order(buffer, start, end)
        else:
            self._nal(buffer, start, end)

    def _check_order(self, buffer: memoryview, at: int, end: int) -> None:
        """The decoding order number at `at`, where the stream has them, is not before the one before it."""
        if not self._donl:
            return
        if at + 2 >= end:
            raise FormatError("a payload that ends with its decoding order number")
        number = buffer[at] << 8 | buffer[at + 1]
        if self._don >= 0 and (number - self._don) & 0xFFFF >= 0x8000:
            raise FormatError(f"a NAL unit with decoding order number {number} behind {self._don} (interleaving)")
        self._don = number

    def _nal_with_order(self, buffer: memoryview, start: int, end: int) -> None:
        """A single NAL unit packet whose DONL stands between header and payload (4.4.1)."""
        self._check_order(buffer, start + 2, end)
        nal = bytes(buffer[start : start + 2]) + bytes(buffer[start + 4 : end])
        self._nal(memoryview(nal), 0, len(nal))

    def _slice(self, kind: int, buffer: memoryview, start: int, end: int) -> None:
        if BLA_FIRST <= kind <= CRA:
            self._irap = True
            self._bla = kind <= BLA_LAST
        elif kind in (RASL_N, RASL_R):
            self._rasl = True

    def _prefix(self, kind: int, nal: bytes) -> None:
        """SEI says nothing that the recorder needs."""

    def _random_access(self) -> bool:
        return self._irap

    def _judge(self, clean: bool) -> bool:
        if clean:
            self._rasl_lost = self._damaged or self._bla
        return super()._judge(clean) or (self._rasl and self._rasl_lost)

    def _set_id(self, kind: int, nal: bytes) -> int:
        if nal[0] & 1 or nal[1] >> 3:
            raise FormatError("a parameter set of another layer than the base layer")
        if kind == SPS:
            return parse_sps(nal).id
        if kind == VPS:
            return nal[2] >> 4
        number = Bits(without_emulation(nal[2:12]), "picture parameter set").ue()
        if number > 63:
            raise FormatError(f"pps_pic_parameter_set_id of {number}, more than 63")
        return number

    def _build(self) -> H265Configuration | None:
        vps, sps, pps = self._set_of(VPS), self._set_of(SPS), self._set_of(PPS)
        return H265Configuration(vps, sps, pps) if vps and sps and pps else None


def _number(parameters: Mapping[str, str | None], name: str) -> int:
    text = parameters.get(name) or "0"
    try:
        return int(text)
    except ValueError as e:
        raise FormatError(f"H265 with {name}={text!r}, which is no number") from e


class H265Packetizer(NalPacketizer):
    """Single NAL unit packets and fragments, without decoding order numbers."""

    HEADER = 2

    def _prefixes(self, data: memoryview, at: int) -> tuple[bytes, bytes, bytes]:
        kind = data[at] >> 1 & 63
        if kind >= AP:
            raise FormatError(f"a NAL unit of type {kind} cannot be sent")
        header = bytes((data[at] & 0x81 | FU << 1, data[at + 1]))
        return header + bytes((0x80 | kind,)), header + bytes((kind,)), header + bytes((0x40 | kind,))
