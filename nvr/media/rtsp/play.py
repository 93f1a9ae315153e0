"""The headers that shape a PLAY: Scale, Speed (RFC 2326 12.34, 12.35), Rate-Control, Frames, Immediate
(IEC 62676-2-32 8.5, 8.10), and lists of tags: Require, Unsupported, Public (RFC 2326 12.32, 12.41, 12.28)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from nvr.model.errors import FormatError

_DECIMAL = re.compile(r"([+-]?)(\d{1,6})(?:\.(\d{0,9}))?", re.ASCII)


def parse_scale(value: str) -> Fraction:
    """Scale: the ratio of presented to real time; negative means reverse. Exact, so -1, -1.0 and -1.000 are equal.

    Raises FormatError for what is no decimal number, and for zero, which would never show anything.
    """
    match = _DECIMAL.fullmatch(value.strip())
    if match is None:
        raise FormatError(f"Scale {value[:32]!r} is no decimal number")
    sign, whole, fraction = match.groups()
    scale = Fraction(f"{sign}{whole}.{fraction or '0'}")
    if not scale:
        raise FormatError(f"Scale {value[:32]!r} is zero")
    return scale


def format_scale(scale: Fraction) -> str:
    """With at least one fraction digit: a stock client compares with `-1.0` (no float is involved)."""
    sign, scale = ("-" if scale < 0 else ""), abs(scale)
    millionths = (scale.numerator * 2_000_000 + scale.denominator) // (2 * scale.denominator)
    fraction = f"{millionths % 1_000_000:06d}".rstrip("0") or "0"
    return f"{sign}{millionths // 1_000_000}.{fraction}"


def parse_speed(value: str) -> Fraction:
    """Speed: the ratio of the delivery rate to the rate of the data; positive. Raises FormatError."""
    match = _DECIMAL.fullmatch(value.strip())
    if match is None or match[1] == "-":
        raise FormatError(f"Speed {value[:32]!r} is no positive decimal number")
    speed = Fraction(f"{match[2]}.{match[3] or '0'}")
    if not speed:
        raise FormatError(f"Speed {value[:32]!r} is zero")
    return speed


def parse_yes_no(name: str, value: str | None, default: bool) -> bool:
    """Rate-Control (absent: yes) and Immediate (absent: no). Raises FormatError."""
    if value is None:
        return default
    text = value.strip().lower()
    if text not in ("yes", "no"):
        raise FormatError(f"{name} {value[:32]!r} is neither yes nor no")
    return text == "yes"


class FrameSet(StrEnum):
    """Which frames of video are sent (8.5.4)."""

    ALL = "all"
    PREDICTED = "predicted"
    INTRA = "intra"


@dataclass(frozen=True, slots=True)
class Frames:
    """`interval_ms`: the least distance between two intra frames on the recording's timeline; 0 without one."""

    which: FrameSet = FrameSet.ALL
    interval_ms: int = 0

    def __str__(self) -> str:
        return f"{self.which}/{self.interval_ms}" if self.interval_ms else str(self.which)


def parse_frames(value: str | None) -> Frames:
    """Absent means all. Raises FormatError for unknown values and for an interval behind anything but intra."""
    if value is None:
        return Frames()
    match = re.fullmatch(r"(intra|predicted|all)(?:\s*/\s*(\d{1,9}))?", value.strip().lower(), re.ASCII)
    if match is None:
        raise FormatError(f"Frames {value[:32]!r} is none of intra, intra/<milliseconds>, predicted and all")
    if match[2] is not None and match[1] != FrameSet.INTRA:
        raise FormatError(f"Frames {value[:32]!r} has an interval, which only intra takes")
    return Frames(FrameSet(match[1]), int(match[2] or 0))


def parse_tags(values: Iterable[str]) -> tuple[str, ...]:
    """The tags of all headers of one name (Require may come repeatedly), in order, each once."""
    tags = (tag.strip() for value in values for tag in value.split(","))
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def format_tags(tags: Iterable[str]) -> str:
    return ", ".join(tags)
