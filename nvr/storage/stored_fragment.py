"""One fragment for who plays it: its samples by time, their bytes a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nvr.media.bmff.fragment import Place
from nvr.media.bmff.windows import Window


class StoredFragment:
    """Checked as a whole when it was opened. Blocking; holds no file open, and of its bytes one window at most.

    What has just been read is kept for the first window that is asked for: `forget` where none will be soon. Who takes
    all samples at once says `hold`: then it is kept whole, and read once.
    """

    __slots__ = ("_at", "_body", "_held", "_read", "_window", "_windows", "places")

    def __init__(
        self,
        places: Sequence[Place],
        windows: Sequence[Window],
        body: memoryview | None,
        read: Callable[[Window], bytes | None],
    ) -> None:
        """`read` gives the bytes of a window again, None where the file has been deleted."""
        self.places = places
        self._windows = windows
        self._body = body
        self._read = read
        self._held = False
        self._at: Window | None = None
        self._window = memoryview(b"")

    def data(self, index: int) -> memoryview | None:
        """The bytes of a sample; None where the file has been deleted meanwhile. Raises FootageDamaged, or another
        StorageError."""
        place, at = self.places[index], self._at
        if self._held and self._body is not None:
            return self._body[place.at : place.at + place.size]
        if at is None or not at.first <= index < at.last:
            at = next(w for w in self._windows if w.first <= index < w.last)
            body, self._body = self._body, None
            data = bytes(body[at.start : at.end]) if body is not None else self._read(at)
            if data is None:
                return None
            self._at, self._window = at, memoryview(data)
        return self._window[place.at - at.start : place.at - at.start + place.size]

    def hold(self) -> None:
        """All of it is wanted, one sample after the other."""
        self._held = True

    def forget(self) -> None:
        """Let go of all bytes; they are read again when they are asked for."""
        self._body, self._at, self._window = None, None, memoryview(b"")
