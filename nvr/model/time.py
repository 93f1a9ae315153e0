"""UTC nanoseconds, media ticks, and every conversion between them and the forms that stand on wires and in files.

No float holds a time and no naive datetime exists. UTC here has no leap seconds (POSIX), as in NTP time stamps of RTCP.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from nvr.model.errors import FormatError

UtcNs: TypeAlias = int
"""Nanoseconds since 1970-01-01T00:00:00Z."""

Ticks: TypeAlias = int
"""Units of a media clock; the clock rate in Hz stands beside it."""

NS = 1_000_000_000
NTP_EPOCH_OFFSET_S = 2_208_988_800
"""Seconds from 1900-01-01 to 1970-01-01 (RFC 5905)."""
MP4_EPOCH_OFFSET_S = 2_082_844_800
"""Seconds from 1904-01-01 to 1970-01-01 (ISO/IEC 14496-12 8.2.2)."""
FILETIME_EPOCH_OFFSET_S = 11_644_473_600
"""Seconds from 1601-01-01 to 1970-01-01 (the export format counts 100 ns from there)."""
NTP_ERA_S = 1 << 32

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ticks_from_ns(duration_ns: int, rate: int) -> Ticks:
    """Nanoseconds to ticks, to the nearest (half away from minus infinity)."""
    return (duration_ns * rate * 2 + NS) // (2 * NS)


def ns_from_ticks(ticks: Ticks, rate: int) -> int:
    """Ticks to nanoseconds, to the nearest."""
    return (ticks * NS * 2 + rate) // (2 * rate)


def unwrap(value: int, near: int, bits: int = 32) -> int:
    """The integer congruent to `value` modulo 2**bits that lies nearest to `near` (RTP time, sequence numbers)."""
    span = 1 << bits
    half = span >> 1
    return near + ((value - near + half) & (span - 1)) - half


def ntp_from_utc(utc_ns: UtcNs) -> int:
    """64-bit NTP time stamp, 32.32 fixed point (RFC 5905), to the nearest 2**-32 s; eras are dropped."""
    seconds, rest = divmod(utc_ns, NS)
    fixed = (seconds + NTP_EPOCH_OFFSET_S << 32) + ((rest << 33) + NS) // (2 * NS)
    return fixed & 0xFFFF_FFFF_FFFF_FFFF


def utc_from_ntp(ntp: int, near_ns: UtcNs | None = None) -> UtcNs:
    """UTC of a 64-bit NTP time stamp. The era is the one nearest to `near_ns`; era 0 (up to 2036) without it."""
    seconds, fraction = ntp >> 32, ntp & 0xFFFF_FFFF
    utc = (seconds - NTP_EPOCH_OFFSET_S) * NS + ((fraction * NS * 2 + NTP_ERA_S) // (2 * NTP_ERA_S))
    if near_ns is not None:
        era_ns = NTP_ERA_S * NS
        utc += ((near_ns - utc) * 2 + era_ns) // (2 * era_ns) * era_ns
    return utc


def mp4_seconds_from_utc(utc_ns: UtcNs) -> int:
    """Whole seconds since 1904 (creation_time of mvhd, tkhd, mdhd)."""
    return utc_ns // NS + MP4_EPOCH_OFFSET_S


def utc_from_mp4_seconds(seconds: int) -> UtcNs:
    return (seconds - MP4_EPOCH_OFFSET_S) * NS


def filetime_from_utc(utc_ns: UtcNs) -> int:
    """100 ns units since 1601, rounded down."""
    return utc_ns // 100 + FILETIME_EPOCH_OFFSET_S * 10_000_000


def utc_from_filetime(filetime: int) -> UtcNs:
    return (filetime - FILETIME_EPOCH_OFFSET_S * 10_000_000) * 100


def datetime_from_utc(utc_ns: UtcNs) -> datetime:
    """Aware datetime in UTC, cut to whole microseconds."""
    return _EPOCH + timedelta(microseconds=utc_ns // 1000)


def utc_from_datetime(moment: datetime) -> UtcNs:
    """Raises ValueError for a naive datetime."""
    if moment.tzinfo is None:
        raise ValueError("a datetime without a zone names no instant")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * NS + since.microseconds * 1000


_ISO = re.compile(
    r"(-?\d{4,9})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_CLOCK = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.(\d+))?Z", re.ASCII)


def _fraction_ns(digits: str | None) -> int:
    return int((digits or "")[:9].ljust(9, "0"))


def _civil_ns(year: int, month: int, day: int, hour: int, minute: int, second: int, text: str) -> UtcNs:
    next_day = (hour, minute, second) == (24, 0, 0)  # xs:dateTime writes the end of a day so
    leap = second == 60  # POSIX time has no leap second: it is the first of the next minute
    try:
        moment = datetime(year, month, day, 0 if next_day else hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError as e:
        raise FormatError(f"{text[:64]!r} names no instant: {e}") from e
    return utc_from_datetime(moment) + (86_400 * NS if next_day else 0) + (NS if leap else 0)


def parse_iso(text: str) -> UtcNs:
    """xs:dateTime (ISO 8601 subset). A time without a zone counts as UTC (ONVIF Core 5.10). Raises FormatError."""
    m = _ISO.fullmatch(text.strip())
    if m is None:
        raise FormatError(f"{text[:64]!r} is not an xs:dateTime")
    y, mo, d, h, mi, s = (int(g) for g in m.groups()[:6])
    if h == 24 and (m[7] or "").strip("0"):
        raise FormatError(f"{text[:64]!r} is behind the end of its day")
    offset_s = 0
    zone = m[8]
    if zone not in (None, "Z"):
        zone_h, zone_m = int(zone[1:3]), int(zone[4:6])
        if zone_h > 14 or zone_m > 59 or (zone_h == 14 and zone_m):
            raise FormatError(f"{text[:64]!r} has a zone beyond 14 hours")
        offset_s = (zone_h * 3600 + zone_m * 60) * (-1 if zone[0] == "-" else 1)
    return _civil_ns(y, mo, d, h, mi, s, text) + _fraction_ns(m[7]) - offset_s * NS


def format_iso(utc_ns: UtcNs, digits: int | None = None) -> str:
    """xs:dateTime in UTC with Z. `digits` cuts the fraction; None writes as many of 0, 3, 6, 9 as are needed.

    Raises OverflowError outside the years 1 to 9999.
    """
    head, rest = _civil_text(utc_ns)
    return head + _fraction_text(rest, digits) + "Z"


def parse_clock(text: str) -> UtcNs:
    """utc-time of a `clock=` range (RFC 2326 3.7), any number of fraction digits. Raises FormatError."""
    m = _CLOCK.fullmatch(text.strip())
    if m is None:
        raise FormatError(f"{text[:64]!r} is not a UTC time of the form 19961108T142300.25Z")
    y, mo, d, h, mi, s = (int(g) for g in m.groups()[:6])
    return _civil_ns(y, mo, d, h, mi, s, text) + _fraction_ns(m[7])


def format_clock(utc_ns: UtcNs, digits: int | None = None) -> str:
    """utc-time of a `clock=` range (RFC 2326 3.7). Raises OverflowError outside the years 1 to 9999."""
    head, rest = _civil_text(utc_ns)
    return head.replace("-", "").replace(":", "") + _fraction_text(rest, digits) + "Z"


def _civil_text(utc_ns: UtcNs) -> tuple[str, int]:
    """Date and time to the second, and the nanoseconds left over. (strftime writes the year 800 with three digits.)"""
    seconds, rest = divmod(utc_ns, NS)
    t = _EPOCH + timedelta(seconds=seconds)
    return f"{t.year:04}-{t.month:02}-{t.day:02}T{t.hour:02}:{t.minute:02}:{t.second:02}", rest


def _fraction_text(rest_ns: int, digits: int | None) -> str:
    if digits is None:
        digits = next((n for n in (0, 3, 6) if rest_ns % 10 ** (9 - n) == 0), 9)
    return f".{rest_ns:09d}"[: digits + 1] if digits else ""
