"""Session (RFC 2326 12.37)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nvr.model.errors import FormatError


@dataclass(frozen=True, slots=True)
class Session:
    """`timeout_s` is None where the header states none: 60 seconds then."""

    id: str
    timeout_s: int | None = None

    def __str__(self) -> str:
        return self.id if self.timeout_s is None else f"{self.id};timeout={self.timeout_s}"


def parse_session(value: str) -> Session:
    """Raises FormatError without an id. A timeout that is no positive number counts as not stated."""
    session_id, *parameters = (p.strip() for p in value.split(";"))
    if not session_id or len(session_id) > 256 or re.search(r"[\s,]", session_id):
        raise FormatError(f"{value[:80]!r} names no session")
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        text = text.strip().strip('"')
        if name.strip().lower() == "timeout" and re.fullmatch(r"\d{1,9}", text, re.ASCII) and int(text):
            return Session(session_id, int(text))
    return Session(session_id)
