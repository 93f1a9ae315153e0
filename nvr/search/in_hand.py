"""What searches that stand still hold in memory, together.

A search reads ahead: a page of each stream, the files of each track. Among thousands of streams that is megabytes a
search, and hundreds of searches may stand open that nobody collects. So those that have stood still longest let go of
what they can read again, as soon as all together hold more than they may.
"""

from __future__ import annotations

from typing import Protocol

LIMIT = 100_000
"""Rows and places in hand, some 300 bytes each; the search that has worked last may have more of its own."""


class Resting(Protocol):
    """A search between two steps."""

    @property
    def held(self) -> int:
        """Rows and places in hand."""

    def let_go(self) -> None:
        """Forgets what can be read again: the next step goes on where the last one stood."""


class InHand:
    """Belongs to the event loop. No search lets go while it works."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._resting: dict[Resting, int] = {}
        """What each holds, the one that has stood still longest first."""
        self.total = 0

    def take(self, search: Resting) -> None:
        """It works again, or is over."""
        self.total -= self._resting.pop(search, 0)

    def put(self, search: Resting) -> None:
        """It stands still."""
        self.take(search)
        self._resting[search] = search.held
        self.total += self._resting[search]
        while self.total > self._limit and len(self._resting) > 1:
            oldest = next(iter(self._resting))
            self.take(oldest)
            oldest.let_go()
