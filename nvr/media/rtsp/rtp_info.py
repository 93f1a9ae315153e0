"""RTP-Info (RFC 2326 12.33): where each stream of a PLAY begins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nvr.model.errors import FormatError

_NEXT = re.compile(r",\s*(?=url\s*=)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RtpInfo:
    """One stream. None where the server says nothing."""

    url: str
    """As the server writes it: absolute, or relative to the request."""
    seq: int | None = None
    """Sequence number of the first packet."""
    rtptime: int | None = None
    """RTP time stamp that belongs to the start of the Range in the same answer."""

    def __str__(self) -> str:
        if re.search(r"[,;\s]", self.url):
            raise ValueError(f"{self.url!r} cannot stand in RTP-Info without percent-encoding")
        seq = "" if self.seq is None else f";seq={self.seq}"
        return f"url={self.url}{seq}" + ("" if self.rtptime is None else f";rtptime={self.rtptime}")


def parse_rtp_info(value: str) -> tuple[RtpInfo, ...]:
    """Raises FormatError. Commas and semicolons inside a URL are told apart by what follows them."""
    return tuple(_stream(part.strip()) for part in _NEXT.split(value.strip().rstrip(",")) if part.strip())


def format_rtp_info(streams: tuple[RtpInfo, ...]) -> str:
    return ",".join(map(str, streams))


def _stream(text: str) -> RtpInfo:
    match = re.match(r'url\s*=\s*("[^"]*"|.*?)\s*(?=;\s*(?:seq|rtptime|ssrc)\s*=|;?\s*$)', text, re.IGNORECASE)
    if match is None or not match[1]:
        raise FormatError(f"{text[:80]!r} is no stream of RTP-Info")
    numbers: dict[str, int] = {}
    for part in text[match.end() :].split(";"):
        name, equals, number = (p.strip() for p in part.partition("="))
        key = name.lower()
        if not equals or key not in ("seq", "rtptime"):
            continue
        limit = 1 << (16 if key == "seq" else 32)
        if not (number.isascii() and number.isdigit() and len(number) <= 10 and int(number) < limit):
            raise FormatError(f"{key} {number[:20]!r} in RTP-Info is no number below 2**{limit.bit_length() - 1}")
        numbers[key] = int(number)
    return RtpInfo(match[1].strip('"'), numbers.get("seq"), numbers.get("rtptime"))
