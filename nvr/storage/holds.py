"""What nobody but a client may delete for the moment: footage that an export reads."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.rows import TrackFileRow


class Hold:
    """Keeps the footage of a track that touches [from_ns, until_ns), and all behind it, until it is released.

    `limit_ns` is where the time limit of the recording stood when it was taken, None without one: for the holder it
    stands still. A context manager; may be released twice. Belongs to the event loop.
    """

    def __init__(
        self, key: TrackKey, from_ns: UtcNs, until_ns: UtcNs, limit_ns: UtcNs | None, release: Callable[[Hold], None]
    ) -> None:
        if until_ns < from_ns:
            raise ValueError(f"a hold from {from_ns} cannot end at {until_ns}")
        self.key = key
        self.from_ns = from_ns
        self.until_ns = until_ns
        self.limit_ns = limit_ns
        self._release = release

    def release(self) -> None:
        """What is held may go from the next sweep on."""
        self._release(self)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Holds:
    """All holds that have not been released."""

    def __init__(self) -> None:
        self._held: set[Hold] = set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, key: TrackKey, from_ns: UtcNs, until_ns: UtcNs, limit_ns: UtcNs | None) -> Hold:
        """Raises ValueError for a range that ends before it begins."""
        hold = Hold(key, from_ns, until_ns, limit_ns, self._held.discard)
        self._held.add(hold)
        return hold

    def spans(self) -> Spans:
        """As they are now, for another thread."""
        found: Spans = {}
        for hold in self._held:
            found.setdefault(hold.key, []).append((hold.from_ns, hold.until_ns))
        return found


Spans = dict[TrackKey, list[tuple[UtcNs, UtcNs]]]
"""Held ranges by track."""


def is_held(row: TrackFileRow, spans: Spans) -> bool:
    """Whether a closed file touches a held range."""
    return any(row.end_ns > start and row.start_ns < end for start, end in spans.get(row.key, ()))
