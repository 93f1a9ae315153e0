"""FindMetadata: the filter on every document of the metadata tracks (6.13), read from the footage itself.

The index of camera events knows the words of each file: names of elements and attributes, and classes of objects. A
file without a word that every match must have is passed over unread; all others are read, a fragment at a time.

Files are taken up in the order of time, each with a bound: nothing that it may still yield lies before it (backward:
behind it). The one with the least bound is worked on next, so that results come in order from any number of tracks.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from nvr.media import onvif_metadata
from nvr.media.onvif_metadata import ANY_WORD
from nvr.model import xpath
from nvr.model.errors import FormatError, StorageError
from nvr.model.recording import TrackType
from nvr.model.search import FoundMetadata, SearchInterval
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.search.archive import Archive
from nvr.search.chosen import ChosenRecordings
from nvr.search.scope import Footage as Recorded
from nvr.search.shares import Share
from nvr.search.steps import SteppedSearch
from nvr.storage.rows import FileState, FragmentRef, TrackFileRow

log = logging.getLogger(__name__)

MAX_VISITS = 1_000_000
"""Elements that a filter may come upon in one document, which takes some tenths of a second: crowds make documents of
ten thousand elements."""
_PAGE = 64
_MOST_NS = (1 << 63) - 1


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


class MetadataSearch(SteppedSearch[FoundMetadata]):
    """A document that is no XML matches nothing. A track gives one result for one time."""

    def __init__(
        self,
        chosen: ChosenRecordings,
        share: Share,
        interval: SearchInterval,
        wanted: xpath.Expression,
        recorded: Recorded,
        files: Files,
        archive: Archive,
        now: Callable[[], UtcNs],
    ) -> None:
        self._wanted = wanted
        self._words = required_words(wanted)
        self._recorded = recorded
        self._files = files
        self._archive = archive
        self._sources: list[tuple[int, int, _Source]] = []
        """A heap: the bound, turned so that the next one is the least, and a number that tells equal ones apart."""
        self._numbers = 0
        self._known: dict[TrackKey, _Track] = {}
        self._keys: list[TrackKey] = []
        self._last: dict[TrackKey, UtcNs] = {}
        super().__init__(chosen, share, interval, now)

    def _look_around(self) -> None:
        recordings = self._chosen.coverages.items()
        keys = (TrackKey(token, track) for token, tracks in recordings for track, _ in tracks)
        self._keys = [key for key in keys if self._is_metadata(key)]

    def _begin_step(self) -> None:
        for key in self._keys:
            if key not in self._known:
                # A track whose first data come while the search runs is not gone back for.
                track = self._known[key] = _Track(self, key)
                self._push(track)

    def _is_metadata(self, key: TrackKey) -> bool:
        configuration = self._recorded.configuration(key)
        return configuration is not None and configuration.track_type is TrackType.METADATA

    def _push(self, source: _Source) -> None:
        self._numbers += 1
        bound = source.bound_ns
        heapq.heappush(self._sources, (-bound if self._backward else bound, self._numbers, source))

    def _all(self) -> Iterator[FoundMetadata | None]:
        while self._sources:
            source = heapq.heappop(self._sources)[2]
            self._reached_ns = self._inside(source.bound_ns)
            match = source.match()
            if match is not None:
                yield self._found(source.key, match)
            else:
                for more in source.work():
                    self._push(more)
                yield None
            if not source.at_end:
                self._push(source)

    def _inside(self, at_ns: UtcNs) -> UtcNs:
        return max(self._interval.earliest_ns, min(at_ns, self._interval.latest_ns))

    def _found(self, key: TrackKey, time_ns: UtcNs) -> FoundMetadata | None:
        gone = self._coverage(key).stretch_at(time_ns) is None
        if gone or self._last.get(key) == time_ns:
            return None
        self._last[key] = time_ns
        return FoundMetadata(key.recording, key.track, time_ns)

    # For the sources

    def rows(self, key: TrackKey, after: tuple[UtcNs, str] | None) -> tuple[list[TrackFileRow], list[TrackFileRow]]:
        """The next files of a track in the direction of the search: all of a page, and those that can have a match."""
        low, high = self._interval.earliest_ns, self._interval.latest_ns
        if self._backward:
            # The bound is above all names: a file that starts at the last instant belongs to the interval.
            before = after if after is not None else (min(high, _MOST_NS), "~")
            page = self._files.files_before(key, before, limit=_PAGE)
        else:
            page = self._files.files(key, low, min(high, _MOST_NS - 1) + 1, after=after, limit=_PAGE)
        touching = [row for row in page if row.state is FileState.OPEN or row.end_ns >= low]
        if not touching:
            return [], []  # backward: a whole page has ended before the interval
        if not self._words:
            return page, touching
        known = self._archive.words([row.file_id for row in touching])
        return page, [row for row in touching if self._may_match(known.get(row.file_id))]

    def _may_match(self, words: frozenset[str] | None) -> bool:
        return words is None or ANY_WORD in words or self._words <= words

    def fragments(self, row: TrackFileRow) -> list[FragmentRef]:
        """In the direction of the search, those that touch its interval."""
        low, high = self._interval.earliest_ns, self._interval.latest_ns
        found = [r for r in self._recorded.footage(row.key).of_file(row) if r.start_ns <= high and r.end_ns >= low]
        return found[::-1] if self._backward else found

    def matches(self, key: TrackKey, ref: FragmentRef) -> list[UtcNs]:
        """Times of the documents that match, in the direction of the search. Raises BadFilter."""
        try:
            samples = self._recorded.footage(key).read(ref)
        except StorageError as e:
            log.error("a search passes over metadata of %s: %s", key, e)
            return []
        found = [s.utc_ns for s in samples if self._interval.holds(s.utc_ns) and self._matches_document(s.data)]
        return sorted(found, reverse=self._backward)

    def _matches_document(self, data: bytes) -> bool:
        try:
            document = onvif_metadata.node_of(onvif_metadata.root_of(data))
        except FormatError:
            return False  # the indexer has counted and told it
        return xpath.matches(self._wanted, document, MAX_VISITS)

    @property
    def backward(self) -> bool:
        return self._backward

    @property
    def start_ns(self) -> UtcNs:
        return self._interval.start_ns


class _Source(Protocol):
    key: TrackKey
    bound_ns: UtcNs
    at_end: bool

    def match(self) -> UtcNs | None:
        """The next match, if there is one in hand; its time is the bound."""

    def work(self) -> Sequence[_Source]:
        """Goes on by one read; gives the sources that it has come upon."""


class _Track:
    """The files of a track, page by page."""

    def __init__(self, search: MetadataSearch, key: TrackKey) -> None:
        self.key = key
        self.bound_ns = search.start_ns
        self.at_end = False
        self._search = search
        self._after: tuple[UtcNs, str] | None = None

    def match(self) -> UtcNs | None:
        return None

    def work(self) -> Sequence[_Source]:
        page, chosen = self._search.rows(self.key, self._after)
        if not page:
            self.at_end = True
            return ()
        self._after = (page[-1].start_ns, page[-1].file_id)
        if self._search.backward:
            # What follows has begun before; it may end later only where a clock was set back, by one file at most.
            self.bound_ns = min(self.bound_ns, max(row.end_ns for row in page[-2:]))
        else:
            self.bound_ns = max(self.bound_ns, page[-1].start_ns)
        return [_File(self._search, row) for row in chosen]


class _File:
    """The fragments of a file, one read at a time."""

    def __init__(self, search: MetadataSearch, row: TrackFileRow) -> None:
        self.key = row.key
        self.at_end = False
        ends_ns = row.end_ns if row.state is not FileState.OPEN else _MOST_NS
        self.bound_ns = min(ends_ns, search.start_ns) if search.backward else max(row.start_ns, search.start_ns)
        self._search = search
        self._row = row
        self._refs: list[FragmentRef] | None = None
        """What has not been read, the next one last; None before the first look."""
        self._times: list[UtcNs] = []
        """Matches in hand, the next one last."""

    def match(self) -> UtcNs | None:
        if not self._times or self._times[-1] != self.bound_ns:
            return None
        found = self._times.pop()
        self._look_ahead()
        return found

    def work(self) -> Sequence[_Source]:
        if self._refs is None:
            self._refs = self._search.fragments(self._row)[::-1]
        elif self._refs and not self._times:
            self._times = self._search.matches(self.key, self._refs.pop())[::-1]
        self._look_ahead()
        return ()

    def _look_ahead(self) -> None:
        if self._times:
            self.bound_ns = self._times[-1]
        elif self._refs:
            ref = self._refs[-1]
            nearest_ns = ref.end_ns if self._search.backward else ref.start_ns
            closer = min if self._search.backward else max
            self.bound_ns = closer(self.bound_ns, nearest_ns)
        else:
            self.at_end = True


def required_words(expression: xpath.Expression) -> frozenset[str]:
    """Words that every document has for which the expression is true (see nvr.media.onvif_metadata)."""
    match expression:
        case xpath.Path(steps):
            return frozenset[str]().union(*map(_words_of_step, steps))
        case xpath.Comparison(path, operator, literal):
            words = required_words(path)
            last = path.steps[-1] if path.steps else None
            typed = last is not None and not last.attribute and last.name in ("Type", "ClassType")
            if typed and operator == "=" and isinstance(literal, str) and _is_plain(literal):
                assert last is not None
                words |= {f"{last.name}={literal}"}
            return words
        case xpath.Contains(path, text):
            return required_words(path) if text else frozenset()
        case xpath.And(terms):
            return frozenset[str]().union(*map(required_words, terms))
        case xpath.Or(terms):
            return frozenset[str].intersection(*map(required_words, terms))
        case xpath.Not():
            return frozenset()


def _words_of_step(step: xpath.Step) -> frozenset[str]:
    own = f"@{step.name}" if step.attribute else step.name
    words = frozenset[str]().union(*map(required_words, step.predicates))
    return words if step.name in ("*", ".") else words | {own}


def _is_plain(literal: str) -> bool:
    """Whether an element with this value has it as its text, as the words have it: without space at its ends, short,
    and not an instant."""
    return literal == literal.strip() and 0 < len(literal) <= 64 and not literal[0].isdigit()
