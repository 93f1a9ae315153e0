"""L16 (RFC 3551 4.5.11): 16-bit samples with the high octet first, interleaved. Units and packets are those of pcm.py.

The sample entry is `twos` of QuickTime: ISO's own entry for raw sound (`ipcm`, ISO/IEC 23003-5) is unknown to most
players. A rate above 65535 Hz does not fit the entry and stands in a `srat` box (ISO/IEC 14496-12 12.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nvr.media.bmff.boxes import full_box
from nvr.media.codecs.sample_entry import audio_sample_entry, parse_sample_entry
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"twos"
MAXIMUM_RATE = 192_000


@dataclass(frozen=True, slots=True)
class L16Configuration:
    """Rate in Hz and channels, in the order of RFC 3551 4.1."""

    encoding: ClassVar[str] = "L16"
    track_type: ClassVar[TrackType] = TrackType.AUDIO

    clock_rate: int
    channels: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.clock_rate <= MAXIMUM_RATE:
            raise UnsupportedCodec(f"L16 with a clock rate of {self.clock_rate} Hz")
        if not 1 <= self.channels <= 8:
            raise UnsupportedCodec(f"L16 with {self.channels} channels")

    @property
    def group_bytes(self) -> int:
        return 2 * self.channels

    @property
    def group_ticks(self) -> int:
        return 1

    def rtpmap(self) -> str:
        return f"L16/{self.clock_rate}" + (f"/{self.channels}" if self.channels > 1 else "")

    def fmtp(self) -> str | None:
        return None

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        rate = self.clock_rate
        srat = full_box(b"srat", 0, 0, rate.to_bytes(4, "big")) if rate > 0xFFFF else b""
        return audio_sample_entry(SAMPLE_ENTRY, self.channels, rate, srat)

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> L16Configuration:
        """Inverse of `sample_entry`. Raises FormatError."""
        found = parse_sample_entry(entry, visual=False)
        srat = found.boxes.get(b"srat")
        if srat is not None and len(srat) < 8:
            raise FormatError("a srat box cut short")
        return cls(found.sample_rate if srat is None else int.from_bytes(srat[4:8], "big"), found.channels)
