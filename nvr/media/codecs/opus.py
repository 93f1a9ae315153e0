"""Opus (RFC 7587; in files `Opus` with dOps, "Encapsulation of Opus in ISO Base Media File Format").

One packet is one unit; every unit is a clean point. The RTP clock is 48 kHz and the rtpmap says two channels whatever
is sent; how many there are stands in each packet, so that a decoder of two channels takes all of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from nvr.media.bmff.boxes import box
from nvr.media.codecs.sample_entry import audio_sample_entry, parse_sample_entry
from nvr.media.unit import AccessUnit, CodecConfiguration
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"Opus"
RATE = 48_000
MAXIMUM_PACKET = 61_298
"""Octets: 48 frames of 1275 with two octets of length each, and two in front (RFC 6716 3.2.5)."""

_DOPS = struct.Struct(">BBHIhB")  # Version, OutputChannelCount, PreSkip, InputSampleRate, OutputGain, MappingFamily


@dataclass(frozen=True, slots=True)
class OpusConfiguration:
    """`channels`: 1 where the sender says that it is mono (sprop-stereo=0), otherwise 2."""

    encoding: ClassVar[str] = "OPUS"
    track_type: ClassVar[TrackType] = TrackType.AUDIO

    channels: int = 2

    def __post_init__(self) -> None:
        if self.channels not in (1, 2):
            raise UnsupportedCodec(f"OPUS with {self.channels} channels")

    @property
    def clock_rate(self) -> int:
        return RATE

    def rtpmap(self) -> str:
        return "opus/48000/2"

    def fmtp(self) -> str:
        return f"sprop-stereo={self.channels - 1}"

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        # Nothing of a recording is to be skipped: the encoder's lead has been sent long ago.
        dops = box(b"dOps", _DOPS.pack(0, self.channels, 0, RATE, 0, 0))
        return audio_sample_entry(SAMPLE_ENTRY, self.channels, RATE, dops)

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> OpusConfiguration:
        """Inverse of `sample_entry`. Raises FormatError."""
        dops = parse_sample_entry(entry, visual=False).boxes.get(b"dOps", b"")
        if len(dops) < _DOPS.size:
            raise FormatError("a sample entry of Opus without dOps")
        version, channels, _, _, _, family = _DOPS.unpack_from(dops)
        if version or family:
            raise UnsupportedCodec(f"dOps of version {version} with channel mapping family {family}")
        return cls(channels)


def configuration(clock_rate: int, parameters: Mapping[str, str | None]) -> OpusConfiguration:
    """From rtpmap and fmtp. Raises UnsupportedCodec for another clock rate than RFC 7587 4.1 allows."""
    if clock_rate != RATE:
        raise UnsupportedCodec(f"OPUS with a clock rate of {clock_rate} Hz instead of {RATE}")
    return OpusConfiguration(1 if (parameters.get("sprop-stereo") or "").strip() == "0" else 2)


class OpusDepacketizer:
    """One unit a packet, as received."""

    __slots__ = ("_configuration", "configuration", "dropped", "last_error")

    def __init__(self, configuration: OpusConfiguration) -> None:
        self.configuration: CodecConfiguration | None = configuration
        self._configuration = configuration
        self.dropped = 0
        self.last_error: str | None = None

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        size = end - start
        if size <= 0:
            return ()  # nothing but padding
        if size > MAXIMUM_PACKET:
            self.dropped += 1
            self.last_error = f"an Opus packet of {size} bytes"
            return ()
        return [AccessUnit(rtp_time, bytes(buffer[start:end]), True, False, self._configuration)]

    def lost(self, packets: int) -> None:
        """Decoders conceal what was lost."""

    def flush(self) -> tuple[()]:
        return ()


class OpusPacketizer:
    """One packet a unit, whatever its length: RFC 7587 4.2 knows no fragments. A packet of the usual 20 ms is far
    shorter than any maximum; what exceeds it is left to the fragmentation of IP."""

    marker_on_last = False

    def __init__(self, maximum: int) -> None:
        self._maximum = MAXIMUM_PACKET

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for what is no packet."""
        if not 0 < len(data) <= self._maximum:
            raise FormatError(f"an Opus packet of {len(data)} bytes")
        return [(b"", data)]
