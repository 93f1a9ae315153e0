"""G.726 at 16, 24, 32 and 40 kbit/s (RFC 3551 4.5.4): code words of 2 to 5 bits. Units and packets are those of pcm.py.

Two packings are in use. `G726-32` and its like put the first code word into the least significant bits of an octet;
`AAL2-G726-32` and its like (ITU-T I.366.2 annex E) put it into the most significant ones. A file holds the second, for
that is what players read: the sample entry is that of a WAVE format in QuickTime, `ms` and the format's number, 0x45
(ITU G.726 ADPCM). A box in the entry tells how the camera packed them, so that replay sends what came. Only whole
groups of code words that end with an octet are taken, as RFC 3551 demands of senders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nvr.media.bmff.boxes import box
from nvr.media.codecs.pcm import SampleDepacketizer, SamplePacketizer
from nvr.media.codecs.sample_entry import audio_sample_entry, parse_sample_entry
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"ms\0\x45"
_PACKING = b"g26p"
"""Our box in the sample entry: one octet, 1 where the camera sent the first code word in the low bits."""
_RATE = 8000
_GROUPS = {2: (1, 4), 3: (3, 8), 4: (1, 2), 5: (5, 8)}
"""By bits of a code word: octets of the smallest whole group, and its code words."""


@dataclass(frozen=True, slots=True)
class G726Configuration:
    """One of the eight encodings; subclasses differ in nothing but their name and what follows from it."""

    encoding: ClassVar[str]
    BITS: ClassVar[int]
    LOW_FIRST: ClassVar[bool]
    track_type: ClassVar[TrackType] = TrackType.AUDIO

    clock_rate: int = _RATE

    def __post_init__(self) -> None:
        if self.clock_rate != _RATE:
            raise UnsupportedCodec(f"{self.encoding} with a clock rate of {self.clock_rate} Hz instead of {_RATE}")

    @property
    def group_bytes(self) -> int:
        return _GROUPS[self.BITS][0]

    @property
    def group_ticks(self) -> int:
        return _GROUPS[self.BITS][1]

    def rtpmap(self) -> str:
        return f"{self.encoding}/{self.clock_rate}"

    def fmtp(self) -> str | None:
        return None

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        packing = box(_PACKING, bytes((self.LOW_FIRST,)))
        return audio_sample_entry(SAMPLE_ENTRY, 1, self.clock_rate, packing, sample_size=self.BITS)


def _configurations() -> dict[str, type[G726Configuration]]:
    found = {}
    for bits in _GROUPS:
        for prefix, low_first in (("G726", True), ("AAL2-G726", False)):
            name = f"{prefix}-{8 * bits}"
            fields = {"encoding": name, "BITS": bits, "LOW_FIRST": low_first, "__slots__": (), "__module__": __name__}
            found[name] = type(name.replace("-", "_"), (G726Configuration,), fields)
    return found


CONFIGURATIONS = _configurations()
"""By encoding name."""


def configuration(encoding: str, clock_rate: int, channels: int) -> G726Configuration:
    """Raises UnsupportedCodec for other rates than 8000 Hz and for more than one channel, which no decoder takes."""
    if channels != 1:
        raise UnsupportedCodec(f"{encoding} with {channels} channels")
    return CONFIGURATIONS[encoding](clock_rate)


def from_sample_entry(entry: bytes) -> G726Configuration:
    """Inverse of `sample_entry`. Raises FormatError."""
    found = parse_sample_entry(entry, visual=False)
    packing = found.boxes.get(_PACKING, b"")
    if found.sample_size not in _GROUPS or found.channels != 1 or not packing:
        raise FormatError(
            f"a sample entry of G.726 with {found.channels} channels and code words of {found.sample_size} bits"
        )
    return CONFIGURATIONS[f"{'G726' if packing[0] else 'AAL2-G726'}-{8 * found.sample_size}"](found.sample_rate)


_MIRROR = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
_PAIRS = bytes((i & 3) << 6 | (i & 12) << 2 | (i & 48) >> 2 | i >> 6 for i in range(256))
_NIBBLES = bytes((i & 15) << 4 | i >> 4 for i in range(256))
_MIRROR_CODE = {bits: [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)] for bits in (3, 5)}


def high_first(data: bytes, bits: int) -> bytes:
    """Whole groups of code words from the packing that begins with the low bits to the one of the file."""
    if bits == 2:
        return data.translate(_PAIRS)
    if bits == 4:
        return data.translate(_NIBBLES)
    # Mirrored octet by octet, the code words stand in the order of the other packing, each mirrored in itself.
    return _mirror_codes(data.translate(_MIRROR), bits)


def low_first(data: bytes, bits: int) -> bytes:
    """Inverse of `high_first`."""
    if bits in (2, 4):
        return high_first(data, bits)
    return _mirror_codes(data, bits).translate(_MIRROR)


def _mirror_codes(data: bytes, bits: int) -> bytes:
    size, codes = _GROUPS[bits]
    mirror, mask, shifts = _MIRROR_CODE[bits], (1 << bits) - 1, range(bits * (codes - 1), -1, -bits)
    out = bytearray()
    for at in range(0, len(data), size):
        group, value = int.from_bytes(data[at : at + size], "big"), 0
        for shift in shifts:
            value = value << bits | mirror[group >> shift & mask]
        out += value.to_bytes(size, "big")
    return bytes(out)


class G726Depacketizer(SampleDepacketizer):
    """Units in the packing of the file."""

    __slots__ = ("_exchanged",)

    def __init__(self, configuration: G726Configuration) -> None:
        super().__init__(configuration)
        self._exchanged = configuration.BITS if configuration.LOW_FIRST else 0

    def _stored(self, data: bytes) -> bytes:
        return high_first(data, self._exchanged) if self._exchanged else data


class G726Packetizer(SamplePacketizer):
    """Units in the packing of the camera."""

    def __init__(self, kind: type[G726Configuration], maximum: int) -> None:
        super().__init__(maximum)
        configuration = kind()
        self._exchanged = configuration.BITS if configuration.LOW_FIRST else 0
        self._group = configuration.group_bytes

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for units that are too long or no whole number of groups."""
        if len(data) % self._group:
            raise FormatError(f"a unit of {len(data)} octets for groups of {self._group}")
        if self._exchanged:
            data = memoryview(low_first(bytes(data), self._exchanged))
        return super().packetize(data)
