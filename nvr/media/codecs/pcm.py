"""What G.711, G.726 and L16 share: samples of a fixed size, one behind the other (RFC 3551 4.5).

Every unit is a clean point and leans on nothing before it. The marker bit only tells the start of a talkspurt
(RFC 3551 4.1) and is of no meaning here.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from nvr.media.unit import AccessUnit, CodecConfiguration
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType

MAXIMUM_UNIT = 1024
"""Octets of one unit. A longer payload becomes several units, so that replay never has to send one unit in two packets,
which would need two RTP times."""


class SampledConfiguration(Protocol):
    """A codec configuration whose bytes are samples of a fixed size: `group_bytes` hold `group_ticks` RTP ticks."""

    encoding: ClassVar[str]
    track_type: ClassVar[TrackType]

    @property
    def clock_rate(self) -> int: ...
    @property
    def group_bytes(self) -> int:
        """Octets of the smallest group of samples that ends with an octet; all channels together."""

    @property
    def group_ticks(self) -> int:
        """RTP ticks of such a group."""

    def rtpmap(self) -> str: ...
    def fmtp(self) -> str | None: ...
    def in_band(self) -> bytes: ...
    def sample_entry(self) -> bytes: ...


class SampleDepacketizer:
    """One unit a packet, as received; several where the packet is long."""

    __slots__ = ("_configuration", "_step", "_ticks", "configuration", "dropped", "last_error")

    def __init__(self, configuration: SampledConfiguration) -> None:
        self.configuration: CodecConfiguration | None = configuration
        self._configuration = configuration
        self._step = MAXIMUM_UNIT // configuration.group_bytes * configuration.group_bytes
        self._ticks = self._step // configuration.group_bytes * configuration.group_ticks
        self.dropped = 0
        self.last_error: str | None = None

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        configuration = self._configuration
        size = end - start
        if size <= 0:
            return ()  # nothing but padding
        if size % configuration.group_bytes:
            self.dropped += 1
            group = configuration.group_bytes
            self.last_error = f"a payload of {size} bytes of {configuration.rtpmap()}, whose samples come in {group}"
            return ()
        if size <= self._step:
            return [AccessUnit(rtp_time, self._stored(bytes(buffer[start:end])), True, False, configuration)]
        return [
            AccessUnit(
                (rtp_time + n * self._ticks) & 0xFFFF_FFFF,
                self._stored(bytes(buffer[at : min(at + self._step, end)])),
                True,
                False,
                configuration,
            )
            for n, at in enumerate(range(start, end, self._step))
        ]

    def _stored(self, data: bytes) -> bytes:
        """Sample form of whole groups as they stand in a packet."""
        return data

    def lost(self, packets: int) -> None:
        """Nothing leans on what was lost."""

    def flush(self) -> tuple[()]:
        return ()


class SamplePacketizer:
    """One packet a unit."""

    marker_on_last = False

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for a unit that one packet cannot hold: a second needs a later time."""
        if not 0 < len(data) <= self._maximum:
            raise FormatError(f"a unit of {len(data)} octets for packets of at most {self._maximum}")
        return [(b"", data)]
