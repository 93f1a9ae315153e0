"""Who gets every sample of a track as it is recorded, whichever receiver feeds it: the live edge of recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nvr.ingest.delivery import SampleTap
from nvr.model.tokens import TrackKey


class Tapped(Protocol):
    """A source, as subscriptions see it."""

    def tap(self, key: TrackKey, tap: SampleTap) -> Callable[[], None]:
        """Hand over samples until the returned function is called."""


class Subscriptions:
    """`source_of` says which source feeds a track now."""

    def __init__(self, source_of: Callable[[TrackKey], Tapped | None]) -> None:
        self._source_of = source_of
        self._entries: list[tuple[TrackKey, SampleTap]] = []
        self._at: dict[tuple[TrackKey, SampleTap], tuple[Tapped, Callable[[], None]]] = {}
        """Where each is attached, and how that ends."""

    def add(self, key: TrackKey, tap: SampleTap) -> Callable[[], None]:
        """Returns the function that ends it."""
        entry = (key, tap)
        self._entries.append(entry)
        self.follow()

        def remove() -> None:
            if entry in self._entries:
                self._entries.remove(entry)
                at = self._at.pop(entry, None)
                if at is not None:
                    at[1]()

        return remove

    def follow(self) -> None:
        """The sources of tracks may have changed."""
        for entry in self._entries:
            source = self._source_of(entry[0])
            at = self._at.get(entry)
            if at is not None and at[0] is source:
                continue
            if at is not None:
                at[1]()
                del self._at[entry]
            if source is not None:
                self._at[entry] = source, source.tap(*entry)
