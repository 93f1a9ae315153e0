"""What ingest holds in memory, within the one ceiling that it shares with the queues of storage. Sans-I/O.

Three things are held: footage that an event may still ask for (gated.py), units that wait for their clock
(delivery.py), and documents of events that wait to be read. Only the first can be done without: where the ceiling is
reached, the oldest of it goes, of whatever track, before anything else is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nvr.ingest.names import named
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, TrackKey


class Ceiling(Protocol):
    """The bytes that the whole recorder may hold (`storage.memory`)."""

    reclaim: Callable[[int], None]
    """Called on the loop before somebody is refused so many bytes."""

    @property
    def limit(self) -> int: ...

    @property
    def used(self) -> int: ...

    def add(self, size: int) -> None:
        """Takes what is here already, also above the limit."""

    def give(self, size: int) -> None: ...


class NoCeiling:
    """For a part of the recorder alone."""

    limit = 1 << 62

    def __init__(self) -> None:
        self.used = 0
        self.reclaim: Callable[[int], None] = lambda size: None

    def add(self, size: int) -> None:
        self.used += size

    def give(self, size: int) -> None:
        self.used -= size


class Waiting(Protocol):
    """A track whose footage waits for an event."""

    key: TrackKey

    @property
    def held_bytes(self) -> int:
        """Sample data that waits."""

    @property
    def oldest_ns(self) -> UtcNs | None:
        """Start of what can be dropped first; None where nothing can."""

    @property
    def short(self) -> str | None:
        """One sentence while less than Before is held for want of memory."""

    def drop_oldest(self) -> None:
        """Drops it, and counts it by `dropped`."""


@dataclass(frozen=True, slots=True)
class EventBuffer:
    """What waits for an event in one track, and what was dropped of it for want of memory since the start."""

    key: TrackKey
    held_bytes: int
    dropped: int
    """Fragments."""


class HeldMemory:
    """Belongs to the event loop."""

    def __init__(self, ceiling: Ceiling | None = None) -> None:
        self.name_of: Callable[[RecordingToken], str] = lambda recording: ""
        """The name that the operator has given to the camera of a recording; may be empty."""
        self._ceiling: Ceiling = NoCeiling() if ceiling is None else ceiling
        self._ceiling.reclaim = self._reclaim
        self._waiting: list[Waiting] = []
        self._dropped: Counter[TrackKey] = Counter()

    @property
    def limit(self) -> int:
        """Bytes, of everything that counts."""
        return self._ceiling.limit

    def add(self, size: int) -> None:
        """So many bytes more are held."""
        self._ceiling.add(size)

    def give(self, size: int) -> None:
        """They are held no more."""
        if size:
            self._ceiling.give(size)

    def relieve(self) -> bool:
        """Keeps the ceiling as far as dropping what waits for an event can; False where too much is held still."""
        self._reclaim(0)
        return self._ceiling.used <= self._ceiling.limit

    def join(self, waiting: Waiting) -> None:
        """Its footage can be dropped from now on."""
        self._waiting.append(waiting)

    def leave(self, waiting: Waiting) -> None:
        """The counterpart of `join`."""
        self._waiting.remove(waiting)

    def dropped(self, key: TrackKey, fragments: int) -> None:
        """So many fragments of a track were dropped for want of memory although an event could have asked for them."""
        self._dropped[key] += fragments

    def forget(self, recording: RecordingToken) -> None:
        """The recording is gone."""
        for key in [k for k in self._dropped if k.recording == recording]:
            del self._dropped[key]

    def label(self, key: TrackKey) -> str:
        """A track for people: with the name of its camera."""
        return named(key, self.name_of(key.recording))

    def buffers(self) -> list[EventBuffer]:
        """Of the tracks that wait for an event now, and of those that have lost something while they did."""
        held: Counter[TrackKey] = Counter()
        for waiting in self._waiting:
            held[waiting.key] += waiting.held_bytes
        return [EventBuffer(key, held[key], self._dropped[key]) for key in sorted(held.keys() | self._dropped.keys())]

    def shortages(self) -> list[str]:
        """What is wrong now, one sentence for each track that holds less than Before."""
        return [waiting.short for waiting in self._waiting if waiting.short is not None]

    def _reclaim(self, size: int) -> None:
        ceiling = self._ceiling
        while ceiling.used + size > ceiling.limit:
            oldest = min(self._waiting, key=_age, default=None)
            if oldest is None or oldest.oldest_ns is None:
                return
            oldest.drop_oldest()


_NEVER: UtcNs = 1 << 63


def _age(waiting: Waiting) -> UtcNs:
    oldest_ns = waiting.oldest_ns
    return _NEVER if oldest_ns is None else oldest_ns
