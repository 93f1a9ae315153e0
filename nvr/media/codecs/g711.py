"""G.711 (RFC 3551 4.5.14): PCMU and PCMA, sample entries `ulaw` and `alaw` of QuickTime, which FFmpeg reads in MP4 too.

Every unit is a clean point. The marker bit only tells the start of a talkspurt and is of no meaning here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nvr.media.codecs.sample_entry import audio_sample_entry, parse_sample_entry
from nvr.media.unit import AccessUnit, CodecConfiguration
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

MAXIMUM_UNIT = 1024
"""Octets of one unit. A longer payload becomes several units, so that replay never has to send one unit in two packets,
which would need two RTP times."""


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

    def rtpmap(self) -> str:
        return f"{self.encoding}/{self.clock_rate}" + (f"/{self.channels}" if self.channels > 1 else "")

    def fmtp(self) -> str | None:
        return None

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


class G711Depacketizer:
    """One unit a packet, as received."""

    __slots__ = ("_configuration", "configuration", "dropped", "last_error")

    def __init__(self, configuration: G711Configuration) -> None:
        self.configuration: CodecConfiguration | None = configuration
        self._configuration = configuration
        self.dropped = 0
        self.last_error: str | None = None

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        configuration = self._configuration
        channels = configuration.channels
        size = end - start
        if size <= 0:
            return ()  # nothing but padding
        if size % channels:
            self.dropped += 1
            self.last_error = f"a payload of {size} bytes for {channels} channels of {configuration.encoding}"
            return ()
        if size <= MAXIMUM_UNIT:
            return [AccessUnit(rtp_time, bytes(buffer[start:end]), True, False, configuration)]
        step = MAXIMUM_UNIT // channels * channels
        return [
            AccessUnit(
                (rtp_time + (at - start) // channels) & 0xFFFF_FFFF,
                bytes(buffer[at : min(at + step, end)]),
                True,
                False,
                configuration,
            )
            for at in range(start, end, step)
        ]

    def lost(self, packets: int) -> None:
        """Nothing leans on what was lost."""

    def flush(self) -> tuple[()]:
        return ()


class G711Packetizer:
    """One packet a unit."""

    marker_on_last = False

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for a unit that one packet cannot hold: a second needs a later time."""
        if not 0 < len(data) <= self._maximum:
            raise FormatError(f"a unit of {len(data)} octets for packets of at most {self._maximum}")
        return [(b"", data)]
