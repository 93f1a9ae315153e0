"""How log lines and warnings call what they are about."""

from __future__ import annotations

MOST = 64
"""Characters of a name: that of a source may have as many (5.3.1)."""


def named(token: object, name: str) -> str:
    """A token, with the name that an operator or client has given, if any.

    Such a name may hold anything (5.3.1): what would begin another line, or disturb a terminal, is shown as `?`.
    """
    text = "".join(c if c.isprintable() else "?" for c in name[:MOST]).strip()
    return f"{token} ({text})" if text else str(token)
