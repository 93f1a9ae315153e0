"""Who has looked at what: one line in the log for each RTSP session that begins to play.

A line names the user, the address, the recording or the live stream, the tracks and where the play begins. It stands
in the same log as the changes that clients have asked for, and holds nothing that a client could make up.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nvr.model.time import UtcNs, format_clock

log = logging.getLogger("nvr.audit")


def begins(user: str | None, peer: str, path: str, tracks: Sequence[str], start_ns: UtcNs | None) -> None:
    """`user` is None where nobody has to log in; `start_ns` is None for what is live."""
    where = "live" if start_ns is None else f"from {format_clock(start_ns)}"
    log.info("user %r at %s: PLAY %s (%s) %s", user or "", peer, path, ", ".join(tracks), where)
