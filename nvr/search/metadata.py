"""FindMetadata: the filter on every document of the metadata tracks (6.13), read from the footage itself.

The index of camera events knows the words of each file: names of elements and attributes, and classes of objects. A
file without a word that every match must have is passed over unread; all others are read, a fragment at a time.

A forward search finds what is recorded while it runs: a track at its end is looked at once more when the search has
come to what may have been added since.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator

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
from nvr.search.documents import LAST_NS, Files, FilesOfTrack, Source
from nvr.search.edge import LiveEdge
from nvr.search.scope import Footage as Recorded
from nvr.search.shares import Share
from nvr.search.steps import SteppedSearch
from nvr.storage.rows import FileState, FragmentRef, TrackFileRow

log = logging.getLogger(__name__)

MAX_VISITS = 1_000_000
"""Elements that a filter may come upon in one document, which takes some tenths of a second: crowds make documents of
ten thousand elements."""


class MetadataSearch(SteppedSearch[FoundMetadata]):
    """A document that is no XML matches nothing. A track gives one result for one time."""

    reads_footage = True

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
        edge: LiveEdge,
    ) -> None:
        self._wanted = wanted
        self._words = required_words(wanted)
        self._recorded = recorded
        self._files = files
        self._archive = archive
        self._sources: list[tuple[int, int, Source]] = []
        """A heap: the bound, turned so that the next one is the least, and a number that tells equal ones apart."""
        self._numbers = 0
        self._known: set[TrackKey] = set()
        self._keys: list[TrackKey] = []
        self._last: dict[TrackKey, UtcNs] = {}
        self._passed_ns: UtcNs | None = None
        """The time of the last result."""
        self.backward = interval.backward
        super().__init__(chosen, share, interval, now, edge, looks_at_growth=True)

    @property
    def held(self) -> int:
        return super().held + sum(source.held for _, _, source in self._sources)

    def let_go(self) -> None:
        """Every track is taken up again where the search stands; what has been found there is remembered."""
        super().let_go()
        self._sources = []
        self._known = set()
        self._keys = []

    def _look_around(self) -> None:
        recordings = self._chosen.coverages.items()
        keys = (TrackKey(token, track) for token, tracks in recordings for track, _ in tracks)
        self._keys = [key for key in keys if self._is_metadata(key)]

    def _begin_step(self) -> None:
        for key in self._keys:
            if key not in self._known:  # also a track whose first data come while the search runs
                self._known.add(key)
                self._push(FilesOfTrack(self, key, self._reached_ns))

    def _is_metadata(self, key: TrackKey) -> bool:
        configuration = self._recorded.configuration(key)
        return configuration is not None and configuration.track_type is TrackType.METADATA

    def _push(self, source: Source) -> None:
        self._numbers += 1
        bound = source.bound_ns
        heapq.heappush(self._sources, (-bound if self.backward else bound, self._numbers, source))

    def _all(self) -> Iterator[FoundMetadata | None]:
        while True:
            source = self._sources[0][2] if self._sources else None
            if source is None or (not self.backward and source.bound_ns > self._latest_ns):
                if not self._stands_at(None):
                    return
                yield None
                continue
            if self._stands_at(source.bound_ns):
                yield None
                continue
            heapq.heappop(self._sources)
            self._reached_ns = self._inside(source.bound_ns)
            match = source.match()
            if match is not None:
                yield self._found(source.key, match)
            else:
                self._pace.keep()
                for more in source.work():
                    self._push(more)
                yield None
            if not source.at_end:
                self._push(source)
            elif source.may_grow and not self.backward:
                self._put_off(source)

    def _put_off(self, source: Source) -> None:
        """It is looked at again when the search has come to what may be added to it from now on; now, where it has
        looked before the search came so far."""
        if source.looked_ns == self._whole_ns == LAST_NS:
            return
        if source.looked_ns == self._whole_ns:
            source.bound_ns = max(source.bound_ns, self._whole_ns + 1)
        self._push(source)

    def _inside(self, at_ns: UtcNs) -> UtcNs:
        return max(self._interval.earliest_ns, min(at_ns, self._interval.latest_ns))

    def _found(self, key: TrackKey, time_ns: UtcNs) -> FoundMetadata | None:
        gone = self._coverage(key).stretch_at(time_ns) is None
        if gone or self._last.get(key) == time_ns or self._has_passed(time_ns):
            return None
        self._last[key] = self._passed_ns = time_ns
        return FoundMetadata(key.recording, key.track, time_ns)

    def _has_passed(self, time_ns: UtcNs) -> bool:
        """Results come in the order of time (6.13): what has come too late for that is not gone back for."""
        passed_ns = self._passed_ns
        return passed_ns is not None and (time_ns > passed_ns if self.backward else time_ns < passed_ns)

    # For the sources

    @property
    def whole_ns(self) -> UtcNs:
        return self._whole_ns

    def rows(
        self, key: TrackKey, from_ns: UtcNs, after: TrackFileRow | None, limit: int
    ) -> tuple[list[TrackFileRow], list[TrackFileRow]]:
        low, high = self._interval.earliest_ns, min(self._latest_ns, LAST_NS - 1)
        place = None if after is None else (after.start_ns, after.file_id)
        if self.backward:
            # The bound is above all names: a file that starts at the last instant belongs to the interval.
            page = self._files.files_before(key, place or (min(from_ns, LAST_NS), "~"), limit=limit)
        else:
            page = self._files.files(key, max(low, from_ns), high + 1, after=place, limit=limit)
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
        low, high = self._interval.earliest_ns, self._latest_ns
        found = [r for r in self._recorded.footage(row.key).of_file(row) if r.start_ns <= high and r.end_ns >= low]
        return found[::-1] if self.backward else found

    def matches(self, key: TrackKey, ref: FragmentRef) -> list[UtcNs]:
        try:
            samples = self._recorded.footage(key).read(ref)
        except StorageError as e:
            log.error("a search passes over metadata of %s: %s", key, e)
            return []
        found = [s.utc_ns for s in samples if self._interval.holds(s.utc_ns) and self._matches_document(s.data)]
        return sorted(found, reverse=self.backward)

    def _matches_document(self, data: bytes) -> bool:
        self._pace.keep()
        try:
            document = onvif_metadata.node_of(onvif_metadata.root_of(data))
        except FormatError:
            return False  # the indexer has counted and told it
        return xpath.matches(self._wanted, document, MAX_VISITS)


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
