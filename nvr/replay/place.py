"""What a request URI names: /replay/{recording token} and /live/{name}, each with /{stream} behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from nvr.replay.status import RequestRefused

_URI = re.compile(r"(?:rtsp[su]?|https?)://[^/?#\s]+([^?#]*)(?:\?[^#]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """What a request URI says, whether something is there or not. `kind` is replay or live, `name` that of the mount;
    `control` is that of a stream."""

    kind: str
    name: str
    control: str | None

    @property
    def path(self) -> str:
        """Of the mount, without a slash at the end."""
        return f"/{self.kind}/{self.name}"


def place_of(uri: str) -> Place:
    """Raises RequestRefused (404, or 400 for what is no RTSP URI)."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise RequestRefused(400, f"{uri[:80]!r} is no RTSP URI")
    kind, name, *rest = [unquote(p) for p in match[1].strip("/").split("/")] + [""]
    controls = [r for r in rest if r]
    if len(controls) > 1:
        raise RequestRefused(404, f"nothing is at {match[1][:80]!r}")
    return Place(kind, name, controls[0] if controls else None)
