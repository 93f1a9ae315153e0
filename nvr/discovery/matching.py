"""Whether the device is one of those that a Probe looks for (WS-Discovery 5.1, ONVIF Core 7.3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

from nvr.discovery.message import DEVICE_TYPES, RFC3986, WSD, Probe
from nvr.model.errors import Refused


class UnknownRule(Refused):
    """The Probe names a matching rule that is not supported."""


def by_rfc3986(asked: str, scope: str) -> bool:
    """Same scheme and authority without regard to case, and the path of `asked` begins that of `scope`, by whole
    segments. Query and fragment do not count; a path with `.` or `..` matches nothing.
    """
    one, other = _parts(asked), _parts(scope)
    if one is None or other is None:
        return False
    (origin, wanted), (own, segments) = one, other
    return origin == own and segments[: len(wanted)] == wanted


def _parts(uri: str) -> tuple[tuple[str, str], list[str]] | None:
    """Scheme and authority in lower case, and the segments of the path, decoded; None for what is no absolute URI."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    segments = parts.path.split("/")
    if not parts.scheme or any(s in (".", "..") for s in segments):
        return None
    if segments and not segments[-1]:
        segments = segments[:-1]  # a slash at the end opens no further segment
    return (parts.scheme.lower(), parts.netloc.lower()), [unquote(s) for s in segments]


def by_text(asked: str, scope: str) -> bool:
    """Character by character."""
    return asked == scope


RULES: Final[Mapping[str, Callable[[str, str], bool]]] = {
    RFC3986: by_rfc3986,
    f"{WSD}/rfc2396": by_rfc3986,  # its name in WS-Discovery itself, which many clients send
    f"{WSD}/strcmp0": by_text,
}


def matches(probe: Probe, scopes: Sequence[str]) -> bool:
    """Every type and every scope of the Probe must be ours; none matches everything. Raises UnknownRule."""
    rule = RULES.get(probe.match_by)
    if rule is None:
        raise UnknownRule("the matching rule of a Probe is not supported")
    if not set(probe.types) <= set(DEVICE_TYPES):
        return False
    return all(any(rule(asked, scope) for scope in scopes) for asked in probe.scopes)
