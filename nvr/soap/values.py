"""Lexical forms of XML Schema's simple types (W3C XML Schema 1.0 part 2) and their native values, both ways.

Native: xs:dateTime is UTC nanoseconds, xs:duration is nanoseconds, xs:int is int, xs:float is float, xs:boolean is
bool. Parsing is exact: what the schema refuses raises FormatError (text that is no such type) or OutsideValueSpace (the
right type, but outside what a facet allows). Formatting raises TypeError or ValueError for a value that has no lexical
form, before anything reaches the wire.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from lxml import etree

from nvr.model.errors import FormatError
from nvr.model.time import NS, UtcNs, format_iso, parse_iso
from nvr.soap.names import XS

INT64_MAX = (1 << 63) - 1
"""Times and durations are kept within 64 bits, as the catalogue stores them: instants between 1677 and 2262."""

_SPACE = " \t\r\n"
_SPACES = re.compile(r"[ \t\r\n]+")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,6})?")
_DURATION = re.compile(
    r"(-)?P(?=[0-9T])(?:([0-9]{1,6})Y)?(?:([0-9]{1,6})M)?(?:([0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,12})H)?(?:([0-9]{1,12})M)?(?:([0-9]{1,15})(?:\.([0-9]{1,30}))?S)?)?"
)
_SPECIAL_FLOATS = {"INF": math.inf, "-INF": -math.inf, "NaN": math.nan}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class OutsideValueSpace(FormatError):
    """The text has the right type and breaks a facet: its length, its range, its pattern or its enumeration."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One simple type: `parse` raises FormatError, `format` raises TypeError or ValueError."""

    parse: Callable[[str], Any]
    format: Callable[[Any], str]


def shown(text: str) -> str:
    """Text of a client as it may stand in a reason or a log: short, quoted, without control characters."""
    return repr(text if len(text) <= 64 else text[:61] + "...")


def collapse(text: str) -> str:
    """The whitespace facet `collapse`, which every type but xs:string has."""
    return _SPACES.sub(" ", text).strip(" ")


def parse_boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.strip(_SPACE)]
    except KeyError:
        raise FormatError(f"{shown(text)} is not an xs:boolean") from None


