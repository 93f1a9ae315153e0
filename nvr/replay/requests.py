"""What requests ask for, read from their headers. Pure.

Each refusal has its status (RFC 2326 11; IEC 62676-2-32 8.1, 8.4, 8.5).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeVar

from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import VERSION, Request
from nvr.media.rtsp.play import format_tags, parse_frames, parse_scale, parse_speed, parse_tags, parse_yes_no
from nvr.media.rtsp.range import ClockRange, NptRange, Range, parse_range
from nvr.media.rtsp.session import parse_session
from nvr.media.rtsp.transport import TransportSpec, parse_transport
from nvr.model.errors import FormatError
from nvr.model.time import NS, NTP_EPOCH_OFFSET_S
from nvr.replay.mounts import PlayRequest
from nvr.replay.status import RequestRefused

PUBLIC: Final = ("OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER")
"""Without PAUSE in this list a stock client does not seek."""
KNOWN: Final = frozenset((*PUBLIC, "ANNOUNCE", "RECORD", "REDIRECT"))
FEATURES: Final = frozenset(("onvif-replay",))
"""Tags that Require may name (8.4). All else is 551."""
SLOWEST: Final = Fraction(1, 4)
FASTEST: Final = Fraction(32)
"""Bounds of Scale, in both directions, and of Speed; what lies beyond is played at the bound, and the answer says so
(RFC 2326 12.34, 12.35)."""

_1970_NS: Final = NTP_EPOCH_OFFSET_S * NS
"""In time since 1900."""

_T = TypeVar("_T")


def check_head(request: Request) -> None:
    """What holds for every request: version, CSeq, method, required features."""
    if request.version != VERSION:
        raise RequestRefused(505, f"version {request.version} is not spoken here")
    if request.cseq is None:
        raise RequestRefused(400, "CSeq is missing or no number")
    allow = ("Allow", format_tags(PUBLIC))
    if request.method not in KNOWN:
        raise RequestRefused(501, f"method {request.method[:20]!r} is not known", (("Public", allow[1]),))
    if request.method not in PUBLIC:
        raise RequestRefused(405, f"method {request.method} is not for this server", (allow,))
    for name in ("Require", "Proxy-Require"):
        unknown = [t for t in parse_tags(request.headers.get_all(name)) if t.lower() not in FEATURES]
        if unknown:
            raise RequestRefused(551, f"{name} {unknown[0]!r}", (("Unsupported", format_tags(unknown)),))


def asks_for_extension(request: Request) -> bool:
    """Whether a SETUP wants the replay header extension where it does not come by itself (8.4)."""
    return "onvif-replay" in (tag.lower() for tag in parse_tags(request.headers.get_all("Require")))


def session_of(request: Request) -> str | None:
    """The session id, or None. Raises RequestRefused (454) for a header that names none."""
    value = request.headers.get("Session")
    return None if value is None else _read(454, parse_session, value).id


def check_accept(headers: Headers) -> None:
    """DESCRIBE answers with SDP or not at all (406)."""
    values = [part for value in headers.get_all("Accept") for part in value.split(",")]
    kinds = {value.partition(";")[0].strip().lower() for value in values} - {""}
    if kinds and not kinds & {"application/sdp", "application/*", "*/*"}:
        raise RequestRefused(406, f"Accept names {', '.join(sorted(kinds))[:80]!r}, only application/sdp is there")


def transports_of(request: Request) -> tuple[TransportSpec, ...]:
    """The transports offered, in order of preference (RFC 2326 12.39)."""
    value = request.headers.get("Transport")
    if value is None:
        raise RequestRefused(461, "SETUP has no Transport")
    return _read(400, parse_transport, value)


def play_request(headers: Headers) -> PlayRequest:
    """The headers of PLAY (8.5). They are evaluated anew on each PLAY; nothing is inherited but the position."""
    value, scale, speed = headers.get("Range"), headers.get("Scale"), headers.get("Speed")
    rate_control = _read(400, lambda v: parse_yes_no("Rate-Control", v, True), headers.get("Rate-Control"))
    immediate = _read(400, lambda v: parse_yes_no("Immediate", v, False), headers.get("Immediate"))
    frames = _read(400, parse_frames, headers.get("Frames"))
    ratio = Fraction(1) if scale is None else _read(400, parse_scale, scale)
    faster = Fraction(1) if speed is None else _read(400, parse_speed, speed)
    if rate_control:
        ratio = _bounded(abs(ratio)) * (1 if ratio > 0 else -1)
        faster = _bounded(faster)
    else:
        speed, faster = None, Fraction(1)  # it has no effect there (8.5.3), and the answer does not name it
    wanted = None if value is None else _range(value)
    start, end = (None, None) if wanted is None else (wanted.start_ns, wanted.end_ns)
    if start is not None and end is not None and (start == end or (end > start) != (ratio > 0)):
        raise RequestRefused(457, f"the direction of {value!r} contradicts Scale")
    return PlayRequest(wanted, ratio, scale is not None, faster, speed is not None, rate_control, frames, immediate)


def _range(value: str) -> Range:
    """Normal play time is that of the presentation, with one exception.

    GStreamer, when it is no ONVIF client, makes seconds since 1900 of the times in a=range:clock and asks for
    `npt=3976214400.123457-`: no recording is that long, so what lies beyond 1970 on that scale is such a time.
    """
    wanted: Range = _read(457, parse_range, value)
    if isinstance(wanted, NptRange) and wanted.start_ns is not None and wanted.start_ns >= _1970_NS:
        return ClockRange(wanted.start_ns - _1970_NS, None if wanted.end_ns is None else wanted.end_ns - _1970_NS)
    return wanted


def _bounded(ratio: Fraction) -> Fraction:
    return min(max(ratio, SLOWEST), FASTEST)


def pause_point(headers: Headers) -> Range | None:
    """The pause point of PAUSE (8.5.1), its start, or None: at once. Raises RequestRefused (457)."""
    value = headers.get("Range")
    if value is None:
        return None
    wanted = _range(value)
    if wanted.start_ns is None or wanted.end_ns is not None:
        raise RequestRefused(457, f"{value[:80]!r} is no pause point: one time is expected")
    return wanted


def _read(status: int, parse: Callable[..., _T], value: str | None) -> _T:
    try:
        return parse(value)
    except FormatError as e:
        raise RequestRefused(status, str(e)) from e
