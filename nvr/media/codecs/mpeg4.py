"""MPEG-4 Visual (ISO/IEC 14496-2, RFC 6416, before it RFC 3016; in files `mp4v` with esds, ISO/IEC 14496-14 5.6).

A unit is one video object plane (VOP) with the headers in front of it, as received. It ends with the packet that has
the marker bit; without markers a new RTP time ends it. A packet may hold several short VOPs (RFC 6416 5.2), of which
only the first has the packet's time: they become units of their own, with times from their own headers. Clean points
are I-VOPs. What a decoder must know first, the
headers from the visual object sequence to the video object layer, comes from `config` of the session description or
from the stream; headers in the stream whose layer differs are another configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from nvr.media.bmff.boxes import box
from nvr.media.codecs.assembly import UnitDepacketizer
from nvr.media.codecs.bits import Bits
from nvr.media.codecs.esds import MPEG4_VISUAL, STREAM_VISUAL, esds_box, parse_esds
from nvr.media.codecs.sample_entry import parse_sample_entry, visual_sample_entry
from nvr.media.unit import AccessUnit
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"mp4v"

MAXIMUM_UNIT = 16 << 20
"""Bytes of one unit; a camera that never ends its units cannot take the memory."""
MAXIMUM_CONFIG = 4096
"""Bytes of headers before the first VOP; encoders write fewer than 100."""

_PREFIX = b"\0\0\1"
_VOP = b"\0\0\1\xb6"
_LAYERS = range(0x20, 0x30)
_SEQUENCE, _USER_DATA, _GROUP, _OBJECT, _PLANE = 0xB0, 0xB2, 0xB3, 0xB5, 0xB6
_RECTANGULAR = 0
_EXTENDED_PAR = 15
# Pixel aspect ratios of table 6-12, by aspect_ratio_info.
_ASPECT = {2: (12, 11), 3: (10, 11), 4: (16, 11), 5: (40, 33)}


class Layer(NamedTuple):
    """What the recorder needs of a video object layer (6.2.3)."""

    width: int
    height: int
    aspect: tuple[int, int]
    """Of a pixel."""
    resolution: int
    """Ticks of a second in the times of VOPs."""


def parse_layer(data: bytes) -> Layer:
    """The header behind a start code 0x00000120 to 0x0000012F (6.2.3). Raises FormatError."""
    bits = Bits(data[:64], "video object layer")
    bits.skip(1 + 8)  # random_accessible_vol, video_object_type_indication
    if bits.flag():  # is_object_layer_identifier
        bits.skip(4 + 3)
    aspect = _ASPECT.get(info := bits.u(4), (1, 1))
    if info == _EXTENDED_PAR:
        aspect = (bits.u(8), bits.u(8))
    if bits.flag():  # vol_control_parameters
        bits.skip(3)
        if bits.flag():  # vbv_parameters
            bits.skip(79)
    shape = bits.u(2)
    if shape != _RECTANGULAR:
        raise UnsupportedCodec(f"MP4V-ES with video objects of shape {shape}; rectangular ones are taken")
    bits.skip(1)
    resolution = bits.u(16)
    if not resolution:
        raise FormatError("a video object layer with vop_time_increment_resolution 0")
    bits.skip(1)
    if bits.flag():  # fixed_vop_rate
        bits.skip(max((resolution - 1).bit_length(), 1))
    bits.skip(1)
    width = bits.u(13)
    bits.skip(1)
    height = bits.u(13)
    if not width or not height:
        raise FormatError(f"a video object layer of {width} x {height}")
    return Layer(width, height, aspect if all(aspect) else (1, 1), resolution)


def _headers(data: bytes | memoryview) -> bytes:
    """What stands before the first group or VOP, at most MAXIMUM_CONFIG bytes of it."""
    head = bytes(data[: MAXIMUM_CONFIG + 4])
    at = head.find(_PREFIX)
    while 0 <= at < len(head) - 3:
        if head[at + 3] in (_GROUP, _PLANE):
            return head[:at]
        at = head.find(_PREFIX, at + 3)
    return head[:MAXIMUM_CONFIG]


def _layer(headers: bytes) -> bytes:
    """The video object layer in headers, without its start code's prefix; empty where there is none."""
    parts = headers.split(_PREFIX)
    return next((p.rstrip(b"\0") for p in parts[1:] if p and p[0] in _LAYERS), b"")