def format_boolean(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    raise TypeError(f"{value!r} is not a bool")


def parse_float(text: str) -> float:
    stripped = text.strip(_SPACE)
    if stripped in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[stripped]
    if _FLOAT.fullmatch(stripped) is None:
        raise FormatError(f"{shown(text)} is not an xs:float")
    return float(stripped)


def format_float(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "INF" if value > 0 else "-INF"
    return repr(float(value))


def parse_time(text: str) -> UtcNs:
    """xs:dateTime; without a zone it counts as UTC.

    Instants beyond 64 bits are brought to the nearest that fits, since clients write the year 9999 for "no end".
    """
    try:
        utc_ns = parse_iso(text.strip(_SPACE))
    except FormatError as e:
        raise FormatError(f"{shown(text)} is not an xs:dateTime") from e
    return max(-INT64_MAX, min(INT64_MAX, utc_ns))


def format_time(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a time in UTC nanoseconds")
    return format_iso(value)


def parse_duration(text: str) -> int:
    """xs:duration in nanoseconds. A year counts 365 days and a month 30; digits beyond the nanosecond are cut."""
    m = _DURATION.fullmatch(text.strip(_SPACE))
    if m is None:
        raise FormatError(f"{shown(text)} is not an xs:duration")
    years, months, days, hours, minutes, seconds = (int(g or 0) for g in m.groups()[1:7])
    whole = ((years * 365 + months * 30 + days) * 24 + hours) * 3600 + minutes * 60 + seconds
    value = whole * NS + int((m[8] or "")[:9].ljust(9, "0"))
    if value > INT64_MAX:
        raise OutsideValueSpace(f"the duration {shown(text)} is longer than {INT64_MAX // NS} seconds")
    return -value if m[1] else value


def format_duration(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a duration in nanoseconds")
    seconds, rest = divmod(abs(value), NS)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction:
        clock += f"{seconds}{fraction}S"
    if not days and not clock:
        clock = "0S"
    return ("-" if value < 0 else "") + "P" + (f"{days}D" if days else "") + (f"T{clock}" if clock else "")


def integer(minimum: int, maximum: int) -> Codec:
    """xs:int and its relatives: ASCII digits only, within [minimum, maximum]."""

    def parse(text: str) -> int:
        stripped = text.strip(_SPACE)
        if _INTEGER.fullmatch(stripped) is None:
            raise FormatError(f"{shown(text)} is not an integer")
        value = int(stripped)
        if not minimum <= value <= maximum:
            raise OutsideValueSpace(f"{shown(text)} is not between {minimum} and {maximum}")
        return value

    def format_(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{value!r} is not an int")
        if not minimum <= value <= maximum:
            raise ValueError(f"{value} is not between {minimum} and {maximum}")
        return str(value)

    return Codec(parse, format_)


def string(
    *, shortest: int = 0, longest: int | None = None, pattern: str | None = None, collapsed: bool = False
) -> Codec:
    """xs:string, or with `collapsed` xs:token and xs:anyURI. Lengths are in characters."""
    expression = re.compile(pattern) if pattern is not None else None

    def check(text: str) -> str:
        if len(text) < shortest or (longest is not None and len(text) > longest):
            bounds = f"{shortest} to {longest}" if longest is not None else f"at least {shortest}"
            raise OutsideValueSpace(f"{shown(text)} has {len(text)} characters instead of {bounds}")
        if expression is not None and expression.fullmatch(text) is None:
            raise OutsideValueSpace(f"{shown(text)} does not have the form {pattern}")
        return text

    def parse(text: str) -> str:
        return check(collapse(text) if collapsed else text)

    def format_(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is not a str")
        return check(str(value))

    if shortest == 0 and longest is None and expression is None and not collapsed:
        return Codec(lambda text: text, format_)
    return Codec(parse, format_)


def any_uri() -> Codec:
    """xs:anyURI. Its lexical space is vague in the schema; what counts here is what libxml2 accepts: a URI that it
    refuses, such as one with a bare `%`, would later make it refuse the whole answer.

    The message does not repeat the URI: it may hold a password.
    """

    def parse(text: str) -> str:
        uri = collapse(text)
        if not _is_any_uri(uri):
            raise FormatError("the text is not an xs:anyURI")
        return uri

    return Codec(parse, string(collapsed=True).format)


@cache
def _any_uri_schema() -> etree.XMLSchema:
    declaration = f'<xs:schema xmlns:xs="{XS}"><xs:element name="uri" type="xs:anyURI"/></xs:schema>'
    return etree.XMLSchema(etree.fromstring(declaration))


def _is_any_uri(text: str) -> bool:
    element = etree.Element("uri")
    element.text = text
    return bool(_any_uri_schema().validate(element))


def enumeration(values: type[StrEnum] | Iterable[str]) -> Codec:
    """A closed list of words. With a StrEnum the native values are its members."""
    known: dict[str, str] = {str(v): v for v in values}

    def parse(text: str) -> str:
        try:
            return known[text]
        except KeyError:
            raise OutsideValueSpace(f"{shown(text)} is none of {', '.join(known)}") from None

    def format_(value: Any) -> str:
        if not isinstance(value, str) or str(value) not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
        return str(value)

    return Codec(parse, format_)


def list_of(item: Codec) -> Codec:
    """A list of items between spaces (xs:list); native is a tuple. A str is refused as a value: it would be split into
    characters.
    """

    def parse(text: str) -> tuple[Any, ...]:
        return tuple(item.parse(word) for word in collapse(text).split(" ") if word)

    def format_(value: Any) -> str:
        if isinstance(value, str):
            raise TypeError(f"{value!r} is a str where a sequence of items is due")
        words = [item.format(v) for v in value]
        for word in words:
            if not word or _SPACES.search(word):
                raise ValueError(f"{word!r} cannot be an item of a list that is separated by spaces")
        return " ".join(words)

    return Codec(parse, format_)


BOOLEAN = Codec(parse_boolean, format_boolean)
FLOAT = Codec(parse_float, format_float)
TIME = Codec(parse_time, format_time)
DURATION = Codec(parse_duration, format_duration)
