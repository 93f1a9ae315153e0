"""Which receiver feeds which track, kept up to date by what has changed. Pure: no loop, no connections.

Jobs compete only for the tracks of the recording that they name. So a change concerns the recordings that it touches,
and they are settled one by one, in steps of microseconds, however large the configuration is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

from nvr.ingest.arbiter import Feed, arbitrate, lines_of, takes_part
from nvr.ingest.gate import EventGate
from nvr.model.job import RECEIVER_TYPE, RecordingJob
from nvr.model.recording import Recording, TrackType
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey


@dataclass(frozen=True, slots=True)
class Binding:
    """One track that a receiver feeds. `lines` is the whole mapping of the job's source, `line` the place in it: which
    stream a line gets depends on its neighbours, not on who wins which track."""

    key: TrackKey
    track_type: TrackType
    lines: tuple[tuple[str, TrackType], ...]
    line: int
    gate: EventGate | None = None
    """Where the job records while events last."""
    waits: bool = False
    """Whether it waits for one now."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the settling of a recording has changed: receivers that have lost a track, and all that are concerned."""

    losers: Set[ReceiverToken] = frozenset()
    concerned: Set[ReceiverToken] = frozenset()
    outranked: Mapping[TrackKey, tuple[Feed, Binding]] = field(default_factory=dict)
    """Tracks that another receiver feeds now although the job that fed them goes on, with what fed them."""


_NOTHING: Mapping[TrackKey, Binding] = MappingProxyType({})


