"""G.711 (RFC 3551 4.5.14): PCMU and PCMA, sample entries `ulaw` and `alaw` of QuickTime, which FFmpeg reads in MP4 too.

Units and packets are those of pcm.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nvr.media.codecs.sample_entry import audio_sample_entry, parse_sample_entry
from nvr.model.errors import UnsupportedCodec
from nvr.model.recording import TrackType


@dataclass(frozen=True, slots=True)
class G711Configuration:
    """Rate in Hz (8000 but for odd cameras) and channels, interleaved octet by octet."""

    encoding: ClassVar[str]
    SAMPLE_ENTRY: ClassVar[bytes]
    track_type: ClassVar[TrackType] = TrackType.AUDIO

    clock_rate: int = 8000
    channels: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.clock_rate <= 0xFFFF:
            raise UnsupportedCodec(f"{self.encoding} with a clock rate of {self.clock_rate} Hz")
        if not 1 <= self.channels <= 8:
            raise UnsupportedCodec(f"{self.encoding} with {self.channels} channels")

    @property
    def group_bytes(self) -> int:
        return self.channels

    @property
    def group_ticks(self) -> int:
        return 1

    def rtpmap(self) -> str:
        return f"{self.encoding}/{self.clock_rate}" + (f"/{self.channels}" if self.channels > 1 else "")

    def fmtp(self) -> str | None:
        return None

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        return audio_sample_entry(self.SAMPLE_ENTRY, self.channels, self.clock_rate)


@dataclass(frozen=True, slots=True)
class PcmuConfiguration(G711Configuration):
    encoding: ClassVar[str] = "PCMU"
    SAMPLE_ENTRY: ClassVar[bytes] = b"ulaw"


@dataclass(frozen=True, slots=True)
class PcmaConfiguration(G711Configuration):
    encoding: ClassVar[str] = "PCMA"
    SAMPLE_ENTRY: ClassVar[bytes] = b"alaw"


def from_sample_entry(entry: bytes) -> G711Configuration:
    """Inverse of `sample_entry`. Raises FormatError."""
    found = parse_sample_entry(entry, visual=False)
    law = PcmuConfiguration if found.kind == PcmuConfiguration.SAMPLE_ENTRY else PcmaConfiguration
    return law(found.sample_rate, found.channels)
