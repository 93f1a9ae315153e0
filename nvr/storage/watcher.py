"""Who is told what footage there is."""

from __future__ import annotations

from typing import Protocol

from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey


class Watcher(Protocol):
    """Who wants to know what footage there is (`nvr.events`). Called on the loop; must not block."""

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
        """The first fragment of a run is on the disk."""

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None:
        """The last run of a track has ended."""

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        """Footage of a track is gone."""


class Watchers:
    """Several that are told the same, one after the other."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def footage_begins(self, key: TrackKey, at_ns: UtcNs) -> None:
        for watcher in self._watchers:
            watcher.footage_begins(key, at_ns)

    def footage_ends(self, key: TrackKey, at_ns: UtcNs) -> None:
        for watcher in self._watchers:
            watcher.footage_ends(key, at_ns)

    def footage_deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        for watcher in self._watchers:
            watcher.footage_deleted(key, start_ns, end_ns)
