"""The search service's objects: recording information, and the sessions that find recordings, events, positions and
metadata (IEC 62676-2-32 clause 6).

A session belongs to the user who has opened it: to everybody else its token is none. The number of sessions is bounded,
in all and for each user, so that nobody can take the places of the others; those whose keep-alive time has passed are
forgotten within a second, with what they hold.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nvr.model import xpath
from nvr.model.errors import LimitReached, UnknownToken
from nvr.model.ptz import PtzFilter
from nvr.model.recorded import CameraEvent
from nvr.model.recording import Recording
from nvr.model.search import (
    EventFilter,
    FoundEvent,
    FoundMetadata,
    FoundPosition,
    MediaAttributes,
    RecordingInformation,
    RecordingSummary,
    SearchInterval,
    SearchLimits,
    SearchScope,
    SearchState,
    SearchWish,
)
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Extent
from nvr.model.tokens import RecordingToken, SearchToken, new_search_token
from nvr.search.archive import Archive, NoArchive
from nvr.search.attributes import media_attributes
from nvr.search.chosen import ChosenRecordings, Coverages
from nvr.search.documents import Files, NoFiles
from nvr.search.edge import LiveEdge
from nvr.search.events import EventSearch
from nvr.search.information import SourceOf, configured_source
from nvr.search.metadata import MetadataSearch
from nvr.search.positions import PositionSearch
from nvr.search.scope import Catalogue, Footage, Recordings, scope_filter
from nvr.search.session import Looks, Search, Session
from nvr.search.shares import Shares

log = logging.getLogger(__name__)

_SHORTEST_ALARM_S = 0.5


class Kind(StrEnum):
    """What a session finds: each is read with the result operation of its own kind (6.1)."""

    RECORDINGS = "recordings"
    EVENTS = "events"
    POSITIONS = "positions"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Durations in nanoseconds."""

    sessions: int = 256
    """How many may be open at once."""
    sessions_per_user: int = 64
    """How many of them one user may have opened."""
    longest_keep_alive_ns: int = 600 * NS
    """A longer keep-alive time is shortened to this; at least ten seconds are honoured (6.7)."""
    longest_wait_ns: int = 60 * NS
    """A longer waiting time of a result call is shortened to this (6.8)."""
    results_per_answer: int = 2000
    """What one answer holds at most, also where the client asks for more or names no limit."""

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.sessions_per_user < 1 or self.results_per_answer < 1:
            raise ValueError("sessions, sessions_per_user and results_per_answer must be at least 1")
        if self.longest_keep_alive_ns < 10 * NS:
            raise ValueError("longest_keep_alive must be at least 10 s (IEC 62676-2-32 6.7)")


def _now_ns() -> UtcNs:
    return time.time_ns()


def _length(found: object) -> int:
    """Of the message of a camera, in characters; all other results are short."""
    return found.event.message.length if isinstance(found, FoundEvent) and isinstance(found.event, CameraEvent) else 0


