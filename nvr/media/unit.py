"""The shapes that travel through the house: codec configurations, access units, samples, fragments.

An access unit's bytes stand everywhere in sample form, the form that ISO/IEC 14496-15 and -3 give them in a file:
H.264 and H.265 as NAL units behind 4-byte lengths, AV1 as OBUs with their sizes, JPEG as a whole image, MPEG-4 Visual
as its byte stream, AAC and Opus as raw frames, other sound as octets, metadata as one XML document (or its gzip form).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from nvr.model.recording import TrackType

if TYPE_CHECKING:
    from nvr.model.time import UtcNs


class CodecConfiguration(Protocol):
    """What a decoder needs to know before the first access unit. Frozen and hashable: equal means interchangeable.

    Each codec's file in codecs/ holds one implementation. The configuration is what a track file's sample entry holds.
    """

    encoding: ClassVar[str]
    """RTP encoding name in upper case: H264, JPEG, MPEG4-GENERIC, G726-32, VND.ONVIF.METADATA ..."""
    track_type: ClassVar[TrackType]

    @property
    def clock_rate(self) -> int:
        """RTP clock rate in Hz; also the timescale of the track file."""

    def rtpmap(self) -> str:
        """Value of a=rtpmap behind the payload type, e.g. `H264/90000`."""

    def fmtp(self) -> str | None:
        """Value of a=fmtp behind the payload type, or None when the encoding has no parameters."""

    def in_band(self) -> bytes:
        """What a decoder that was set up for another configuration must see before a clean point, in sample form:
        parameter sets and the like (RFC 6184 8.4, RFC 7798 7.2.2). Empty where units bring all they need, and where
        nothing in band can tell."""

    def sample_entry(self) -> bytes:
        """The whole SampleEntry box for stsd (ISO/IEC 14496-12 8.5.2); `codecs.from_sample_entry` is its inverse."""


@dataclass(slots=True)
class AccessUnit:
    """One access unit as a depacketizer delivers it, in decode order.

    Not frozen: one is made per picture on the ingest path, where a frozen dataclass costs three times as much to build.
    """

    rtp_time: int
    """RTP time stamp, 32 bits, as on the wire: the time of presentation."""
    data: bytes
    """Sample form, see the head of this file."""
    clean_point: bool
    """Decoding can start here (IDR, IRAP, every audio frame, every metadata document)."""
    damaged: bool
    """Something before it was lost and no clean point has come since; decodable with artefacts."""
    configuration: CodecConfiguration
    """The configuration in force; a new object that is not equal to the last one means it has changed."""


@dataclass(slots=True)
class Sample:
    """One access unit in footage: as AccessUnit, with its time mapped to UTC."""

    utc_ns: UtcNs
    """Time of presentation."""
    data: bytes
    clean_point: bool
    damaged: bool = False


@dataclass(slots=True)
class Fragment:
    """The samples of one fragment of a track file, in decode order, one codec configuration.

    `end_ns` is the time of presentation at which the last sample ends: the start of what follows when that is known.
    """

    configuration: CodecConfiguration
    samples: list[Sample]
    end_ns: UtcNs
    lost_packets: int = 0
    """RTP packets lost while it was received, beyond repair."""
    dropped_units: int = 0
    """Access units dropped because packets of theirs were lost."""
    start_ns: UtcNs = field(init=False)

    def __post_init__(self) -> None:
        self.start_ns = min(s.utc_ns for s in self.samples)

    @property
    def clean_point(self) -> bool:
        """Whether decoding can start with this fragment."""
        return self.samples[0].clean_point

    @property
    def size(self) -> int:
        """Bytes of sample data."""
        return sum(len(s.data) for s in self.samples)


class Depacketizer(Protocol):
    """RTP payloads in, access units out. One per stream; fed in sequence order by `sequence.py`.

    Shape shared by all codecs: `push` returns the units that the packet completed, almost always an empty tuple or one.
    A unit that lost packets is dropped and counted, never delivered (the first unit behind a loss is delivered only
    when its beginning is provably there); the units behind it are `damaged` up to the next clean point.
    """

    dropped: int
    """Access units dropped since the start."""
    configuration: CodecConfiguration | None
    """From the SDP, then from the stream; None until known (H.264 with parameter sets in band only)."""
    last_error: str | None
    """What was wrong with the last bad payload, one sentence."""

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        """One payload, `buffer[start:end]`, valid only during the call. Raises nothing on bad payloads: they count as
        losses and `last_error` says why."""

    def lost(self, packets: int) -> None:
        """Packets are missing between the last `push` and the next."""

    def flush(self) -> list[AccessUnit] | tuple[()]:
        """The stream ended: what is complete but waits for a successor."""


class Packetizer(Protocol):
    """Access units in, RTP payloads out; the inverse of the codec's depacketizer.

    A packetizer whose codec uses RTP header extensions of its own (JPEG) has an attribute `extensions` as well: whole
    extensions of the first packets of the unit packetized last.
    """

    marker_on_last: bool
    """Whether the marker bit stands on the last packet of a unit (video, AAC, metadata) or never (other sound)."""

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """Payloads of one access unit, each as (prefix made here, slice of `data`), none above the maximum size.

        Two parts, so that the sender joins header, extension, prefix and slice in one copy.
        """
