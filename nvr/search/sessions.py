"""The search service's objects: recording information, and the sessions that find recordings (IEC 62676-2-32 clause 6).

Whoever knows the token of a session may fetch and end. The number of sessions is bounded, in all and for each user, so
that nobody can take the places of the others; those whose keep-alive time has passed make room.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nvr.model import xpath
from nvr.model.errors import BadConfiguration, LimitReached, UnknownToken
from nvr.model.job import JobState, RecordingJob, RecordingJobState, SourceReference
from nvr.model.recording import Recording
from nvr.model.search import RecordingInformation, RecordingSummary, SearchScope, SearchState
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Extent
from nvr.model.tokens import JobToken, RecordingToken, SearchToken, TrackKey, new_search_token
from nvr.search.information import document, information
from nvr.search.session import SLICE_NS, Session

RECORDING_STATES = (RecordingJobState.ACTIVE, RecordingJobState.PARTIALLY_ACTIVE)


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

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.sessions_per_user < 1:
            raise ValueError("sessions and sessions_per_user must be at least 1")
        if self.longest_keep_alive_ns < 10 * NS:
            raise ValueError("longest_keep_alive must be at least 10 s (IEC 62676-2-32 6.7)")


class Recordings(Protocol):
    """What is configured (`nvr.control.recordings`)."""

    def recordings(self) -> Sequence[Recording]: ...

    def recording(self, token: RecordingToken) -> Recording:
        """Raises UnknownToken."""

    def jobs(self) -> Sequence[RecordingJob]: ...

    def job_state(self, token: JobToken) -> JobState:
        """Raises UnknownToken."""

    def has_source(self, source: SourceReference) -> bool:
        """Whether there is such a source, with or without a job that records from it."""


class Footage(Protocol):
    """What has been recorded (`nvr.storage.engine`)."""

    def extent(self, key: TrackKey) -> Extent | None:
        """From memory: never blocks. None without footage."""


def _now_ns() -> UtcNs:
    return time.time_ns()


class SearchSessions:
    """Plain functions but for the result calls, which may wait, and what looks at everything. Errors are Refused or
    FormatError.
    """

    def __init__(
        self,
        recordings: Recordings,
        footage: Footage,
        settings: SearchSettings | None = None,
        *,
        monotonic: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], UtcNs] = _now_ns,
    ) -> None:
        self._recordings = recordings
        self._footage = footage
        self._settings = settings or SearchSettings()
        self._monotonic = monotonic
        self._now = now
        self._sessions: dict[SearchToken, Session[RecordingInformation]] = {}

    def __len__(self) -> int:
        """Sessions that are open."""
        self._drop_expired()
        return len(self._sessions)

    async def summary(self) -> RecordingSummary:
        """First and last recorded instant of all recordings; both are now where there is no data (6.4)."""
        recordings = tuple(self._recordings.recordings())
        extents: list[Extent] = []
        until_ns = self._monotonic() + SLICE_NS
        for recording in recordings:
            for track in recording.tracks:
                extent = self._footage.extent(recording.key(track))
                if extent is not None:
                    extents.append(extent)
            if self._monotonic() >= until_ns:
                await asyncio.sleep(0)
                until_ns = self._monotonic() + SLICE_NS
        now = self._now()
        first = min((extent.earliest for extent in extents), default=now)
        last = max((extent.latest for extent in extents), default=max(now, first))
        return RecordingSummary(first, last, len(recordings))

    def information(self, token: RecordingToken) -> RecordingInformation:
        """Raises UnknownToken."""
        recording = self._recordings.recording(token)
        return self._information(recording, (j for j in self._recordings.jobs() if j.configuration.recording == token))

    def find_recordings(
        self, scope: SearchScope, max_matches: int | None, keep_alive_ns: int, user: str | None = None
    ) -> SearchToken:
        """Opens a session, for which `user` asks. `max_matches` below 1 is no limit, as None is; a keep-alive time that
        is not positive is taken as one second.

        Raises UnknownToken for a recording, BadConfiguration for a source, FormatError for a filter, LimitReached.
        """
        chosen = self._in_scope(scope)
        expression = xpath.parse(scope.filter) if scope.filter is not None and scope.filter.strip() else None
        self._drop_expired()
        if len(self._sessions) >= self._settings.sessions:
            raise LimitReached("Search", self._settings.sessions)
        if sum(session.user == user for session in self._sessions.values()) >= self._settings.sessions_per_user:
            raise LimitReached("Search", self._settings.sessions_per_user, user)
        found = self._matching(chosen, expression, max_matches if max_matches is not None and max_matches > 0 else None)
        keep_alive_ns = min(keep_alive_ns, self._settings.longest_keep_alive_ns) if keep_alive_ns > 0 else NS
        token = new_search_token()
        self._sessions[token] = Session(found, keep_alive_ns, self._monotonic, user)
        return token

    async def recording_results(
        self, token: SearchToken, minimum: int | None, maximum: int | None, wait_ns: int | None
    ) -> tuple[SearchState, list[RecordingInformation]]:
        """The next results (6.8). A negative `maximum` is no limit. Raises UnknownToken when the session is over."""
        session = self._session(token)
        if maximum is not None and maximum < 0:
            maximum = None
        wait_ns = self._settings.longest_wait_ns if wait_ns is None else min(wait_ns, self._settings.longest_wait_ns)
        try:
            return await session.results(minimum, maximum, wait_ns)
        finally:
            if session.ended:
                self._sessions.pop(token, None)

    def end(self, token: SearchToken) -> UtcNs:
        """Ends a session; calls that wait for its results return. Raises UnknownToken.

        A search for recordings does not move along the time line: the end point that the answer owes is now (6.15).
        """
        self._session(token).end()
        del self._sessions[token]
        return self._now()

    def _session(self, token: SearchToken) -> Session[RecordingInformation]:
        self._drop_expired()
        session = self._sessions.get(token)
        if session is None:
            raise UnknownToken("Search", token)
        return session

    def _drop_expired(self) -> None:
        for token in [t for t, session in self._sessions.items() if session.expired]:
            self._sessions.pop(token).end()

    def _in_scope(self, scope: SearchScope) -> list[RecordingToken]:
        """The union of the recordings and of those of the sources; all where neither is named (6.2.4)."""
        for token in scope.recordings:
            self._recordings.recording(token)
        recordings = self._recordings.recordings()
        if not scope.recordings and not scope.sources:
            return [recording.token for recording in recordings]
        chosen = set(scope.recordings)
        feeds: defaultdict[SourceReference, set[RecordingToken]] = defaultdict(set)
        for job in self._recordings.jobs():
            for source in job.configuration.sources:
                if source.source is not None:
                    feeds[source.source].add(job.configuration.recording)
        named: defaultdict[str, set[RecordingToken]] = defaultdict(set)
        for recording in recordings:
            if recording.configuration.source.source_id:
                named[recording.configuration.source.source_id].add(recording.token)
        for reference in scope.sources:
            # A source is what a job records from, or the SourceId that the client gave its recordings.
            of_source = feeds.get(reference, set()) | named.get(reference.token, set())
            if not of_source and not self._recordings.has_source(reference):
                raise BadConfiguration(f"there is no source {reference.token!r}")
            chosen |= of_source
        return [recording.token for recording in recordings if recording.token in chosen]

    def _matching(
        self, chosen: Iterable[RecordingToken], expression: xpath.Expression | None, max_matches: int | None
    ) -> Iterator[RecordingInformation | None]:
        """Looks at each recording when its turn comes, None where it does not match. One that has been deleted since
        does not.
        """
        matches = 0
        jobs: defaultdict[RecordingToken, list[RecordingJob]] = defaultdict(list)
        for job in self._recordings.jobs():
            jobs[job.configuration.recording].append(job)
        for token in chosen:
            try:
                recording = self._recordings.recording(token)
            except UnknownToken:
                yield None
                continue
            found = self._information(recording, jobs[token])
            if expression is not None and not xpath.matches(expression, document(found)):
                yield None
                continue
            yield found
            matches += 1
            if matches == max_matches:
                return

    def _information(self, recording: Recording, jobs: Iterable[RecordingJob]) -> RecordingInformation:
        extents = {}
        for track in recording.tracks:
            extent = self._footage.extent(recording.key(track))
            if extent is not None:
                extents[track.token] = extent
        return information(recording, extents, any(self._records(job.token) for job in jobs))

    def _records(self, job: JobToken) -> bool:
        try:
            return self._recordings.job_state(job).state in RECORDING_STATES
        except UnknownToken:  # deleted since the search began
            return False
