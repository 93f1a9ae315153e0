"""The playing times of recordings, remembered from one client to the next: counting ten thousand runs takes 20 ms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nvr.model.timeline import Timeline
from nvr.model.tokens import TrackKey
from nvr.replay.playing_time import PlayingTime

REMEMBERED: Final = 32
"""Recordings; one with ten thousand runs takes 2 MB."""


class PlayingTimes:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        self._known: dict[tuple[TrackKey, ...], PlayingTime] = {}

    async def of(
        self,
        keys: Sequence[TrackKey],
        timelines: Sequence[Timeline],
        read: Callable[[Callable[[], PlayingTime | None]], Awaitable[PlayingTime | None]],
    ) -> PlayingTime | None:
        """That of these tracks, whose timelines are given; None without footage. `read` makes a call on a thread: it is
        counted there where nothing that is remembered can be continued."""
        name = tuple(keys)
        known = self._known.pop(name, None)
        if known is None or not known.continues(timelines):
            known = await read(lambda: PlayingTime.of(timelines))
        if known is None:
            return None
        self._known[name] = known
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return known.extended(timelines)
