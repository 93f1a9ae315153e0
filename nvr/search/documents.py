"""Where FindMetadata has its documents from: the files of metadata tracks, taken up in the order of time.

A track and a file are sources, each with a bound: nothing that it may still yield lies before it (backward: behind it).
The one with the least bound is worked on next, so that results come in order from any number of tracks. Blocking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.rows import FileState, FragmentRef, TrackFileRow

FIRST_PAGE, PAGE = 4, 64
"""Files of a track that are asked for at once, first and at most: among many tracks few are read far."""
LAST_NS = (1 << 63) - 1


class Files(Protocol):
    """The index of footage (`nvr.storage.rows.FootageIndex`). Blocking."""

    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: tuple[UtcNs, str] | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]: ...

    def files_before(self, key: TrackKey, before: tuple[UtcNs, str], *, limit: int = 64) -> list[TrackFileRow]: ...


class NoFiles:
    """Without an index of footage."""

    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: tuple[UtcNs, str] | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]:
        return []

    def files_before(self, key: TrackKey, before: tuple[UtcNs, str], *, limit: int = 64) -> list[TrackFileRow]:
        return []


class Documents(Protocol):
    """What a source asks of the search that it belongs to."""

    backward: bool

    @property
    def whole_ns(self) -> UtcNs:
        """What is not later than this will not come to any track any more."""

    def rows(
        self, key: TrackKey, from_ns: UtcNs, after: TrackFileRow | None, limit: int
    ) -> tuple[list[TrackFileRow], list[TrackFileRow]]:
        """The next files of a track in the direction of the search, from an instant on or behind a file: all of a page,
        and those that can have a match."""

    def fragments(self, row: TrackFileRow) -> list[FragmentRef]:
        """In the direction of the search, those that touch its interval."""

    def matches(self, key: TrackKey, ref: FragmentRef) -> list[UtcNs]:
        """Times of the documents that match, in the direction of the search. Raises BadFilter."""


class Source(Protocol):
    key: TrackKey
    bound_ns: UtcNs
    at_end: bool
    """Nothing is left, for now: it may grow."""
    looked_ns: UtcNs
    """What came to it up to here has been there when it looked last."""

    @property
    def held(self) -> int:
        """Rows, fragments and matches in hand."""

    @property
    def may_grow(self) -> bool: ...

    def match(self) -> UtcNs | None:
        """The next match, if there is one in hand; its time is the bound."""

    def work(self) -> Sequence[Source]:
        """Goes on by one read; gives the sources that it has come upon. At its end it looks whether it has grown."""


class FilesOfTrack:
    """Page by page."""

    may_grow = True

    def __init__(self, search: Documents, key: TrackKey, from_ns: UtcNs) -> None:
        self.key = key
        self.bound_ns = from_ns
        self.at_end = False
        self.looked_ns = -LAST_NS
        self._search = search
        self._from_ns = from_ns
        self._after: TrackFileRow | None = None
        self._page = FIRST_PAGE

    @property
    def held(self) -> int:
        return 1

    def match(self) -> UtcNs | None:
        return None

    def work(self) -> Sequence[Source]:
        self.looked_ns = self._search.whole_ns
        page, chosen = self._search.rows(self.key, self._from_ns, self._after, self._page)
        self.at_end = not page
        if not page:
            return ()
        self._after = page[-1]
        self._page = min(PAGE, 4 * self._page)
        if self._search.backward:
            # What follows has begun before; it may end later only where a clock was set back, by one file at most.
            self.bound_ns = min(self.bound_ns, max(row.end_ns for row in page[-2:]))
        else:
            self.bound_ns = max(self.bound_ns, page[-1].start_ns)
        return [FragmentsOfFile(self._search, row, self._from_ns) for row in chosen]


class FragmentsOfFile:
    """One read at a time."""

    def __init__(self, search: Documents, row: TrackFileRow, from_ns: UtcNs) -> None:
        self.key = row.key
        self.at_end = False
        self.looked_ns = -LAST_NS
        self.may_grow = row.state is FileState.OPEN
        ends_ns = row.end_ns if row.state is not FileState.OPEN else LAST_NS
        self.bound_ns = min(ends_ns, from_ns) if search.backward else max(row.start_ns, from_ns)
        self._search = search
        self._row = row
        self._refs: list[FragmentRef] | None = None
        """What has not been read, the next one last; None before the first look."""
        self._read = -1
        """The offset of the last fragment that has been read."""
        self._times: list[UtcNs] = []
        """Matches in hand, the next one last."""

    @property
    def held(self) -> int:
        return 1 + len(self._refs or ()) + len(self._times)

    def match(self) -> UtcNs | None:
        if not self._times or self._times[-1] != self.bound_ns:
            return None
        found = self._times.pop()
        self._look_ahead()
        return found

    def work(self) -> Sequence[Source]:
        if self._refs is None or self.at_end:
            self.looked_ns = self._search.whole_ns
            refs = self._search.fragments(self._row)
            self._refs = [r for r in reversed(refs) if self._search.backward or r.offset > self._read]
        elif self._refs and not self._times:
            ref = self._refs.pop()
            self._read = ref.offset
            self._times = self._search.matches(self.key, ref)[::-1]
        self._look_ahead()
        return ()

    def _look_ahead(self) -> None:
        self.at_end = False
        if self._times:
            self.bound_ns = self._times[-1]
        elif self._refs:
            ref = self._refs[-1]
            nearest_ns = ref.end_ns if self._search.backward else ref.start_ns
            closer = min if self._search.backward else max
            self.bound_ns = closer(self.bound_ns, nearest_ns)
        else:
            self.at_end = True
