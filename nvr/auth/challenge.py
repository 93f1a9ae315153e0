"""The grammar of WWW-Authenticate and Authorization (RFC 7235 2, 4), read tolerantly."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_GAP = re.compile(r"[\s,]*", re.ASCII)
_ITEM = re.compile(
    r"""(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)
        (?P<assigned> \s*=\s* (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<token>[^\s,"]*) ) )?""",
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_MAX = 8192


@dataclass(frozen=True, slots=True)
class Parameters:
    """One scheme and its parameters. Names in lower case; quoted strings without quotes and escapes."""

    scheme: str
    """In lower case: `digest`, `basic` ..."""
    values: dict[str, str] = field(repr=False)

    def get(self, name: str) -> str | None:
        return self.values.get(name)


def parse_parameters(value: str) -> list[Parameters]:
    """The challenges of one header value; several may stand behind each other. What is no grammar is passed over.

    A word opens a scheme only at the beginning and behind a comma: elsewhere it is the rest of a value with a space in
    it that somebody forgot to quote. Takes time in proportion to the length, whatever a stranger writes.
    """
    found: list[Parameters] = []
    position = 0
    value = value[:_MAX]
    while position < len(value):
        gap = _GAP.match(value, position)
        assert gap is not None, "it matches the empty text too"
        match = _ITEM.match(value, gap.end())
        if match is None:
            position = value.find(",", gap.end())
            if position < 0:
                break
            continue
        name, quoted = match["name"].lower(), match["quoted"]
        if match["assigned"] is None:
            if "," in gap[0] or not found:
                found.append(Parameters(name, {}))
        elif found:
            text = match["token"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            found[-1].values.setdefault(name, text)
        position = match.end()
    return found


def quote(text: str) -> str:
    """A quoted-string. Raises ValueError where a line end would break the header."""
    if any(c in "\r\n\0" for c in text):
        raise ValueError("a quoted string holds a line end or NUL")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
