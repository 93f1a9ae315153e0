"""The RTP header extension of replay (IEC 62676-2-32 8.3): time of recording and flags of an access unit.

0                   1                   2                   3
0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
|            0xABAC             |         length (words)        |
|                  NTP time stamp, seconds                      |
|                  NTP time stamp, fraction                     |
|C|E|D|T|  mbz  |     CSeq      |           padding             |
|            the JPEG extension, where there is one ...         |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from nvr.media.rtp import RtpExtension
from nvr.model.errors import FormatError
from nvr.model.time import UtcNs, ntp_from_utc, utc_from_ntp

PROFILE: Final = 0xABAC
WORDS: Final = 3
"""Length without a JPEG part. Stock clients ignore the extension of packets that state another."""
SIZE: Final = 4 * (1 + WORDS)
"""Bytes with the head."""

CLEAN_POINT: Final = 0x80
END_OF_SECTION: Final = 0x40
DISCONTINUITY: Final = 0x20
TERMINAL: Final = 0x10

PACK: Final = Struct(">HHQBBH")
"""Profile, words, NTP, flags, CSeq byte, padding: for hot paths, `PACK.pack(PROFILE, WORDS, ntp, flags, cseq, 0)`."""
_WORDS_ONLY = Struct(">QBBH")
_JPEG_HEAD = Struct(">HH")
JPEG_FIRST: Final = 0xFFD8
JPEG_LATER: Final = 0xFFFF
"""Profiles of a JPEG extension without the replay extension, as in live streaming: first and other packets."""


@dataclass(frozen=True, slots=True)
class JpegExtension:
    """The JPEG extension behind the three words (8.3.3): its start code tells the first packet of a frame."""

    first: bool
    data: bytes = field(default=b"", repr=False)
    """JPEG marker segments, padded with 0xFF to whole words."""

    def __bytes__(self) -> bytes:
        padded = self.data + b"\xff" * (-len(self.data) % 4)
        return _JPEG_HEAD.pack(JPEG_FIRST if self.first else JPEG_LATER, len(padded) // 4) + padded


@dataclass(frozen=True, slots=True)
class ReplayExtension:
    """The content of one extension. Flags belong to the access unit; see 8.3.1 for which packets carry which."""

    ntp: int
    """64-bit NTP time stamp, 32.32, of the recording; not of the sending."""
    clean_point: bool = False
    end_of_section: bool = False
    discontinuity: bool = False
    terminal: bool = False
    cseq: int = 0
    """Low byte of the CSeq of the PLAY that this packet answers."""
    jpeg: JpegExtension | None = None

    @classmethod
    def at(
        cls,
        utc_ns: UtcNs,
        *,
        cseq: int = 0,
        clean_point: bool = False,
        end_of_section: bool = False,
        discontinuity: bool = False,
        terminal: bool = False,
    ) -> ReplayExtension:
        """From UTC and the whole CSeq."""
        return cls(ntp_from_utc(utc_ns), clean_point, end_of_section, discontinuity, terminal, cseq & 0xFF)

    def utc_ns(self, near_ns: UtcNs | None = None) -> UtcNs:
        """UTC; the NTP era is the one nearest to `near_ns`."""
        return utc_from_ntp(self.ntp, near_ns)

    @property
    def flags(self) -> int:
        """The first byte of the third word."""
        return (
            (CLEAN_POINT if self.clean_point else 0)
            | (END_OF_SECTION if self.end_of_section else 0)
            | (DISCONTINUITY if self.discontinuity else 0)
            | (TERMINAL if self.terminal else 0)
        )

    @classmethod
    def parse(cls, extension: RtpExtension) -> ReplayExtension:
        """Reserved bits and padding are ignored, as are words behind the third that are no JPEG extension.

        Raises FormatError for another profile, for fewer words, and for a JPEG part that ends too early.
        """
        data = extension.data
        if extension.profile != PROFILE:
            raise FormatError(f"an RTP header extension of profile {extension.profile:#06x} is no replay extension")
        if len(data) < _WORDS_ONLY.size:
            raise FormatError(f"a replay extension has {len(data)} bytes, fewer than {_WORDS_ONLY.size}")
        ntp, flags, cseq, _ = _WORDS_ONLY.unpack_from(data)
        return cls(
            ntp,
            bool(flags & CLEAN_POINT),
            bool(flags & END_OF_SECTION),
            bool(flags & DISCONTINUITY),
            bool(flags & TERMINAL),
            cseq,
            jpeg_part(data),
        )

    def extension(self) -> RtpExtension:
        """For `RtpPacket.extension`; `bytes()` of it is what stands in the packet."""
        jpeg = bytes(self.jpeg) if self.jpeg is not None else b""
        return RtpExtension(PROFILE, _WORDS_ONLY.pack(self.ntp, self.flags, self.cseq, 0) + jpeg)


def jpeg_part(data: bytes) -> JpegExtension | None:
    """The JPEG extension in the content of a replay extension: behind its three words, where there are more (8.3.3).

    Raises FormatError for one that ends too early.
    """
    data = data[_WORDS_ONLY.size :]
    if len(data) < _JPEG_HEAD.size:
        return None
    code, words = _JPEG_HEAD.unpack_from(data)
    if code not in (JPEG_FIRST, JPEG_LATER):
        return None
    end = _JPEG_HEAD.size + 4 * words
    if end > len(data):
        raise FormatError(f"a JPEG extension claims {4 * words} of {len(data) - _JPEG_HEAD.size} bytes")
    return JpegExtension(code == JPEG_FIRST, data[_JPEG_HEAD.size : end])
