"""The live edge: up to which instant all that is recorded has come to where searches find it.

Tracks do not come to the disk at the same pace. What is on its way stands in a socket, waits for the end of its
fragment, or in the queue of its volume; the index of camera events is a moment behind the disk. A forward search that
told what one track has there already would pass by what another one is about to write. So it tells nothing that is
later than this instant, which is known of each track, and never further back than `LATE_NS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from nvr.model.time import NS, UtcNs
from nvr.model.tokens import TrackKey

ON_THE_WAY_NS: Final = 2 * NS
"""So old may be what a camera sends now, by its own clock: encoders, networks and sockets hold it for a moment."""
LATE_NS: Final = 10 * NS
"""What is older than this has come to the disk, as far as the disk keeps up at all: a fragment of metadata takes two
seconds, and is handed over four seconds behind the last document at the latest."""

Reach: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when what is on the disk at the call has been indexed, or after a bounded time."""


async def at_once() -> None:
    """Without an index that is behind the disk."""


@dataclass(frozen=True, slots=True)
class Coming:
    """What of a track is on its way to the disk."""

    behind: Callable[[TrackKey], int | None]
    """By how much the clock of the camera is behind whose stream goes there; None where none does."""
    held_since: Callable[[TrackKey], UtcNs | None]
    """The first instant of what has come and waits for the end of its fragment."""
    unwritten_since: Callable[[TrackKey], UtcNs | None]
    """The first instant of what storage has taken and has not written."""

    def whole_until(self, key: TrackKey, now_ns: UtcNs) -> UtcNs:
        """All that will ever be recorded of this track up to here is on the disk, as far as that can be known."""
        owed = [self.held_since(key), self.unwritten_since(key)]
        first_ns = min((since_ns for since_ns in owed if since_ns is not None), default=now_ns + 1)
        behind_ns = self.behind(key)
        arrived_ns = now_ns if behind_ns is None else now_ns - ON_THE_WAY_NS - max(behind_ns, 0)
        return min(first_ns - 1, arrived_ns)


@dataclass(frozen=True, slots=True)
class LiveEdge:
    """What a search asks there. Without `coming` all that is recorded is on the disk at once."""

    reach: Reach = at_once
    coming: Coming | None = None

    @property
    def is_behind(self) -> bool:
        return self.reach is not at_once or self.coming is not None

    def whole_until(self, key: TrackKey, now_ns: UtcNs) -> UtcNs:
        """As `Coming.whole_until`, and not longer ago than `LATE_NS`."""
        return now_ns if self.coming is None else max(self.coming.whole_until(key, now_ns), now_ns - LATE_NS)
