"""ONVIF metadata (ONVIF Streaming 5.1.2.1.1): one XML document tt:MetadataStream a unit, plain or gzip.

A document ends with the packet that has the marker bit. A camera that never sets it is served where that is safe: a
plain document that has its closing tag ends when the RTP time changes. Every document is a clean point. The sample
entry is `metx` with the namespace of tt:MetadataStream, as ONVIF's export file format (5.5) has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from nvr.media.bmff.boxes import box
from nvr.media.codecs.sample_entry import sample_entry_body
from nvr.media.unit import AccessUnit, CodecConfiguration
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"metx"
NAMESPACE = b"http://www.onvif.org/ver10/schema"

MAXIMUM_DOCUMENT = 8 << 20
"""Bytes of one document as it is sent."""

_NO_TIME = -1
_XML_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml\s|(?:[\w.-]+:)?MetadataStream[\s/>])")
_XML_ENDS = re.compile(rb"<(?:/(?:[\w.-]+:)?MetadataStream\s*|(?:[\w.-]+:)?MetadataStream[^<>]*/)>\s*\Z")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class MetadataConfiguration:
    """Plain XML."""

    encoding: ClassVar[str] = "VND.ONVIF.METADATA"
    CONTENT_ENCODING: ClassVar[bytes] = b""
    track_type: ClassVar[TrackType] = TrackType.METADATA

    clock_rate: int = 90_000

    def __post_init__(self) -> None:
        if self.clock_rate != 90_000:
            # ONVIF knows no other; sample times in a track file lean on it.
            raise UnsupportedCodec(f"{self.encoding} with a clock rate of {self.clock_rate} Hz instead of 90000")

    def rtpmap(self) -> str:
        return f"{self.encoding.lower()}/{self.clock_rate}"

    def fmtp(self) -> str | None:
        return None

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        # XMLMetaDataSampleEntry (ISO/IEC 14496-12 12.3.3): content_encoding, namespace, schema_location.
        strings = self.CONTENT_ENCODING + b"\0" + NAMESPACE + b"\0\0"
        return box(SAMPLE_ENTRY, b"\0\0\0\0\0\0\0\1", strings)

    def begins(self, data: bytes) -> bool:
        """Whether these are the first bytes of a document."""
        return _XML_BEGINS.match(data) is not None

    def ends(self, data: bytes) -> bool:
        """Whether these are, as can be seen without the marker, the last bytes of a document."""
        return _XML_ENDS.search(data) is not None


@dataclass(frozen=True, slots=True)
class GzipMetadataConfiguration(MetadataConfiguration):
    """XML compressed with gzip. Named `vnd.onvif.metadata.gzip` as in the edition of 2019; later `+gzip`."""

    encoding: ClassVar[str] = "VND.ONVIF.METADATA.GZIP"
    CONTENT_ENCODING: ClassVar[bytes] = b"gzip"

    def begins(self, data: bytes) -> bool:
        return data.startswith(_GZIP_MAGIC)

    def ends(self, data: bytes) -> bool:
        return False  # only decompressing would tell


def from_sample_entry(entry: bytes) -> MetadataConfiguration:
    """Inverse of `sample_entry`. Raises FormatError."""
    _, body = sample_entry_body(entry)
    content_encoding, *rest = body.split(b"\0")
    if not rest or rest[0] != NAMESPACE:
        raise UnsupportedCodec("timed metadata of another namespace than ONVIF's")
    for kind in (MetadataConfiguration, GzipMetadataConfiguration):
        if content_encoding == kind.CONTENT_ENCODING:
            return kind()
    raise UnsupportedCodec(f"ONVIF metadata with the content encoding {content_encoding!r}")


class MetadataDepacketizer:
    """Documents in one packet or over several."""

    __slots__ = (
        "_configuration",
        "_gap",
        "_parts",
        "_proof",
        "_size",
        "_skipping",
        "_time",
        "configuration",
        "dropped",
        "last_error",
    )

    _parts: list[bytes]
    _size: int
    _time: int
    _skipping: bool
    _proof: bool

    def __init__(self, configuration: MetadataConfiguration) -> None:
        self.configuration: CodecConfiguration | None = configuration
        self._configuration = configuration
        self.dropped = 0
        self.last_error: str | None = None
        self._gap = True  # the stream may be joined in the middle of a document
        self._forget()

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        if start >= end and (not marker or rtp_time != self._time):
            return ()  # nothing but padding; yet an empty packet may bring the marker
        done: list[AccessUnit] | tuple[()] = ()
        if rtp_time != self._time:
            done = self.flush()
            self._time = rtp_time
            self._proof, self._gap = self._gap, False
        if self._skipping:
            self._gap = False
        else:
            self._take(bytes(buffer[start:end]))
        if not marker:
            return done
        if self._skipping:
            self._forget()
            return done
        return [*done, self._unit()]

    def lost(self, packets: int) -> None:
        if packets > 0:
            self._gap = True
            if self._time != _NO_TIME and not self._skipping:
                self._skip(None)

    def flush(self) -> list[AccessUnit] | tuple[()]:
        """Ends the document in hand without its marker."""
        if self._time == _NO_TIME or self._skipping:
            self._forget()
            return ()
        if self._configuration.ends(self._parts[-1] if len(self._parts[-1]) > 200 else b"".join(self._parts)):
            return [self._unit()]
        self._skip("a metadata document without its end")
        self._forget()
        return ()

    def _take(self, data: bytes) -> None:
        if not self._parts and not self._configuration.begins(data):
            # Behind a loss this is the rest of a document; else the camera sends something else than it said.
            self._skip(None if self._proof else f"no {self._configuration.encoding} begins with {data[:16]!r}")
        elif self._size + len(data) > MAXIMUM_DOCUMENT:
            self._skip(f"a metadata document of more than {MAXIMUM_DOCUMENT} bytes")
        else:
            self._parts.append(data)
            self._size += len(data)

    def _skip(self, why: str | None) -> None:
        self.dropped += 1
        self.last_error = why or self.last_error
        self._parts = []
        self._skipping = True

    def _unit(self) -> AccessUnit:
        unit = AccessUnit(self._time, b"".join(self._parts), True, False, self._configuration)
        self._forget()
        return unit

    def _forget(self) -> None:
        self._parts = []
        self._size = 0
        self._time = _NO_TIME
        self._skipping = False
        self._proof = False


class MetadataPacketizer:
    """A document cut into packets of equal maximum size."""

    marker_on_last = True

    def __init__(self, maximum: int) -> None:
        if maximum < 1:
            raise ValueError(f"a maximum payload of {maximum} bytes")
        self._maximum = maximum

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for an empty document."""
        if not len(data):
            raise FormatError("an empty metadata document")
        return [(b"", data[at : at + self._maximum]) for at in range(0, len(data), self._maximum)]