class SearchSessions:
    """Belongs to the event loop. Errors are Refused or FormatError."""

    def __init__(
        self,
        recordings: Recordings,
        footage: Footage,
        settings: SearchSettings | None = None,
        *,
        archive: Archive | None = None,
        files: Files | None = None,
        source_of: SourceOf = configured_source,
        edge: LiveEdge | None = None,
        monotonic: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], UtcNs] = _now_ns,
    ) -> None:
        self._catalogue = Catalogue(recordings, footage, source_of)
        self._coverages = Coverages(footage.timeline)
        self._archive = archive or NoArchive()
        self._edge = edge or LiveEdge()
        self._files = files or NoFiles()
        self._settings = settings or SearchSettings()
        self._monotonic = monotonic
        self._now = now
        self._shares = Shares(monotonic)
        self._sessions: dict[SearchToken, tuple[Kind, Session[Any]]] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Sessions that are open."""
        self._drop_expired()
        return len(self._sessions)

    @property
    def held(self) -> int:
        """Rows that all of them together hold in hand; those of a search that works just now are not counted."""
        return self._shares.in_hand.total

    async def stop(self) -> None:
        """Ends all sessions; calls that wait for results return. Returns when nothing is read any more, but for what
        does not come back."""
        for _, session in self._sessions.values():
            session.end()
        self._sessions.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        await self._shares.stop()

    def end_of(self, users: Collection[str]) -> None:
        """Ends the sessions of these users: the account is gone, or another than when they were opened."""
        for token in [token for token, (_, session) in self._sessions.items() if session.user in users]:
            _, session = self._sessions.pop(token)
            log.info("a search of %s has ended with a change of the account", session.user)
            session.end()

    async def summary(self, user: str | None = None) -> RecordingSummary:
        """First and last recorded instant of all recordings; both are now where there is no data (6.4)."""
        recordings = tuple(self._catalogue.recordings.recordings())
        found = await self._shares.of(user).all_of(self._extents(recordings))
        extents = [extent for extent in found if extent is not None]
        now = self._now()
        first = min((extent.earliest for extent in extents), default=now)
        last = max((extent.latest for extent in extents), default=max(now, first))
        return RecordingSummary(first, last, len(recordings))

    def _extents(self, recordings: Sequence[Recording]) -> Iterator[Extent | None]:
        for recording in recordings:
            for track in recording.tracks:
                yield self._catalogue.footage.extent(recording.key(track))

    def information(self, token: RecordingToken) -> RecordingInformation:
        """Raises UnknownToken."""
        return self._catalogue.information(token)

    async def media_attributes(
        self, tokens: Sequence[RecordingToken], at_ns: UtcNs, user: str | None = None
    ) -> list[MediaAttributes]:
        """What is recorded at an instant, of all recordings where no token is given (6.6). Raises UnknownToken."""
        return await media_attributes(tokens, at_ns, self._catalogue, self._archive, self._shares.of(user))

    # Opening a session. All raise UnknownToken for a recording, BadConfiguration for a source, BadFilter, LimitReached.

    def find_recordings(self, scope: SearchScope, limits: SearchLimits) -> SearchToken:
        """A search for recordings (6.7)."""
        chosen, expression = self._catalogue.in_scope(scope), scope_filter(scope)
        # It does not move along the time line: the end point that EndSearch owes is now.
        search = Looks(self._catalogue.matching(chosen, expression), self._shares.of(limits.user), self._now)
        return self._open(Kind.RECORDINGS, search, limits)

    async def find_events(
        self, interval: SearchInterval, scope: SearchScope, wanted: EventFilter, start_state: bool, limits: SearchLimits
    ) -> SearchToken:
        """A search for events (6.9), which begins at once."""
        search = EventSearch(
            self._chosen(scope, limits.user),
            self._shares.of(limits.user),
            interval,
            wanted,
            self._archive,
            self._now,
            LiveEdge(self._edge.reach) if wanted.asks_for_history_alone else self._edge,
            start_state=start_state,
        )
        return self._open(Kind.EVENTS, search, limits, begin=True)

    async def find_positions(
        self, interval: SearchInterval, scope: SearchScope, wanted: PtzFilter, limits: SearchLimits
    ) -> SearchToken:
        """A search for PTZ positions (6.11), which begins at once."""
        search = PositionSearch(
            self._chosen(scope, limits.user),
            self._shares.of(limits.user),
            interval,
            wanted,
            self._archive,
            self._now,
            self._edge,
        )
        return self._open(Kind.POSITIONS, search, limits, begin=True)

    async def find_metadata(
        self, interval: SearchInterval, scope: SearchScope, wanted: xpath.Expression, limits: SearchLimits
    ) -> SearchToken:
        """A search for metadata (6.13), which begins at once."""
        search = MetadataSearch(
            self._chosen(scope, limits.user),
            self._shares.of(limits.user),
            interval,
            wanted,
            self._catalogue.footage,
            self._files,
            self._archive,
            self._now,
            LiveEdge(coming=self._edge.coming),
        )
        return self._open(Kind.METADATA, search, limits, begin=True)

    def _chosen(self, scope: SearchScope, user: str | None) -> ChosenRecordings:
        tokens, expression = self._catalogue.in_scope(scope), scope_filter(scope)
        self._coverages.keep(tuple(self._catalogue.recordings.recordings()))
        return ChosenRecordings(tokens, expression, self._catalogue, self._coverages, self._shares.of(user))

    def _open(self, kind: Kind, search: Search[Any], limits: SearchLimits, *, begin: bool = False) -> SearchToken:
        settings, user = self._settings, limits.user
        if len(self._sessions) >= settings.sessions:
            self._drop_expired()
        if len(self._sessions) >= settings.sessions:
            raise LimitReached("Search", settings.sessions)
        if self._number_of(user) >= settings.sessions_per_user:
            self._drop_expired()
        if self._number_of(user) >= settings.sessions_per_user:
            raise LimitReached("Search", settings.sessions_per_user, user)
        keep_alive_ns = min(limits.keep_alive_ns, settings.longest_keep_alive_ns) if limits.keep_alive_ns > 0 else NS
        session = Session(
            search,
            keep_alive_ns,
            self._monotonic,
            user,
            max_matches=limits.max_matches if limits.max_matches is not None and limits.max_matches > 0 else None,
            largest=settings.results_per_answer,
            weigh=_length,
        )
        token = new_search_token()
        self._sessions[token] = kind, session
        if begin:
            session.begin()
        self._set_alarm()
        return token

    def _number_of(self, user: str | None) -> int:
        return sum(session.user == user for _, session in self._sessions.values())

    # What a session has found. All raise UnknownToken when it is over, of another kind or of another user.

    async def recording_results(
        self, token: SearchToken, wish: SearchWish
    ) -> tuple[SearchState, list[RecordingInformation]]:
        """The next results (6.8)."""
        return await self._results(Kind.RECORDINGS, token, wish)

    async def event_results(self, token: SearchToken, wish: SearchWish) -> tuple[SearchState, list[FoundEvent]]:
        """The next results (6.10)."""
        return await self._results(Kind.EVENTS, token, wish)

    async def position_results(self, token: SearchToken, wish: SearchWish) -> tuple[SearchState, list[FoundPosition]]:
        """The next results (6.12)."""
        return await self._results(Kind.POSITIONS, token, wish)

    async def metadata_results(self, token: SearchToken, wish: SearchWish) -> tuple[SearchState, list[FoundMetadata]]:
        """The next results (6.14)."""
        return await self._results(Kind.METADATA, token, wish)

    async def _results(self, kind: Kind, token: SearchToken, wish: SearchWish) -> tuple[SearchState, list[Any]]:
        found, session = self._session(token, wish.user)
        if found is not kind:
            raise UnknownToken("Search", token)
        maximum = wish.maximum if wish.maximum is not None and wish.maximum >= 0 else None
        longest_ns = self._settings.longest_wait_ns
        wait_ns = longest_ns if wish.wait_ns is None else min(wish.wait_ns, longest_ns)
        try:
            return await session.results(wish.minimum, maximum, wait_ns)
        finally:
            if session.ended:
                self._sessions.pop(token, None)

    def state(self, token: SearchToken, user: str | None = None) -> SearchState:
        """SEARCHING for every session that is not over: Completed is only told with the last results (6.3.4)."""
        self._session(token, user)[1].touch()
        return SearchState.SEARCHING

    def end(self, token: SearchToken, user: str | None = None) -> UtcNs:
        """Ends a session; calls that wait for its results return. The point in time that it has reached (6.15)."""
        _, session = self._session(token, user)
        session.end()
        del self._sessions[token]
        return session.endpoint

    def _session(self, token: SearchToken, user: str | None) -> tuple[Kind, Session[Any]]:
        found = self._sessions.get(token)
        if found is None or found[1].user != user or found[1].expired:
            raise UnknownToken("Search", token)
        return found

    def _drop_expired(self) -> None:
        for token in [t for t, (_, session) in self._sessions.items() if session.expired]:
            self._sessions.pop(token)[1].end()

    def _set_alarm(self) -> None:
        """What nobody asks for any more is forgotten without a next request that finds it."""
        if not self._sessions:
            return
        loop = asyncio.get_running_loop()
        soonest_ns = min(session.expires_ns for _, session in self._sessions.values())
        at_s = loop.time() + max((soonest_ns - self._monotonic()) / NS, _SHORTEST_ALARM_S)
        if self._alarm is not None:
            if self._alarm.when() <= at_s:
                return
            self._alarm.cancel()  # it is set for others, which live longer than a new one
        self._alarm = loop.call_at(at_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._drop_expired()
        self._set_alarm()
