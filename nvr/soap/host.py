"""What the host says of its clock. It is reported and never changed: the time of a recorder belongs to its operator."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

_TIME_ERROR = 5
"""Result of adjtimex(2) for a clock that nothing keeps synchronised."""
_TIMEX_BYTES = 512
"""More than struct timex takes on any platform."""


def clock_is_synchronised() -> bool:
    """Whether the kernel holds its clock to be synchronised (adjtimex, modes 0: nothing is changed)."""
    adjtimex = _adjtimex()
    return adjtimex is not None and 0 <= adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)) < _TIME_ERROR


@cache
def _adjtimex() -> Callable[[Any], int] | None:
    """The function of the C library, looked up once: anybody may ask for the time, as often as they like."""
    try:
        return cast("Callable[[Any], int]", ctypes.CDLL(None, use_errno=True).adjtimex)
    except (OSError, AttributeError):
        return None


def posix_time_zone(zone_file: Path = Path("/etc/localtime")) -> str:
    """The rules of the local time zone as POSIX writes them (`CET-1CEST,M3.5.0,M10.5.0/3`).

    They stand in the last line of a compiled zone file (RFC 8536 3.3). Without one, the present offset is given as a
    zone without daylight saving.
    """
    try:
        data = zone_file.read_bytes()
    except OSError:
        data = b""
    if data.startswith(b"TZif") and data[4:5] >= b"2" and data.endswith(b"\n"):
        rule = data[:-1].rpartition(b"\n")[2].decode("ascii", "replace")
        if rule and rule.isascii() and rule.isprintable():
            return rule
    return _fixed_zone(time.localtime().tm_gmtoff)


def _fixed_zone(offset_s: int) -> str:
    """A zone with one offset east of Greenwich; POSIX counts west."""
    if offset_s == 0:
        return "UTC0"
    sign, minutes = ("-", offset_s // 60) if offset_s > 0 else ("+", -offset_s // 60)
    name = f"{'+' if offset_s > 0 else '-'}{minutes // 60:02d}" + (f"{minutes % 60:02d}" if minutes % 60 else "")
    return f"<{name}>{sign}{minutes // 60}" + (f":{minutes % 60:02d}" if minutes % 60 else "")
