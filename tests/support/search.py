"""A recorder as search sees it, and an archive of camera events in memory, with clocks that only tests move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from nvr.model import topics
from nvr.model.errors import UnknownToken
from nvr.model.event import TOPIC_NAMESPACE, PropertyOperation
from nvr.model.job import JobState, RecordingJob, SourceReference
from nvr.model.ptz import PtzFilter, PtzVector
from nvr.model.recorded import RecordedItem, RecordedMessage
from nvr.model.recording import Recording
from nvr.model.search import (
    EventFilter,
    FoundEvent,
    FoundPosition,
    SearchInterval,
    SearchLimits,
    SearchScope,
    SearchState,
    SearchWish,
)
from nvr.model.time import NS
from nvr.model.timeline import Extent, GapReason, Run, Timeline
from nvr.model.tokens import JobToken, RecordingToken, SearchToken, TrackKey, TrackToken
from nvr.search.sessions import SearchSessions, SearchSettings
from nvr.search.steps import SteppedSearch
from nvr.storage.event_rows import EventRow, Place, PositionRow, Stream
from nvr.storage.footage import Footage

T = TypeVar("T")

NOW = 1_700_000_000 * NS
MOTION: topics.Topic = ((TOPIC_NAMESPACE, "VideoSource"), ("", "MotionAlarm"))
VENDOR: topics.Topic = ((TOPIC_NAMESPACE, "VideoSource"), ("http://vendor.example/topics", "LineCrossed"))


def a_message(
    value: str = "true",
    topic: topics.Topic = MOTION,
    operation: PropertyOperation | None = PropertyOperation.CHANGED,
    source: str = "V1",
) -> RecordedMessage:
    return RecordedMessage(topic, operation, (RecordedItem("Source", source),), data=(RecordedItem("State", value),))


class ArchiveInMemory:
    """By the letter of `nvr.search.archive.Archive`."""

    def __init__(self) -> None:
        self.rows: list[EventRow] = []
        self.messages: list[RecordedMessage] = []
        self._numbers: dict[RecordedMessage, int] = {}
        self.fetched = 0
        """Rows of events that have been given out."""
        self._streams: list[Stream] = []
        self.tracks: dict[int, TrackKey] = {}
        self.places: list[PositionRow] = []

    def add(self, key: TrackKey, time_ns: int, message: RecordedMessage, file: int = 0, place: int = 0) -> EventRow:
        known = [s for s in self._streams if (s.key, s.topic) == (key, message.topic)]
        if not known:
            known = [Stream(len(self._streams), key, message.topic, message.operation is not None)]
            self._streams += known
        if message not in self._numbers:
            self._numbers[message] = len(self.messages)
            self.messages.append(message)
        row = EventRow(time_ns, file, place, known[0].id, self._numbers[message], time_ns)
        self.rows.append(row)
        return row

    def streams(self) -> Sequence[Stream]:
        return self._streams

    def events(
        self, numbers: Sequence[int], interval: SearchInterval, after: Place | None, each: int, by_message: bool = False
    ) -> list[EventRow]:
        found = []
        for number in numbers:
            rows = [r for r in self.rows if (r.message if by_message else r.stream) == number]
            rows = [r for r in rows if interval.holds(r.time_ns)]
            if after is not None:
                rows = [r for r in rows if (r.where < after if interval.backward else r.where > after)]
            found += sorted(rows, reverse=interval.backward)[:each]
        self.fetched += len(found)
        return sorted(found, reverse=interval.backward)

    def messages_with(self, name: str, value: str, most: int) -> list[int] | None:
        found = []
        for number, message in enumerate(self.messages):
            items = [item for _, group in message.groups for item in group]
            if any((item.name, item.value) == (name, value) for item in items):
                found.append(number)
        return found if len(found) <= most else None

    def last_events(self, numbers: Sequence[int], at_ns: int) -> list[EventRow]:
        found = []
        for number in numbers:
            rows = sorted(r for r in self.rows if r.stream == number and r.time_ns <= at_ns)
            found += rows[-1:]
        return found

    def add_position(self, key: TrackKey, time_ns: int, position: PtzVector, file: int = 0) -> None:
        number = next((n for n, k in self.tracks.items() if k == key), len(self.tracks))
        self.tracks[number] = key
        self.places.append(PositionRow(time_ns, file, number, position))

    def position_tracks(self) -> dict[int, TrackKey]:
        return self.tracks

    def positions(
        self, tracks: Sequence[int], interval: SearchInterval, after: Place | None, each: int
    ) -> list[PositionRow]:
        found: list[PositionRow] = []
        for track in tracks:
            rows = [r for r in self.places if r.track == track and interval.holds(r.time_ns)]
            if after is not None:
                rows = [r for r in rows if (r.where < after if interval.backward else r.where > after)]
            found += sorted(rows, key=lambda r: r.where, reverse=interval.backward)[:each]
        return sorted(found, key=lambda r: r.where, reverse=interval.backward)

    def words(self, file_ids: Sequence[str], *, whole: bool = True) -> dict[str, frozenset[str]]:
        return {}

    def message(self, number: int) -> RecordedMessage | None:
        return self.messages[number]


class Searched:
    """Recordings, runs of their tracks and events of their cameras, as a test sets them, behind the search sessions."""

    def __init__(self, *recordings: Recording, settings: SearchSettings | None = None) -> None:
        self.configured = {r.token: r for r in recordings}
        self.jobs_configured: list[RecordingJob] = []
        self.timelines: dict[TrackKey, Timeline] = {}
        self.archive = ArchiveInMemory()
        self.clock_ns = 0
        self.forgetful = False
        """Whether searches let go of what they hold between two pages."""
        self.searches = SearchSessions(
            self, self, settings, archive=self.archive, monotonic=lambda: self.clock_ns, now=lambda: NOW
        )

    def recordings(self) -> list[Recording]:
        return list(self.configured.values())

    def recording(self, token: RecordingToken) -> Recording:
        if token not in self.configured:
            raise UnknownToken("Recording", token)
        return self.configured[token]

    def jobs(self) -> list[RecordingJob]:
        return self.jobs_configured

    def job_state(self, token: JobToken) -> JobState:
        raise UnknownToken("RecordingJob", token)

    def has_source(self, source: SourceReference) -> bool:
        return False

    def extent(self, key: TrackKey) -> Extent | None:
        return self.timeline(key).extent

    def timeline(self, key: TrackKey) -> Timeline:
        return self.timelines.get(key, Timeline())

    def recorded(self, recording: str, track: str, *runs: tuple[int, int], growing: bool = False) -> TrackKey:
        """The runs of a track; the last one is still being recorded where it is `growing`."""
        key = TrackKey(RecordingToken(recording), TrackToken(track))
        last = len(runs) - 1
        self.timelines[key] = Timeline.of(
            Run(f"{key}-{a}-{b}", a, b, None if growing and i == last else GapReason.SOURCE_LOST)
            for i, (a, b) in enumerate(runs)
        )
        return key

    def configuration(self, key: TrackKey) -> None:
        """What a timeline says has no files."""

    def footage(self, key: TrackKey) -> Footage:
        raise AssertionError("what a timeline says has no files")

    async def open(
        self,
        start_ns: int,
        end_ns: int | None = None,
        *,
        scope: SearchScope | None = None,
        wanted: EventFilter | None = None,
        start_state: bool = False,
        max_matches: int | None = None,
        keep_alive_ns: int = 10 * NS,
        user: str | None = None,
    ) -> SearchToken:
        return await self.searches.find_events(
            SearchInterval(start_ns, end_ns),
            scope or SearchScope(),
            wanted or EventFilter(),
            start_state,
            SearchLimits(max_matches, keep_alive_ns, user),
        )

    async def events(
        self, start_ns: int, end_ns: int | None = None, *, page: int | None = None, **how: object
    ) -> list[FoundEvent]:
        """All that a search for events finds, fetched in pages."""
        token = await self.open(start_ns, end_ns, **how)  # type: ignore[arg-type]
        return await fetched(self.searches.event_results, token, page, self.between)

    async def positions(
        self,
        start_ns: int,
        end_ns: int | None,
        wanted: PtzFilter,
        *,
        page: int | None = None,
        max_matches: int | None = None,
    ) -> list[FoundPosition]:
        """All that a search for positions finds, fetched in pages."""
        interval, limits = SearchInterval(start_ns, end_ns), SearchLimits(max_matches, 10 * NS)
        token = await self.searches.find_positions(interval, SearchScope(), wanted, limits)
        return await fetched(self.searches.position_results, token, page, self.between)

    def between(self) -> None:
        in_hand = self.searches._shares.in_hand
        for search in list(in_hand._resting) if self.forgetful else ():
            in_hand.take(search)
            search.let_go()
            assert isinstance(search, SteppedSearch)
            assert search.held == 0


async def fetched(
    results: Callable[[SearchToken, SearchWish], Awaitable[tuple[SearchState, list[T]]]],
    token: SearchToken,
    page: int | None = None,
    between: Callable[[], None] = lambda: None,
) -> list[T]:
    """All results of a session, fetched in pages."""
    found: list[T] = []
    while True:
        between()
        state, some = await results(token, SearchWish(maximum=page, wait_ns=20 * NS))
        assert page is None or len(some) <= page
        found += some
        if state is SearchState.COMPLETED:
            return found