@dataclass(frozen=True, slots=True)
class Mpeg4Configuration:
    """`config`: the headers of sequence, object and layer, as a decoder takes them. Equal layers are equal: user data
    and what stands around the layer change nothing for a decoder."""

    encoding: ClassVar[str] = "MP4V-ES"
    track_type: ClassVar[TrackType] = TrackType.VIDEO

    config: bytes = field(compare=False)
    clock_rate: int = 90_000
    layer: bytes = field(init=False, repr=False)
    picture: Layer = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.clock_rate <= 1_000_000:
            raise UnsupportedCodec(f"MP4V-ES with a clock rate of {self.clock_rate} Hz")
        if len(self.config) > MAXIMUM_CONFIG:
            raise FormatError(f"MP4V-ES with a config of {len(self.config)} bytes")
        layer = _layer(self.config)
        if not layer:
            raise FormatError("MP4V-ES with a config that has no video object layer")
        object.__setattr__(self, "layer", layer)
        object.__setattr__(self, "picture", parse_layer(layer[1:]))

    @property
    def width(self) -> int:
        return self.picture.width

    @property
    def height(self) -> int:
        return self.picture.height

    def rtpmap(self) -> str:
        return f"MP4V-ES/{self.clock_rate}"

    def fmtp(self) -> str:
        at = self.config.find(_PREFIX + bytes((_SEQUENCE,)))
        # RFC 6416 7.1: 1, Simple Profile Level 1, where nothing is told.
        profile = self.config[at + 4] if 0 <= at < len(self.config) - 4 else 1
        return f"profile-level-id={profile};config={self.config.hex().upper()}"

    def in_band(self) -> bytes:
        return self.config

    def sample_entry(self) -> bytes:
        p = self.picture
        esds = esds_box(MPEG4_VISUAL, STREAM_VISUAL, self.config)
        pasp = box(b"pasp", p.aspect[0].to_bytes(4, "big"), p.aspect[1].to_bytes(4, "big"))
        return visual_sample_entry(SAMPLE_ENTRY, p.width, p.height, esds, pasp if p.aspect != (1, 1) else b"")

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> Mpeg4Configuration:
        """Inverse of `sample_entry`, but for the clock rate, which is the file's timescale. Raises FormatError."""
        return cls(parse_esds(parse_sample_entry(entry, visual=True).boxes.get(b"esds", b"")).specific)


def configuration(clock_rate: int, parameters: Mapping[str, str | None]) -> Mpeg4Configuration | None:
    """From rtpmap and fmtp; None without `config`. Raises FormatError for one that cannot be read."""
    text = (parameters.get("config") or "").strip().strip('"')
    if not text:
        return None
    try:
        config = bytes.fromhex(text)
    except ValueError as e:
        raise FormatError(f"MP4V-ES with the config {text[:40]!r}, which is not hexadecimal") from e
    return Mpeg4Configuration(_headers(config), clock_rate)


