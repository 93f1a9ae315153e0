"""Range (RFC 2326 12.29): clock= as IEC 62676-2-32 8.5.2 uses it, npt= for plain players."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from nvr.model.errors import FormatError
from nvr.model.time import NS, UtcNs, format_clock, parse_clock


class UnsupportedRange(FormatError):
    """A range in units that are not played (smpte): 457, not 400."""


@dataclass(frozen=True, slots=True)
class ClockRange:
    """Absolute times. `end_ns` before `start_ns` is a descending range, for reverse replay; the first value is always
    where replay starts. `start_ns` None: from the beginning (`clock=-<end>`); `end_ns` None: open."""

    start_ns: UtcNs | None
    end_ns: UtcNs | None = None

    def __str__(self) -> str:
        start = "" if self.start_ns is None else format_clock(self.start_ns)
        end = "" if self.end_ns is None else format_clock(self.end_ns)
        return f"clock={start}-{end}"


@dataclass(frozen=True, slots=True)
class NptRange:
    """Nanoseconds from the beginning of the presentation. `now`: the live edge; `start_ns` is None then."""

    start_ns: int | None
    end_ns: int | None = None
    now: bool = False

    def __str__(self) -> str:
        start = "now" if self.now else "" if self.start_ns is None else _format_npt(self.start_ns)
        return f"npt={start}-{'' if self.end_ns is None else _format_npt(self.end_ns)}"


Range: TypeAlias = ClockRange | NptRange

_SECONDS = re.compile(r"(\d{1,10})(?:\.(\d*))?", re.ASCII)
_HOURS = re.compile(r"(\d{1,6}):(\d{1,2}):(\d{1,2})(?:\.(\d*))?", re.ASCII)
_CLOCK = re.compile(r"\s*([0-9TZtz.]*)\s*(-?)\s*([0-9TZtz.]*)\s*", re.ASCII)


def parse_range(value: str) -> Range:
    """Raises FormatError for bad syntax and UnsupportedRange for units other than clock and npt.

    A `time=` parameter behind it (when to start) is ignored, as everything starts at once. A single clock time without
    hyphen is read as an open range: PAUSE states its pause point so.
    """
    text = value.partition(";")[0].strip()
    unit, equals, times = text.partition("=")
    unit = unit.strip().lower()
    if not equals:
        raise FormatError(f"{value[:80]!r} is no range")
    if unit == "clock":
        return _clock(times, value)
    if unit == "npt":
        return _npt(times.strip(), value)
    raise UnsupportedRange(f"ranges in {unit[:20]!r} are not supported")


def _clock(times: str, value: str) -> ClockRange:
    match = _CLOCK.fullmatch(times)
    if match is None or not (match[1] or match[3]) or (match[3] and not match[2]):
        raise FormatError(f"{value[:80]!r} is no clock range")
    start, end = match[1].upper(), match[3].upper()
    return ClockRange(parse_clock(start) if start else None, parse_clock(end) if end else None)


def _npt(times: str, value: str) -> NptRange:
    first, _, last = (part.strip() for part in times.partition("-"))
    if not first and not last:
        raise FormatError(f"{value[:80]!r} is no npt range")
    end_ns = _parse_npt(last, value) if last else None
    if first.lower() == "now":
        return NptRange(None, end_ns, now=True)
    return NptRange(_parse_npt(first, value) if first else None, end_ns)


def _parse_npt(text: str, value: str) -> int:
    if match := _SECONDS.fullmatch(text):
        seconds, fraction = int(match[1]), match[2]
    elif (match := _HOURS.fullmatch(text)) and int(match[2]) < 60 and int(match[3]) < 60:
        seconds, fraction = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3]), match[4]
    else:
        raise FormatError(f"{value[:80]!r} is no npt range")
    return seconds * NS + int((fraction or "")[:9].ljust(9, "0"))


def _format_npt(ns: int) -> str:
    """Seconds, with as many of 0, 3, 6 or 9 fraction digits as are needed."""
    seconds, rest = divmod(ns, NS)
    digits = next((n for n in (0, 3, 6) if rest % 10 ** (9 - n) == 0), 9)
    return f"{seconds}" + (f".{rest:09d}"[: digits + 1] if digits else "")