class Assignment:
    """`recordings` and `jobs` are always the whole desired state; the winners of a recording in `due` are not found
    yet, and those that stand are of the state before."""

    def __init__(self, gate: Callable[[JobToken], EventGate | None] = lambda job: None) -> None:
        self._gate = gate
        self._rivals: dict[RecordingToken, Mapping[JobToken, EventGate]] = {}
        self._kept: Counter[ReceiverToken] = Counter()
        self._kept_for: dict[RecordingToken, Set[ReceiverToken]] = {}
        self.recordings: Mapping[RecordingToken, Recording] = {}
        self.jobs: Mapping[JobToken, RecordingJob] = {}
        self.due: dict[RecordingToken, None] = {}
        """In the order in which they became due."""
        self._jobs_of: dict[RecordingToken, dict[JobToken, RecordingJob]] = {}
        self._won: dict[RecordingToken, dict[TrackKey, Feed]] = {}
        self._bindings: dict[ReceiverToken, dict[TrackKey, Binding]] = {}

    def change(self, recordings: Iterable[Recording], jobs: Iterable[RecordingJob]) -> None:
        """The whole desired state. What differs from the last one becomes due."""
        before, self.recordings = self.recordings, {r.token: r for r in recordings}
        self.due.update(dict.fromkeys(differing(before, self.recordings)))
        earlier, self.jobs = self.jobs, {j.token: j for j in jobs}
        for token in differing(earlier, self.jobs):
            if (old := earlier.get(token)) is not None:
                rest = self._jobs_of[old.configuration.recording]
                del rest[token]
                if not rest:
                    del self._jobs_of[old.configuration.recording]
                self.due[old.configuration.recording] = None
            if (new := self.jobs.get(token)) is not None:
                self._jobs_of.setdefault(new.configuration.recording, {})[token] = new
                self.due[new.configuration.recording] = None

    def settle(self, token: RecordingToken) -> Settled:
        """Finds the winners of a recording; without effect where they are not due."""
        if token not in self.due:
            return Settled()
        del self.due[token]
        recording = self.recordings.get(token)
        jobs = self._jobs_of.get(token, {}).values()
        won = {} if recording is None else arbitrate({token: recording}, jobs, self._waits)
        kept = self._keep(token, [j for j in jobs if takes_part(j)] if recording is not None else [])
        before = self._won.pop(token, {})
        losers: set[ReceiverToken] = set()
        outranked = {}
        for key, feed in before.items():
            now = won.get(key)
            if now is None or now.receiver != feed.receiver:
                losers.add(feed.receiver)
                held = self._bindings[feed.receiver]
                binding = held.pop(key)
                if now is not None and self.competes(feed):
                    outranked[key] = feed, binding
                if not held:
                    del self._bindings[feed.receiver]
        if won:
            self._won[token] = won
        for key, feed in won.items():
            self._bindings.setdefault(feed.receiver, {})[key] = self._binding(feed)
        return Settled(losers, losers | {feed.receiver for feed in won.values()} | kept, outranked)

    def _waits(self, job: JobToken) -> bool:
        gate = self._gate(job)
        return gate is not None and gate.waits

    def _keep(self, recording: RecordingToken, active: Sequence[RecordingJob]) -> Set[ReceiverToken]:
        """Notes between which jobs events decide. Returns the receivers that are kept for it now and were not, or were
        and are not."""
        self._rivals.pop(recording, None)
        gates = {j.token: gate for j in active if (gate := self._gate(j.token)) is not None}
        if not gates or len(active) < 2:
            gates, active = {}, []
        if gates:
            self._rivals[recording] = gates
        was = self._kept_for.pop(recording, frozenset())
        now = frozenset(receiver for job in active for receiver in _receivers(job))
        if now:
            self._kept_for[recording] = now
        self._kept.update(now - was)
        self._kept.subtract(was - now)
        for receiver in was - now:
            if not self._kept[receiver]:
                del self._kept[receiver]
        return was ^ now

    def rivals(self, recording: RecordingToken) -> Mapping[JobToken, EventGate]:
        """The jobs whose events decide which of several active jobs feeds a track, with their gates."""
        return self._rivals.get(recording, {})

    def is_kept(self, receiver: ReceiverToken) -> bool:
        """Whether the receiver stays connected though it may feed nothing now: an event may give it a track at any
        moment, or take it away from one that comes back to it."""
        return receiver in self._kept

    def competes(self, feed: Feed) -> bool:
        """Whether the job of this line still wants to feed its track from its receiver, whoever wins."""
        job = self.jobs.get(feed.job)
        recording = self.recordings.get(feed.key.recording)
        if job is None or recording is None or job.configuration.recording != recording.token or not takes_part(job):
            return False
        return any(
            line.destination == feed.key.track
            for source in job.configuration.sources
            if source.source is not None and source.source.token == feed.receiver
            for line in lines_of(job, source, recording)
        )

    def winner(self, key: TrackKey) -> Feed | None:
        """The line that feeds this track."""
        return self._won.get(key.recording, {}).get(key)

    def winners(self, recording: RecordingToken) -> Iterable[Feed]:
        return self._won.get(recording, {}).values()

    def bindings(self, receiver: ReceiverToken) -> Mapping[TrackKey, Binding]:
        """The tracks that a receiver feeds."""
        return self._bindings.get(receiver, _NOTHING)

    def recording_with(self, receiver: ReceiverToken) -> RecordingToken | None:
        """A recording with a job that names this receiver, active or not."""
        return next((token for token in self._jobs_of if self._names(token, receiver)), None)

    def due_for(self, receiver: ReceiverToken) -> list[RecordingToken]:
        """Recordings whose settling can concern this receiver."""
        if not self.due:
            return []
        held = {key.recording for key in self.bindings(receiver)}
        return [token for token in self.due if token in held or self._names(token, receiver)]

    def _names(self, recording: RecordingToken, receiver: ReceiverToken) -> bool:
        return any(
            source.source is not None and (source.source.type, source.source.token) == (RECEIVER_TYPE, receiver)
            for job in self._jobs_of.get(recording, {}).values()
            for source in job.configuration.sources
        )

    def _binding(self, feed: Feed) -> Binding:
        job = self.jobs[feed.job]
        recording = self.recordings[job.configuration.recording]
        lines = []
        for line in lines_of(job, job.configuration.sources[feed.source], recording):
            track = recording.track(line.destination)
            track_type = track.configuration.track_type if track is not None else TrackType.EXTENDED
            lines.append((line.source_tag, track_type))
        return Binding(feed.key, feed.track_type, tuple(lines), feed.line, self._gate(feed.job), self._waits(feed.job))


def _receivers(job: RecordingJob) -> Iterable[ReceiverToken]:
    references = (source.source for source in job.configuration.sources)
    return (ReceiverToken(r.token) for r in references if r is not None and r.type == RECEIVER_TYPE)


class _Configured(Protocol):
    def __eq__(self, other: object, /) -> bool: ...


K = TypeVar("K", bound=str)
V = TypeVar("V", bound=_Configured)


def differing(before: Mapping[K, V], after: Mapping[K, V]) -> list[K]:
    """Names of objects that are new, gone or another. Objects are immutable: the same one has not changed."""
    gone = [token for token in before if token not in after]
    found = before.get
    return gone + [t for t, now in after.items() if (known := found(t)) is not now and known != now]