class Mpeg4Depacketizer(UnitDepacketizer):
    """Packets of a VOP put together."""

    __slots__ = ("_clock_rate", "_headers_seen", "_opening", "_parts", "_size")

    _parts: list[bytes]
    _size: int

    def __init__(self, clock_rate: int, parameters: Mapping[str, str | None]) -> None:
        if not 0 < clock_rate <= 1_000_000:
            raise UnsupportedCodec(f"MP4V-ES with a clock rate of {clock_rate} Hz")
        super().__init__()
        try:
            self.configuration = configuration(clock_rate, parameters)
        except UnsupportedCodec:
            raise
        except FormatError as e:
            self.last_error = f"session description: {e}"  # the headers may still come in the stream
        self._clock_rate = clock_rate
        self._headers_seen = b""
        self._opening = {False: _RANK_PLANE, True: _RANK_PLANE}
        """By kind, clean or not: how early in the order of headers its units begin."""

    def _clear(self) -> None:
        self._parts = []
        self._size = 0

    def _take(self, buffer: memoryview, start: int, end: int) -> None:
        self._parts.append(bytes(buffer[start:end]))
        self._size += end - start
        if self._size > MAXIMUM_UNIT:
            raise FormatError(f"a unit of more than {MAXIMUM_UNIT} bytes")

    def _units(self) -> list[AccessUnit]:
        data, rtp_time, proof = b"".join(self._parts), self._time, self._proof
        units: list[AccessUnit] = []
        before = None
        for part in vops(data):
            try:
                unit = self._unit(part, rtp_time, proof)
                if unit is not None and before is not None:
                    unit.rtp_time = rtp_time = (rtp_time + self._step(before, part)) & 0xFFFF_FFFF
            except FormatError as e:
                if not units:
                    raise
                self.last_error = str(e)
                unit = None
            if unit is None:
                if units:  # the rest of the packet is
                    self.dropped += 1
                    self._damaged = True
                break
            units.append(unit)
            before, proof = part, False
        return units

    def _step(self, before: bytes, part: bytes) -> int:
        """RTP ticks from one VOP of a packet to the next: what the parts of a second in their headers differ by, the
        shorter way round, for which of the two comes first is not told. Raises FormatError."""
        assert isinstance(self.configuration, Mpeg4Configuration)
        resolution = self.configuration.picture.resolution
        step = (_increment(part, resolution) - _increment(before, resolution)) % resolution
        step -= resolution if 2 * step > resolution else 0
        return (step * self._clock_rate * 2 + resolution) // (2 * resolution)

    def _unit(self, data: bytes, rtp_time: int, proof: bool) -> AccessUnit | None:
        """None for the rest of a unit whose beginning was lost. Raises FormatError."""
        if len(data) < 5 or not data.startswith(_PREFIX):
            if proof:
                return None
            raise FormatError(f"a VOP that begins with {data[:8].hex(' ')} instead of a start code")
        kind = coding_type(data)
        if kind is None:
            raise FormatError("a unit without a VOP")
        clean = kind == INTRA
        rank = _rank(data[3])
        if proof and rank > self._opening[clean]:
            return None  # it came without the headers that its kind has had
        if rank < _RANK_PLANE or not proof:
            self._opening[clean] = rank
        if rank < _RANK_GROUP:
            self._learn(_headers(data))
        configuration = self.configuration
        if configuration is None:
            raise FormatError("no video object layer so far")
        if clean:
            self._damaged = False
        return AccessUnit(rtp_time, data, clean, self._damaged, configuration)

    def _learn(self, headers: bytes) -> None:
        """Headers in the stream, seen in front of every I-VOP by most cameras."""
        if headers == self._headers_seen or not _layer(headers):
            return
        found = Mpeg4Configuration(headers.rstrip(b"\0"), self._clock_rate)
        self._headers_seen = headers
        if found != self.configuration:
            self.configuration = found


INTRA, PREDICTED, BIDIRECTIONAL, SPRITE = range(4)
"""vop_coding_type (table 6-20)."""


def coding_type(data: bytes) -> int | None:
    """vop_coding_type of the first VOP of a unit, or None where there is none."""
    at = data.find(_VOP)
    return data[at + 4] >> 6 if 0 <= at < len(data) - 4 else None


def vops(data: bytes) -> list[bytes]:
    """The VOPs of a packet or several, each with the headers in front of it. What stands before the first start code
    stays with the first one."""
    first = data.find(_VOP)
    if first < 0 or data.find(_VOP, first + 4) < 0:
        return [data]
    found, begin, at = [], 0, first
    while at >= 0:
        end = data.find(_PREFIX, at + 4)
        at = data.find(_VOP, end) if end >= 0 else -1
        found.append(data[begin : end if at >= 0 else len(data)])
        begin = end
    return found


def _increment(data: bytes, resolution: int) -> int:
    """vop_time_increment (6.2.5) of the first VOP of a unit. Raises FormatError."""
    at = data.find(_VOP)
    bits = Bits(data[at + 4 : at + 32], "VOP header")
    bits.skip(2)
    while bits.flag():  # modulo_time_base
        pass
    bits.skip(1)
    return bits.u(max((resolution - 1).bit_length(), 1))


_RANK_GROUP, _RANK_PLANE = 3, 4


def _rank(code: int) -> int:
    """Place of a start code in the order in which they may begin a unit."""
    if code == _SEQUENCE:
        return 0
    if code == _OBJECT or code < 0x20:
        return 1
    if code in _LAYERS or code == _USER_DATA:
        return 2
    return _RANK_GROUP if code == _GROUP else _RANK_PLANE


class Mpeg4Packetizer:
    """A unit cut into packets of equal maximum size (RFC 6416 5.2: at any octet)."""

    marker_on_last = True

    def __init__(self, maximum: int) -> None:
        if maximum < 16:
            raise ValueError(f"a maximum payload of {maximum} bytes")
        self._maximum = maximum

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for what does not begin with a start code."""
        if bytes(data[:3]) != _PREFIX:
            raise FormatError("a unit of MPEG-4 Visual without a start code")
        return [(b"", data[at : at + self._maximum]) for at in range(0, len(data), self._maximum)]
