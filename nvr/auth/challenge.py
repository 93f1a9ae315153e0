"""The grammar of WWW-Authenticate and Authorization (RFC 7235 2, 4), read tolerantly."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ITEM = re.compile(
    r'[\s,]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)(\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?', re.ASCII | re.DOTALL
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
    """The challenges of one header value; several may stand behind each other. What is no grammar ends the list."""
    found: list[Parameters] = []
    position = 0
    value = value[:_MAX]
    while match := _ITEM.match(value, position):
        position = match.end()
        name, assigned, quoted, token = match.groups()
        if assigned is None:
            found.append(Parameters(name.lower(), {}))
        elif found:
            text = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            found[-1].values.setdefault(name.lower(), text)
    return found


def quote(text: str) -> str:
    """A quoted-string. Raises ValueError where a line end would break the header."""
    if any(c in "\r\n\0" for c in text):
        raise ValueError("a quoted string holds a line end or NUL")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
