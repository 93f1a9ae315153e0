"""What nobody but a client may delete for the moment: footage that an export reads."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey


class Hold:
    """Keeps the footage of a track from `from_ns` on until it is released.

    It has no end of its own: a rule cuts a track at its beginning only, so what stands behind held footage stays too.

    `limit_ns` is where the time limit of the recording stood when it was taken, None without one: for the holder it
    stands still. A context manager; may be released twice. Belongs to the event loop.
    """

    def __init__(self, key: TrackKey, from_ns: UtcNs, limit_ns: UtcNs | None, release: Callable[[Hold], None]) -> None:
        self.key = key
        self.from_ns = from_ns
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

    def take(self, key: TrackKey, from_ns: UtcNs, limit_ns: UtcNs | None) -> Hold:
        hold = Hold(key, from_ns, limit_ns, self._held.discard)
        self._held.add(hold)
        return hold

    def starts(self) -> dict[TrackKey, UtcNs]:
        """From where on tracks are held now, for another thread."""
        found: dict[TrackKey, UtcNs] = {}
        for hold in self._held:
            found[hold.key] = min(found.get(hold.key, hold.from_ns), hold.from_ns)
        return found
